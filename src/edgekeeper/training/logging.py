"""The log of a run: JSON lines in a file, curves for TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgekeeper.errors import UnavailableError
from edgekeeper.files import make_folder, write_text


class Scalars(Protocol):
    """What TensorBoard's writer offers of use here."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Record one value of a curve."""

    def close(self) -> None:
        """Flush and close."""


class JsonLines:
    """A log of one JSON object a line, each with its ``step``.

    Opening it for a run that resumes after ``keep_until`` updates drops later lines, so that the
    log of an interrupted run reads like the log of a straight one.
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        make_folder(path.parent)
        kept = [line for line in _lines(path) if _step(line) <= keep_until]
        write_text(path, "".join(line + "\n" for line in kept))

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record; the line is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def _step(line: str) -> float:
    """Return the step of a line; a line cut off by a kill counts as never written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def tensorboard_writer(folder: Path) -> Scalars:
    """Return a TensorBoard writer into ``folder``.

    Raises:
        UnavailableError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UnavailableError(
            "TensorBoard is not installed; run: pip install 'edgekeeper[tensorboard]'"
        ) from error
    writer: Scalars = SummaryWriter(str(folder))
    return writer
