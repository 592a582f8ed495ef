"""One table of what is measured on two cores: what, ours, peer or limit, ratio, interval.

    make bench       # or: python benchmarks/bench.py [--rounds 9] [--only WORD] [--json FILE]

Ours and the peer take turns; the ratio is the median of the ratios of the rounds, with its 95 %
bootstrap interval. Peers: scikit-image for PSNR and SSIM; for upscaling, files included, the same
network in PyTorch as it comes, and in float32 in what else runs it; for training a loop as
toolboxes write it, which decodes PNG files in float32; for a step its floor (benchmarks/floor.py),
where the ratio is how many times the floor it takes; of the time waiting for batches the ratio is
the share. Times are of the wall (PSNR, SSIM and upscaling: of the processor, one thread), so an
idle machine is meant.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.files import write_text
from edgekeeper.inference.export import with_runtime
from edgekeeper.models import ESPCN
from edgekeeper.pretrained.exported import Runtime
from edgekeeper.pretrained.zoo import load
from edgekeeper.recipes import RECIPES
from edgekeeper.training.batches import stage_batches
from edgekeeper.training.loop import update
from edgekeeper.training.process import RunOptions
from edgekeeper.training.state import begin, build_losses, enter_stage
from floor import copy_rate, counted, one_step
from metrics import IMAGE, image, pixel_forms
from train import interval, matmul_rate
from upscale import by_edgekeeper, by_pillow, photograph

Seconds = Callable[[], float]
FLOOR, WHOLE = "its floor", "all their time"
ROW = "{:34} {:>10} {:>10}  {:22} {:>6}  {}"


def timed(work: Callable[[], object]) -> Seconds:
    def seconds() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return seconds


def of_one_thread(work: Callable[[], object]) -> Seconds:
    """As ``timed``, in seconds of the processor and on one thread, as scikit-image has."""

    def seconds() -> float:
        torch.set_num_threads(1)
        started = time.process_time()
        work()
        taken = time.process_time() - started
        torch.set_num_threads(2)
        return taken

    return seconds


def floor_of(name: str) -> tuple[Seconds, Seconds]:
    """A step of ``floor.STEPS``, and what its floor takes at the peaks of this very moment."""
    step = one_step(name, device="cpu", compiled=False)
    step()
    flops, moved = counted(step)

    def limit() -> float:
        matrix = 2 * matmul_rate(torch.bfloat16, device="cpu")
        return max(flops / matrix, moved / copy_rate(device="cpu"))

    return timed(step), limit


def against_png(folder: Path) -> tuple[Seconds, Seconds]:
    """Ten updates of ESPCN x3 with their batches: ours, and a float32 loop that decodes PNG."""
    ours, _ = training(folder)
    hr_files = sorted(folder.glob("*.png"))
    (folder / "lr").mkdir()
    lr_files = [folder / "lr" / file.name for file in hr_files]
    for file, lr_file in zip(hr_files, lr_files, strict=True):
        Image.open(file).resize((340, 340), Image.Resampling.BICUBIC).save(lr_file)
    recipe = RECIPES["espcn_x3"]
    side, size = recipe.data.patch // 3, recipe.data.batch
    numbers = np.random.default_rng(0)
    model = ESPCN(scale=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def patches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(size):  # as a Dataset of two folders does
            k, y, x = numbers.integers((4, 340 - side, 340 - side))
            lr, hr = (np.asarray(Image.open(files[k])) for files in (lr_files, hr_files))
            lr = lr[y : y + side, x : x + side]
            hr = hr[3 * y : 3 * (y + side), 3 * x : 3 * (x + side)]
            yield tuple(torch.from_numpy(i.copy()).permute(2, 0, 1) / 255 for i in (lr, hr))  # type: ignore[misc]

    def plain() -> None:
        for _ in range(10):
            lr, hr = (torch.stack(i)[:, :1] for i in zip(*patches(), strict=True))
            loss = (model(lr) - hr).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return ours, timed(plain)


def training(folder: Path) -> tuple[Seconds, Seconds]:
    """Ten updates of ESPCN x3 with their batches, from PNG files made here; their waiting alone."""
    pixels = image(IMAGE)[0, :, :1020, :1020].permute(1, 2, 0).mul(255).byte().numpy()
    folder.mkdir()
    for k in range(4):
        Image.fromarray(np.ascontiguousarray(np.rot90(pixels, k))).save(folder / f"{k}.png")
    recipe = RECIPES["espcn_x3"]
    store = prepare_store(sources_in(folder), folder / "store", scales=(3,))
    state = begin(recipe, store, options=RunOptions(out=folder / "run"))
    enter_stage(state, recipe.stages[0], recipe=recipe)
    batches = stage_batches(recipe, store, steps=range(10**6), scale=3, workers=1)
    step = partial(update, recipe=recipe, criteria=build_losses(recipe, device="cpu"))
    waited: list[float] = []

    def ten() -> None:
        waited.clear()
        for _ in range(10):
            started = time.perf_counter()
            batch = next(batches)
            waited.append(time.perf_counter() - started)
            step(state, batch)
            state.step += 1

    return timed(ten), lambda: sum(waited)


def upscaling(folder: Path, *, peers: tuple[Runtime, ...]) -> tuple[Seconds, Seconds]:
    """A PNG of 192 x 192 to one four times as large by `balanced_x4`: ours by default.

    Against PyTorch as it comes, or against the fastest of ``peers`` in each round, with the same
    weights in float32 and Pillow's files.
    """
    folder.mkdir()
    source, target = folder / "lr.png", folder / "sr.png"
    photograph(source, side=192)
    model = load("balanced_x4")
    known = [with_runtime(model, runtime=peer, threads=1) for peer in peers] or [model]
    others = [of_one_thread(partial(by_pillow(network), source, target)) for network in known]
    ours = by_edgekeeper("balanced_x4", threads=1, precision="auto", runtime="auto")
    return of_one_thread(partial(ours, source, target)), lambda: min(other() for other in others)


def waiting(folder: Path) -> tuple[Seconds, Seconds]:
    """What ten updates wait for their batches, and all of their time."""
    work, waited = training(folder)
    whole: list[float] = []

    def ours() -> float:
        whole[:] = [work()]
        return waited()

    return ours, lambda: whole[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="rows that contain this word")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        _, _, forms = pixel_forms(image(IMAGE))
        known: dict[str, Runtime] = {"onnxruntime": "onnx", "openvino": "openvino"}
        peers = {package: known[package] for package in known if find_spec(package)}
        rows: dict[str, tuple[str, Callable[[], tuple[Seconds, Seconds]]]] = {
            "PSNR + SSIM, 10 x BSD100's size": (
                "scikit-image",
                lambda: (of_one_thread(forms["edgekeeper"]), of_one_thread(forms["scikit-image"])),
            ),
            "10 updates of ESPCN x3, batches too": (
                "float32, PNG",
                lambda: against_png(Path(name, "png")),
            ),
            "of them waiting for batches": (WHOLE, lambda: waiting(Path(name, "store"))),
            "upscale x4, balanced, PNG to PNG": (
                "PyTorch eager",
                lambda: upscaling(Path(name, "eager"), peers=()),
            ),
            "upscale x4, balanced, best peer": (
                " + ".join(peers),
                lambda: upscaling(Path(name, "peers"), peers=tuple(peers.values())),
            ),
        }
        for network in ("espcn", "vdsr", "edsr_baseline", "rrdb", "spsr", "fast", "balanced"):
            rows[f"training step, {network}"] = FLOOR, partial(floor_of, network)
        print(ROW.format("what", "ours", "peer", "peer or limit", "ratio", "95 %"))
        record = {}
        for what, (peer, make) in rows.items():
            if given.only not in what or not peer:  # no peer is installed
                continue
            ours, theirs = make()
            ours(), theirs()  # warm
            pairs = [(ours(), theirs()) for _ in range(given.rounds)]
            limit = peer in (FLOOR, WHOLE)
            found = interval([a / b if limit else b / a for a, b in pairs])
            mine, other = (f"{np.median(times) * 1e3:.1f} ms" for times in zip(*pairs, strict=True))
            ratio, spread = f"{found[0]:.2f}", f"{found[1]:.2f} to {found[2]:.2f}"
            print(ROW.format(what, mine, other, peer, ratio, spread), flush=True)
            record[what] = {"ours": mine, "peer": other, "name": peer, "ratio": found}
    if given.json is not None:
        write_text(given.json, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
