"""The networks, one paper a file, and the table that names them.

    network         file             scales  from                         recipes in
    SRCNN           srcnn            2 3 4   Dong et al., TPAMI 2016      comparators
    VDSR            vdsr             2 3 4   Kim et al., CVPR 2016        gv_table1 gv_table2
    ESPCN           espcn            2 3 4   Shi et al., CVPR 2016        demo gv_table1 shipped
    EDSR            edsr             2 3 4   Lim et al., CVPRW 2017       branch comparators
                                                                          gv_table1 shipped spsr
    RRDB            rrdb             2 3 4   Wang et al., ECCV 2018       spsr
    SPSR            spsr             2 3 4   Ma et al., CVPR 2020         spsr
    SFTGAN          sftgan           2 3 4   Wang et al., CVPR 2018       comparators
    NatSR           natsr            2 3 4   Soh et al., CVPR 2019        comparators
    SRResNet        srresnet         2 3 4   Ledig et al., CVPR 2017      comparators
    MSRResNet       srresnet         2 3 4   BasicSR                      none
    FSRCNN          fsrcnn           2 3 4   Dong et al., ECCV 2016       comparators
    IMDN            imdn             2 3 4   Hui et al., Multimedia 2019  comparators
    RCAN            rcan             2 3 4   Zhang et al., ECCV 2018      comparators
    RDN             rdn              2 3 4   Zhang et al., CVPR 2018      comparators
    DBPN            dbpn             2 4 8   Haris et al., CVPR 2018      comparators
    DGGGAN          dgggan           2 3 4   Ma and Li, JCEIM 2023        dgggan
    DGGGANLight     dgggan_light     2 3 4   DGGGAN's family              dgggan
    ChainSR         chainsr          2 3 4   after SPAN                   ladder
    SRVGGNetCompact srvgg            2 3 4   Wang et al., ICCVW 2021      none
    GradientBranch  gradient_branch  any     Ma et al., CVPR 2020         branch spsr

Beside them: what every network is and the weights that several start with (``base``), the
enlargements and tails that several share (``enlarge``), the discriminators of adversarial training
(``discriminators``; NatSR's is in its own file), and the frozen VGG19 and AlexNet that losses and
metrics look through (``backbones``). A paper that is built on another imports
that one's file: SPSR has RRDB's blocks, NatSR has RDN's, RCAN subtracts EDSR's mean colour.
"""

from edgekeeper.models.base import GradientGuided, SRModel, parameter_count
from edgekeeper.models.chainsr import ChainSR
from edgekeeper.models.dbpn import DBPN
from edgekeeper.models.dgggan import DGGGAN
from edgekeeper.models.dgggan_light import DGGGANLight
from edgekeeper.models.discriminators import SRGANDiscriminator, VGGDiscriminator
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
    "chainsr": ChainSR,
    "srvggnetcompact": SRVGGNetCompact,
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
    "ChainSR",
    "DGGGANLight",
    "GradientBranch",
    "GradientGuided",
    "MSRResNet",
    "NatSR",
    "NaturalManifoldDiscriminator",
    "SRGANDiscriminator",
    "SRModel",
    "SRResNet",
    "SRVGGNetCompact",
    "VGGDiscriminator",
    "parameter_count",
]
