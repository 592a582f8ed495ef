"""What the tests of the recipes share: a store of noise, and recipes made small enough to run."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekeeper import losses, models
from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store
from edgekeeper.losses import L1, Perceptual
from edgekeeper.losses.adversarial import VanillaGAN
from edgekeeper.spec import Spec, from_json, spec, to_plain
from edgekeeper.training.loop import Outcome, RunOptions, train
from edgekeeper.training.recipe import Data, Recipe, Stage, Term

PATCH = 32
# The arguments that make a network small, by its class.
SMALL: dict[str, dict[str, Any]] = {
    "RRDB": {"width": 4, "blocks": 1, "growth": 2},
    "SPSR": {"width": 4, "blocks": 1, "growth": 2, "taps": (1,)},
    "EDSR": {"width": 4, "blocks": 2},
    "GradientBranch": {"width": 4, "taps": ("blocks.0",)},
    "DGGGAN": {"width": 4, "blocks": 3},
    "ChainSR": {"width": 4, "blocks": 2, "depth": 1},
    "DGGGANLight": {"width": 4, "blocks": 3, "gradient_width": 2},
    "VGGDiscriminator": {"size": PATCH, "width": 2},
    "WaveletDiscriminator": {"size": PATCH, "width": 2},
    "StructureExtractor": {"width": 2},
    "auto_encoder": {"width": 2},
    "UNetDiscriminator": {"width": 2},
    "SRGANDiscriminator": {"size": PATCH, "width": 2},
    "NaturalManifoldDiscriminator": {"width": 2},
}
KNOWN = {
    name: getattr(where, name)
    for where in (losses, models)
    for name in where.__all__
    if name[0].isupper()
}
KNOWN["VanillaGAN"] = VanillaGAN


def small_spec(description: Spec[Any]) -> Spec[Any]:
    """The description of a smaller network of the same class."""
    arguments = dict(description.arguments) | SMALL.get(description.name, {})
    if "backbone" in arguments:
        arguments["backbone"] = small_spec(arguments["backbone"])
    return Spec(description.target, tuple(sorted(arguments.items())))


def small_stage(stage: Stage) -> Stage:
    """The stage with two updates, small discriminators, and L1 in the place of VGG19's features."""

    def term(original: Term) -> Term:
        perceptual = original.loss.target is Perceptual
        return dataclasses.replace(original, loss=spec(L1)) if perceptual else original

    return dataclasses.replace(
        stage,
        steps=2,
        terms=tuple(map(term, stage.terms)),
        discriminators=tuple(
            dataclasses.replace(a, network=small_spec(a.network)) for a in stage.discriminators
        ),
    )


@pytest.fixture(scope="session")
def reduced() -> Callable[[Recipe], Recipe]:
    """Makes a recipe small: two updates a stage on two patches, from scratch, not validated."""
    return lambda recipe: dataclasses.replace(
        recipe,
        model=small_spec(recipe.model),
        data=Data(patch=PATCH, batch=2),
        stages=tuple(map(small_stage, recipe.stages)),
        start=None,
        validation=None,
    )


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of two images of noise, for x2, x3 and x4."""
    folder = tmp_path_factory.mktemp("noise")
    numbers = np.random.default_rng(0)
    for k in range(2):
        image = numbers.integers(0, 256, (60, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{k}.png")
    return prepare_store(sources_in(folder), folder / "store", scales=(2, 3, 4))


@pytest.fixture
def run(noise: Store, tmp_path: Path) -> Callable[..., tuple[Outcome, list[dict[str, Any]]]]:
    """Trains a recipe on the noise; gives the outcome and the lines of the log with losses."""

    def run(recipe: Recipe, *, out: str = "out", **options: Any) -> Any:
        folder = tmp_path / out
        outcome = train(
            recipe,
            noise,
            options=RunOptions(
                out=folder, workers=0, log_every=1, gradient_check_every=0, **options
            ),
        )
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return outcome, [line for line in lines if "gradient_check" not in line]

    return run


@pytest.fixture(scope="session")
def survives_json() -> Callable[[Recipe], bool]:
    """Tells whether a recipe and every class that it names come back from JSON as they were."""

    def survives(recipe: Recipe) -> bool:
        specs: list[Spec[Any]] = [recipe.model]
        for stage in recipe.stages:
            specs += [term.loss for term in stage.terms]
            for discriminator in stage.discriminators:
                specs += [discriminator.network, discriminator.loss]
                specs += [discriminator.negatives] if discriminator.negatives else []
        plain = to_plain(recipe)
        return json.loads(json.dumps(plain)) == plain and all(
            from_json(json.loads(json.dumps(found.to_json())), known=KNOWN) == found
            for found in specs
        )

    return survives


@pytest.fixture(scope="session")
def built() -> Callable[[Spec[Any]], torch.nn.Module]:
    """Builds a network without memory for its weights, so that large ones take no time."""

    def build(description: Spec[Any]) -> torch.nn.Module:
        with torch.device("meta"):
            network = description.build()
        assert isinstance(network, torch.nn.Module)
        return network

    return build
