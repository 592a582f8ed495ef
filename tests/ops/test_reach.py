"""The measured reach of functions whose reach is known."""

import pytest
import torch
from tests.reach import measure_reach
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.ops.resize import imresize


class Convolutions(nn.Module):
    """Zero padding and activations over a radius of 4 pixels, then a pixel shuffle."""

    radius = 4

    def __init__(self, scale: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = scale
        self.layers = nn.Sequential(
            nn.Conv2d(2, 6, 5, padding=2),
            nn.GELU(),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(6, 2 * scale**2, 3, padding=1),
        ).double()

    def forward(self, lr: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.layers(lr), self.scale)


class Blur(nn.Module):
    """A box over a radius: each pixel counts the same, so that the rest is known."""

    def __init__(self, radius: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.radius, self.gain = radius, gain

    def forward(self, lr: Tensor) -> Tensor:
        return functional.avg_pool2d(lr, 2 * self.radius + 1, 1, self.radius) * self.gain


def test_the_reach_of_a_box_is_known():
    lr = torch.rand(1, 1, 41, 41, dtype=torch.float64)
    assert measure_reach(Blur(5), lr, scale=1, bound=1e-9).radius == 5
    reach = measure_reach(Blur(5), lr, scale=1, bound=0.34)
    # 81 of 121 pixels lie within 4 of the middle: 40/121 = 0.3306 come from the ring of 5.
    assert reach.radius == 4
    assert reach.rest == pytest.approx(40 / 121)


@pytest.mark.parametrize("scale", [1, 3])
def test_the_reach_of_a_network_is_at_most_its_radius(scale):
    network = Convolutions(scale).double()
    lr = torch.rand(1, 2, 40, 40, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    assert measure_reach(network, lr, scale=scale, bound=0.0).radius == network.radius
    assert measure_reach(network, lr, scale=scale, bound=0.3).radius < network.radius


def test_the_reach_of_interpolation():
    lr = torch.rand(1, 3, 30, 30, dtype=torch.float64)
    assert measure_reach(lambda x: imresize(x, scale=2), lr, scale=2, bound=0.0).radius == 2


def test_a_image_too_small_for_the_reach_is_refused():
    lr = torch.rand(1, 1, 30, 30)
    with pytest.raises(InputError, match="more than 11 pixels"):
        measure_reach(Blur(13), lr, scale=1)


def test_a_measurement_leaves_no_gradients():
    network = Convolutions(1)
    measure_reach(network, torch.rand(1, 2, 30, 30, dtype=torch.float64), scale=1)
    assert all(weight.grad is None for weight in network.parameters())
