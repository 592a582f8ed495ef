"""One update of a network without discriminators: what its losses weigh, and what they reach."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.data.store import Batch
from edgekeeper.losses import L1, L2, LDL, SSIM, TV, Charbonnier, GradientVariance
from edgekeeper.models import EDSR, ESPCN, SRModel
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.spec import Spec, spec
from edgekeeper.training.loop import update
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term
from edgekeeper.training.state import State, build_losses, enter_stage

LOSSES = {
    "l1": spec(L1),
    "l2": spec(L2),
    "charbonnier": spec(Charbonnier),
    "ssim": spec(SSIM),
    "tv": spec(TV),
    "gv": spec(GradientVariance, patch=8),
    "gv_l2": spec(GradientVariance, patch=8, norm="l2"),
}
NETWORKS: dict[str, Spec[SRModel]] = {
    "rgb": spec(EDSR, scale=2, width=4, blocks=1),
    "y": spec(ESPCN, scale=2),
}


class Constant(nn.Module):
    """A loss with a known value and derivative: ``value`` + the mean of SR."""

    def __init__(self, *, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return sr.mean() + self.value


class Bias(SRModel):
    """The smallest network: one number for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.channels = 2, "rgb"
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, lr: Tensor) -> Tensor:
        return lr.repeat_interleave(2, 2).repeat_interleave(2, 3) * 0 + self.bias


def one_update(
    model: SRModel, *terms: Term, step: int = 0, ema: SRModel | None = None
) -> tuple[dict[str, float], tuple[Tensor, Tensor]]:
    """What is logged of update ``step``, and SR and HR that it saw."""
    numbers = torch.Generator().manual_seed(0)
    lr, hr = (
        torch.randint(256, (2, 3, side, side), generator=numbers, dtype=torch.uint8)
        for side in (8, 16)
    )
    stage = Stage("only", 10, Optim(learning_rate=1e-3), terms)
    recipe = Recipe("r", Spec(lambda: model, ()), data=Data(patch=16, batch=2), stages=(stage,))
    state = State(model, ema, step=step)
    enter_stage(state, stage, recipe=recipe)
    inputs = lr.float() / 255, hr.float() / 255
    if model.channels == "y":
        inputs = rgb_to_y(inputs[0]), rgb_to_y(inputs[1])
    seen = model(inputs[0]).detach(), inputs[1]
    criteria = build_losses(recipe, device="cpu")
    losses = update(state, Batch(lr, hr), recipe=recipe, criteria=criteria)
    assert not any(loss.requires_grad for loss in losses.values())
    return {name: float(loss) for name, loss in losses.items()}, seen


def built(network: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[network].build()


def test_each_loss_is_logged_unweighted_and_the_total_is_their_weighted_sum() -> None:
    weights = {name: 0.5 + k for k, name in enumerate(LOSSES)}
    terms = [Term(name, loss, weight=weights[name]) for name, loss in LOSSES.items()]
    logged, seen = one_update(built("rgb"), *terms)
    assert list(logged) == [*LOSSES, "total"]
    alone = {name: float(loss.build()(*seen)) for name, loss in LOSSES.items()}
    assert {k: v for k, v in logged.items() if k != "total"} == pytest.approx(alone, rel=1e-5)
    by_hand = sum(weights[name] * value for name, value in alone.items())
    assert logged["total"] == pytest.approx(by_hand, rel=1e-5)


def test_a_weight_scales_the_derivative_and_one_of_zero_trains_nothing() -> None:
    model = Bias()
    one = Term("one", spec(Constant, value=1.0), weight=3.0)
    two = Term("two", spec(Constant, value=2.0), weight=0.5)
    logged, _ = one_update(model, one, two, Term("off", spec(L1), weight=0.0))
    assert logged["total"] == pytest.approx(4.0)
    assert (logged["one"], logged["two"]) == (1.0, 2.0)
    assert logged["off"] > 0  # still logged
    assert model.bias.grad is not None and float(model.bias.grad) == pytest.approx(3.5)


class GapToEma(nn.Module):
    """The mean difference of SR and what the EMA makes of the same LR."""

    needs_ema = True

    def forward(self, sr: Tensor, hr: Tensor, *, sr_ema: Tensor) -> Tensor:
        assert not sr_ema.requires_grad and sr_ema.shape == sr.shape
        return (sr - sr_ema).mean()


def test_a_loss_that_needs_it_is_given_the_result_of_the_ema() -> None:
    model, ema = Bias(), Bias()
    ema.bias.data += 0.25
    terms = (Term("gap", spec(GapToEma)), Term("ldl", spec(LDL)), Term("pixel", spec(L1)))
    logged, (sr, hr) = one_update(model, *terms, ema=ema)
    assert logged["gap"] == pytest.approx(-0.25)
    expected = LDL()(sr, hr, sr_ema=torch.full_like(sr, 0.25))
    assert logged["ldl"] == pytest.approx(float(expected), rel=1e-5) and logged["ldl"] > 0


def test_a_ramp_is_followed_step_by_step() -> None:
    term = Term("one", spec(Constant, value=1.0), weight=2.0, ramp=4)
    totals = [one_update(Bias(), term, step=step)[0]["total"] for step in range(5)]
    assert totals == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


@pytest.mark.parametrize("network", NETWORKS)
def test_every_loss_alone_reaches_every_parameter_of_the_network(network: str) -> None:
    for name, loss in LOSSES.items():
        model = built(network)
        one_update(model, Term(name, loss))
        for part, parameter in model.named_parameters():
            assert parameter.grad is not None, (name, part)
            assert bool(torch.isfinite(parameter.grad).all()), (name, part)
            # Total variation is blind to a constant added to the whole image.
            if (name, part) != ("tv", "upsampler.2.bias"):
                assert float(parameter.grad.abs().max()) > 0, (name, part)
