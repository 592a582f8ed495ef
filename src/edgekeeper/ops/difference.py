"""How different two colours look: CIEDE2000 on sRGB.

Sharma, Wu, Dalal, "The CIEDE2000 Color-Difference Formula", Color Research and Application 2005,
https://doi.org/10.1002/col.20070 (the numbers of the equations below are theirs).
"""

import math

import torch
from torch import Tensor

# IEC 61966-2-1: linear sRGB to XYZ; the white is that of D65, 2 degrees.
_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169),
           (0.019334, 0.119193, 0.950227))  # fmt: skip
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
    """The difference (B, H, W), float64, of colours (B, 3, H, W) in CIE L*a*b*.

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
    """CIEDE2000 (B, H, W), float64, between two sRGB pictures (B, 3, H, W) in [0, 1]."""
    return ciede2000(rgb_to_lab(first), rgb_to_lab(second))
