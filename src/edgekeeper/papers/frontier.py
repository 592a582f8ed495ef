"""Structure against fidelity: what each structure term gives, beside sharpening the plain result.

Each cell is a small network that ships, trained on with one term at one weight beside L1, all from
the same weights on the same batches: what is compared is converged. The line that a term has to
beat needs no training: the network of the plain cell, its result sharpened linearly
(``ops.sharpen``, docs/sharpness.md). At each cell's PSNR the *advantage* is the GV gap of that line
minus the cell's: above 0 the term restores more than a filter does at the same fidelity. Cells and
scores are kept: the same call goes on.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.data.store import Store
from edgekeeper.errors import check_choice
from edgekeeper.evaluation.evaluate import results, score_result
from edgekeeper.evaluation.tables import Table, number
from edgekeeper.files import parse_json, read_text, write_text
from edgekeeper.losses import (
    L1,
    LDL,
    TV,
    AlignedVariance,
    FocalFrequency,
    Gradient,
    GradientVariance,
    Wavelet,
)
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.models import ESPCN, ChainSR, SRModel
from edgekeeper.ops.sharpen import reach, sharpen
from edgekeeper.papers.cells import Ending, Event, Tell, train_cell, trained_cells
from edgekeeper.pretrained.auto_encoded import auto_encoded
from edgekeeper.pretrained.checkpoint import load_model
from edgekeeper.pretrained.zoo import find
from edgekeeper.spec import Spec, spec
from edgekeeper.training.recipe import Data, Loss, Optim, Recipe, Stage, Term

FrontierBudget = Literal["quick", "standard", "paper"]
FRONTIER_SCALE = 4
# Each begins as the network of that name and scale that ships, trained for fidelity.
NETWORKS_OF_FRONTIER: dict[str, Spec[SRModel]] = {
    "espcn": spec(ESPCN, scale=FRONTIER_SCALE),  # of luma
    "fast": spec(ChainSR, scale=FRONTIER_SCALE, width=16, blocks=8, depth=3),
    "balanced": spec(ChainSR, scale=FRONTIER_SCALE, width=32, blocks=6, depth=3),
}
# The loss, and the middle one of its weights beside L1.
STRUCTURE_TERMS: dict[str, tuple[Spec[Loss], float]] = {
    "tv": (spec(TV, reduction="mean"), 0.1),
    "gv": (spec(GradientVariance, patch=16), 0.1),
    "gv_l2": (spec(GradientVariance, patch=16, norm="l2"), 3e-3),
    "gradient": (spec(Gradient), 1.0),
    "ldl": (spec(LDL), 30.0),
    "frequency": (spec(FocalFrequency), 30.0),
    "wavelet": (spec(Wavelet), 10.0),
    "aligned": (spec(AlignedVariance, scale=FRONTIER_SCALE), 0.3),  # ours
    "aesop": (spec(auto_encoded, decoder="espcn_x4"), 1.0),  # the decoder is the cell's beginning
}
FRONTIER_MEASURES = ("psnr", "ssim", "gv_ratio", "gv_gap", "risk")
FACTORS_OF_WEIGHT = (0.1, 0.3, 1.0, 3.0, 10.0)
STRENGTHS = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.007, 0.01)  # of the plain network's sharpening
# Updates by network.
_BUDGETS: dict[FrontierBudget, dict[str, int]] = {
    "quick": {"espcn": 200, "fast": 100, "balanced": 50},
    "standard": {"espcn": 8_000, "fast": 4_000, "balanced": 2_000},
    "paper": {"espcn": 100_000, "fast": 50_000, "balanced": 36_000},
}


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """Means over the images of all sets and the seeds of one term at one weight, or a strength.

    ``advantage``: the GV gap of the sharpened plain network at the same PSNR minus this one's, with
    its 95 % bootstrap interval over images; ``saved`` is that of the risk. The line reaches from
    its best PSNR to its least gap; what is above or below is compared with that end.
    """

    network: str
    term: str
    weight: float
    seeds: int
    psnr: float
    ssim: float
    gv_ratio: float
    gv_gap: float
    risk: float
    advantage: float | None = None
    low: float | None = None
    high: float | None = None
    saved: float | None = None
    saved_low: float | None = None
    saved_high: float | None = None


@dataclass(frozen=True)
class Frontier:
    """The points so far, and the cells that are still to do."""

    budget: FrontierBudget
    store: str
    points: tuple[FrontierPoint, ...]
    unfinished: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Everything as plain values."""
        return asdict(self)


