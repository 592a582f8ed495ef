"""What a training step costs: precision and layout, interleaved in one process.

    python benchmarks/train.py --store photos.store [--threads 2] [--rounds 5] [--device cuda]

Floor: three times the forward multiplications (forward, gradient of the input, gradient of the
weights) at the machine's own matrix-multiply rate, measured in the same run.

``--rungs`` measures the ladder's recipes for a GPU instead, in updates a second, as they are and
recorded as a graph, batches included; ``--json FILE`` gets the better of the two by name, negative
where the graph failed, was not equal, or was slower.
"""

import argparse
import dataclasses
import json
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from edgekeeper.data.store import Store
from edgekeeper.files import write_text
from edgekeeper.models import parameter_count
from edgekeeper.recipes import RECIPES
from edgekeeper.recipes.ladder import gpu_rung
from edgekeeper.training.batches import stage_batches
from edgekeeper.training.graph import WARM_UP, RecordedUpdate
from edgekeeper.training.loop import RunOptions, update
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.soap import SETTLING
from edgekeeper.training.state import begin, build_losses, enter_stage

VARIANTS = {
    "float32": ("float32", "contiguous"),
    "float32, channels last": ("float32", "channels_last"),
    "bfloat16, channels last": ("bfloat16", "channels_last"),
}


def now(device: str) -> float:
    """Seconds, once the device has done what it was told; of one thread its processor time."""
    if device == "cuda":
        torch.cuda.synchronize()
    one = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if one else time.perf_counter()


def matmul_rate(dtype: torch.dtype, *, device: str) -> float:
    """Multiply-accumulates per second of a square matrix product."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    times = []
    for _ in range(3):
        started = now(device)
        a @ b
        times.append(now(device) - started)
    return size**3 / min(times)


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The median and its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


class Runner:
    """One variant of a recipe, ready to be stepped."""

    def __init__(self, recipe: Recipe, store: Store, *, device: str) -> None:
        self.recipe, self.store, self.device = recipe, store, device
        self.state = begin(recipe, store, options=RunOptions(out=Path("nowhere"), device=device))
        enter_stage(self.state, recipe.stages[0], recipe=recipe)
        self.criteria = build_losses(recipe, device=device)

    def seconds(self, step: int) -> float:
        started = now(self.device)
        data = self.recipe.data
        batch = self.store.batch(
            seed=0, step=step, size=data.batch, patch=data.patch, scale=self.state.model.scale
        )
        update(self.state, batch, recipe=self.recipe, criteria=self.criteria)
        self.state.step += 1
        return now(self.device) - started

    def rate(self, *, recorded: bool, updates: int) -> tuple[float, float]:
        """Updates a second, once warm, and the loss of the last one."""
        one = partial(update, recipe=self.recipe, criteria=self.criteria)
        turn = RecordedUpdate(one, recipe=self.recipe) if recorded else one
        before, scale = SETTLING + WARM_UP + 2, self.state.model.scale
        steps = range(before + updates)
        for batch in stage_batches(self.recipe, self.store, steps=steps, scale=scale, workers=0):
            if self.state.step == before:
                started = now(self.device)
            losses = turn(self.state, batch)
            self.state.step += 1
        return updates / (now(self.device) - started), float(losses["total"])


def measure_rungs(store: Store, *, device: str, tiny: bool, file: Path | None) -> None:
    """Print updates a second of each rung, and write them as they come."""
    rates: dict[str, float] = {}
    print(f"{'recipe':16} {'eager':>8} {'graph':>8}   updates a second")
    for name, size, scale, degraded in (
        ("balanced_x4", "balanced", 4, False),
        ("fast_x4", "fast", 4, False),
        ("best_x4", "best", 4, False),
        ("balanced_x2", "balanced", 2, False),
        ("restore_x4", "best", 4, True),
    ):
        recipe = gpu_rung(size=size, scale=scale, steps=10_000, degraded=degraded)  # type: ignore[arg-type]
        if tiny:
            data = dataclasses.replace(recipe.data, patch=16 * scale, batch=2)
            recipe = dataclasses.replace(recipe, data=data)
        updates = 3 if tiny else 60
        eager, loss = Runner(recipe, store, device=device).rate(recorded=False, updates=updates)
        try:
            graph, again = Runner(recipe, store, device=device).rate(recorded=True, updates=updates)
        except RuntimeError as error:
            print(f"{name}: no graph, {error}")
            graph, again = 0.0, loss
        equal = abs(again - loss) < 0.05 * loss  # after so few updates rounding is all that differs
        rates[name] = graph if graph > eager and equal else -eager
        print(f"{name:16} {eager:8.1f} {graph:8.1f}   loss {loss:.5f} and {again:.5f}", flush=True)
        if file is not None:
            write_text(file, json.dumps(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rungs", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="rungs on few pixels")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    store = Store.open(given.store)
    if given.device != "cpu":
        store = store.to(given.device)
    if given.rungs:
        measure_rungs(store, device=given.device, tiny=given.tiny, file=given.json)
        return
    rates = {d: matmul_rate(d, device=given.device) for d in (torch.float32, torch.bfloat16)}
    print("matrix product:", *(f"{d}: {r / 1e9:.0f} GMAC/s" for d, r in rates.items()))
    for name in ("espcn_x3", "edsr_light_x2"):
        base = dataclasses.replace(RECIPES[name], start=None)
        runners = {
            label: Runner(
                dataclasses.replace(base, precision=precision, layout=layout),
                store,
                device=given.device,
            )
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
        print(f"{name}: {work / 1e9:.1f} GMAC a step, {given.threads} threads, {given.device}")
        for label, seconds in medians.items():
            ratio, learning_rate = medians["float32"] / seconds, work / seconds / 1e9
            print(f"  {label:26} {seconds * 1e3:7.1f} ms  x{ratio:.2f}  {learning_rate:.0f} GMAC/s")


if __name__ == "__main__":
    main()
