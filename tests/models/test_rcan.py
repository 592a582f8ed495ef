"""RCAN: counts, attention by hand, reach with and without attention, tiles, taps."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tests.tiling import run_tiled
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import RCAN, GradientBranch, parameter_count
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.models.rcan import AttentionBlock, ChannelAttention, ResidualGroup


def tiny(scale: int = 2, *, groups: int = 2, blocks: int = 1) -> RCAN:
    torch.manual_seed(scale)
    return RCAN(scale=scale, width=8, groups=groups, blocks=blocks, reduction=2).double().eval()


def without_means(network: RCAN) -> RCAN:
    """The network with attention weights of a half, whatever the means are."""
    for module in network.modules():
        if isinstance(module, ChannelAttention):
            nn.init.zeros_(module.excite.weight)
            assert module.excite.bias is not None
            nn.init.zeros_(module.excite.bias)
    return network


# scale -> parameters of the official module; multiply-accumulates per LR pixel without attention
# and without the two mean shifts, which are 9 (1 + scale²) there and additions here
COUNTS = {
    2: (15_444_643, 15_307_245 - 9 * 5),
    3: (15_629_283, 15_500_250 - 9 * 10),
    4: (15_592_355, 15_917_913 - 9 * 17),
}
ATTENTION = 102_400  # multiply-accumulates per image, of any size: 200 blocks of 2 · 64 · 4


@pytest.mark.parametrize("scale", COUNTS)
def test_parameters_and_multiply_accumulates(scale: int) -> None:
    parameters, macs = COUNTS[scale]
    with torch.device("meta"):
        network, lr = RCAN(scale=scale), torch.zeros(1, 3, 8, 10)
    assert parameter_count(network) == parameters
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(lr)
    assert counter.get_total_flops() / 2 == 80 * macs + ATTENTION
    # head, 10 groups of 20 blocks of two and one more, one after them, two of the tail
    assert network.receptive_field == 1 + 10 * 41 + 1 + 2
    assert network.overlap == 64 and tiny().overlap == tiny().receptive_field == 10


def test_attention_weighs_each_map_by_a_number_of_all_means() -> None:
    torch.manual_seed(1)
    attention = ChannelAttention(6, reduction=3).double()
    maps = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    for one, result in zip(maps, attention(maps), strict=True):
        means = one.mean(dim=(1, 2))
        hidden = (attention.squeeze.weight[..., 0, 0] @ means + attention.squeeze.bias).clamp(min=0)
        logits = attention.excite.weight[..., 0, 0] @ hidden + attention.excite.bias
        weights = 1 / (1 + (-logits).exp())
        assert ((weights > 0) & (weights < 1)).all()
        torch.testing.assert_close(result, one * weights[:, None, None])


def test_a_block_is_two_convolutions_with_attention_before_the_sum() -> None:
    torch.manual_seed(2)
    block = AttentionBlock(4, reduction=2).double()
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    before = x.clone()
    first = F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1).relu()
    residual = F.conv2d(first, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), x + block.attention(residual))
    assert torch.equal(x, before)


def test_without_weights_only_the_skips_and_the_mean_remain() -> None:
    group = ResidualGroup(4, blocks=2, reduction=2)
    network = tiny(3)
    for parameter in (*group.parameters(), *network.parameters()):
        nn.init.zeros_(parameter)
    maps = torch.rand(1, 4, 5, 6)
    assert torch.equal(group(maps), maps)
    sr = network(torch.rand(1, 3, 2, 4, dtype=torch.float64))
    mean = torch.tensor(DIV2K_MEAN).double().view(1, 3, 1, 1)
    assert torch.equal(sr, mean.expand(1, 3, 6, 12))
    nn.init.dirac_(network.head.weight)  # the mean is also what is subtracted
    features = network.features(mean.expand(1, 3, 4, 4))
    assert not features.any()


def reach(network: RCAN, *, centre: int, side: int) -> Tensor:
    """How much each LR row changes the SR rows of row ``centre``; no weights cancel."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and ".excite" not in name:
                positive = parameter.abs() + 0.01
                parameter.copy_(positive / positive[0].sum())
    lr = torch.ones(1, 3, side, 4, dtype=torch.float64).requires_grad_()
    rows = network(lr)[:, :, centre * network.scale : (centre + 1) * network.scale]
    (gradient,) = torch.autograd.grad(rows.sum(), lr)
    return gradient.abs().sum((0, 1, 3))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_receptive_field_is_that_of_the_convolutions(scale: int) -> None:
    network = without_means(tiny(scale))
    radius = network.receptive_field
    side, centre = 2 * radius + 7, radius + 3
    rows = reach(network, centre=centre, side=side).nonzero().flatten() - centre
    assert (rows.min(), rows.max()) == (-radius, radius)


def test_through_attention_every_pixel_counts() -> None:
    network = tiny(2)
    side = 4 * network.receptive_field
    assert (reach(network, centre=0, side=side) > 0).all()


def test_only_attention_makes_tiles_differ() -> None:
    lr = torch.rand(1, 3, 6, 60, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for network, seamless in ((without_means(tiny(2)), True), (tiny(2), False)):
        with torch.no_grad():
            whole = network(lr)
            tiled = run_tiled(network, lr, tile=34, overlap=network.overlap, scale=2)
        assert torch.allclose(tiled, whole, rtol=0, atol=1e-12) == seamless
        assert (tiled - whole).abs().max() < 0.5 / 255  # as it starts, by less than half a level


def test_a_gradient_branch_reads_its_groups() -> None:
    network = tiny(4)
    guided = GradientBranch(backbone=network, width=4, taps=("groups.0", "groups.1.blocks.0"))
    guided = guided.double()
    lr = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    found = guided.with_gradient(lr)
    assert torch.equal(found.sr, network(lr))  # as it starts
    assert found.gradient.shape == (2, 3, 20, 16)
    nn.init.normal_(guided.fusion[-1].weight, 0, 0.1)
    for module in network.modules():
        if isinstance(module, ChannelAttention) and module.squeeze.bias is not None:
            nn.init.ones_(module.squeeze.bias)  # so that no ReLU is closed
    guided.with_gradient(lr).sr.square().sum().backward()
    for name, parameter in guided.named_parameters():
        if not name.startswith("gradient_tail."):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("reduction", [9, 16])
def test_an_attention_without_channels_is_an_error(reduction: int) -> None:
    with pytest.raises(InputError, match=f"8 / {reduction} here; choose a reduction from 1 to 8"):
        RCAN(width=8, groups=1, blocks=1, reduction=reduction)
