"""The mean profile across the edges of an original, and of results at the same places."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

REACH = 8  # pixels on either side of an edge

_EDGES = 64  # of an image and direction, the strongest
_APART = 9  # pixels within which the strongest stands for all
_LEAST = 16 / 255  # grey levels from one side of an edge to the other

_Floats = NDArray[np.float64]


def edge_profiles(hr: Tensor, images: list[Tensor]) -> tuple[_Floats, int]:
    """Return sums of profiles (1 + images, 2 REACH + 1) across edges of ``hr``, and their number.

    All are grey (1, 1, H, W) of one size; the first profile is the original's. Each edge rises
    from 0 to 1, the least and the greatest value of the original's profile; below 0 and above 1 is
    overshoot. Lines run across or down, where the gradient is strongest.
    """
    total, number = np.zeros((1 + len(images), 2 * REACH + 1)), 0
    both = torch.cat([hr, *images]).double()[:, 0]  # (1 + images, H, W)
    for stack in (both, both.transpose(1, 2)):
        if min(stack.shape[1:]) < 2 * REACH + 3:
            continue
        slope = torch.zeros_like(stack[0])  # (H, W): central differences along rows
        slope[:, REACH:-REACH] = (stack[0, :, 2:] - stack[0, :, :-2])[:, REACH - 1 : 1 - REACH]
        size = slope.abs()[None, None]
        peaks = torch.where(max_pool2d(size, _APART, 1, _APART // 2) == size, size, 0.0)[0, 0]
        for place in peaks.flatten().topk(min(_EDGES, peaks.numel())).indices.tolist():
            row, column = divmod(place, peaks.shape[1])
            if not peaks[row, column]:
                break
            lines = stack[:, row, column - REACH : column + REACH + 1]
            low, high = lines[0].min(), lines[0].max()
            if high - low < _LEAST:
                break
            scaled = ((lines - low) / (high - low)).numpy()
            total += scaled if slope[row, column] > 0 else scaled[:, ::-1]
            number += 1
    return total, number
