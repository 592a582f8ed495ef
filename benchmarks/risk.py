"""How often structure risk accuses an original, by how the LR image was made.

    OMP_NUM_THREADS=1 python benchmarks/risk.py [--photos FOLDER ...] [--scales 4] [--json FILE]

Originals are photographs (in each the tile of 384 pixels that scores worst counts: neighbours are
alike) and repeating structure: gratings, blinds, checks, brick and text, each at eight angles from
0 to 83 degrees and periods from 2.2 to 24 pixels, in strong and in faint contrast. LR images are
made by each kernel of ``edgekeeper.data.degrade``, and by the first one as JPEG of quality 90. A
line gives how many originals reach 0.5 and 2 % of contradicted edges, with Wilson's 95 % interval,
the highest score, and how many the input cannot decide (0.5 % of the edges and more).
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.data.degrade import LR_KERNELS, crop_to_multiple, make_lr
from edgekeeper.errors import ImageError
from edgekeeper.image import list_images, read_image, to_rgb_tensor
from edgekeeper.metrics.preference import wilson_interval
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.jpeg import jpeg
from edgekeeper.ops.resize import imresize

SIZE, FINER, TILE = 192, 4, 384
LARGE = 2000  # a longer photograph is shrunk by 3 first, which removes the marks of its JPEG
PERIODS = (2.2, 2.6, 3, 3.5, 4, 4.6, 5.3, 6, 7, 8, 9.5, 11, 13, 16, 20, 24)
ANGLES = (0, 7, 15, 22.5, 33, 45, 60, 83)
CONTRASTS = ((0.2, 0.8), (0.45, 0.55))
GLYPHS = (
    "1110 1010 1010 1110",
    "1000 1000 1010 1110",
    "1110 0100 0100 0100",
    "1010 1110 1010 1010",
)


def grating(u: Tensor, v: Tensor) -> Tensor:
    return (u % 1 < 0.5).float()


def blinds(u: Tensor, v: Tensor) -> Tensor:
    return (u % 1).clamp_max(0.8) / 0.8  # shaded slats, dark gaps


def checks(u: Tensor, v: Tensor) -> Tensor:
    return ((u % 1 < 0.5) ^ (v % 1 < 0.5)).float()


def brick(u: Tensor, v: Tensor) -> Tensor:
    odd = torch.floor(v) % 2
    return ((v % 1 > 0.2) & ((u / 2.5 + 0.5 * odd) % 1 > 0.08)).float()


def text(u: Tensor, v: Tensor) -> Tensor:
    """Lines of four letters, a period high with a third of it between the lines."""
    letters = torch.tensor([[[float(c) for c in row] for row in g.split()] for g in GLYPHS])
    which = (torch.floor(u) + 2 * torch.floor(v)).long() % len(GLYPHS)
    row, column = (v % 1 * 6).long(), (u % 1 * 5).long()
    inside = (row < 4) & (column < 4)
    return 1 - letters[which, row.clamp_max(3), column.clamp_max(3)] * inside


KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    f.__name__: f for f in (grating, blinds, checks, brick, text)
}


def repeating(kind: str, *, period: float, degrees: float, dark: float, light: float) -> Tensor:
    """Return an original (1, 3, SIZE, SIZE) of 8 bits, each pixel the mean of 4 x 4 points."""
    y, x = torch.meshgrid(*[torch.arange(SIZE * FINER) / FINER] * 2, indexing="ij")
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = KINDS[kind]((x * c + y * s) / period, (y * c - x * s) / period)
    mean = functional.avg_pool2d(points[None, None], FINER)
    return round_uint8(dark + (light - dark) * mean).expand(1, 3, -1, -1)


def all_repeating(kind: str) -> Iterator[list[Tensor]]:
    for period in PERIODS:
        for degrees in ANGLES:
            for dark, light in CONTRASTS:
                yield [repeating(kind, period=period, degrees=degrees, dark=dark, light=light)]


def photographs(folder: Path) -> Iterator[list[Tensor]]:
    """Each photograph's tiles."""
    for path in list_images(folder):
        try:
            image = to_rgb_tensor(read_image(path))
        except ImageError as error:
            print(f"left out: {error}")
            continue
        if max(image.shape[-2:]) > LARGE:
            image = round_uint8(imresize(image, scale=1 / 3))
        height, width = image.shape[-2:]
        yield [
            image[..., top : top + TILE, left : left + TILE]
            for top in range(0, max(1, height - TILE + 1), TILE)
            for left in range(0, max(1, width - TILE + 1), TILE)
        ]


def made_lr(hr: Tensor, *, scale: int, kernel: str) -> Tensor:
    if kernel == "JPEG 90":
        return jpeg(make_lr(hr, scale=scale, kernel=LR_KERNELS[0]), quality=90)
    return make_lr(hr, scale=scale, kernel=kernel)  # type: ignore[arg-type]


def scores(originals: Iterator[list[Tensor]], *, scales: list[int]) -> dict[str, list[list[float]]]:
    """Return the worst [contradicted, undecided] of each original, by scale and maker of the LR."""
    found: dict[str, list[list[float]]] = {}
    for tiles in originals:
        for scale in scales:
            fitting = [crop_to_multiple(t, scale) for t in tiles]
            fitting = [t for t in fitting if min(t.shape[-2:]) >= 16 * scale]
            for kernel in (*LR_KERNELS, "JPEG 90") if fitting else ():
                worst = [0.0, 0.0]
                for hr in fitting:
                    lr = made_lr(hr, scale=scale, kernel=kernel)
                    risk = structure_risk(lr, hr, scale=scale)
                    worst = [max(worst[0], float(risk.score)), max(worst[1], float(risk.undecided))]
                found.setdefault(f"x{scale} {kernel}", []).append(worst)
    return found


def line(title: str, values: list[list[float]]) -> str:
    contradicted, undecided = (torch.tensor(v) for v in zip(*values, strict=True))
    text = f"{title:44} {len(values):5}"
    for limit in (0.005, 0.02):
        hits = int((contradicted >= limit).sum())
        ends = wilson_interval(hits, len(values))
        text += f" {hits:5} [{100 * ends.low:5.2f}, {100 * ends.high:6.2f}] %"
    return f"{text} {100 * float(contradicted.max()):8.3f} {int((undecided >= 0.005).sum()):6}"


def main() -> None:
    """Run the command above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--scales", default="2,3,4")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    scales = [int(s) for s in given.scales.split(",")]
    print(f"{'originals, LR':44} {'count':>5} {'>= 0.5 %':>24} {'>= 2 %':>24} highest undecided")
    kept = {}
    sources = {kind: all_repeating(kind) for kind in KINDS}
    for name, source in {**{f.name: photographs(f) for f in given.photos}, **sources}.items():
        for title, values in scores(source, scales=scales).items():
            kept[f"{name} {title}"] = values
            print(line(f"{name} {title}", values), flush=True)
    if given.json:
        given.json.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
