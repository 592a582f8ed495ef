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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.data.store import Store
from edgekeeper.errors import check_choice
from edgekeeper.evaluation.evaluate import results, score_result
from edgekeeper.evaluation.tables import Table, number, with_interval
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
from edgekeeper.metrics.perceptual import HEADS_FILE
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.metrics.statistics import Interval
from edgekeeper.metrics.structure import REGIONS, variances_by_region
from edgekeeper.models import ESPCN, ChainSR, SRModel
from edgekeeper.models.backbones import ALEXNET_FILE
from edgekeeper.ops.sharpen import reach, sharpen
from edgekeeper.papers.cells import Ending, Event, Tell, train_cell, trained_cells
from edgekeeper.papers.scored import is_there
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
    "fast": spec(ChainSR, scale=FRONTIER_SCALE, width=16, blocks=7, depth=3),
    "balanced": spec(ChainSR, scale=FRONTIER_SCALE, width=32, blocks=5, depth=3),
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
FRONTIER_MEASURES = ("psnr", "ssim", "gv_ratio", "gv_gap", "risk_percent", "lpips")
# And of each image the gap and the variance of HR, summed over the patches of each region.
_NUMBERS = len(FRONTIER_MEASURES) + 2 * len(REGIONS)
_GAPS = tuple(f"gap_{region}" for region in REGIONS)
FACTORS_OF_WEIGHT = (0.1, 0.3, 1.0, 3.0, 10.0)
STRENGTHS = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.007, 0.01)  # of the plain network's sharpening
# Updates by network.
_BUDGETS: dict[FrontierBudget, dict[str, int]] = {
    "quick": {"espcn": 200, "fast": 100, "balanced": 50},
    "standard": {"espcn": 8_000, "fast": 4_000, "balanced": 2_000},
    "paper": {"espcn": 100_000, "fast": 50_000, "balanced": 36_000},
}


@dataclass(frozen=True)
class FrontierPoint:
    """Means over the images of all sets and the seeds of one term at one weight, or a strength.

    ``advantage``: the GV gap of the sharpened plain network at the same PSNR minus this one's, with
    its 95 % bootstrap interval over images; ``saved_percent`` is that of the risk. The line reaches
    from its best PSNR to its least gap; what is above or below is compared with that end.
    ``lpips`` is None where a weight file was not there; the gaps by region (None where the region
    has no variance) are those of ``report``: over all patches of the region, in all images.
    """

    network: str
    term: str
    weight: float
    seeds: int
    psnr: float
    ssim: float
    gv_ratio: float
    gv_gap: float
    risk_percent: float
    _: KW_ONLY
    lpips: float | None = None
    gap_edges: float | None = None
    gap_texture: float | None = None
    gap_flat: float | None = None
    advantage: Interval | None = None
    saved_percent: Interval | None = None


@dataclass(frozen=True)
class FrontierArea:
    """The area, dB times GV gap, by which a term's frontier lies below the line, and its interval.

    Between the PSNRs that its weights span, as far as the line reaches; above 0 it is better.
    """

    network: str
    term: str
    area: Interval


_Place = tuple[str, str, float]  # network, term, weight
_Points = tuple[tuple[FrontierPoint, ...], tuple[FrontierArea, ...]]


