"""One level of the stationary wavelet transform with the symlet of seven vanishing moments."""

from typing import NamedTuple

import torch
from torch import Tensor, fft
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.ops.check import check_images

# The low-pass of sym7 (Daubechies, "Ten Lectures on Wavelets", 1992, table 6.3, up to its scale):
# sum sqrt(2), orthonormal to its even shifts.
SYM7 = (
    0.002681814568257878,
    -0.0010473848886829163,
    -0.01263630340325193,
    0.03051551316596357,
    0.0678926935013727,
    -0.049552834937127255,
    0.017441255086855827,
    0.5361019170917628,
    0.767764317003164,
    0.2886296317515146,
    -0.14004724044296152,
    -0.10780823770381774,
    0.004010244871533663,
    0.010268176708511255,
)


class WaveletBands(NamedTuple):
    """The four bands of images, each (B, C, H, W) and as large as they: first across, then down.

    ``lh`` is smooth across and detail down (horizontal edges), ``hl`` the other way round.
    """

    ll: Tensor
    lh: Tensor
    hl: Tensor
    hh: Tensor


def wavelet_bands(x: Tensor) -> WaveletBands:
    """Return the bands of each channel of ``x`` (B, C, H, W), which repeats beyond its border.

    Nothing is left out between pixels, so the bands move with the image and hold four times its
    energy; a constant c gives 2c in ``ll`` and 0 elsewhere. Raises InputError for a wrong shape or
    dtype (half precision too) and for images with a side below 14, the filter's length.
    """
    check_images(x)
    known = x.dtype in (torch.float32, torch.float64)
    if not known or min(x.shape[-2:]) < len(SYM7):
        raise InputError(
            f"A tensor {tuple(x.shape)} of {x.dtype} was given where images (B, C, H, W) of "
            f"float32 or float64 and at least {len(SYM7)} × {len(SYM7)} pixels are needed."
        )
    height, width = x.shape[-2:]
    # The filters repeat as the images do, so a product of spectra is the whole convolution.
    across = fft.rfft(_filters(width, like=x))  # (low and high, W / 2 + 1)
    down = fft.fft(_filters(height, like=x))  # (low and high, H)
    response = across[:, None, None, :] * down[None, :, :, None]  # across, down, H, W / 2 + 1
    spectrum = fft.rfft2(x)[:, :, None, None] * response
    bands = fft.irfft2(spectrum, s=(height, width))  # (B, C, across, down, H, W)
    return WaveletBands(bands[:, :, 0, 0], bands[:, :, 0, 1], bands[:, :, 1, 0], bands[:, :, 1, 1])


def _filters(length: int, *, like: Tensor) -> Tensor:
    """Return the low-pass and the high-pass, (2, length), their eighth tap at 0."""
    low = torch.tensor(SYM7, dtype=like.dtype, device=like.device)
    signs = torch.tensor([-1.0, 1.0] * 7, dtype=like.dtype, device=like.device)
    both = torch.stack([low, low.flip(0) * signs])
    return functional.pad(both, (0, length - len(SYM7))).roll(-7, 1)
