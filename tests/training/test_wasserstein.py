"""Training against a Wasserstein discriminator with gradient penalty, beside the same by hand."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.data.store import Batch
from edgekeeper.losses import L1, WassersteinGP
from edgekeeper.models import EDSR
from edgekeeper.models.discriminators import VGGDiscriminator
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.spec import spec
from edgekeeper.training.batches import step_generator
from edgekeeper.training.loop import discriminator_loss, update
from edgekeeper.training.recipe import Data, Discriminator, Optim, Recipe, Stage, Term
from edgekeeper.training.state import State, build_losses, enter_stage

SEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "image": lambda images: images,
    "gradient": gradient_map,
    "gradient_ring": partial(gradient_map, padding=2),
}
# Of the second update of the stage, half-way through the warm-up.
RATE, DISCRIMINATOR_RATE = 1.0, 0.02
STEP, SEED, TURNS, SIZE = 3, 5, 3, 2  # of the run; the stage began at step 2

every_sight = pytest.mark.parametrize("sees", SEEN)


def descent(learning_rate: float) -> Optim:
    """Plain gradient descent, which steps by rate times gradient."""
    return Optim(learning_rate=2 * learning_rate, kind="sgd", momentum=0.0, warmup=4)


def recipe_of(sees: Any, *, turns: int) -> Recipe:
    pixel = Term("pixel", spec(L1), weight=0.1)
    discriminator = Discriminator(
        name="gan",
        network=spec(VGGDiscriminator, size=24, width=2, norm="none"),
        loss=spec(WassersteinGP),
        optim=descent(DISCRIMINATOR_RATE),
        weight=0.05,
        input=sees,
    )
    return Recipe(
        name="wasserstein",
        model=spec(EDSR, scale=2, width=4, blocks=1),
        data=Data(patch=24, batch=SIZE),
        stages=(
            Stage("pixel", 2, descent(RATE), (pixel,)),
            Stage(
                "adversarial",
                8,
                descent(RATE),
                (pixel,),
                discriminators=(discriminator,),
                discriminator_updates=turns,
            ),
        ),
        seed=SEED,
    )


class Bout:
    """A state just before update ``STEP``, copies of its networks, and images to learn from."""

    def __init__(self, sees: Any, *, turns: int = 1) -> None:
        self.recipe = recipe_of(sees, turns=turns)
        stage, _ = self.recipe.stage_at(STEP)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.recipe.model.build()
        self.state = State(model, None, step=STEP)
        enter_stage(self.state, stage, recipe=self.recipe)
        self.discriminator = self.state.discriminators["gan"].network
        self.old_model, self.old_discriminator = (
            copy.deepcopy(model),
            copy.deepcopy(self.discriminator),
        )
        numbers = torch.Generator().manual_seed(1)
        lr, hr = (
            torch.randint(256, (SIZE * turns, 3, side, side), generator=numbers, dtype=torch.uint8)
            for side in (12, 24)
        )
        self.batch = Batch(lr, hr)
        self.lr, self.hr = ((pixels.float() / 255).split(SIZE) for pixels in (lr, hr))

    def update(self) -> dict[str, float]:
        """What is logged of the update."""
        criteria = build_losses(self.recipe, device="cpu")
        losses = update(self.state, self.batch, recipe=self.recipe, criteria=criteria)
        return {name: float(loss) for name, loss in losses.items()}

    def fakes(self) -> list[Tensor]:
        """SR of each turn, after the update: the first was made before the generator learned."""
        with torch.no_grad():
            first = self.old_model(self.lr[0])
            return [first, *(self.state.model(part) for part in self.lr[1:])]


def shares_of(turn: int) -> Tensor:
    return torch.rand(SIZE, generator=step_generator(seed=SEED, step=STEP, turn=turn))


def mixed(real: Tensor, fake: Tensor, *, shares: Tensor) -> Tensor:
    share = shares[:, None, None, None]
    return share * real + (1 - share) * fake


def penalty_of(discriminator: nn.Module, real: Tensor, fake: Tensor, *, shares: Tensor) -> Tensor:
    images = mixed(real, fake, shares=shares).requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    length = slope.square().sum((1, 2, 3)).sqrt()
    return ((length - 1) ** 2).mean()


def moves(before: nn.Module, after: nn.Module) -> list[Tensor]:
    """By how much each weight has changed."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return [(new - old).detach() for old, new in pairs]


def assert_equal_moves(found: list[Tensor], expected: list[Tensor]) -> None:
    """The moves agree, up to float32, and all but one are such that can be seen.

    To a constant added to every answer the loss of a discriminator is blind.
    """
    assert sum(float(move.abs().max()) < 1e-4 for move in expected) <= 1
    for ours, theirs in zip(found, expected, strict=True):
        scale = float(theirs.abs().max())
        # A weight around 0.1 has steps of 1e-8; a move is a difference of two.
        torch.testing.assert_close(ours, theirs, atol=1e-3 * scale + 3e-8, rtol=0.0)


