"""IMDN: the paper's counts, sizes, its attention."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import IMDN, GradientBranch, parameter_count
from edgekeeper.models.imdn import ContrastAttention


def image(*, batch: int = 1, height: int = 5, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.fixture(params=[2, 3, 4])
def model(request: pytest.FixtureRequest) -> IMDN:
    torch.manual_seed(request.param)
    return IMDN(scale=request.param, width=16, blocks=2).double()


# The paper's tables have 694K, 703K and 715K parameters and 158.8G, 71.5G and 40.9G
# multiply-accumulates for a result of 1280 x 720.
@pytest.mark.parametrize(
    ("scale", "parameters", "billions"),
    [(2, 694_404, 158.8), (3, 703_059, 71.5), (4, 715_176, 40.9)],
)
def test_parameters_and_multiply_accumulates(scale: int, parameters: int, billions: float) -> None:
    with torch.device("meta"):
        network, lr = IMDN(scale=scale), torch.zeros(1, 3, 720 // scale, 1280 // scale)
    assert parameter_count(network) == parameters
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(lr)
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.4)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 7)])
def test_any_size_is_enlarged(model: IMDN, size: tuple[int, int]) -> None:
    lr = image(batch=2, height=size[0], width=size[1])
    sr = model(lr)
    assert sr.shape == (2, 3, model.scale * size[0], model.scale * size[1])
    assert sr.isfinite().all()
    torch.testing.assert_close(sr, torch.cat([model(one[None]) for one in lr]))
    assert torch.equal(model.reconstruct(model.features(lr), lr), sr)


def test_a_gradient_reaches_every_parameter(model: IMDN) -> None:
    for module in model.modules():
        if isinstance(module, ContrastAttention):  # one hidden map, whose ReLU is to be open
            torch.nn.init.ones_(module.squeeze.bias)  # type: ignore[arg-type]
    model(image(height=9, width=9)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_attention_weighs_by_mean_and_deviation() -> None:
    torch.manual_seed(1)
    attention = ContrastAttention(32).double()
    maps = torch.randn(2, 32, 4, 5, dtype=torch.float64)
    statistic = maps.mean((2, 3)) + maps.std((2, 3), correction=0)
    squeeze, excite = attention.squeeze, attention.excite
    assert squeeze.bias is not None and excite.bias is not None
    hidden = (statistic @ squeeze.weight[:, :, 0, 0].T + squeeze.bias).clamp(min=0)
    weights = 1 / (1 + torch.exp(-(hidden @ excite.weight[:, :, 0, 0].T + excite.bias)))
    torch.testing.assert_close(attention(maps), maps * weights[:, :, None, None])


def test_constant_maps_have_a_finite_gradient() -> None:
    attention = ContrastAttention(16)
    maps = torch.ones(1, 16, 3, 4, requires_grad=True)
    attention(maps).sum().backward()
    assert maps.grad is not None and maps.grad.isfinite().all()
    model = IMDN(scale=2, width=16, blocks=1)
    model(torch.zeros(1, 3, 1, 1)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_the_receptive_field_is_that_of_the_convolutions(
    monkeypatch: pytest.MonkeyPatch, model: IMDN
) -> None:
    radius = model.receptive_field + 2
    before = image(height=2 * radius + 1, width=3)
    after = before.clone()
    after[:, :, radius] += 0.5

    def farthest() -> int:
        changed = (model(after) != model(before)).any(dim=3).any(dim=1)[0]
        rows = changed.nonzero().flatten() // model.scale
        return int((rows - radius).abs().max())

    assert farthest() > model.receptive_field  # by the attention
    monkeypatch.setattr(ContrastAttention, "forward", lambda _self, maps: maps)
    assert farthest() == model.receptive_field


def test_a_gradient_branch_fits(model: IMDN) -> None:
    branch = GradientBranch(backbone=model, width=4, taps=("blocks.0",)).double()
    lr = image()
    assert torch.equal(branch(lr), model(lr))
    found = branch.with_gradient(lr)
    assert found.gradient.shape == found.sr.shape == (1, 3, 5 * model.scale, 7 * model.scale)


@pytest.mark.parametrize("width", [4, 8, 18, 30])
def test_widths_that_do_not_exist_are_refused(width: int) -> None:
    with pytest.raises(InputError, match=f"IMDN has no width {width}; it is a multiple of 4"):
        IMDN(width=width)
    with pytest.raises(InputError, match="IMDN has no scale 8"):
        IMDN(scale=8)
