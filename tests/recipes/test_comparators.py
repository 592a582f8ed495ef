"""Tests of the recipes of the networks that the papers are compared with."""

import dataclasses
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgekeeper.errors import InputError
from edgekeeper.losses import L1, L2, Perceptual, Unnatural
from edgekeeper.models import parameter_count
from edgekeeper.recipes import RECIPES, comparators
from edgekeeper.recipes.comparators import COMPARATORS, HARDER, NETWORKS, comparator
from edgekeeper.training.recipe import Recipe

PUBLISHED = {name: COMPARATORS[name] for name in NETWORKS}
TINY = {name: COMPARATORS[f"{name}_tiny"] for name in NETWORKS}

every_network = pytest.mark.parametrize("network", list(NETWORKS))


def test_every_network_has_both_forms() -> None:
    assert set(COMPARATORS) == {*NETWORKS, *(f"{name}_tiny" for name in NETWORKS)}
    assert all(name == r.name and RECIPES[name] == r for name, r in COMPARATORS.items())


@every_network
def test_the_tiny_form_runs_two_updates_of_each_stage(
    network: str, reduced: Callable[..., Recipe], run: Callable[..., Any]
) -> None:
    recipe = TINY[network]
    outcome, lines = run(reduced(recipe))
    assert (outcome.status, outcome.step) == ("finished", 2 * len(recipe.stages))
    assert [line["stage"] for line in lines] == [s.name for s in recipe.stages for _ in range(2)]
    assert {*recipe.stages[-1].weights_at(0), "total"} <= lines[-1].keys()


def test_it_survives_json(survives_json: Callable[[Recipe], bool]) -> None:
    assert [name for name, recipe in COMPARATORS.items() if not survives_json(recipe)] == []


def test_the_tiny_form_differs_in_size_alone(built: Callable[..., torch.nn.Module]) -> None:
    for network, paper in PUBLISHED.items():
        tiny = TINY[network]
        assert tiny.model.target is paper.model.target, network
        small, large = (parameter_count(built(recipe.model)) for recipe in (tiny, paper))
        assert small < min(26_000, large), network
        for ours, theirs in zip(tiny.stages, paper.stages, strict=True):
            assert (ours.name, ours.optim) == (theirs.name, theirs.optim)
            assert [*ours.weights_at(0)] == [*theirs.weights_at(0)]  # the same losses
            assert [t.loss.target for t in ours.terms] == [t.loss.target for t in theirs.terms]
            assert [(a.loss, a.optim, a.weight, a.negatives) for a in ours.discriminators] == [
                (a.loss, a.optim, a.weight, a.negatives) for a in theirs.discriminators
            ], network


# Nothing published says how many updates these take.
CHOSEN_UPDATES = {"srcnn", "fsrcnn", "rcan", "rdn", "imdn"}

# network, parameters, HR patch, batch, updates of the last stage, its rate at some of them, and the
# loss of the only stage
SETTINGS: list[tuple[str, int, int, int, int, dict[int, float], Any]] = [
    ("srcnn", 57_281, 128, 16, 1_000_000, {0: 1e-4}, L2),
    ("fsrcnn", 12_809, 40, 16, 1_000_000, {0: 1e-3}, L2),
    ("edsr_large", 43_089_923, 192, 16, 300_000, {0: 1e-4, 200_000: 5e-5}, L1),
    ("rcan", 15_592_355, 192, 16, 1_000_000, {0: 1e-4, 200_000: 5e-5, 400_000: 2.5e-5}, L1),
    ("rdn", 22_271_107, 128, 16, 1_000_000, {0: 1e-4, 200_000: 5e-5, 400_000: 2.5e-5}, L1),
    ("dbpn", 10_426_358, 128, 20, 1_000_000, {0: 1e-4, 499_999: 1e-4, 500_000: 1e-5}, L2),
    ("imdn", 715_176, 192, 16, 1_000_000, {0: 2e-4, 200_000: 1e-4, 800_000: 1.25e-5}, L1),
    ("rrdb_psnr", 16_697_987, 128, 16, 1_000_000, {0: 2e-4, 200_000: 1e-4, 999_999: 1.25e-5}, L1),
    ("srresnet", 1_547_350, 96, 16, 1_000_000, {0: 1e-4, 999_999: 1e-4}, L2),
    ("srgan", 1_547_350, 96, 16, 200_000, {0: 1e-4, 99_999: 1e-4, 100_000: 1e-5}, None),
    ("srgan_5", 733_515, 96, 16, 200_000, {0: 1e-4, 99_999: 1e-4, 100_000: 1e-5}, None),
    ("sftgan", 1_833_763, 96, 16, 600_000, {0: 1e-4, 50_000: 5e-5, 200_000: 6.25e-6}, None),
    ("natsr", 4_959_235, 192, 32, 300_000, {0: 1e-4, 100_000: 1e-5, 200_000: 1e-6}, None),
]


def test_the_settings_are_those_of_the_table(built: Callable[..., torch.nn.Module]) -> None:
    for network, parameters, patch, batch, steps, rates, loss in SETTINGS:
        recipe = PUBLISHED[network]
        stage = recipe.stages[-1]
        model = built(recipe.model)
        assert (parameter_count(model), model.scale) == (parameters, 4), network
        assert (recipe.data.patch, recipe.data.batch, stage.steps) == (patch, batch, steps), network
        found = {k: stage.optim.learning_rate_at(k, steps=steps) for k in rates}
        assert found == pytest.approx(rates), network
        assert (stage.optim.kind, stage.optim.betas) == ("adam", (0.9, 0.999)), network
        only = recipe.stages[0].terms[0].loss.target if len(recipe.stages) == 1 else None
        assert only is loss, network
    assert PUBLISHED["dbpn"].stages[0].optim.weight_decay == 1e-4