@every_sight
def test_the_discriminator_makes_the_gap_and_ten_times_the_penalty_of_what_it_sees_small(
    sees: Any,
) -> None:
    bout = Bout(sees)
    logged = bout.update()
    real, fake = SEEN[sees](bout.hr[0]), SEEN[sees](bout.fakes()[0])
    discriminator = bout.old_discriminator
    penalty = penalty_of(discriminator, real, fake, shares=shares_of(0))
    gap = discriminator(fake).mean() - discriminator(real).mean()
    assert penalty.item() > 0.01  # so that it matters
    assert logged["gan.discriminator"] == pytest.approx(gap.item(), rel=1e-4)
    assert logged["gan.penalty"] == pytest.approx(penalty.item(), rel=1e-4)
    assert logged["gan.real"] == pytest.approx(discriminator(real).mean().item(), rel=1e-4)
    assert logged["gan.fake"] == pytest.approx(discriminator(fake).mean().item(), rel=1e-4)
    (gap + 10 * penalty).backward()
    for (name, ours), theirs in zip(
        bout.discriminator.named_parameters(), discriminator.parameters(), strict=True
    ):
        assert ours.grad is not None and theirs.grad is not None
        limit = 1e-3 * float(theirs.grad.abs().max()) + 1e-9
        torch.testing.assert_close(ours.grad, theirs.grad, atol=limit, rtol=0.0, msg=name)


@every_sight
def test_the_loss_that_is_handed_on_holds_the_penalty(sees: Any) -> None:
    bout = Bout(sees)
    fake = bout.fakes()[0]
    rng = step_generator(seed=SEED, step=STEP, turn=0)
    gan = bout.state.discriminators["gan"]
    loss, _ = discriminator_loss(gan, recipe=bout.recipe, sr=fake, hr=bout.hr[0], rng=rng)
    real, fake = SEEN[sees](bout.hr[0]), SEEN[sees](fake)
    discriminator = bout.old_discriminator
    penalty = penalty_of(discriminator, real, fake, shares=shares_of(0))
    expected = discriminator(fake).mean() - discriminator(real).mean() + 10 * penalty
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@every_sight
def test_three_updates_of_the_discriminator_are_those_written_by_hand(sees: Any) -> None:
    bout = Bout(sees, turns=TURNS)
    logged = bout.update()
    discriminator = copy.deepcopy(bout.old_discriminator)
    for turn, (fake, hr) in enumerate(zip(bout.fakes(), bout.hr, strict=True)):
        real, fake = SEEN[sees](hr), SEEN[sees](fake)
        penalty = penalty_of(discriminator, real, fake, shares=shares_of(turn))
        gap = discriminator(fake).mean() - discriminator(real).mean()
        gradients = torch.autograd.grad(gap + 10 * penalty, list(discriminator.parameters()))
        before = copy.deepcopy(discriminator)
        with torch.no_grad():
            for weight, gradient in zip(discriminator.parameters(), gradients, strict=True):
                weight -= DISCRIMINATOR_RATE * gradient
        assert any(move.abs().max() > 1e-4 for move in moves(before, discriminator))
    assert_equal_moves(
        moves(bout.old_discriminator, bout.discriminator),
        moves(bout.old_discriminator, discriminator),
    )
    assert logged["gan.discriminator"] == pytest.approx(gap.item(), rel=1e-3)  # of the last turn
    assert logged["gan.penalty"] == pytest.approx(penalty.item(), rel=1e-3)


@every_sight
def test_the_generator_raises_the_discriminator_s_answer(sees: Any) -> None:
    bout = Bout(sees, turns=TURNS)
    logged = bout.update()
    model = copy.deepcopy(bout.old_model)
    sr = model(bout.lr[0])
    pixel, answer = (sr - bout.hr[0]).abs().mean(), bout.old_discriminator(SEEN[sees](sr)).mean()
    assert logged["gan"] == pytest.approx(-answer.item(), rel=1e-4)
    total = 0.1 * pixel - 0.05 * answer
    assert logged["total"] == pytest.approx(total.item(), rel=1e-4)
    gradients = torch.autograd.grad(total, list(model.parameters()))
    with torch.no_grad():
        for weight, gradient in zip(model.parameters(), gradients, strict=True):
            weight -= RATE * gradient
    assert_equal_moves(moves(bout.old_model, bout.state.model), moves(bout.old_model, model))


@every_sight
def test_each_turn_compares_what_the_generator_makes_of_that_turn_s_images(sees: Any) -> None:
    bout = Bout(sees, turns=TURNS)
    given: list[Tensor] = []

    def watch(_module: nn.Module, arguments: Any) -> None:
        given.append(arguments[0].detach().clone())

    bout.discriminator.register_forward_pre_hook(watch)
    bout.update()
    fakes = bout.fakes()
    assert not torch.allclose(fakes[1], bout.old_model(bout.lr[1]), atol=1e-5)  # it has learned
    assert len(given) == 1 + 3 * TURNS  # SR for the generator; HR, SR and their mix in each turn
    see = SEEN[sees]
    torch.testing.assert_close(given[0], see(fakes[0]))
    for turn, (real, fake, mix) in enumerate(
        zip(given[1::3], given[2::3], given[3::3], strict=True)
    ):
        torch.testing.assert_close(real, see(bout.hr[turn]))
        torch.testing.assert_close(fake, see(fakes[turn]))
        torch.testing.assert_close(mix, mixed(real, fake, shares=shares_of(turn)))
