"""The official EDSR. Its layers work on 0..255, ours on [0, 1].

ReLU and sums follow a factor, so with all biases over 255 every map is the official one over
255: the same network, and its weights stay as they were trained.
"""

import re
from pathlib import Path

import torch

from edgekeeper.errors import CheckpointError
from edgekeeper.models import EDSR, SRModel
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.published.filling import PARTS, Tensors, check_names, choose_scale, fill, parts

RESIDUAL_SCALES = {64: 1.0, 256: 0.1}  # the published EDSRs by width


def recognises(tensors: Tensors) -> bool:
    """Whether these are tensors of the official EDSR, or of a network that begins as it does."""
    return "head.0.weight" in tensors


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """The EDSR with these weights; raises CheckpointError that says what does not fit."""
    indices = [int(m[1]) for name in tensors if (m := re.match(r"body\.(\d+)\.body\.", name))]
    blocks = max(indices, default=-1) + 1
    width = tensors["head.0.weight"].shape[0] if "head.0.weight" in tensors else 64
    first = tensors.get("tail.0.0.weight", torch.empty(0, 1))
    found = 4 if "tail.0.2.weight" in tensors else (len(first) / first.shape[1]) ** 0.5
    scale = choose_scale(scale, found=found, origin=origin)
    steps = {"tail.0.0": "upsampler.0"}
    if scale == 4:
        steps["tail.0.2"] = "upsampler.2"
    layers = {"head.0": "head", f"body.{blocks}": "after_blocks", **steps}
    layers["tail.1"] = f"upsampler.{2 * len(steps)}"
    for block in range(blocks):
        layers[f"body.{block}.body.0"] = f"blocks.{block}.conv1"
        layers[f"body.{block}.body.2"] = f"blocks.{block}.conv2"
    names = parts(layers)
    shifts = {f"{name}.{part}": "" for name in ("sub_mean", "add_mean") for part in PARTS}
    check_names(tensors, names | shifts, origin=origin)
    _check_mean(tensors, origin=origin)
    if width not in RESIDUAL_SCALES:
        raise CheckpointError(
            f"'{origin}' is an EDSR of width {width}; its residual scale is not in the file and "
            "known only for the published widths 64 and 256."
        )
    model = EDSR(scale=scale, width=width, blocks=blocks, residual_scale=RESIDUAL_SCALES[width])
    adapted = {
        name: tensor / 255 if name.endswith(".bias") else tensor
        for name, tensor in tensors.items()
        if name not in shifts
    }
    fill(model, adapted, names=names, origin=origin)
    return model


def _check_mean(tensors: Tensors, *, origin: Path) -> None:
    """Raise CheckpointError unless the mean-shift layers are those of EDSR on 0..255."""
    mean = 255 * torch.tensor(DIV2K_MEAN)
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        weight, bias = tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()
        if not (
            torch.equal(weight.reshape(-1), torch.eye(3).reshape(-1))
            and bias.shape == mean.shape
            and torch.allclose(bias, sign * mean, atol=1e-2)
        ):
            raise CheckpointError(
                f"'{origin}': {name} is not the official EDSR's shift by DIV2K's mean colour on "
                f"0..255 (bias {bias.tolist()}); edgekeeper's EDSR subtracts that mean."
            )
