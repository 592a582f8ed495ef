"""Photographs as people have them: networks, Lanczos, and at ×4 Real-ESRGAN's compact networks.

    OMP_NUM_THREADS=1 python benchmarks/photo.py --data DATA [NETWORK ...] [--images 11] [--all]
    OMP_NUM_THREADS=1 python benchmarks/photo.py --data DATA --scale 2 --all faithful restore auto
    python benchmarks/photo.py --readme README.md docs/networks.md

Eleven images of BSD100, made small by the six degradations of ``edgekeeper.data.degrade``. A
NETWORK is a name, a file, or a style of ``upscale``. Each line is the mean over the images: RGB
PSNR and Y PSNR (border 4), LPIPS, NIQE, structure risk (the share of edges that the LR image does
not support) and CPU seconds an image, on one thread. Rows of the JSON file about subjects that are
not measured again stay, and ``--all`` measures Lanczos and Real-ESRGAN's networks again too.
``--readme`` writes the table of that file between its two marks in pages. (`edgekeeper demo` draws
a photograph as a phone keeps it.)
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

import edgekeeper
from edgekeeper.cli.demo import lanczos
from edgekeeper.data.degrade import KNOWN, degrade_known
from edgekeeper.data.pairs import load_pairs
from edgekeeper.inference.network import infer
from edgekeeper.metrics import lpips, niqe, psnr
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.pretrained.zoo import DEFAULTS, Style, load

PEERS = ("realesr_general_x4v3", "realesr_general_wdn_x4v3")
COLUMNS = ("rgb_psnr", "y_psnr", "lpips", "niqe", "risk", "seconds")
TEXT = "{:10} {:26} {:>9} {:>8} {:>7} {:>7} {:>7} {:>8}"

SHOWN = {
    "Lanczos": "Lanczos",
    DEFAULTS["faithful"][4]: "`--style faithful`",
    "faithful": "`--style faithful`",
    "auto": "`upscale` (`--style auto`)",
    "restore": "`--style restore`",
    "texture": "`--style texture`",
    "realesr_general_x4v3": "Real-ESRGAN general",
    "realesr_general_wdn_x4v3": "its wdn",
}
WORDS = {
    "clean": "none",
    "jpeg90": "JPEG 90",
    "jpeg70": "JPEG 70",
    "camera": "blur 1.2, noise 4, JPEG 70 (a phone)",
    "noisy": "noise 6, JPEG 70",
    "strong": "blur 2, noise 10, JPEG 40",
}
MARKS = "<!-- photo table ×{} -->", "<!-- end -->"

Subject = Callable[[Tensor], Tensor]


def subject(name: str, *, scale: int) -> Subject:
    if name in get_args(Style):
        return lambda lr: edgekeeper.upscale(lr, scale=scale, style=name)
    model = load(name)
    return lambda lr: infer(model, lr, layout="channels last")


def measure(run: Subject, lr: Tensor, hr: Tensor, *, scale: int, weights: Path) -> list[float]:
    """The values of COLUMNS for one image."""
    start = time.process_time()
    sr = run(lr)
    seconds = time.process_time() - start
    values = (
        psnr(sr, hr, protocol="rgb_matlab", scale=scale),
        psnr(sr, hr, protocol="y_matlab", scale=scale),
        lpips(sr, hr, folder=weights),
        niqe(sr, folder=weights),
        structure_risk(lr, sr, scale=scale).score,
    )
    return [*(float(value) for value in values), seconds]


def measure_all(options: argparse.Namespace) -> None:
    weights, scale = options.data / "weights", options.scale
    names = options.networks or list(get_args(Style))
    subjects = {Path(name).stem: subject(name, scale=scale) for name in names}
    if options.all:
        files = {name: str(weights / f"{name}.safetensors") for name in PEERS if scale == 4}
        peers = {name: subject(file, scale=scale) for name, file in files.items()}
        subjects = {"Lanczos": partial(lanczos, scale=scale)} | subjects | peers
    pairs = load_pairs("bsd100", scale=scale, root=options.data)[::9][: options.images]
    about = {
        "set": "BSD100",
        "images": [pair.name for pair in pairs],
        "scale": scale,
        "protocols": {"rgb_psnr": "rgb_matlab", "y_psnr": "y_matlab"},
        "degradations": [vars(known) for known in KNOWN],
    }
    rows = []
    if options.json.is_file():
        before = json.loads(options.json.read_text())
        if all(before[key] == value for key, value in about.items()):
            rows = [row for row in before["rows"] if row["subject"] not in subjects]
    print(TEXT.format("", "", "RGB dB", "Y dB", "LPIPS", "NIQE", "risk", "seconds"))
    for known in KNOWN:
        images = [(degrade_known(pair.hr(), known, scale=scale), pair.hr()) for pair in pairs]
        for name, run in subjects.items():
            run(images[0][0][..., :64, :64])  # warm
            values = [measure(run, lr, hr, scale=scale, weights=weights) for lr, hr in images]
            means = np.mean(values, axis=0).tolist()
            row = dict(zip(COLUMNS, means, strict=True))
            rows.append({"degradation": known.name, "subject": name} | row)
            shown = [f"{m:.{d}f}" for m, d in zip(means, (2, 2, 3, 2, 3, 3), strict=True)]
            print(TEXT.format(known.name, name, *shown), flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


def write_table(page: Path, results: Path) -> None:
    """Put the table of the results between the two marks of a page of Markdown."""
    measured = json.loads(results.read_text())
    found = {(row["degradation"], row["subject"]): row for row in measured["rows"]}
    shown = {name: title for name, title in SHOWN.items() if (KNOWN[0].name, name) in found}
    lines = [
        "| degradation | " + " | ".join(shown.values()) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for known in KNOWN:
        cells = [found[known.name, name] for name in shown]
        texts = [f"{cell['rgb_psnr']:.2f} / {cell['lpips']:.3f}" for cell in cells]
        lines.append(f"| {WORDS[known.name]} | {' | '.join(texts)} |")
    mark = MARKS[0].format(measured["scale"])
    before, _, rest = page.read_text().partition(mark)
    _, _, after = rest.partition(MARKS[1])
    page.write_text(before + "\n".join([mark, "", *lines, "", MARKS[1]]) + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=11)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--json", type=Path, help="default: results/photo.json, photo_x2.json")
    parser.add_argument("--readme", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.json is None:
        name = "photo.json" if options.scale == 4 else f"photo_x{options.scale}.json"
        options.json = Path("results") / name
    if options.data is not None:
        measure_all(options)
    for page in options.readme:
        write_table(page, options.json)


if __name__ == "__main__":
    main()
