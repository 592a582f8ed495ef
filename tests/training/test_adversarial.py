"""Training against discriminators: who learns when, what reaches what, and exact resumption."""

import copy
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store
from edgekeeper.errors import InputError, TrainingError
from edgekeeper.losses import (
    L1,
    Gradient,
    NaturalManifold,
    RelativisticGAN,
    Unnatural,
    WassersteinGP,
)
from edgekeeper.losses.adversarial import VanillaGAN
from edgekeeper.models import EDSR, ESPCN, GradientBranch, NaturalManifoldDiscriminator
from edgekeeper.models.discriminators import VGGDiscriminator
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.pretrained.checkpoint import read_tensors, write_tensors
from edgekeeper.spec import Spec, spec
from edgekeeper.training.batches import step_generator
from edgekeeper.training.checks import GradientCheck
from edgekeeper.training.loop import Outcome, RunOptions, discriminator_loss, train, update
from edgekeeper.training.recipe import Data, Discriminator, Optim, Recipe, Stage, Start, Term
from edgekeeper.training.state import State, begin, build_losses, enter_stage, frozen

BACKBONE = spec(EDSR, scale=2, width=4, blocks=2)
GUIDED = spec(GradientBranch, backbone=BACKBONE, width=4, taps=("blocks.0",))
ADAM = Optim(learning_rate=1e-3)
PIXEL = Term("pixel", spec(L1), weight=0.1)
GRADIENT = Term("gradient", spec(Gradient), weight=0.1)
BRANCH = Term("branch", spec(L1), weight=0.5, on="branch")


def described(name: str, **changes: Any) -> Discriminator:
    base = Discriminator(
        name=name,
        network=spec(VGGDiscriminator, size=24, width=2),
        loss=spec(RelativisticGAN),
        optim=ADAM,
        weight=0.05,
        input="gradient" if "gradient" in name else "image",
    )
    return dataclasses.replace(base, **changes)


TWO = (described("gan"), described("gradient gan"))
PENALISED = tuple(
    described(
        name,
        network=spec(VGGDiscriminator, size=24, width=2, norm="none"),
        loss=spec(WassersteinGP),
        optim=dataclasses.replace(ADAM, learning_rate=1e-4),
    )
    for name in ("gan", "gradient gan")
)
NATURAL = described(
    "natural",
    network=spec(NaturalManifoldDiscriminator, width=2),
    loss=spec(NaturalManifold),
    negatives=spec(Unnatural, scale=2),
)
STAGES = (
    Stage("pixel", 1, ADAM, (PIXEL, BRANCH)),
    Stage("warm-up", 2, ADAM, (PIXEL, GRADIENT), discriminators=TWO, trains=("fusion.",)),
    Stage("adversarial", 2, ADAM, (PIXEL, GRADIENT, BRANCH), discriminators=TWO),
)
STEPS = 5
EARLIER_WORDS = {
    "ema_decay": "average",
    "learning_rate": "rate",
    "final_learning_rate": "final_rate",
    "network": "critic",
    "discriminators": "adversaries",
    "discriminator_updates": "critic_updates",
    "image": "picture",
    "input": "sees",
}


def guided(**changes: Any) -> Recipe:
    recipe = Recipe(
        name="guided",
        model=GUIDED,
        data=Data(patch=24, batch=2),
        stages=STAGES,
        ema_decay=0.9,
        seed=3,
    )
    return dataclasses.replace(recipe, **changes)


