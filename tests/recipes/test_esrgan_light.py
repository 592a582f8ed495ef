"""Tests of the recipes of what came after SPSR."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgekeeper.models import VGGDiscriminator, WaveletDiscriminator
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.wavelet import wavelet_bands
from edgekeeper.recipes.esrgan_light import BEYOND
from edgekeeper.recipes.spsr import spsr
from edgekeeper.training.recipe import Recipe

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
