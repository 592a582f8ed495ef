"""The ladder: its names, and a tiny form of each rung that trains."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekeeper.papers.frontier import NETWORKS_OF_FRONTIER
from edgekeeper.pretrained.zoo import WEIGHTS
from edgekeeper.recipes import RECIPES
from edgekeeper.recipes.ladder import LADDER, SHAPES, gpu_rung
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.start import start


def test_every_size_has_every_scale() -> None:
    sizes = {f"{size}_x{scale}" for size in SHAPES for scale in (2, 3, 4)}
    trunks = {"fast_x4_trunk", "balanced_x4_trunk"}
    kinds = ("x{}", "x{}_trunk", "x{}_mild", "x{}_texture")
    restores = {f"restore_{kind.format(scale)}" for scale in (2, 4) for kind in kinds}
    others = {
        "best_x4_texture",
        "best_x4_long",
        "wide_x4",
        *(f"{size}_x{n}_distilled" for size in SHAPES for n in (2, 3, 4)),
    }
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


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.start])
def test_what_ships_fits_the_recipes_that_go_on_from_it(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.start is not None
    file = WEIGHTS / f"{recipe.start.recipe}.safetensors"
    if not file.is_file():  # a network that does not ship
        assert recipe.start.recipe in RECIPES
        return
    assert "taken" in start(recipe, recipe.model.build(), file=file)


@pytest.mark.parametrize("name", NETWORKS_OF_FRONTIER)
def test_what_ships_fits_the_cells_of_the_frontier(name: str) -> None:
    cell = dataclasses.replace(LADDER["fast_x4"], model=NETWORKS_OF_FRONTIER[name], start=None)
    taken = start(cell, cell.model.build(), file=WEIGHTS / f"{name}_x4.safetensors")["taken"]
    assert taken == f"{len(cell.model.build().state_dict())} tensors"  # all of them
