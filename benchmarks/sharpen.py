"""The faithful networks' results sharpened: the line that every structure loss has to beat.

    OMP_NUM_THREADS=1 python benchmarks/sharpen.py --data DATA [--dial | --prices]

Prints the table of docs/sharpness.md: for each network, strength and set the mean PSNR on luma, the
PSNR that a posterior mean would have after as large a change, GV ratio and GV gap (y_matlab). Where
a network was trained with the gradient variance loss too, its row follows, and then the plain
network sharpened until its mean ratio is the same.

``--dial``: what ``upscale --sharpness`` costs, and what its step of back-projection does. The line,
plainly sharpened, against the same after ``--steps``: one to LR, as upscale takes it; two; or one
to what the network's own result shrinks to. At equal PSNR and at equal gap the other measures
(above 0: better), with 95 % bootstrap intervals over the images; all sets are one. Writes --json,
where other networks of the same sets stay.

``--prices``: what ``upscale --sharpness`` costs with each network that ships: the mean change of
PSNR in dB with its 95 % interval, for ``models card``. A network whose file is the same stays.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log10
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.evaluation.evaluate import results
from edgekeeper.files import sha256_of
from edgekeeper.inference.network import Finish
from edgekeeper.metrics import compare_variances, lpips, psnr, ssim
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.metrics.statistics import interval
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.sharpen import STRONGEST, back_project, sharpen
from edgekeeper.pretrained.cards import PRICES, style_of
from edgekeeper.pretrained.zoo import WEIGHTS, Network, load, networks

NETWORKS = ("espcn_x3", "edsr_light_x4", "dgggan_light_x4")
TWINS = {"espcn_x3": "espcn_x3_gv", "edsr_light_x4": "edsr_light_x4_gv"}
STRENGTHS = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.008)
PATCHED = (0.002, 0.005)
DIAL_NETWORKS = ("balanced_x4", "edsr_light_x2", "edsr_light_x3", "edsr_light_x4", "espcn_x4")
DIAL_NETWORKS += ("fast_x4", "balanced_x3", "balanced_x2", "fast_x3", "fast_x2")
LINE = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)  # sharpness
PRICED = (0.25, 0.5, 1.0)
STEPS = {"lr": 1, "lr twice": 2, "own": 1}
MEASURES = ("psnr", "gv_gap", "gv_ratio", "risk_percent", "ssim", "lpips")
Rows = NDArray[np.float64]  # (images, MEASURES)


@dataclass(frozen=True)
class Means:
    """Means over a set."""

    psnr: float
    expected: float
    ratio: float
    gap: float


Images = Sequence[tuple[Tensor, Tensor]]  # SR, HR


def make(name: str, set_name: str, *, data: Path) -> Images:
    model = load(name)
    found = results(model, sets=[set_name], scale=model.scale, data_root=data)
    return [(result.image, result.pair.hr()) for result in found]


def measure(images: Images, strength: float, *, scale: int, patch: int | None = None) -> Means:
    rows = []
    for sr, hr in images:
        z = sharpen(sr, strength, patch=patch)
        found = compare_variances(z, hr, scale=scale)
        # luma of MATLAB spans 219 of 255 levels; its error and its change are both on that scale
        moved = rgb_to_y(z.clamp(0, 1)) - rgb_to_y(sr.clamp(0, 1))
        moved = moved[..., scale:-scale, scale:-scale].square().mean().item()
        error = 10 ** (-psnr(sr, hr, scale=scale).item() / 10)
        expected = -10 * log10(error + moved)
        rows.append(
            (psnr(z, hr, scale=scale).item(), expected, found.ratio.item(), found.gap.item())
        )
    return Means(*(sum(column) / len(column) for column in zip(*rows, strict=True)))


def strength_of(images: Images, ratio: float, *, scale: int) -> float:
    """The strength at which the mean GV ratio of a set is ``ratio``, by bisection."""
    low, high = 0.0, STRONGEST
    for _ in range(9):
        middle = (low + high) / 2
        reached = [
            compare_variances(sharpen(sr, middle), hr, scale=scale).ratio.item()
            for sr, hr in images
        ]
        low, high = (low, middle) if sum(reached) / len(reached) >= ratio else (middle, high)
    return (low + high) / 2


@torch.no_grad()
def all_measures(z: Tensor, lr: Tensor, hr: Tensor, *, scale: int, perceptual: bool) -> list[float]:
    z = (z.clamp(0, 1) * 255).round() / 255
    found = compare_variances(z, hr, scale=scale)
    risk = 100 * structure_risk(lr, z, scale=scale).score
    values = (psnr(z, hr, scale=scale), found.gap, found.ratio, risk)
    values += (ssim(z, hr, scale=scale), *([lpips(z, hr)] if perceptual else []))
    return [value.item() for value in values]


def stepped(z: Tensor, small: Tensor, *, steps: int) -> Tensor:
    for _ in range(steps):
        z = back_project(z, small).clamp(0, 1)
    return z


def compared(values: Rows, line: Rows, *, draws: int = 2000) -> dict[str, dict[str, list[float]]]:
    """How much better than the ``line`` (strengths, images, measures), at equal PSNR and gap."""
    better = np.array([1, -1, 1, -1, 1, -1])[: values.shape[1]]  # of MEASURES

    def at(chosen: NDArray[np.int64], key: int) -> Rows:
        own, of_line = values[chosen].mean(0), line[:, chosen].mean(1)  # (strengths, measures)
        best, least = of_line[:, 0].argmax(), of_line[:, 1].argmin()
        # the part on which dB are paid, and the part on which the gap still falls
        part = of_line[best:][::-1] if key == 0 else of_line[: least + 1][::-1]
        equal = [np.interp(own[key], part[:, key], y, np.nan, np.nan) for y in part.T]
        return better * (own - equal)

    images, found = np.arange(len(values)), dict[str, dict[str, list[float]]]()
    for key, of in enumerate(("at equal psnr", "at equal gap")):
        generator = np.random.default_rng(0)
        drawn = [at(generator.choice(images, len(images)), key) for _ in range(draws)]
        point = at(images, key)
        if not np.isnan(point[0]):
            ends = np.nanquantile(drawn, [0.025, 0.975], axis=0)
            rows = np.array([point, *ends]).T.round(5).tolist()
            found[of] = dict(zip(MEASURES, rows, strict=False))
    return found


def dial(
    name: str, *, kinds: Sequence[str], sets: Sequence[str], data: Path, perceptual: bool
) -> dict[str, object]:
    """The line of a network, after steps of back-projection, and the network trained with GV."""
    model = load(name)
    scale, cells = model.scale, dict[str, list[list[float]]]()
    of_one = partial(all_measures, scale=scale, perceptual=perceptual)
    for result in results(model, sets=sets, scale=scale, data_root=data):
        lr, hr, sr = result.pair.lr(), result.pair.hr(), result.image.clamp(0, 1)
        of = {"lr": lr, "own": imresize(sr, scale=1 / scale)}
        for sharpness in LINE:
            z = sharpen(sr, Finish(scale=scale, sharpness=sharpness).strength).clamp(0, 1)
            made = {"line": z}
            if sharpness in (0.25, 0.5, 1.0):
                made |= {k: stepped(z, of[k.split()[0]], steps=STEPS[k]) for k in kinds}
            for key, value in made.items():
                cells.setdefault(f"{key} {sharpness:g}", []).append(of_one(value, lr, hr))
    trained = f"{name.replace('balanced', 'edsr_light')}_gv".replace("fast", "espcn")
    if (WEIGHTS / f"{trained}.safetensors").is_file():
        found = results(load(trained), sets=sets, scale=scale, data_root=data)
        cells[trained] = [of_one(r.image, r.pair.lr(), r.pair.hr()) for r in found]
    tables = {key: np.array(rows) for key, rows in cells.items()}
    line = np.array([tables[f"line {sharpness:g}"] for sharpness in LINE])
    report: dict[str, object] = {}
    for key, values in tables.items():
        means = dict(zip(MEASURES, values.mean(0).round(5).tolist(), strict=False))
        report[key] = {"means": means} | ({} if key[:4] == "line" else compared(values, line))
        print(name, f"{key:16}", *values.mean(0).round(4), flush=True)
    return report


@torch.no_grad()
def prices(network: Network, *, sets: Sequence[str], data: Path) -> dict[str, object]:
    """The change of PSNR at each of ``PRICED``: the mean over the images and its interval."""
    back, changes = style_of(network.name) in ("faithful", "sharp"), list[list[float]]()
    for result in results(load(network.path), sets=sets, data_root=data):
        lr, hr, sr = result.pair.lr(), result.pair.hr(), result.image.clamp(0, 1)
        finishes = (Finish(scale=network.scale, sharpness=x, back=back) for x in (0.0, *PRICED))
        images = ((finish(sr, lr) * 255).round() / 255 for finish in finishes)
        plain, *sharp = (psnr(image, hr, scale=network.scale).item() for image in images)
        changes.append([value - plain for value in sharp])
    found = [interval(column) for column in zip(*changes, strict=True)]
    print(network.name, *(f"{one.mean:+.3f}" for one in found), flush=True)
    at = {f"{x:g}": [one.mean, one.low, one.high] for x, one in zip(PRICED, found, strict=True)}
    rounded = {x: [round(float(value or 0), 3) for value in row] for x, row in at.items()}
    return {"sha256": sha256_of(network.path), "change": rounded}


def write_prices(sets: Sequence[str], *, data: Path) -> None:
    table = json.loads(PRICES.read_text()) if PRICES.exists() else {}
    for network in networks():
        if table.get(network.name, {}).get("sha256") != sha256_of(network.path):
            table[network.name] = prices(network, sets=sets, data=data)
    lines = (f" {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    PRICES.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def row(label: str, means: Sequence[Means]) -> None:
    cells = (f"{m.psnr:.2f} ({m.expected:.2f}) | {m.ratio:.3f} | {m.gap:.3f}" for m in means)
    print(f"| {label} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The table of docs/sharpness.md.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default="set5,set14")
    parser.add_argument("--networks", nargs="+")
    parser.add_argument("--dial", action="store_true")
    parser.add_argument("--prices", action="store_true")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=["lr"])
    parser.add_argument("--no-lpips", action="store_true", help="In a third of the time.")
    parser.add_argument("--json", type=Path, default=Path("results/sharpen.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = given.sets.split(",")
    names = given.networks or (DIAL_NETWORKS if given.dial else NETWORKS)
    if given.prices:
        write_prices(sets, data=given.data)
        return
    if given.dial:
        kept = json.loads(given.json.read_text()) if given.json.exists() else {}
        reports = kept["networks"] if kept.get("sets") == sets else {}
        for name in names:
            reports[name] = dial(
                name, kinds=given.steps, sets=sets, data=given.data, perceptual=not given.no_lpips
            )
            given.json.write_text(json.dumps({"sets": sets, "networks": reports}, indent=1) + "\n")
        return
    print("| |" + "".join(f" {s} dB (expected) | ratio | gap |" for s in sets))
    print("|---|" + "---|---|---|" * len(sets))
    for name in names:
        scale = load(name).scale
        plain = [make(name, s, data=given.data) for s in sets]
        for patch, strengths in ((None, STRENGTHS), (8, PATCHED)):
            for strength in strengths:
                label = f"`{name}`" + (f", strength {strength:g}" if strength else "")
                label += f", patch {patch}" if patch else ""
                row(
                    label, [measure(images, strength, patch=patch, scale=scale) for images in plain]
                )
        if name in TWINS:
            twins = [make(TWINS[name], s, data=given.data) for s in sets]
            trained = [measure(images, 0.0, scale=scale) for images in twins]
            row(f"`{TWINS[name]}`", trained)
            equal, found = [], []
            for images, aim in zip(plain, trained, strict=True):
                equal.append(strength_of(images, aim.ratio, scale=scale))
                found.append(measure(images, equal[-1], scale=scale))
            row(f"`{name}`, strengths " + ", ".join(f"{s:.5f}" for s in equal), found)


if __name__ == "__main__":
    main()
