"""How the weights start, where the paper says it."""

import math

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.models import EDSR, ESPCN, SRCNN, VDSR
from edgekeeper.ops.resize import imresize


def check_normal(values: Tensor, *, deviation: float) -> None:
    """Mean and deviation of a normal sample, within four standard errors."""
    count = values.numel()
    assert abs(values.mean()) < 4 * deviation / math.sqrt(count)
    assert abs(values.std() / deviation - 1) < 4 / math.sqrt(2 * count)


def check_zero(conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    assert not conv.bias.any()


@pytest.mark.parametrize("variant", ["y", "gv", "rgb"])
def test_vdsr(variant: str) -> None:
    torch.manual_seed(5)
    network = VDSR(variant=variant)  # type: ignore[arg-type]
    assert len(network.hidden) == 19
    for conv in network.hidden:  # sqrt(2 / (9 * 64))
        check_normal(conv.weight, deviation=0.0589256)
        assert conv.bias is None
    # sqrt(2 / 9) for one map, sqrt(2 / 27) for three
    check_normal(network.last.weight, deviation=0.2721655 if variant == "rgb" else 0.4714045)
    assert network.last.bias is None


@pytest.mark.parametrize("channels", ["y", "rgb"])
def test_espcn(channels: str) -> None:
    torch.manual_seed(6)
    network = ESPCN(scale=3, channels=channels)  # type: ignore[arg-type]
    check_normal(network.conv1.weight, deviation=math.sqrt(2 / (64 * 25)))
    check_normal(network.conv2.weight, deviation=math.sqrt(2 / (32 * 9)))
    check_normal(network.conv3.weight, deviation=0.001)
    for conv in (network.conv1, network.conv2, network.conv3):
        check_zero(conv)


@pytest.mark.parametrize("middle", [1, 5])
def test_srcnn(middle: int) -> None:
    torch.manual_seed(7)
    network = SRCNN(middle=middle)  # type: ignore[arg-type]
    for conv in (network.conv1, network.conv2, network.conv3):
        check_normal(conv.weight, deviation=0.001)
        check_zero(conv)


@pytest.mark.parametrize("upsampler", ["steps", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_with_a_bicubic_skip_starts_as_interpolation(scale: int, upsampler: str) -> None:
    torch.manual_seed(8)
    network = EDSR(scale=scale, width=8, blocks=1, skip="bicubic", upsampler=upsampler)  # type: ignore[arg-type]
    lr = torch.rand(1, 3, 5, 6)
    assert torch.equal(network(lr), imresize(lr, scale=scale))


def test_edsr_without_a_skip_does_not_start_at_zero() -> None:
    torch.manual_seed(9)
    last = EDSR(scale=2, width=8, blocks=1).upsampler[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.weight.std() > 0.01


def test_edsr_residual_scale_weighs_each_block() -> None:
    torch.manual_seed(10)
    full = EDSR(scale=2, width=8, blocks=1).blocks[0]
    torch.manual_seed(10)
    tenth = EDSR(scale=2, width=8, blocks=1, residual_scale=0.1).blocks[0]
    maps = torch.rand(1, 8, 4, 5)
    torch.testing.assert_close(tenth(maps) - maps, 0.1 * (full(maps) - maps))
