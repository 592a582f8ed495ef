"""Tests of the recipes of SPSR's Table 2."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from edgekeeper.data.store import Store
from edgekeeper.errors import CheckpointError
from edgekeeper.losses import Gradient, Perceptual, RelativisticGAN
from edgekeeper.models import RRDB, SPSR, parameter_count
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.pretrained.zoo import WEIGHTS
from edgekeeper.recipes import RECIPES
from edgekeeper.recipes.esrgan_light import TEXTURE
from edgekeeper.recipes.spsr import SPSR_TABLE2, SPSR_VARIANTS, SPSRForm, spsr
from edgekeeper.spec import spec
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
    pixel = {} if has_branch and recipe.start and "light" not in recipe.name else {"pixel": ()}
    assert trains == {**pixel, **warmup, "adversarial": ()}
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


OLD_NAMES = {  # of ESRGAN's first code
    r"head": "model.0",
    r"blocks\.(\d+)\.dense\.(\d)\.convs\.(\d)": r"model.1.sub.\1.RDB\2.conv\3.0",
    r"after_blocks": "model.1.sub.3",
    r"enlarge\.convs\.0": "model.3",
    r"enlarge\.convs\.1": "model.6",
    r"refine": "model.8",
    r"last": "model.10",
}


def old_name(name: str) -> str:
    layer, kind = name.rsplit(".", 1)
    for ours, theirs in OLD_NAMES.items():
        found = re.fullmatch(ours, layer)
        if found and found.groups():
            block, *numbers = map(int, found.groups())
            dense, conv = (number + 1 for number in numbers)
            return f"model.1.sub.{block}.RDB{dense}.conv{conv}.0.{kind}"
        if found:
            return f"{theirs}.{kind}"
    raise AssertionError(name)


def test_the_paper_s_training_begins_from_any_rrdb_trained_for_fidelity(
    reduced: Callable[[Recipe], Recipe], noise: Store, tmp_path: Path
) -> None:
    """SPSR, section 4.1: the generator begins with the parameters of a PSNR-oriented network."""
    torch.manual_seed(5)
    size = {"scale": 4, "width": 4, "blocks": 3, "growth": 2}
    trained = RRDB(**size)
    files = {name: tmp_path / name for name in ("official.pth", "ours.safetensors")}
    torch.save({old_name(k): v for k, v in trained.state_dict().items()}, files["official.pth"])
    save_model(files["ours.safetensors"], trained, spec=spec(RRDB, **size), card={})
    recipe = dataclasses.replace(
        reduced(spsr(form="paper")),
        start=spsr(form="paper").start,
        model=spec(SPSR, **size, taps=(1, 2)),
    )
    before = begin(
        dataclasses.replace(recipe, start=None), noise, options=RunOptions(out=tmp_path)
    ).model.state_dict()
    for file in files.values():
        state = begin(recipe, noise, options=RunOptions(out=tmp_path, start_from=file))
        model, after = state.model, state.model.state_dict()
        assert isinstance(model, SPSR)
        for name, tensor in trained.state_dict().items():
            if not name.startswith("last."):
                assert torch.equal(after[f"sr.{name}"], tensor), name
        new = [n for n in after if not n.startswith("sr.") or n.startswith("sr.finish.")]
        assert all(torch.equal(after[name], before[name]) for name in new)
        assert state.origin["new"] == ["fusion.", "gradient.", "sr.finish."]
        assert state.origin["not used"] == ["last."]
        lr = torch.rand(1, 3, 4, 5)
        torch.testing.assert_close(model.sr.deep(lr)[-1], trained.features(lr))
    for change in ({"blocks": 2}, {"width": 5}, {"growth": 3}, {"scale": 2}):
        other = RRDB(**size | change)
        file = tmp_path / "other.safetensors"
        save_model(file, other, spec=spec(RRDB, **size | change), card={})
        with pytest.raises(CheckpointError, match=r"does not fit SPSR in 'sr\.'"):
            begin(recipe, noise, options=RunOptions(out=tmp_path, start_from=file))


def test_the_published_code_differs_where_the_docs_say() -> None:
    paper, code = spsr(form="paper"), RECIPES["spsr_code"]
    assert code.data == dataclasses.replace(paper.data, batch=30)
    assert (code.model, code.start, code.steps) == (paper.model, paper.start, 500_000)
    terms = {term.name: term.loss for term in code.stages[-1].terms}
    assert terms["gradient"] == spec(Gradient, norm="mse", padding=2)
    assert [d.input for d in code.stages[-1].discriminators] == ["image", "gradient_ring"]
    assert weights(code) == weights(paper)
    # the scheduler counts the updates of the warm-up too
    optim = code.stages[-1].optim
    rates = [optim.learning_rate_at(k, steps=495_000) for k in (44_999, 45_000, 295_000)]
    assert rates == pytest.approx([1e-4, 5e-5, 6.25e-6])
    assert {d.optim for d in code.stages[-1].discriminators} == {optim}


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