def plain(*discriminators: Discriminator, steps: int = 2, **changes: Any) -> Recipe:
    stage = Stage("only", steps, ADAM, (PIXEL,), discriminators=discriminators)
    return guided(model=BACKBONE, stages=(dataclasses.replace(stage, **changes),))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    (folder / "images").mkdir()
    numbers = np.random.default_rng(0)
    for k in range(2):
        y, x = np.mgrid[0:40, 0:48, 0:1][:2]
        waves = 128 + 80 * np.sin(x / (3 + k) + y / 5 + np.arange(3))
        noisy = (waves + numbers.normal(0, 15, waves.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / f"{k}.png")
    sources = sources_in(folder / "images", licence="CC0-1.0")
    return prepare_store(sources, folder / "store", scales=(2,))


def run(recipe: Recipe, store: Store, out: Path, **changes: Any) -> Outcome:
    base = RunOptions(
        out=out, workers=0, log_every=1, checkpoint_every=1000, gradient_check_every=0
    )
    return train(recipe, store, options=dataclasses.replace(base, **changes))


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def state_at(recipe: Recipe, store: Store) -> Any:
    """The state just before the first update."""
    state = begin(recipe, store, options=RunOptions(out=Path("nowhere")))
    enter_stage(state, recipe.stages[0], recipe=recipe)
    return state


def updated(state: State, recipe: Recipe, batch: Any, **more: Any) -> dict[str, float]:
    """What is logged of one update of ``state``."""
    criteria = build_losses(recipe, device="cpu")
    losses = update(state, batch, recipe=recipe, criteria=criteria, **more)
    return {name: float(loss) for name, loss in losses.items()}


def some_batch(store: Store, *, size: int = 2) -> Any:
    return store.batch(seed=0, step=0, size=size, patch=24, scale=2)


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    now = module.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, now[name])}


