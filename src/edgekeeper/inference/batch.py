"""Many files made larger one after another, with reading and writing beside the network's work."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import make_folder
from edgekeeper.image import (
    FORMATS,
    Header,
    ImageReader,
    Overwrite,
    Pixels,
    SaveOptions,
    check_target,
    create_image,
    format_to_write,
    open_image,
)
from edgekeeper.inference.background import ReadAhead, WriteBehind
from edgekeeper.inference.categories import MapOf
from edgekeeper.inference.engine import (
    Report,
    Settings,
    Source,
    check_settings,
    check_takes_maps,
    run,
)
from edgekeeper.inference.enlarger import Drift, TileError
from edgekeeper.inference.network import Precision
from edgekeeper.ops.tiles import TileProgress

# ---- Image files as sources of rows -----------------------------------------------------------

# Bytes that are read at a time, about.
_PART_BYTES = 2**22


class FileSource:
    """An image file as a source of rows."""

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader

    def announce(self) -> Header:
        """Return what is known of it before its samples."""
        return self._reader.header

    def parts(self) -> Iterator[Pixels]:
        """Its rows (h, W, C), colours before alpha."""
        header = self._reader.header
        step = max(1, _PART_BYTES // (header.width * header.bands * (header.depth // 8)))
        for start in range(0, header.height, step):
            yield self._reader.rows(start, min(start + step, header.height))


@contextmanager
def open_source(path: Path, *, target: Path, options: SaveOptions) -> Iterator[FileSource]:
    """The image in a file, without alpha that is opaque where the target's format has none."""
    form = FORMATS[format_to_write(target, options)]
    with open_image(path, alpha="keep" if form.alpha == "straight" else "drop_opaque") as reader:
        yield FileSource(reader)


# ---- What is said about files that are made larger, before, while and after ---------------------

