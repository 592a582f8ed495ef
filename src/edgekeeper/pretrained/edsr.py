"""The official EDSR: head.0, body.0.body.0, ..., tail.0.0, tail.1. It works on 0..255."""

from pathlib import Path

from edgekeeper.errors import CheckpointError
from edgekeeper.models import EDSR, SRModel
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
    to_unit_range,
)

RESIDUAL_SCALES = {64: 1.0, 256: 0.1}  # the published EDSRs by width


def recognises(tensors: Tensors) -> bool:
    """Whether these are tensors of the official EDSR, or of a network that begins as it does."""
    return "head.0.weight" in tensors


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the EDSR with these weights; raises CheckpointError that says what does not fit."""
    blocks = count_blocks(tensors, pattern="body.{i}.body.")
    found, layers = subpixel_layers(
        tensors,
        steps=("tail.0.0", "tail.0.2"),
        last=("tail.1", "tail.1"),
        network="EDSR",
        origin=origin,
    )
    layers |= {"head.0": "head", f"body.{blocks}": "after_blocks"}
    for block in range(blocks):
        layers[f"body.{block}.body.0"] = f"blocks.{block}.conv1"
        layers[f"body.{block}.body.2"] = f"blocks.{block}.conv2"
    names = parts(layers)
    check_names(tensors, names.keys() | SHIFTS, origin=origin)
    check_shifts(tensors, network="EDSR", origin=origin)
    width, _ = channels(tensors, "head.0", network="EDSR", origin=origin)
    if width not in RESIDUAL_SCALES:
        raise CheckpointError(
            f"'{origin}' is an EDSR of width {width}; its residual scale is not in the file and "
            "known only for the published widths 64 and 256."
        )
    model = EDSR(
        scale=choose_scale(scale, found=found, origin=origin),
        width=width,
        blocks=blocks,
        residual_scale=RESIDUAL_SCALES[width],
    )
    own = {name: tensor for name, tensor in tensors.items() if name not in SHIFTS}
    fill(model, to_unit_range(own, top=255), names=names, origin=origin)
    return model
