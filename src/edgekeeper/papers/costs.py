"""Table 5 of DGGGAN: parameters and FLOPs of six networks, counted anew.

The paper does not say how FLOPs are counted, nor at what size. One rule gives four columns to the
printed digit: 2 (MAC + outputs with a bias) at an LR image of 50 x 50 pixels (or, which is the
same number, 1 for a MAC at twice as many pixels). Two columns were counted otherwise.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Literal

import torch

from edgekeeper.evaluation.cost import TABLE5_SIZE, count
from edgekeeper.evaluation.tables import Table, number
from edgekeeper.models import DGGGAN, RRDB, SFTGAN, SPSR, NatSR, SRModel, SRResNet
from edgekeeper.spec import Spec, spec


def shapes_of(description: Spec[SRModel]) -> SRModel:
    """Return the network on the meta device: it has shapes and no weights, and is only counted."""
    with torch.device("meta"):
        return description.build()


Rule = Literal["2 (MAC + bias)", "1 (MAC + bias)", "2 MAC", "1 MAC"]


@dataclass(frozen=True)
class CostRow:
    """A network counted by one rule at one size; FLOPs and parameters in G and M.

    ``printed_parameters`` and ``printed_flops`` are the paper's, None where it has no such row.
    ``agrees``: both come out to the digit that is printed.
    """

    method: str
    network: str
    size: tuple[int, int]
    rule: Rule
    parameters: float
    flops: float
    printed_parameters: float | None
    printed_flops: float
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the counts, rounded as the paper rounds, are what it prints."""
        pairs = ((self.parameters, self.printed_parameters), (self.flops, self.printed_flops))
        return all(theirs is None or round(ours, 1) == theirs for ours, theirs in pairs)


@dataclass(frozen=True)
class _Case:  # a way of counting that is tried for a column
    method: str
    model: Spec[SRModel]
    note: str = ""
    size: tuple[int, int] = TABLE5_SIZE
    rule: Rule = "2 (MAC + bias)"
    extra: Callable[[SRModel, tuple[int, int]], int] | None = None


def _refine_again(model: SRModel, size: tuple[int, int]) -> int:
    assert isinstance(model, SPSR)
    layer = model.sr.refine
    assert layer.bias is not None
    pixels = size[0] * size[1] * model.scale**2
    return 2 * pixels * (layer.weight.numel() + layer.bias.numel())


# parameters in M, FLOPs in G
_PRINTED: dict[str, tuple[float | None, float]] = {
    "SFTGAN": (1.8, 0.8),
    "NatSR": (5.0, 12.5),
    "ESRGAN": (16.7, 89.7),
    "SRGAN": (0.7, 7.0),
    "SPSR": (24.8, 265.1),
    "DGGGAN": (14.6, 23.7),
    "DGGGAN without SE": (None, 23.6),  # Table 2
}

_DESIGN_B = spec(DGGGAN, body="lr")
_HALF: Rule = "1 (MAC + bias)"
_CASES = (
    _Case("ESRGAN", spec(RRDB)),
    _Case("SRGAN", spec(SRResNet, blocks=5, bias=True), "5 blocks"),
    _Case("SPSR", spec(SPSR), "each layer once"),
    _Case("SPSR", spec(SPSR), "one layer twice", extra=_refine_again),
    _Case("DGGGAN", spec(DGGGAN), "design A"),
    _Case("DGGGAN", _DESIGN_B, "design B"),
    _Case("DGGGAN", _DESIGN_B, "design B", size=(36, 36), rule=_HALF),
    _Case("DGGGAN without SE", spec(DGGGAN, se=False), "Table 2"),
    _Case("NatSR", spec(NatSR)),
    _Case("NatSR", spec(NatSR), size=(48, 48), rule="1 MAC"),
    _Case("SFTGAN", spec(SFTGAN)),
    _Case("SFTGAN", spec(SFTGAN), "a guess", size=(12, 12), rule="2 MAC"),
)


def table5() -> list[CostRow]:
    """Every way of counting that was tried for the columns of Table 5, and Table 2's two FLOPs."""
    rows = []
    for model, cases in groupby(_CASES, key=lambda case: case.model):
        network = shapes_of(model)
        rows += [_row(case, network) for case in cases]
    return rows


def _row(case: _Case, network: SRModel) -> CostRow:
    found = count(network, size=case.size, of="image and gradient map")
    flops = found.flops if "bias" in case.rule else 2 * found.macs
    flops = flops if case.rule.startswith("2") else flops // 2
    flops += case.extra(network, case.size) if case.extra is not None else 0
    parameters, printed = _PRINTED[case.method]
    return CostRow(
        method=case.method,
        network=case.model.name,
        size=case.size,
        rule=case.rule,
        parameters=found.parameters / 1e6,
        flops=flops / 1e9,
        printed_parameters=parameters,
        printed_flops=printed,
        note=case.note,
    )


def costs_as_table(rows: list[CostRow]) -> Table:
    """Return the rows, those that agree with the paper marked."""
    columns = ("column", ">paper: M", ">ours: M", ">paper: GFLOPs", ">ours: GFLOPs", "agree", ">LR")
    cells = tuple(
        (
            row.method,
            number(row.printed_parameters, digits=1),
            number(row.parameters, digits=3),
            number(row.printed_flops, digits=1),
            number(row.flops, digits=3),
            "yes" if row.agrees else "no",
            f"{row.size[0]}x{row.size[1]}",
            row.rule,
            row.note,
        )
        for row in rows
    )
    return Table("dgggan-table5", (*columns, "rule", "counted"), cells, NOTES)


NOTES = (
    "The paper names neither input size nor rule: these were found by trying, and are stated with "
    "each number. 2 FLOPs a MAC at 50x50 is the same as 1 a MAC at 50x100.",
    "SRGAN: 5 residual blocks, where its paper has 16. SPSR: the published code holds the first "
    "convolution at HR size under two names.",
    "DGGGAN: design A has its body at half the LR size; B, at LR size, costs as much as ESRGAN, "
    "where the paper claims a quarter. Without SE: Table 2.",
    "NatSR and SFTGAN were counted otherwise, so these columns cannot be compared with the "
    "others. SFTGAN fits if its map of categories, which has HR size, was given 48x48 pixels.",
    "SPSR and DGGGAN with their SR gradient maps, which they make in training only.",
)


def costs_as_json(rows: list[CostRow]) -> dict[str, object]:
    """Return the rows as plain values."""
    plain = [{**asdict(row), "size": list(row.size), "agrees": row.agrees} for row in rows]
    return {"table": "dgggan-table5", "notes": list(NOTES), "rows": plain}
