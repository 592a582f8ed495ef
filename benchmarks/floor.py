"""A training step over its floor, by network: what the machine's own peaks allow.

    python benchmarks/floor.py [--networks vdsr,espcn] [--threads 2] [--rounds 7] [--device cuda]
        [--compile] [--json floor.json]

Floor: the larger of operations / matrix peak and bytes / copy peak, both peaks measured here, the
matrix one in bfloat16. Operations: multiplications and additions of the convolutions and matrix
products of forward and backward pass, as torch counts them. Bytes: what every operation of the
step makes, written once and read once. Rounds take turns over peaks and networks; the best of each
counts, as other programs only ever take time away; they take least with one thread, where the
clock is the processor time of the process.
A step is the update of the training loop without reading the batch, in bfloat16 autocast with
channels last, L1 and Adam. `--compile` also times it with the network compiled, in turns, and says
after how many updates the compiling has paid.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.data.store import Batch
from edgekeeper.files import write_text
from edgekeeper.losses import L1
from edgekeeper.models import EDSR, ESPCN, RRDB, SPSR, VDSR, ChainSR, SRModel
from edgekeeper.papers.speedrun import machine_of
from edgekeeper.spec import Spec, spec
from edgekeeper.training.loop import update
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term
from edgekeeper.training.state import State, build_losses, enter_stage
from train import interval, matmul_rate, now

# network, LR pixels a side, images; VDSR's are of its enlarged patch
STEPS: dict[str, tuple[Spec[SRModel], int, int]] = {
    "vdsr": (spec(VDSR, scale=2), 24, 16),
    "espcn": (spec(ESPCN, scale=3), 24, 32),
    "edsr_baseline": (spec(EDSR, scale=2), 48, 4),
    "rrdb": (spec(RRDB, scale=4), 24, 1),
    "spsr": (spec(SPSR, scale=4), 24, 1),
    "fast": (spec(ChainSR, scale=4, width=16, blocks=8, depth=3), 48, 8),
    "balanced": (spec(ChainSR, scale=4, width=32, blocks=6, depth=3), 48, 8),
    "best": (
        spec(EDSR, scale=4, width=48, blocks=10, upsampler="direct", skip="bicubic", border=2),
        64,
        4,
    ),
}


class _Made(TorchDispatchMode):
    """Adds up the bytes of what operations make; a view makes nothing."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = (t for t in tree_leaves(found) if isinstance(t, Tensor))
            self.total += sum(t.numel() * t.element_size() for t in tensors)
        return found


def copy_rate(*, device: str) -> float:
    """Bytes a second, read and written, of copying 256 MB."""
    source = torch.zeros(2**26, device=device)
    target, times = torch.empty_like(source), []
    for _ in range(5):
        started = now(device)
        target.copy_(source)
        times.append(now(device) - started)
    return 2 * 4 * 2**26 / min(times)


def counted(step: Callable[[], None]) -> tuple[float, float]:
    """Operations and bytes of one step."""
    with FlopCounterMode(display=False) as flops, _Made() as made:
        step()
    return flops.get_total_flops(), 2 * made.total


def one_step(name: str, *, device: str, compiled: bool) -> Callable[[], None]:
    network, side, images = STEPS[name]
    terms = (Term("pixel", spec(L1)),)
    model = network.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    patch = side * model.scale
    recipe = Recipe(
        name,
        network,
        data=Data(patch=patch, batch=images),
        stages=(Stage("all", 1_000_000, Optim(learning_rate=1e-5), terms),),
        precision="bfloat16",
        layout="channels_last",
    )
    if compiled:
        model.compile()
    state = State(model.train(), None)
    enter_stage(state, recipe.stages[0], recipe=recipe)
    sizes = ((images, 3, side, side), (images, 3, patch, patch))
    batch = Batch(*(torch.randint(256, size, dtype=torch.uint8, device=device) for size in sizes))
    criteria = build_losses(recipe, device=device)
    return lambda: void(partial(update, recipe=recipe, criteria=criteria)(state, batch))


def void(_: object) -> None:
    """Drop a result."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(STEPS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="the network by torch.compile")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_flush_denormal(True)
    device, names = given.device, given.networks.split(",")
    found: dict[str, dict[str, float]] = {}
    steps, compiled = {}, {}
    for name in names:
        step = steps[name] = one_step(name, device=device, compiled=False)
        step()  # makes the optimizer's state
        flops, moved = counted(step)
        found[name] = {"gflop": flops / 1e9, "gbyte": moved / 1e9}
        if given.compile:
            compiled[name] = one_step(name, device=device, compiled=True)
            started = sum(os.times()[:4])  # of its compilers too
            compiled[name]()
            found[name]["compiling"] = sum(os.times()[:4]) - started
    times: dict[str, list[float]] = {name: [] for name in names}
    fast: dict[str, list[float]] = {name: [] for name in names}
    products, copies = [], []
    for _ in range(given.rounds):
        products.append(2 * matmul_rate(torch.bfloat16, device=device))
        copies.append(copy_rate(device=device))
        for kind, kept in ((steps, times), (compiled, fast)):
            for name, step in kind.items():
                started = now(device)
                step()
                kept[name].append(now(device) - started)
    matrix, copied = max(products), max(copies)
    print(f"peaks: {matrix / 1e9:.0f} GFLOP/s bfloat16, {copied / 1e9:.1f} GB/s copied")
    print(f"{'network':14} {'GFLOP':>7} {'GB':>6} {'floor':>9} {'step':>9} {'x floor':>7}  binds")
    for name, row in found.items():
        by_flops, by_bytes = row["gflop"] * 1e9 / matrix, row["gbyte"] * 1e9 / copied
        floor, step_s = max(by_flops, by_bytes), min(times[name])
        row |= {"floor": floor, "step": step_s, "ratio": step_s / floor}
        row |= {"median": statistics.median(times[name])}
        binds = "operations" if by_flops > by_bytes else "bytes"
        print(
            f"{name:14} {row['gflop']:7.1f} {row['gbyte']:6.2f} {floor * 1e3:6.1f} ms "
            f"{step_s * 1e3:6.1f} ms {row['ratio']:7.2f}  {binds}",
            flush=True,
        )
        if given.compile:
            gain, low, high = interval(
                [a / b for a, b in zip(times[name], fast[name], strict=True)]
            )
            saved = statistics.median(times[name]) - statistics.median(fast[name])
            row |= {"compiled": statistics.median(fast[name]), "gain": gain}
            pays = (
                f"pays after {row['compiling'] / saved:,.0f} updates" if saved > 0 else "never pays"
            )
            print(
                f"  compiled {min(fast[name]) * 1e3:.1f} ms, "
                f"gain {gain:.2f} [{low:.2f}, {high:.2f}], "
                f"compiling {row['compiling']:.0f} s: {pays}",
                flush=True,
            )
    if given.json is not None:
        peaks = {"gflop_s": matrix / 1e9, "gbyte_s": copied / 1e9}
        facts = {"machine": machine_of(device), "load": os.getloadavg()[1]}  # of five minutes
        record = {**facts, "peaks": peaks, "networks": found, "time": time.strftime("%Y-%m-%d")}
        write_text(given.json, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
