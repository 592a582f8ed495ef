"""What ``edgekeeper upscale`` tells: a line or a JSON object per image, progress, a summary.

Results go to stdout; notes, failures and progress to stderr, progress only on a terminal.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import click

from edgekeeper.errors import ImageError
from edgekeeper.progress import ProgressLine

if TYPE_CHECKING:
    from edgekeeper.inference import Result, Seams, Step

OutputStyle = Literal["lines", "json", "quiet"]


class OutputLostError(ImageError):
    """Standard output takes nothing more: its reader has gone, or its disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"Standard output cannot be written: {(error.strerror or '').lower()}.")
        # What is still buffered would fail once more when the program ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Reporter:
    """Tells of one batch: in lines for people, in JSON for programs, or not at all on stdout.

    "quiet" leaves stdout alone, for the image that goes there. Entered it shows the progress.

    Attributes:
        counts: how many images were "done", "skipped" and "failed".
    """

    def __init__(self, output: OutputStyle, *, total: int) -> None:
        self.output, self.total = output, total
        self.counts: Counter[str] = Counter()
        self._reasons: list[str] = []
        self._notes: Counter[str] = Counter()
        self._started = time.perf_counter()
        self._line = ProgressLine("all", total=total, unit="images", transient=True)

    def __enter__(self) -> Self:
        self._line.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._line.__exit__(kind, error, trace)
        self._line.is_shown = False

    def step(self, step: "Step") -> None:
        """Show how far the work is: of the batch, or of the only image or video."""
        name = shortened(step.path.name)
        if self.total > 1:
            part = step.done / step.total if step.total else 0
            text = f"{name} {step.done}/{step.total} {step.unit}" if step.total else name
            self._line.update(self.counts.total() + part, text=text)
            return
        if step.done == step.found:
            self._line.begin(name, done=step.found, unit=step.unit)
        self._line.update(step.done, total=step.total or None)

    def result(self, result: "Result") -> None:
        """Tell what became of one image."""
        self.counts[result.status] += 1
        if self.output == "json":
            self._say(json.dumps(result.as_json(), allow_nan=False))
            return
        for note in result.notes:
            if not self._notes[note]:
                self.note(f"{result.source.name}: {note}")
            self._notes[note] += 1
        if result.status == "failed":
            self._reasons.append(result.reason)
            self._say(f"failed: {result.reason}", err=True)
        elif result.status == "skipped":
            self._say(f"skipped: {result.reason}")
        elif self.output == "lines":
            self._say("  ".join([str(result.target), *_facts(result)]))
        elif result.seams is not None:
            self.note(_seams(result.seams))

    def note(self, text: str) -> None:
        """Tell something by the way, dimmed, on stderr."""
        self._say(text, err=True, dim=True)

    def summary(self) -> None:
        """Tell of the whole batch, and again what failed, since that may have scrolled away."""
        if self.output != "lines" or self.total == 1:
            return
        for note, count in self._notes.items():
            if count > 1:
                self.note(f"{count} images: {note}")
        counts = ", ".join(f"{self.counts[name]} {name}" for name in ("done", "skipped", "failed"))
        self._say(f"{counts} in {_duration(time.perf_counter() - self._started)}")
        if self._reasons:
            self._say(f"{len(self._reasons)} of {self.total} failed:", err=True)
            for reason in self._reasons:
                self._say(f"  {reason}", err=True)

    def stopped(self, advice: str) -> None:
        """Tell that the batch was interrupted, what of it is there, and how to go on."""
        done = self.counts.total()
        if done == self.total:
            advice = "All images were done."
        self._say(f"Stopped after {done} of {self.total} images. {advice}", err=True)

    def _say(self, text: str, *, err: bool = False, dim: bool = False) -> None:
        """A line, above the progress where both are on the terminal."""
        line = text[: len(text) - len(text.lstrip())] + shown(text.lstrip())
        if self._line.is_shown and (err or sys.stdout.isatty()):
            self._line.say(line, dim=dim)
            return
        try:
            click.secho(line, err=err, dim=dim or None)
        except OSError as error:
            if err:
                raise
            raise OutputLostError(error) from error


def shown(text: object) -> str:
    """Return a text in one line that any terminal takes: what is not printable is escaped."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def shortened(name: str, *, length: int = 28) -> str:
    """Return a name that takes at most ``length`` characters."""
    name = shown(name)
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def _facts(result: "Result") -> Sequence[str]:
    """Return what a line says of an image or a video after the name of its file."""
    facts = []
    if result.size is not None:
        facts.append(f"{result.size[1]}x{result.size[0]}")
    if result.frames:
        found = f" ({result.found} found)" if result.found else ""
        facts.append(f"{result.frames} frames{found}")
    facts.append(f"{result.seconds:.1f} s")
    if result.frames:
        made = result.frames - result.found
        facts.append(f"{made / result.seconds:.2f} frames/s")
        facts.append(f"{result.codec} {result.pixels}")
    if result.drift is not None:
        facts.append(f"colour drift {result.drift.before:.2f} -> {result.drift.after:.2f}")
    if result.report is not None:
        report = result.report
        facts.append(
            f"structure risk {100 * report['risk']:.2f} % ({report['verdict']}), "
            f"off its input by {report['difference_mean']:.2f} grey levels"
        )
    if result.overlay is not None:
        facts.append(f"overlay {result.overlay.name}")
    if result.seams is not None:
        facts.append(_seams(result.seams))
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