@pytest.fixture(scope="module")
def ends(store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """The states at the ends of the three stages."""
    out = tmp_path_factory.mktemp("run")
    assert run(guided(), store, out).status == "finished"
    return [load_file(out / f"stage-{number}.safetensors") for number in (1, 2, 3)]


class TestStages:
    @staticmethod
    def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
        names = [name for name in before if name.startswith("model.")]
        return {name.split(".")[1] for name in names if not torch.equal(before[name], after[name])}

    def test_the_warm_up_changes_the_fusion_and_nothing_else(self, ends: Any) -> None:
        assert self.moved(ends[0], ends[1]) == {"fusion"}

    def test_the_last_stage_changes_every_part(self, ends: Any) -> None:
        assert self.moved(ends[1], ends[2]) == {
            "backbone",
            "head",
            "steps",
            "fusion",
            "gradient_tail",
        }

    def test_discriminators_come_with_their_stage_and_go_on_learning(self, ends: Any) -> None:
        names = [{name for name in end if name.startswith("discriminator gan.")} for end in ends]
        assert not names[0]
        assert names[1] == names[2] != set()
        weight = "discriminator gan.layers.0.weight"
        assert not torch.equal(ends[1][weight], ends[2][weight])

    def test_discriminators_begin_a_stage_where_the_one_before_left_them(
        self, store: Store, tmp_path: Path
    ) -> None:
        still = tuple(
            described(a.name, optim=dataclasses.replace(ADAM, learning_rate=1e-12)) for a in TWO
        )
        last = dataclasses.replace(STAGES[2], discriminators=still)
        run(guided(stages=(*STAGES[:2], last)), store, tmp_path)
        left, end = (load_file(tmp_path / f"stage-{number}.safetensors") for number in (2, 3))
        fresh = state_at(guided(stages=STAGES[1:]), store).discriminators
        for name in ("gan", "gradient gan"):
            for part, made in fresh[name].network.named_parameters():
                key = f"discriminator {name}.{part}"
                # The stage before taught all but a constant added to every answer.
                assert part == "last.bias" or (left[key] - made).abs().max() > 1e-4, key
                torch.testing.assert_close(end[key], left[key], atol=1e-9, rtol=0.0, msg=key)

    def test_a_part_that_does_not_exist_is_named(self, store: Store, tmp_path: Path) -> None:
        stage = Stage("warm-up", 1, ADAM, (PIXEL,), trains=("fussion.",))
        with pytest.raises(InputError, match=r"trains 'fussion\.', but GradientBranch has no such"):
            run(guided(stages=(stage,)), store, tmp_path)

    def test_frozen_normalisations_keep_their_averages(self, store: Store) -> None:
        class Normalised(EDSR):
            def __init__(self) -> None:
                super().__init__(scale=2, width=4, blocks=1)
                self.norm = nn.BatchNorm2d(4)

            def features(self, lr: Tensor) -> Tensor:
                return self.norm(super().features(lr))

        stage = Stage("only", 1, ADAM, (PIXEL,), trains=("upsampler.",))
        recipe = guided(model=Spec(Normalised, ()), stages=(stage,), ema_decay=0.0)
        state = state_at(recipe, store)
        before = copied(state.model)
        updated(state, recipe, some_batch(store))
        assert changed(before, state.model) == {
            name for name in before if name.startswith("upsampler.")
        }
        state = state_at(
            guided(model=Spec(Normalised, ()), stages=(dataclasses.replace(stage, trains=()),)),
            store,
        )
        updated(state, recipe, some_batch(store))
        assert "norm.running_mean" in changed(before, state.model)
        assert torch.equal(state.ema.norm.running_mean, state.model.norm.running_mean)


class TestExactResume:
    @pytest.mark.parametrize(
        "discriminators", [TWO, PENALISED, (NATURAL,)], ids=["relativistic", "penalised", "natural"]
    )
    def test_interrupted_after_every_update_it_ends_in_the_same_bits(
        self, store: Store, tmp_path: Path, discriminators: tuple[Discriminator, ...]
    ) -> None:
        stages = tuple(
            dataclasses.replace(stage, discriminators=discriminators, discriminator_updates=2)
            if stage.discriminators
            else stage
            for stage in STAGES
        )
        recipe = guided(stages=stages)
        run(recipe, store, tmp_path / "straight")
        found = []
        while not found or found[-1].status != "finished":
            found.append(run(recipe, store, tmp_path / "slow", time_limit=1e-6))
        assert [outcome.step for outcome in found] == list(range(1, STEPS + 1))
        for name in ("last", "model", "stage-2"):
            ours, theirs = (
                load_file(tmp_path / folder / f"{name}.safetensors")
                for folder in ("straight", "slow")
            )
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)

    def test_gradients_of_what_is_frozen_do_not_count_in_a_clipped_norm(
        self, store: Store, tmp_path: Path
    ) -> None:
        clipped = dataclasses.replace(ADAM, clip="norm", clip_limit=1e-3)
        stages = tuple(dataclasses.replace(stage, optim=clipped) for stage in STAGES)
        recipe = guided(stages=stages)
        run(recipe, store, tmp_path / "straight")
        while run(recipe, store, tmp_path / "slow", time_limit=1e-6).status != "finished":
            pass
        ours, theirs = (load_file(tmp_path / f / "last.safetensors") for f in ("straight", "slow"))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)

    def test_a_checkpoint_in_the_words_of_earlier_versions_goes_on(
        self, store: Store, tmp_path: Path
    ) -> None:
        recipe = guided(stages=STAGES[1:])
        run(recipe, store, tmp_path / "straight")
        file = read_tensors(tmp_path / "straight" / "stage-1.safetensors")
        # The recipe, where it came from and the store stood beside the step, not on a card.
        state = {k: v for k, v in file.facts.items() if k not in ("model", "card")}
        facts = json.dumps(file.facts["card"] | state)
        for now, before in EARLIER_WORDS.items():
            facts = facts.replace(f'"{now}"', f'"{before}"')
        tensors = {
            re.sub("^ema", "average", k)
            .replace("optimizer", "optimiser")
            .replace("discriminator", "critic"): v
            for k, v in file.tensors.items()
        }
        assert any(k.startswith("optimiser of critic gan.") for k in tensors)
        old = tmp_path / "old.safetensors"
        write_tensors(old, tensors, facts=json.loads(facts))
        run(recipe, store, tmp_path / "on", resume_from=old)
        found, expected = (load_file(tmp_path / f / "last.safetensors") for f in ("on", "straight"))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)

    def test_the_end_of_a_stage_is_not_lost(self, store: Store, tmp_path: Path) -> None:
        """A run that fails in its second stage goes back to the end of its first."""
        Poisoned.calls, Poisoned.bad = 0, (2,)
        first, second = STAGES[0], Stage("bad", 2, ADAM, (Term("bad", spec(Poisoned)), BRANCH))
        run(guided(stages=(first, second), retries=1), store, tmp_path)
        (back,) = [line for line in log_of(tmp_path) if "rollback" in line]
        assert back["step"] == first.steps

    def test_looking_at_the_gradients_changes_nothing(self, store: Store, tmp_path: Path) -> None:
        run(guided(), store, tmp_path / "without")
        run(guided(), store, tmp_path / "with", gradient_check_every=1)
        ours, theirs = (load_file(tmp_path / f / "last.safetensors") for f in ("without", "with"))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


