"""Large pictures in tiles: planned so that the tiled result equals the whole one.

Each tile is read with ``overlap`` LR pixels around the part that it contributes; at the border of
the picture it ends at the border, so that the network pads there as it pads the whole picture.
Two neighbours are cut in the middle of the zone that both have read. With ``overlap`` at least
the receptive field's radius no contributed pixel has seen a cut, and nothing needs blending.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from edgekeeper.errors import InputError


class TileProgress(Protocol):
    """Called after each tile with the number of tiles done and of all tiles."""

    def __call__(self, done: int, total: int) -> None:
        """Take notice of the progress."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One axis of a tile in LR pixels: what is read, and the part of it that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def box(self) -> slice:
        """What is read, of the LR picture."""
        return slice(self.start, self.stop)

    def kept(self, *, scale: int = 1) -> slice:
        """Where the kept part goes, in the picture enlarged by ``scale``."""
        return slice(self.keep_start * scale, self.keep_stop * scale)

    def crop(self, *, scale: int = 1) -> slice:
        """The kept part, of this tile's own result, enlarged by ``scale``."""
        start = self.start
        return slice((self.keep_start - start) * scale, (self.keep_stop - start) * scale)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rectangle of the picture: one span of rows, one of columns."""

    rows: Span
    columns: Span


def plan_tiles(size: tuple[int, int], *, tile: int, overlap: int) -> tuple[Tile, ...]:
    """The tiles of a picture of ``size`` (height, width), row by row, the fewest that cover it.

    All tiles read boxes of the same shape, at most ``tile`` x ``tile`` LR pixels. The kept parts
    cover each pixel once and have at least ``overlap`` read pixels around them, less at the
    picture's border.

    Raises:
        InputError: the picture is empty, or a tile keeps nothing between its overlaps.
    """
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"A picture of {height} x {width} pixels has no tiles.")
    if overlap < 0:
        raise InputError(f"overlap must be 0 or more, got {overlap}.")
    if tile <= 2 * overlap and tile < max(height, width):
        raise InputError(
            f"A tile of {tile} pixels is too small for an overlap of {overlap} on each side; "
            f"use at least {2 * overlap + 1}, better {4 * overlap}."
        )
    rows = _plan_axis(height, tile=tile, overlap=overlap)
    columns = _plan_axis(width, tile=tile, overlap=overlap)
    return tuple(Tile(rows=row, columns=column) for row in rows for column in columns)


def _plan_axis(length: int, *, tile: int, overlap: int) -> list[Span]:
    if length <= tile:
        return [Span(start=0, stop=length, keep_start=0, keep_stop=length)]
    slack = length - tile
    steps = -(-slack // (tile - 2 * overlap))
    starts = [slack * index // steps for index in range(steps + 1)]
    cuts = [(left + tile + right) // 2 for left, right in pairwise(starts)]
    return [
        Span(start=start, stop=start + tile, keep_start=first, keep_stop=last)
        for start, first, last in zip(starts, [0, *cuts], [*cuts, length], strict=True)
    ]


def iterate_tiles(
    function: Callable[[Tensor], Tensor], lr: Tensor, *, tiles: tuple[Tile, ...], scale: int
) -> Iterator[tuple[Tile, Tensor]]:
    """Each tile with the part of the result (B, C', h, w) that it contributes.

    ``function`` maps (B, C, h, w) to (B, C', scale·h, scale·w).

    Raises:
        InputError: ``function`` gave another size than that.
    """
    for tile in tiles:
        part = lr[..., tile.rows.box, tile.columns.box]
        result = function(part)
        expected = (part.shape[-2] * scale, part.shape[-1] * scale)
        if tuple(result.shape[-2:]) != expected:
            raise InputError(
                f"The network made {tuple(result.shape[-2:])} of a tile of "
                f"{tuple(part.shape[-2:])}; at scale {scale} it must be {expected}."
            )
        yield tile, result[..., tile.rows.crop(scale=scale), tile.columns.crop(scale=scale)]


def run_tiled(
    function: Callable[[Tensor], Tensor],
    lr: Tensor,
    *,
    tile: int,
    overlap: int,
    scale: int,
    on_tile: TileProgress | None = None,
) -> Tensor:
    """The result (B, C', scale·H, scale·W) of ``function`` on ``lr`` (B, C, H, W), made in tiles.

    Equal to ``function(lr)`` up to float rounding when ``overlap`` is at least the radius, in LR
    pixels, over which ``function`` looks, and ``function`` does the same at each position.

    Raises:
        InputError: the tile is too small for the overlap, or ``function`` gave a wrong size.
    """
    tiles = plan_tiles((lr.shape[-2], lr.shape[-1]), tile=tile, overlap=overlap)
    whole: Tensor | None = None
    parts = iterate_tiles(function, lr, tiles=tiles, scale=scale)
    for done, (place, part) in enumerate(parts, start=1):
        if whole is None:
            size = (lr.shape[-2] * scale, lr.shape[-1] * scale)
            whole = torch.empty(*part.shape[:-2], *size, dtype=part.dtype, device=part.device)
        whole[..., place.rows.kept(scale=scale), place.columns.kept(scale=scale)] = part
        if on_tile is not None:
            on_tile(done, len(tiles))
    assert whole is not None  # a plan has at least one tile
    return whole
