"""Run a network on RGB: the one place that knows luma networks, layout, precision and clamping."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.models import SRModel
from edgekeeper.models.sftgan import taking_maps
from edgekeeper.ops.color import rgb_to_ycbcr, ycbcr_to_rgb
from edgekeeper.ops.resize import imresize

Precision = Literal["float32", "bfloat16"]
Layout = Literal["as given", "channels last"]


@torch.inference_mode()
def infer(
    model: SRModel,
    lr: Tensor,
    *,
    maps: Tensor | None = None,
    precision: Precision = "float32",
    clamp: Literal["unit", "none"] = "unit",
    layout: Layout = "as given",
) -> Tensor:
    """The SR pictures (B, 3, scale·H, scale·W), float32 RGB, of LR pictures (B, 3, H, W) in [0, 1].

    The network runs in evaluation mode and is left in the mode it was in. A luma network works on
    Y; Cb and Cr are enlarged by MATLAB's bicubic, as in the papers.
    ``precision="bfloat16"`` runs convolutions in bfloat16 (autocast, channels last);
    ``clamp="none"`` leaves values outside [0, 1] as the network gave them. ``layout`` is that of
    the network's input in float32: "channels last" is faster, and may change the last bits.
    ``maps`` are those of ``SFTGAN.with_conditions``, which is then called.

    Raises:
        InputError: ``lr`` is not a float RGB batch, or the network takes no such maps.
    """
    check_batch(lr)
    if model.channels == "y":
        ycbcr = rgb_to_ycbcr(lr)
        y = _forward(model, ycbcr[:, :1], maps, precision, layout)
        chroma = imresize(ycbcr[:, 1:], scale=model.scale)
        sr = ycbcr_to_rgb(torch.cat([y, chroma], dim=1))
    else:
        sr = _forward(model, lr, maps, precision, layout)
    return sr.clamp(0, 1) if clamp == "unit" else sr


def check_batch(lr: Tensor) -> None:
    """Nothing; raise InputError unless ``lr`` is a float RGB batch."""
    if lr.ndim != 4 or lr.shape[1] != 3 or not lr.is_floating_point():
        raise InputError(
            f"infer takes a float RGB batch (B, 3, H, W) in [0, 1]; "
            f"got {tuple(lr.shape)} of {lr.dtype}."
        )


def _forward(
    model: SRModel, lr: Tensor, maps: Tensor | None, precision: Precision, layout: Layout
) -> Tensor:
    reduced = precision == "bfloat16"
    if reduced or layout == "channels last":
        lr = lr.contiguous(memory_format=torch.channels_last)
    with (
        _evaluation(model),
        torch.autocast(lr.device.type, dtype=torch.bfloat16) if reduced else nullcontext(),
    ):
        if maps is not None:
            return taking_maps(model).with_conditions(lr, maps).float()
        return model(lr).float()  # type: ignore[no-any-return]


@contextmanager
def _evaluation(model: SRModel) -> Iterator[None]:
    """The network in evaluation mode, and afterwards each part in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
