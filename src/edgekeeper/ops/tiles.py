"""Large images in tiles: planned so that the tiled result equals the whole one.

Each tile is read with ``overlap`` LR pixels around the part that it contributes; at the border of
the image it ends at the border, so that the network pads there as it pads the whole image.
Two neighbours are cut in the middle of the zone that both have read. With ``overlap`` at least
the receptive field's radius no contributed pixel has seen a cut, and nothing needs blending.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, Protocol

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
        """What is read, of the LR image."""
        return slice(self.start, self.stop)

    def kept(self, *, scale: int = 1) -> slice:
        """Return where the kept part goes, in the image enlarged by ``scale``."""
        return slice(self.keep_start * scale, self.keep_stop * scale)

    def crop(self, *, scale: int = 1) -> slice:
        """Return the kept part, of this tile's own result, enlarged by ``scale``."""
        start = self.start
        return slice((self.keep_start - start) * scale, (self.keep_stop - start) * scale)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rectangle of the image: one span of rows, one of columns."""

    rows: Span
    columns: Span


def plan_tiles(
    size: tuple[int, int], *, tile: int, overlap: int, multiple: int = 1
) -> tuple[Tile, ...]:
    """The tiles of an image of ``size`` (height, width), row by row, the fewest that cover it.

    All tiles read boxes of the same shape, at most ``tile`` x ``tile`` LR pixels. The kept parts
    cover each pixel once and have at least ``overlap`` read pixels around them, less at the
    image's border. For ``multiple`` see ``plan_axis``.

    Raises:
        InputError: the image is empty, or a tile keeps nothing between its overlaps.
    """
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"An image of {height} x {width} pixels has no tiles.")
    rows = plan_axis(height, tile=tile, overlap=overlap, multiple=multiple)
    columns = plan_axis(width, tile=tile, overlap=overlap, multiple=multiple)
    return tuple(Tile(rows=row, columns=column) for row in rows for column in columns)


def plan_axis(length: int, *, tile: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Return the spans of one axis of ``length`` LR pixels, as in ``plan_tiles``.

    Spans begin at multiples of ``multiple`` and are as long, but for what is left at the end:
    networks that look at groups of pixels then see the groups that they see in the whole image.

    Raises:
        InputError: a tile keeps nothing between its overlaps.
    """
    if multiple > 1 and length > tile:
        rest = length % multiple
        cells = plan_axis(
            length // multiple,
            tile=(tile - rest) // multiple,
            overlap=-(-overlap // multiple),
        )
        spans = [
            Span(
                start=cell.start * multiple,
                stop=cell.stop * multiple,
                keep_start=cell.keep_start * multiple,
                keep_stop=cell.keep_stop * multiple,
            )
            for cell in cells
        ]
        return [*spans[:-1], replace(spans[-1], stop=length, keep_stop=length)]
    if overlap < 0:
        raise InputError(f"overlap must be 0 or more, got {overlap}.")
    if length <= tile:
        return [Span(start=0, stop=length, keep_start=0, keep_stop=length)]
    if tile <= 2 * overlap:
        raise InputError(
            f"A tile of {tile} pixels is too small for an overlap of {overlap} on each side; "
            f"use at least {2 * overlap + 1}, better {4 * overlap}."
        )
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
    """Yield each tile with the part of the result (B, C', h, w) that it contributes.

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
    multiple: int = 1,
    on_tile: TileProgress | None = None,
) -> Tensor:
    """The result (B, C', scale·H, scale·W) of ``function`` on ``lr`` (B, C, H, W), made in tiles.

    Equal to ``function(lr)`` up to float rounding when ``overlap`` is at least the radius, in LR
    pixels, over which ``function`` looks, and ``function`` does the same at each position.

    Raises:
        InputError: the tile is too small for the overlap, or ``function`` gave a wrong size.
    """
    tiles = plan_tiles((lr.shape[-2], lr.shape[-1]), tile=tile, overlap=overlap, multiple=multiple)
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


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a function looks: the ``radius`` in LR pixels, and the ``rest`` from beyond it.

    The rest is what an output changes by, as a share of the full range, when everything beyond
    the radius changes by the full range.
    """

    radius: int
    rest: float


def measure_reach(
    function: Callable[[Tensor], Tensor],
    lr: Tensor,
    *,
    scale: int,
    bound: float = 0.5 / 255,
    method: Literal["gradients", "perturbation"] = "gradients",
) -> Reach:
    """Return the effective receptive field of ``function`` at the middle of the image ``lr``.

    ``function`` maps (1, C, h, w) to (1, C', scale·h, scale·w); ``lr`` should hold something to
    see, a part of a photograph. The radius is the smallest beyond which the rest is at most
    ``bound`` (half a grey level).

    "gradients": the rest is the sum of the absolute derivatives of an output with respect to all
    samples beyond the radius, the largest over the colours and two opposite corners of the middle
    LR pixel; a linear estimate of the worst case. "perturbation": everything beyond the radius is
    inverted and the largest change of an output of the middle pixel is taken; for functions that
    have no derivative.

    Raises:
        InputError: ``lr`` is too small: the field fills more than three quarters of it.
    """
    height, width = lr.shape[-2:]
    row, column = height // 2, width // 2
    far = torch.maximum(
        (torch.arange(height, device=lr.device) - row).abs()[:, None],
        (torch.arange(width, device=lr.device) - column).abs()[None, :],
    )
    largest = 3 * min(row, column) // 4
    outputs = (slice(row * scale, (row + 1) * scale), slice(column * scale, (column + 1) * scale))
    rests: Iterable[float]
    if method == "gradients":
        rests = _rests_by_gradients(function, lr, outputs=outputs, far=far)
    else:
        rests = _rests_by_perturbation(function, lr, outputs=outputs, far=far, most=largest)
    for radius, rest in enumerate(rests):
        if rest <= bound and radius <= largest:
            return Reach(radius=radius, rest=rest)
    raise InputError(
        f"On an image of {width} x {height} pixels the reach of this network cannot be measured: "
        f"it is more than {largest} pixels. Give a larger part of an image."
    )


def _rests_by_gradients(
    function: Callable[[Tensor], Tensor], lr: Tensor, *, outputs: tuple[slice, slice], far: Tensor
) -> list[float]:
    """Return the rest beyond each radius 0, 1, 2 ..."""
    with torch.enable_grad():
        leaf = lr.detach().clone().requires_grad_()
        middle = function(leaf)[0, :, *outputs]
        largest = torch.zeros(int(far.max()) + 1, dtype=torch.float64, device=lr.device)
        for colour in middle:
            for corner in (0, -1):
                (slope,) = torch.autograd.grad(colour[corner, corner], leaf, retain_graph=True)
                rings = torch.zeros_like(largest)
                rings.index_add_(0, far.flatten(), slope.abs().double().sum((0, 1)).flatten())
                beyond = rings.flip(0).cumsum(0).flip(0)  # from each radius outwards, itself too
                largest = torch.maximum(largest, beyond)
    return [*largest[1:].tolist(), 0.0]


@torch.no_grad()
def _rests_by_perturbation(
    function: Callable[[Tensor], Tensor],
    lr: Tensor,
    *,
    outputs: tuple[slice, slice],
    far: Tensor,
    most: int,
) -> Iterator[float]:
    """Yield the rest beyond each radius 0, 1, 2 ... up to ``most``."""
    before = function(lr)[..., *outputs]
    for radius in range(most + 1):
        inverted = torch.where(far > radius, 1 - lr, lr)
        yield float((function(inverted)[..., *outputs] - before).abs().max())
