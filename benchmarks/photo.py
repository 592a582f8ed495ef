"""Photographs as people have them, ×4: networks against Lanczos and Real-ESRGAN's compact networks.

    OMP_NUM_THREADS=1 python benchmarks/photo.py --data DATA [NETWORK ...] [--images 11]

Eleven images of BSD100, made small by the six degradations of ``edgekeeper.data.known``. A NETWORK
is a name, a file, or a style of ``upscale``. Each line is the mean over the images: RGB PSNR and Y
PSNR (border 4), LPIPS, NIQE, structure risk (the share of edges that the LR image does not support)
and CPU seconds an image, on one thread.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pyvips
import torch
from torch import Tensor

import edgekeeper
from edgekeeper.data.degrade import to_bytes
from edgekeeper.data.known import KNOWN, degrade_known
from edgekeeper.data.pairs import load_pairs
from edgekeeper.inference.network import infer
from edgekeeper.metrics import lpips, niqe, psnr
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.pretrained.zoo import Style, load, networks

SCALE = 4
DEFAULTS = ("edsr_light_x4", "restore_x4", "restore_x4_texture", "auto")  # those that ship
PEERS = ("realesr_general_x4v3", "realesr_general_wdn_x4v3")
COLUMNS = ("rgb_psnr", "y_psnr", "lpips", "niqe", "risk", "seconds")
TEXT = "{:10} {:26} {:>9} {:>8} {:>7} {:>7} {:>7} {:>8}"

Subject = Callable[[Tensor], Tensor]


def lanczos(lr: Tensor) -> Tensor:
    """libvips' Lanczos with three lobes, on 8 bits."""
    pixels = to_bytes(lr)[0].permute(1, 2, 0).contiguous().numpy()
    large = pyvips.Image.new_from_array(pixels).resize(SCALE, kernel="lanczos3")
    return torch.from_numpy(large.numpy().astype(np.float32) / 255).permute(2, 0, 1)[None]


def subject(name: str) -> Subject:
    if name in get_args(Style):
        return lambda lr: edgekeeper.upscale(lr, scale=SCALE, style=name)
    model = load(name)
    return lambda lr: infer(model, lr, layout="channels last")


def measure(run: Subject, lr: Tensor, hr: Tensor, *, weights: Path) -> list[float]:
    """The values of COLUMNS for one image."""
    start = time.process_time()
    sr = run(lr)
    seconds = time.process_time() - start
    values = (
        psnr(sr, hr, protocol="rgb_matlab", scale=SCALE),
        psnr(sr, hr, protocol="y_matlab", scale=SCALE),
        lpips(sr, hr, folder=weights),
        niqe(sr, folder=weights),
        structure_risk(lr, sr, scale=SCALE).score,
    )
    return [*(float(value) for value in values), seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=11)
    parser.add_argument("--json", type=Path, default=Path("results/photo.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = options.data / "weights"
    shipped = {network.name for network in networks()} | {*get_args(Style)}
    names = options.networks or [name for name in DEFAULTS if name in shipped]
    subjects = {"Lanczos": lanczos} | {Path(name).stem: subject(name) for name in names}
    subjects |= {name: subject(str(weights / f"{name}.safetensors")) for name in PEERS}
    pairs = load_pairs("bsd100", scale=SCALE, root=options.data)[::9][: options.images]
    print(TEXT.format("", "", "RGB dB", "Y dB", "LPIPS", "NIQE", "risk", "seconds"))
    rows = []
    for known in KNOWN:
        images = [(degrade_known(pair.hr(), known, scale=SCALE), pair.hr()) for pair in pairs]
        for name, run in subjects.items():
            run(images[0][0][..., :64, :64])  # warm
            values = [measure(run, lr, hr, weights=weights) for lr, hr in images]
            means = np.mean(values, axis=0).tolist()
            row = dict(zip(COLUMNS, means, strict=True))
            rows.append({"degradation": known.name, "subject": name} | row)
            shown = [f"{m:.{d}f}" for m, d in zip(means, (2, 2, 3, 2, 3, 3), strict=True)]
            print(TEXT.format(known.name, name, *shown), flush=True)
    content = {
        "set": "BSD100",
        "images": [pair.name for pair in pairs],
        "scale": SCALE,
        "protocols": {"rgb_psnr": "rgb_matlab", "y_psnr": "y_matlab"},
        "degradations": [vars(known) for known in KNOWN],
        "rows": rows,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
