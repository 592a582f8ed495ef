"""Colour conversions with the coefficients that the papers' numbers depend on.

All tensors are floating point; RGB is (B, 3, H, W) in [0, 1]. Every conversion is an affine map
per pixel, so all are differentiable and none clamps.
"""

import math

import numpy as np
import torch
from torch import Tensor

from edgekeeper.errors import InputError

# ITU-R BT.601 studio range, as printed by MATLAB's rgb2ycbcr: rows Y, Cb, Cr for R, G, B.
_BT601 = (
    (65.481, 128.553, 24.966),
    (-37.797, -74.203, 112.0),
    (112.0, -93.786, -18.214),
)

_BT601_OFFSET = (16.0, 128.0, 128.0)

_TO_RGB: list[list[float]] = (np.linalg.inv(np.array(_BT601)) * 255).tolist()

_TO_RGB_OFFSET: list[float] = (-np.linalg.inv(np.array(_BT601)) @ np.array(_BT601_OFFSET)).tolist()

GV_GREY = (0.2989, 0.5870, 0.1140)

_EDSR_GREY = (65.738, 129.057, 25.064)


def _check(x: Tensor) -> None:
    """Raise InputError unless ``x`` has three channels of floating point."""
    if x.ndim < 3 or x.shape[-3] != 3 or not x.is_floating_point():
        raise InputError(
            f"A tensor {tuple(x.shape)} of {x.dtype} was given where three colour channels "
            "(B, 3, H, W) of floating point in [0, 1] are needed."
        )


def _weighted(x: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Return the weighted sum of the three channels, channel axis kept: (B, 1, H, W)."""
    red, green, blue = x.unbind(-3)
    total = (red * weights[0]).add(green, alpha=weights[1]).add(blue, alpha=weights[2])
    return total.unsqueeze(-3)


def rgb_to_y(x: Tensor) -> Tensor:
    """Luma (B, 1, H, W) in [16/255, 235/255] of RGB: BT.601 studio range, MATLAB's first channel.

    Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255 for R, G, B in [0, 1].
    """
    _check(x)
    red, green, blue = (weight / 255 for weight in _BT601[0])
    return _weighted(x, (red, green, blue)) + _BT601_OFFSET[0] / 255


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """Y, Cb, Cr (B, 3, H, W) of RGB: BT.601 studio range as MATLAB's ``rgb2ycbcr``, over 255.

    Y lies in [16/255, 235/255], Cb and Cr in [16/255, 240/255].
    """
    _check(x)
    channels = []
    for row, offset in zip(_BT601, _BT601_OFFSET, strict=True):
        red, green, blue = (weight / 255 for weight in row)
        channels.append(_weighted(x, (red, green, blue)) + offset / 255)
    return torch.cat(channels, dim=-3)


def ycbcr_to_rgb(x: Tensor) -> Tensor:
    """RGB (B, 3, H, W) of Y, Cb, Cr: the exact inverse of ``rgb_to_ycbcr``, not clamped."""
    _check(x)
    channels = []
    for (red, green, blue), shift in zip(_TO_RGB, _TO_RGB_OFFSET, strict=True):
        channels.append(_weighted(x, (red, green, blue)) + shift)
    return torch.cat(channels, dim=-3)


def rgb_to_grey_gv(x: Tensor) -> Tensor:
    """Grey (B, 1, H, W) as the gradient variance loss takes it: 0.2989 R + 0.5870 G + 0.1140 B.

    The coefficients sum to 0.9999; that is the published form and is kept.
    """
    _check(x)
    return _weighted(x, GV_GREY)


def rgb_to_grey_edsr(x: Tensor) -> Tensor:
    """Grey (B, 1, H, W) as EDSR's code takes it: (65.738 R + 129.057 G + 25.064 B) / 256."""
    _check(x)
    red, green, blue = (weight / 256 for weight in _EDSR_GREY)
    return _weighted(x, (red, green, blue))


def round_uint8(x: Tensor) -> Tensor:
    """``x`` clipped to [0, 1] and rounded to the grid of 1/255, halves upwards as in MATLAB.

    Any shape. The derivative is zero: quantise after the loss, not before it.
    """
    return x.clamp(0, 1).mul(255).add(0.5).floor().div(255)


# ---- How different two colours look: CIEDE2000 on sRGB ------------------------------------------
#
# Sharma, Wu, Dalal, "The CIEDE2000 Color-Difference Formula", Color Research and Application 2005,
# https://doi.org/10.1002/col.20070 (the numbers of the equations below are theirs).

# IEC 61966-2-1: linear sRGB to XYZ; the white is that of D65, 2 degrees.
_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)

