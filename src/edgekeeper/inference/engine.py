"""One image from its source to its sink, whatever its size: planned, run, begun again."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from edgekeeper.image import Header, Pixels
from edgekeeper.inference.categories import CategoryMap
from edgekeeper.inference.enlarger import Drift, Enlarger, Manner, TileError, tile_overlap
from edgekeeper.inference.memory import Tile, tile_side
from edgekeeper.inference.network import Precision
from edgekeeper.inference.request import Enlargement, Networks, Plan, plan_enlargement
from edgekeeper.inference.rows import (
    Grid,
    Rows,
    enlarge_rows,
    from_rows,
    join_alpha,
    plan_grid,
    resize_rows,
    split_alpha,
    to_rows,
)
from edgekeeper.models.sftgan import taking_maps
from edgekeeper.ops.tiles import TileProgress


class Source(Protocol):
    """An image to read once from the top."""

    def announce(self) -> Header:
        """Return what is known of it before its samples."""

    def parts(self) -> Iterator[Pixels]:
        """Its rows (h, W, C), colours before alpha."""


class Sink(Protocol):
    """Where the rows of the result go."""

    def write(self, rows: Pixels) -> None:
        """Take the next rows from the top."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for every image: networks, how much larger, and how they are run.

    ``categories`` is a map for networks that take one, which must fit every image.
    """

    networks: Networks
    enlargement: Enlargement | None = None
    tile: Tile = "auto"
    manner: Manner = field(default_factory=Manner)
    categories: CategoryMap | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """How an image was made.

    Attributes:
        plan: the passes and sizes.
        precision: of the networks; None when none was run.
        tile: the side of the tiles of the first pass in LR pixels, 0 when there was none.
        network_seconds: the time in the networks; ``seconds`` is that of all.
        drift: see ``Drift``; of the last pass; None without ``consistent``.
        notes: sentences for the user.
    """

    plan: Plan
    precision: Precision | None
    tile: int
    network_seconds: float
    seconds: float
    drift: Drift | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Pass:
    enlarger: Enlarger
    grid: Grid
    side: int


def run(
    open_source: Callable[[], AbstractContextManager[Source]],
    open_sink: Callable[[Header], AbstractContextManager[Sink]],
    *,
    settings: Settings,
    on_tile: TileProgress | None = None,
) -> Report:
    """Return the report on an image read from a source and written, enlarged, to a sink.

    When memory runs out the tiles are halved and the image is begun again, with a new source
    and a new sink: ``on_tile`` then counts anew. A sink whose block ends with an error is to
    leave nothing behind.

    Raises:
        InputError: the tile is too small for the network's context, or the network takes no map
            of categories.
        ImageError: the map of categories has another size.
        TileError: the network gave values that are not finite, or memory does not suffice.
    """
    started = time.perf_counter()
    if settings.categories is not None:
        check_takes_maps(settings.networks)
    halvings = 0
    while True:
        passes: list[_Pass] = []
        try:
            with open_source() as source:
                header = source.announce()
                plan = plan_enlargement(
                    (header.height, header.width),
                    enlargement=settings.enlargement,
                    factors=settings.networks.factors,
                )
                if settings.categories is not None and plan.passes:
                    settings.categories.check_size(plan.source, scale=plan.passes[0])
                height, width = plan.size
                with open_sink(replace(header, height=height, width=width)) as sink:
                    passes = _plan_passes(plan, header.colours, settings, halvings=halvings)
                    rows = _flow(
                        source,
                        header,
                        passes,
                        size=plan.size,
                        on_tile=on_tile,
                        categories=settings.categories,
                    )
                    for samples in from_rows(rows, depth=header.depth):
                        sink.write(samples)
            seconds = time.perf_counter() - started
            return _report(header, plan, passes, halvings=halvings, seconds=seconds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if all(one.side <= _smallest(one.enlarger.overlap) for one in passes):
                height, width = header.height, header.width
                side = max((one.side for one in passes), default=0)
                raise TileError(
                    f"An image of {width} x {height} pixels needs more memory than there is, "
                    f"even in tiles of {side} pixels. Close other programs or cut it into parts."
                ) from error
        # Outside the except clause, where the failed attempt's tensors are already freed.
        halvings += 1


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def check_settings(settings: Settings) -> None:
    """Raise InputError if the tile is too small for a network that is already known."""
    if settings.tile != "auto" and len(settings.networks.factors) == 1:
        model = settings.networks.load(settings.networks.factors[0])
        overlap = tile_overlap(model, manner=settings.manner)
        tile_side(settings.tile, overlap=overlap, size=(1, 1), device=torch.device("cpu"))


def check_takes_maps(networks: Networks) -> None:
    """Raise InputError if one of the networks takes no map of categories."""
    for factor in networks.factors:
        taking_maps(networks.load(factor))


def _smallest(overlap: int) -> int:
    return max(3 * overlap, 4)


def _plan_passes(plan: Plan, colours: int, settings: Settings, *, halvings: int) -> list[_Pass]:
    passes: list[_Pass] = []
    size = plan.source
    for factor in plan.passes:
        enlarger = Enlarger(settings.networks.load(factor), manner=settings.manner)
        overlap = enlarger.overlap
        side = tile_side(settings.tile, overlap=overlap, size=size, device=enlarger.device)
        if halvings:
            side = min(side, max(side >> halvings, _smallest(overlap)))
        grid = plan_grid(
            size,
            side=side,
            overlap=overlap,
            scale=factor,
            channels=colours,
            multiple=enlarger.model.multiple,
        )
        passes.append(_Pass(enlarger=enlarger, grid=grid, side=side))
        size = (size[0] * factor, size[1] * factor)
    return passes


def _flow(
    source: Source,
    header: Header,
    passes: list[_Pass],
    *,
    size: tuple[int, int],
    on_tile: TileProgress | None,
    categories: CategoryMap | None,
) -> Rows:
    """Return the rows of the result, which make and read themselves when they are asked for."""
    done, total = 0, sum(one.grid.count for one in passes)

    def count() -> None:
        nonlocal done
        done += 1
        if on_tile is not None:
            on_tile(done, total)

    rows = to_rows(source.parts(), size=(header.height, header.width), channels=header.bands)
    alpha: Rows | None = None
    if header.alpha == "straight":
        rows, alpha = split_alpha(rows)
    for one in passes:
        rows = enlarge_rows(
            rows, enlarger=one.enlarger, grid=one.grid, on_tile=count, categories=categories
        )
    rows = resize_rows(rows, size=size)
    return rows if alpha is None else join_alpha(rows, resize_rows(alpha, size=size))


def _report(
    header: Header, plan: Plan, passes: list[_Pass], *, halvings: int, seconds: float
) -> Report:
    notes = dict.fromkeys([*header.notes, *(note for one in passes for note in one.enlarger.notes)])
    if halvings:
        side = passes[0].side
        notes[f"Memory ran out; the image was made in tiles of {side} pixels."] = None
    precisions: list[Precision | None] = [one.enlarger.precision for one in passes]
    slowest: Precision | None = "float32" if "float32" in precisions else None
    return Report(
        plan=plan,
        precision=slowest or (precisions[0] if precisions else None),
        tile=passes[0].side if passes else 0,
        network_seconds=sum(one.enlarger.seconds for one in passes),
        seconds=seconds,
        drift=passes[-1].enlarger.drift if passes else None,
        notes=tuple(notes),
    )
