"""The run of ``edgekeeper upscale``: one batch from start to summary."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal, Self, cast

from edgekeeper.cli.upscale_names import Naming, Streams, open_streams, plan_pairs, refusal
from edgekeeper.cli.upscale_output import ReportedResult, Reporter, Style
from edgekeeper.errors import ImageError, InputError
from edgekeeper.evaluation.inspect import inspect_files
from edgekeeper.files import is_plain
from edgekeeper.image import Image, SaveOptions, open_image, to_tensor
from edgekeeper.inference import (
    FileResult,
    FolderStep,
    Saving,
    Seams,
    Settings,
    find_maps,
    plan_enlargement,
    upscale_files,
    verify_seams,
)
from edgekeeper.inference.categories import MapOf
from edgekeeper.inference.enlarger import tile_overlap

# --------------------------------------------------------------------------------------------------
# Ctrl-C while images are made: the present tile is finished, then everything is put in order.


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
        """Raise KeyboardInterrupt if there was an interrupt."""
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


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done.

    Attributes:
        sources: files, folders, or "-" for standard input.
        output: a file, a folder, "-" for standard output, or None for beside the sources.
        label: what is put after the names of results beside their sources.
        categories: the category, the map or the folder of maps that was given.
        existing: what becomes of images whose result exists; "by source": they are skipped if
            a folder was given.
        report: whether each result is inspected and its overlay written beside it.
        seams: whether it is measured what the tiles change.
        precision: of the networks where their runtime decides it; None: as each result says.
    """

    sources: tuple[str, ...]
    output: str | None
    label: str
    settings: Settings
    options: SaveOptions
    categories: str | None = None
    overwrite: Literal["refuse", "replace"] = "refuse"
    existing: Literal["skip", "fail", "by source"] = "by source"
    report: Literal["no", "yes"] = "no"
    seams: Literal["no", "yes"] = "no"
    precision: Literal["float32", "bfloat16"] | None = None
    style: Style = "lines"


def run_job(job: Job) -> int:
    """Return the exit status: 0, 1 if an image failed, 130 or 143 after an interrupt.

    Raises:
        InputError: nothing can be begun with these sources and this output.
        ImageError: a folder or a stream cannot be read or written.
    """
    with open_streams(job.sources, job.output, extension=job.options.format) as streams:
        naming = Naming(output=streams.output, label=job.label, form=job.options.format)
        planned = plan_pairs(streams.sources, naming)
        existing = job.existing
        if existing == "by source":
            existing = "skip" if planned.has_folder else "fail"
        saving = Saving(
            options=job.options, overwrite=job.overwrite, existing=existing, folders="make"
        )
        maps = None
        if job.categories is not None:
            images = [path for path, _ in planned.pairs]
            folders = [source for source in streams.sources if source.is_dir()]
            maps = find_maps(job.categories, images=images, folders=folders)
        reporter = Reporter(job.style, total=len(planned.pairs))
        with _model_is_quiet():
            status = _run_pairs(
                planned.pairs, job, maps=maps, saving=saving, reporter=reporter, streams=streams
            )
        if not reporter.left and not reporter.counts["failed"]:
            streams.deliver()
        return status


@contextmanager
def _model_is_quiet() -> Iterator[None]:
    """What SFTGAN logs once, if it is given no map, stands in the notes of the results here."""
    log = logging.getLogger("edgekeeper.models.sftgan")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _run_pairs(
    pairs: Sequence[tuple[Path, Path]],
    job: Job,
    *,
    maps: MapOf | None,
    saving: Saving,
    reporter: Reporter,
    streams: Streams,
) -> int:
    """Return the exit status of the run, all of which is told."""
    measures = _Measures(job, maps=maps)
    refused = {pair: why for pair in pairs if (why := _refusal(*pair, saving=saving))}
    with Interrupts() as interrupts, reporter.progress():

        def on_step(step: FolderStep) -> None:
            interrupts.check()
            reporter.step(step)

        for (path, target), why in refused.items():
            result = FileResult(path=path, target=target, status="failed", message=why, seconds=0)
            reporter.result(streams.named(ReportedResult(result=result)))
        results = upscale_files(
            [pair for pair in pairs if pair not in refused],
            settings=job.settings,
            saving=saving,
            categories=maps,
            on_step=on_step,
        )
        # Closed at once, whatever stops the loop, so that nothing is left half-written.
        with suppress(KeyboardInterrupt), closing(cast(_Results, results)):
            for result in results:
                reporter.result(streams.named(measures.reported(result)))
                interrupts.check()
    if interrupts.status is not None:
        reporter.stopped(_how_to_go_on(saving, left=reporter.left))
        return interrupts.status
    reporter.summary()
    return 1 if reporter.counts["failed"] or measures.found_seams else 0


