"""Image files made larger one after another, with reading and writing beside the network's work."""

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from edgekeeper.errors import ImageError
from edgekeeper.files import is_full, is_plain, make_folder
from edgekeeper.image import (
    FORMATS,
    Header,
    Pixels,
    SaveOptions,
    create_image,
    format_to_write,
    open_image,
)
from edgekeeper.inference.background import ReadAhead, WriteBehind
from edgekeeper.inference.categories import MapOf, find_maps
from edgekeeper.inference.flow import RowSink, Source, TileProgress, check_takes_maps, is_grey, run
from edgekeeper.inference.names import check_outputs, plan_outputs, refusal
from edgekeeper.inference.request import Progress, Request, Result, Step, networks_for
from edgekeeper.inference.tile import TileError, tile_overlap, tile_side

# What may wait: parts of some 4 MB when read, of some 1 MB (2 at 16 bits) to be written.
_PART_BYTES = 2**22
_READ_PARTS = 8
_WRITTEN_PARTS = 64


def upscale_file(
    source: str | Path,
    target: str | Path,
    *,
    request: Request | None = None,
    on_step: Progress | None = None,
) -> Result:
    """Return the result of writing the image ``source``, enlarged, to the file ``target``.

    The format follows the target's name. What can be refused is refused before the computation.

    Raises:
        InputError: source and target are the same file, or an argument is out of range.
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

    Raises:
        InputError: see ``plan_outputs``; an argument is out of range, or maps are given to a
            network that takes none.
        ImageError: there is no such folder, or no image in it.
    """
    networks = networks_for(request)
    request = replace(request, model=networks)
    if len(networks.factors) == 1:  # known already
        model = networks.load(networks.factors[0])
        overlap = tile_overlap(model, consistent=request.consistent)
        tile_side(request, overlap=overlap, size=(1, 1), device=torch.device("cpu"))
    pairs = plan_outputs(request, factors=networks.factors) if pairs is None else pairs
    check_outputs(pairs)
    maps = None
    if request.categories is not None:
        images = [source for source, _ in pairs]
        maps = find_maps(request.categories, images=images, sources=request.sources)
        check_takes_maps(networks)
    return _results(pairs, request, maps=maps, on_step=on_step)


@dataclass
class _File:
    """One file: what is read of it already, what is known of it, and what is being written."""

    source: Path
    target: Path
    number: int
    result: Result
    reading: ReadAhead[Header | Pixels] | None = None
    written: Future[None] | None = None
    started: float = 0.0
    finished: float = 0.0
    disk_is_full: bool = False

    def fails(self, error: ImageError) -> None:
        """Note what went wrong."""
        self.ends("failed", str(error))
        self.disk_is_full = is_full(error)

    def ends(self, status: Literal["skipped", "failed"], reason: str) -> None:
        """Note that no file is written, and why."""
        self.result = Result(source=self.source, target=self.target, status=status, reason=reason)

    def note_time(self, _: object = None) -> None:
        """Note that the work ended now."""
        self.finished = time.perf_counter()

    @property
    def is_settled(self) -> bool:
        """Whether it is known what became of it."""
        return self.written is None or self.written.done()

    def settled(self) -> Result:
        """Return what became of it, when the file is written."""
        if self.written is not None:
            try:
                self.written.result()
            except ImageError as error:
                self.fails(error)
        return replace(self.result, seconds=max(self.finished - self.started, 0.0))


def _results(
    pairs: Sequence[tuple[Path, Path]],
    request: Request,
    *,
    maps: MapOf | None,
    on_step: Progress | None,
) -> Iterator[Result]:
    with (
        ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-read") as reader,
        ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-write") as writer,
    ):
        files = _begun(pairs, request, pool=reader)
        unwritten: deque[_File] = deque()
        present, following = None, next(files, None)
        full = False
        try:
            while following is not None and not full:
                present, following = following, next(files, None)  # which begins to be read
                if present.reading is not None:
                    on_tile = _counted(on_step, present, files=len(pairs))
                    _enlarge(present, request, maps=maps, pool=writer, on_tile=on_tile)
                unwritten.append(present)
                while unwritten and (len(unwritten) > 1 or unwritten[0].is_settled):
                    oldest = unwritten.popleft()
                    yield oldest.settled()
                    full = full or oldest.disk_is_full
            while unwritten:
                yield unwritten.popleft().settled()
        finally:
            for file in (present, following):
                if file is not None and file.reading is not None:
                    file.reading.close()


