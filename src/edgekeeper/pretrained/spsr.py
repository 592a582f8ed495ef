"""SPSR under the names of its published weights (``spsr.pth``).

The SR branch has the names of an old-style ESRGAN (``model.0``, ``model.1.sub.i``, ``model.3``,
``model.6``); ``model.8`` and ``HR_conv0_new.0`` are one layer under two names. The gradient
branch begins with ``b_`` (``conv_w.0`` predicts the map), the fusion with ``f_``;
``get_g_nopadding`` is the constant kernel of the differences. After which blocks the branch reads
is not in the file: 5, 10, 15 and 20, as in the paper.
"""

from pathlib import Path

import torch

from edgekeeper.errors import CheckpointError
from edgekeeper.models import SPSR, SRModel
from edgekeeper.pretrained.esrgan import block_layers, old_indices
from edgekeeper.pretrained.layers import (
    PARTS,
    Tensors,
    check_names,
    choose_scale,
    count_blocks,
    fill,
    parts,
)

TAPS = (5, 10, 15, 20)
_SR_BLOCK = "model.1.sub.{i}.RDB{j}.conv{k}.0"
# What the kernels of the published code hold: neighbours right minus left, below minus above.
_KERNELS = {"weight_h": ((1, 0, -1.0), (1, 2, 1.0)), "weight_v": ((0, 1, -1.0), (2, 1, 1.0))}


def recognises(tensors: Tensors) -> bool:
    """Whether these are tensors of an SPSR: layers of the fusion and of the gradient branch."""
    return any(name.startswith(("f_block.", "b_fea_conv.")) for name in tensors)


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the SPSR with these weights; raises CheckpointError that says what does not fit."""
    # model.8 of x4, model.5 of x2 and x3 is the last numbered layer.
    times = -(-(max(old_indices(tensors), default=8) - 2) // 3)
    if times not in (1, 2):
        raise CheckpointError(
            f"'{origin}' is an SPSR that enlarges by {2**times}; edgekeeper has 2, 3 and 4."
        )
    blocks = count_blocks(tensors, pattern=_SR_BLOCK)
    if blocks < TAPS[-1]:
        raise CheckpointError(
            f"'{origin}' is an SPSR of {blocks} blocks; its gradient branch is known to read "
            f"after blocks {', '.join(map(str, TAPS))}, so that it has {TAPS[-1]} or more."
        )
    tensors = _without_repeats(tensors, refine=f"model.{3 * times + 2}", origin=origin)
    names = parts(_layers(times=times, blocks=blocks))
    check_names(tensors, names, origin=origin)
    found = 3 if (scale, times) == (3, 1) else 2**times
    model = SPSR(
        scale=choose_scale(scale, found=found, origin=origin),
        width=tensors["model.0.weight"].shape[0],
        blocks=blocks,
        growth=tensors["f_block.RDB1.conv1.0.weight"].shape[0],
        taps=TAPS,
    )
    fill(model, tensors, names=names, origin=origin)
    return model


def _layers(*, times: int, blocks: int) -> dict[str, str]:
    """Their names -> ours of all layers."""
    layers = {
        "model.0": "sr.head",
        f"model.1.sub.{blocks}": "sr.after_blocks",
        "HR_conv0_new.0": "sr.refine",
        "HR_conv1_new.0": "sr.finish",
        "b_fea_conv.0": "gradient.head",
        "b_LR_conv.0": "gradient.after_blocks",
        f"b_module.{3 * times}": "gradient.refine",
        f"b_module.{3 * times + 2}": "gradient.finish",
        "conv_w.0": "gradient.last",
        "f_concat.0": "fusion.narrow",
        "f_HR_conv0.0": "fusion.refine",
        "f_HR_conv1.0": "fusion.last",
    }
    for n in range(times):
        layers[f"model.{3 * n + 3}"] = f"sr.enlarge.convs.{n}"
        layers[f"b_module.{3 * n + 1}"] = f"gradient.enlarge.convs.{n}"
    for i in range(blocks):
        layers |= block_layers(_SR_BLOCK.replace("{i}", str(i)), ours=f"sr.blocks.{i}")
    for t in range(len(TAPS)):
        layers |= block_layers(f"b_block_{t + 1}.RDB{{j}}.conv{{k}}.0", ours=f"gradient.blocks.{t}")
        layers[f"b_concat_{t + 1}.0"] = f"gradient.narrow.{t}"
    return layers | block_layers("f_block.RDB{j}.conv{k}.0", ours="fusion.block")


def _without_repeats(tensors: Tensors, *, refine: str, origin: Path) -> Tensors:
    """Return the tensors without the second name of a layer and without the constant kernels."""
    kept = dict(tensors)
    for part in PARTS:
        first, second = kept.pop(f"{refine}.{part}", None), f"HR_conv0_new.0.{part}"
        if first is not None and not torch.equal(first, kept.setdefault(second, first)):
            raise CheckpointError(
                f"'{origin}': {refine}.{part} and {second} differ, but are one layer of SPSR."
            )
    for name, entries in _KERNELS.items():
        found = kept.pop(f"get_g_nopadding.{name}", None)
        expected = torch.zeros(3, 3)
        for row, column, value in entries:
            expected[row, column] = value
        if found is not None and not torch.equal(found.float().reshape(-1), expected.reshape(-1)):
            raise CheckpointError(
                f"'{origin}': get_g_nopadding.{name} is {found.flatten().tolist()}, "
                "not the difference of the two neighbours."
            )
    return kept
