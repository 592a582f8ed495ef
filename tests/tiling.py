"""A function run on a whole batch in tiles, for the tests that tiled equals whole."""

from collections.abc import Callable

import torch
from torch import Tensor

from edgekeeper.ops.tiles import RowWindow, plan_tiles, tiled_bands


def run_tiled(
    function: Callable[[Tensor], Tensor],
    lr: Tensor,
    *,
    tile: int,
    overlap: int,
    scale: int,
    multiple: int = 1,
) -> Tensor:
    """Return the result (B, C', scale·H, scale·W) of ``function`` on ``lr`` (B, C, H, W), in tiles.

    Equal to ``function(lr)`` up to float rounding when ``overlap`` is at least the radius, in LR
    pixels, over which ``function`` looks, and ``function`` does the same at each position.
    Raises InputError: the tile is too small for the overlap, or ``function`` gave a wrong size.
    """
    grid = plan_tiles((lr.shape[-2], lr.shape[-1]), tile=tile, overlap=overlap, multiple=multiple)
    window = RowWindow(iter([lr]))
    bands = tiled_bands(lambda part, _: function(part), window, grid=grid, scale=scale)
    return torch.cat(list(bands), dim=-2)
