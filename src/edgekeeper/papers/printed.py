"""What the tables of SPSR and DGGGAN print, each number with the definition it was measured by.

SPSR: Ma et al., "Structure-Preserving Super Resolution with Gradient Guidance", CVPR 2020,
https://arxiv.org/abs/2003.13081, tables 1 and 2. DGGGAN: "Image Super-Resolution Using Gradient
Guidance and Generative Adversarial Networks", https://doi.org/10.54097/jceim.v10i1.5074, tables
1 to 4. All at x4. Both measure PSNR on MATLAB's uint8 luma without a border of 4 pixels; SSIM is
of two kinds, which differ by up to 0.25 on the same image:

- "spsr_toolbox": large images are shrunk first, as Wang's ssim.m does by itself;
- "y_matlab": they are not.

SPSR's tables have the first kind throughout; its row "Bicubic" was made from LR images that were
never rounded. DGGGAN's table 3 mixes both. The numbers stand in ``printed.toml``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgekeeper import models
from edgekeeper.files import read_facts
from edgekeeper.models import SRModel
from edgekeeper.spec import Spec, spec

Definition = Literal["spsr_toolbox", "y_matlab", "not stated"]
Numbers = dict[str, tuple[float, ...]]
"""What a row prints: for psnr, ssim, lpips or pi a number for each set of the table."""


@dataclass(frozen=True)
class PrintedTable:
    """A table of a paper: numbers by row, as printed.

    sets: as the catalogue names them, in the order of the numbers. rows: by method, in the
    paper's order. ssim: the kind of SSIM of each set, by method; methods that are not named have
    that of ``usual_ssim``. notes: what is odd about the numbers.
    """

    number: int
    paper: str
    title: str
    sets: tuple[str, ...]
    rows: dict[str, Numbers]
    usual_ssim: Definition = "spsr_toolbox"
    ssim: Mapping[str, Sequence[Definition]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """What the table prints."""
        return tuple(dict.fromkeys(measure for row in self.rows.values() for measure in row))

    def value(self, method: str, *, set_name: str, measure: str) -> float | None:
        """Return the number in a cell, None for what the table does not print."""
        numbers = self.rows[method].get(measure)
        return None if numbers is None else numbers[self.sets.index(set_name)]

    def decimals(self, measure: str) -> int:
        """Return how many decimals the table prints of a measure, 0 when it prints none."""
        printed = [value for row in self.rows.values() for value in row.get(measure, ())]
        return max((len(str(value).partition(".")[2]) for value in printed), default=0)

    def definition(self, method: str, *, set_name: str) -> Definition:
        """Return the kind of SSIM that a row has on a set."""
        kinds = self.ssim.get(method)
        return self.usual_ssim if kinds is None else kinds[self.sets.index(set_name)]


def _read() -> Iterator[tuple[str, PrintedTable]]:
    for name, facts in read_facts("edgekeeper.papers", "printed.toml").items():
        rows = {
            method: {measure: tuple(values) for measure, values in numbers.items()}
            for method, numbers in facts.pop("rows").items()
        }
        sets, notes = (tuple(facts.pop(key, ())) for key in ("sets", "notes"))
        yield name, PrintedTable(sets=sets, rows=rows, notes=notes, **facts)


PRINTED: dict[str, PrintedTable] = dict(_read())
"""The tables by the name that the command line has for them."""


# ---- The papers' networks as points for comparison ----------------------------------------------

PRINTED_NETWORKS: dict[str, Spec[SRModel]] = {
    "EDSR": spec(models.EDSR, width=256, blocks=32, residual_scale=0.1, scale=4),
    "RCAN": spec(models.RCAN),
    "RDN": spec(models.RDN),
    "DBPN": spec(models.DBPN),
    "SFTGAN": spec(models.SFTGAN),
    "SRGAN": spec(models.SRResNet),
    "ESRGAN": spec(models.RRDB),
    "NatSR": spec(models.NatSR),
    "SPSR": spec(models.SPSR),
    "DGGGAN": spec(models.DGGGAN),
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
    for method, model in PRINTED_NETWORKS.items():
        psnr, lpips = (_first(method, set_name, measure) for measure in ("psnr", "lpips"))
        if method in WITHOUT_LPIPS:
            lpips = None
        if psnr is not None or lpips is not None:
            found.append(Quoted(method, model, psnr, lpips))
    return found


def _first(method: str, set_name: str, measure: str) -> float | None:
    for name in ("spsr-table1", "dgggan-table3", "dgggan-table4"):
        table = PRINTED[name]
        if method in table.rows and set_name in table.sets:
            value = table.value(method, set_name=set_name, measure=measure)
            if value is not None:
                return value
    return None
