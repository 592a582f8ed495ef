"""Networks trained for fidelity under the names of their published code.

    EDSR   head.0, body.0.body.0, ..., tail.0.0, tail.1
    RCAN   official  head.0, body.0.body.0.body.0, body.0.body.0.body.3.conv_du.0, ..., tail.1
           BasicSR   conv_first, body.0.residual_group.0.rcab.0, ..., upsample.0, conv_last
    RDN    EDSR-PyTorch   SFENet1, RDBs.0.convs.0.conv.0, RDBs.0.LFF, GFF.0, UPNet.0
           RDN-pytorch    sfe1, rdbs.0.layers.0.conv, rdbs.0.lff, gff.0, upscale.0, output
    DBPN   official  feat0, feat1, up1, down1, up2, ..., output_conv; DBPN-LL (10 stages) too
    IMDN   official  fea_conv, IMDB1.c1, ..., LR_conv, upsampler.0

EDSR and what is built on its code, RCAN and RDN, work on 0..255 unless told otherwise, which a
file of RDN does not say; RDN-pytorch, DBPN and IMDN work on [0, 1]. A DBPN's scale is that of its
kernels, which are 4 larger.
"""

from torch import Tensor

from edgekeeper.models import DBPN, EDSR, IMDN, RCAN, RDN
from edgekeeper.models.dbpn import PADDING
from edgekeeper.pretrained.layers import (
    LAYERS,
    SHIFTS,
    Plan,
    Published,
    PublishedFormat,
    same,
    unit_range,
)
from edgekeeper.spec import spec

RESIDUAL_SCALES = {64: 1.0, 256: 0.1}  # the published EDSRs by width


def read_edsr(file: Published) -> Plan:
    """Return the plan of an EDSR."""
    blocks = file.count("body.{i}.body.")
    found, tail = file.subpixel(steps=("tail.0.0", "tail.0.2"), last=("tail.1", "tail.1"))
    file.check_shifts()
    width, _ = file.channels("head.0")
    if width not in RESIDUAL_SCALES:
        raise file.error(
            f"is an EDSR of width {width}; its residual scale is not in the file and "
            "known only for the published widths 64 and 256."
        )
    network = spec(
        EDSR,
        scale=file.scale(found),
        width=width,
        blocks=blocks,
        residual_scale=RESIDUAL_SCALES[width],
    )
    layers = tail | {
        "head": "head.0",
        "blocks.{i}.conv1": "body.{i}.body.0",
        "blocks.{i}.conv2": "body.{i}.body.2",
        "after_blocks": f"body.{blocks}",
    }
    return Plan(network, layers, adapt=unit_range, required=SHIFTS)


