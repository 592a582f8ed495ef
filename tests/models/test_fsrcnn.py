"""FSRCNN: the paper's counts, its layout, its reach."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.models import FSRCNN, GradientBranch, parameter_count

CASES: dict[str, Callable[[], FSRCNN]] = {
    "x2": lambda: FSRCNN(scale=2),
    "x3_small": lambda: FSRCNN(width=8, narrow=3, mapping=1),
    "x4": lambda: FSRCNN(scale=4, mapping=2),
    "x4_rgb": lambda: FSRCNN(scale=4, channels="rgb", width=8, narrow=3, mapping=0),
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> FSRCNN:
    torch.manual_seed(1)
    network = CASES[request.param]().double()
    with torch.no_grad():
        network.enlarge.weight.normal_(0, 0.1)
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return network


def image(model: FSRCNN, *, batch: int = 1, height: int = 5, width: int = 7) -> Tensor:
    colours = 1 if model.channels == "y" else 3
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(batch, colours, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_parameters(scale: int) -> None:
    for arguments, printed, parameters in (
        ({}, 12_464, 12_809),  # the weights of convolutions are what the paper's table 1 counts
        ({"width": 32, "narrow": 5, "mapping": 1}, 3_937, 4_086),
    ):
        network = FSRCNN(scale=scale, **arguments)  # type: ignore[arg-type]
        assert parameter_count(network) == parameters
        weights = [p.numel() for p in network.parameters() if p.ndim == 4]
        assert sum(weights) == printed
    assert parameter_count(FSRCNN(scale=scale, channels="rgb")) == 24_683


def test_multiply_accumulates() -> None:
    for scale in (2, 3, 4):  # all at LR size: each weight once for each LR pixel
        with torch.device("meta"):
            network, lr = FSRCNN(scale=scale), torch.zeros(1, 1, 8, 8)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network(lr)
        assert counter.get_total_flops() / 2 / 64 == 12_464


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 7)])
def test_any_size_is_enlarged(model: FSRCNN, size: tuple[int, int]) -> None:
    lr = image(model, batch=2, height=size[0], width=size[1])
    sr = model(lr)
    assert sr.shape == (2, lr.shape[1], model.scale * size[0], model.scale * size[1])
    torch.testing.assert_close(sr, torch.cat([model(one[None]) for one in lr]))
    assert torch.equal(model.reconstruct(model.features(lr), lr), sr)


def test_a_gradient_reaches_every_parameter(model: FSRCNN) -> None:
    model(image(model, height=9, width=9)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_layout() -> None:
    torch.manual_seed(2)
    network = FSRCNN(scale=3, width=6, narrow=4, mapping=2).double()
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.PReLU)]
    maps = lr = image(network)
    for conv, slopes in zip(layers[::2], layers[1::2], strict=True):
        assert isinstance(conv, nn.Conv2d) and isinstance(slopes, nn.PReLU)
        maps = F.conv2d(maps, conv.weight, conv.bias, padding=conv.kernel_size[0] // 2)
        maps = torch.where(maps < 0, slopes.weight[:, None, None] * maps, maps)
    assert [layer.kernel_size[0] for layer in layers if isinstance(layer, nn.Conv2d)] == [
        5,
        1,
        3,
        3,
        1,
    ]
    torch.testing.assert_close(network.features(lr), maps)
    kernel = network.enlarge.weight
    large = torch.zeros(1, 1, 3 * 5 + 20, 3 * 7 + 20, dtype=torch.float64)
    for row in range(5):
        for column in range(7):  # each LR pixel adds its kernel, centred on its first HR pixel
            added = torch.einsum("c,cohw->ohw", maps[0, :, row, column], kernel)
            top, left = 10 + 3 * row - 4, 10 + 3 * column - 4
            large[0, :, top : top + 9, left : left + 9] += added
    expected = large[..., 10:25, 10:31] + network.enlarge.bias
    torch.testing.assert_close(network(lr), expected)


def test_initialisation() -> None:
    torch.manual_seed(3)
    network = FSRCNN()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.in_channels * module.kernel_size[0] ** 2
            expected = math.sqrt(2 / (1 + 0.25**2) / fan)
            assert abs(module.weight.std() / expected - 1) < 4 / math.sqrt(
                2 * module.weight.numel()
            )
            assert module.bias is not None and not module.bias.any()
        elif isinstance(module, nn.PReLU):
            assert (module.weight == 0.25).all()
    assert abs(network.enlarge.weight.std() / 0.001 - 1) < 0.05


@pytest.mark.parametrize("along", [2, 3])
def test_the_receptive_field_is_as_stated(model: FSRCNN, along: int) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.abs() + 0.01)  # positive, so that nothing cancels
    radius = model.receptive_field + 2
    shape = [1, 1 if model.channels == "y" else 3, 3, 3]
    shape[along] = 2 * radius + 1
    lr = torch.ones(shape, dtype=torch.float64).requires_grad_()
    sr = model(lr).narrow(along, radius * model.scale, model.scale)
    (gradient,) = torch.autograd.grad(sr.sum(), lr)
    other = gradient.sum(dim=[d for d in range(4) if d != along])
    assert int((other.nonzero().flatten() - radius).abs().max()) == model.receptive_field


def test_a_gradient_branch_fits() -> None:
    backbone = FSRCNN(scale=2, width=8, narrow=3, mapping=1)
    branch = GradientBranch(backbone=backbone, width=4, taps=("extract",))
    lr = torch.rand(1, 1, 5, 6)
    assert torch.equal(branch(lr), backbone(lr))
    assert branch.with_gradient(lr).gradient.shape == (1, 1, 10, 12)
