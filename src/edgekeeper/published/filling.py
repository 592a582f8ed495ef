"""Renamed tensors put into a network: every name, shape and scale must fit."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, nearest_name

Tensors = Mapping[str, Tensor]
PARTS = ("weight", "bias")
SCALES = (2, 3, 4)


def parts(layers: Mapping[str, str]) -> dict[str, str]:
    """Their names -> ours of weights and biases, from their names -> ours of the layers."""
    return {
        f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in layers.items() for part in PARTS
    }


def choose_scale(asked: int | None, *, found: float | None, origin: Path) -> int:
    """The scale of the network: the one that its layers show, else the one asked for.

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
    """The first names, and how many more there are."""
    shown = ", ".join(names[:4]) or "none"
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def fill(model: nn.Module, tensors: Tensors, *, names: Mapping[str, str], origin: Path) -> None:
    """None: loads ``tensors`` into ``model`` under its own names, ``names[theirs] = ours``.

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
