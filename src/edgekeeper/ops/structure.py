"""Local statistics of images: variances of patches and windows, Gaussian windows, SSIM map."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError, check_choice
from edgekeeper.ops.check import check_images

WindowBorder = Literal["valid", "zero", "symmetric"]

_STRIP_PIXELS = 2**18


def _centred(patches: Tensor) -> Tensor:
    """Patches (B, C, nH, p, nW, p) minus the mean of each."""
    # Rows first: that sum runs along contiguous memory.
    mean = patches.sum(dim=3, keepdim=True).mean(dim=5, keepdim=True) / patches.shape[3]
    return patches - mean


class _Variance(torch.autograd.Function):
    """The unbiased variance of patches (B, C, nH, p, nW, p) -> (B, C, nH, nW)."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor) -> Tensor:
        """Return the variances, in two passes: E[x²] - E[x]² loses every digit on steep ramps."""
        ctx.save_for_backward(patches)
        samples = patches.shape[3] * patches.shape[5]
        return _centred(patches).square_().sum(dim=3).sum(dim=4) / (samples - 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the derivative: 2 (x - mean) / (samples - 1)."""
        patches: Tensor = ctx.saved_tensors[0]
        samples = patches.shape[3] * patches.shape[5]
        return _centred(patches) * (gradient * (2 / (samples - 1)))[:, :, :, None, :, None]


def patch_variances(x: Tensor, *, patch: int) -> Tensor:
    """Return the unbiased variance of each ``patch`` × ``patch`` block of ``x``, (B, C, nH, nW).

    Blocks do not overlap and start at the top left; each channel of ``x`` (B, C, H, W) by itself.
    Rows and columns that fill no block are dropped.
    Gradient variance loss (Abrahamyan et al., ICASSP 2022, equation 1).

    Raises InputError for a wrong shape, a patch below 2 or larger than the image.
    """
    check_images(x)
    batch, channels, height, width = x.shape
    if not 2 <= patch <= min(height, width):
        raise InputError(
            f"The patch is {patch} pixels wide and the image {height} × {width}; the patch must "
            "be at least 2 and no larger than the image."
        )
    rows, columns = height // patch, width // patch
    patches = x[..., : rows * patch, : columns * patch].reshape(
        batch, channels, rows, patch, columns, patch
    )
    if torch.compiler.is_compiling():
        return _centred(patches).square().sum(dim=3).sum(dim=4) / (patch * patch - 1)
    variances: Tensor = _Variance.apply(patches)  # type: ignore[no-untyped-call]
    return variances


def local_variance(x: Tensor, *, window: int) -> Tensor:
    """Return the unbiased variance of the ``window`` × ``window`` pixels around each, (B, C, H, W).

    Of each channel of ``x`` by itself, mirrored at the border without repeating the last pixel.
    Raises InputError for a wrong shape, an even window, or an image that cannot be mirrored so far.
    """
    check_images(x)
    radius = window // 2
    if window < 3 or window % 2 == 0:
        raise InputError(f"The window is {window} pixels wide; an odd window from 3 on is needed.")
    if min(x.shape[-2:]) <= radius:
        raise InputError(
            f"Images of {x.shape[-2]} × {x.shape[-1]} pixels are too small for a window of "
            f"{window}; both sides must be at least {radius + 1}."
        )
    # E[x²] - E[x]² keeps its digits when the image's own mean is gone.
    x = functional.pad(x - x.mean(dim=(2, 3), keepdim=True), (radius,) * 4, mode="reflect")
    mean = functional.avg_pool2d(x, window, stride=1)
    squares = functional.avg_pool2d(x.square(), window, stride=1)
    return (squares - mean.square()).clamp_min(0) * (window**2 / (window**2 - 1))


def gaussian_window(size: int = 11, sigma: float = 1.5) -> Tensor:
    """Return a Gaussian of sum 1, (size,) float64, for its outer product. Raises InputError."""
    if size < 1 or size % 2 == 0 or not sigma > 0:
        raise InputError(
            f"A Gaussian window of size {size} and sigma {sigma} was asked for; the size must be "
            "odd and positive, sigma above 0."
        )
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    window = torch.exp(-(offset**2) / (2 * sigma**2))
    return window / window.sum()


_WINDOW: tuple[float, ...] = tuple(gaussian_window().tolist())


def _blur_valid(x: Tensor) -> Tensor:
    """``x`` filtered by the SSIM window, whole windows only, as shifted slices."""
    for dim in (-2, -1):
        length = x.shape[dim] - len(_WINDOW) + 1
        total = x.narrow(dim, 0, length) * _WINDOW[0]
        for shift in range(1, len(_WINDOW)):
            total.add_(x.narrow(dim, shift, length), alpha=_WINDOW[shift])
        x = total
    return x


class _Blur(torch.autograd.Function):
    """The SSIM window's filter, whole windows only, with a derivative that costs as much.

    The window is symmetric, so the transposed operation is the same filter on the gradient
    padded by zeros.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _blur_valid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _blur(functional.pad(gradient, (10, 10, 10, 10)))


def _blur(x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return _blur_valid(x)
    result: Tensor = _Blur.apply(x)  # type: ignore[no-untyped-call]
    return result


def _pad(x: Tensor, *, border: WindowBorder) -> Tensor:
    """``x`` with half a window added on each side, or ``x`` itself for "valid"."""
    if border == "valid":
        return x
    if border == "zero":
        return functional.pad(x, (5, 5, 5, 5))
    for dim in (-2, -1):  # half-sample symmetric: the edge sample is repeated
        length = x.shape[dim]
        index = torch.arange(-5, length + 5, device=x.device) % (2 * length)
        x = x.index_select(dim, torch.minimum(index, 2 * length - 1 - index))
    return x


def _ssim_valid(x: Tensor, y: Tensor, *, data_range: float) -> Tensor:
    first, second = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    energy = mean_x * mean_x + mean_y * mean_y
    means = mean_x * mean_y
    covariance = _blur(x * y) - means
    # Only the sum of the two variances is needed: four filters and not five.
    variances = _blur(x * x + y * y) - energy
    luminance = (2 * means + first) / (energy + first)
    return luminance * ((2 * covariance + second) / (variances + second))


def ssim_map(
    x: Tensor, y: Tensor, *, data_range: float = 1.0, border: WindowBorder = "valid"
) -> Tensor:
    """Return the SSIM of ``x`` and ``y`` (B, C, H, W) at each pixel and channel, (B, C, H', W').

    Gaussian window 11 × 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, population variances (Wang et
    al., Image quality assessment, 2004, equation 13). ``border="valid"`` keeps whole windows only
    (10 rows and columns less); "zero" and "symmetric" keep the size.

    Raises InputError when the shapes or dtypes differ or, for "valid", a side is below 11.
    """
    check_images(x)
    check_images(y, name="y")
    if x.shape != y.shape or x.dtype != y.dtype:
        raise InputError(
            f"SSIM was given {tuple(x.shape)} {x.dtype} and {tuple(y.shape)} {y.dtype}; it needs "
            "two floating-point tensors (B, C, H, W) of the same shape and type."
        )
    check_choice("border", border, known=("valid", "zero", "symmetric"))
    height, width = x.shape[-2:]
    if border == "valid" and min(height, width) < 11:
        raise InputError(
            f"SSIM needs images of at least 11 × 11 pixels; this one has {height} × {width}."
        )
    x, y = _pad(x, border=border), _pad(y, border=border)
    if torch.compiler.is_compiling() or (
        torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    ):
        return _ssim_valid(x, y, data_range=data_range)
    # Strip by strip the dozen maps in between stay in the cache and the memory small.
    rows, margin = x.shape[-2] - 10, 10
    strip = max(64, _STRIP_PIXELS * x.shape[-2] // max(x.numel(), 1))
    strips = [
        _ssim_valid(
            x[..., top : top + strip + margin, :],
            y[..., top : top + strip + margin, :],
            data_range=data_range,
        )
        for top in range(0, rows, strip)
    ]
    return strips[0] if len(strips) == 1 else torch.cat(strips, dim=-2)