def test_all_networks_are_in_the_table_of_settings() -> None:
    assert [row[0] for row in SETTINGS] == list(NETWORKS)


def test_what_is_chosen_and_not_published_is_said() -> None:
    text = comparators.__doc__ or ""
    rows = {
        line.split()[0]: re.findall(r"([\d,]{7,})( \(\d\))?  ", line)[-1:]
        for line in text.partition("srgan_5")[0].splitlines()[2:]
        if line.strip()
    }
    noted = {name for name, found in rows.items() if found and found[0][1] in (" (1)", " (6)")}
    assert noted == CHOSEN_UPDATES
    for name in CHOSEN_UPDATES:
        assert rows[name][0][0] == f"{PUBLISHED[name].stages[-1].steps:,}"
    assert "updates are chosen here" in text.partition("(1) The")[2].partition("(2)")[0]
    assert text.partition("\n(6)")[2].startswith(" Chosen here: how many updates")
    assert "not compared with their papers" in " ".join(text.split())


@pytest.mark.parametrize(
    ("network", "weights", "feature", "discriminator"),
    [
        ("srgan", {"perceptual": 0.006, "gan": 1e-3}, ("after_relu", "mse"), 23_563_649),
        ("srgan_5", {"perceptual": 0.006, "gan": 1e-3}, ("after_relu", "mse"), 23_563_649),
        ("sftgan", {"perceptual": 1.0, "gan": 5e-3}, ("before_relu", "l1"), 14_143_881),
    ],
)
def test_the_objectives_of_srgan_and_sftgan(
    network: str,
    weights: dict[str, float],
    feature: tuple[str, str],
    discriminator: int,
    built: Callable[..., torch.nn.Module],
) -> None:
    first, stage = PUBLISHED[network].stages
    assert {p.name: p.weight for p in (*stage.terms, *stage.discriminators)} == weights
    arguments = dict(stage.terms[0].loss.arguments)
    assert stage.terms[0].loss.target is Perceptual
    assert (arguments["activation"], arguments["norm"]) == feature
    (gan,) = stage.discriminators
    assert gan.loss.name == "VanillaGAN" and gan.negatives is None
    assert parameter_count(built(gan.network)) == discriminator
    assert first == PUBLISHED["srresnet"].stages[0]


def test_srgan_goes_on_from_the_run_of_srresnet(
    reduced: Callable[..., Recipe], run: Callable[..., Any], tmp_path: Path
) -> None:
    run(reduced(TINY["srresnet"]), out="srresnet")
    checkpoint = tmp_path / "srresnet" / "stage-1.safetensors"
    _, lines = run(reduced(TINY["srgan"]), out="srgan", resume_from=checkpoint)
    assert [(line["step"], line["stage"]) for line in lines] == [
        (3, "adversarial"),
        (4, "adversarial"),
    ]


class TestNatSR:
    def test_the_objective(self) -> None:
        stage = PUBLISHED["natsr"].stages[-1]
        weights = {p.name: p.weight for p in (*stage.terms, *stage.discriminators)}
        assert weights == {"pixel": 1.0, "naturalness": 1e-3, "gan": 1e-3}
        natural, gan = stage.discriminators
        assert natural.loss.name == "NaturalManifold" and natural.input == "image"
        assert (gan.loss.name, gan.negatives) == ("RelativisticGAN", None)

    def test_unnatural_images_get_harder_step_by_step(self) -> None:
        step = Unnatural(scale=4)
        *learning, last = PUBLISHED["natsr"].stages
        assert len(learning) == len(HARDER)
        for stage in learning:
            (natural,) = stage.discriminators
            assert natural.weight == 0.0 and natural.negatives is not None
            made = natural.negatives.build()
            assert isinstance(made, Unnatural) and made.scale == 4
            assert (made.share, made.deviation) == pytest.approx((step.share, step.deviation))
            step = step.harder()
        assert step.share == pytest.approx(HARDER[-1][0])  # harder no more
        assert last.discriminators[0].negatives == learning[-1].discriminators[0].negatives

    def test_naturalness_is_learned_first_and_then_held_still(
        self, reduced: Callable[..., Recipe], run: Callable[..., Any], tmp_path: Path
    ) -> None:
        run(reduced(TINY["natsr"]))
        ends = [load_file(tmp_path / "out" / f"stage-{k}.safetensors") for k in (1, 4, 5, 6)]
        names = [name for name in ends[0] if name.startswith("discriminator naturalness.")]
        assert names
        moved = [
            {name for name in names if not torch.equal(before[name], after[name])}
            for before, after in pairwise(ends)
        ]
        assert moved[0] and moved[1]
        assert moved[2] == set()
        gan = [name for name in ends[-1] if name.startswith("discriminator gan.")]
        assert gan and not any(name in ends[0] for name in gan)


@pytest.mark.data
@pytest.mark.parametrize("network", ["srgan", "sftgan"])
def test_the_tiny_form_runs_with_the_features_of_vgg19(
    network: str, reduced: Callable[..., Recipe], run: Callable[..., Any], data_root: Path
) -> None:
    small = reduced(TINY[network])
    stages = tuple(
        dataclasses.replace(stage, terms=original.terms)
        for stage, original in zip(small.stages, TINY[network].stages, strict=True)
    )
    outcome, lines = run(dataclasses.replace(small, stages=stages))
    assert outcome.status == "finished"
    assert 0 < lines[-1]["perceptual"] < 1e4


def test_an_unknown_network_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'srgan'"):
        comparator("srgen")