_Results = Generator[FileResult, None, None]


def _refusal(path: Path, target: Path, *, saving: Saving) -> str | None:
    """Return why an image cannot even be tried, in a sentence, or None."""
    why = refusal(path, target)
    if why is not None or saving.overwrite == "replace" or saving.existing == "skip":
        return why
    itself = os.path.realpath(target) == os.path.realpath(path)  # said better by the engine
    if itself or not target.is_file() or not is_plain(target):
        return None
    return f"'{target}' exists; --force replaces it, --skip-existing keeps it."


def _how_to_go_on(saving: Saving, *, left: int) -> str:
    """Return what to do after an interrupt, in a sentence."""
    if not left:
        return "All images were done."
    if saving.overwrite == "replace":
        return "To go on, give the command again with --skip-existing instead of --force."
    if saving.existing == "fail":
        return "To go on, give the command again with --skip-existing."
    return "To go on, give the same command again."


class _Measures:
    """What is measured of the results of one batch."""

    def __init__(self, job: Job, *, maps: MapOf | None) -> None:
        self._job, self._maps = job, maps
        self._seams_wanted = job.seams == "yes"
        self.found_seams = False

    def reported(self, result: FileResult) -> ReportedResult:
        """Return the result with what was measured of it."""
        if self._job.precision is not None and result.precision is not None:
            result = replace(result, precision=self._job.precision)
        reported = ReportedResult(result=result)
        if result.status != "done":
            return reported
        if self._seams_wanted:
            reported = self._with_seams(reported)
        if self._job.report == "yes":
            reported = _with_report(reported, overwrite=self._job.overwrite)
        return reported

    def _with_seams(self, reported: ReportedResult) -> ReportedResult:
        """Measured once, on the first image that is large enough."""
        path, settings = reported.result.path, self._job.settings
        if self._maps is not None:
            settings = replace(settings, categories=self._maps(path))
        seams = measure_seams(path, settings)
        if seams is None:
            note = "It is made in one piece: there are no seams to measure."
            return replace(reported, notes=(*reported.notes, note))
        self._seams_wanted, self.found_seams = False, not seams.is_seamless
        return replace(reported, seams=seams)


def measure_seams(path: Path, settings: Settings) -> Seams | None:
    """Return what tiles change in the middle of an image; None if no network or no cut is needed.

    Unless a tile was chosen it is small, since then there are more cuts: what they change depends
    on the context that tiles are given, not on their size.
    """
    with open_image(path) as reader:
        header = reader.header
        size = (header.height, header.width)
        plan = plan_enlargement(
            size, enlargement=settings.enlargement, factors=settings.networks.factors
        )
        if not plan.passes:
            return None
        model = settings.networks.load(plan.passes[0])
        overlap = tile_overlap(model, manner=settings.manner)
        tile = max(4 * overlap, 64) if settings.tile == "auto" else settings.tile
        if tile >= max(size):
            tile = 2 * overlap + 8
        if tile >= max(size):
            return None
        (top, below), (left, right) = (_middle(length, 2 * tile) for length in size)
        samples = reader.rows(top, below)[:, left:right, : header.colours]
    part, maps = to_tensor(Image(pixels=samples)), None
    if settings.categories is not None:
        box = slice(top, below), slice(left, right)
        maps = settings.categories.cut(*box, size=size, scale=model.scale)
    return verify_seams(model, part, tile=tile, manner=settings.manner, maps=maps)


def _middle(length: int, wanted: int) -> tuple[int, int]:
    start = max((length - wanted) // 2, 0)
    return start, min(start + wanted, length)


def _with_report(
    reported: ReportedResult, *, overwrite: Literal["refuse", "replace"]
) -> ReportedResult:
    """With the inspection; where that is not possible, with a note that says why."""
    result = reported.result
    assert result.source_size is not None and result.size is not None
    factor = result.size[0] // result.source_size[0]
    if factor < 2 or result.size != (
        result.source_size[0] * factor,
        result.source_size[1] * factor,
    ):
        note = "No report: it needs a factor of 2, 3, 4 or another whole number."
        return replace(reported, notes=(*reported.notes, note))
    overlay = result.target.with_name(f"{result.target.stem}_risk.png")
    try:
        inspection = inspect_files(
            result.path, result.target, overlay_path=overlay, overwrite=overwrite
        )
    except (InputError, ImageError) as error:
        return replace(reported, notes=(*reported.notes, f"No report: {error}"))
    return replace(reported, inspection=inspection, overlay=overlay)
