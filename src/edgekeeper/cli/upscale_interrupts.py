"""Ctrl-C while pictures are made: the present tile is finished, then everything is put in order."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Ctrl-C and a request to terminate, taken note of until the present tile is done.

    A second one ends the process at once, as without this.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    @property
    def status(self) -> int | None:
        """The exit status by which a shell tells what ended a program; None: nothing did."""
        return None if self._number is None else 128 + self._number

    def check(self) -> None:
        """Nothing; raise KeyboardInterrupt if there was an interrupt."""
        if self._number is not None:
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        self._restore()
        if sys.stderr.isatty():  # not through sys.stderr, which may be in the middle of a line
            os.write(2, b"\nStopping after this tile; once more stops at once.\n")

    def _restore(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)  # type: ignore[arg-type]
