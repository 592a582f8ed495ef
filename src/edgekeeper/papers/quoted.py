"""The papers' networks with the quality that is printed for them: points for comparison."""

from dataclasses import dataclass

from edgekeeper.models import (
    DBPN,
    DGGGAN,
    EDSR,
    RCAN,
    RDN,
    RRDB,
    SFTGAN,
    SPSR,
    NatSR,
    SRModel,
    SRResNet,
)
from edgekeeper.papers.printed import PRINTED
from edgekeeper.spec import Spec, spec

NETWORKS: dict[str, Spec[SRModel]] = {
    "EDSR": spec(EDSR, width=256, blocks=32, residual_scale=0.1, scale=4),
    "RCAN": spec(RCAN),
    "RDN": spec(RDN),
    "DBPN": spec(DBPN),
    "SFTGAN": spec(SFTGAN),
    "SRGAN": spec(SRResNet),
    "ESRGAN": spec(RRDB),
    "NatSR": spec(NatSR),
    "SPSR": spec(SPSR),
    "DGGGAN": spec(DGGGAN),
}
"""The network of each printed row; DGGGAN is design A, the one that meets its printed cost."""

WITHOUT_LPIPS = ("EDSR", "RCAN", "RDN", "DBPN")
"""Rows whose printed LPIPS is of an unstated kind: RCAN's own images do not measure it."""


@dataclass(frozen=True)
class Quoted:
    """A method, its network, and what the papers print for it on a set."""

    method: str
    model: Spec[SRModel]
    psnr: float | None
    lpips: float | None


def quoted_networks(set_name: str) -> list[Quoted]:
    """The printed PSNR (luma, border 4) and LPIPS on a set at x4; SPSR's table where both print.

    LPIPS is None for ``WITHOUT_LPIPS``. Methods without a number on the set are left out.
    """
    found = []
    for method, model in NETWORKS.items():
        psnr = _first(method, set_name=set_name, measure="psnr")
        comparable = method not in WITHOUT_LPIPS
        lpips = _first(method, set_name=set_name, measure="lpips") if comparable else None
        if psnr is not None or lpips is not None:
            found.append(Quoted(method, model, psnr, lpips))
    return found


def _first(method: str, *, set_name: str, measure: str) -> float | None:
    for name in ("spsr-table1", "dgggan-table3", "dgggan-table4"):
        table = PRINTED[name]
        if method in table.rows and set_name in table.sets:
            value = table.value(method, set_name=set_name, measure=measure)
            if value is not None:
                return value
    return None
