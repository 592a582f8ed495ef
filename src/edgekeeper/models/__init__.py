"""The networks, one paper a file, and the table that names them."""

from edgekeeper.models.base import SRModel, parameter_count
from edgekeeper.models.edsr import EDSR
from edgekeeper.models.espcn import ESPCN
from edgekeeper.models.srcnn import SRCNN
from edgekeeper.models.vdsr import VDSR

MODELS: dict[str, type[SRModel]] = {
    "srcnn": SRCNN,
    "vdsr": VDSR,
    "espcn": ESPCN,
    "edsr": EDSR,
}

__all__ = ["EDSR", "ESPCN", "MODELS", "SRCNN", "VDSR", "SRModel", "parameter_count"]
