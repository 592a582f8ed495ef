"""SFTGAN's generator under the names of BasicSR, which both of its published files have.

    CondNet.0, 2, 4, 6, 8            the condition network
    sft_branch.i.sft0, conv0, ...    blocks, then one SFT and one convolution
    HR_branch                        0, 3, 6, 8 with pixel shuffles ("pytorch"), or 1, 4, 6, 8
                                     with nearest-neighbour enlargement ("torch")

Widths and the number of blocks are in the shapes. Both files are for x4.
"""

from pathlib import Path

from edgekeeper.errors import CheckpointError
from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.models.sftgan import CATEGORIES, Variant
from edgekeeper.pretrained.layers import (
    Tensors,
    check_names,
    choose_scale,
    count_blocks,
    fill,
    parts,
)

_SCALE = 4


def recognises(tensors: Tensors) -> bool:
    """Return whether these are tensors of an SFTGAN: a condition network and modulated blocks."""
    return "CondNet.0.weight" in tensors and any(n.startswith("sft_branch.") for n in tensors)


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the SFTGAN with these weights; raises CheckpointError that says what does not fit."""
    scale = choose_scale(scale, found=_SCALE, origin=origin)
    variant: Variant = "torch" if "HR_branch.1.weight" in tensors else "pytorch"
    blocks = count_blocks(tensors, pattern="sft_branch.{i}.conv0")
    names = parts(_layers(blocks=blocks, variant=variant))
    check_names(tensors, names, origin=origin)
    kernel = tuple(tensors["CondNet.0.weight"].shape)
    if kernel[1:] != (len(CATEGORIES), _SCALE, _SCALE):
        raise CheckpointError(
            f"'{origin}': CondNet.0.weight is {kernel}; an SFTGAN for x4 has "
            f"({kernel[0]}, {len(CATEGORIES)}, {_SCALE}, {_SCALE}) there."
        )
    model = SFTGAN(
        scale=scale,
        width=tensors["conv0.weight"].shape[0],
        blocks=blocks,
        condition=tensors["CondNet.8.weight"].shape[0],
        hidden=kernel[0],
        variant=variant,
    )
    fill(model, tensors, names=names, origin=origin)
    return model


def _layers(*, blocks: int, variant: Variant) -> dict[str, str]:
    """Their names -> ours of all layers."""
    layers = {
        "conv0": "head",
        f"sft_branch.{blocks + 1}": "after_blocks",
        "HR_branch.6": "refine",
        "HR_branch.8": "last",
    }
    for n in range(2):
        theirs, ours = (3 * n, 3 * n) if variant == "pytorch" else (3 * n + 1, 3 * n + 1)
        layers[f"HR_branch.{theirs}"] = f"enlarge.{ours}"
    layers |= {f"CondNet.{n}": f"condition.{n}" for n in (0, 2, 4, 6, 8)}
    layers |= _sft(f"sft_branch.{blocks}", ours="last_sft")
    for i in range(blocks):
        layers |= _sft(f"sft_branch.{i}.sft0", ours=f"blocks.{i}.sft1")
        layers |= _sft(f"sft_branch.{i}.sft1", ours=f"blocks.{i}.sft2")
        layers |= {f"sft_branch.{i}.conv{k}": f"blocks.{i}.conv{k + 1}" for k in (0, 1)}
    return layers


def _sft(theirs: str, *, ours: str) -> dict[str, str]:
    """Their names -> ours of the four convolutions of one SFT."""
    return {
        f"{theirs}.SFT_{part}_conv{k}": f"{ours}.{part}.{2 * k}"
        for part in ("scale", "shift")
        for k in (0, 1)
    }
