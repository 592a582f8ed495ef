"""What a tensor must be that is taken for images: asked by operations, losses and metrics."""

import torch
from torch import Tensor

from edgekeeper.errors import InputError


def check_images(
    x: object, *, name: str = "x", axes: str = "B, C, H, W", valued: bool = False
) -> None:
    """Raise InputError unless ``x`` is a dense tensor of floats with these axes.

    axes: names, numbers where only one size is right, "..." first for any further ones. valued:
    whether a tensor on the device "meta", which has a shape but no values, is refused too.
    """
    wanted = axes.split(", ")
    if not isinstance(x, Tensor):
        wrong = f"of type {type(x).__name__}", "edgekeeper.image.to_tensor makes a tensor"
    elif x.is_nested or x.layout != torch.strided:
        wrong = "a sparse or nested tensor", "give a dense one, such as tensor.to_dense()"
    elif valued and x.is_meta:
        wrong = "on the device 'meta', which holds no values", "give one on 'cpu' or 'cuda'"
    elif not x.is_floating_point():
        wrong = f"of {x.dtype}", "8-bit values become floats by tensor.float() / 255"
    elif not _fits(x, wanted):
        wrong = (
            f"{tuple(x.shape)}",
            "add missing axes with unsqueeze, repeat a grey channel three times",
        )
    else:
        return
    raise InputError(f"'{name}' is {wrong[0]}; it must be floats ({axes}): {wrong[1]}.")


def _fits(x: Tensor, wanted: list[str]) -> bool:
    named = wanted[1:] if wanted[0] == "..." else wanted
    if x.ndim < len(named) or (named is wanted and x.ndim != len(named)):
        return False
    sizes = zip(named, x.shape[x.ndim - len(named) :], strict=True)
    return all(not axis.isdigit() or size == int(axis) for axis, size in sizes)
