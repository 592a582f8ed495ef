"""LR images from HR images, each way under its own name; training draws its own.

``make_lr`` shrinks by a kernel. ``degrade_known`` does what networks and estimates are measured by:
Gaussian blur -> a smaller size by Pillow's bicubic -> normal noise -> JPEG, of known strength.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from edgekeeper.errors import InputError, check_choice
from edgekeeper.ops.blur import filter_each, gaussian_kernels
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.jpeg import jpeg
from edgekeeper.ops.resize import imresize, pillow_resize

LrKernel = Literal["matlab_uint8", "matlab_float", "pillow_bicubic", "pillow_bilinear", "box"]
LR_KERNELS: tuple[LrKernel, ...] = get_args(LrKernel)


def make_lr(hr: Tensor, *, scale: int, kernel: LrKernel) -> Tensor:
    """LR images (..., H / scale, W / scale) on the 1/255 grid from ``hr`` (..., H, W) in [0, 1].

    ``matlab_uint8``: bicubic as MATLAB's imresize on uint8 once did it: border samples repeated,
    rounding after each pass (the public Set5, Set14 and BSD100 LR files). ``matlab_float``: as on
    double: mirrored border, one rounding. ``pillow_bicubic``, ``pillow_bilinear``: Pillow's resize
    of uint8. ``box``: mean of each scale x scale block.
    Raises InputError: an unknown kernel, or sides that are no multiples of ``scale``.
    """
    check_choice("LR kernel", kernel, known=LR_KERNELS)
    height, width = hr.shape[-2], hr.shape[-1]
    if height % scale or width % scale or not height or not width:
        raise InputError(
            f"The HR image is {width}x{height}; for LR at scale {scale} both sides must be "
            f"multiples of {scale}. Crop the image first."
        )
    size = (height // scale, width // scale)
    if kernel == "matlab_uint8":
        return imresize(hr, size=size, boundary="replicate", quantise="uint8")
    if kernel == "matlab_float":
        return round_uint8(imresize(hr, size=size, boundary="symmetric", quantise="none"))
    if kernel in ("pillow_bicubic", "pillow_bilinear"):
        bicubic = kernel == "pillow_bicubic"
        return pillow_resize(hr, size=size, method="bicubic" if bicubic else "bilinear")
    blocks = hr.reshape(*hr.shape[:-2], size[0], scale, size[1], scale)
    return round_uint8(blocks.mean(dim=(-3, -1)))


def to_bytes(image: Tensor) -> Tensor:
    """Return the uint8 image of a float one in [0, 1] (round half away from zero, clipped)."""
    return (round_uint8(image) * 255).round().to(torch.uint8)


def crop_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """The top left part of ``image`` (..., H, W) whose sides are multiples of ``multiple``."""
    height, width = image.shape[-2], image.shape[-1]
    return image[..., : height - height % multiple, : width - width % multiple]


# ---- Degradations of known strength ---------------------------------------------------------

_REACH = 4  # standard deviations of the blur


@dataclass(frozen=True)
class KnownDegradation:
    """What is done to an image; 0 leaves a step out."""

    name: str
    blur: float = 0.0  # standard deviation in HR pixels
    noise: float = 0.0  # standard deviation in grey levels of 255, independent in each colour
    quality: int = 0  # of the JPEG at the end, with 4:2:0 subsampling


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
    check_choice("degradation", name, known=found)
    return found[name]


def degrade_known(hr: Tensor, known: KnownDegradation, *, scale: int = 4, seed: int = 0) -> Tensor:
    """Return the LR images (B, 3, H // scale, W // scale) on the grid of 1/255, of RGB in [0, 1].

    Every image of a batch gets the same noise field, that of NumPy's generator from ``seed``.
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
