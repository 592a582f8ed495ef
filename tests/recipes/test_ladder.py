"""The ladder: its names, and a tiny form of each rung that trains."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from edgekeeper.recipes.ladder import LADDER, SHAPES
from edgekeeper.training.recipe import Recipe


def test_every_size_has_every_scale() -> None:
    sizes = {f"{size}_x{scale}" for size in SHAPES for scale in (2, 3, 4)}
    trunks = {"fast_x4_trunk", "balanced_x4_trunk"}
    assert set(LADDER) == sizes | trunks | {"restore_x2", "restore_x4", "restore_x4_texture"}


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
