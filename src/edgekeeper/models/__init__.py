"""The networks, one paper a file, and the table that names them."""

from edgekeeper.models.base import SRModel, parameter_count
from edgekeeper.models.dbpn import DBPN
from edgekeeper.models.dgggan import DGGGAN
from edgekeeper.models.dgggan_light import DGGGANLight
from edgekeeper.models.discriminators import SRGANDiscriminator, VGGDiscriminator
from edgekeeper.models.edsr import EDSR
from edgekeeper.models.espcn import ESPCN
from edgekeeper.models.fsrcnn import FSRCNN
from edgekeeper.models.gradient_branch import GradientBranch, GradientGuided
from edgekeeper.models.imdn import IMDN
from edgekeeper.models.natsr import NatSR, NaturalManifoldDiscriminator
from edgekeeper.models.rcan import RCAN
from edgekeeper.models.rdn import RDN
from edgekeeper.models.rrdb import RRDB
from edgekeeper.models.sftgan import SFTGAN
from edgekeeper.models.spsr import SPSR
from edgekeeper.models.srcnn import SRCNN
from edgekeeper.models.srresnet import MSRResNet, SRResNet
from edgekeeper.models.vdsr import VDSR

MODELS: dict[str, type[SRModel]] = {
    "srcnn": SRCNN,
    "vdsr": VDSR,
    "espcn": ESPCN,
    "edsr": EDSR,
    "rrdb": RRDB,
    "spsr": SPSR,
    "sftgan": SFTGAN,
    "natsr": NatSR,
    "srresnet": SRResNet,
    "msrresnet": MSRResNet,
    "fsrcnn": FSRCNN,
    "imdn": IMDN,
    "rcan": RCAN,
    "rdn": RDN,
    "dbpn": DBPN,
    "dgggan": DGGGAN,
    "dggganlight": DGGGANLight,
    "gradientbranch": GradientBranch,
}

__all__ = [
    "DBPN",
    "DGGGAN",
    "EDSR",
    "ESPCN",
    "FSRCNN",
    "IMDN",
    "MODELS",
    "RCAN",
    "RDN",
    "RRDB",
    "SFTGAN",
    "SPSR",
    "SRCNN",
    "VDSR",
    "DGGGANLight",
    "GradientBranch",
    "GradientGuided",
    "MSRResNet",
    "NatSR",
    "NaturalManifoldDiscriminator",
    "SRGANDiscriminator",
    "SRModel",
    "SRResNet",
    "VGGDiscriminator",
    "parameter_count",
]
