"""Image files made larger one after another, with reading and writing beside the network's work."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, Self, TypeVar

import torch

from edgekeeper.errors import EdgekeeperError, ImageError, InputError
from edgekeeper.files import is_full, make_folder
from edgekeeper.image import (
    FORMATS,
    Header,
    Pixels,
    create_image,
    format_to_write,
    is_grey,
    open_image,
)
from edgekeeper.image.quality import Condition, condition_of
from edgekeeper.inference.categories import MapOf, find_maps
from edgekeeper.inference.choose import networks_for
from edgekeeper.inference.flow import Sink, Source, TileProgress, check_takes_maps, run
from edgekeeper.inference.network import TileError, tile_overlap
from edgekeeper.inference.request import Progress, Request, Result, Step, plan_outputs, refusal
from edgekeeper.ops.tiles import tile_side

# What may wait: parts of some 4 MB when read, of some 1 MB (2 at 16 bits) to be written.
_PART_BYTES = 2**22
_READ_PARTS = 8
_WRITTEN_PARTS = 64

MANY = 8  # images of which small ones, too, are worth another runtime's start


# ---- Reading ahead and writing behind ------------------------------------------------------------
#
# One thread each, so that the network does not wait for them. What waits between the threads is
# bounded. An error in a thread is raised where its items are taken or given; whoever stops early
# says so, and the thread ends with its file closed.

_Pairs = Sequence[tuple[Path, Path]]  # of an image and its target
_Item = TypeVar("_Item")


class AbandonedError(RuntimeError):
    """What a writer is told that is not to finish what was begun."""


class ReadAhead(Generic[_Item]):
    """Items of which a thread of ``pool`` makes up to ``depth`` before they are asked for."""

    def __init__(self, items: Generator[_Item, None, None], *, pool: Executor, depth: int) -> None:
        self._items, self._pool = items, pool
        self._waiting = deque(pool.submit(next, items, None) for _ in range(depth))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        item = self._waiting[0].result()  # an error, and the end, stay there
        if item is None:
            raise StopIteration
        self._waiting.popleft()
        self._waiting.append(self._pool.submit(next, self._items, None))
        return item

    def close(self) -> None:
        """End the reading; what is open is closed by the thread."""
        for future in self._waiting:
            future.cancel()
        self._pool.submit(self._items.close)


class WriteBehind(Generic[_Item]):
    """A writer to which a thread of ``pool`` gives what it is given, ``depth`` of it waiting.

    Leaving it ends the writer but does not wait: ``written`` is done when all is there. After
    an error it waits until the writer has thrown away what was begun.
    """

    written: Future[None]

    def __init__(
        self, writer: AbstractContextManager[Sink[_Item]], *, pool: Executor, depth: int
    ) -> None:
        self._manager, self._pool, self._depth = writer, pool, depth
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        self._writer = self._manager.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            for future in self._waiting:
                future.cancel()
        self.written = self._pool.submit(self._end, self._last, abandoned=kind is not None)
        if kind is not None:
            wait([self.written])

    def write(self, item: _Item) -> None:
        """Hand the next item over; raises what went wrong with earlier ones."""
        while len(self._waiting) >= self._depth or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, item, self._last))

    @property
    def _last(self) -> Future[None] | None:
        return self._waiting[-1] if self._waiting else None

    def _write(self, item: _Item, last: Future[None] | None) -> None:
        if last is not None:
            last.result()  # after one that failed nothing is written
        self._writer.write(item)

    def _end(self, last: Future[None] | None, *, abandoned: bool) -> None:
        with ExitStack() as stack:
            stack.push(self._manager)
            if abandoned:
                raise AbandonedError("the rest does not come")
            if last is not None:
                last.result()


# ---- The images, one after another ---------------------------------------------------------------


def upscale_file(
    source: str | Path,
    target: str | Path,
    *,
    request: Request | None = None,
    on_step: Progress | None = None,
) -> Result:
    """Return the result of writing the image ``source``, enlarged, to the file ``target``.

    The format follows the target's name. What can be refused is refused before the computation.
    Raises InputError: source and target are the same file, or an argument is out of range;
    ImageError: the source cannot be read or upscaled, or the target cannot be written.
    """
    request = replace(request or Request(), sources=(source,), output=target)
    pairs = [(Path(source), Path(target))]
    result = next(upscale_files(request, pairs=pairs, on_step=on_step))
    if result.status == "failed":
        raise ImageError(result.reason)
    return result


def upscale_files(
    request: Request,
    *,
    pairs: Sequence[tuple[Path, Path]] | None = None,
    on_step: Progress | None = None,
) -> Iterator[Result]:
    """Return one result after another, in order, for the images among ``request.sources``.

    They are written to where ``plan_outputs`` says, or as ``pairs`` of an image and a target say.
    While the networks work on an image one thread reads the next and one writes the last, with
    bounded queues between. A result comes when its file is written, which may be while the next
    image is being made. Stopping early (an interrupt, a generator that is closed) ends after
    the present tile, keeps what is finished and leaves no temporary file. An image that fails is
    reported and the rest goes on, unless the disk is full: then the rest is not begun.
    Raises InputError: see ``plan_outputs``; an argument is out of range, or maps are given to a
    network that takes none. ImageError: there is no such folder, or no image in it.
    """
    networks = networks_for(request)
    request = replace(request, model=networks)
    if len(networks.factors) == 1:  # known already
        model = networks.load(networks.factors[0])
        overlap = tile_overlap(model, consistent=request.consistent)
        tile_side(request.tile, overlap=overlap, size=(1, 1), device=torch.device("cpu"))
    pairs = plan_outputs(request, factors=networks.factors) if pairs is None else pairs
    request = replace(request, many=request.many or len(pairs) >= MANY)
    check_outputs(pairs)
    maps = None
    if request.categories is not None:
        images = [source for source, _ in pairs]
        maps = find_maps(request.categories, images=images, sources=request.sources)
        check_takes_maps(networks)
    return _results(pairs, request, maps=maps, on_step=on_step)


def check_outputs(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Raise InputError for a source that is its own target, or two sources of one target."""
    seen: dict[str, Path] = {}
    for source, target in pairs:
        place = os.path.realpath(target)
        if os.path.realpath(source) == place:
            raise InputError(f"'{source}' cannot be its own target; choose another name.")
        if place in seen:
            raise InputError(f"'{seen[place]}' and '{source}' would both be written to '{target}'.")
        seen[place] = source