class TestUpdate:
    def test_generator_and_discriminators_each_follow_their_own_loss(self, store: Store) -> None:
        recipe = plain(*TWO)
        state = state_at(recipe, store)
        twin = state_at(recipe, store)
        batch = some_batch(store)
        measured = updated(state, recipe, batch)
        lr, hr = batch.lr.float() / 255, batch.hr.float() / 255
        sr = twin.model(lr)
        discriminators = {name: d.network for name, d in twin.discriminators.items()}
        gan = RelativisticGAN()
        seen = {"gan": (hr, sr), "gradient gan": (gradient_map(hr), gradient_map(sr))}
        total = 0.1 * (sr - hr).abs().mean()
        for name, (real, fake) in seen.items():
            total = total + 0.05 * gan.generator(
                discriminators[name](real), discriminators[name](fake)
            )
        twin.optimizer.zero_grad()
        total.backward()
        for (name, ours), theirs in zip(
            state.model.named_parameters(), twin.model.parameters(), strict=True
        ):
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=name)
        assert measured["total"] == pytest.approx(total.item(), rel=1e-5)
        for name, (real, fake) in seen.items():
            discriminator = discriminators[name]
            discriminator.zero_grad()
            loss = gan.discriminator(discriminator(real), discriminator(fake.detach()))
            loss.backward()
            assert measured[f"{name}.discriminator"] == pytest.approx(loss.item(), rel=1e-5)
            for ours, theirs in zip(
                state.discriminators[name].network.parameters(),
                discriminator.parameters(),
                strict=True,
            ):
                torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-3)

    def test_the_penalty_moves_the_discriminator(self, store: Store) -> None:
        found = []
        for weight in (10.0, 1e-9):
            loss = spec(WassersteinGP, penalty_weight=weight)
            recipe = plain(dataclasses.replace(PENALISED[0], loss=loss))
            state = state_at(recipe, store)
            updated(state, recipe, some_batch(store))
            gradient = state.discriminators["gan"].network.layers[0].weight.grad  # type: ignore[union-attr]
            assert gradient is not None
            found.append(gradient)
        assert not torch.allclose(found[0], found[1], rtol=1e-3)

    @pytest.mark.parametrize("turns", [1, 3])
    @pytest.mark.parametrize("discriminators", [TWO, PENALISED], ids=["relativistic", "penalised"])
    def test_no_gradient_reaches_a_network_but_that_of_its_own_loss(
        self, store: Store, discriminators: tuple[Discriminator, ...], turns: int
    ) -> None:
        recipe = plain(*discriminators, discriminator_updates=turns)
        state = state_at(recipe, store)
        networks = {
            "generator": state.model,
            **{n: r.network for n, r in state.discriminators.items()},
        }
        arrived = {
            (n, part): 0 for n, net in networks.items() for part, _ in net.named_parameters()
        }

        def count(key: tuple[str, str]) -> Callable[[Tensor], None]:
            def arrives(_parameter: Tensor) -> None:
                arrived[key] += 1

            return arrives

        for name, part in arrived:
            parameter = networks[name].get_parameter(part)
            parameter.register_post_accumulate_grad_hook(count((name, part)))
        batch = some_batch(store, size=2 * turns)
        updated(state, recipe, batch)
        assert arrived == {key: 1 if key[0] == "generator" else turns for key in arrived}

    def test_discriminators_are_frozen_in_the_generator_s_turn_alone(self, store: Store) -> None:
        recipe = plain(described("gan"))
        state = state_at(recipe, store)
        discriminator = state.discriminators["gan"].network
        learns: list[set[bool]] = []
        discriminator.register_forward_pre_hook(
            lambda module, _given: learns.append({p.requires_grad for p in module.parameters()})
        )
        updated(state, recipe, some_batch(store))
        # Two calls for the generator, then HR and SR for the discriminator itself.
        assert learns == [{False}, {False}, {True}, {True}]
        assert all(parameter.requires_grad for parameter in discriminator.parameters())

    def test_what_was_frozen_learns_again_after_an_error_and_what_never_learned_does_not(
        self,
    ) -> None:
        network = nn.Linear(2, 2)
        network.bias.requires_grad_(False)
        with pytest.raises(ZeroDivisionError), frozen([network]):
            assert not network.weight.requires_grad
            raise ZeroDivisionError
        assert network.weight.requires_grad and not network.bias.requires_grad

    def test_further_discriminator_updates_see_images_of_their_own(self, store: Store) -> None:
        recipe = plain(described("gan"), discriminator_updates=3)
        state = state_at(recipe, store)
        before = copy.deepcopy(state.model)
        seen: list[Tensor] = []
        state.discriminators["gan"].network.register_forward_hook(
            lambda _module, given, _out: seen.append(given[0].detach().clone())
        )
        batch = some_batch(store, size=6)
        updated(state, recipe, batch)
        assert len(seen) == 2 + 3 * 2  # two calls for the generator, then HR and SR each time
        lr, hr = (batch.lr.float() / 255).split(2), (batch.hr.float() / 255).split(2)
        assert all(torch.equal(x, part) for x, part in zip(seen[2::2], hr, strict=True))
        with torch.no_grad():  # the first SR is the one the generator learned from
            made = [before(lr[0]), *(state.model(part) for part in lr[1:])]
            assert not torch.allclose(made[1], before(lr[1]), atol=1e-4)
        for fake, expected in zip(seen[3::2], made, strict=True):
            torch.testing.assert_close(fake, expected)

    @pytest.mark.parametrize("loss", [spec(RelativisticGAN), spec(VanillaGAN), spec(WassersteinGP)])
    def test_the_log_tells_the_health_of_every_discriminator(
        self, store: Store, tmp_path: Path, loss: Any
    ) -> None:
        run(
            plain(
                described(
                    "gan", loss=loss, network=spec(VGGDiscriminator, size=24, width=2, norm="none")
                )
            ),
            store,
            tmp_path,
        )
        *_, line = log_of(tmp_path)
        assert {"gan", "gan.discriminator", "gan.real", "gan.fake"} <= line.keys()
        assert ("gan.penalty" in line) == (loss.target is WassersteinGP)

    def test_a_ring_is_what_the_code_of_spsr_gives_its_discriminator(self, store: Store) -> None:
        seen: list[tuple[int, ...]] = []

        class Watching(VGGDiscriminator):
            def forward(self, images: Tensor) -> Tensor:
                seen.append(tuple(images.shape))
                return super().forward(images)

        ring = described("g", input="gradient_ring", network=spec(Watching, size=24, width=2))
        recipe = plain(ring)
        updated(state_at(recipe, store), recipe, some_batch(store))
        assert seen == [(2, 3, 26, 26)] * 4