OnError = Literal["report", "raise"]


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What became of one file.

    Attributes:
        path: the image that was read.
        target: the file that was written, or would have been.
        status: "done"; "skipped" (the target existed); "failed" (no file was written).
        message: why not, one sentence; empty when done.
        seconds: the time from the beginning of the work to the written file. Files overlap, so
            that the sum over a folder is more than the time it took.
        network_seconds: the part of it that the networks took.
        source_size, size: (height, width) of what was read and written; None unless done.
        precision: of the networks; None when none was run.
        drift: see ``Drift``; None unless ``consistent`` was asked for.
        notes: sentences on what was done to the image that one might not expect.
    """

    path: Path
    target: Path
    status: Literal["done", "skipped", "failed"]
    message: str
    seconds: float
    network_seconds: float = 0.0
    source_size: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    precision: Precision | None = None
    drift: Drift | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FolderStep:
    """How far a folder is: file number ``file`` of ``files``, ``tile`` of its ``tiles`` done."""

    path: Path
    file: int
    files: int
    tile: int
    tiles: int


class FolderProgress(Protocol):
    """Called when a file starts (tile 0 of 0) and after each of its tiles."""

    def __call__(self, step: FolderStep) -> None:
        """Take notice of the progress."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How files are written, and what happens to those that exist.

    Attributes:
        options: format, quality and so on; the file extension decides on the format where
            they do not.
        overwrite: "replace" replaces files that exist.
        existing: for "refuse", whether a file that exists skips its image or fails it.
        folders: "make" makes the folders that the targets need.
    """

    options: SaveOptions = field(default_factory=SaveOptions)
    overwrite: Overwrite = "refuse"
    existing: Literal["skip", "fail"] = "skip"
    folders: Literal["make", "need"] = "need"


def upscale_files(
    pairs: Sequence[tuple[Path, Path]],
    *,
    settings: Settings,
    saving: Saving,
    categories: MapOf | None = None,
    on_error: OnError = "report",
    on_step: FolderProgress | None = None,
) -> Iterator[FileResult]:
    """One result after another, in order, for pairs of an image file and the file to write.

    While the networks work on an image one thread reads the next and one writes the last, with
    bounded queues between. A result comes when its file is written, which may be while the next
    image is being made. Stopping early (an interrupt, a generator that is closed) ends after
    the present tile, keeps what is finished and leaves no temporary file. ``categories`` gives
    each image its map, for networks that take one: see ``find_maps``.

    Raises:
        InputError: a source is its own target, two sources have one target, an argument is out
            of range, or maps are given to a network that takes none.
        ImageError: see ``on_error``.
    """
    check_settings(settings)
    if categories is not None:
        check_takes_maps(settings.networks)
    seen: dict[Path, Path] = {}
    for path, target in pairs:
        place = target.resolve()
        if path.resolve() == place:
            raise InputError(f"'{path}' cannot be its own target; choose another name.")
        if place in seen:
            raise InputError(f"'{seen[place]}' and '{path}' would both be written to '{target}'.")
        seen[place] = path
    return _results(
        pairs,
        settings=settings,
        saving=saving,
        categories=categories,
        on_error=on_error,
        on_step=on_step,
    )


@dataclass
class _Task:
    """One file: what is read of it already, and what is being written."""

    path: Path
    target: Path
    number: int
    started: float = 0.0
    finished: float = 0.0
    reading: ReadAhead | None = None
    written: Future[None] | None = None
    report: Report | None = None
    notes: tuple[str, ...] = ()
    skipped: bool = False
    error: ImageError | None = None

    @property
    def is_settled(self) -> bool:
        return self.written is None or self.written.done()

    def result(self) -> FileResult:
        """Return what became of it, when the file is written."""
        if self.skipped:
            message = f"'{self.target}' exists already."
            return self._not_done("skipped", message)
        if self.error is None and self.written is not None:
            try:
                self.written.result()
            except ImageError as error:
                self.error = error
        if self.error is not None:
            return self._not_done("failed", str(self.error))
        report = self.report
        assert report is not None
        return FileResult(
            path=self.path,
            target=self.target,
            status="done",
            message="",
            seconds=self.finished - self.started,
            network_seconds=report.network_seconds,
            source_size=report.plan.source,
            size=report.plan.size,
            precision=report.precision,
            drift=report.drift,
            notes=(*report.notes, *self.notes),
        )

    def _not_done(self, status: Literal["skipped", "failed"], message: str) -> FileResult:
        seconds = max(self.finished - self.started, 0.0)
        return FileResult(
            path=self.path, target=self.target, status=status, message=message, seconds=seconds
        )

    def note_time(self, _: object = None) -> None:
        """Remember that the work ended now."""
        self.finished = time.perf_counter()


def _results(
    pairs: Sequence[tuple[Path, Path]],
    *,
    settings: Settings,
    saving: Saving,
    categories: MapOf | None,
    on_error: OnError,
    on_step: FolderProgress | None,
) -> Iterator[FileResult]:
    workers = _Workers()
    waiting: deque[_Task] = deque()
    tasks = _prepared(pairs, saving=saving, workers=workers)
    present = following = None
    try:
        present = next(tasks, None)
        while present is not None:
            present.started = time.perf_counter()
            following = next(tasks, None)  # begins to be read
            if not present.skipped:
                _work(
                    present,
                    settings=settings,
                    saving=saving,
                    categories=categories,
                    workers=workers,
                    on_tile=_announce(on_step, task=present, files=len(pairs)),
                )
            waiting.append(present)
            failed = present.error is not None
            while waiting and (len(waiting) > 1 or failed or waiting[0].is_settled):
                yield _given(waiting.popleft(), on_error=on_error)
            present, following = following, None
        while waiting:
            yield _given(waiting.popleft(), on_error=on_error)
    finally:
        for task in (present, following):
            if task is not None and task.reading is not None:
                task.reading.cancel()
        workers.close()


def _given(task: _Task, *, on_error: OnError) -> FileResult:
    result = task.result()
    if task.error is not None and on_error == "raise":
        raise task.error
    return result


class _Workers:
    """The thread that reads and the thread that writes."""

    def __init__(self) -> None:
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-read")
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-write")

    def close(self) -> None:
        """Wait until what was begun is ended."""
        self.reader.shutdown(wait=True)
        self.writer.shutdown(wait=True)


def _prepared(
    pairs: Sequence[tuple[Path, Path]], *, saving: Saving, workers: _Workers
) -> Iterator[_Task]:
    """The tasks, each of which begins to be read when it is asked for, unless it is skipped."""
    for number, (path, target) in enumerate(pairs, start=1):
        task = _Task(path=path, target=target, number=number)
        if saving.overwrite == "refuse" and saving.existing == "skip" and target.exists():
            task.skipped = True
        else:
            task.reading = ReadAhead(_opener(task, saving=saving), pool=workers.reader)
        yield task


def _opener(task: _Task, *, saving: Saving) -> Callable[[], AbstractContextManager[Source]]:
    return lambda: open_source(task.path, target=task.target, options=saving.options)


def _work(
    task: _Task,
    *,
    settings: Settings,
    saving: Saving,
    categories: MapOf | None,
    workers: _Workers,
    on_tile: TileProgress | None,
) -> None:
    """Run the networks on an image; what cannot be done is noted as the task's error."""
    first = task.reading

    def open_source() -> AbstractContextManager[Source]:
        nonlocal first
        # A second attempt reads by itself: the thread is already at the next image.
        source, first = first, None
        return _opener(task, saving=saving)() if source is None else source

    @contextmanager
    def open_sink(header: Header) -> Iterator[WriteBehind]:
        file = create_image(task.target, header, options=saving.options, overwrite=saving.overwrite)
        task.notes = file.notes
        with WriteBehind(file, pool=workers.writer) as sink:
            task.written = sink.written
            yield sink

    try:
        if saving.folders == "make":
            make_folder(task.target.parent, error=ImageError)
        check_target(task.target, overwrite=saving.overwrite, options=saving.options)
        if categories is not None:
            settings = replace(settings, categories=categories(task.path))
        task.report = run(open_source, open_sink, settings=settings, on_tile=on_tile)
    except TileError as error:
        task.error = ImageError(f"'{task.path}' cannot be upscaled: {error}")
        task.error.__cause__ = error
    except ImageError as error:
        task.error = error
    finally:
        if first is not None:
            first.cancel()
        task.note_time()
        if task.written is not None:
            task.written.add_done_callback(task.note_time)


def _announce(on_step: FolderProgress | None, *, task: _Task, files: int) -> TileProgress | None:
    """A tile callback that reports to ``on_step``, which hears at once that the file starts."""
    if on_step is None:
        return None

    def on_tile(done: int, total: int) -> None:
        on_step(FolderStep(path=task.path, file=task.number, files=files, tile=done, tiles=total))

    on_tile(0, 0)
    return on_tile