def unexpected(source: Path, error: Exception) -> ImageError:
    """Return the error of a file for a reason that nobody thought of, and log its traceback."""
    logging.getLogger(__name__).debug("'%s'", source, exc_info=error)
    return ImageError(f"'{source}': unexpected {type(error).__name__}: {error}")


@dataclass
class _Job:
    """One file: what is known of it, what is read of it already, and what is being written."""

    result: Result
    number: int
    skips: bool = False  # a target that is there by now, of another process perhaps
    size: tuple[int, int] | None = None
    reading: ReadAhead[Header | Pixels] | None = None
    look: Callable[[], Condition] | None = None
    written: Future[None] | None = None
    started: float = 0.0
    finished: float = 0.0
    error: ImageError | None = None
    of_caller: Exception | None = None  # raised by the caller's progress callback

    @property
    def is_awaited(self) -> bool:
        return self.written is not None and not self.written.done()

    def fails(self, error: Exception) -> None:
        """Note that no file is written, and why, also for a reason that nobody thought of."""
        source, target = self.result.source, self.result.target
        if isinstance(error, TileError):
            error = ImageError(f"'{source}' cannot be upscaled: {error}")
        elif error is self.of_caller or (
            isinstance(error, EdgekeeperError) and not isinstance(error, ImageError)
        ):
            raise error  # not of this image
        elif not isinstance(error, ImageError):
            error = unexpected(source, error)
        self.error = error
        failed = Result(source=source, target=target, status="failed", reason=str(error))
        self.result = (refusal(source, target, existing="skip") if self.skips else None) or failed

    def note_time(self, _: object = None) -> None:
        """Note that the work ended now."""
        self.finished = time.perf_counter()

    def settled(self) -> Result:
        """Return what became of it, when the file is written."""
        if self.written is not None:
            try:
                self.written.result()
            except Exception as error:
                self.fails(error)
        return replace(self.result, seconds=max(self.finished - self.started, 0.0))


def _results(
    pairs: _Pairs, request: Request, *, maps: MapOf | None, on_step: Progress | None
) -> Iterator[Result]:
    with (
        ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-read") as reader,
        ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-write") as writer,
    ):
        jobs = _begun(pairs, request, pool=reader)
        unwritten: deque[_Job] = deque()
        present, following = None, next(jobs, None)
        full = False
        try:
            while following is not None and not full:
                present, following = following, next(jobs, None)  # which begins to be read
                if present.reading is not None:
                    on_tile = _counted(on_step, present, files=len(pairs))
                    _enlarge(present, request, maps=maps, pool=writer, on_tile=on_tile)
                unwritten.append(present)
                while unwritten and (len(unwritten) > 1 or not unwritten[0].is_awaited):
                    oldest = unwritten.popleft()
                    yield oldest.settled()
                    full = full or is_full(oldest.error)
            while unwritten:
                yield unwritten.popleft().settled()
        except KeyboardInterrupt:  # by ``on_step``: what is whole is told of before
            while unwritten:
                yield unwritten.popleft().settled()
            raise
        finally:
            for job in (present, following):
                if job is not None and job.reading is not None:
                    job.reading.close()