@dataclass(frozen=True)
class Frontier:
    """The points so far, and the cells that are still to do."""

    budget: FrontierBudget
    store: str
    points: tuple[FrontierPoint, ...]
    areas: tuple[FrontierArea, ...]
    unfinished: tuple[str, ...]


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
    weights: Path | None = None,
    device: str = "cpu",
    time_limit: float | None = None,
    steps: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Frontier:
    """Return the frontier as far as it is done: all, or what ``time_limit`` seconds allowed.

    ``steps``: updates of every cell instead of the budget's. Network, log and scores of a cell lie
    in ``out/<cell>/``. ``weights`` is the folder of LPIPS. Raises InputError, and as
    ``reproduce``.
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

    score = partial(_measured, sets=sets, data_root=data_root, device=device, weights=weights)
    measured: dict[Recipe, list[NDArray[np.float64]]] = {}
    for recipe, _, ended in trained_cells([*cells], train_one, on_event=on_event):
        if ended == "interrupted":
            break
        if ended == "time limit":
            continue  # what was trained before is still told
        strengths = STRENGTHS if cells[recipe][1] == "none" else STRENGTHS[:1]
        measured[recipe] = [score(Path(out) / recipe.name, strength=x) for x in strengths]
    found: dict[_Place, list[NDArray[np.float64]]] = {}
    for recipe, (network, term, weight) in cells.items():
        for strength, values in zip(STRENGTHS, measured.get(recipe, ()), strict=False):
            key = ("sharpened", strength) if term == "none" else (term, weight)
            found.setdefault((network, *key), []).append(values)
    left = [r.name for r in cells if not (Path(out) / r.name / "model.safetensors").is_file()]
    means = {place: np.mean(x, axis=0) for place, x in found.items()}  # over the seeds
    points, areas = _points(means, {place: len(tables) for place, tables in found.items()})
    return Frontier(budget, store.fingerprint, points, areas, tuple(left))


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
    folder: Path,
    *,
    strength: float,
    sets: Sequence[str],
    data_root: str | Path,
    device: str,
    weights: Path | None,
) -> NDArray[np.float64]:
    """Return (images, numbers) of a trained cell, from its file where all of them are there."""
    lpips = all(is_there(name, weights) for name in (ALEXNET_FILE, HEADS_FILE))
    metrics = FRONTIER_MEASURES[:4] + FRONTIER_MEASURES[5:] * lpips
    label = "-".join(Path(name).name for name in sets)
    path = folder / f"scores-frontier-{label}-{strength:g}.jsonl"
    if path.is_file():
        rows = [parse_json(line) for line in read_text(path).splitlines()]
        if all(len(row) == _NUMBERS and (row[5] is not None or not lpips) for row in rows):
            return np.array(rows, float)
    network: SRModel = load_model(folder / "model.safetensors").to(device)
    if strength:
        network = Sharpened(network=network, strength=strength)
    rows = []
    for result in results(network, sets=sets, scale=FRONTIER_SCALE, data_root=data_root):
        hr, lr = result.pair.hr(), result.pair.lr()
        score = score_result(result, hr, metrics=metrics, weights=weights)
        risk = structure_risk(lr, result.image.clamp(0, 1), scale=FRONTIER_SCALE).score
        _, of_hr, gap = variances_by_region(result.image, hr).T
        values = [score.value(name) for name in FRONTIER_MEASURES if name != "risk_percent"]
        values.insert(4, 100 * float(risk))
        rows.append([*values, *gap.tolist(), *of_hr.tolist()])
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return np.array(rows, float)


def _points(found: Mapping[_Place, NDArray[np.float64]], seeds: Mapping[_Place, int]) -> _Points:
    """Return a point per term and weight, against the sharpened line of its network, and areas."""
    points, areas = list[FrontierPoint](), list[FrontierArea]()
    for (network, term, weight), values in found.items():
        count = seeds[network, term, weight]
        mean = values.mean(0)
        edges, texture, flat = (float(a / b) if b else None for a, b in mean[6:].reshape(2, 3).T)
        point = FrontierPoint(
            *(network, term, weight, count, *mean[:5].tolist()),
            lpips=None if math.isnan(mean[5]) else float(mean[5]),
            gap_edges=edges,
            gap_texture=texture,
            gap_flat=flat,
        )
        line = np.array([v for (n, t, _), v in found.items() if (n, t) == (network, "sharpened")])
        if term != "sharpened" and len(line):
            gap, risk = (_advantage(values, line, of=x) for x in ("gv_gap", "risk_percent"))
            point = replace(point, advantage=gap, saved_percent=risk)
            if (network, term) not in [(area.network, area.term) for area in areas]:
                own = [v for (n, t, _), v in found.items() if (n, t) == (network, term)]
                areas.append(FrontierArea(network, term, _area(np.array(own), line)))
        points.append(point)
    return tuple(points), tuple(areas)


def _advantage(values: NDArray[np.float64], line: NDArray[np.float64], *, of: str) -> Interval:
    """Return how much less ``of`` there is than on ``line`` (strengths, images, measures)."""

    def at(chosen: NDArray[np.int64]) -> float:
        own, column = values[chosen].mean(0), FRONTIER_MEASURES.index(of)
        reach = _reach(line, chosen)
        return float(np.interp(own[0], reach[:, 0], reach[:, column]) - own[column])

    return _with_interval(at, images=len(values))


def _area(cells: NDArray[np.float64], line: NDArray[np.float64]) -> Interval:
    """Return the area between the line and ``cells`` (weights, images, measures)."""
    gap = FRONTIER_MEASURES.index("gv_gap")

    def at(chosen: NDArray[np.int64]) -> float:
        reach, own = _reach(line, chosen), cells[:, chosen].mean(1)  # (weights, measures)
        own = own[own[:, 0].argsort()]
        low, high = max(own[0, 0], reach[0, 0]), min(own[-1, 0], reach[-1, 0])
        psnr = np.linspace(low, max(low, high), 64)
        found = (np.interp(psnr, x[:, 0], x[:, gap]) for x in (reach, own))
        return float(np.subtract(*found).mean() * (psnr[-1] - psnr[0]))

    return _with_interval(at, images=cells.shape[1])


def _reach(line: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the measures along the part of the line that one would choose, PSNR rising."""
    means = line[:, chosen].mean(1)  # (strengths, measures)
    best = int(means[:, 0].argmax())  # weaker sharpening costs dB and gap: nobody's choice,
    gaps = means[best:, FRONTIER_MEASURES.index("gv_gap")]
    return means[best : best + int(gaps.argmin()) + 1][::-1]  # nor is stronger than at least gap


