"""VDSR from other programs: the official MATLAB file, and PyTorch's without biases."""

from pathlib import Path
from typing import Literal

from edgekeeper.errors import CheckpointError
from edgekeeper.models import VDSR, SRModel
from edgekeeper.models.vdsr import DEPTH
from edgekeeper.pretrained.layers import Tensors, check_names, choose_scale, fill


def recognises_official(tensors: Tensors) -> bool:
    """Return whether these are the arrays of ``VDSR_Official.mat``."""
    return "model.weight.0" in tensors


def recognises_pytorch(tensors: Tensors) -> bool:
    """Return whether these are tensors of a VDSR in PyTorch."""
    return "input.weight" in tensors


def load_official(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the official VDSR, whose layers have biases; one file for all scales."""
    scale = choose_scale(scale, found=None, origin=origin)
    model = VDSR(scale=scale, variant="y", bias="all")
    names = {}
    for index, layer in enumerate([*(f"hidden.{i}" for i in range(DEPTH - 1)), "last"]):
        names[f"model.weight.{index}"] = f"{layer}.weight"
        names[f"model.bias.{index}"] = f"{layer}.bias"
    adapted = {}
    for name, tensor in tensors.items():  # kernels: height, width, in, out; biases: out, 1
        kernel = tensor.unsqueeze(-1) if tensor.ndim == 3 else tensor  # MATLAB drops a last 1
        adapted[name] = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.flatten()
    fill(model, adapted, names=names, origin=origin)
    return model


def load_pytorch(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """VDSR without biases; the colours in and out say which variant; any scale."""
    scale = choose_scale(scale, found=None, origin=origin)
    names = {f"residual_layer.{i}.conv.weight": f"hidden.{i + 1}.weight" for i in range(DEPTH - 2)}
    names |= {"input.weight": "hidden.0.weight", "output.weight": "last.weight"}
    check_names(tensors, names, origin=origin)
    variants: dict[tuple[int, int], Literal["y", "gv", "rgb"]]
    variants = {(1, 1): "y", (3, 1): "gv", (3, 3): "rgb"}
    colours = (tensors["input.weight"].shape[1], tensors["output.weight"].shape[0])
    if colours not in variants:
        raise CheckpointError(
            f"'{origin}' is a VDSR with {colours[0]} channels in and {colours[1]} out; "
            "edgekeeper has 1 and 1, 3 and 1, 3 and 3."
        )
    variant = variants[colours]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear" if variant == "gv" else "bicubic"
    model = VDSR(scale=scale, variant=variant, interpolation=interpolation)
    fill(model, tensors, names=names, origin=origin)
    return model
