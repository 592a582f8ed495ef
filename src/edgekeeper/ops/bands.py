"""Images that flow as bands of rows, so that no more of them is in memory than is needed.

A band is a float tensor (1, C, h, W); an image is an iterator of bands from the top down. What
works on bands gives the numbers that it would give on the whole image, up to float rounding.
"""

from collections import deque
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.ops.check import check_images
from edgekeeper.ops.resize import Axis, Taps, _matlab_taps, apply_taps
from edgekeeper.ops.tiles import RowWindow

# Rows that a resize makes at a time, and rows that it reads for them, about.
_MADE_ROWS = 64

_READ_ROWS = 256


def resize_bands(
    bands: Iterator[Tensor], *, size: tuple[int, int], to: tuple[int, int]
) -> Iterator[Tensor]:
    """Bands of the image ``imresize(image, size=to)``, of bands of an image of ``size``.

    Sizes are (height, width). The result has at most 64 rows a band. What is read and what is
    made at a time does not grow with the height.
    """
    (height, width), (rows, columns) = size, to
    across = _matlab_taps(width, columns, columns / width, "symmetric")
    down = _matlab_taps(height, rows, rows / height, "symmetric")
    # Shrinking goes across first, band by band, so that fewer columns wait in the window.
    if columns < width:
        bands = (_along(band, across, axis=-1) for band in bands)
    window = RowWindow(bands)
    step = max(1, min(_MADE_ROWS, _READ_ROWS * rows // height))
    # Reflected rows at the bottom may lie above those of an earlier band in tiny images.
    first = np.minimum.accumulate(down.index.min(axis=1)[::-1])[::-1]
    for start in range(0, rows, step):
        index = down.index[start : start + step]
        above, below = int(first[start]), int(index.max()) + 1
        taps = Taps(index - above, down.weights[start : start + step], columns=below - above)
        band = _along(window.rows(above, below), taps, axis=-2)
        yield band if columns < width else _along(band, across, axis=-1)


def _along(band: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    return apply_taps(band[0].contiguous(), taps, axis=axis)[None]


# ---- Colours for pixels that have none to show, taken from around them --------------------------

# Side of the largest blocks over which colours are spread; rows of context that a band needs
BLOCK = 64

# Pixels this near to something visible take the colour of their visible neighbours, not a block's.
_NEAR = 4


def fill_hidden(colours: Tensor, alpha: Tensor) -> Tensor:
    """Colours (1, C, H, W) with the fully transparent pixels filled from what is visible near them.

    ``alpha`` is (1, 1, H, W) in [0, 1]; where it is above 0 nothing changes. Up to four pixels
    from something visible a pixel takes the mean of its neighbours, weighted by alpha; further
    away that of the smallest block of 2, 4, ... 64 pixels around it, or of the eight blocks of 64
    around that. What is further away than this from anything visible keeps what is stored there.

    Blocks begin at the first row and column; cut at a multiple of ``BLOCK`` with ``BLOCK`` rows of
    context, an image is filled as the whole one is.
    """
    check_images(colours, name="colours", valued=True)
    check_images(alpha, name="alpha", axes="B, 1, H, W", valued=True)
    if bool((alpha > 0).all()) or not bool((alpha > 0).any()):
        return colours
    height, width = alpha.shape[-2:]
    stored = torch.where(alpha > 0, colours, 0) * alpha
    near, near_known = _from_neighbours(stored, alpha)
    blocks, blocks_known = _from_blocks(stored, alpha)
    blocks, blocks_known = (x[..., :height, :width] for x in (blocks, blocks_known))
    filled = torch.where(blocks_known, blocks, colours)
    filled = torch.where(near_known, near, filled)
    return torch.where(alpha > 0, colours, filled)


def fill_bands(bands: Iterator[Tensor], *, height: int) -> Iterator[Tensor]:
    """Bands (1, C + 1, h, W), alpha last, with the colours filled as ``fill_hidden`` does."""
    window = RowWindow(bands)
    for start in range(0, height, BLOCK):
        stop = min(start + BLOCK, height)
        above = max(start - BLOCK, 0)
        part = window.rows(above, min(stop + BLOCK, height))
        own = part[..., start - above : stop - above, :]
        if bool((own[:, -1:] > 0).all()):
            yield own
            continue
        filled = fill_hidden(part[:, :-1], part[:, -1:])[..., start - above : stop - above, :]
        yield torch.cat([filled, own[:, -1:]], dim=1)


def _from_neighbours(stored: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Colours spread from pixel to pixel, and where there are any."""
    colours = stored / weight.clamp(min=1e-12)
    for _ in range(_NEAR):
        around = F.avg_pool2d(weight, 3, stride=1, padding=1)
        mixed = F.avg_pool2d(colours * weight, 3, stride=1, padding=1) / around.clamp(min=1e-12)
        new = (weight == 0) & (around > 0)
        colours = torch.where(new, mixed, colours)
        weight = torch.where(new, around, weight)
    return colours, weight > 0


def _from_blocks(stored: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The mean colour of the smallest block with anything visible in it, and where there is one."""
    height, width = weight.shape[-2:]
    missing = (0, -width % BLOCK, 0, -height % BLOCK)
    levels = [(F.pad(stored, missing), F.pad(weight, missing))]
    while 2 ** (len(levels) - 1) < BLOCK:
        levels.append((F.avg_pool2d(levels[-1][0], 2), F.avg_pool2d(levels[-1][1], 2)))
    top, top_weight = (F.avg_pool2d(x, 3, stride=1, padding=1) for x in levels[-1])
    colours, known = top / top_weight.clamp(min=1e-12), top_weight > 0
    for level, (sums, weights) in enumerate(reversed(levels)):
        if level:
            colours, known = (
                x.repeat_interleave(2, -2).repeat_interleave(2, -1) for x in (colours, known)
            )
        colours = torch.where(weights > 0, sums / weights.clamp(min=1e-12), colours)
        known = known | (weights > 0)
    return colours, known


# ---- Colours and alpha, apart and together again -------------------------------------------------


def split_alpha(bands: Iterator[Tensor]) -> tuple[Iterator[Tensor], Iterator[Tensor]]:
    """Return colours and alpha of bands: two images that are read in turns.

    What one of them has read further waits for the other.
    """
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

    return half(0), half(1)


def join_alpha(colours: Iterator[Tensor], alpha: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield colours and alpha of one size as one image again."""
    window, row = RowWindow(alpha), 0
    for band in colours:
        below = row + band.shape[-2]
        yield torch.cat([band, window.rows(row, below)], dim=1)
        row = below
        del band