def _begun(
    pairs: Sequence[tuple[Path, Path]], request: Request, *, pool: Executor
) -> Iterator[_File]:
    """The files, each of which begins to be read when it is asked for, unless it ends here."""
    for number, (source, target) in enumerate(pairs, start=1):
        result = Result(source=source, target=target)
        file = _File(source=source, target=target, number=number, result=result)
        why = refusal(source, target)
        existing = request.on_existing
        if why is not None:
            file.ends("failed", why)
        elif existing != "replace" and target.is_file() and is_plain(target):
            file.ends("skipped" if existing == "skip" else "failed", f"'{target}' exists already.")
        else:
            parts = read_parts(source, target=target, save=request.save)
            file.reading = ReadAhead(parts, pool=pool, depth=_READ_PARTS)
        yield file


def _enlarge(
    file: _File,
    request: Request,
    *,
    maps: MapOf | None,
    pool: Executor,
    on_tile: TileProgress | None,
) -> None:
    """Run the networks on an image; what cannot be done is noted as its result."""
    file.started = time.perf_counter()
    ahead = file.reading
    notes: tuple[str, ...] = ()

    def open_source() -> Source:
        nonlocal ahead
        # A second attempt reads by itself: the thread is already at the next image.
        first, ahead = ahead, None
        return first or read_parts(file.source, target=file.target, save=request.save)

    @contextmanager
    def open_sink(header: Header) -> Iterator[RowSink]:
        nonlocal notes
        image = create_image(file.target, header, options=request.save, overwrite=request.overwrite)
        notes = image.notes
        with WriteBehind(image, pool=pool, depth=_WRITTEN_PARTS) as behind:
            yield behind
        file.written = behind.written

    try:
        make_folder(file.target.parent, error=ImageError)
        map_ = None if maps is None else maps(file.source)
        made = run(open_source, open_sink, request=request, maps=map_, on_tile=on_tile)
        file.result = replace(
            made, source=file.source, target=file.target, notes=(*made.notes, *notes)
        )
    except TileError as error:
        file.ends("failed", f"'{file.source}' cannot be upscaled: {error}")
    except ImageError as error:
        file.fails(error)
    finally:
        assert file.reading is not None
        file.reading.close()
        file.note_time()
        if file.written is not None:
            file.written.add_done_callback(file.note_time)


def read_parts(
    source: Path, *, target: Path, save: SaveOptions
) -> Generator[Header | Pixels, None, None]:
    """Yield the header of an image file and then its rows, one channel where all are grey.

    Alpha that is opaque is left out where the target's format has none.
    """
    form = FORMATS[format_to_write(target, save)]
    with open_image(source, alpha="keep" if form.alpha == "straight" else "drop_opaque") as reader:
        header = reader.header
        yield header
        step = max(1, _PART_BYTES // (header.width * header.bands * (header.depth // 8)))
        parts = [
            (start, min(start + step, header.height)) for start in range(0, header.height, step)
        ]
        grey = header.colours == 3 and is_grey(reader.rows(*parts[0]))
        if grey and len(parts) > 1:  # read once more, which images in colour are spared
            with open_image(source) as again:
                grey = all(is_grey(again.rows(*part)) for part in parts)
        for part in parts:
            rows = reader.rows(*part)
            yield rows[..., [0, *range(3, header.bands)]] if grey else rows


def _counted(on_step: Progress | None, file: _File, *, files: int) -> TileProgress | None:
    """Return a tile callback that reports to ``on_step``, which hears at once of the start."""
    if on_step is None:
        return None

    def on_tile(done: int, total: int) -> None:
        on_step(Step(path=file.source, file=file.number, files=files, done=done, total=total))

    on_tile(0, 0)
    return on_tile
