"""What a training step costs: precision and layout, interleaved in one process.

    python benchmarks/train.py --store photos.store [--threads 2] [--rounds 5]

Floor: three times the forward multiplications (forward, gradient of the input, gradient of the
weights) at the machine's own matrix-multiply rate, measured in the same run.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import torch

from edgekeeper.data.store import Store
from edgekeeper.models import parameter_count
from edgekeeper.recipes import RECIPES
from edgekeeper.training.loop import RunOptions, update
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.state import begin, build_losses, enter_stage

VARIANTS = {
    "float32": ("float32", "contiguous"),
    "float32, channels last": ("float32", "channels_last"),
    "bfloat16, channels last": ("bfloat16", "channels_last"),
}


def matmul_rate(dtype: torch.dtype, *, size: int = 2048) -> float:
    """Multiply-accumulates per second of a square matrix product."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    a @ b
    times = []
    for _ in range(3):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return size**3 / min(times)


class Runner:
    """One variant of a recipe, ready to be stepped."""

    def __init__(self, recipe: Recipe, store: Store) -> None:
        self.recipe, self.store = recipe, store
        self.state = begin(recipe, store, options=RunOptions(out=Path("nowhere")))
        enter_stage(self.state, recipe.stages[0], recipe=recipe)
        self.criteria = build_losses(recipe, device="cpu")

    def seconds(self, step: int) -> float:
        started = time.perf_counter()
        data = self.recipe.data
        batch = self.store.batch(
            seed=0, step=step, size=data.batch, patch=data.patch, scale=self.state.model.scale
        )
        update(self.state, batch, recipe=self.recipe, criteria=self.criteria)
        self.state.step += 1
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    store = Store.open(given.store)
    rates = {d: matmul_rate(d) for d in (torch.float32, torch.bfloat16)}
    print("matrix product:", *(f"{d}: {r / 1e9:.0f} GMAC/s" for d, r in rates.items()))
    for name in ("espcn_x3", "edsr_light_x2"):
        base = dataclasses.replace(RECIPES[name], start=None)
        runners = {
            label: Runner(dataclasses.replace(base, precision=precision, layout=layout), store)
            for label, (precision, layout) in VARIANTS.items()
        }
        times: dict[str, list[float]] = {label: [] for label in runners}
        for step in range(given.rounds + 1):
            for label, runner in runners.items():
                times[label].append(runner.seconds(step))
        medians = {label: statistics.median(values[1:]) for label, values in times.items()}
        model = runners["float32"].state.model
        pixels = base.data.batch * (base.data.patch // model.scale) ** 2
        work = 3 * parameter_count(model) * pixels  # all layers at LR size: a weight is a MAC
        print(f"{name}: {work / 1e9:.1f} GMAC a step, {given.threads} threads")
        for label, seconds in medians.items():
            ratio, learning_rate = medians["float32"] / seconds, work / seconds / 1e9
            print(f"  {label:26} {seconds * 1e3:7.1f} ms  x{ratio:.2f}  {learning_rate:.0f} GMAC/s")


if __name__ == "__main__":
    main()
