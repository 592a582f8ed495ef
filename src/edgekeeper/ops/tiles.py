"""Large images in tiles: planned so that the tiled result equals the whole one.

Each tile is read with ``overlap`` LR pixels around the part that it contributes; at the border of
the image it ends at the border, so that the network pads there as it pads the whole image.
Two neighbours are cut in the middle of the zone that both have read. With ``overlap`` at least
the receptive field's radius no contributed pixel has seen a cut, and nothing needs blending.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import psutil
import torch
from torch import Tensor

from edgekeeper.errors import InputError

COPYING = ("cuda",)  # kinds of devices that copy while they compute

# LR pixels on the left, on the right, above and below, in the order of ``F.pad``
Sides = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Seams:
    """The largest difference between tiled and whole in grey levels of 255, and how it was made."""

    levels: float
    tile: int
    overlap: int

    @property
    def is_seamless(self) -> bool:
        """Whether no value moves by more than ``ALLOWED_LEVELS``."""
        return self.levels <= ALLOWED_LEVELS


ALLOWED_LEVELS = 0.5  # the largest difference that tiles may make anywhere, in grey levels of 255


@dataclass(frozen=True, kw_only=True)
class Span:
    """One axis of a tile in LR pixels: what is read, and the part of it that is kept.

    ``before`` and ``after`` are the pixels of replicated border where it ends with the image.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int
    before: int = 0
    after: int = 0

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

    @property
    def border(self) -> Sides:
        """The replicated border that the network sees around it."""
        return self.columns.before, self.columns.after, self.rows.before, self.rows.after


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The tiles of an image: each span of rows with each span of columns."""

    rows: list[Span]
    columns: list[Span]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        for rows in self.rows:
            yield from (Tile(rows=rows, columns=columns) for columns in self.columns)


def plan_tiles(
    size: tuple[int, int],
    *,
    tile: int,
    overlap: int,
    multiple: int = 1,
    border: int = 0,
    rows: int | None = None,
) -> Grid:
    """Return the fewest tiles that cover an image of ``size`` (height, width).

    All read boxes of the same shape, as small as so many can be and at most ``tile`` x ``tile`` LR
    pixels, or ``rows`` of them high. The kept parts cover each pixel once and have at least
    ``overlap`` read pixels around them, less at the image's border. For ``multiple`` and ``border``
    see ``plan_axis``.
    Raises InputError: the image is empty, or a tile keeps nothing between its overlaps.
    """
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"An image of {height} x {width} pixels has no tiles.")

    def spans(length: int, side: int) -> list[Span]:
        return plan_axis(length, tile=side, overlap=overlap, multiple=multiple, border=border)

    return Grid(rows=spans(height, tile if rows is None else rows), columns=spans(width, tile))


def plan_axis(
    length: int, *, tile: int, overlap: int, multiple: int = 1, border: int = 0
) -> list[Span]:
    """Return the spans of one axis of ``length`` LR pixels, as in ``plan_tiles``.

    Spans begin at multiples of ``multiple`` and are as long, but for what is left at the end:
    networks that look at groups of pixels then see the groups that they see in the whole image.
    The first and the last have ``border`` replicated pixels (a multiple of ``multiple``).
    Raises InputError: a tile keeps nothing between its overlaps.
    """
    if multiple > 1 and length > tile:
        rest = length % multiple
        cells = plan_axis(
            length // multiple, tile=(tile - rest) // multiple, overlap=-(-overlap // multiple)
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
        spans[-1] = replace(spans[-1], stop=length, keep_stop=length)
    else:
        spans = _even_spans(length, tile=tile, overlap=overlap)
    spans[0] = replace(spans[0], before=border)
    spans[-1] = replace(spans[-1], after=border)
    return spans


def _even_spans(length: int, *, tile: int, overlap: int) -> list[Span]:
    if overlap < 0:
        raise InputError(f"overlap must be 0 or more, got {overlap}.")
    if length <= tile:
        return [Span(start=0, stop=length, keep_start=0, keep_stop=length)]
    if tile <= 2 * overlap:
        raise InputError(
            f"A tile of {tile} pixels is too small for an overlap of {overlap} on each side; "
            f"use at least {2 * overlap + 1}, better {4 * overlap}."
        )
    steps = -(-(length - tile) // (tile - 2 * overlap))
    tile = -(-(length + 2 * overlap * steps) // (steps + 1))  # no larger than so many need be
    slack = length - tile
    starts = [slack * index // steps for index in range(steps + 1)]
    cuts = [(left + tile + right) // 2 for left, right in pairwise(starts)]
    return [
        Span(start=start, stop=start + tile, keep_start=first, keep_stop=last)
        for start, first, last in zip(starts, [0, *cuts], [*cuts, length], strict=True)
    ]


class RowWindow:
    """Rows of an image that arrives in bands: windows whose first row never decreases."""

    def __init__(self, bands: Iterator[Tensor]) -> None:
        self._bands = bands
        self._held: deque[Tensor] = deque()
        self._first = self._stop = 0  # the rows that are held

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows (B, C, stop - start, W) from ``start``; earlier ones are forgotten.

        Raises InputError: the rows were forgotten, or the bands end before ``stop``.
        """
        if start < self._first:
            raise InputError(f"Row {start} was asked for after row {self._first} was left behind.")
        self._forget(start)
        while self._stop < stop:
            band = next(self._bands, None)
            if band is None:
                raise InputError(f"An image ended at row {self._stop}, before row {stop}.")
            self._held.append(band)
            self._stop += band.shape[-2]
            del band
            self._forget(start)
        parts, row = [], self._first
        for band in self._held:
            parts.append(band[..., max(start - row, 0) : max(stop - row, 0), :])
            row += band.shape[-2]
        parts = [part for part in parts if part.shape[-2]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)

    def _forget(self, start: int) -> None:
        while self._held and self._first + self._held[0].shape[-2] <= start:
            self._first += self._held.popleft().shape[-2]


