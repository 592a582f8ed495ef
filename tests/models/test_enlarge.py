"""The tails that several networks share: layers, sizes, how far they look, and first weights."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from edgekeeper.models.base import filled, kaiming_normal
from edgekeeper.models.enlarge import (
    DIRECT_RADIUS,
    SLOPE,
    SUBPIXEL_RADIUS,
    Enlarger,
    direct_tail,
    subpixel_steps,
    subpixel_tail,
    tail_radius,
)


def reach(tail: nn.Module, *, scale: int) -> int:
    """How many LR pixels away a column can change the pixels of another, all weights positive."""
    side = 11
    centre = side // 2
    for parameter in tail.parameters():
        nn.init.constant_(parameter, 0.1)
    maps = torch.ones(1, 2, 3, side, requires_grad=True)
    tail(maps)[..., centre * scale : (centre + 1) * scale].sum().backward()
    assert maps.grad is not None
    columns = maps.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    return int((columns - centre).abs().max())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_radii_are_as_stated(scale: int) -> None:
    assert reach(subpixel_tail(2, scale=scale, inner=2), scale=scale) == SUBPIXEL_RADIUS
    assert reach(direct_tail(2, scale=scale), scale=scale) == DIRECT_RADIUS
    for convolutions in range(5):
        after = [nn.Conv2d(2, 2, 3, padding=1) for _ in range(convolutions)]
        tail = nn.Sequential(Enlarger(2, factor=scale), *after)
        assert reach(tail, scale=scale) == tail_radius(scale, convolutions=convolutions)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_enlarger_repeats_pixels_and_convolves(scale: int) -> None:
    torch.manual_seed(1)
    enlarger = Enlarger(3, factor=scale)
    expected = maps = torch.randn(2, 3, 4, 5)
    for factor, conv in zip({2: [2], 3: [3], 4: [2, 2]}[scale], enlarger.convs, strict=True):
        large = expected.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        expected = conv(large)
        expected = torch.where(expected < 0, SLOPE * expected, expected)
    torch.testing.assert_close(enlarger(maps), expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_names_of_the_layers_are_those_of_the_files(scale: int) -> None:
    tail = subpixel_tail(3, scale=scale, inner=5)
    shapes = {name: tuple(tensor.shape) for name, tensor in tail.state_dict().items()}
    if scale == 4:
        expected = {"0": (20, 3, 3, 3), "2": (20, 5, 3, 3), "4": (3, 5, 3, 3)}
    else:
        expected = {"0": (5 * scale**2, 3, 3, 3), "2": (3, 5, 3, 3)}
    assert shapes == {f"{n}.weight": s for n, s in expected.items()} | {
        f"{n}.bias": s[:1] for n, s in expected.items()
    }
    assert tail(torch.rand(1, 3, 2, 4)).shape == (1, 3, 2 * scale, 4 * scale)
    assert list(direct_tail(3, scale=scale).state_dict()) == ["0.weight", "0.bias"]


def test_an_activation_follows_each_step() -> None:
    torch.manual_seed(2)
    steps = subpixel_steps(3, scale=4, inner=3, activation=nn.Tanh)
    maps = torch.randn(1, 3, 2, 5)
    expected = maps
    for conv in (steps[0], steps[3]):
        expected = F.pixel_shuffle(conv(expected), 2).tanh()
    assert torch.equal(steps(maps), expected)


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 7), (5, 7), (1, 1)])
def test_filled_repeats_the_last_row_and_column(size: tuple[int, int]) -> None:
    lr = torch.rand(1, 3, *size)
    height, width = size
    rows, columns = [*range(height)], [*range(width)]
    rows += rows[-1:] * (height % 2)
    columns += columns[-1:] * (width % 2)
    expected: Tensor = lr[:, :, rows][..., columns]
    assert torch.equal(filled(lr, multiple=2), expected)
    assert torch.equal(filled(lr, multiple=1), lr)


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_kaiming_s_start(factor: float) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Linear(288, 64, bias=False))
    kaiming_normal(network, factor=factor)
    for layer in (network[0], network[2]):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        expected = factor * (2 / 288) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert isinstance(network[0], nn.Conv2d) and network[0].bias is not None
    assert not network[0].bias.any()
