"""RDN as two PyTorch codes name it.

    EDSR-PyTorch   SFENet1, RDBs.0.convs.0.conv.0, RDBs.0.LFF, GFF.0, UPNet.0; works on 0..255
    RDN-pytorch    sfe1, rdbs.0.layers.0.conv, rdbs.0.lff, gff.0, upscale.0, output; on [0, 1]

The first is by RDN's authors in the code of EDSR, which trains on 0..255 unless told otherwise; a
file does not say it.
"""

from dataclasses import dataclass
from pathlib import Path

from edgekeeper.models import RDN, SRModel
from edgekeeper.pretrained.layers import (
    Tensors,
    channels,
    choose_scale,
    count_blocks,
    fill,
    parts,
    subpixel_layers,
    to_unit_range,
)


@dataclass(frozen=True)
class _Naming:
    """How a code names the layers; {b} is the block, {l} its layer."""

    heads: tuple[str, str]
    layer: str
    block_fusion: str
    fusion: str
    steps: tuple[str, str]
    last: tuple[str, str]
    top: float  # of the colours


_NAMINGS = (
    _Naming(
        heads=("SFENet1", "SFENet2"),
        layer="RDBs.{b}.convs.{l}.conv.0",
        block_fusion="RDBs.{b}.LFF",
        fusion="GFF.{n}",
        steps=("UPNet.0", "UPNet.2"),
        last=("UPNet.2", "UPNet.4"),
        top=255,
    ),
    _Naming(
        heads=("sfe1", "sfe2"),
        layer="rdbs.{b}.layers.{l}.conv",
        block_fusion="rdbs.{b}.lff",
        fusion="gff.{n}",
        steps=("upscale.0", "upscale.2"),
        last=("output", "output"),
        top=1,
    ),
)


def _count(tensors: Tensors, naming: _Naming) -> tuple[int, int]:
    """Return how many blocks, and layers in the first block, have names of this kind."""
    blocks = count_blocks(tensors, pattern=naming.layer.replace("{b}", "{i}"))
    return blocks, count_blocks(tensors, pattern=naming.layer.format(b=0, l="{i}"))


def recognises(tensors: Tensors) -> bool:
    """Return whether these are tensors of an RDN."""
    return any(all(_count(tensors, naming)) for naming in _NAMINGS)


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the RDN with these weights; raises CheckpointError that says what does not fit."""
    naming = next((n for n in _NAMINGS if all(_count(tensors, n))), _NAMINGS[0])
    blocks, layers_of_block = _count(tensors, naming)
    found, layers = subpixel_layers(
        tensors, steps=naming.steps, last=naming.last, network="RDN", origin=origin
    )
    layers |= {
        naming.heads[0]: "head1",
        naming.heads[1]: "head2",
        naming.fusion.format(n=0): "fusion",
        naming.fusion.format(n=1): "after_fusion",
    }
    for b in range(blocks):
        layers[naming.block_fusion.format(b=b)] = f"blocks.{b}.fusion"
        for number in range(layers_of_block):
            layers[naming.layer.format(b=b, l=number)] = f"blocks.{b}.convs.{number}"
    growth, width = channels(tensors, naming.layer.format(b=0, l=0), network="RDN", origin=origin)
    model = RDN(
        scale=choose_scale(scale, found=found, origin=origin),
        width=width,
        blocks=blocks,
        layers=layers_of_block,
        growth=growth,
    )
    adapted = to_unit_range(tensors, top=naming.top)
    fill(model, adapted, names=parts(layers), origin=origin)
    return model
