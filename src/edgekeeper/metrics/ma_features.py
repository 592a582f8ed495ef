"""The features of Ma's score that need no training: local frequency and singular values.

Ma, Yang, Yang, Yang, "Learning a No-Reference Quality Metric for Single-Image Super-Resolution",
Computer Vision and Image Understanding 158, 2017, sections 3.1 and 3.3.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.metrics.shapes import nearest_shape

SCALES = 3
WINDOW, STRIDE = 7, 3  # pixels of a side of the windows of f1, and between them
PATCH = 5  # pixels of a side of the patches of f3

# Orientation of the coefficients of a 7 x 7 DCT; A horizontal, B diagonal, C vertical.
_ORIENTATIONS = (
    "-AAAAAA",
    "CBAAAAA",
    "CCBBAAA",
    "CCBBBAA",
    "CCCBBBB",
    "CCCCBBB",
    "CCCCBBB",
)


def pyramid(grey: Tensor) -> list[Tensor]:
    """Return the image (H, W), then twice blurred and halved: three of them.

    3 x 3 Gaussian of sigma 0.5 with zeros around; rows and columns 2, 4, ... are kept.
    """
    found = [grey]
    side = math.exp(-2.0)  # exp(-1 / (2 * 0.5²))
    window = torch.tensor([side, 1.0, side], dtype=grey.dtype, device=grey.device)
    window = window / window.sum()
    for _ in range(SCALES - 1):
        padded = functional.pad(found[-1], (1, 1, 1, 1))
        rows = window[0] * (padded[:-2] + padded[2:]) + window[1] * padded[1:-1]
        blurred = window[0] * (rows[:, :-2] + rows[:, 2:]) + window[1] * rows[:, 1:-1]
        found.append(blurred[1::2, 1::2])
    return found


def frequency_features(grey: Tensor) -> Tensor:
    """f1 of one scale, (6,) float64, of an image (H, W) in [0, 1].

    Of every 7 x 7 window of a 3 x 3 block the DCT without its constant; pooled over windows, as
    the mean of the most extreme tenth and the mean of all: the shape of a generalised Gaussian
    (lowest tenth), the relative deviation of the sizes (highest), and how much that deviation
    differs between three orientations (highest).
    """
    coefficients = _windows(grey.double()) @ _transform().T.to(grey.device)  # (windows, 49)
    alternating = coefficients[:, 1:]
    shape = generalised_shape(alternating)
    sizes = alternating.abs()
    deviation = _relative_deviation(sizes, epsilon=1e-7)
    orientation = torch.stack(
        [_relative_deviation(sizes[:, group], epsilon=1e-8) for group in _groups()]
    ).var(dim=0)
    return torch.stack(
        [
            _lowest(shape),
            shape.mean(),
            _highest(deviation),
            deviation.mean(),
            _highest(orientation),
            orientation.mean(),
        ]
    )


def generalised_shape(values: Tensor) -> Tensor:
    """Return the shape of the generalised Gaussian of each row of ``values`` (N, samples), (N,).

    The one of 0.03, 0.031 .. 10 whose ratio of variance to squared mean size is nearest.
    """
    centred = values - values.mean(dim=1, keepdim=True)
    ratio = values.var(dim=1) / (centred.abs().mean(dim=1).square() + 1e-7)
    return nearest_shape(ratio, of="square over mean", smallest=30)


def singular_values(grey: Tensor) -> Tensor:
    """f3 of one scale, (25,) float64: singular values of the 5 x 5 patches of (H, W) in [0, 1].

    The patches do not overlap; zeros fill the last ones. Fewer than 25 patches have as many
    singular values, and zeros follow.
    """
    height, width = grey.shape
    padded = functional.pad(grey.double(), (0, -width % PATCH, 0, -height % PATCH))
    patches = padded.unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH).reshape(-1, PATCH * PATCH)
    # Through a QR decomposition the tall matrix of a large image becomes 25 x 25 first.
    small = torch.linalg.qr(patches, mode="r").R if len(patches) > PATCH * PATCH else patches
    found = torch.linalg.svdvals(small)
    return functional.pad(found, (0, PATCH * PATCH - len(found)))


def _windows(grey: Tensor) -> Tensor:
    """The windows (count, 49), each row by row; zeros fill the border and the last blocks."""
    height, width = grey.shape
    border = (WINDOW - STRIDE) // 2
    padded = functional.pad(
        grey, (border, border + -width % STRIDE, border, border + -height % STRIDE)
    )
    windows = padded.unfold(0, WINDOW, STRIDE).unfold(1, WINDOW, STRIDE)
    return windows.reshape(-1, WINDOW * WINDOW)


def _relative_deviation(values: Tensor, *, epsilon: float) -> Tensor:
    return values.std(dim=1) / (values.mean(dim=1) + epsilon)


def _lowest(values: Tensor) -> Tensor:
    return values.sort().values[: math.ceil(len(values) / 10)].mean()


def _highest(values: Tensor) -> Tensor:
    first = max(len(values) * 9 // 10, 1)  # counted from 1
    return values.sort().values[first - 1 :].mean()


@lru_cache(maxsize=1)
def _transform() -> Tensor:
    """Return the orthonormal 2-D DCT of a flattened window, (49, 49) float64."""
    n = np.arange(WINDOW)
    matrix = np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / (2 * WINDOW)) * math.sqrt(2 / WINDOW)
    matrix[0] /= math.sqrt(2)
    return torch.from_numpy(np.kron(matrix, matrix))


@lru_cache(maxsize=1)
def _groups() -> tuple[Tensor, ...]:
    """For each orientation the positions of its coefficients among the 48."""
    names = "".join(_ORIENTATIONS)[1:]
    return tuple(torch.tensor([k for k, name in enumerate(names) if name == g]) for g in "ABC")