_WHITE = (0.95047, 1.0, 1.08883)


def rgb_to_lab(x: Tensor) -> Tensor:
    """CIE L*a*b* (B, 3, H, W), float64, of sRGB (B, 3, H, W) in [0, 1]; the white is D65."""
    rgb = x.double()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4)
    matrix = torch.tensor(_TO_XYZ, dtype=torch.float64, device=x.device)
    white = torch.tensor(_WHITE, dtype=torch.float64, device=x.device)
    xyz = torch.einsum("ij,...jhw->...ihw", matrix / white[:, None], linear)
    small = 216 / 24389
    f = torch.where(xyz > small, xyz.clamp(min=small) ** (1 / 3), xyz * (24389 / 27 / 116) + 4 / 29)
    fx, fy, fz = f.unbind(-3)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)


def ciede2000(first: Tensor, second: Tensor) -> Tensor:
    """Return the difference (B, H, W), float64, of colours (B, 3, H, W) in CIE L*a*b*.

    About 1 is just noticeable side by side, 2 to 3 at a glance.
    """
    light1, a1, b1 = first.double().unbind(-3)
    light2, a2, b2 = second.double().unbind(-3)
    mean_chroma7 = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * torch.sqrt(mean_chroma7 / (mean_chroma7 + 25.0**7))  # 1 + G, eq. 4
    a1, a2 = a1 * stretch, a2 * stretch
    chroma1, chroma2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    hue1, hue2 = (torch.rad2deg(torch.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    colourless = chroma1 * chroma2 == 0
    turn = hue2 - hue1
    turn = turn - 360 * (turn > 180).double() + 360 * (turn < -180).double()  # eq. 10
    turn = torch.where(colourless, 0.0, turn)
    d_light, d_chroma = light2 - light1, chroma2 - chroma1
    d_hue = 2 * torch.sqrt(chroma1 * chroma2) * torch.sin(torch.deg2rad(turn / 2))  # eq. 11
    light, chroma = (light1 + light2) / 2, (chroma1 + chroma2) / 2
    total = hue1 + hue2  # the mean hue, eq. 14
    hue = torch.where((hue1 - hue2).abs() <= 180, total, total + 360 - 720 * (total >= 360)) / 2
    hue = torch.where(colourless, total, hue)

    def cosine(multiple: int, shift: float) -> Tensor:
        return torch.cos(torch.deg2rad(multiple * hue + shift))

    t = 1 - 0.17 * cosine(1, -30) + 0.24 * cosine(2, 0) + 0.32 * cosine(3, 6)
    t = t - 0.20 * cosine(4, -63)  # eq. 15
    away = (light - 50) ** 2
    s_light = 1 + 0.015 * away / torch.sqrt(20 + away)
    s_chroma, s_hue = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    angle = 60 * torch.exp(-(((hue - 275) / 25) ** 2))  # twice eq. 16
    weight = 2 * torch.sqrt(chroma**7 / (chroma**7 + 25.0**7))  # eq. 17
    rotation = -torch.sin(angle * (math.pi / 180)) * weight
    x, y, z = d_light / s_light, d_chroma / s_chroma, d_hue / s_hue
    return torch.sqrt((x**2 + y**2 + z**2 + rotation * y * z).clamp(min=0))


def colour_difference(first: Tensor, second: Tensor) -> Tensor:
    """CIEDE2000 (B, H, W), float64, between two sRGB images (B, 3, H, W) in [0, 1]."""
    return ciede2000(rgb_to_lab(first), rgb_to_lab(second))
