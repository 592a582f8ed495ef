"""Train against the clock to a stated PSNR on Set5 x2, and say what it took."""

import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgekeeper.data.store import Store
from edgekeeper.evaluation.tables import NOTHING, Table
from edgekeeper.files import read_text, write_text
from edgekeeper.inference.choose import cpu_capabilities
from edgekeeper.pretrained.checkpoint import code_version
from edgekeeper.recipes.speedrun import GOALS, SpeedrunNetwork, speedrun_recipe
from edgekeeper.spec import to_plain
from edgekeeper.training.loop import train
from edgekeeper.training.process import RunOptions
from edgekeeper.training.recipe import Recipe


def run_speedrun(
    network: SpeedrunNetwork,
    store: Store,
    *,
    data_root: Path,
    out: Path,
    goal: float | None = None,
    device: str = "cpu",
    time_limit: float | None = None,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Return the record of a run to ``goal`` dB: minutes, updates, PSNR, machine, recipe.

    The minutes are those of training with all that lies between updates, validation and
    checkpoints too, over all slices that ``time_limit`` (seconds) made. ``reached`` says whether
    it got there; if it may still, ``unfinished`` says so, and the same call goes on.
    """
    goal = GOALS[network] if goal is None else goal
    recipe = replace(recipe or speedrun_recipe(network), start=None)
    folder = out / f"{recipe.name}_{goal:g}"
    file = folder / "speedrun.json"
    if file.is_file():
        done: dict[str, Any] = json.loads(read_text(file))
        return done
    outcome = train(
        recipe,
        store,
        options=RunOptions(
            out=folder, device=device, data_root=data_root, time_limit=time_limit, until=goal
        ),
    )
    log = map(json.loads, read_text(folder / "log.jsonl").splitlines())
    scores = [(line["step"], line["validation"]["psnr"]) for line in log if "validation" in line]
    finished = outcome.status == "finished"
    record: dict[str, Any] = {
        "network": network,
        "goal": goal,
        "psnr": scores[-1][1] if scores else None,
        "reached": bool(scores) and scores[-1][1] >= goal,
        "minutes": round(outcome.seconds / 60, 2),
        "updates": outcome.step,
        "scores": scores,
        "machine": machine_of(device),
        "store": store.fingerprint,
        "code": code_version(),
        "recipe": to_plain(recipe),
    }
    if not finished:
        return record | {"unfinished": [f"{recipe.name} after {outcome.step} updates"]}
    write_text(file, json.dumps(record, indent=1) + "\n")
    return record


def speedrun_table(record: Mapping[str, Any]) -> Table:
    """Return the record of a run as a table of one row."""
    psnr = NOTHING if record["psnr"] is None else f"{record['psnr']:.2f}"
    cells = (psnr, f"{record['goal']:g}", str(record["updates"]), f"{record['minutes']:.1f}")
    columns = ("network", ">PSNR on Set5 ×2", ">goal", ">updates", ">minutes")
    notes = () if record["psnr"] is not None else ("Not measured yet.",)
    return Table("Time to quality", columns, ((record["network"], *cells),), notes)


def machine_of(device: str) -> dict[str, object]:
    """Return what a time was measured on: the model of the processor or the card, threads."""
    if device.startswith("cuda"):
        return {"device": torch.cuda.get_device_name(device)}
    model = cpu_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return {"device": "cpu", "model": model, "threads": torch.get_num_threads()}
