"""SFTGAN's generator under the names of BasicSR, which both of its published files have.

    CondNet.0, 2, 4, 6, 8            the condition network
    sft_branch.i.sft0, conv0, ...    blocks, then one SFT and one convolution
    HR_branch                        0, 3, 6, 8 with pixel shuffles ("pytorch"), or 1, 4, 6, 8
                                     with nearest-neighbour enlargement ("torch")

Widths and the number of blocks are in the shapes. Both files are for x4.
"""

from edgekeeper.errors import CheckpointError
from edgekeeper.models import SFTGAN
from edgekeeper.models.sftgan import CATEGORIES, Variant
from edgekeeper.pretrained.layers import Format, Plan, Published
from edgekeeper.spec import spec

_SCALE = 4
LAYERS = {
    "head": "conv0",
    "condition.{k}": "CondNet.{k}",
    "blocks.{i}.conv1": "sft_branch.{i}.conv0",
    "blocks.{i}.conv2": "sft_branch.{i}.conv1",
    # an SFT has two convolutions, 0 and 2, for the factor and two for the shift
    "blocks.{i}.sft1.scale.0": "sft_branch.{i}.sft0.SFT_scale_conv0",
    "blocks.{i}.sft1.scale.2": "sft_branch.{i}.sft0.SFT_scale_conv1",
    "blocks.{i}.sft1.shift.0": "sft_branch.{i}.sft0.SFT_shift_conv0",
    "blocks.{i}.sft1.shift.2": "sft_branch.{i}.sft0.SFT_shift_conv1",
    "blocks.{i}.sft2.scale.0": "sft_branch.{i}.sft1.SFT_scale_conv0",
    "blocks.{i}.sft2.scale.2": "sft_branch.{i}.sft1.SFT_scale_conv1",
    "blocks.{i}.sft2.shift.0": "sft_branch.{i}.sft1.SFT_shift_conv0",
    "blocks.{i}.sft2.shift.2": "sft_branch.{i}.sft1.SFT_shift_conv1",
    "enlarge.{k}": "HR_branch.{k}",
    "refine": "HR_branch.6",
    "last": "HR_branch.8",
}


def read(file: Published) -> Plan:
    """Return the plan of an SFTGAN."""
    scale = file.scale(_SCALE)
    (width, _), (condition, _) = file.channels("conv0"), file.channels("CondNet.8")
    hidden, _ = file.channels("CondNet.0")
    kernel = tuple(file.tensors["CondNet.0.weight"].shape)
    expected = (hidden, len(CATEGORIES), _SCALE, _SCALE)
    if kernel != expected:
        raise CheckpointError(
            f"'{file.origin}': CondNet.0.weight is {kernel}; an SFTGAN for x4 has {expected} there."
        )
    blocks = file.count("sft_branch.{i}.conv0")
    variant: Variant = "torch" if "HR_branch.1.weight" in file.tensors else "pytorch"
    end = {
        "last_sft.scale.0": f"sft_branch.{blocks}.SFT_scale_conv0",
        "last_sft.scale.2": f"sft_branch.{blocks}.SFT_scale_conv1",
        "last_sft.shift.0": f"sft_branch.{blocks}.SFT_shift_conv0",
        "last_sft.shift.2": f"sft_branch.{blocks}.SFT_shift_conv1",
        "after_blocks": f"sft_branch.{blocks + 1}",
    }
    network = spec(
        SFTGAN,
        scale=scale,
        width=width,
        blocks=blocks,
        condition=condition,
        hidden=hidden,
        variant=variant,
    )
    return Plan(network, LAYERS | end)


FORMAT = Format("SFTGAN", (r"CondNet\.0\.weight", r"sft_branch\."), read)
