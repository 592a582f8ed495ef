"""Standard input and output as picture files of ``edgekeeper upscale``.

Both go through a folder of their own for temporary files, so that a picture of any size flows as
from any file, and nothing reaches standard output unless it is complete.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekeeper.cli.upscale_output import OutputLostError, Told
from edgekeeper.errors import InputError, PictureError

STREAM = "-"


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The sources and the output, with files where standard input and output were named.

    Attributes:
        stands_in: the file that standard input was stored in, or None.
        goes_out: the file that is to go to standard output, or None.
    """

    sources: tuple[Path, ...]
    output: str | None
    stands_in: Path | None
    goes_out: Path | None

    def named(self, told: Told) -> Told:
        """The result with "-" for the files that stand for streams."""
        result = told.result
        message = result.message
        if self.stands_in is not None:
            message = message.replace(f"'{self.stands_in}'", "Standard input")
            result = replace(result, path=Path(STREAM))
        if self.goes_out is not None:
            message = message.replace(f"'{self.goes_out}'", "Standard output")
            result = replace(result, target=Path(STREAM))
        return replace(told, result=replace(result, message=message))

    def deliver(self) -> None:
        """Nothing; what was written for standard output goes there.

        Raises:
            OutputLostError: it cannot be written there.
        """
        if self.goes_out is None:
            return
        try:
            with self.goes_out.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer, 2**20)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputLostError(error) from error


@contextmanager
def open_streams(
    sources: Sequence[str], output: str | None, *, ending: str | None
) -> Iterator[Streams]:
    """The sources and the output; standard input is read now, to its end.

    Raises:
        InputError: standard input or output is the terminal.
        PictureError: there is no room for standard input.
    """
    reads, writes = STREAM in sources, output == STREAM
    if reads and sys.stdin.isatty():
        raise InputError("'-' reads a picture from standard input, which is the keyboard here.")
    if writes and sys.stdout.isatty():
        raise InputError("'-o -' writes a picture to standard output, which is the screen here.")
    if not reads and not writes:
        yield Streams(
            sources=tuple(map(Path, sources)), output=output, stands_in=None, goes_out=None
        )
        return
    with tempfile.TemporaryDirectory(prefix="edgekeeper-") as folder:
        given = Path(folder, "input") if reads else None
        made = Path(folder, f"output.{ending}") if writes else None
        if given is not None:
            _store(given)
        yield Streams(
            sources=tuple(map(Path, sources)) if given is None else (given,),
            output=output if made is None else str(made),
            stands_in=given,
            goes_out=made,
        )


def _store(path: Path) -> None:
    """Write what comes from standard input to a file."""
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
    except OSError as error:
        raise PictureError(
            f"Standard input cannot be kept in '{path.parent}': {error.strerror}. "
            "Set TMPDIR to a folder with room."
        ) from error
