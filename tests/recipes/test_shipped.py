import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekeeper import losses
from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store
from edgekeeper.inference.network import infer
from edgekeeper.models import MODELS, parameter_count
from edgekeeper.pretrained.checkpoint import load_model
from edgekeeper.recipes.shipped import GV_PATCH, GV_WEIGHT, SHIPPED, TRUNKS
from edgekeeper.spec import from_json, to_plain
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.recipe import Data, Recipe

MODEL_CLASSES = {model.__name__: model for model in MODELS.values()}
LOSS_CLASSES = {name: getattr(losses, name) for name in losses.__all__}
PATCH = 24  # HR pixels: a multiple of every scale, and a patch of 16 fits


def tiny(recipe: Recipe) -> Recipe:
    """The recipe with two updates a stage on two small patches, without validation."""
    return dataclasses.replace(
        recipe,
        data=Data(patch=PATCH, batch=2),
        stages=tuple(dataclasses.replace(stage, steps=2) for stage in recipe.stages),
        validation=None,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    numbers = np.random.default_rng(0)
    for k in range(2):
        image = numbers.integers(0, 256, (36, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{k}.png")
    return prepare_store(sources_in(folder), folder / "store", scales=(2, 3, 4))


@pytest.fixture(scope="module")
def networks(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny networks that other recipes start from, by name of their recipe."""
    needed = {recipe.start.recipe for recipe in SHIPPED.values() if recipe.start is not None}
    found = {}
    for name in sorted(needed):
        out = tmp_path_factory.mktemp(name)
        outcome = train(tiny(TRUNKS[name]), store, options=RunOptions(out=out, workers=0))
        assert outcome.model_path is not None
        found[name] = outcome.model_path
    return found


every_recipe = pytest.mark.parametrize("recipe", SHIPPED.values(), ids=list(SHIPPED))


@every_recipe
def test_it_builds_and_runs_two_steps_of_each_stage(
    recipe: Recipe, store: Store, networks: dict[str, Path], tmp_path: Path
) -> None:
    start = networks[recipe.start.recipe] if recipe.start is not None else None
    options = RunOptions(out=tmp_path, workers=0, start_from=start, log_every=1)
    outcome = train(tiny(recipe), store, options=options)
    assert outcome.status == "finished"
    assert outcome.step == 2 * len(recipe.stages)
    assert outcome.model_path is not None
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line.keys() >= {"stage", "total"}]
    assert [line["stage"] for line in lines] == [s.name for s in recipe.stages for _ in range(2)]
    assert ("gv" in lines[-1]) == recipe.name.endswith("_gv")
    model = load_model(outcome.model_path)
    sr = infer(model, torch.rand(1, 3, 5, 7))
    assert sr.shape == (1, 3, 5 * model.scale, 7 * model.scale)


@every_recipe
def test_its_classes_and_arguments_survive_json(recipe: Recipe) -> None:
    specs = [(recipe.model, MODEL_CLASSES)]
    specs += [(term.loss, LOSS_CLASSES) for stage in recipe.stages for term in stage.terms]  # type: ignore[misc]
    for description, known in specs:
        text = json.dumps(description.to_json())
        assert from_json(json.loads(text), known=known) == description  # type: ignore[arg-type]
    plain = to_plain(recipe)
    assert json.loads(json.dumps(plain)) == plain


@every_recipe
def test_its_name_its_network_and_its_data_agree(recipe: Recipe) -> None:
    model = recipe.model.build()
    family, _, rest = recipe.name.rpartition("_x")
    assert family == {"ESPCN": "espcn", "EDSR": "edsr_light"}[recipe.model.name]
    assert int(rest[0]) == model.scale
    assert recipe.data.patch % model.scale == 0


@every_recipe
def test_what_it_starts_from_exists_and_fits(recipe: Recipe) -> None:
    if recipe.start is None:
        return
    origin = TRUNKS[recipe.start.recipe]
    assert origin.start is None  # one step back, not a chain
    ours, theirs = recipe.model.build().state_dict(), origin.model.build().state_dict()
    fresh = {name for name in ours if name.startswith(recipe.start.fresh)}
    assert ours.keys() == theirs.keys()
    differing = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert differing == fresh  # what fits is taken over, what does not is new


def test_the_names_are_those_of_two_families_three_scales_two_kinds() -> None:
    wanted = {
        f"{family}_x{scale}{kind}"
        for family in ("espcn", "edsr_light")
        for scale in (2, 3, 4)
        for kind in ("", "_gv")
    }
    assert set(SHIPPED) == wanted
    assert all(name == recipe.name for name, recipe in SHIPPED.items())


@pytest.mark.parametrize("name", [name for name in SHIPPED if not name.endswith("_gv")])
def test_with_and_without_gradient_variance_differ_in_that_term_only(name: str) -> None:
    plain, structure = SHIPPED[name], SHIPPED[name + "_gv"]
    assert plain.start == structure.start
    without = []
    for stage in structure.stages:
        *same, added = stage.terms
        without.append(dataclasses.replace(stage, terms=tuple(same)))
        assert added.name == "gv"
    assert dataclasses.replace(structure, name=name, stages=tuple(without)) == plain


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("family", ["espcn", "edsr_light"])
def test_the_gradient_variance_term_is_the_published_one(family: str, scale: int) -> None:
    # Abrahamyan et al., ICASSP 2022: weight 0.01, patches of 8 at x2 and of 16 at x3 and x4.
    term = SHIPPED[f"{family}_x{scale}_gv"].stages[0].terms[-1]
    assert term.loss.name == "GradientVariance"
    assert dict(term.loss.arguments) == {"patch": {2: 8, 3: 16, 4: 16}[scale]}
    assert term.weight == GV_WEIGHT == 0.01
    assert set(GV_PATCH) == {2, 3, 4}


def test_the_networks_are_as_large_as_they_say() -> None:
    # ESPCN on luma: counted by hand from the paper's layers; the light EDSR says "about 0.45 M".
    counts = {name: parameter_count(recipe.model.build()) for name, recipe in SHIPPED.items()}
    assert [counts[f"espcn_x{scale}"] for scale in (2, 3, 4)] == [21_284, 22_729, 24_752]
    for scale in (2, 3, 4):
        assert counts[f"edsr_light_x{scale}"] == pytest.approx(0.45e6, rel=0.03)
