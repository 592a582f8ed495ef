"""Photographs turned, stretched and recoloured: other directions and colours than they were in.

The eight symmetries of training leave the edges of a wall upright or level, and grass green. A
hundred photographs, each turned by six angles, taught `balanced_x4` more than a hundred alone
(docs/diary.md).
"""

import math
from pathlib import Path

import numpy as np
import pyvips
import torch
from torch import Tensor

from edgekeeper.image import read_image

_ANGLE, _STRETCH = 45.0, 0.3  # at most: degrees, logarithm of width over height
_SIDES = 448, 860  # of the long side


def turned_photograph(path: Path, *, seed: int, number: int) -> Tensor:
    """Return a part of the photograph ``path``, turned and shrunk: (1, 3, H, W) in [0, 1], float32.

    A function of (seed, name of the file, number). Of three, two have their colours exchanged, two
    another gamma, and of seven one is a negative. Raises ImageError: the file cannot be read.
    """
    random = np.random.default_rng([seed, number, *path.name.encode()])
    side, angle = random.uniform(*_SIDES), math.radians(random.uniform(-_ANGLE, _ANGLE))
    stretch = math.exp(random.uniform(-_STRETCH, _STRETCH) / 2)
    pixels = np.atleast_3d(read_image(path).pixels)[..., :3]
    image = pyvips.Image.new_from_array(pixels).colourspace("srgb").cast("uchar", shift=True)
    factor = 2.2 * side / max(image.width, image.height)  # resampled at twice the size
    image = image.resize(min(1.0, factor), kernel="lanczos3")
    sine, cosine = math.sin(angle), math.cos(angle)
    matrix = [cosine * stretch, -sine / stretch, sine * stretch, cosine / stretch]
    whole = image.affine(matrix, interpolate=pyvips.Interpolate.new("bicubic"))
    inside = _inscribed(image.width * stretch, image.height / stretch, abs(sine), abs(cosine))
    width, height = (max(1, int(length) - 8) for length in inside)
    part = whole.crop((whole.width - width) // 2, (whole.height - height) // 2, width, height)
    part = part.resize(min(1.0, side / max(width, height)), kernel="lanczos3")
    x = part.numpy().astype(np.float32) / 255  # (H, W, 3)
    if random.random() < 2 / 3:
        x = x[..., random.permutation(3)]
    if random.random() < 2 / 3:
        x = x ** np.float32(math.exp(random.uniform(-0.4, 0.4)))
    if random.random() < 1 / 7:
        x = 1 - x
    return torch.from_numpy(x.transpose(2, 0, 1).copy())[None]


def _inscribed(width: float, height: float, sine: float, cosine: float) -> tuple[float, float]:
    """Return the sides of the largest upright rectangle in a turned one."""
    long, short = max(width, height), min(width, height)
    if short <= 2 * sine * cosine * long or abs(sine - cosine) < 1e-9:  # touches two sides only
        half = short / 2
        upright = half / max(sine, 1e-9), half / cosine
        return upright if width >= height else upright[::-1]
    both = cosine**2 - sine**2
    return (width * cosine - height * sine) / both, (height * cosine - width * sine) / both