class TestNegatives:
    """A discriminator that learns from what is made of HR, not from SR."""

    def test_the_discriminator_learns_from_unnatural_images_and_the_generator_from_its_opinion(
        self, store: Store
    ) -> None:
        recipe = plain(NATURAL)
        state, twin = state_at(recipe, store), state_at(recipe, store)
        batch = some_batch(store)
        measured = updated(state, recipe, batch)
        lr, hr = batch.lr.float() / 255, batch.hr.float() / 255
        discriminator, loss = twin.discriminators["natural"].network, NaturalManifold()
        asked = loss.generator(discriminator(hr), discriminator(twin.model(lr)))
        assert measured["natural"] == pytest.approx(asked.item(), rel=1e-5)
        numbers = step_generator(seed=recipe.seed, step=0, turn=0)
        unnatural = Unnatural(scale=2)(hr, generator=numbers)
        assert len(unnatural) == 2 * len(hr)
        learned = loss.discriminator(discriminator(hr), discriminator(unnatural))
        assert measured["natural.discriminator"] == pytest.approx(learned.item(), rel=1e-5)
        assert measured["natural.fake"] == pytest.approx(
            discriminator(unnatural).mean().item(), rel=1e-4
        )
        discriminator.zero_grad()
        learned.backward()
        for ours, theirs in zip(
            state.discriminators["natural"].network.parameters(),
            discriminator.parameters(),
            strict=True,
        ):
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-3)

    def test_chance_is_another_in_every_update(self, store: Store) -> None:
        made = [
            torch.rand(4, generator=step_generator(seed=seed, step=step, turn=turn))
            for seed, step, turn in ((0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))
        ]
        assert torch.equal(made[0], made[1])
        assert len({tuple(numbers.tolist()) for numbers in made}) == 4

    def test_half_precision_does_not_touch_them(self, store: Store) -> None:
        recipe = plain(NATURAL)
        state = state_at(recipe, store)
        seen: list[Tensor] = []
        state.discriminators["natural"].network.register_forward_hook(
            lambda _module, given, _out: seen.append(given[0].detach().clone())
        )
        hr = some_batch(store).hr.float() / 255
        half = dataclasses.replace(recipe, precision="bfloat16")
        rng = step_generator(seed=0, step=0, turn=0)
        discriminator_loss(state.discriminators["natural"], recipe=half, sr=hr, hr=hr, rng=rng)
        expected = Unnatural(scale=2)(hr, generator=step_generator(seed=0, step=0, turn=0))
        assert torch.equal(seen[0], hr)
        assert torch.equal(seen[1], expected)

    def test_a_weight_of_zero_leaves_the_generator_alone(self, store: Store) -> None:
        recipe = plain(dataclasses.replace(NATURAL, weight=0.0))
        alone = plain()
        states = [state_at(r, store) for r in (recipe, alone)]
        for state, each in zip(states, (recipe, alone), strict=True):
            updated(state, each, some_batch(store))
        assert not changed(copied(states[0].model), states[1].model)
        before = copied(state_at(recipe, store).discriminators["natural"].network)
        assert changed(before, states[0].discriminators["natural"].network)

    def test_the_gradient_penalty_cannot_mix_more_images_than_there_are(
        self, store: Store, tmp_path: Path
    ) -> None:
        recipe = plain(dataclasses.replace(NATURAL, loss=spec(WassersteinGP)))
        with pytest.raises(InputError, match="penalty mixes images of one shape"):
            run(recipe, store, tmp_path)


