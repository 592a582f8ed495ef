"""The run of ``edgekeeper upscale``: one batch from start to summary."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edgekeeper.cli.options import chosen_device
from edgekeeper.cli.upscale_output import OutputLostError, OutputStyle, Reporter
from edgekeeper.errors import ImageError, InputError
from edgekeeper.inference import (
    Networks,
    Progress,
    Request,
    Result,
    Step,
    measure_seams,
    networks_for,
    plan_outputs,
    upscale_files,
)
from edgekeeper.inference.categories import find_maps
from edgekeeper.inference.request import is_video
from edgekeeper.models import SRModel
from edgekeeper.pretrained.exported import SUFFIXES
from edgekeeper.pretrained.zoo import find, is_own, load_network
from edgekeeper.progress import StopSignal

STREAM = "-"


def networks_of(request: Request) -> Networks:
    """Return the networks to choose from, on their device or in their runtime."""
    exported = request.model is not None and Path(str(request.model)).suffix.lower() in SUFFIXES
    runtime = request.runtime
    if exported or runtime is None or runtime == "torch":
        device = "cpu" if exported and request.device == "auto" else chosen_device(request.device)
        return networks_for(replace(request, device=device))
    if request.device not in ("auto", "cpu"):
        raise InputError(f"ONNX Runtime and OpenVINO compute on the CPU, not on {request.device}.")
    from edgekeeper.export import with_runtime

    def load_one(name_or_file: str | Path) -> SRModel:
        path = find(name_or_file)
        return with_runtime(
            path if is_own(path) else load_network(path, factor=request.scale),
            runtime=runtime,
            precision="bfloat16" if request.precision == "bfloat16" else "float32",
            threads=request.threads,
        )

    return networks_for(request, load_one=load_one)


# ---- The run -------------------------------------------------------------------------------------


def run_request(request: Request, *, output_style: OutputStyle, report: bool, seams: bool) -> int:
    """Return the exit status: 0, 1 if an image failed, 130 or 143 after an interrupt."""
    with _streams(request) as streams, _model_is_quiet():
        pairs = plan_outputs(streams.request, factors=networks_for(request).factors)
        reporter = Reporter(output_style, total=len(pairs))
        measures = _Measures(streams.request, report=report, seams=seams)
        signal = StopSignal(message="Stopping after this tile; once more stops at once.")
        with signal, reporter:

            def on_step(step: Step) -> None:
                signal.check()
                reporter.step(step)

            # Closed at once, whatever stops the loop, so that nothing is left half-written.
            results = _results(pairs, streams.request, on_step=on_step)
            with suppress(KeyboardInterrupt), closing(results):
                for result in results:
                    reporter.result(streams.named(measures.add(result)))
                    signal.check()
        if signal.status is not None:
            reporter.stopped(_how_to_go_on(request, done=reporter.counts["done"]))
            return signal.status
        reporter.summary()
        if reporter.counts.total() < len(pairs):
            reporter.stopped(f"No space is left. {_how_to_go_on(request, done=1)}")
        if not reporter.counts["failed"]:
            streams.deliver()
    return 1 if reporter.counts["failed"] or measures.found_seams else 0


def _results(
    pairs: Sequence[tuple[Path, Path]], request: Request, *, on_step: Progress
) -> Generator[Result, None, None]:
    """Yield the results of the videos and then of the images."""
    videos = [pair for pair in pairs if is_video(pair[0])]
    if videos:
        from edgekeeper.video import upscale_videos

        yield from upscale_videos(request, pairs=videos, on_step=on_step)
    images = [pair for pair in pairs if pair not in videos]
    if images:
        yield from upscale_files(request, pairs=images, on_step=on_step)


def _how_to_go_on(request: Request, *, done: int) -> str:
    if request.existing == "replace":
        return "To go on, give the command again with --skip-existing instead of --force."
    if request.on_existing == "fail" and done:
        return "To go on, give the command again with --skip-existing."
    return "To go on, give the same command again."


@contextmanager
def _model_is_quiet() -> Iterator[None]:
    """What SFTGAN logs once, if it is given no map, stands in the notes of the results here."""
    log = logging.getLogger("edgekeeper.models.sftgan")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


class _Measures:
    """What is measured of results: the structure risk, and once whether tiles show."""

    def __init__(self, request: Request, *, report: bool, seams: bool) -> None:
        self._request, self._report, self._seams = request, report, seams
        self.found_seams = False

    def add(self, result: Result) -> Result:
        """Return the result with what was measured of it."""
        if result.status == "failed" and result.reason.endswith("exists already."):
            reason = f"{result.reason[:-1]}; --force replaces it, --skip-existing keeps it."
            return replace(result, reason=reason)
        if result.status == "done" and self._seams:
            result = self._with_seams(result)
        if result.status == "done" and self._report:
            result = self._with_report(result)
        return result

    def _with_seams(self, result: Result) -> Result:
        """Measured on the first image that is large enough."""
        maps, request = None, self._request
        if request.categories is not None:
            of = find_maps(request.categories, images=[result.source], sources=request.sources)
            maps = of(result.source)
        seams = measure_seams(result.source, request, categories=maps)
        if seams is None:
            note = "It is made in one piece: there are no seams to measure."
            return replace(result, notes=(*result.notes, note))
        self._seams, self.found_seams = False, not seams.is_seamless
        return replace(result, seams=seams)

    def _with_report(self, result: Result) -> Result:
        """With the inspection; where that is not possible, with a note that says why."""
        from edgekeeper.evaluation.inspect import inspect_files

        assert result.source_size is not None and result.size is not None
        factor = result.size[0] // result.source_size[0]
        height, width = result.source_size
        if factor < 2 or result.size != (factor * height, factor * width):
            note = "No report: it needs a factor of 2, 3, 4 or another whole number."
            return replace(result, notes=(*result.notes, note))
        overlay = result.target.with_name(f"{result.target.stem}_risk.png")
        overwrite = self._request.overwrite
        try:
            inspection = inspect_files(
                result.source, result.target, overlay_path=overlay, overwrite=overwrite
            )
        except (InputError, ImageError) as error:
            return replace(result, notes=(*result.notes, f"No report: {error}"))
        return replace(result, report=inspection.as_json(), overlay=overlay)


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
        """Return the result with "-" for the files that stand for streams."""
        reason = result.reason
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
    """The request with files for streams; standard input is read now, to its end.

    Raises:
        InputError: standard input or output is the terminal.
        ImageError: there is no room for standard input.
    """
    reads, writes = STREAM in request.sources, request.output == STREAM
    if reads and sys.stdin.isatty():
        raise InputError("'-' reads an image from standard input, which is the keyboard here.")
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
            request=request,
            stands_in=given if reads else None,
            goes_out=made if writes else None,
        )
