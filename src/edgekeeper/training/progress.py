"""What a long run shows on the terminal, and how it is stopped."""

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Self

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


class ProgressLine:
    """One line on the terminal: bar, count, rate, ETA and a short text. Silent in a pipe.

    A ``total`` of None is not known. A ``transient`` line is gone at the end. With ``piped_every``
    a pipe or a log file gets a line of the count, no more often than after so many seconds.
    """

    def __init__(
        self,
        title: str,
        *,
        total: int | None,
        start: int = 0,
        unit: str = "steps",
        transient: bool = False,
        piped_every: float | None = None,
    ) -> None:
        self._console = Console(stderr=True)
        self.is_shown = self._console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            disable=not self.is_shown,  # a log file gets no bars
            transient=transient,
            # Otherwise what goes to a file or a pipe would land on the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._unit, self._title = unit, title
        self._piped_every, self._last_said = piped_every, time.monotonic()
        self._task: TaskID = self._progress.add_task(
            title, total=total, completed=start, rate="", text=""
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self, done: float, *, text: str = "", total: int | None = None) -> None:
        """Show that ``done`` are done, of the total given before or now."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:.1f} {self._unit}/s" if speed else ""
        self._progress.update(self._task, completed=done, rate=rate, text=text, total=total)
        now = time.monotonic()
        if self.is_shown or self._piped_every is None or now - self._last_said < self._piped_every:
            return
        self._last_said = now
        self.say(f"{self._title}: {done:g} {self._unit}" + (f", {text}" if text else ""))

    def begin(self, title: str, *, done: int, unit: str) -> None:
        """Show something else from now on, of which ``done`` was there before."""
        self._unit = unit
        self._progress.reset(self._task, total=None, completed=done, description=title, rate="")

    def say(self, line: str, *, dim: bool = False) -> None:
        """Print a line above the progress."""
        style = "dim" if dim else None
        self._console.print(line, markup=False, highlight=False, soft_wrap=True, style=style)


class StopSignal:
    """Ctrl-C and a request to terminate, taken note of until the present step is done.

    A second one ends the process at once, but for who is ``patient``.
    """

    def __init__(self, *, message: str = "", patient: bool = False) -> None:
        self._message, self._patient = message, patient
        self._number: int | None = None  # the signal that came
        self._before: dict[int, object] = {}  # the handlers to give back

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    @property
    def status(self) -> int | None:
        """The exit status by which a shell tells what ended a program; None: nothing did."""
        return None if self._number is None else 128 + self._number  # 130 for Ctrl-C

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was a signal."""
        if self._number is not None:
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        if self._patient:
            return
        self._restore()
        if self._message and sys.stderr.isatty():  # sys.stderr may be in the middle of a line
            os.write(2, f"\n{self._message}\n".encode())

    def _restore(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)  # type: ignore[arg-type]


# ---- How long a thing takes ----------------------------------------------------------------------


class Forecast:
    """How long all parts of a thing take, by those that are done; the first does not count."""

    def __init__(self) -> None:
        self._begun: float | None = None

    def seconds(self, done: int, total: int) -> float | None:
        """Return the seconds of all; None before two parts are done and after a tenth."""
        now = time.perf_counter()
        if done == 1:
            self._begun = now
        if done < 2 or self._begun is None or done > max(2, total // 10):
            return None
        return (now - self._begun) / (done - 1) * total


def duration(seconds: float, *, exact: bool = True) -> str:
    """Return seconds as one reads them: 12.3 s, 2:05:00, or about: 12 s, 3 min, 2 h."""
    if not exact:
        unit, length = ("h", 3600) if seconds > 5400 else ("min", 60) if seconds > 90 else ("s", 1)
        return f"{seconds / length:.0f} {unit}"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