class Detached(nn.Module):
    """A loss that looks right and reaches nothing."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return (sr.detach() - hr).abs().mean()


class Ignoring(nn.Module):
    """A discriminator that answers the same to every image."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.answer.expand(len(images), 1)


class TestGradientCheck:
    def test_every_term_is_shown_with_its_norm_in_each_part(
        self, store: Store, tmp_path: Path
    ) -> None:
        run(guided(), store, tmp_path)
        checks = [line for line in log_of(tmp_path) if "gradient_check" in line]
        by_stage = {line["stage"]: line["gradient_check"] for line in checks}
        assert list(by_stage) == ["pixel", "warm-up", "adversarial"]
        last = by_stage["adversarial"]
        assert set(last["norms"]) == {"pixel", "gradient", "branch", "gan", "gradient gan"}
        assert all(parts["all"] > 0 for parts in last["norms"].values())
        assert all(parts["backbone"] > 0 for parts in last["norms"].values())
        assert last["norms"]["branch"]["gradient_tail"] > 0
        assert set(by_stage["warm-up"]["norms"]["gan"]) == {"fusion", "all"}
        assert set(last["discriminators"]) == {"gan", "gradient gan"}
        assert len(last["cosines"]) == 10
        assert all(-1 <= cosine <= 1 for cosine in last["cosines"].values())

    def test_norms_and_cosines_are_those_of_the_weighted_gradients(self, store: Store) -> None:
        stage = Stage("only", 1, ADAM, (PIXEL, GRADIENT))
        recipe = guided(model=BACKBONE, stages=(stage,))
        state = state_at(recipe, store)
        batch = some_batch(store)
        check = GradientCheck()
        sr, hr = state.model(batch.lr.float() / 255), batch.hr.float() / 255
        vectors = []
        for value in (0.1 * (sr - hr).abs().mean(), 0.1 * Gradient()(sr, hr)):
            found = torch.autograd.grad(value, list(state.model.parameters()), retain_graph=True)
            vectors.append(torch.cat([gradient.flatten() for gradient in found]))
        updated(state, recipe, batch, gradient_check=check)
        for name, vector in zip(("pixel", "gradient"), vectors, strict=True):
            assert check.norms[name]["all"] == pytest.approx(vector.norm().item(), rel=1e-4)
        cosine = torch.cosine_similarity(vectors[0], vectors[1], dim=0)
        assert check.cosines["pixel and gradient"] == pytest.approx(float(cosine), abs=1e-4)

    def test_measuring_changes_no_update(self, store: Store) -> None:
        recipe = plain(*TWO)
        with_check, without = state_at(recipe, store), state_at(recipe, store)
        check = GradientCheck()
        batch = some_batch(store)
        found = updated(with_check, recipe, batch, gradient_check=check)
        assert found == updated(without, recipe, batch)
        check.verify(stage="only")
        for name, network in without.networks().items():
            assert not changed(copied(network), with_check.networks()[name])

    def test_a_loss_that_reaches_nothing_is_an_error(self, store: Store, tmp_path: Path) -> None:
        stage = Stage("only", 1, ADAM, (PIXEL, Term("texture", spec(Detached))))
        with pytest.raises(TrainingError, match="'texture' of stage 'only' is dead"):
            run(guided(model=BACKBONE, stages=(stage,)), store, tmp_path)

    def test_a_discriminator_that_never_reaches_the_generator_is_an_error(
        self, store: Store, tmp_path: Path
    ) -> None:
        recipe = plain(described("gan", network=spec(Ignoring), loss=spec(VanillaGAN)))
        with pytest.raises(TrainingError, match="'gan' of stage 'only' is dead"):
            run(recipe, store, tmp_path)

    def test_a_branch_that_nothing_looks_at_is_an_error(self, store: Store, tmp_path: Path) -> None:
        stage = Stage("only", 1, ADAM, (PIXEL,))
        with pytest.raises(TrainingError, match="No term of stage 'only' reaches gradient_tail"):
            run(guided(stages=(stage,)), store, tmp_path)

    def test_a_later_stage_that_could_not_run_is_told_at_once(
        self, store: Store, tmp_path: Path
    ) -> None:
        later = Stage("later", 1, ADAM, (PIXEL, BRANCH), trains=("fussion.",))
        with pytest.raises(InputError, match="fussion"):
            run(guided(stages=(STAGES[0], later)), store, tmp_path)
        assert not list(tmp_path.glob("*.safetensors"))

    def test_a_gradient_that_is_not_a_number(self, store: Store, tmp_path: Path) -> None:
        Poisoned.calls, Poisoned.bad = 0, (1,)
        stage = Stage("only", 1, ADAM, (PIXEL, Term("bad", spec(Poisoned))))
        with pytest.raises(TrainingError, match="gradient of 'bad' in stage 'only' is nan"):
            run(guided(model=BACKBONE, stages=(stage,)), store, tmp_path)

    def test_a_term_that_weighs_nothing_is_only_measured(
        self, store: Store, tmp_path: Path
    ) -> None:
        stage = Stage("only", 1, ADAM, (PIXEL, dataclasses.replace(GRADIENT, weight=0.0)))
        assert run(guided(model=BACKBONE, stages=(stage,)), store, tmp_path).status == "finished"
        first, last = log_of(tmp_path)
        assert set(first["gradient_check"]["norms"]) == {"pixel"}
        assert last["gradient"] > 0 and last["total"] == pytest.approx(0.1 * last["pixel"])

    def test_a_term_on_a_branch_that_is_not_there(self, store: Store, tmp_path: Path) -> None:
        stage = Stage("only", 1, ADAM, (PIXEL, BRANCH))
        with pytest.raises(InputError, match="gradient branch, but EDSR has none"):
            run(guided(model=BACKBONE, stages=(stage,)), store, tmp_path)

    def test_a_dead_discriminator_is_named(self, store: Store) -> None:
        recipe = plain(described("gan"))
        check = GradientCheck()
        updated(state_at(recipe, store), recipe, some_batch(store), gradient_check=check)
        check.verify(stage="only")
        check.discriminators["gan"] = 0.0
        with pytest.raises(TrainingError, match="discriminator of 'gan' in stage 'only' is dead"):
            check.verify(stage="only")


