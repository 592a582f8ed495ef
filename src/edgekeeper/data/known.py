"""Degradations of known strength, to measure networks and estimates by; training draws its own.

HR image -> Gaussian blur -> a quarter of the size by Pillow's bicubic -> normal noise -> JPEG.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgekeeper.data.degrade import crop_to_multiple
from edgekeeper.errors import unknown_name
from edgekeeper.ops.blur import filter_each, gaussian_kernels
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.jpeg import jpeg
from edgekeeper.ops.resize import pillow_resize

_REACH = 4  # standard deviations of the blur


@dataclass(frozen=True)
class KnownDegradation:
    """What is done to an image; 0 leaves a step out.

    Attributes:
        blur: standard deviation in HR pixels.
        noise: standard deviation in grey levels of 255, independent in each colour.
        quality: of the JPEG at the end, with 4:2:0 subsampling.
    """

    name: str
    blur: float = 0.0
    noise: float = 0.0
    quality: int = 0


KNOWN: tuple[KnownDegradation, ...] = (
    KnownDegradation("clean"),
    KnownDegradation("jpeg90", quality=90),
    KnownDegradation("jpeg70", quality=70),
    KnownDegradation("camera", blur=1.2, noise=4, quality=70),
    KnownDegradation("noisy", noise=6, quality=70),
    KnownDegradation("strong", blur=2, noise=10, quality=40),
)
"""From a clean LR image to one that has been through a lot."""


def find_known(name: str) -> KnownDegradation:
    """Return the degradation of that name; raise InputError that names the nearest."""
    found = {known.name: known for known in KNOWN}
    if name not in found:
        raise unknown_name("degradation", name, known=list(found))
    return found[name]


def degrade_known(hr: Tensor, known: KnownDegradation, *, scale: int = 4, seed: int = 0) -> Tensor:
    """Return the LR images (B, 3, H // scale, W // scale) on the grid of 1/255.

    ``hr`` (B, 3, H, W) is RGB in [0, 1]. Every image of a batch gets the same noise field, that of
    NumPy's default generator from ``seed``.
    """
    x = round_uint8(crop_to_multiple(hr, scale))
    if known.blur:
        kernel = gaussian_kernels(
            sigma=np.full((1, 2), known.blur),
            angle=np.zeros(1),
            beta=np.ones(1),
            radius=int(np.ceil(_REACH * known.blur)),
        )
        x = round_uint8(filter_each(x, kernel.expand(len(x), -1, -1)))
    height, width = (side // scale for side in x.shape[-2:])
    x = pillow_resize(x, size=(height, width), method="bicubic")
    if known.noise:
        field = np.random.default_rng(seed).normal(0, known.noise / 255, (height, width, 3))
        x = round_uint8(x + torch.from_numpy(field).permute(2, 0, 1).to(x))
    return jpeg(x, quality=known.quality) if known.quality else x
