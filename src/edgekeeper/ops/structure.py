"""Local statistics of pictures: variances of patches, Gaussian windows, the SSIM map."""

import functools
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.ops.taps import Taps, apply_taps

WindowBorder = Literal["valid", "zero", "symmetric"]


def _centred(patches: Tensor) -> Tensor:
    """Patches (B, C, nH, p, nW, p) minus the mean of each."""
    # Rows first: that sum runs along contiguous memory.
    mean = patches.sum(dim=3, keepdim=True).mean(dim=5, keepdim=True) / patches.shape[3]
    return patches - mean


class _Variance(torch.autograd.Function):
    """The unbiased variance of patches (B, C, nH, p, nW, p) -> (B, C, nH, nW)."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor) -> Tensor:
        """The variances, in two passes: E[x²] - E[x]² loses every digit on steep ramps."""
        ctx.save_for_backward(patches)
        samples = patches.shape[3] * patches.shape[5]
        return _centred(patches).square_().sum(dim=3).sum(dim=4).div_(samples - 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The derivative: 2 (x - mean) / (samples - 1)."""
        (patches,) = ctx.saved_tensors
        samples = patches.shape[3] * patches.shape[5]
        return _centred(patches) * (gradient * (2 / (samples - 1)))[:, :, :, None, :, None]


def patch_variances(
    x: Tensor, *, patch: int, remainder: Literal["drop", "refuse"] = "drop"
) -> Tensor:
    """The unbiased variance of each ``patch`` × ``patch`` block of ``x``, (B, C, nH, nW).

    Blocks do not overlap and start at the top left; each channel of ``x`` (B, C, H, W) by itself.
    Rows and columns that fill no block are dropped, or with ``remainder="refuse"`` an error.
    Gradient variance loss (Abrahamyan et al., ICASSP 2022, equation 1).

    Raises InputError for a wrong shape, a patch below 2 or larger than the picture.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise InputError(
            f"A tensor {tuple(x.shape)} of {x.dtype} was given where floating-point maps "
            "(B, C, H, W) are needed."
        )
    batch, channels, height, width = x.shape
    if not 2 <= patch <= min(height, width):
        raise InputError(
            f"The patch is {patch} pixels wide and the picture {height} × {width}; the patch must "
            "be at least 2 and no larger than the picture."
        )
    if remainder not in ("drop", "refuse"):
        raise InputError(f"remainder is 'drop' or 'refuse', not '{remainder}'.")
    rows, columns = height // patch, width // patch
    if remainder == "refuse" and (rows * patch, columns * patch) != (height, width):
        raise InputError(
            f"A picture of {height} × {width} pixels does not divide into patches of {patch}; "
            "crop it to a multiple, or allow remainder='drop'."
        )
    patches = x[..., : rows * patch, : columns * patch].reshape(
        batch, channels, rows, patch, columns, patch
    )
    variances: Tensor = _Variance.apply(patches)  # type: ignore[no-untyped-call]
    return variances


def gaussian_window(size: int = 11, sigma: float = 1.5) -> Tensor:
    """A Gaussian with sum 1, (size,) in float64; the square window is its outer product."""
    if size < 1 or size % 2 == 0 or not sigma > 0:
        raise InputError(
            f"A Gaussian window of size {size} and sigma {sigma} was asked for; the size must be "
            "odd and positive, sigma above 0."
        )
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    window = torch.exp(-(offset**2) / (2 * sigma**2))
    return window / window.sum()


@functools.lru_cache(maxsize=256)
def _window_taps(length: int, size: int, sigma: float, border: WindowBorder) -> Taps:
    """The Gaussian filter along an axis of ``length`` samples."""
    window = gaussian_window(size, sigma).numpy()
    first = 0 if border == "valid" else -(size // 2)
    rows = length - size + 1 if border == "valid" else length
    index = np.arange(rows)[:, None] + np.arange(first, first + size)
    weights = np.broadcast_to(window, index.shape)
    if border == "zero":
        weights = np.where((index >= 0) & (index < length), weights, 0.0)
        index = np.clip(index, 0, length - 1)
    elif border == "symmetric":
        index = index % (2 * length)
        index = np.where(index < length, index, 2 * length - 1 - index)
    return Taps(index, weights, columns=length)


def _blur(x: Tensor, *, size: int, sigma: float, border: WindowBorder) -> Tensor:
    """Maps (N, H, W) filtered by a Gaussian, the vertical pass first."""
    vertical = _window_taps(x.shape[-2], size, sigma, border)
    horizontal = _window_taps(x.shape[-1], size, sigma, border)
    return apply_taps(apply_taps(x, vertical, axis=-2), horizontal, axis=-1)


def ssim_map(
    x: Tensor, y: Tensor, *, data_range: float = 1.0, border: WindowBorder = "valid"
) -> Tensor:
    """The SSIM of ``x`` and ``y`` (B, C, H, W) at each pixel and channel, (B, C, H', W').

    Gaussian window 11 × 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, population variances (Wang et
    al., Image quality assessment, 2004, equation 13). ``border="valid"`` keeps whole windows only
    (10 rows and columns less); "zero" and "symmetric" keep the size.

    Raises InputError when the shapes or dtypes differ or, for "valid", a side is below 11.
    """
    if x.shape != y.shape or x.dtype != y.dtype or x.ndim != 4 or not x.is_floating_point():
        raise InputError(
            f"SSIM was given {tuple(x.shape)} {x.dtype} and {tuple(y.shape)} {y.dtype}; it needs "
            "two floating-point tensors (B, C, H, W) of the same shape and type."
        )
    if border not in ("valid", "zero", "symmetric"):
        raise InputError(f"border is 'valid', 'zero' or 'symmetric', not '{border}'.")
    height, width = x.shape[-2:]
    if border == "valid" and min(height, width) < 11:
        raise InputError(
            f"SSIM needs pictures of at least 11 × 11 pixels; this one has {height} × {width}."
        )
    first, second = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # Only the sum of the two variances is needed, so four maps are filtered and not five.
    maps = torch.stack((x, y, x * x + y * y, x * y)).flatten(0, 2)
    blurred = _blur(maps, size=11, sigma=1.5, border=border)
    mean_x, mean_y, squares, product = blurred.unflatten(0, (4, *x.shape[:2])).unbind(0)
    means = mean_x * mean_y
    energy = mean_x * mean_x + mean_y * mean_y
    covariance = product - means
    variances = squares - energy
    return ((2 * means + first) * (2 * covariance + second)) / (
        (energy + first) * (variances + second)
    )
