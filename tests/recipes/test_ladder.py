"""The ladder: its names, and a tiny form of each rung that trains."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekeeper.recipes.ladder import LADDER, SHAPES, gpu_rung
from edgekeeper.training.recipe import Recipe


def test_every_size_has_every_scale() -> None:
    sizes = {f"{size}_x{scale}" for size in SHAPES for scale in (2, 3, 4)}
    trunks = {"fast_x4_trunk", "balanced_x4_trunk"}
    kinds = ("x{}", "x{}_trunk", "x{}_mild", "x{}_texture")
    restores = {f"restore_{kind.format(scale)}" for scale in (2, 4) for kind in kinds}
    others = {"best_x4_texture", *(f"{size}_x{n}_distilled" for size in SHAPES for n in (2, 4))}
    assert set(LADDER) == sizes | trunks | restores | others


@pytest.mark.parametrize("name", LADDER)
def test_a_tiny_form_trains(
    name: str, reduced: Callable[[Recipe], Recipe], run: Callable[..., Any]
) -> None:
    recipe = reduced(LADDER[name])
    if not recipe.stages[0].discriminators:  # those have the size of the small patches
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, patch=48))
    outcome, lines = run(recipe)
    assert outcome.status == "finished"
    assert outcome.step == 2 * len(LADDER[name].stages) == len(lines)


def test_a_rung_for_a_gpu_trains_and_begins_from_one_of_another_scale(
    reduced: Callable[[Recipe], Recipe], run: Callable[..., Any], tmp_path: Path
) -> None:
    first = gpu_rung(size="balanced", scale=4, steps=9)
    assert (first.data.batch, first.data.patch, first.steps) == (32, 256, 9)
    assert first.stages[0].optim.learning_rate_at(8, steps=600) < 4e-3  # warms up
    run(reduced(first), out="first")
    other = gpu_rung(size="balanced", scale=2, steps=9, start=first.name)
    assert other.start is not None and other.start.fresh == ("last.",)
    restore = gpu_rung(size="best", scale=4, steps=9, degraded=True, start="best_x4_gpu")
    assert restore.name == "restore_x4_gpu" and restore.data.degradations is not None
    assert restore.start is not None and restore.start.fresh == ()
    small = dataclasses.replace(reduced(other), start=other.start)
    outcome, _ = run(small, out="other", start_from=tmp_path / "first" / "model.safetensors")
    assert outcome.status == "finished"
