"""The official RCAN, and BasicSR's. Their layers work on 0..255, ours on [0, 1].

    official  head.0, body.0.body.0.body.0, body.0.body.0.body.3.conv_du.0, ..., tail.0.0, tail.1
    BasicSR   conv_first, body.0.residual_group.0.rcab.0, ..., upsample.0, conv_last

All maps follow a factor (see ``layers.to_unit_range``), but the attention's sigmoid needs its
numbers as they were: all biases are divided by 255 except the attention's, whose first layer, which
reads means that are 255 times smaller, has its weights multiplied by 255.
"""

from dataclasses import dataclass
from pathlib import Path

from edgekeeper.models import RCAN, SRModel
from edgekeeper.pretrained.layers import (
    SHIFTS,
    Tensors,
    channels,
    check_names,
    check_shifts,
    choose_scale,
    count_blocks,
    fill,
    parts,
    subpixel_layers,
)


@dataclass(frozen=True)
class _Naming:
    """How a code names the layers; {g} is the group, {b} the block."""

    head: str
    block: str
    attention: tuple[str, str]
    after_blocks: str
    after_groups: str
    steps: tuple[str, str]
    last: str
    shifts: frozenset[str]


_NAMINGS = (
    _Naming(
        head="head.0",
        block="body.{g}.body.{b}.body",
        attention=("3.conv_du.0", "3.conv_du.2"),
        after_blocks="body.{g}.body.{blocks}",
        after_groups="body.{groups}",
        steps=("tail.0.0", "tail.0.2"),
        last="tail.1",
        shifts=SHIFTS,
    ),
    _Naming(
        head="conv_first",
        block="body.{g}.residual_group.{b}.rcab",
        attention=("3.attention.1", "3.attention.3"),
        after_blocks="body.{g}.conv",
        after_groups="conv_after_body",
        steps=("upsample.0", "upsample.2"),
        last="conv_last",
        shifts=frozenset(),
    ),
)


def _count(tensors: Tensors, naming: _Naming) -> tuple[int, int]:
    """Return how many groups, and blocks in the first group, have names of this kind."""
    groups = count_blocks(tensors, pattern=naming.block.replace("{g}", "{i}"))
    return groups, count_blocks(tensors, pattern=naming.block.format(g=0, b="{i}"))


def recognises(tensors: Tensors) -> bool:
    """Return whether these are tensors of an RCAN: blocks inside groups inside the body."""
    return any(all(_count(tensors, naming)) for naming in _NAMINGS)


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the RCAN with these weights; raises CheckpointError that says what does not fit."""
    naming = next((n for n in _NAMINGS if all(_count(tensors, n))), _NAMINGS[0])
    groups, blocks = _count(tensors, naming)
    found, layers = subpixel_layers(
        tensors, steps=naming.steps, last=(naming.last, naming.last), network="RCAN", origin=origin
    )
    layers |= {
        naming.head: "head",
        naming.after_groups.format(groups=groups): "after_groups",
    }
    for g in range(groups):
        layers[naming.after_blocks.format(g=g, blocks=blocks)] = f"groups.{g}.after_blocks"
        for b in range(blocks):
            layers |= _block_layers(naming, g=g, b=b)
    names = parts(layers)
    check_names(tensors, names.keys() | naming.shifts, origin=origin)
    if naming.shifts:
        check_shifts(tensors, network="RCAN", origin=origin)
    squeeze = f"{naming.block.format(g=0, b=0)}.{naming.attention[0]}"
    squeezed, width = channels(tensors, squeeze, network="RCAN", origin=origin)
    model = RCAN(
        scale=choose_scale(scale, found=found, origin=origin),
        width=width,
        groups=groups,
        blocks=blocks,
        reduction=max(1, width // squeezed),
    )
    own = {name: tensor for name, tensor in tensors.items() if name not in naming.shifts}
    adapted = {name: tensor * _factor(names[name]) for name, tensor in own.items()}
    fill(model, adapted, names=names, origin=origin)
    return model


def _block_layers(naming: _Naming, *, g: int, b: int) -> dict[str, str]:
    """Their names -> ours of the layers of one block."""
    theirs, ours = naming.block.format(g=g, b=b), f"groups.{g}.blocks.{b}"
    squeeze, excite = naming.attention
    return {
        f"{theirs}.0": f"{ours}.conv1",
        f"{theirs}.2": f"{ours}.conv2",
        f"{theirs}.{squeeze}": f"{ours}.attention.squeeze",
        f"{theirs}.{excite}": f"{ours}.attention.excite",
    }


def _factor(ours: str) -> float:
    """Return what the tensor of our network is, as a multiple of the one made for 0..255."""
    if ".attention." in ours:
        return 255.0 if ours.endswith("squeeze.weight") else 1.0
    return 1 / 255 if ours.endswith(".bias") else 1.0
