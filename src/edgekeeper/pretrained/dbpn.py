"""The official D-DBPN: feat0, feat1, up1, down1, up2, ..., output_conv; it works on [0, 1].

DBPN-LL, its network of 10 stages, has the same names. The scale is that of the kernels, which are
4 larger.
"""

from edgekeeper.models import DBPN
from edgekeeper.models.dbpn import PADDING
from edgekeeper.pretrained.layers import Format, Plan, Published
from edgekeeper.spec import spec

_FIRST = "up1.up_conv1.deconv"
LAYERS = {
    "head.{i}.0": "feat{i}.conv",  # each a convolution and a PReLU
    "head.{i}.1": "feat{i}.act",
    "ups.{i}.layer1.0": "up{i+1}.up_conv1.deconv",
    "ups.{i}.layer2.0": "up{i+1}.up_conv2.conv",
    "ups.{i}.layer3.0": "up{i+1}.up_conv3.deconv",
    "ups.{i}.layer{k}.1": "up{i+1}.up_conv{k}.act",
    "ups.{i}.narrow.0": "up{i+1}.conv.conv",
    "ups.{i}.narrow.1": "up{i+1}.conv.act",
    "downs.{i}.layer1.0": "down{i+1}.down_conv1.conv",
    "downs.{i}.layer2.0": "down{i+1}.down_conv2.deconv",
    "downs.{i}.layer3.0": "down{i+1}.down_conv3.conv",
    "downs.{i}.layer{k}.1": "down{i+1}.down_conv{k}.act",
    "downs.{i}.narrow.0": "down{i+1}.conv.conv",
    "downs.{i}.narrow.1": "down{i+1}.conv.act",
    "last": "output_conv.conv",
}


def read(file: Published) -> Plan:
    """Return the plan of a DBPN."""
    file.channels(_FIRST)
    kernel = file.tensors[f"{_FIRST}.weight"].shape[-1]
    scale = kernel - 2 * PADDING
    if scale not in (2, 4, 8):
        raise file.error(
            f"is a D-DBPN whose kernels are {kernel} wide; edgekeeper has 6, 8 and 12, "
            "for scales 2, 4 and 8."
        )
    if file.asked not in (None, scale):
        raise file.error(f"is a network for scale {scale}, not {file.asked}.")
    width, first = file.channels("feat1.conv")
    stages = max(file.count("up{i}.up_conv") - 1, 1)
    return Plan(spec(DBPN, scale=scale, width=width, stages=stages, first=first), LAYERS)


FORMAT = Format("D-DBPN", (r"feat0\.conv\.",), read)
