"""Tests of the recipes of what came after SPSR."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekeeper.models import VGGDiscriminator, WaveletDiscriminator
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.wavelet import wavelet_bands
from edgekeeper.pretrained.checkpoint import load_exactly, read_tensors
from edgekeeper.recipes.comparators import FROZEN
from edgekeeper.recipes.esrgan_light import BEYOND, LEARNED
from edgekeeper.recipes.spsr import spsr
from edgekeeper.spec import to_plain
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.settings import recipe_from_plain

CHANGED = {  # of the terms and discriminators of the last stage: weight and class
    "ldl_light": {"ldl": (1.0, "LDL")},
    "wgsr_light": {"pixel": (1.0, "Wavelet"), "gan": (0.005, "WaveletDiscriminator")},
    "ffl_light": {"frequency": (1.0, "FocalFrequency")},
    "aesop_light": {"pixel": (0.01, "auto_encoded")},
}


def parts(recipe: Recipe) -> dict[str, tuple[float, str]]:
    last = recipe.stages[-1]
    found = {term.name: (term.weight, term.loss.name) for term in last.terms}
    return found | {d.name: (d.weight, d.network.name) for d in last.discriminators}


@pytest.mark.parametrize("name", CHANGED)
def test_each_differs_from_esrgan_s_light_training_as_said_and_runs(
    name: str, reduced: Callable[..., Recipe], run: Callable[..., Any]
) -> None:
    recipe, base = BEYOND[name], spsr(variant="esrgan", form="light")
    assert parts(recipe) == parts(base) | CHANGED[name]
    assert (recipe.stages[:-1], recipe.model, recipe.data) == (
        base.stages[:-1],
        base.model,
        base.data,
    )
    outcome, lines = run(reduced(recipe))
    assert outcome.status == "finished" and set(CHANGED[name]) <= lines[-1].keys()
    assert set(BEYOND) == set(CHANGED)


@pytest.mark.parametrize("name", LEARNED)
def test_what_a_loss_looks_through_learns_first_and_is_frozen_then(
    name: str, reduced: Callable[..., Recipe], run: Callable[..., Any], tmp_path: Path
) -> None:
    recipe, base = LEARNED[name], spsr(variant="esrgan" if "aesop" in name else "spsr")
    helper, task, weight, dropped = {
        "aesop_trained_light": ("auto-encoder", "auto-encoder.discriminator", 0.01, {"pixel"}),
        "spsrp_light": ("structure", "structure.jigsaw", 0.1, set()),
    }[name]
    first, *later = recipe.stages
    (learner,) = first.discriminators
    assert (learner.name, learner.weight) == (helper, 0.0) and first.terms == base.stages[0].terms
    for stage, before in zip(later, base.stages[1:], strict=True):
        (frozen,) = [d for d in stage.discriminators if d not in before.discriminators]
        assert frozen == replace(learner, optim=FROZEN, weight=weight)
        assert {t.name for t in before.terms} - {t.name for t in stage.terms} == dropped
        assert set(stage.terms) <= set(before.terms)
    outcome, lines = run(reduced(recipe), checkpoint_every=2)
    assert outcome.status == "finished" and all({helper, task} <= line.keys() for line in lines)
    files = [tmp_path / "out" / f for f in ("stage-1.safetensors", "last.safetensors")]
    learned, kept = (read_tensors(file).below(f"discriminator {helper}") for file in files)
    assert learned and all(torch.equal(learned[key], kept[key]) for key in learned)
    (small,) = reduced(recipe).stages[0].discriminators
    network = small.network.build()  # as the documentation reads it
    load_exactly(network, kept, origin="a run")
    again = recipe_from_plain(to_plain(recipe))
    assert again == recipe


def test_wgsr_s_discriminator_sees_the_bands_of_detail_alone() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, images = WaveletDiscriminator(size=24, width=2), torch.rand(2, 3, 24, 24)
    bands = wavelet_bands(rgb_to_y(images))
    detail = torch.cat([bands.lh, bands.hl, bands.hh], dim=1)
    assert torch.equal(network(images), VGGDiscriminator.forward(network, detail))
    torch.testing.assert_close(
        network(images * 0.9 + 0.05), network(images * 0.9), atol=1e-4, rtol=0
    )
