"""Run a network on RGB: the one place that knows luma networks, layout, precision and clamping."""

from typing import Literal

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.models import SRModel
from edgekeeper.ops.color import rgb_to_ycbcr, ycbcr_to_rgb
from edgekeeper.ops.resize import imresize

Precision = Literal["float32", "bfloat16"]


@torch.inference_mode()
def infer(
    model: SRModel,
    lr: Tensor,
    *,
    precision: Precision = "float32",
    clamp: Literal["unit", "none"] = "unit",
) -> Tensor:
    """The SR pictures (B, 3, scale·H, scale·W), float32 RGB, of LR pictures (B, 3, H, W) in [0, 1].

    A luma network works on Y; Cb and Cr are enlarged by MATLAB's bicubic, as in the papers.
    ``precision="bfloat16"`` runs convolutions in bfloat16 (autocast, channels last);
    ``clamp="none"`` leaves values outside [0, 1] as the network gave them.

    Raises:
        InputError: ``lr`` is not a float RGB batch.
    """
    if lr.ndim != 4 or lr.shape[1] != 3 or not lr.is_floating_point():
        raise InputError(
            f"infer takes a float RGB batch (B, 3, H, W) in [0, 1]; "
            f"got {tuple(lr.shape)} of {lr.dtype}."
        )
    if model.channels == "y":
        ycbcr = rgb_to_ycbcr(lr)
        y = _forward(model, ycbcr[:, :1], precision)
        chroma = imresize(ycbcr[:, 1:], scale=model.scale)
        sr = ycbcr_to_rgb(torch.cat([y, chroma], dim=1))
    else:
        sr = _forward(model, lr, precision)
    return sr.clamp(0, 1) if clamp == "unit" else sr


def _forward(model: SRModel, lr: Tensor, precision: Precision) -> Tensor:
    if precision == "float32":
        return model(lr).float()  # type: ignore[no-any-return]
    with torch.autocast(lr.device.type, dtype=torch.bfloat16):
        return model(lr.contiguous(memory_format=torch.channels_last)).float()  # type: ignore[no-any-return]