class Sharpened(SRModel):
    """A network whose result is sharpened linearly."""

    def __init__(self, *, network: SRModel, strength: float) -> None:
        super().__init__()
        self.network, self.strength = network, strength
        self.scale, self.channels = network.scale, network.channels
        self.receptive_field = network.receptive_field + reach(strength)  # HR pixels: ample

    def forward(self, lr: Tensor) -> Tensor:
        """Return the sharpened SR batch."""
        return sharpen(self.network(lr), self.strength)  # (B, C, rH, rW)


def structure_frontier(
    *,
    store: Store,
    data_root: str | Path,
    out: str | Path,
    budget: FrontierBudget = "quick",
    networks: Sequence[str] = tuple(NETWORKS_OF_FRONTIER),
    sets: Sequence[str] = ("set5", "set14"),
    seeds: Sequence[int] = (0, 1, 2),
    device: str = "cpu",
    time_limit: float | None = None,
    steps: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Frontier:
    """Return the frontier as far as it is done: all, or what ``time_limit`` seconds allowed.

    ``steps``: updates of every cell instead of the budget's. Network, log and scores of a cell lie
    in ``out/<cell>/``. Raises as ``reproduce``.
    """
    for name in networks:
        check_choice("network of structure-frontier", name, known=NETWORKS_OF_FRONTIER)
    grid = [
        (network, term, 0.0 if term == "none" else STRUCTURE_TERMS[term][1] * factor)
        for network in networks
        for term in ("none", *STRUCTURE_TERMS)
        for factor in (FACTORS_OF_WEIGHT[:1] if term == "none" else FACTORS_OF_WEIGHT)
    ]
    until = math.inf if time_limit is None else time.monotonic() + time_limit
    cells = {
        _cell(*place, steps=steps or _BUDGETS[budget][place[0]], seed=seed): place
        for seed in seeds
        for place in grid
    }

    def train_one(recipe: Recipe, tell: Tell) -> Ending:
        begin, folder = find(f"{cells[recipe][0]}_x{FRONTIER_SCALE}"), Path(out) / recipe.name
        return train_cell(
            recipe, store, folder=folder, start=begin, device=device, until=until, tell=tell
        )

    measured: dict[Recipe, list[NDArray[np.float64]]] = {}
    for recipe, _, ended in trained_cells([*cells], train_one, on_event=on_event):
        if ended != "finished":
            break
        measured[recipe] = [
            _measured(
                Path(out) / recipe.name, strength=x, sets=sets, data_root=data_root, device=device
            )
            for x in (STRENGTHS if cells[recipe][1] == "none" else STRENGTHS[:1])
        ]
    found: dict[tuple[str, str, float], list[NDArray[np.float64]]] = {}
    for recipe, (network, term, weight) in cells.items():
        for strength, values in zip(STRENGTHS, measured.get(recipe, ()), strict=False):
            key = ("sharpened", strength) if term == "none" else (term, weight)
            found.setdefault((network, *key), []).append(values)
    left = [r.name for r in cells if not (Path(out) / r.name / "model.safetensors").is_file()]
    return Frontier(budget, store.fingerprint, tuple(_points(found)), tuple(left))


def _cell(network: str, term: str, weight: float, *, steps: int, seed: int) -> Recipe:
    """Return the training of one cell."""
    pixel = Term("pixel", spec(L1))
    terms: tuple[Term, ...] = (pixel,)
    if term != "none":
        loss = STRUCTURE_TERMS[term][0]
        if term == "aesop":
            loss = spec(auto_encoded, decoder=f"{network}_x{FRONTIER_SCALE}")
        terms += (Term(term, loss, weight=weight),)
    optim = Optim(
        learning_rate=5e-4, warmup=min(50, steps), schedule="cosine", clip="norm", clip_limit=1.0
    )
    return Recipe(
        name=f"{network}_{term}" + (f"_{weight:g}" if weight else "") + f"_seed{seed}",
        model=NETWORKS_OF_FRONTIER[network],
        data=Data(patch=24 * FRONTIER_SCALE, batch=8),
        stages=(Stage("train", steps, optim, terms),),
        seed=seed,
        ema_decay=0.99,
    )


def _measured(
    folder: Path, *, strength: float, sets: Sequence[str], data_root: str | Path, device: str
) -> NDArray[np.float64]:
    """Return (images, measures) of a trained cell, from its file where it was measured before."""
    label = "-".join(Path(name).name for name in sets)
    path = folder / f"scores-frontier-{label}-{strength:g}.jsonl"
    if path.is_file():
        lines = read_text(path).splitlines()
        return np.array([parse_json(line) for line in lines])
    network: SRModel = load_model(folder / "model.safetensors").to(device)
    if strength:
        network = Sharpened(network=network, strength=strength)
    rows = []
    for result in results(network, sets=sets, scale=FRONTIER_SCALE, data_root=data_root):
        score = score_result(result, result.pair.hr(), metrics=FRONTIER_MEASURES[:-1])
        risk = structure_risk(
            result.pair.lr(), result.image.clamp(0, 1), scale=FRONTIER_SCALE
        ).score
        values = [float(score.value(name) or 0.0) for name in FRONTIER_MEASURES[:-1]]
        rows.append([*values, float(risk)])
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return np.array(rows)


def _points(found: dict[tuple[str, str, float], list[NDArray[np.float64]]]) -> list[FrontierPoint]:
    """Return a point per term and weight, against the sharpened line of its network."""
    points = []
    for (network, term, weight), tables in found.items():
        values = np.mean(tables, axis=0)  # (images, measures), over the seeds
        means = dict(zip(FRONTIER_MEASURES, map(float, values.mean(0)), strict=True))
        point = FrontierPoint(network=network, term=term, weight=weight, seeds=len(tables), **means)
        line = [found.get((network, "sharpened", s)) for s in STRENGTHS]
        if term != "sharpened" and all(line):
            plain = np.array([np.mean(tables, axis=0) for tables in line if tables])
            advantage, low, high = _advantage(values, plain, of="gv_gap")
            saved, saved_low, saved_high = _advantage(values, plain, of="risk")
            point = replace(point, advantage=advantage, low=low, high=high)
            point = replace(point, saved=saved, saved_low=saved_low, saved_high=saved_high)
        points.append(point)
    return points


def _advantage(
    values: NDArray[np.float64], line: NDArray[np.float64], *, of: str, draws: int = 2_000
) -> tuple[float, float, float]:
    """Return how much less ``of`` there is than on ``line`` (strengths, images, measures)."""
    columns = [FRONTIER_MEASURES.index(measure) for measure in ("psnr", of)]

    def at(chosen: NDArray[np.int64]) -> float:
        psnr, mine = (values[chosen, column].mean() for column in columns)
        xs, ys = (line[:, chosen, column].mean(1) for column in columns)  # (strengths,)
        gaps = line[:, chosen, FRONTIER_MEASURES.index("gv_gap")].mean(1)
        best = int(xs.argmax())  # weaker sharpening costs dB and gap: nobody's choice,
        end = best + int(gaps[best:].argmin())  # nor is stronger than at the least gap
        line_at = np.interp(psnr, xs[best : end + 1][::-1], ys[best : end + 1][::-1])
        return float(line_at - mine)

    images = np.arange(len(values))
    generator = np.random.default_rng(0)
    drawn = [at(generator.integers(0, len(images), len(images))) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return at(images), float(low), float(high)


def frontier_table(found: Frontier) -> Table:
    """Return the points as a table, by network and term."""
    columns = (
        *("network", "term", ">weight", ">PSNR", ">GV ratio", ">GV gap", ">risk %"),
        *(">advantage [95 %]", ">less risk % [95 %]"),
    )
    cells = []
    for p in found.points:
        gain, less = "-", "-"
        if p.advantage is not None:
            gain = f"{p.advantage:+.3f} [{p.low:+.3f}, {p.high:+.3f}]"
        if p.saved is not None and p.saved_low is not None and p.saved_high is not None:
            low, high = 100 * p.saved_low, 100 * p.saved_high
            less = f"{100 * p.saved:+.2f} [{low:+.2f}, {high:+.2f}]"
        numbers = [number(v, digits=n) for v, n in ((p.psnr, 2), (p.gv_ratio, 3))]
        numbers += [number(p.gv_gap, digits=3), number(100 * p.risk, digits=2), gain, less]
        cells.append((p.network, p.term, f"{p.weight:g}", *numbers))
    notes = (
        "advantage: GV gap of the plain network sharpened to the same PSNR, minus this one's.",
        "less risk: the same for the risk. The line ends at its best PSNR and at its least gap.",
        "Intervals over images; chance in training is in them only through the mean over seeds.",
    )
    title = f"structure-frontier, budget {found.budget}"
    return Table(title, columns, tuple(cells), notes, keys=3)
