"""LR images from HR images, each way under its own name."""

from typing import Literal, get_args

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.resize import imresize, pillow_resize

LrKernel = Literal["matlab_uint8", "matlab_float", "pillow_bicubic", "pillow_bilinear", "box"]
LR_KERNELS: tuple[LrKernel, ...] = get_args(LrKernel)


def make_lr(hr: Tensor, *, scale: int, kernel: LrKernel) -> Tensor:
    """LR images (..., H / scale, W / scale) on the 1/255 grid from ``hr`` (..., H, W) in [0, 1].

    ``matlab_uint8``: bicubic as MATLAB's imresize on uint8 once did it: border samples repeated,
    rounding after each of the two passes (the public Set5, Set14 and BSD100 LR files).
    ``matlab_float``: bicubic as MATLAB's imresize on double: mirrored border, one rounding.
    ``pillow_bicubic``, ``pillow_bilinear``: Pillow's resize of uint8. ``box``: mean of each
    scale x scale block. H and W must be multiples of ``scale``.
    """
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
    if kernel == "pillow_bicubic":
        return pillow_resize(hr, size=size, method="bicubic")
    if kernel == "pillow_bilinear":
        return pillow_resize(hr, size=size, method="bilinear")
    if kernel == "box":
        blocks = hr.reshape(*hr.shape[:-2], size[0], scale, size[1], scale)
        return round_uint8(blocks.mean(dim=(-3, -1)))
    raise InputError(f"The LR kernel is '{kernel}'; allowed are {', '.join(LR_KERNELS)}.")


def to_bytes(image: Tensor) -> Tensor:
    """Return the uint8 image of a float one in [0, 1] (round half away from zero, clipped)."""
    return (round_uint8(image) * 255).round().to(torch.uint8)


def crop_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """The top left part of ``image`` (..., H, W) whose sides are multiples of ``multiple``."""
    height, width = image.shape[-2], image.shape[-1]
    return image[..., : height - height % multiple, : width - width % multiple]
