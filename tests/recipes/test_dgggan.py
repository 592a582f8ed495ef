"""Tests of the recipes of DGGGAN, its ablations and its light network."""

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from edgekeeper.errors import InputError
from edgekeeper.losses import L1, Gradient, Perceptual, WassersteinGP
from edgekeeper.models import parameter_count
from edgekeeper.models.dgggan import Body
from edgekeeper.recipes import RECIPES
from edgekeeper.recipes.dgggan import DGGGAN_LIGHT, DGGGAN_TABLES, DGGGANForm, DGGGANVariant, dgggan
from edgekeeper.recipes.spsr import SPSR_FORMS
from edgekeeper.training.recipe import Data, Recipe

BODIES, FORMS, VARIANTS = get_args(Body), get_args(DGGGANForm), get_args(DGGGANVariant)
ALL = {**DGGGAN_TABLES, **DGGGAN_LIGHT}

every_recipe = pytest.mark.parametrize("recipe", ALL.values(), ids=list(ALL))
every_table = pytest.mark.parametrize("recipe", DGGGAN_TABLES.values(), ids=list(DGGGAN_TABLES))
every_form = pytest.mark.parametrize("form", FORMS)


def weights(recipe: Recipe) -> dict[str, float]:
    """The weights of the last stage by name."""
    stage = recipe.stages[-1]
    return {part.name: part.weight for part in (*stage.terms, *stage.discriminators)}


def test_both_designs_have_every_variant_in_every_form() -> None:
    assert len(DGGGAN_TABLES) == len(BODIES) * len(VARIANTS) * len(FORMS) == 12
    assert set(DGGGAN_LIGHT) == {f"dgggan_light_x{scale}" for scale in (2, 3, 4)}
    assert all(name == recipe.name and RECIPES[name] == recipe for name, recipe in ALL.items())
    assert {"dgggan", "dgggan_lr", "dgggan_no_se", "dgggan_lr_no_branch_small"} <= set(ALL)


@every_recipe
def test_it_runs_two_updates_of_each_stage(
    recipe: Recipe, reduced: Callable[..., Recipe], run: Callable[..., Any]
) -> None:
    small = reduced(recipe)
    if recipe.name == "dgggan_light_x3":
        small = dataclasses.replace(small, data=Data(patch=30, batch=2))
    outcome, lines = run(small)
    assert (outcome.status, outcome.step) == ("finished", 2 * len(recipe.stages))
    assert [line["stage"] for line in lines] == [s.name for s in recipe.stages for _ in range(2)]
    assert set(weights(recipe)) <= lines[-1].keys()
    assert ("gan.penalty" in lines[-1]) == (recipe.name in DGGGAN_TABLES)


@every_recipe
def test_it_survives_json(recipe: Recipe, survives_json: Callable[[Recipe], bool]) -> None:
    assert survives_json(recipe)


@every_table
def test_the_weights_are_those_of_equation_7(recipe: Recipe) -> None:
    expected = {"perceptual": 1.0, "pixel": 0.01, "gan": 0.005}
    if "no_branch" not in recipe.name:  # Table 1: mu = epsilon = eta = 0
        expected |= {"gradient": 0.01, "gradient gan": 0.005, "branch": 0.5}
    if recipe.name.endswith("small"):
        expected["perceptual"] = SPSR_FORMS["light"].perceptual.weight
    assert weights(recipe) == expected


def test_the_losses_are_those_of_equation_7() -> None:
    stage = dgggan(form="paper").stages[-1]
    losses = {term.name: (term.loss.target, term.on) for term in stage.terms}
    assert losses == {
        "perceptual": (Perceptual, "image"),
        "pixel": (L1, "image"),
        "gradient": (Gradient, "image"),
        "branch": (L1, "branch"),
    }
    assert {a.name: a.input for a in stage.discriminators} == {
        "gan": "image",
        "gradient gan": "gradient",
    }
    for discriminator in stage.discriminators:
        loss = discriminator.loss.build()
        assert isinstance(loss, WassersteinGP) and loss.penalty_weight == 10
        assert dict(discriminator.network.arguments)["norm"] == "none"