def tiled_bands(
    function: Callable[[Tensor, Tile], Tensor],
    window: RowWindow,
    *,
    grid: Grid,
    scale: int,
    pool: Executor | None = None,
    on_tile: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """Yield the result of ``function`` as bands (B, C', h, scale·W), one for each row of tiles.

    ``window`` gives the rows of the image; ``function`` maps what is read of a tile (B, C, h, w)
    to (B, C', scale·h, scale·w). A thread of ``pool`` makes the next tile while the last one is
    taken; ``on_tile`` is called after each, by the caller's.
    Raises InputError: ``function`` gave another size than that.
    """
    band = torch.empty(0)
    for tile, result in _made(function, window, grid=grid, pool=pool):
        on_tile()
        rows, columns = tile.rows, tile.columns
        read = rows.stop - rows.start, columns.stop - columns.start
        expected = (read[0] * scale, read[1] * scale)
        if tuple(result.shape[-2:]) != expected:
            raise InputError(
                f"The network made {tuple(result.shape[-2:])} of a tile of {read}; at scale "
                f"{scale} it must be {expected}."
            )
        if columns is grid.columns[0]:
            height = (rows.keep_stop - rows.keep_start) * scale
            shape = (*result.shape[:2], height, grid.columns[-1].stop * scale)
            band = torch.empty(shape, dtype=result.dtype)
        kept = to_host(result[..., rows.crop(scale=scale), columns.crop(scale=scale)])
        band[..., columns.kept(scale=scale)] = kept
        del result, kept
        if columns is grid.columns[-1]:
            yield band
            band = torch.empty(0)  # not kept while the next is made


def to_host(x: Tensor) -> Tensor:
    """Return ``x``, which is finished, on the processor, copied while its device computes."""
    if x.device.type not in COPYING:
        return x.cpu()
    # In pinned memory, of which PyTorch keeps what is free again: two buffers, taking turns.
    with torch.cuda.stream(stream := _copies(x.device)):
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=torch.cuda.is_available())
        host.copy_(x, non_blocking=True)
        stream.synchronize()
    return host


@functools.cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _made(
    function: Callable[[Tensor, Tile], Tensor],
    window: RowWindow,
    *,
    grid: Grid,
    pool: Executor | None,
) -> Iterator[tuple[Tile, Tensor]]:
    """Yield the tiles and what ``function`` makes of them, of which ``pool`` makes one ahead."""
    ahead: deque[tuple[Tile, Future[Tensor]]] = deque()
    for rows in grid.rows:
        part = window.rows(rows.start, rows.stop)  # (B, C, h, W)
        for columns in grid.columns:
            tile, box = Tile(rows=rows, columns=columns), part[..., columns.box]  # (B, C, h, w)
            if pool is None:
                yield tile, function(box, tile)
                continue
            ahead.append((tile, pool.submit(function, box, tile)))
            if len(ahead) > 1:
                done, future = ahead.popleft()
                yield done, future.result()
        del part, box
    for done, future in ahead:
        yield done, future.result()


# ---- How large a tile may be --------------------------------------------------------------------

# More than any network measured needs for an LR pixel of a tile, in float32 on a CPU: DGGGAN with
# body="lr" 30,784 bytes, RRDB for x4 12,500, VDSR 11,600, EDSR-baseline 9,000, the light EDSR that
# ships 1,200.
MOST_PIXEL_BYTES = 32_000


def tile_side(
    tile: int | Literal["auto"], *, overlap: int, size: tuple[int, int], device: torch.device
) -> int:
    """Return the side of a tile in LR pixels of an image of ``size`` (height, width).

    For "auto" 384 to 512, wasting less than half on overlap, or less when memory is short. On a
    CPU PyTorch's rate falls above 384 pixels, OpenVINO's not; a balanced network of which 256 are
    read spends a seventh more on overlap than of 384.
    Raises InputError: a number that leaves nothing between the overlaps.
    """
    if tile == "auto":
        side = max(384, min(8 * overlap, 512), 4 * overlap)
        free, least = free_bytes(device), 3 * overlap + 64
        while (
            side > least and min(side, size[0]) * min(side, size[1]) * MOST_PIXEL_BYTES >= free // 2
        ):
            side = max(side * 2 // 3, least)
        return min(side, max(size))
    if tile <= 2 * overlap:
        raise InputError(
            f"A tile of {tile} pixels is too small: this network looks {overlap} pixels around. "
            f"Use at least {2 * overlap + 1}, better {4 * overlap}, or 'auto'."
        )
    return min(tile, max(size))


def free_bytes(device: torch.device) -> int:
    """Return the memory that can still be had on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return min([int(psutil.virtual_memory().available), *_left_in_container()])


def _left_in_container(folder: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return what is left of a container's limit, if there is one: psutil does not know it."""
    try:
        limit, used = ((folder / name).read_text() for name in ("memory.max", "memory.current"))
        return [max(int(limit) - int(used), 0)]
    except (OSError, ValueError):  # no such file, or the limit is "max"
        return []


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


@functools.cache
def probe_tile() -> Tensor:
    """Return waves and noise (1, 3, 128, 128), which lose in bfloat16 what photographs lose."""
    y, x = torch.arange(128.0)[:, None], torch.arange(128.0)
    waves = torch.stack([(y / a + x / b).sin() for a, b in ((9, 7), (15, 11), (33, 26))])
    noise = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    return (0.5 + 0.35 * waves + 0.03 * noise).clamp_(0, 1)
