r"""One image from its source to its sink, as bands of rows, so that memory is bounded.

read -> [fill under alpha] -> network, network ... -> exact resize -> round -> write
                           \-> alpha: network ... -> exact resize /
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from edgekeeper.image import SAMPLES, Header, Pixels, as_unit
from edgekeeper.image.quality import Condition
from edgekeeper.inference.categories import CategoryMap
from edgekeeper.inference.choose import (
    PassPlan,
    Treatment,
    alpha_steps,
    networks_for,
    plan_passes,
    probe_runtime,
    steps_of,
    treatment,
)
from edgekeeper.inference.network import Finish, TileError, TileRunner
from edgekeeper.inference.request import Request, Result
from edgekeeper.models import SRModel
from edgekeeper.models.sftgan import taking_maps
from edgekeeper.ops.bands import fill_bands, join_alpha, resize_bands, split_alpha
from edgekeeper.ops.tiles import (
    Grid,
    RowWindow,
    Span,
    Tile,
    is_out_of_memory,
    plan_tiles,
    tile_side,
    tiled_bands,
)
from edgekeeper.pretrained.zoo import Networks

SMALL = 800 * 800
"""LR pixels of an image below which another runtime takes longer to start than it saves."""

BAND_BYTES = 2**28
"""What the rows that a network makes at a time may take (256 MiB), whatever the width."""

_THREAD = "edgekeeper-network"  # which makes a tile while the one before is rounded and written

# Samples that are rounded at a time: as many as stay in the processor's cache.
_ROUNDED = 2**20

Bands = Iterator[Tensor]  # (1, C, h, W) from the top, in [0, 1]

_Given = TypeVar("_Given", contravariant=True)


class Source(Iterator[Header | Pixels], Protocol):
    """An image to read once: its header, then its rows (h, W, C), colours before alpha.

    Where red, green and blue are equal everywhere, one of them may stand for all three.
    """

    def close(self) -> None:
        """End the reading."""


class Sink(Protocol[_Given]):
    """What takes items, such as the rows (h, W, C) of the result, one after another."""

    def write(self, item: _Given, /) -> None:
        """Take the next item."""


TileProgress = Callable[[int, int], None]
"""Called after each tile with the number of tiles done and of all tiles."""


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """A network's pass over the image: in tiles of ``side``, to ``size``."""

    runner: TileRunner
    grid: Grid
    side: int
    size: tuple[int, int]
    switches: bool  # to another runtime than PyTorch, if it is faster


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What is to be done: the passes over the colours, and those over alpha."""

    header: Header
    plan: PassPlan
    treated: Treatment
    passes: list[_Pass]
    alpha: list[_Pass]
    keeps_hidden: bool


def run(
    open_source: Callable[[], Source],
    open_sink: Callable[[Header], AbstractContextManager[Sink[Pixels]]],
    *,
    request: Request,
    look: Callable[[], Condition],
    maps: CategoryMap | None = None,
    on_tile: TileProgress | None = None,
) -> Result:
    """Return the result of reading an image from a source and writing it, enlarged, to a sink.

    When memory runs out the tiles are halved and the image is begun again, with a new source
    and a new sink: ``on_tile`` then counts anew. A sink whose block ends with an error is to
    leave nothing behind. ``look`` says what the image went through, where the networks depend on
    that. ``maps`` are the categories of the whole image.
    Raises InputError: the tile is too small for the network's context, or the network takes no map
    of categories; ImageError: the map of categories has another size; TileError: the network gave
    values that are not finite, or memory does not suffice.
    """
    started = time.perf_counter()
    networks = networks_for(request)
    if maps is not None:
        check_takes_maps(networks)
    halvings = 0
    while True:
        work: _Work | None = None
        try:
            with closing(open_source()) as source, ThreadPoolExecutor(1, _THREAD) as pool:
                header = next(source)
                assert isinstance(header, Header)
                size = header.height, header.width
                plan = plan_passes(size, request, factors=networks.factors)
                if maps is not None and plan.passes:
                    maps.check_size(plan.source, scale=plan.passes[0])
                height, width = plan.size
                # The sink refuses a size that is too large before its tiles are planned.
                with open_sink(replace(header, height=height, width=width)) as sink:
                    work = _prepare(header, plan, request, networks, look=look, halvings=halvings)
                    count = _counter(work, on_tile)
                    for _ in range(header.frames):
                        frame = _frame(source, header.height) if header.animation else source
                        bands = _flow(frame, work, pool, on_tile=count, maps=maps)
                        for rows in to_rows(bands, header):
                            sink.write(rows)
            seconds = time.perf_counter() - started
            return _result(work, halvings=halvings, seconds=seconds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            cure = "Close other programs or cut it into parts."
            if work is None:
                raise TileError(f"The image needs more memory than there is. {cure}") from error
            passes = [*work.passes, *work.alpha]
            if all(one.side <= _smallest(one.runner.overlap) for one in passes):
                side = max((one.side for one in passes), default=0)
                raise TileError(
                    f"An image of {work.plan.source[1]} x {work.plan.source[0]} pixels needs more "
                    f"memory than there is, even in tiles of {side} pixels. {cure}"
                ) from error
        # Outside the except clause, where the failed attempt's tensors are already freed.
        halvings += 1


def check_takes_maps(networks: Networks) -> None:
    """Raise InputError if one of the networks takes no map of categories."""
    for factor in networks.factors:
        taking_maps(networks.load(factor))


def _smallest(overlap: int) -> int:
    return max(3 * overlap, 4)


def _prepare(
    header: Header,
    plan: PassPlan,
    request: Request,
    networks: Networks,
    *,
    look: Callable[[], Condition],
    halvings: int,
) -> _Work:
    """Return what is to be done, with the networks read."""

    def planned(
        steps: Iterator[tuple[SRModel, Finish]], colours: int, request: Request
    ) -> list[_Pass]:
        passes: list[_Pass] = []
        for model, finish in steps:
            size = passes[-1].size if passes else plan.source
            passes.append(_plan(model, finish, size, request, colours, halvings=halvings))
        return passes

    treated = treatment(request, networks, passes=plan.passes, look=look)
    steps = steps_of(networks, request, passes=plan.passes, treated=treated)
    has_alpha, plain = header.alpha != "none", replace(request, ensemble=False, consistent=False)
    alpha = alpha_steps(networks, passes=plan.passes) if has_alpha else iter(())
    return _Work(
        header=header,
        plan=plan,
        treated=treated,
        passes=planned(steps, header.colours, request),
        alpha=planned(alpha, 1, plain),
        keeps_hidden=request.keep_hidden_colour,
    )


def _plan(
    model: SRModel,
    finish: Finish,
    size: tuple[int, int],
    request: Request,
    colours: int,
    *,
    halvings: int,
) -> _Pass:
    """Plan the tiles of a pass over an image of ``size``.

    They are lower than wide where a band of ``BAND_BYTES`` cannot hold that many rows, but keep at
    least as many rows as they overlap, and eight.
    """
    runner = runner_of(model, request, finish=finish)
    overlap, scale = runner.overlap, model.scale
    side = tile_side(request.tile, overlap=overlap, size=size, device=runner.device)
    if halvings:
        side = min(side, max(side >> halvings, _smallest(overlap)))
    kept = max(BAND_BYTES // (4 * colours * size[1] * scale**2), overlap, 8)
    grid = plan_tiles(
        size,
        tile=side,
        rows=min(side, kept + 2 * overlap),
        overlap=overlap,
        multiple=model.multiple,
        border=model.border,
    )
    large = (size[0] * scale, size[1] * scale)
    switches = request.many or size[0] * size[1] >= SMALL
    return _Pass(runner=runner, grid=grid, side=side, size=large, switches=switches)


def runner_of(model: SRModel, request: Request, *, finish: Finish) -> TileRunner:
    """Return what runs the network on tiles as it was asked for."""
    return TileRunner(
        model,
        precision=request.precision,
        ensemble=request.ensemble,
        consistent=request.consistent,
        finish=finish,
    )


def _counter(work: _Work, on_tile: TileProgress | None) -> Callable[[], None]:
    """Return what is to be called after each tile of all frames."""
    total = work.header.frames * sum(len(one.grid) for one in (*work.passes, *work.alpha))
    done = itertools.count(1)

    def count() -> None:
        if on_tile is not None:
            on_tile(next(done), total)

    return count


def _frame(source: Iterator[Header | Pixels], height: int) -> Iterator[Header | Pixels]:
    """Yield the rows of one frame of an animation; no part reaches into the next."""
    while height > 0:
        part = next(source)
        assert not isinstance(part, Header)
        height -= len(part)
        yield part


def _flow(
    source: Iterator[Header | Pixels],
    work: _Work,
    pool: Executor,
    *,
    on_tile: Callable[[], None],
    maps: CategoryMap | None,
) -> Bands:
    """Return the bands of the result, which make and read themselves when they are asked for."""
    bands, header = to_bands(source), work.header
    if header.alpha == "none":
        return _through(work.passes, bands, pool, plan=work.plan, on_tile=on_tile, maps=maps)
    if header.alpha == "straight" and not work.keeps_hidden:
        bands = fill_bands(bands, height=header.height)
    colours, alpha = split_alpha(bands)
    colours = _through(work.passes, colours, pool, plan=work.plan, on_tile=on_tile, maps=maps)
    return join_alpha(colours, _through(work.alpha, alpha, pool, plan=work.plan, on_tile=on_tile))


def _through(
    passes: list[_Pass],
    bands: Bands,
    pool: Executor,
    *,
    plan: PassPlan,
    on_tile: Callable[[], None],
    maps: CategoryMap | None = None,
) -> Bands:
    """Return the bands after the passes of the networks and the exact resize."""
    size = plan.source
    for one in passes:
        bands = _enlarge(bands, one, pool, size=size, on_tile=on_tile, maps=maps)
        size = one.size
    return bands if size == plan.size else resize_bands(bands, size=size, to=plan.size)


def to_bands(source: Iterator[Header | Pixels]) -> Bands:
    """Yield rows (h, W, C) as float bands in [0, 1]."""
    for samples in source:
        assert not isinstance(samples, Header)
        yield torch.from_numpy(as_unit(samples)).permute(2, 0, 1)[None].contiguous()


def to_rows(bands: Bands, header: Header) -> Iterator[Pixels]:
    """Yield bands as rows (h, W, C) of the header's depth, clipped, halves rounded upwards."""
    top = 2**header.depth - 1
    for band in bands:
        step = max(1, _ROUNDED // (band.shape[-1] * band.shape[1]))
        for start in range(0, band.shape[-2], step):
            part = band[0, :, start : start + step]
            if header.depth == 32:
                rows: Pixels = part.permute(1, 2, 0).clamp(0, 1).contiguous().numpy()
            else:
                exact = part.permute(1, 2, 0).mul(top).add_(0.5).clamp_(0, top).contiguous().numpy()
                rows = exact.astype(SAMPLES[header.depth])
            if rows.shape[2] < header.bands:  # one channel stands for three
                rows = rows[..., [0, 0, *range(rows.shape[2])]]
            yield rows
        del band, part  # not kept while the next is made


def _enlarge(
    bands: Bands,
    one: _Pass,
    pool: Executor,
    *,
    size: tuple[int, int],
    on_tile: Callable[[], None],
    maps: CategoryMap | None,
) -> Bands:
    """Yield the bands of a network's result; ``on_tile`` is called after each tile."""
    runner, scale = one.runner, one.runner.model.scale

    def cut(rows: Span, columns: Span) -> Tensor | None:
        return None if maps is None else maps.cut(rows.box, columns.box, size=size, scale=scale)

    def enlarge(part: Tensor, tile: Tile) -> Tensor:
        return runner(part, maps=cut(tile.rows, tile.columns), border=tile.border)

    window = RowWindow(bands)
    if runner.precision is None:
        rows, columns = one.grid.rows[0], one.grid.columns[0]
        tile = rows.stop - rows.start, columns.stop - columns.start
        probe_runtime(runner, tile, maps=cut(rows, columns), switches=one.switches)
    several, grid = pool if len(one.grid) > 1 else None, one.grid
    yield from tiled_bands(enlarge, window, grid=grid, scale=scale, pool=several, on_tile=on_tile)


def _result(work: _Work, *, halvings: int, seconds: float) -> Result:
    passes = work.passes
    runners = [one.runner for one in passes]
    notes = dict.fromkeys([*work.header.notes, *(note for one in runners for note in one.notes)])
    if halvings:
        side = passes[0].side
        notes[f"Memory ran out; the image was made in tiles of {side} pixels."] = None
    if work.treated.note:
        notes[work.treated.note] = None
    used = [one.precision for one in runners]
    return Result(
        source_size=work.plan.source,
        size=work.plan.size,
        seconds=seconds,
        network_seconds=sum(one.runner.seconds for one in (*passes, *work.alpha)),
        precision="float32" if "float32" in used else used[0] if used else None,  # the slowest
        runtime=runners[0].runtime if runners else None,
        tile=passes[0].side if passes else 0,
        drift=runners[-1].drift if runners else None,
        strength=work.treated.strength,
        notes=tuple(notes),
        frames=work.header.frames if work.header.animation else 0,
    )
