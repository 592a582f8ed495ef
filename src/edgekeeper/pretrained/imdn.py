"""IMDN under the names of its authors' code: fea_conv, IMDB1.c1, ..., LR_conv, upsampler.0."""

from pathlib import Path

from edgekeeper.models import IMDN, SRModel
from edgekeeper.pretrained.layers import (
    Tensors,
    channels,
    check_names,
    choose_scale,
    count_blocks,
    fill,
    parts,
)

_BLOCK = {  # their names -> ours inside a block
    "c1": "convs.0",
    "c2": "convs.1",
    "c3": "convs.2",
    "c4": "convs.3",
    "c5": "join",
    "cca.conv_du.0": "attention.squeeze",
    "cca.conv_du.2": "attention.excite",
}


def recognises(tensors: Tensors) -> bool:
    """Return whether these are tensors of an IMDN."""
    return any(name.startswith("IMDB1.") for name in tensors)


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the IMDN with these weights; raises CheckpointError that says what does not fit."""
    blocks = max(1, count_blocks(tensors, pattern="IMDB{i}.") - 1)  # they count from 1
    layers = {"fea_conv": "head", "c.0": "join", "LR_conv": "after_blocks", "upsampler.0": "last"}
    for n in range(blocks):
        for theirs, ours in _BLOCK.items():
            layers[f"IMDB{n + 1}.{theirs}"] = f"blocks.{n}.{ours}"
    names = parts(layers)
    check_names(tensors, names, origin=origin)
    width, _ = channels(tensors, "fea_conv", network="IMDN", origin=origin)
    colours, _ = channels(tensors, "upsampler.0", network="IMDN", origin=origin)
    scale = choose_scale(scale, found=(colours / 3) ** 0.5, origin=origin)
    model = IMDN(scale=scale, width=width, blocks=blocks)
    fill(model, tensors, names=names, origin=origin)
    return model