def read_rcan(file: Published) -> Plan:
    """Return the plan of an RCAN under either set of names."""
    official = file.count("body.{i}.body.") > 0
    inner = "body.{g}.body.{b}.body" if official else "body.{g}.residual_group.{b}.rcab"
    squeeze, excite = (
        ("3.conv_du.0", "3.conv_du.2") if official else ("3.attention.1", "3.attention.3")
    )
    groups = file.count("body.{i}.body." if official else "body.{i}.residual_group.")
    blocks = file.count(inner.replace("{g}", "0").replace("{b}", "{i}"))
    layers = {
        "groups.{g}.blocks.{b}.conv1": f"{inner}.0",
        "groups.{g}.blocks.{b}.conv2": f"{inner}.2",
        "groups.{g}.blocks.{b}.attention.squeeze": f"{inner}.{squeeze}",
        "groups.{g}.blocks.{b}.attention.excite": f"{inner}.{excite}",
    }
    if official:
        found, tail = file.subpixel(steps=("tail.0.0", "tail.0.2"), last=("tail.1", "tail.1"))
        layers |= {"head": "head.0", "after_groups": f"body.{groups}"}
        layers["groups.{g}.after_blocks"] = f"body.{{g}}.body.{blocks}"
        file.check_shifts()
    else:
        found, tail = file.subpixel(
            steps=("upsample.0", "upsample.2"), last=("conv_last", "conv_last")
        )
        layers |= {"head": "conv_first", "after_groups": "conv_after_body"}
        layers["groups.{g}.after_blocks"] = "body.{g}.conv"
    squeezed, width = file.channels(f"{inner.format(g=0, b=0)}.{squeeze}")
    network = spec(
        RCAN,
        scale=file.scale(found),
        width=width,
        groups=groups,
        blocks=blocks,
        reduction=max(1, width // squeezed),
    )
    required = SHIFTS if official else frozenset[str]()
    return Plan(network, layers | tail, adapt=_rcan_range, required=required)


def _rcan_range(name: str, tensor: Tensor) -> Tensor:
    """Return RCAN's tensor for [0, 1].

    Maps follow a factor (see ``unit_range``), but the attention's sigmoid needs its numbers as they
    were: the weights of its first layer read means that are 255 times smaller.
    """
    if ".attention." in name:
        return tensor * 255.0 if name.endswith("squeeze.weight") else tensor
    return tensor * (1 / 255) if name.endswith(".bias") else tensor


def read_rdn(file: Published) -> Plan:
    """Return the plan of an RDN under either set of names."""
    blocks = file.count("RDBs.{i}.convs.")
    if official := blocks > 0:
        conv, head, fused = "RDBs.{b}.convs.{l}.conv.0", "SFENet{k}", "RDBs.{b}.LFF"
        found, tail = file.subpixel(steps=("UPNet.0", "UPNet.2"), last=("UPNet.2", "UPNet.4"))
    else:
        blocks = file.count("rdbs.{i}.layers.")
        conv, head, fused = "rdbs.{b}.layers.{l}.conv", "sfe{k}", "rdbs.{b}.lff"
        found, tail = file.subpixel(steps=("upscale.0", "upscale.2"), last=("output", "output"))
    fusion = "GFF" if official else "gff"
    layers = {
        "head{k}": head,
        "blocks.{b}.convs.{l}": conv,
        "blocks.{b}.fusion": fused,
        "fusion": f"{fusion}.0",
        "after_fusion": f"{fusion}.1",
    }
    growth, width = file.channels(conv.format(b=0, l=0))
    network = spec(
        RDN,
        scale=file.scale(found),
        width=width,
        blocks=blocks,
        layers=file.count(conv.replace("{b}", "0").replace("{l}", "{i}")),
        growth=growth,
    )
    return Plan(network, layers | tail, adapt=unit_range if official else same)


_DBPN_FIRST = "up1.up_conv1.deconv"


def read_dbpn(file: Published) -> Plan:
    """Return the plan of a DBPN."""
    file.channels(_DBPN_FIRST)
    kernel = file.tensors[f"{_DBPN_FIRST}.weight"].shape[-1]
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
    return Plan(spec(DBPN, scale=scale, width=width, stages=stages, first=first), LAYERS["dbpn"])


def read_imdn(file: Published) -> Plan:
    """Return the plan of an IMDN."""
    width, _ = file.channels("fea_conv")
    colours, _ = file.channels("upsampler.0")  # 3 · scale²
    blocks = max(1, file.count("IMDB{i}.") - 1)  # they count from 1
    scale = file.scale((colours / 3) ** 0.5)
    return Plan(spec(IMDN, scale=scale, width=width, blocks=blocks), LAYERS["imdn"])


OFFICIAL_EDSR = PublishedFormat("the official EDSR", (r"head\.0\.weight",), read_edsr)
RCAN_FORMAT = PublishedFormat(
    "RCAN", (r"body\.0\.body\.\d+\.body\.|body\.0\.residual_group\.\d+\.rcab\.",), read_rcan
)
RDN_FORMAT = PublishedFormat(
    "RDN", (r"RDBs\.0\.convs\.\d+\.conv|rdbs\.0\.layers\.\d+\.conv",), read_rdn
)
DBPN_FORMAT = PublishedFormat("D-DBPN", (r"feat0\.conv\.",), read_dbpn)
IMDN_FORMAT = PublishedFormat("IMDN", (r"IMDB1\.",), read_imdn)
