import pytest
import torch
from torch import Tensor, nn

from edgekeeper.losses import L1, L2, SSIM, TV, Charbonnier, GradientVariance
from edgekeeper.models import EDSR, ESPCN, SRModel
from edgekeeper.spec import spec
from edgekeeper.training.objective import Objective
from edgekeeper.training.recipe import Optim, Stage, Term

LOSSES = {
    "l1": spec(L1),
    "l2": spec(L2),
    "charbonnier": spec(Charbonnier),
    "ssim": spec(SSIM),
    "tv": spec(TV),
    "gv": spec(GradientVariance, patch=8),
    "gv_l2": spec(GradientVariance, patch=8, norm="l2"),
}


class Constant(nn.Module):
    """A loss with a known value and derivative: ``value`` + the sum of ours."""

    def __init__(self, *, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return sr.sum() + self.value


def objective(*terms: Term) -> Objective:
    return Objective(Stage("only", 10, Optim(learning_rate=1e-3), terms))


@pytest.fixture
def images(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return (
        torch.rand(2, 3, 16, 16, generator=generator, requires_grad=True),
        torch.rand(2, 3, 16, 16, generator=generator),
    )


def test_the_total_is_the_weighted_sum(images: tuple[Tensor, Tensor]) -> None:
    weights = {name: 0.5 + k for k, name in enumerate(LOSSES)}
    terms = [Term(name, loss, weight=weights[name]) for name, loss in LOSSES.items()]
    total, _ = objective(*terms)(*images, step=0)
    by_hand = sum(
        weights[name] * float(loss.build()(*images).detach()) for name, loss in LOSSES.items()
    )
    assert float(total.detach()) == pytest.approx(by_hand, rel=1e-5)


def test_values_are_unweighted_in_the_order_of_the_names(images: tuple[Tensor, Tensor]) -> None:
    terms = [Term(name, loss, weight=7.0) for name, loss in LOSSES.items()]
    made = objective(*terms)
    _, values = made(*images, step=0)
    assert made.names == tuple(LOSSES)
    assert values.dtype == torch.float32
    assert not values.requires_grad
    alone = [float(loss.build()(*images).detach()) for loss in LOSSES.values()]
    assert values.tolist() == pytest.approx(alone, rel=1e-5)


def test_a_weight_scales_the_derivative() -> None:
    sr = torch.zeros(1, 1, 2, 2, requires_grad=True)
    made = objective(
        Term("one", spec(Constant, value=1.0), weight=3.0),
        Term("two", spec(Constant, value=2.0), weight=0.5),
    )
    total, values = made(sr, sr.detach(), step=0)
    total.backward()
    assert float(total.detach()) == pytest.approx(4.0)
    assert values.tolist() == [1.0, 2.0]
    assert sr.grad is not None
    assert torch.equal(sr.grad, torch.full_like(sr, 3.5))


def test_a_ramp_is_followed_step_by_step() -> None:
    sr = torch.zeros(1, 1, 2, 2)
    made = objective(Term("one", spec(Constant, value=1.0), weight=2.0, ramp=4))
    totals = [float(made(sr, sr, step=step)[0]) for step in range(5)]
    assert totals == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_a_weight_of_zero_trains_nothing() -> None:
    sr = torch.rand(1, 3, 16, 16, requires_grad=True)
    total, values = objective(Term("off", spec(L1), weight=0.0))(
        sr, torch.zeros(1, 3, 16, 16), step=0
    )
    total.backward()
    assert sr.grad is not None
    assert float(sr.grad.abs().max()) == 0.0
    assert values[0] > 0  # still told


@pytest.mark.parametrize("network", ["rgb", "y"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_term_alone_reaches_every_parameter_of_the_network(
    name: str, network: str, generator: torch.Generator
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: SRModel = EDSR(scale=2, width=4, blocks=1) if network == "rgb" else ESPCN(scale=2)
    colours = 3 if network == "rgb" else 1
    lr = torch.rand(2, colours, 8, 8, generator=generator)
    hr = torch.rand(2, colours, 16, 16, generator=generator)
    total, _ = objective(Term(name, LOSSES[name]))(model(lr), hr, step=0)
    total.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(torch.isfinite(parameter.grad).all()), parameter_name
        # Total variation is blind to a constant added to the whole image.
        if (name, parameter_name) != ("tv", "upsampler.2.bias"):
            assert float(parameter.grad.abs().max()) > 0, parameter_name