class Poisoned(nn.Module):
    """A loss that is not a number while the learning rate is what it was at first."""

    calls = 0
    bad: tuple[int, ...] = ()

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        Poisoned.calls += 1
        loss = (sr - hr).abs().mean()
        return loss * torch.nan if Poisoned.calls in Poisoned.bad else loss


class TestRollback:
    def recipe(self, *, retries: int) -> Recipe:
        stage = Stage("only", 6, ADAM, (PIXEL, Term("bad", spec(Poisoned))))
        return guided(model=BACKBONE, stages=(stage,), retries=retries)

    def test_the_run_goes_back_and_on_with_half_the_rate(
        self, store: Store, tmp_path: Path
    ) -> None:
        Poisoned.calls, Poisoned.bad = 0, (5,)
        outcome = run(self.recipe(retries=1), store, tmp_path, checkpoint_every=2)
        assert outcome.status == "finished"
        lines = [line for line in log_of(tmp_path) if "gradient_check" not in line]
        (back,) = [line for line in lines if "rollback" in line]
        assert back["step"] == 4 and back["rollback"] == 1 and "'bad' became nan" in back["because"]
        rates = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
        assert [rates[step] for step in range(1, 7)] == [1e-3] * 4 + [5e-4] * 2
        assert all(
            torch.isfinite(t).all() for t in load_file(tmp_path / "last.safetensors").values()
        )

    def test_before_the_first_checkpoint_it_begins_anew(self, store: Store, tmp_path: Path) -> None:
        Poisoned.calls, Poisoned.bad = 0, (2,)
        assert run(self.recipe(retries=1), store, tmp_path).status == "finished"
        rates = [line["learning_rate"] for line in log_of(tmp_path) if "learning_rate" in line]
        assert rates == [5e-4] * 6

    def test_the_number_of_retries_is_bounded(self, store: Store, tmp_path: Path) -> None:
        Poisoned.calls, Poisoned.bad = 0, tuple(range(3, 100))
        with pytest.raises(TrainingError, match="'bad' became nan"):
            run(self.recipe(retries=2), store, tmp_path, checkpoint_every=2)
        assert Poisoned.calls < 15

    def test_a_resumed_run_remembers_the_lower_rate(self, store: Store, tmp_path: Path) -> None:
        Poisoned.calls, Poisoned.bad = 0, (2,)  # update 2 fails once
        recipe = self.recipe(retries=1)
        assert run(recipe, store, tmp_path, time_limit=1e-6).step == 1
        assert run(recipe, store, tmp_path, time_limit=1e-6).step == 2
        assert run(recipe, store, tmp_path).status == "finished"
        assert [line["step"] for line in log_of(tmp_path) if "rollback" in line] == [1]
        rates = {
            line["step"]: line["learning_rate"]
            for line in log_of(tmp_path)
            if "learning_rate" in line
        }
        assert rates == {1: 1e-3, 2: 5e-4, 3: 5e-4, 4: 5e-4, 5: 5e-4, 6: 5e-4}


