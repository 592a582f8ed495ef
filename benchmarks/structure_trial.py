"""Structure terms against the sharpened line: the trial of docs/frontier.md.

    python benchmarks/structure_trial.py --store photos.store --data DATA [--updates 150]
    python benchmarks/structure_trial.py --figure docs/structure_frontier.svg --json FILE

``espcn_x4`` is trained on with L1 and one term, every cell from the same weights on the same
batches; Set5 and Set14 x4, luma rounded to 8 bits, border 4. The first form writes the means over
the images to --json (results/structure_trial.json), the second draws what
``edgekeeper reproduce structure-frontier --json`` wrote (results/structure_frontier.json).
"""

import argparse
import copy
import json
from collections.abc import Callable
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows

from edgekeeper.data.pairs import load_pairs
from edgekeeper.data.store import Store
from edgekeeper.losses import AlignedVariance
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.gradient import sobel
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.sharpen import sharpen
from edgekeeper.ops.structure import patch_variances
from edgekeeper.pretrained.zoo import load

SCALE, BATCH, PATCH = 4, 4, 96
MEASURES = ("psnr", "gv_ratio", "gv_gap", "gradient_error", "risk_percent")
STRENGTHS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01)
SPATIAL = "|dv| by a spatial strength"
CELLS = {  # term: weights beside L1
    "GV mse": (0.2,),
    "|dv|": (0.12, 0.4),
    "sorted |dv|": (0.12, 0.4),
    "|dv| where LR has edges": (0.12,),
    "|dv| on the null space": (0.12, 0.4),
    SPATIAL: (0.12, 0.4),
    "in phase": (0.12, 0.24, 0.4),
    "in phase on the null space": (0.12, 0.24, 0.6),
}
MARKS, ENDS = "vsPD<>^*o", ("low", "high")

Term = Callable[[Tensor, Tensor, Tensor], Tensor]  # of sr, hr (B, 1, rH, rW) and lr (B, 1, H, W)


def variances(x: Tensor, patch: int = 8) -> Tensor:
    """Gradient variances of the patches of ``x`` (B, 1, H, W): (B, 2, H / patch, W / patch)."""
    gradients = sobel(x, border="valid")
    return patch_variances(torch.cat([gradients.x, gradients.y], 1), patch=patch)


def distance(sr: Tensor, hr: Tensor) -> Tensor:
    return (variances(sr) - variances(hr)).abs().mean()


