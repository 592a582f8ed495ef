"""Colour conversions with the coefficients that the papers' numbers depend on.

All tensors are floating point; RGB is (B, 3, H, W) in [0, 1]. Every conversion is an affine map
per pixel, so all are differentiable and none clamps.
"""

import numpy as np
import torch
from torch import Tensor

from edgekeeper.ops.check import check_images

# ITU-R BT.601 studio range, as printed by MATLAB's rgb2ycbcr: rows Y, Cb, Cr for R, G, B.
_BT601 = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))

_BT601_OFFSET = (16.0, 128.0, 128.0)

_TO_RGB: list[list[float]] = (np.linalg.inv(np.array(_BT601)) * 255).tolist()

_TO_RGB_OFFSET: list[float] = (-np.linalg.inv(np.array(_BT601)) @ np.array(_BT601_OFFSET)).tolist()

GV_GREY = (0.2989, 0.5870, 0.1140)

# The first row of the inverse of NTSC's YIQ, which MATLAB's rgb2gray takes.
_MATLAB_GREY = (0.298936021293775, 0.587043074451121, 0.114020904255103)

_EDSR_GREY = (65.738, 129.057, 25.064)


def _weighted(x: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Return the weighted sum of the three channels, channel axis kept: (B, 1, H, W)."""
    red, green, blue = x.unbind(-3)
    total = (red * weights[0]).add(green, alpha=weights[1]).add(blue, alpha=weights[2])
    return total.unsqueeze(-3)


def rgb_to_y(x: Tensor) -> Tensor:
    """Luma (B, 1, H, W) in [16/255, 235/255] of RGB: BT.601 studio range, MATLAB's first channel.

    Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255 for R, G, B in [0, 1].
    """
    check_images(x, axes="..., 3, H, W")
    red, green, blue = (weight / 255 for weight in _BT601[0])
    return _weighted(x, (red, green, blue)) + _BT601_OFFSET[0] / 255


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """Y, Cb, Cr (B, 3, H, W) of RGB: BT.601 studio range as MATLAB's ``rgb2ycbcr``, over 255.

    Y lies in [16/255, 235/255], Cb and Cr in [16/255, 240/255].
    """
    check_images(x, axes="..., 3, H, W")
    channels = []
    for row, offset in zip(_BT601, _BT601_OFFSET, strict=True):
        red, green, blue = (weight / 255 for weight in row)
        channels.append(_weighted(x, (red, green, blue)) + offset / 255)
    return torch.cat(channels, dim=-3)


def ycbcr_to_rgb(x: Tensor) -> Tensor:
    """RGB (B, 3, H, W) of Y, Cb, Cr: the exact inverse of ``rgb_to_ycbcr``, not clamped."""
    check_images(x, axes="..., 3, H, W")
    channels = []
    for (red, green, blue), shift in zip(_TO_RGB, _TO_RGB_OFFSET, strict=True):
        channels.append(_weighted(x, (red, green, blue)) + shift)
    return torch.cat(channels, dim=-3)


def rgb_to_grey_gv(x: Tensor) -> Tensor:
    """Grey (B, 1, H, W) as the gradient variance loss takes it: 0.2989 R + 0.5870 G + 0.1140 B.

    The coefficients sum to 0.9999; that is the published form and is kept.
    """
    check_images(x, axes="..., 3, H, W")
    return _weighted(x, GV_GREY)


def rgb_to_grey_matlab(x: Tensor) -> Tensor:
    """Grey (B, 1, H, W) in [0, 1] as MATLAB's ``rgb2gray`` takes it, with all its digits."""
    check_images(x, axes="..., 3, H, W")
    return _weighted(x, _MATLAB_GREY)


def rgb_to_grey_edsr(x: Tensor) -> Tensor:
    """Grey (B, 1, H, W) as EDSR's code takes it: (65.738 R + 129.057 G + 25.064 B) / 256."""
    check_images(x, axes="..., 3, H, W")
    red, green, blue = (weight / 256 for weight in _EDSR_GREY)
    return _weighted(x, (red, green, blue))


def round_uint8(x: Tensor) -> Tensor:
    """``x`` clipped to [0, 1] and rounded to the grid of 1/255, halves upwards as in MATLAB.

    Any shape. The derivative is zero: quantise after the loss, not before it.
    """
    check_images(x, axes="...")
    return x.clamp(0, 1).mul(255).add(0.5).floor().div(255)