class TestStart:
    def test_a_network_becomes_the_backbone(self, store: Store, tmp_path: Path) -> None:
        first = plain(steps=1)
        first = dataclasses.replace(first, name="first", ema_decay=0.0)
        run(first, store, tmp_path / "first")
        file = tmp_path / "first" / "model.safetensors"
        recipe = guided(start=Start("first", into="backbone."))
        state = begin(recipe, store, options=RunOptions(out=tmp_path, start_from=file))
        weights = load_file(file)
        own = state.model.state_dict()
        assert all(torch.equal(own["backbone." + name], weights[name]) for name in weights)


class TestRefused:
    def test_two_parts_of_one_name(self) -> None:
        with pytest.raises(InputError, match="names a term twice: pixel, pixel"):
            plain(described("pixel"))

    def test_no_discriminator_updates_at_all(self) -> None:
        with pytest.raises(InputError, match="discriminator_updates is 0; give 1 or more"):
            plain(described("gan"), discriminator_updates=0)

    def test_a_negative_number_of_retries(self) -> None:
        with pytest.raises(InputError, match="retries is -1"):
            guided(retries=-1)

    def test_a_discriminator_s_rate(self) -> None:
        with pytest.raises(InputError, match="learning_rate is 0"):
            plain(described("gan", optim=Optim(learning_rate=0.0)))

    def test_another_stage_needs_its_own_discriminators(self, store: Store) -> None:
        recipe = plain(described("gan"))
        state = state_at(recipe, store)
        first = state.discriminators["gan"].network
        again = dataclasses.replace(recipe.stages[0], name="again")
        enter_stage(state, again, recipe=recipe)
        assert state.discriminators["gan"].network is first
        wider = described("gan", network=spec(VGGDiscriminator, size=24, width=3))
        enter_stage(state, dataclasses.replace(again, discriminators=(wider,)), recipe=recipe)
        assert state.discriminators["gan"].network is not first

    def test_luma_networks_train_against_discriminators_of_one_colour(
        self, store: Store, tmp_path: Path
    ) -> None:
        gan = described("gan", network=spec(VGGDiscriminator, size=24, width=2, colours=1))
        stage = Stage("only", 1, ADAM, (PIXEL,), discriminators=(gan,))
        recipe = guided(model=spec(ESPCN, scale=2), stages=(stage,))
        assert run(recipe, store, tmp_path).status == "finished"
