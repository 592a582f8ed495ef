"""What ``edgekeeper upscale`` tells: a line or a JSON object per image, progress, a summary.

Results go to stdout; notes, failures and progress to stderr, progress only on a terminal.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edgekeeper.errors import ImageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from edgekeeper.evaluation.inspect import Inspection
    from edgekeeper.inference import FileResult, FolderStep, Seams


@dataclass(frozen=True, kw_only=True)
class ReportedResult:
    """A result and what was measured of it afterwards; ``overlay`` is the image of the risk."""

    result: "FileResult"
    inspection: "Inspection | None" = None
    overlay: Path | None = None
    seams: "Seams | None" = None
    notes: tuple[str, ...] = ()


def shown(text: object) -> str:
    """Return a text in one line that any terminal takes: what is not printable is escaped."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


Style = Literal["lines", "json", "quiet"]


class OutputLostError(ImageError):
    """Standard output takes nothing more: its reader has gone, or its disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"Standard output cannot be written: {(error.strerror or '').lower()}.")
        # What is still buffered would fail once more when the program ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Reporter:
    """Tells of one batch: in lines for people, in JSON for programs, or not at all on stdout.

    "quiet" leaves stdout alone, for the image that goes there.

    Attributes:
        counts: how many images were "done", "skipped" and "failed".
    """

    def __init__(self, style: Style, *, total: int) -> None:
        self.style, self.total = style, total
        self.counts: Counter[str] = Counter()
        self._reasons: list[str] = []
        self._notes: Counter[str] = Counter()
        self._started = time.perf_counter()
        self._progress = BatchProgress(total) if sys.stderr.isatty() else None

    @property
    def left(self) -> int:
        """How many images nothing was told of yet."""
        return self.total - self.counts.total()

    def progress(self) -> AbstractContextManager[object]:
        """The display of the progress, while it is entered; nothing when stderr is no terminal."""
        return nullcontext() if self._progress is None else self._progress

    def step(self, step: "FolderStep") -> None:
        """Show how far the work is."""
        if self._progress is not None:
            self._progress.update(step)

    def result(self, reported: ReportedResult) -> None:
        """Tell what became of one image."""
        result = reported.result
        self.counts[result.status] += 1
        if self.style == "json":
            self._say(json.dumps(as_json(reported), allow_nan=False))
            return
        for note in (*result.notes, *reported.notes):
            if not self._notes[note]:
                self.note(f"{result.path.name}: {note}")
            self._notes[note] += 1
        if result.status == "failed":
            self._reasons.append(result.message)
            self._say(f"failed: {result.message}", err=True)
        elif result.status == "skipped":
            self._say(f"skipped: {result.message}")
        elif self.style == "quiet":
            if reported.seams is not None:
                self.note(_seams(reported.seams))
        else:
            self._say("  ".join([str(result.target), *_facts(reported)]))

    def note(self, text: str) -> None:
        """Tell something by the way, dimmed, on stderr."""
        self._say(text, err=True, dim=True)

    def summary(self) -> None:
        """Tell of the whole batch, and again what failed, since that may have scrolled away."""
        if self.style != "lines" or self.total == 1:
            return
        for note, count in self._notes.items():
            if count > 1:
                self.note(f"{count} images: {note}")
        counts = ", ".join(f"{self.counts[name]} {name}" for name in ("done", "skipped", "failed"))
        seconds = time.perf_counter() - self._started
        self._say(f"{counts} in {_duration(seconds)}")
        if self._reasons:
            self._say(f"{len(self._reasons)} of {self.total} failed:", err=True)
            for reason in self._reasons:
                self._say(f"  {reason}", err=True)

    def stopped(self, advice: str) -> None:
        """Tell that the batch was interrupted, what of it is there, and how to go on."""
        self._say(
            f"Stopped after {self.total - self.left} of {self.total} images. {advice}", err=True
        )

    def _say(self, text: str, *, err: bool = False, dim: bool = False) -> None:
        """A line, above the progress where both are on the terminal."""
        line = text[: len(text) - len(text.lstrip())] + shown(text.lstrip())
        if self._progress is not None and (err or sys.stdout.isatty()):
            self._progress.say(line, dim=dim)
            return
        try:
            click.secho(line, err=err, dim=dim or None)
        except OSError as error:
            if err:
                raise
            raise OutputLostError(error) from error


class BatchProgress:
    """On the terminal one line for the present image's tiles and one for the batch, with ETA."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._display: Progress | None = None

    def __enter__(self) -> "BatchProgress":
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._display = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            # Otherwise what goes to a file or a pipe would land on the terminal.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._display.start()
        self._image = self._display.add_task("", total=None, count="", rate="")
        if self._total > 1:
            self._batch = self._display.add_task(
                "all", total=self._total, count=f"0/{self._total} images", rate=""
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            for task in self._display.task_ids:
                self._display.update(task, visible=False)
            self._display.stop()
            self._display = None

    def update(self, step: "FolderStep") -> None:
        """Show how far the image and the batch are."""
        display = self._display
        if display is None:
            return
        if step.tile == 0:
            display.reset(
                self._image, total=None, description=shortened(step.path.name), count="", rate=""
            )
        speed = next(task.speed for task in display.tasks if task.id == self._image)
        display.update(
            self._image,
            completed=step.tile,
            total=step.tiles or None,
            count=f"{step.tile}/{step.tiles} tiles" if step.tiles else "",
            rate=f"{speed:.1f} tiles/s" if speed and step.tiles else "",
        )
        if self._total > 1:
            part = step.tile / step.tiles if step.tiles else 0
            display.update(
                self._batch,
                completed=step.file - 1 + part,
                count=f"{step.file - 1}/{step.files} images",
            )

    def say(self, line: str, *, dim: bool = False) -> None:
        """Print a line above the progress."""
        if self._display is None:
            click.secho(line, err=True, dim=dim or None)
            return
        self._display.console.print(
            line, markup=False, highlight=False, soft_wrap=True, style="dim" if dim else None
        )


def shortened(name: str, *, length: int = 28) -> str:
    """Return a name that takes at most ``length`` characters."""
    name = shown(name)
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def as_json(reported: ReportedResult) -> dict[str, object]:
    """Return an image's result as JSON takes it; sizes are [width, height]."""
    result, seams = reported.result, reported.seams
    return {
        "input": str(result.path),
        "output": str(result.target),
        "status": result.status,
        "message": result.message,
        "input_size": None if result.source_size is None else list(result.source_size[::-1]),
        "output_size": None if result.size is None else list(result.size[::-1]),
        "seconds": round(result.seconds, 4),
        "network_seconds": round(result.network_seconds, 4),
        "precision": result.precision,
        "notes": [*result.notes, *reported.notes],
        "drift": None if result.drift is None else asdict(result.drift),
        "report": None if reported.inspection is None else reported.inspection.as_json(),
        "overlay": None if reported.overlay is None else str(reported.overlay),
        "seams": None if seams is None else {**asdict(seams), "seamless": seams.is_seamless},
    }


def _facts(reported: ReportedResult) -> Sequence[str]:
    """Return what a line says of an image after the name of its file."""
    result = reported.result
    facts = []
    if result.size is not None:
        facts.append(f"{result.size[1]}x{result.size[0]}")
    facts.append(f"{result.seconds:.1f} s")
    if result.drift is not None:
        facts.append(f"colour drift {result.drift.before:.2f} -> {result.drift.after:.2f}")
    if reported.inspection is not None:
        report = reported.inspection
        facts.append(
            f"structure risk {100 * report.risk:.2f} % ({report.verdict}), "
            f"off its input by {report.difference_mean:.2f} grey levels"
        )
    if reported.overlay is not None:
        facts.append(f"overlay {reported.overlay.name}")
    if reported.seams is not None:
        facts.append(_seams(reported.seams))
    return facts


def _seams(seams: "Seams") -> str:
    return (
        f"seams {seams.levels:.3f} of 255 grey levels at most "
        f"(tile {seams.tile}, overlap {seams.overlap})"
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