def test_the_paper_s_rates_patches_and_length() -> None:
    recipe = dgggan(form="paper")
    (stage,) = recipe.stages
    assert (recipe.data.patch, recipe.data.batch, recipe.steps) == (192, 16, 500_000)
    assert (stage.optim.kind, stage.optim.betas) == ("adam", (0.9, 0.999))
    for optim in (stage.optim, *(a.optim for a in stage.discriminators)):
        found = [
            optim.learning_rate_at(k * 1_000, steps=500_000) for k in (0, 49, 50, 100, 200, 300)
        ]
        assert found == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5, 6.25e-6])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dgggan", 14_624_582),
        ("dgggan_no_se", 14_532_422),
        ("dgggan_no_branch", 7_306_371),
        ("dgggan_lr", 14_660_230),
        ("dgggan_lr_no_se", 14_568_070),
        ("dgggan_lr_no_branch", 7_328_835),
    ],
)
def test_the_paper_form_trains_the_networks_of_its_tables(
    name: str, parameters: int, built: Callable[..., torch.nn.Module]
) -> None:
    assert parameter_count(built(ALL[name].model)) == parameters
    for discriminator in ALL[name].stages[-1].discriminators:
        assert parameter_count(built(discriminator.network)) == 20_692_745


@pytest.mark.parametrize("name", list(DGGGAN_LIGHT))
def test_the_light_network_is_light(name: str, built: Callable[..., torch.nn.Module]) -> None:
    assert parameter_count(built(ALL[name].model)) < 500_000


@every_form
def test_variants_and_designs_differ_in_nothing_else(form: DGGGANForm) -> None:
    recipes = [
        dgggan(variant=variant, body=body, form=form, seed=3)
        for body in BODIES
        for variant in VARIANTS
    ]
    for field in ("data", "seed", "ema_decay", "validation", "retries", "stage_ends"):
        assert all(getattr(r, field) == getattr(recipes[0], field) for r in recipes), field
    assert len({recipe.model for recipe in recipes}) == len(recipes)
    assert len({stage.optim for recipe in recipes for stage in recipe.stages[-1:]}) == 1
    arguments = [dict(recipe.model.arguments) for recipe in recipes]
    switches = ("body", "se", "gradient_branch")
    rest = [{k: v for k, v in a.items() if k not in switches} for a in arguments]
    assert all(each == rest[0] for each in rest)


def test_a_stage_on_fidelity_can_come_first() -> None:
    first, last = dgggan(form="paper", pixel_steps=7).stages
    assert (first.name, first.steps, first.discriminators) == ("pixel", 7, ())
    assert {term.name: term.weight for term in first.terms} == {"pixel": 1.0, "branch": 0.5}
    assert last == dgggan(form="paper").stages[0]
    assert [stage.name for stage in dgggan(form="small", pixel_steps=0).stages] == ["adversarial"]


def test_the_discriminators_learn_once_or_as_often_as_asked(
    reduced: Callable[..., Recipe], run: Callable[..., Any]
) -> None:
    assert {recipe.stages[-1].discriminator_updates for recipe in DGGGAN_TABLES.values()} == {1}
    usual, often = (
        dgggan(form="small", pixel_steps=0),
        dgggan(form="small", pixel_steps=0, discriminator_updates=5),
    )
    (stage,) = often.stages
    assert stage.discriminator_updates == stage.batches == 5
    assert dataclasses.replace(stage, discriminator_updates=1) == usual.stages[0]
    outcome, lines = run(reduced(often))
    assert (outcome.status, outcome.step, len(lines)) == ("finished", 2, 2)
    with pytest.raises(InputError, match="discriminator_updates is 0; give 1 or more"):
        dgggan(discriminator_updates=0)


def test_the_small_form_adds_to_the_interpolated_image() -> None:
    for body in BODIES:
        model = dgggan(body=body, form="small").model.build()
        assert model.image_skip == "bilinear"
        assert parameter_count(model) < 3_000_000