def supported(sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
    edges = variances(imresize(lr, scale=SCALE))
    return (edges / (edges + 0.01) * (variances(sr) - variances(hr)).abs()).mean()


def in_order(sr: Tensor, hr: Tensor, _: Tensor) -> Tensor:
    both = (variances(x).transpose(0, 1).flatten(1).sort(1).values for x in (sr, hr))
    return F.l1_loss(*both)


def squared(sr: Tensor, hr: Tensor, _: Tensor) -> Tensor:
    return F.mse_loss(variances(sr, 16), variances(hr, 16))


def projected(sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
    back = imresize(lr - imresize(sr, scale=1 / SCALE), scale=SCALE)
    return distance(sr + back, hr)


TERMS: dict[str, Term] = {
    "GV mse": squared,
    "|dv|": lambda sr, hr, lr: distance(sr, hr),
    SPATIAL: lambda sr, hr, lr: distance(sr, hr),
    "sorted |dv|": in_order,
    "|dv| where LR has edges": supported,
    "|dv| on the null space": projected,
    "in phase": lambda sr, hr, lr: AlignedVariance()(sr, hr),
    "in phase on the null space": lambda sr, hr, lr: AlignedVariance(scale=SCALE)(sr, hr),
}


class SpatialStrength(nn.Module):
    """``network`` frozen, its result sharpened by what three convolutions say for each pixel."""

    def __init__(self, network: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.network = network
        self.strength = nn.Sequential(
            *(nn.Conv2d(2, width, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
            nn.Conv2d(width, 1, 3, padding=1),
        )
        for parameter in self.strength[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, lr: Tensor) -> Tensor:
        with torch.no_grad():
            mean = self.network(lr)  # (B, 1, rH, rW)
            gradients = sobel(mean, border="valid")
            back = sobel(gradients.x, border="zero", padding=2).x
            q = -(back + sobel(gradients.y, border="zero", padding=2).y)  # Q m
        seen = torch.cat([4 * (mean - F.avg_pool2d(mean, 9, 1, 4)), q / 8], 1)
        return mean + 0.01 * self.strength(seen) * q


class Sharpened(nn.Module):
    """A network whose result is sharpened."""

    def __init__(self, network: nn.Module, strength: float) -> None:
        super().__init__()
        self.network, self.strength = network, strength

    def forward(self, lr: Tensor) -> Tensor:
        return sharpen(self.network(lr), self.strength)


def trained(
    base: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    *,
    term: str | None,
    weight: float,
    updates: int,
    seed: int,
) -> nn.Module:
    """A copy of ``base`` after ``updates`` on ``batches``, in order or as ``seed`` draws them."""
    torch.manual_seed(seed)
    network = copy.deepcopy(base)
    rate, parameters = 5e-4, list(network.parameters())
    if term == SPATIAL:
        network = SpatialStrength(network)
        rate, parameters = 3e-3, list(network.strength.parameters())
    optimizer = torch.optim.Adam(parameters, lr=rate)
    draws = np.random.default_rng(seed)
    for step in range(updates):
        number = int(draws.integers(len(batches))) if seed else step % len(batches)
        lr, hr = batches[number]
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + cos(pi * step / updates))
        sr = network(lr)
        loss = F.l1_loss(sr, hr)
        if term is not None:
            loss = loss + weight * TERMS[term](sr, hr, lr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@torch.no_grad()
def measured(network: nn.Module, images: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The means of MEASURES over pairs of luma (1, 1, H, W) and (1, 1, rH, rW)."""
    rows = []
    for lr, hr in images:
        sr = (network(lr) * 255).round().clamp(16, 235) / 255
        a, b = (x[..., SCALE:-SCALE, SCALE:-SCALE] for x in (sr, hr))
        v, w = variances(a), variances(b)
        of_sr, of_hr = sobel(a, border="valid"), sobel(b, border="valid")
        apart = ((of_sr.x - of_hr.x).square() + (of_sr.y - of_hr.y).square()).mean()
        size = w.mean((2, 3))
        risk = structure_risk(*(x.expand(-1, 3, -1, -1) for x in (lr, sr)), scale=SCALE)
        rows.append(
            (
                -10 * torch.log10((a - b).square().mean()).item(),
                (v.mean((2, 3)) / size).mean().item(),
                ((v - w).abs().mean((2, 3)) / size).mean().item(),
                (apart / (of_hr.x.square() + of_hr.y.square()).mean()).item(),
                100 * float(risk.score),
            )
        )
    return {m: round(float(x), 4) for m, x in zip(MEASURES, np.mean(rows, 0), strict=True)}


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    store = Store.open(options.store)
    batches = []
    for step in range(min(options.updates, 150)):
        drawn = store.batch(seed=7, step=step, size=BATCH, patch=PATCH, scale=SCALE).as_float()
        batches.append((rgb_to_y(drawn.lr), rgb_to_y(drawn.hr)))
    pairs = [p for name in ("set5", "set14") for p in load_pairs(name, scale=4, root=options.data)]
    images = [(rgb_to_y(pair.lr()), rgb_to_y(pair.hr())) for pair in pairs]
    base = load("espcn_x4").train()
    cells = {}

    def note(name: str, network: nn.Module) -> None:
        cells[name] = measured(network, images)
        print(f"{name:36}", *cells[name].values(), flush=True)
        about = {"network": "espcn_x4", "updates": options.updates, "batch": BATCH}
        about |= {"sets": ["set5", "set14"], "cells": cells}
        options.json.write_text(json.dumps(about, indent=1) + "\n")

    note("start", base)
    for seed in options.seeds:
        mark = f", seed {seed}" if seed else ""
        how = {"updates": options.updates, "seed": seed}
        plain = trained(base, batches, term=None, weight=0, **how)
        note(f"plain{mark}", plain)
        for strength in STRENGTHS:
            note(f"sharpened {strength}{mark}", Sharpened(plain, strength))
        for term, weights in CELLS.items():
            for weight in weights:
                network = trained(base, batches, term=term, weight=weight, **how)
                note(f"{term} {weight}{mark}", network)


def draw(results: Path, figure: Path) -> None:
    """Draw the gap over PSNR of each network's line and terms, the bars against the line."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("svg")
    plt.rcParams["svg.hashsalt"] = "edgekeeper"
    points = json.loads(results.read_text())["points"]
    networks = list(dict.fromkeys(point["network"] for point in points))
    canvas, panels = plt.subplots(1, len(networks), figsize=(5.5 * len(networks), 4.5))
    for axes, network in zip(np.atleast_1d(panels), networks, strict=True):
        own = [point for point in points if point["network"] == network]
        line = [point for point in own if point["term"] == "sharpened"]
        best = max(range(len(line)), key=lambda at: line[at]["psnr"])
        end = min(range(len(line)), key=lambda at: line[at]["gv_gap"]) + 1
        for part, style in ((line[best:end], "k.-"), (line[end - 1 :], "k.:")):
            label = "plain, sharpened" if part[0] is line[best] else None
            axes.plot(*([p[m] for p in part] for m in ("psnr", "gv_gap")), style, label=label)
        for number, term in enumerate(dict.fromkeys(p["term"] for p in own if p["advantage"])):
            cells = sorted((p for p in own if p["term"] == term), key=lambda p: p["psnr"])
            ends = [[p["advantage"][x] - p["advantage"]["mean"] for p in cells] for x in ENDS]
            x, y = ([p[m] for p in cells] for m in ("psnr", "gv_gap"))
            # an advantage above the mean is a gap below it
            form = {"fmt": MARKS[number] + "-", "color": f"C{number}", "alpha": 0.8}
            axes.errorbar(x, y, yerr=[ends[1], np.negative(ends[0])], label=term, lw=1, **form)
        axes.set(title=network, xlabel="PSNR in dB", xlim=(line[end - 1]["psnr"] - 0.5, None))
        axes.set_ylim(
            min(p["gv_gap"] for p in own) - 0.03, max(p["gv_gap"] for p in line[best:end]) + 0.06
        )
        axes.grid(alpha=0.3)
    canvas.axes[0].set_ylabel("GV gap")
    canvas.axes[0].legend(fontsize=8)
    canvas.tight_layout()
    canvas.savefig(figure, metadata=None if figure.suffix == ".png" else {"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path, default=Path("results/structure_trial.json"))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if options.figure is not None:
        draw(options.json, options.figure)
    elif options.store is None or options.data is None:
        parser.error("give --store and --data, or --figure")
    else:
        run(options)


if __name__ == "__main__":
    main()
