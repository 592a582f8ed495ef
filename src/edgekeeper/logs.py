"""What a run tells: JSON lines in a file, one progress line with rate and ETA, TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from edgekeeper.errors import InputError, UnavailableError


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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The folder '{path.parent}' cannot be made: {error.strerror}. Choose another."
            ) from error
        kept = [line for line in _lines(path) if _step(line) <= keep_until]
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        temporary.replace(path)

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record; the line is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def _step(line: str) -> float:
    """The step of a line; a line cut off by a kill counts as never written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def tensorboard_writer(folder: Path) -> Scalars:
    """A TensorBoard writer into ``folder``.

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


class ProgressLine:
    """One line on the terminal: bar, count, rate, ETA and a short text. Silent in a pipe."""

    def __init__(self, title: str, *, total: int, start: int = 0, unit: str = "steps") -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            disable=not Console(stderr=True).is_terminal,
        )
        self._unit = unit
        self._task: TaskID = self._progress.add_task(
            title, total=total, completed=start, rate="", text=""
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, done: int, *, text: str = "", total: int | None = None) -> None:
        """Show that ``done`` are done, of the total given before or now."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:.1f} {self._unit}/s" if speed else ""
        self._progress.update(self._task, completed=done, rate=rate, text=text, total=total)
