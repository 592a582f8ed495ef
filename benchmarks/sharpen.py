"""The faithful networks' results sharpened: the line that every structure loss has to beat.

    OMP_NUM_THREADS=1 python benchmarks/sharpen.py --data DATA [--dial]

Prints the table of docs/sharpness.md: for each network, strength and set the mean PSNR on luma, the
PSNR that a posterior mean would have after as large a change, GV ratio and GV gap (y_matlab). Where
a network was trained with the gradient variance loss too, its row follows, and then the plain
network sharpened until its mean ratio is the same. ``--dial`` prints what ``upscale --sharpness``
costs instead: the networks of the style "faithful" at 0.25, 0.5 and 1.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path

import torch
from torch import Tensor

from edgekeeper.evaluation.evaluate import results
from edgekeeper.inference.runner import Finish
from edgekeeper.metrics import compare_variances, psnr
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.sharpen import STRONGEST, sharpen
from edgekeeper.pretrained.zoo import DEFAULTS, load

NETWORKS = ("espcn_x3", "edsr_light_x4", "dgggan_light_x4")
TWINS = {"espcn_x3": "espcn_x3_gv", "edsr_light_x4": "edsr_light_x4_gv"}
STRENGTHS = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.008)
PATCHED = (0.002, 0.005)


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


def row(label: str, means: Sequence[Means]) -> None:
    cells = (f"{m.psnr:.2f} ({m.expected:.2f}) | {m.ratio:.3f} | {m.gap:.3f}" for m in means)
    print(f"| {label} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The table of docs/sharpness.md.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default="set5,set14")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--dial", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = given.sets.split(",")
    print("| |" + "".join(f" {s} dB (expected) | ratio | gap |" for s in sets))
    print("|---|" + "---|---|---|" * len(sets))
    if given.dial:
        for name in DEFAULTS["faithful"].values():
            scale = load(name).scale
            plain = [make(name, s, data=given.data) for s in sets]
            for sharpness in (0.0, 0.25, 0.5, 1.0):
                strength = Finish(scale=scale, sharpness=sharpness).strength
                means = [measure(images, strength, scale=scale) for images in plain]
                row(f"`{name}`, sharpness {sharpness:g}", means)
        return
    for name in given.networks.split(","):
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
