"""Tests of the recipes of SPSR's Table 2."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from edgekeeper.losses import Gradient, Perceptual, RelativisticGAN
from edgekeeper.models import parameter_count
from edgekeeper.pretrained.zoo import WEIGHTS
from edgekeeper.recipes import RECIPES
from edgekeeper.recipes.spsr import SPSR_TABLE2, SPSR_VARIANTS, SPSRForm, spsr
from edgekeeper.recipes.texture import TEXTURE
from edgekeeper.training.process import RunOptions
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.state import begin

FORMS = get_args(SPSRForm)
# The weights of equation 10, less the perceptual one, which is the form's.
WEIGHTS_OF_EQ_10 = {
    "pixel": 0.01,
    "gan": 0.005,
    "gradient": 0.01,
    "gradient gan": 0.005,
    "branch": 0.5,
}

every_recipe = pytest.mark.parametrize("recipe", SPSR_TABLE2.values(), ids=list(SPSR_TABLE2))
every_form = pytest.mark.parametrize("form", FORMS)


def weights(recipe: Recipe) -> dict[str, float]:
    """The weights of the last stage by name."""
    stage = recipe.stages[-1]
    return {part.name: part.weight for part in (*stage.terms, *stage.discriminators)}


def test_every_variant_of_every_form_has_a_name() -> None:
    assert len(SPSR_TABLE2) == len(SPSR_VARIANTS) * len(FORMS) == 12
    assert all(
        name == recipe.name and RECIPES[name] == recipe for name, recipe in SPSR_TABLE2.items()
    )
    assert {"esrgan", "spsr", "spsr_no_branch", "spsr_no_loss_light"} <= set(SPSR_TABLE2)


@every_recipe
def test_it_runs_two_updates_of_each_stage(
    recipe: Recipe, reduced: Callable[..., Recipe], run: Callable[..., Any]
) -> None:
    outcome, lines = run(reduced(recipe))
    assert (outcome.status, outcome.step) == ("finished", 2 * len(recipe.stages))
    assert [line["stage"] for line in lines] == [s.name for s in recipe.stages for _ in range(2)]
    assert set(weights(recipe)) <= lines[-1].keys()


@every_recipe
def test_it_survives_json(recipe: Recipe, survives_json: Callable[[Recipe], bool]) -> None:
    assert survives_json(recipe)


@every_form
def test_the_weights_are_those_of_equation_10(form: SPSRForm) -> None:
    found = weights(spsr(form=form))
    perceptual = found.pop("perceptual")  # other forms take another VGG19, with larger maps
    assert perceptual == 1.0 if form == "paper" else perceptual > 0.0
    assert found == WEIGHTS_OF_EQ_10


@every_form
def test_each_variant_leaves_out_what_table_2_says(form: SPSRForm) -> None:
    branch, added = {"branch"}, {"gradient", "gradient gan"}
    left_out = {"esrgan": branch | added, "no_branch": branch, "no_loss": added, "spsr": set()}
    whole = weights(spsr(form=form))
    for variant in SPSR_VARIANTS:
        expected = {n: w for n, w in whole.items() if n not in left_out[variant]}
        assert weights(spsr(variant=variant, form=form)) == expected


@every_form
def test_variants_differ_in_nothing_else(form: SPSRForm) -> None:
    recipes = [spsr(variant=variant, form=form, seed=3) for variant in SPSR_VARIANTS]
    # The same number of updates at the same rates, on the same patches, from the same seed.
    for field in ("data", "seed", "ema_decay", "validation", "retries", "steps"):
        assert all(getattr(r, field) == getattr(recipes[0], field) for r in recipes), field
    adversarial = [recipe.stages[-1] for recipe in recipes]
    assert len({stage.optim for stage in adversarial}) == 1
    discriminators = {
        (a.network, a.optim, a.loss) for stage in adversarial for a in stage.discriminators
    }
    assert len(discriminators) == 1
    with_branch = {
        r.model for r, v in zip(recipes, SPSR_VARIANTS, strict=True) if v in ("no_loss", "spsr")
    }
    assert len(with_branch) == 1 and with_branch.isdisjoint({recipes[0].model, recipes[1].model})


@every_recipe
def test_the_warm_up_trains_the_fusion_alone(
    recipe: Recipe, reduced: Callable[..., Recipe], built: Callable[..., torch.nn.Module]
) -> None:
    has_branch = "no_branch" not in recipe.name and "esrgan" not in recipe.name
    trains = {stage.name: stage.trains for stage in recipe.stages}
    warmup = {"warm-up": ("fusion.",)} if has_branch else {}
    assert trains == {"pixel": (), **warmup, "adversarial": ()}
    names = [name for name, _ in built(reduced(recipe).model).named_parameters()]
    assert any(name.startswith("fusion.") for name in names) == has_branch


def test_the_paper_s_networks_losses_and_rates(built: Callable[..., torch.nn.Module]) -> None:
    whole, plain = spsr(form="paper"), spsr(variant="esrgan", form="paper")
    assert parameter_count(built(whole.model)) == 24_796_230
    assert parameter_count(built(plain.model)) == 16_697_987
    stage = whole.stages[-1]
    assert [term.loss.target for term in stage.terms[:3:2]] == [Perceptual, Gradient]
    for discriminator, sees in zip(stage.discriminators, ("image", "gradient"), strict=True):
        assert discriminator.input == sees and discriminator.loss.target is RelativisticGAN
        assert parameter_count(built(discriminator.network)) == 14_502_281
    assert (whole.data.patch, whole.data.batch, stage.steps) == (128, 15, 500_000)
    rates = [stage.optim.learning_rate_at(k, steps=500_000) for k in (0, 49_999, 50_000, 300_000)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 6.25e-6])


@pytest.mark.parametrize("name", list(TEXTURE))
def test_the_texture_recipes_go_on_from_esrgan_s_light_training(
    name: str,
    reduced: Callable[..., Recipe],
    run: Callable[..., Any],
    survives_json: Callable[[Recipe], bool],
) -> None:
    recipe, esrgan = TEXTURE[name], spsr(variant="esrgan", form="light")
    assert recipe.name == name and RECIPES[name] == recipe and survives_json(recipe)
    assert (recipe.model, recipe.start) == (esrgan.model, esrgan.start)
    *before, last = recipe.stages
    assert tuple(before) == esrgan.stages
    added = weights(recipe).keys() - weights(esrgan).keys()
    assert added == ({"gradient"} if name.endswith("_gradient") else set())
    assert len({each.stages[-1].optim for each in TEXTURE.values()}) == 1
    outcome, lines = run(reduced(recipe))
    assert (outcome.status, lines[-1]["stage"]) == ("finished", last.name)


@pytest.mark.parametrize("variant", SPSR_VARIANTS)
def test_the_light_form_begins_from_the_shipped_network(
    variant: Any, noise: Any, tmp_path: Path
) -> None:
    recipe = spsr(variant=variant, form="light")
    assert recipe.start is not None
    file = WEIGHTS / f"{recipe.start.recipe}.safetensors"
    options = RunOptions(out=tmp_path, start_from=file)
    seeds = (recipe, spsr(variant=variant, form="light", seed=1))
    ours, theirs = (begin(each, noise, options=options).model.state_dict() for each in seeds)
    into = recipe.start.into
    shared = [name for name in ours if name.startswith(into)]
    assert shared and all(torch.equal(ours[name], theirs[name]) for name in shared)
