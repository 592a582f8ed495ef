"""The run of ``edgekeeper upscale``: one batch from start to summary, and what it tells.

Results go to stdout; notes, failures and progress to stderr, progress only on a terminal.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import click

from edgekeeper.cli.upscale import STREAM, not_read_line, shortened
from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import shown
from edgekeeper.image import list_others
from edgekeeper.inference import (
    Progress,
    Request,
    Result,
    Seams,
    Step,
    add_seams,
    networks_for,
    plan_outputs,
    upscale_files,
)
from edgekeeper.inference.bulk import MANIFEST, Cluster, upscale_on_cluster
from edgekeeper.inference.request import is_video
from edgekeeper.pretrained.cards import price_line
from edgekeeper.training.progress import Forecast, ProgressLine, StopSignal, duration

OutputStyle = Literal["lines", "json", "quiet"]

_MANY_PIXELS, _MANY_SECONDS = 100_000_000, 60  # of a result, of which it is told beforehand


def run_request(
    request: Request,
    *,
    output_style: OutputStyle,
    report: bool,
    seams: bool,
    cluster: Cluster | None = None,
) -> int:
    """Return the exit status: 0, 1 if an image failed, 130 or 143 after an interrupt."""
    with _streams(request) as streams:
        networks = networks_for(request)
        factors = networks.factors
        pairs = plan_outputs(streams.request, factors=factors)
        sized = request.width or request.height or request.fit
        scale = None if sized else request.scale or max(factors)
        reporter = Reporter(output_style, total=len(pairs), scale=scale)
        seamless = True
        signal = StopSignal(message="Stopping after this tile; once more stops at once.")
        # The workers of a cluster still tell what they finished.
        check = signal.check if cluster is None else lambda: None
        with signal, reporter:
            folders = [Path(source) for source in dict.fromkeys(request.sources)]
            below = [path for place in filter(Path.is_dir, folders) for path in list_others(place)]
            if others := [path for path in below if not is_video(path)]:
                reporter.note(not_read_line(others))
            name = next((n for factor, n in networks.names.items() if factor == scale), None)
            if name and output_style == "lines" and request.used_sharpness:
                reporter.note(price_line(name, request.used_sharpness))

            def on_step(step: Step) -> None:
                signal.check()
                reporter.step(step)

            # Closed at once, whatever stops the loop, so that nothing is left half-written.
            results = _results(
                pairs, streams.request, on_step=on_step, check=signal.check, cluster=cluster
            )
            with suppress(KeyboardInterrupt), closing(results):
                for result in results:
                    if seams and result.status == "done":  # once, on one that is large enough
                        result = add_seams(result, streams.request)
                        seams = result.seams is None
                        seamless = result.seams is None or result.seams.is_seamless
                    if report and result.status == "done":
                        result = _with_report(result, streams.request)
                    reporter.result(streams.named(result))
                    check()
        if signal.status is not None:
            done = reporter.counts["done"]
            reporter.stopped(_how_to_go_on(request, done=done, cluster=cluster))
            return signal.status
        reporter.summary()
        if reporter.counts.total() < len(pairs):
            reporter.stopped(f"No space is left. {_how_to_go_on(request, done=1)}")
        if not reporter.counts["failed"]:
            streams.deliver()
    return 1 if reporter.counts["failed"] or not seamless else 0


def _results(
    pairs: Sequence[tuple[Path, Path]],
    request: Request,
    *,
    on_step: Progress,
    check: Callable[[], None],
    cluster: Cluster | None,
) -> Generator[Result, None, None]:
    if cluster is not None:
        manifest = Path(str(request.output)) / MANIFEST
        yield from upscale_on_cluster(
            pairs, request, manifest=manifest, cluster=cluster, check=check
        )
        return
    videos = [pair for pair in pairs if is_video(pair[0])]
    if videos:
        from edgekeeper.video import upscale_videos

        yield from upscale_videos(request, pairs=videos, on_step=on_step)
    images = [pair for pair in pairs if pair not in videos]
    if images:
        yield from upscale_files(request, pairs=images, on_step=on_step)


def _how_to_go_on(request: Request, *, done: int, cluster: Cluster | None = None) -> str:
    if cluster is not None:
        return "To go on, give the command again with --resume."
    if request.existing == "replace":
        return "To go on, give the command again with --skip-existing instead of --force."
    if request.on_existing == "fail" and done:
        return "To go on, give the command again with --skip-existing."
    return "To go on, give the same command again."


def _with_report(result: Result, request: Request) -> Result:
    """Return the result with its inspection; where that is not possible, with a note on why."""
    from edgekeeper.evaluation.inspect import inspect_files

    assert result.source_size is not None and result.size is not None
    height, width = result.source_size
    factor = result.size[0] // height
    if factor < 2 or result.size != (factor * height, factor * width):
        note = "No report: it needs a factor of 2, 3, 4 or another whole number."
        return replace(result, notes=(*result.notes, note))
    overlay = result.target.with_name(f"{result.target.stem}_risk.png")
    try:
        inspection = inspect_files(
            result.source, result.target, overlay_path=overlay, overwrite=request.overwrite
        )
    except (InputError, ImageError) as error:
        return replace(result, notes=(*result.notes, f"No report: {error}"))
    return replace(result, report=inspection.as_json(), overlay=overlay)


# ---- What is told --------------------------------------------------------------------------------


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

    def __init__(self, output: OutputStyle, *, total: int, scale: float | None = None) -> None:
        self.output, self.total, self.scale = output, total, scale
        self._forecast = Forecast()
        self.counts: Counter[str] = Counter()
        self._reasons: list[str] = []
        self._notes: Counter[str] = Counter()
        self._started = time.perf_counter()
        self._line = ProgressLine("all", total=total, unit="images", transient=True)

    def __enter__(self) -> Self:
        self._line.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._line.__exit__(*error)
        self._line.is_shown = False

    def step(self, step: Step) -> None:
        """Show how far the work is: of the batch, or of the only image or video."""
        name = shortened(step.path.name)
        self._warn(step, name)
        if self.total > 1:
            part = step.done / step.total if step.total else 0
            text = f"{name} {step.done}/{step.total} {step.unit}" if step.total else name
            self._line.update(self.counts.total() + part, text=text)
            return
        if step.done == step.found:
            self._line.begin(name, done=step.found, unit=step.unit)
        self._line.update(step.done, total=step.total or None)

    def _warn(self, step: Step, name: str) -> None:
        """Tell size and time of what is large, as soon as two tiles say how long it takes."""
        seconds = self._forecast.seconds(step.done, step.total)
        if seconds is None or step.size is None or self.output == "json":
            return
        height, width = step.size
        if width * height > _MANY_PIXELS or seconds > _MANY_SECONDS:
            text = f"{name}: {width} × {height}, about {duration(seconds, exact=False)}"
            if (factor := self.scale or 0) > 2:
                text += f"; --scale 2 gives {2 * width / factor:.0f} × {2 * height / factor:.0f}"
            self.note(text)
            self._forecast = Forecast()  # this one has nothing more to say

    def result(self, result: Result) -> None:
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
        self._say(f"{counts} in {duration(time.perf_counter() - self._started)}")
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
        """Print a line, above the progress where both are on the terminal."""
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


def _facts(result: Result) -> Sequence[str]:
    facts = []
    if result.size is not None:
        facts.append(f"{result.size[1]}x{result.size[0]}")
    if result.frames:
        found = f" ({result.found} found)" if result.found else ""
        facts.append(f"{result.frames} frames{found}")
    facts.append(f"{result.seconds:.1f} s")
    if result.codec:
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


def _seams(seams: Seams) -> str:
    where = f"(tile {seams.tile}, overlap {seams.overlap})"
    return f"seams {seams.levels:.3f} of 255 grey levels at most {where}"


# ---- Standard input and output -------------------------------------------------------------------
#
# Both go through a folder of their own for temporary files, so that an image of any size flows as
# from any file, and nothing reaches standard output unless it is complete.


@dataclass(frozen=True, kw_only=True)
class _Streams:
    """The request with files where standard input and output were named, and these files."""

    request: Request
    stands_in: Path | None = None
    goes_out: Path | None = None

    def named(self, result: Result) -> Result:
        """Return the result in the words of the command, with "-" for streams."""
        reason = result.reason
        if result.status == "failed" and reason.endswith("exists already."):
            reason = f"{reason[:-1]}; --force replaces it, --skip-existing keeps it."
            result = replace(result, reason=reason)
        if self.stands_in is not None:
            reason = reason.replace(f"'{self.stands_in}'", "Standard input")
            result = replace(result, source=Path(STREAM), reason=reason)
        if self.goes_out is not None:
            reason = reason.replace(f"'{self.goes_out}'", "Standard output")
            result = replace(result, target=Path(STREAM), reason=reason)
        return result

    def deliver(self) -> None:
        """Send what was written for standard output there; raises OutputLostError."""
        if self.goes_out is None:
            return
        try:
            with self.goes_out.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer, 2**20)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputLostError(error) from error


@contextmanager
def _streams(request: Request) -> Iterator[_Streams]:
    """Yield the request with files for streams; standard input is read now, to its end."""
    reads, writes = STREAM in request.sources, request.output == STREAM
    if reads and sys.stdin.isatty():
        raise InputError("'-' reads an image from standard input, which is the keyboard here.")
    if writes and getattr(sys.stdout, "name", "") == os.devnull:
        raise InputError("'-o -' writes an image to standard output, which is closed here.")
    if writes and sys.stdout.isatty():
        raise InputError("'-o -' writes an image to standard output, which is the screen here.")
    if not reads and not writes:
        yield _Streams(request=request)
        return
    with tempfile.TemporaryDirectory(prefix="edgekeeper-") as folder:
        given, made = Path(folder, "input"), Path(folder, f"output.{request.save.format}")
        if reads:
            try:
                with given.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
            except OSError as error:
                raise ImageError(
                    f"Standard input cannot be kept in '{folder}': {error.strerror}. "
                    "Set TMPDIR to a folder with room."
                ) from error
            request = replace(request, sources=(given,))
        if writes:
            request = replace(request, output=made)
        yield _Streams(
            request=request, stands_in=given if reads else None, goes_out=made if writes else None
        )
