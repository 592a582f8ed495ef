r"""An image as bands of rows, and the stages it flows through: network, exact resize, rounding.

read -> [fill under alpha] -> network, network ... -> exact resize -> round -> write
                           \-> alpha: exact resize ---------------/
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.image import Pixels
from edgekeeper.inference.categories import CategoryMap
from edgekeeper.inference.enlarger import Enlarger
from edgekeeper.inference.memory import BAND_BYTES
from edgekeeper.ops.bands import RowWindow, fill_bands, resize_bands
from edgekeeper.ops.tiles import Span, plan_axis

# Samples that are rounded at a time: as many as stay in the processor's cache.
_ROUNDED = 2**20


@dataclass(frozen=True, kw_only=True)
class Rows:
    """An image of ``size`` (height, width) and ``channels`` as float bands (1, C, h, W)."""

    size: tuple[int, int]
    channels: int
    bands: Iterator[Tensor]


def to_rows(parts: Iterable[Pixels], *, size: tuple[int, int], channels: int) -> Rows:
    """Float rows in [0, 1] of integer rows (h, W, C)."""

    def bands() -> Iterator[Tensor]:
        for samples in parts:
            unit = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
            yield torch.from_numpy(unit).permute(2, 0, 1)[None].contiguous()

    return Rows(size=size, channels=channels, bands=bands())


def from_rows(rows: Rows, *, depth: Literal[8, 16]) -> Iterator[Pixels]:
    """Integer rows (h, W, C) of float rows, clipped to [0, 1], halves rounded upwards."""
    top = 2**depth - 1
    step = max(1, _ROUNDED // (rows.size[1] * rows.channels))
    for band in rows.bands:
        for start in range(0, band.shape[-2], step):
            part = band[0, :, start : start + step]
            exact = part.permute(1, 2, 0).mul(top).add_(0.5).clamp_(0, top)
            if depth == 8:
                yield exact.to(torch.uint8).contiguous().numpy()
            else:
                yield exact.contiguous().numpy().astype(np.uint16)
        del band, part  # not kept while the next is made


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a network's pass over an image is cut: spans of rows, each with spans of columns."""

    rows: list[Span]
    columns: list[Span]

    @property
    def count(self) -> int:
        """The number of tiles."""
        return len(self.rows) * len(self.columns)


def plan_grid(
    size: tuple[int, int],
    *,
    side: int,
    overlap: int,
    scale: int,
    channels: int,
    multiple: int = 1,
) -> Grid:
    """Return the tiles of a pass, at most ``side`` LR pixels wide and high.

    They are lower where a band of ``BAND_BYTES`` cannot hold that many rows, but keep at least
    as many rows as they overlap, and eight.
    """
    height, width = size
    row_bytes = 4 * channels * width * scale**2
    kept = max(BAND_BYTES // row_bytes, overlap, 8)
    return Grid(
        rows=plan_axis(
            height, tile=min(side, kept + 2 * overlap), overlap=overlap, multiple=multiple
        ),
        columns=plan_axis(width, tile=side, overlap=overlap, multiple=multiple),
    )


def enlarge_rows(
    rows: Rows,
    *,
    enlarger: Enlarger,
    grid: Grid,
    on_tile: Callable[[], None],
    categories: CategoryMap | None = None,
) -> Rows:
    """Yield the rows of a network's result; ``on_tile`` is called after each tile.

    ``categories`` is the map of the whole image, of which each tile gets its part.

    Raises:
        InputError: the network gave a tile of another size than its scale says.
    """
    scale = enlarger.model.scale
    width = rows.size[1]

    def maps(span: Span, across: Span) -> Tensor | None:
        if categories is None:
            return None
        return categories.cut(span.box, across.box, size=rows.size, scale=scale)

    def bands() -> Iterator[Tensor]:
        window = RowWindow(rows.bands)
        for span in grid.rows:
            part = window.rows(span.start, span.stop)
            if enlarger.precision is None:
                across = _liveliest(part, grid.columns)
                enlarger.probe(part[..., across.box], maps=maps(span, across))
            height = (span.keep_stop - span.keep_start) * scale
            band = torch.empty(1, rows.channels, height, width * scale)
            for across in grid.columns:
                result = _checked(enlarger, part[..., across.box], maps(span, across))
                kept = result[..., span.crop(scale=scale), across.crop(scale=scale)]
                band[..., across.kept(scale=scale)] = kept
                on_tile()
            del part, result, kept
            yield band
            del band  # not kept while the next is made

    size = (rows.size[0] * scale, width * scale)
    return Rows(size=size, channels=rows.channels, bands=bands())


def resize_rows(rows: Rows, *, size: tuple[int, int]) -> Rows:
    """The rows of the image resized exactly, by the bicubic interpolation of ``imresize``."""
    if size == rows.size:
        return rows
    return replace(rows, size=size, bands=resize_bands(rows.bands, size=rows.size, to=size))


def split_alpha(rows: Rows) -> tuple[Rows, Rows]:
    """Colours, filled where nothing is visible, and alpha: two images that are read in turns.

    What one of them has read further waits for the other.
    """
    bands = fill_bands(rows.bands, height=rows.size[0])
    waiting: tuple[deque[Tensor], deque[Tensor]] = (deque(), deque())

    def half(which: Literal[0, 1]) -> Iterator[Tensor]:
        while True:
            if not waiting[which]:
                band = next(bands, None)
                if band is None:
                    return
                waiting[0].append(band[:, :-1].clone())
                waiting[1].append(band[:, -1:].clone())
                del band
            yield waiting[which].popleft()

    colours = replace(rows, channels=rows.channels - 1, bands=half(0))
    return colours, replace(rows, channels=1, bands=half(1))


def join_alpha(colours: Rows, alpha: Rows) -> Rows:
    """Colours and alpha of one size as one image again."""

    def bands() -> Iterator[Tensor]:
        window, row = RowWindow(alpha.bands), 0
        for band in colours.bands:
            below = row + band.shape[-2]
            yield torch.cat([band, window.rows(row, below)], dim=1)
            row = below
            del band

    return replace(colours, channels=colours.channels + 1, bands=bands())


def _liveliest(part: Tensor, columns: list[Span]) -> Span:
    """Return the columns of the tile with the most to see."""
    spread = [float(part[..., across.box].std(correction=0)) for across in columns]
    return columns[spread.index(max(spread))]


def _checked(enlarger: Enlarger, tile: Tensor, maps: Tensor | None) -> Tensor:
    result, scale = enlarger(tile, maps=maps), enlarger.model.scale
    expected = (tile.shape[-2] * scale, tile.shape[-1] * scale)
    if tuple(result.shape[-2:]) != expected:
        raise InputError(
            f"The network made {tuple(result.shape[-2:])} of a tile of "
            f"{tuple(tile.shape[-2:])}; at scale {scale} it must be {expected}."
        )
    return result
