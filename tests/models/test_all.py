"""What every network promises, whichever it is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models import EDSR, ESPCN, MODELS, SRCNN, VDSR, SRModel, parameter_count

CASES: dict[str, Callable[[], SRModel]] = {
    "srcnn_y_x3": lambda: SRCNN(scale=3),
    "srcnn_rgb_915_x2": lambda: SRCNN(scale=2, channels="rgb", middle=1),
    "vdsr_y_x2": lambda: VDSR(scale=2),
    "vdsr_gv_x3": lambda: VDSR(scale=3, variant="gv", interpolation="bilinear"),
    "vdsr_rgb_x2": lambda: VDSR(scale=2, variant="rgb"),
    "espcn_y_x3": lambda: ESPCN(scale=3),
    "espcn_rgb_x4": lambda: ESPCN(scale=4, channels="rgb"),
    "edsr_x2": lambda: EDSR(scale=2, width=8, blocks=2),
    "edsr_x3": lambda: EDSR(scale=3, width=8, blocks=1, residual_scale=0.1),
    "edsr_x4": lambda: EDSR(scale=4, width=8, blocks=2),
    "edsr_x4_bicubic": lambda: EDSR(scale=4, width=8, blocks=1, skip="bicubic"),
    "edsr_x2_direct": lambda: EDSR(scale=2, width=8, blocks=1, upsampler="direct"),
    "edsr_x3_direct_bicubic": lambda: EDSR(
        scale=3, width=8, blocks=2, upsampler="direct", skip="bicubic"
    ),
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> SRModel:
    """A network in float64 whose weights are all random, also those that start at zero."""
    torch.manual_seed(1)
    network = CASES[request.param]().double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().mean() < 0.01:
                parameter.normal_(0, 0.1)
    return network


def picture(model: SRModel, *, batch: int = 1, height: int = 5, width: int = 7) -> Tensor:
    colours = 1 if model.channels == "y" else 3
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(batch, colours, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 7)])
def test_the_output_is_scale_times_the_input(model: SRModel, size: tuple[int, int]) -> None:
    lr = picture(model, batch=2, height=size[0], width=size[1])
    sr = model(lr)
    assert sr.shape == (2, lr.shape[1], model.scale * size[0], model.scale * size[1])
    assert sr.dtype == lr.dtype
    assert sr.isfinite().all()


def test_a_batch_equals_its_pictures_one_by_one(model: SRModel) -> None:
    lr = picture(model, batch=3)
    torch.testing.assert_close(model(lr), torch.cat([model(one[None]) for one in lr]))


def test_channels_last_gives_the_same_picture(model: SRModel) -> None:
    lr = picture(model, batch=2)
    expected = model(lr)
    again = model.to(memory_format=torch.channels_last)(
        lr.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-12)


def test_forward_is_reconstruct_of_features(model: SRModel) -> None:
    lr = picture(model)
    features = model.features(lr)
    assert features.ndim == 4
    assert torch.equal(model.reconstruct(features, lr), model(lr))


def test_a_gradient_reaches_every_parameter(model: SRModel) -> None:
    model(picture(model, height=9, width=9)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_input_stays_as_it_was(model: SRModel) -> None:
    lr = picture(model)
    before = lr.clone()
    model(lr)
    assert torch.equal(lr, before)


def farthest(model: SRModel, *, along: int) -> int:
    """How many LR pixels away, along one axis, a pixel can change the SR pixels of another.

    With positive weights every path counts; they sum to 1, so that no tanh is flat. The gradient
    also shows influences that a sum in floating point would lose.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            positive = parameter.abs() + 0.01 if parameter.ndim > 1 else parameter * 0 + 0.1
            parameter.copy_(positive / positive[0].sum() if parameter.ndim > 1 else positive)
    radius = model.receptive_field + 2
    shape = [1, 1 if model.channels == "y" else 3, 1, 1]
    shape[along] = 2 * radius + 1
    shape[5 - along] = 3
    # Brighter than EDSR's mean colour, so that no ReLU is closed.
    lr = (torch.rand(shape, dtype=torch.float64) + 1).requires_grad_()
    start = radius * model.scale
    sr = model(lr).narrow(along, start, model.scale)
    reached = torch.zeros_like(lr)
    for phase in range(model.scale):  # apart, so that bicubic's negative weights cannot cancel
        total = sr.select(along, phase)[:, :, :1].sum()
        (gradient,) = torch.autograd.grad(total, lr, retain_graph=True)
        reached += gradient.abs()
    other = reached.sum(dim=[d for d in range(4) if d != along])
    return int((other.nonzero().flatten() - radius).abs().max())


# By how many LR pixels the stated radius is too large, and so costs tiles a little: the parts of a
# network are rounded up one by one, and bilinear interpolation is counted as bicubic.
SLACK = {"srcnn_y_x3": 1, "vdsr_gv_x3": 2, "edsr_x4": 1, "edsr_x4_bicubic": 1}


@pytest.mark.parametrize("along", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_receptive_field_is_as_stated(case: str, along: int) -> None:
    torch.manual_seed(2)
    network = CASES[case]().double()
    slack = SLACK.get(case, 0)
    assert farthest(network, along=along) == network.receptive_field - slack


def test_a_pixel_changes_nothing_beyond_the_receptive_field(model: SRModel) -> None:
    radius = model.receptive_field
    before = picture(model, height=2 * radius + 7, width=3)
    after = before.clone()
    after[:, :, radius + 3] += 0.5
    changed = (model(after) != model(before)).any(dim=3).any(dim=1)[0]
    rows = changed.nonzero().flatten() // model.scale - (radius + 3)
    assert len(rows) > 0
    assert rows.abs().max() <= radius


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_the_table_is_built_from_its_scale(name: str) -> None:
    assert MODELS[name].__name__.lower() == name
    with torch.device("meta"):
        network = MODELS[name](scale=2)
    assert network.scale == 2
    assert network.channels in ("y", "rgb")
    assert isinstance(network, nn.Module) and parameter_count(network) > 0


@pytest.mark.parametrize("name", MODELS)
def test_a_scale_that_does_not_exist_is_an_error(name: str) -> None:
    title = MODELS[name].__name__
    with pytest.raises(InputError, match=f"{title} has no scale 5; choose one of 2, 3, 4"):
        MODELS[name](scale=5)


def test_parameter_count_leaves_out_what_is_not_learnt() -> None:
    layer = nn.Conv2d(2, 3, 1)
    layer.bias.requires_grad_(False)  # type: ignore[union-attr]
    assert parameter_count(layer) == 6
