"""What is read off the layers of a published file: blocks, channels, scale, range of colours."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, nearest_name
from edgekeeper.models.edsr import DIV2K_MEAN

# ---- Renamed tensors put into a network: every name, shape and scale must fit -------------------

Tensors = Mapping[str, Tensor]

PARTS = ("weight", "bias")

SCALES = (2, 3, 4)


def parts(layers: Mapping[str, str]) -> dict[str, str]:
    """Their names -> ours of weights and biases, from their names -> ours of the layers."""
    return {
        f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in layers.items() for part in PARTS
    }


def choose_scale(asked: int | None, *, found: float | None, origin: Path) -> int:
    """Return the scale of the network: the one that its layers show, else the one asked for.

    Raises:
        CheckpointError: the layers are plainly those of another scale than ``asked``, or nothing
            says the scale.
    """
    if found in SCALES:
        if asked not in (None, found):
            raise CheckpointError(f"'{origin}' is a network for scale {found:.0f}, not {asked}.")
        return int(found)
    if asked is None:
        raise CheckpointError(
            f"'{origin}' does not say by how much its network enlarges; give scale=2, 3 or 4."
        )
    return asked


def check_names(tensors: Tensors, names: Iterable[str], *, origin: Path) -> None:
    """Raise CheckpointError that names what is missing and what is unknown in the file."""
    expected = set(names)
    missing, unknown = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
    if missing or unknown:
        nearest = nearest_name(unknown[0], missing) if unknown else None
        hint = f" ('{unknown[0]}' is most like '{nearest}')" if nearest else ""
        raise CheckpointError(
            f"'{origin}' does not have the published names: missing {some(missing)}; "
            f"unknown {some(unknown)}{hint}."
        )


def some(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:4]) or "none"
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def fill(model: nn.Module, tensors: Tensors, *, names: Mapping[str, str], origin: Path) -> None:
    """Load ``tensors`` into ``model`` under its own names, ``names[published] = own``.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape does not fit; it is named.
    """
    check_names(tensors, names, origin=origin)
    own = model.state_dict()
    for name, tensor in tensors.items():
        if tensor.shape != own[names[name]].shape:
            raise CheckpointError(
                f"'{origin}': {name} is {tuple(tensor.shape)}, but {type(model).__name__} needs "
                f"{tuple(own[names[name]].shape)}."
            )
    model.load_state_dict({names[name]: tensor.float() for name, tensor in tensors.items()})


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
    """Return the scale of a ``subpixel_tail``, and their names -> ours of its layers.

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
