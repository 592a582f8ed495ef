"""The ladder: its names, and a tiny form of each rung that trains."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from edgekeeper.models import ChainSR
from edgekeeper.recipes.ladder import LADDER, SHAPES, trunk
from edgekeeper.spec import to_plain
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.state import continues


def test_every_size_has_every_scale() -> None:
    sizes = {f"{size}_x{scale}" for size in SHAPES for scale in (2, 3, 4)}
    trunks = {f"{name}_trunk" for name in sizes}
    assert set(LADDER) == sizes | trunks | {"restore_x2", "restore_x4"}


@pytest.mark.parametrize("name", LADDER)
def test_a_tiny_form_trains(
    name: str, reduced: Callable[[Recipe], Recipe], run: Callable[..., Any]
) -> None:
    recipe = reduced(LADDER[name])
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, patch=48))
    outcome, lines = run(recipe)
    assert outcome.status == "finished"
    assert outcome.step == 2 * len(LADDER[name].stages) == len(lines)


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    short, long = (trunk(size="fast", scale=2, constant_stages=n) for n in (2, 4))
    assert short.stages[:2] == long.stages[:2]
    assert continues(long, to_plain(short), step=20_000)
    assert short.model.target is ChainSR
