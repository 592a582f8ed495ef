"""The official D-DBPN: feat0, feat1, up1, down1, up2, ..., output_conv; it works on [0, 1].

DBPN-LL, its network of 10 stages, has the same names. The scale is that of the kernels, which are
4 larger.
"""

from pathlib import Path

from edgekeeper.errors import CheckpointError
from edgekeeper.models import DBPN, SRModel
from edgekeeper.models.dbpn import PADDING
from edgekeeper.pretrained.layers import Tensors, channels, check_names, count_blocks, fill, parts

_FIRST = "up1.up_conv1.deconv"


def recognises(tensors: Tensors) -> bool:
    """Return whether these are tensors of a D-DBPN."""
    return any(name.startswith("feat0.conv.") for name in tensors)


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the DBPN with these weights; raises CheckpointError that says what does not fit."""
    stages = max(count_blocks(tensors, pattern="up{i}.up_conv") - 1, 1)
    names = _names(stages)
    check_names(tensors, names, origin=origin)
    channels(tensors, _FIRST, network="D-DBPN", origin=origin)
    kernel = tensors[f"{_FIRST}.weight"].shape[-1]
    found = kernel - 2 * PADDING
    if found not in (2, 4, 8):
        raise CheckpointError(
            f"'{origin}' is a D-DBPN whose kernels are {kernel} wide; edgekeeper has 6, 8 and 12, "
            "for scales 2, 4 and 8."
        )
    if scale not in (None, found):
        raise CheckpointError(f"'{origin}' is a network for scale {found}, not {scale}.")
    width, first = channels(tensors, "feat1.conv", network="D-DBPN", origin=origin)
    model = DBPN(scale=found, width=width, stages=stages, first=first)
    fill(model, tensors, names=names, origin=origin)
    return model


def _names(stages: int) -> dict[str, str]:
    """Their names -> ours of all tensors."""
    blocks = {"feat0": "head.0", "feat1": "head.1"}  # each a convolution and a PReLU
    for n in range(1, stages + 1):
        blocks |= _unit_layers(f"up{n}", f"ups.{n - 1}", narrowed=n > 2)
        if n < stages:
            blocks |= _unit_layers(f"down{n}", f"downs.{n - 1}", narrowed=n > 1)
    names = parts({"output_conv.conv": "last"})
    for theirs, ours in blocks.items():
        up = theirs.endswith(("up_conv1", "up_conv3", "down_conv2"))
        names |= parts({f"{theirs}.{'deconv' if up else 'conv'}": f"{ours}.0"})
        names[f"{theirs}.act.weight"] = f"{ours}.1.weight"
    return names


def _unit_layers(theirs: str, ours: str, *, narrowed: bool) -> dict[str, str]:
    """Their names -> ours of the layers of one projection unit."""
    kind = theirs.rstrip("0123456789")
    layers = {f"{theirs}.{kind}_conv{k}": f"{ours}.layer{k}" for k in (1, 2, 3)}
    return layers | ({f"{theirs}.conv": f"{ours}.narrow"} if narrowed else {})
