"""RDN: counts, the dense block and the fusion by hand, taps."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import RDN, GradientBranch, parameter_count
from edgekeeper.models.rdn import ResidualDenseBlock

# scale -> parameters and multiply-accumulates per LR pixel of the reference module
COUNTS = {2: (22_123_395, 22_118_848), 3: (22_308_035, 22_311_808), 4: (22_271_107, 22_729_408)}


def tiny(scale: int = 2) -> RDN:
    torch.manual_seed(scale)
    return RDN(scale=scale, width=6, blocks=3, layers=2, growth=4).double().eval()


@pytest.mark.parametrize("scale", COUNTS)
def test_parameters_and_multiply_accumulates(scale: int) -> None:
    with torch.device("meta"):
        network, lr = RDN(scale=scale), torch.zeros(1, 3, 8, 8)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(lr)
    assert (parameter_count(network), counter.get_total_flops() / 2 / 64) == COUNTS[scale]
    # two heads, 16 blocks of 8, one after the fusion, two of the tail
    assert network.receptive_field == network.overlap == 2 + 16 * 8 + 1 + 2


def test_a_dense_block_fuses_its_input_and_all_layers() -> None:
    torch.manual_seed(1)
    block = ResidualDenseBlock(6, growth=3, layers=3).double()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    maps = [x]
    for k, conv in enumerate(block.convs):
        assert isinstance(conv, nn.Conv2d) and conv.in_channels == 6 + 3 * k
        maps.append(F.conv2d(torch.cat(maps, dim=1), conv.weight, conv.bias, padding=1).relu())
    weight, bias = block.fusion.weight, block.fusion.bias
    fused = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], torch.cat(maps, dim=1))
    assert bias is not None
    torch.testing.assert_close(block(x), x + fused + bias.view(1, -1, 1, 1))


def test_the_features_are_the_fused_blocks_and_the_first_convolution() -> None:
    network = tiny()
    nn.init.dirac_(network.after_fusion.weight)
    assert network.after_fusion.bias is not None
    nn.init.zeros_(network.after_fusion.bias)
    lr = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    given: list[torch.Tensor] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _m, _given, result: given.append(result))
    with torch.no_grad():
        features = network.features(lr)
        expected = network.fusion(torch.cat(given, dim=1)) + network.head1(lr)
    assert len(given) == 3
    torch.testing.assert_close(features, expected)


def test_a_gradient_branch_reads_its_blocks() -> None:
    network = tiny(3)
    guided = GradientBranch(backbone=network, width=4, taps=("blocks.0", "blocks.2")).double()
    lr = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    found = guided.with_gradient(lr)
    assert torch.equal(found.sr, network(lr))  # as it starts
    assert found.gradient.shape == (2, 3, 15, 12)
    nn.init.normal_(guided.fusion[-1].weight, 0, 0.1)
    assert not torch.allclose(guided(lr), network(lr))


def test_without_blocks_there_is_nothing_to_fuse() -> None:
    with pytest.raises(InputError, match="blocks is a whole number from 1 to 1024; got 0"):
        RDN(blocks=0)
