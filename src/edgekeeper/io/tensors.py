"""Pictures to tensors in [0, 1] and back, exactly rounded."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.io.picture import Picture, Pixels


def to_tensor(picture: Picture) -> Tensor:
    """The pixels as float32 (1, C, H, W) in [0, 1], C = 1 or 3 as stored; alpha is left out."""
    return _plane_tensor(picture.pixels)


def to_rgb_tensor(picture: Picture) -> Tensor:
    """The pixels as float32 RGB (1, 3, H, W) in [0, 1]; a grey picture is repeated three times."""
    tensor = to_tensor(picture)
    return tensor if tensor.shape[1] == 3 else tensor.repeat(1, 3, 1, 1)


def alpha_tensor(picture: Picture) -> Tensor:
    """The alpha as float32 (1, 1, H, W) in [0, 1], 0 is transparent.

    Raises:
        InputError: the picture has no alpha.
    """
    if picture.alpha is None:
        raise InputError("The picture has no alpha.")
    return _plane_tensor(picture.alpha[..., None])


def from_tensor(tensor: Tensor, *, depth: Literal[8, 16] = 8) -> Pixels:
    """The pixels (H, W, C), uint8 or uint16, of one picture (1, C, H, W), clipped to [0, 1].

    Halves are rounded away from zero. The product is taken in float64, where it is exact.

    Raises:
        InputError: the tensor is not one picture of floats, or holds a NaN or an infinity.
    """
    if tensor.ndim != 4 or tensor.shape[0] != 1 or not tensor.is_floating_point():
        raise InputError(
            f"from_tensor takes one float picture (1, C, H, W), "
            f"got {tuple(tensor.shape)} of {tensor.dtype}."
        )
    if not bool(torch.isfinite(tensor).all()):
        raise InputError("The picture holds values that are not finite (NaN or infinity).")
    exact = tensor.detach()[0].permute(1, 2, 0).cpu().double().clamp(0, 1)
    rounded = torch.floor(exact * (2**depth - 1) + 0.5).numpy()
    return rounded.astype(np.uint8) if depth == 8 else rounded.astype(np.uint16)


def _plane_tensor(samples: Pixels) -> Tensor:
    unit = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    return torch.from_numpy(unit).permute(2, 0, 1)[None].contiguous()
