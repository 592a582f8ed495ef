"""The data feed: one training patch from the packed store against decoding an image for it.

    python benchmarks/data.py
    python benchmarks/data.py --json results/data.json

Eight images of 2040x1356 (the size of DIV2K's) are written as PNG and packed into a store. One
"patch" is an LR and an HR patch cut at the same place and turned by one of eight symmetries,
as training takes them. The peer decodes the whole HR image with Pillow for each patch, which is
what a data loader without a store does. All forms take turns; times are CPU seconds, one thread.
Last line: the part of a processor that feeding a training step of a given length needs.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store

HEIGHT, WIDTH, IMAGES = 1356, 2040, 8
BATCH, PATCH, SCALE = 16, 192, 4
ROUNDS, BAR = 12, 500.0


def write_images(folder: Path) -> list[Path]:
    """PNG files with photograph-like content: a 1 / f spectrum, a little noise."""
    rng = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)
    fall = 1 / np.maximum(np.hypot(fy, fx), 1 / WIDTH)
    paths = []
    for number in range(IMAGES):
        planes = []
        for _ in range(3):
            noise = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH)))
            plane = np.fft.irfft2(noise * fall, s=(HEIGHT, WIDTH))
            planes.append(127 + 50 * plane / plane.std())
        pixels = np.stack(planes, -1) + rng.standard_normal((HEIGHT, WIDTH, 3))
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def decode(paths: list[Path], *, step: int) -> np.ndarray:
    """One HR patch cut from a PNG file that is decoded for it."""
    rng = np.random.default_rng(step)
    with Image.open(paths[step % IMAGES]) as image:
        pixels = np.asarray(image.convert("RGB"))
    y, x = rng.integers(0, HEIGHT - PATCH), rng.integers(0, WIDTH - PATCH)
    return np.ascontiguousarray(pixels[y : y + PATCH, x : x + PATCH])


def measure(forms: dict[str, tuple[Callable[[int], object], int]]) -> dict[str, float]:
    """Median CPU seconds per patch of each form: (call with a step, patches per call)."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for step in range(ROUNDS):
        for name, (call, patches) in forms.items():
            repeats = 1 if patches == 1 else 10
            started = time.thread_time()
            for repeat in range(repeats):
                call(step * repeats + repeat)
            times[name].append((time.thread_time() - started) / repeats / patches)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def stores(store: Store) -> dict[str, tuple[Callable[[int], object], int]]:
    """The forms that read the store."""

    def read(augment: str) -> Callable[[int], object]:
        return lambda step: store.batch(
            seed=0, step=step, size=BATCH, patch=PATCH, scale=SCALE, augment=augment
        )

    resident = store.to("cpu")
    return {
        "store, no turning": (read("none"), BATCH),
        "store, flips": (read("flips"), BATCH),
        "store, eight symmetries": (read("eight"), BATCH),
        "store in tensor memory (the way of a device)": (
            lambda step: resident.batch(seed=0, step=step, size=BATCH, patch=PATCH, scale=SCALE),
            BATCH,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        started = time.process_time()
        store = prepare_store(sources_in(folder), Path(folder) / "store", scales=(SCALE,))
        prepared = time.process_time() - started
        seconds = measure({"PNG by Pillow": (lambda s: decode(paths, step=s), 1)} | stores(store))
        png = sum(path.stat().st_size for path in paths)
        packed = store.index.pixels_bytes
    peer = seconds["PNG by Pillow"]
    print(f"{IMAGES} images {WIDTH}x{HEIGHT}, patch {PATCH} and {PATCH // SCALE}, ×{SCALE}")
    print(f"preparing: {prepared:.1f} CPU s; PNG {png / 1e6:.0f} MB, store {packed / 1e6:.0f} MB")
    print("| feed | microseconds per patch | times the peer's speed |")
    print("|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value * 1e6:.1f} | {peer / value:.0f} |")
    ratio = peer / seconds["store, eight symmetries"]
    held = "held" if ratio >= BAR else "MISSED"
    print(f"bar: eight symmetries at least {BAR:.0f} times the peer: {ratio:.0f}, {held}")
    step = BATCH * seconds["store, eight symmetries"]
    print(f"feeding steps of 0.1 s with {BATCH} patches: {step / 0.1:.1%} of a processor")
    if given.json:
        facts = {"machine": platform.processor(), "torch": torch.__version__, "ratio": ratio}
        given.json.write_text(json.dumps({"seconds_per_patch": seconds, **facts}, indent=1) + "\n")
    if ratio < BAR:
        sys.exit(1)


if __name__ == "__main__":
    main()
