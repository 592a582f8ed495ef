"""The networks, one paper a file, and the table that names them; docs/models.md describes them.

Beside them: what every network is and the weights that several start with (``base``), the
enlargements and tails that several share (``enlarge``), the discriminators of adversarial training
(``discriminators``; NatSR's is in its own file), the frozen VGG19 and AlexNet that losses and
metrics look through (``backbones``), and what learns before a loss looks through it (``taught``). A
paper that is built on another imports that one's file: SPSR has RRDB's blocks, NatSR has RDN's,
RCAN subtracts EDSR's mean colour.
"""

from edgekeeper.models.base import GradientGuided, SRModel, parameter_count
from edgekeeper.models.chainsr import ChainSR
from edgekeeper.models.dbpn import DBPN
from edgekeeper.models.dgggan import DGGGAN
from edgekeeper.models.dgggan_light import DGGGANLight
from edgekeeper.models.discriminators import (
    PatchDiscriminator,
    SRGANDiscriminator,
    UNetDiscriminator,
    VGGDiscriminator,
    WaveletDiscriminator,
)
from edgekeeper.models.edsr import EDSR
from edgekeeper.models.espcn import ESPCN
from edgekeeper.models.fsrcnn import FSRCNN
from edgekeeper.models.gradient_branch import GradientBranch
from edgekeeper.models.imdn import IMDN
from edgekeeper.models.natsr import NatSR, NaturalManifoldDiscriminator
from edgekeeper.models.rcan import RCAN
from edgekeeper.models.rdn import RDN
from edgekeeper.models.rrdb import RRDB
from edgekeeper.models.sftgan import SFTGAN
from edgekeeper.models.spsr import SPSR
from edgekeeper.models.srcnn import SRCNN
from edgekeeper.models.srresnet import MSRResNet, SRResNet
from edgekeeper.models.srvgg import SRVGGNetCompact
from edgekeeper.models.taught import AutoEncoder, StructureExtractor
from edgekeeper.models.vdsr import VDSR

_NETWORKS: tuple[type[SRModel], ...] = (
    SRCNN,
    VDSR,
    ESPCN,
    EDSR,
    RRDB,
    SPSR,
    SFTGAN,
    NatSR,
    SRResNet,
    MSRResNet,
    FSRCNN,
    IMDN,
    RCAN,
    RDN,
    DBPN,
    DGGGAN,
    DGGGANLight,
    ChainSR,
    SRVGGNetCompact,
    GradientBranch,
)
MODELS = {network.__name__.lower(): network for network in _NETWORKS}

__all__ = ["DBPN", "DGGGAN", "EDSR", "ESPCN", "FSRCNN", "IMDN", "MODELS", "RCAN", "RDN", "RRDB"]
__all__ += ["SFTGAN", "SPSR", "SRCNN", "VDSR", "AutoEncoder", "ChainSR", "DGGGANLight"]
__all__ += ["GradientBranch", "GradientGuided", "MSRResNet", "NatSR"]
__all__ += ["NaturalManifoldDiscriminator", "PatchDiscriminator", "SRGANDiscriminator", "SRModel"]
__all__ += ["SRResNet", "SRVGGNetCompact", "StructureExtractor", "UNetDiscriminator"]
__all__ += ["VGGDiscriminator", "WaveletDiscriminator", "parameter_count"]