def _begun(pairs: _Pairs, request: Request, *, pool: Executor) -> Iterator[_Job]:
    """Yield the files, each of which begins to be read when it is asked for, or ends here.

    Where that surely decides how it is treated, the thread first looks what it went through.
    """
    chosen = request.style != "restore" and networks_for(request).restore is not None
    sized = request.width or request.height or request.fit or (request.scale or 2) <= 1
    ahead = chosen and request.strength is None and not sized
    for number, (source, target) in enumerate(pairs, start=1):
        refused = refusal(source, target, existing=request.on_existing)
        job = _Job(refused or Result(source=source, target=target), number)
        job.skips = request.on_existing == "skip"
        if refused is None:
            look = partial(condition_of, source, tolerant=request.tolerant)
            job.look = pool.submit(look).result if ahead else look
            parts = read_parts(source, target=target, request=request)
            job.reading = ReadAhead(parts, pool=pool, depth=_READ_PARTS)
        yield job


def _enlarge(
    job: _Job, request: Request, *, maps: MapOf | None, pool: Executor, on_tile: TileProgress | None
) -> None:
    """Run the networks on an image; what cannot be done is noted as its result."""
    job.started = time.perf_counter()
    ahead, source, target = job.reading, job.result.source, job.result.target
    notes: tuple[str, ...] = ()

    def open_source() -> Source:
        nonlocal ahead
        # A second attempt reads by itself: the thread is already at the next image.
        first, ahead = ahead, None
        return first or read_parts(source, target=target, request=request)

    @contextmanager
    def open_sink(header: Header) -> Iterator[Sink[Pixels]]:
        nonlocal notes
        job.size = (header.height, header.width)
        image = create_image(target, header, options=request.save, overwrite=request.overwrite)
        notes = image.notes
        with WriteBehind(image, pool=pool, depth=_WRITTEN_PARTS) as behind:
            yield behind
        job.written = behind.written

    try:
        make_folder(target.parent, error=ImageError)
        map_ = maps and maps(source)
        assert job.look is not None
        made = run(
            open_source, open_sink, request=request, look=job.look, maps=map_, on_tile=on_tile
        )
        job.result = replace(made, source=source, target=target, notes=(*made.notes, *notes))
    except Exception as error:
        job.fails(error)
    finally:
        assert job.reading is not None
        job.reading.close()
        job.note_time()
        if job.written is not None:
            job.written.add_done_callback(job.note_time)


def read_parts(
    source: Path, *, target: Path, request: Request
) -> Generator[Header | Pixels, None, None]:
    """Yield the header of an image file and then its rows, one channel where all are grey.

    Alpha that is opaque, and a channel that is no alpha, are left out where the target's format
    has none, and all frames but the first where it has one. No part reaches into the next frame.
    """
    form = FORMATS[format_to_write(target, request.save)]
    frames, tolerant = request.frames if form.animated else "first", request.tolerant
    opened = partial(open_image, source, holds=form.alpha, frames=frames, tolerant=tolerant)
    with opened() as reader:
        header = reader.header
        yield header
        step = max(1, _PART_BYTES // (header.width * header.bands * (header.depth // 8)))
        parts = [
            (row, min(row + step, first + header.height))
            for first in range(0, header.rows, header.height)
            for row in range(first, first + header.height, step)
        ]
        grey = header.colours == 3 and is_grey(reader.rows(*parts[0]))
        if grey and len(parts) > 1:  # read once more, which images in colour are spared
            with opened() as again:
                grey = all(is_grey(again.rows(*part)) for part in parts)
        for part in parts:
            rows = reader.rows(*part)
            yield rows[..., [0, *range(3, header.bands)]] if grey else rows


def _counted(on_step: Progress | None, job: _Job, *, files: int) -> TileProgress | None:
    """Return a tile callback that reports to ``on_step``, which hears at once of the start."""
    if on_step is None:
        return None

    def on_tile(done: int, total: int) -> None:
        known = Step(path=job.result.source, file=job.number, files=files, done=done, total=total)
        try:
            on_step(replace(known, size=job.size))
        except Exception as error:
            job.of_caller = error
            raise

    on_tile(0, 0)
    return on_tile
