"""Shapes of generalised Gaussians, found by the nearest entry of a table of moments.

For the density exp(-|x/s|^g): E[x²] / E[|x|]² = G(1/g) G(3/g) / G(2/g)², which falls with g.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

STEPS = 1000  # entries per unit of the shape; the largest shape is 10


def nearest_shape(
    ratio: Tensor,
    *,
    of: Literal["square over mean", "mean over square"],
    smallest: Literal[30, 200] = 200,
) -> Tensor:
    """The shapes (N,) whose ratio of moments is nearest to ``ratio`` (N,), in steps of 0.001.

    of: "square over mean" compares E[x²] / E[|x|]², "mean over square" its inverse; the nearest
    entry is not always the same. ``smallest`` is the first shape in thousandths, the last is 10.
    NaN gives the first shape, as the search of the published code does.
    """
    grid, table = _table(smallest, of)
    wanted = ratio.double().cpu()
    if of == "square over mean":  # negated, so that it grows
        wanted, table = -wanted, -table
    after = torch.searchsorted(table, wanted.nan_to_num(0.0)).clamp(1, len(table) - 1)
    nearer = (table[after] - wanted).abs() < (table[after - 1] - wanted).abs()
    shape = grid[torch.where(nearer, after, after - 1)]
    return torch.where(wanted.isnan(), grid[0], shape).to(ratio.device)


@lru_cache(maxsize=4)
def _table(smallest: int, of: str) -> tuple[Tensor, Tensor]:
    """Return the shapes and their ratios."""
    grid = torch.from_numpy(np.arange(smallest, 10 * STEPS + 1) / STEPS)
    logarithm = torch.lgamma(1 / grid) + torch.lgamma(3 / grid) - 2 * torch.lgamma(2 / grid)
    return grid, torch.exp(logarithm if of == "square over mean" else -logarithm)