def _with_interval(
    at: Callable[[NDArray[np.int64]], float], *, images: int, draws: int = 2_000
) -> Interval:
    generator = np.random.default_rng(0)
    drawn = [at(generator.integers(0, images, images)) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(at(np.arange(images)), float(low), float(high))


def frontier_tables(found: Frontier) -> list[Table]:
    """Return the points as a table, by network and term, and the areas as another."""
    columns = (
        *("network", "term", ">weight", ">PSNR", ">GV ratio", ">GV gap", ">risk %"),
        *(">advantage [95 %]", ">less risk % [95 %]"),
    )
    cells = [
        (
            *(p.network, p.term, f"{p.weight:g}"),
            *(number(p.psnr, digits=2), number(p.gv_ratio, digits=3), number(p.gv_gap, digits=3)),
            number(p.risk_percent, digits=2),
            with_interval(p.advantage, digits=3, sign="always"),
            with_interval(p.saved_percent, digits=2, sign="always"),
        )
        for p in found.points
    ]
    notes = (
        "advantage: GV gap of the plain network sharpened to the same PSNR, minus this one's.",
        "less risk: the same for the risk. The line ends at its best PSNR and at its least gap.",
        "Intervals over images; chance in training is in them only through the mean over seeds.",
    )
    further = {"ssim": 4, "lpips": 3, **dict.fromkeys(_GAPS, 3)}
    more = [
        (
            *(p.network, p.term, f"{p.weight:g}"),
            *(number(getattr(p, name), digits=digits) for name, digits in further.items()),
        )
        for p in found.points
    ]
    of_more = (*columns[:3], ">SSIM", ">LPIPS", *(f">GV gap, {region}" for region in REGIONS))
    regions = "GV gap by region: of all patches of that kind in the originals, over their variance."
    areas = [
        (a.network, a.term, with_interval(a.area, digits=5, sign="always")) for a in found.areas
    ]
    note = "Over the dB that the term's weights span, as far as the line reaches; above 0: better."
    title = f"structure-frontier, budget {found.budget}"
    of_areas = ("network", "term", ">dB x GV gap between it and the line [95 %]")
    return [
        Table(title, columns, tuple(cells), notes, keys=3),
        Table("Further measures", of_more, tuple(more), (regions,), keys=3),
        Table("Areas between the frontiers", of_areas, tuple(areas), (note,), keys=2),
    ]
