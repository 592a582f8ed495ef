"""Times our resize against Pillow and torch's own antialiased resize, in one process.

Run: python benchmarks/resize.py [--threads 1] [--repeats 7]

Each row is the median of several rounds in which the ways take turns, so that a busy machine
slows all of them; "ratio" is the time of the way over our time (above 1: ours is faster).
"differ" is the share of 8-bit values that differ from ours.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from edgekeeper.ops.resize import imresize, pillow_resize

Ways = dict[str, Callable[[], object]]


def image(height: int, width: int) -> Tensor:
    """An image (3, H, W) on the grid of 1/255 with edges and fine texture."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(height)[:, None]
    columns = torch.arange(width)
    waves = torch.sin(rows / 9 + columns / 31) + torch.sign(torch.sin(rows / 50 - columns / 37))
    noise = torch.rand(3, height, width, generator=generator)
    return ((waves / 6 + 0.5 + noise / 6).clamp(0, 1) * 255).round() / 255


def milliseconds(ways: Ways, *, repeats: int) -> dict[str, float]:
    """The median time of each way, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                times[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def antialiased(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Torch's bicubic, with its own rule for borders and no rounding."""
    return functional.interpolate(x[None], size=size, mode="bicubic", antialias=True)[0]


def report(title: str, ways: Ways, *, repeats: int, values: dict[str, Tensor]) -> None:
    """Print one table; the first way is ours."""
    print(f"\n{title}")
    times = milliseconds(ways, repeats=repeats)
    ours = next(iter(ways))
    for name, spent in times.items():
        line = f"  {name:<46}{spent:9.1f} ms  ratio {spent / times[ours]:6.2f}"
        if name in values:
            grid = [(t.clamp(0, 1) * 255).round() for t in (values[name], values[ours])]
            line += f"  differ {(grid[0] != grid[1]).double().mean():7.2%}"
        print(line)


def shrinking(height: int, width: int, *, factor: int, repeats: int) -> None:
    """A photograph made small."""
    x = image(height, width)
    size = (height // factor, width // factor)
    opened = Image.fromarray((x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())

    def by_pillow() -> Tensor:
        small = opened.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255

    scale = 1 / factor
    ways: dict[str, Callable[[], Tensor]] = {
        "imresize, uint8 in between (older MATLAB)": lambda: imresize(
            x, scale=scale, boundary="replicate", quantise="uint8"
        ),
        "imresize, float (MATLAB)": lambda: imresize(x, scale=scale),
        "torch interpolate, antialias": lambda: antialiased(x, size),
        "Pillow BICUBIC on uint8, and to float": by_pillow,
        "pillow_resize": lambda: pillow_resize(x, size=size, method="bicubic"),
    }
    values = {name: way() for name, way in ways.items()}
    title = f"{width} × {height} RGB to 1/{factor}"
    report(title, dict(ways), repeats=repeats, values=values)


def enlarging(shape: tuple[int, int, int, int], *, factor: int, repeats: int) -> None:
    """A batch as a network with an enlarged input sees it, forwards and backwards."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    size = (shape[2] * factor, shape[3] * factor)
    wanted = x.clone().requires_grad_()
    gradient = torch.rand(shape[0], shape[1], *size)

    def by_torch(t: Tensor) -> Tensor:
        return functional.interpolate(t, size=size, mode="bicubic", antialias=True)

    ways: Ways = {
        "imresize": lambda: imresize(x, scale=factor),
        "torch interpolate, antialias": lambda: by_torch(x),
        "imresize, with derivative": lambda: imresize(wanted, scale=factor).backward(gradient),
        "torch, with derivative": lambda: by_torch(wanted).backward(gradient),
    }
    report(f"{shape} enlarged ×{factor}", ways, repeats=repeats, values={})


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="Times resizing against Pillow and torch.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.repeats} rounds")
    for factor in (2, 3, 4):
        shrinking(1356, 2040, factor=factor, repeats=options.repeats)
    shrinking(2160, 3840, factor=2, repeats=options.repeats)
    for factor in (2, 3, 4):
        enlarging((16, 1, 48, 48), factor=factor, repeats=options.repeats)
    enlarging((1, 3, 256, 256), factor=4, repeats=options.repeats)


if __name__ == "__main__":
    main()
