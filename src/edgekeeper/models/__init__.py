"""The networks, one paper a file, and the table that names them."""

from edgekeeper.models.base import SRModel, parameter_count
from edgekeeper.models.discriminators import VGGDiscriminator
from edgekeeper.models.edsr import EDSR
from edgekeeper.models.espcn import ESPCN
from edgekeeper.models.gradient_branch import GradientBranch, GradientGuided
from edgekeeper.models.rrdb import RRDB
from edgekeeper.models.spsr import SPSR
from edgekeeper.models.srcnn import SRCNN
from edgekeeper.models.vdsr import VDSR

MODELS: dict[str, type[SRModel]] = {
    "srcnn": SRCNN,
    "vdsr": VDSR,
    "espcn": ESPCN,
    "edsr": EDSR,
    "rrdb": RRDB,
    "spsr": SPSR,
}

__all__ = [
    "EDSR",
    "ESPCN",
    "MODELS",
    "RRDB",
    "SPSR",
    "SRCNN",
    "VDSR",
    "GradientBranch",
    "GradientGuided",
    "SRModel",
    "VGGDiscriminator",
    "parameter_count",
]
