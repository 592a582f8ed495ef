"""Whole weights in seven bits, each rounded so that it mends what the ones before it did wrong.

The order is that of GPTQ (Frantar et al., ICLR 2023, https://arxiv.org/abs/2210.17323): after a
weight is rounded, those of the same output that are still to come move to where the output of the
layer, in the mean over the images it was calibrated on, changes least.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]

LARGEST = 64
"""The largest whole weight. Processors without VNNI add two products of a uint8 value and an int8
weight in int16, where 2 · 255 · 64 still fits; larger weights would be cut off there."""

POSITIONS = 512  # of each image at which a layer's input is looked at
DAMPING = 0.01  # of the mean square of the inputs, added to each: few images do not tell all
MOST_NUMBERS = 2**26  # second moments held at the same time, half a GB


@dataclass(frozen=True, kw_only=True)
class WholeWeights:
    """Weights are ``steps`` (outputs,), float32, times ``whole``, int8 from -64 to 64."""

    steps: Array
    whole: Array


def rounded_weights(weight: Array, *, moments: Array) -> WholeWeights:
    """Return the weights (outputs, inputs, height, width) in whole steps, one step for each output.

    moments: the mean of x xᵀ over what the weights of an output are multiplied with, (n, n) for n
        weights. With the identity each weight goes to the nearest whole one.
    """
    left = weight.reshape(len(weight), -1).astype(np.float64)
    steps = (np.maximum(np.abs(left).max(axis=1), 1e-8) / LARGEST).astype(np.float32)
    damping = DAMPING * np.trace(moments) / len(moments) + 1e-12
    inverse = np.linalg.inv(moments + damping * np.eye(len(moments)))
    factor = np.linalg.cholesky(inverse).T
    whole = np.empty_like(left)
    for j, row in enumerate(factor):
        whole[:, j] = np.clip(np.round(left[:, j] / steps), -LARGEST, LARGEST)
        error = (left[:, j] - whole[:, j] * steps) / row[j]
        left[:, j:] -= np.outer(error, row[j:])
    return WholeWeights(steps=steps, whole=whole.astype(np.int8).reshape(weight.shape))


def all_rounded(
    model: nn.Module, small: Sequence[Tensor], *, layers: Sequence[str]
) -> dict[str, WholeWeights]:
    """Return the whole weights of the convolutions ``layers``, for what they meet on LR images."""
    found = {}
    known = dict(model.named_modules())
    for names in _together(known, layers):
        moments = _moments(model, small, layers=names)
        for name in names:
            weight = known[name].weight.detach().numpy()
            found[name] = rounded_weights(weight, moments=moments.pop(name))
    return found


def _together(known: Mapping[str, Any], layers: Sequence[str]) -> Iterator[list[str]]:
    """Yield the layers in groups whose second moments fit into memory."""
    group: list[str] = []
    numbers = 0
    for name in layers:
        own = known[name].weight[0].numel() ** 2
        if group and numbers + own > MOST_NUMBERS:
            yield group
            group, numbers = [], 0
        group.append(name)
        numbers += own
    if group:
        yield group


@torch.inference_mode()
def _moments(
    model: nn.Module, small: Sequence[Tensor], *, layers: Sequence[str]
) -> dict[str, Array]:
    """Return the mean of x xᵀ over what each layer's weights are multiplied with."""
    found: dict[str, Array] = {}
    numbers = torch.Generator().manual_seed(0)

    def watch(name: str, layer: nn.Conv2d, x: Tensor) -> None:
        met = _met(layer, x, numbers=numbers)
        own = (met.T @ met / (len(met) * len(small))).numpy()
        found[name] = found[name] + own if name in found else own

    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_hook(
            lambda layer, given, _out, name=name: watch(name, layer, given[0])
        )
        for name in layers
    ]
    try:
        for lr in small:
            model(lr)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _met(layer: nn.Conv2d, x: Tensor, *, numbers: torch.Generator) -> Tensor:
    """What the weights of ``layer`` meet at some positions of ``x``: (positions, weights)."""
    assert layer.groups == 1 and layer.stride == layer.dilation == (1, 1)
    rows, columns = (int(side) for side in layer.padding)
    padded = F.pad(x[0], (columns, columns, rows, rows))
    height, width = layer.kernel_size
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # (C, H, W, height, width)
    places = windows.shape[1] * windows.shape[2]
    at = torch.randperm(places, generator=numbers)[:POSITIONS]
    met = windows[:, at // windows.shape[2], at % windows.shape[2]]
    return met.transpose(0, 1).flatten(1).double()
