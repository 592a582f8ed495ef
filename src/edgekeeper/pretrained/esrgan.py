"""ESRGAN's generator (RRDB) under the three sets of names it is published with.

    old      model.0, model.1.sub.0.RDB1.conv1.0, ...    ESRGAN's first code, most community files
    new      conv_first, RRDB_trunk.0.RDB1.conv1, ...    ESRGAN's later code
    BasicSR  conv_first, body.0.rdb1.conv1, ...          BasicSR and Real-ESRGAN

Width, growth and number of blocks are in the shapes. Real-ESRGAN's x2 shows by 12 channels in. A
network with one enlargement is x2 unless x3 is asked for: the file does not tell them apart.
"""

import re
from pathlib import Path

from edgekeeper.errors import CheckpointError
from edgekeeper.models import RRDB, SRModel
from edgekeeper.pretrained.layers import Tensors, channels, choose_scale, count_blocks, fill, parts

_NETWORK = "an RRDB network"
_BLOCK = {
    "old": "model.1.sub.{i}.RDB{j}.conv{k}.0",
    "new": "RRDB_trunk.{i}.RDB{j}.conv{k}",
    "basicsr": "body.{i}.rdb{j}.conv{k}",
}
_LAYERS = {  # head, after the blocks, each enlargement, at HR size, last
    "new": ("conv_first", "trunk_conv", "upconv{n}", "HRconv", "conv_last"),
    "basicsr": ("conv_first", "conv_body", "conv_up{n}", "conv_hr", "conv_last"),
}


def block_layers(pattern: str, *, ours: str) -> dict[str, str]:
    """Their names -> ours of the convolutions of one RRDB block."""
    return {
        pattern.format(j=j, k=k): f"{ours}.dense.{j - 1}.convs.{k - 1}"
        for j in (1, 2, 3)
        for k in (1, 2, 3, 4, 5)
    }


def old_indices(tensors: Tensors) -> list[int]:
    """Return the n of all ``model.n.weight`` and ``model.n.bias``."""
    found = (re.fullmatch(r"model\.(\d+)\.(weight|bias)", name) for name in tensors)
    return sorted({int(match[1]) for match in found if match})


def _naming(tensors: Tensors) -> str | None:
    """Return which of the three sets of names the file has, or None."""
    return next((n for n, form in _BLOCK.items() if count_blocks(tensors, pattern=form)), None)


def recognises(tensors: Tensors) -> bool:
    """Whether these are tensors of an RRDB network (and not of an SPSR, which contains one)."""
    spsr = any(name.startswith(("f_block.", "b_fea_conv.")) for name in tensors)
    return not spsr and _naming(tensors) is not None


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """The RRDB network with these weights; raises CheckpointError that says what does not fit."""
    naming = _naming(tensors) or "old"
    blocks = count_blocks(tensors, pattern=_BLOCK[naming])
    enlargements, layers = _ends(tensors, naming=naming, blocks=blocks)
    for i in range(blocks):
        pattern = _BLOCK[naming].replace("{i}", str(i))
        layers |= block_layers(pattern, ours=f"blocks.{i}")
    head = next(name for name, ours in layers.items() if ours == "head")
    width, colours = channels(tensors, head, network=_NETWORK, origin=origin)
    first = _BLOCK[naming].format(i=0, j=1, k=1)
    growth, _ = channels(tensors, first, network=_NETWORK, origin=origin)
    unshuffle = {3: 1, 12: 2, 48: 4}.get(colours)
    if unshuffle is None:
        raise CheckpointError(
            f"'{origin}' is {_NETWORK} with {colours} channels in; edgekeeper's takes RGB."
        )
    factor = 2**enlargements / unshuffle
    if factor not in (2, 4):
        raise CheckpointError(
            f"'{origin}' is {_NETWORK} that enlarges by {factor:g}; edgekeeper has 2, 3 and 4."
        )
    if scale == 3 and enlargements == 1:
        factor = 3
    scale = choose_scale(scale, found=factor, origin=origin)
    model = RRDB(scale=scale, width=width, blocks=blocks, growth=growth, unshuffle=unshuffle)
    fill(model, tensors, names=parts(layers), origin=origin)
    return model


def _ends(tensors: Tensors, *, naming: str, blocks: int) -> tuple[int, dict[str, str]]:
    """How often the network enlarges, and their names -> ours of the layers outside blocks."""
    if naming == "old":
        # Enlargement n is conv 3n, the convs after the last are 2 and 4 further.
        times = -(-(max(old_indices(tensors), default=10) - 4) // 3)
        enlarge = [f"model.{3 * n}" for n in range(1, times + 1)]
        head, after = "model.0", f"model.1.sub.{blocks}"
        refine, last = f"model.{3 * times + 2}", f"model.{3 * times + 4}"
    else:
        head, after, step, refine, last = _LAYERS[naming]
        times = max(1, sum(f"{step.format(n=n)}.weight" in tensors for n in range(1, 4)))
        enlarge = [step.format(n=n) for n in range(1, times + 1)]
    layers = {head: "head", after: "after_blocks", refine: "refine", last: "last"}
    return times, layers | {name: f"enlarge.convs.{n}" for n, name in enumerate(enlarge)}
