"""What is read off the layers of a published file: blocks, channels, scale, range of colours."""

import re
from pathlib import Path

import torch

from edgekeeper.errors import CheckpointError
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.published.filling import PARTS, Tensors

SHIFTS = frozenset(f"{name}.{part}" for name in ("sub_mean", "add_mean") for part in PARTS)
"""The tensors of the mean-shift layers in EDSR's code, which RCAN's is built on."""


def count_blocks(tensors: Tensors, *, pattern: str) -> int:
    """One more than the largest i of the names that begin as ``pattern``; at most their number."""
    begin, _, rest = pattern.partition("{i}")
    form = re.compile(re.escape(begin) + r"(\d+)" + re.escape(rest.partition("{")[0]))
    largest = max((int(m[1]) for name in tensors if (m := form.match(name))), default=-1)
    return min(largest + 1, len(tensors))  # an absurd number is found missing, one by one


def channels(tensors: Tensors, name: str, *, network: str, origin: Path) -> tuple[int, int]:
    """Channels out and in of the convolution ``name``, a layer without ``.weight``.

    Raises:
        CheckpointError: it is missing, or is no convolution.
    """
    weight = f"{name}.weight"
    if weight not in tensors:
        raise CheckpointError(f"'{origin}' looks like {network}, but lacks {weight}.")
    shape = tuple(tensors[weight].shape)
    if len(shape) != 4 or 0 in shape:
        raise CheckpointError(
            f"'{origin}' looks like {network}, but {weight} is {shape}, no convolution."
        )
    return int(shape[0]), int(shape[1])


def subpixel_layers(
    tensors: Tensors, *, steps: tuple[str, str], last: tuple[str, str], network: str, origin: Path
) -> tuple[float, dict[str, str]]:
    """The scale of a ``subpixel_tail``, and their names -> ours of its layers.

    ``steps`` are the names of its one or two enlarging convolutions, ``last`` that of the last
    convolution where there are one or two of them.

    Raises:
        CheckpointError: a layer is missing, or is no convolution.
    """
    two = f"{last[1]}.weight" in tensors if last[0] != last[1] else f"{steps[1]}.weight" in tensors
    used, end = (steps, last[1]) if two else (steps[:1], last[0])
    out, _ = channels(tensors, used[0], network=network, origin=origin)
    _, into = channels(tensors, end, network=network, origin=origin)
    layers = {name: f"upsampler.{2 * n}" for n, name in enumerate((*used, end))}
    return 4.0 if two else (out / into) ** 0.5, layers


def check_shifts(tensors: Tensors, *, network: str, origin: Path) -> None:
    """Raise CheckpointError unless the layers in SHIFTS are DIV2K's mean colour on 0..255."""
    mean = 255 * torch.tensor(DIV2K_MEAN)
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        weight, bias = tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()
        if not (
            torch.equal(weight.reshape(-1), torch.eye(3).reshape(-1))
            and bias.shape == mean.shape
            and torch.allclose(bias, sign * mean, atol=1e-2)
        ):
            raise CheckpointError(
                f"'{origin}': {name} is not the official {network}'s shift by DIV2K's mean colour "
                f"on 0..255 (bias {bias.tolist()}); edgekeeper's {network} subtracts that mean."
            )


def to_unit_range(tensors: Tensors, *, top: float) -> Tensors:
    """The tensors for colours on [0, 1] of a network of convolutions, ReLUs and sums on 0..top.

    ReLU and sums follow a factor, so with all biases over ``top`` every map is the old one over
    ``top``: the same network, and its weights stay as they were trained.
    """
    return {name: t / top if name.endswith(".bias") else t for name, t in tensors.items()}
