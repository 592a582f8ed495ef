"""D-DBPN: counts, sizes of kernels, the projection by hand, start of weights, taps."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import DBPN, GradientBranch, parameter_count
from edgekeeper.models.dbpn import Projection

# scale -> parameters and multiply-accumulates per LR pixel of the official module
COUNTS = {2: (5_953_526, 6_232_064), 4: (10_426_358, 11_833_088)}


def tiny(scale: int = 4) -> DBPN:
    torch.manual_seed(scale)
    return DBPN(scale=scale, width=4, stages=3, first=6).double().eval()


def counts(scale: int) -> tuple[int, float]:
    with torch.device("meta"):
        network, lr = DBPN(scale=scale), torch.zeros(1, 3, 4, 4)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(lr)
    return parameter_count(network), counter.get_total_flops() / 2 / 16


@pytest.mark.parametrize("scale", COUNTS)
def test_parameters_and_multiply_accumulates(scale: int) -> None:
    assert counts(scale) == COUNTS[scale]


def test_x8_follows_from_x4() -> None:
    parameters, macs = counts(8)
    kernels = 39 * 64 * 64 * (12**2 - 8**2)  # 13 units of three layers with larger kernels
    # Each layer that changes the size costs its kernel once per LR pixel. Those at HR size, the
    # convolutions that narrow 2 to 6 inputs of five units down and the last one, cost 64/16 times.
    narrow = sum(n * 64 * 64 for n in range(2, 7))
    at_hr_size = (narrow + 7 * 64 * 3 * 9) * (64 - 16)
    assert parameters == COUNTS[4][0] + kernels == 23_205_878
    assert macs == COUNTS[4][1] + kernels + at_hr_size


def test_receptive_fields_of_the_paper_s() -> None:
    with torch.device("meta"):
        fields = {scale: DBPN(scale=scale).receptive_field for scale in (2, 4, 8)}
    # Head; 19 times up and down, by 2 LR pixels at x2 and 1 else; up once more and the last layer.
    assert fields == {2: 1 + 19 * 2 + 2, 4: 1 + 19 + 1, 8: 1 + 19 + 1}


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_units_read_all_earlier_ones_and_change_the_size(scale: int) -> None:
    network = tiny(scale)
    shapes: list[tuple[torch.Size, torch.Size]] = []
    for unit in (*network.ups, *network.downs):
        unit.register_forward_hook(
            lambda _m, given, made: shapes.append((given[0].shape, made.shape))
        )
    lr = torch.rand(1, 3, 3, 5, dtype=torch.float64)
    features = network.features(lr)
    low, high = (3, 5), (3 * scale, 5 * scale)
    order = [(1, low, high), (1, high, low), (1, low, high), (2, high, low), (2, low, high)]
    assert shapes == [((1, 4 * n, *a), (1, 4, *b)) for n, a, b in order]
    assert features.shape == (1, 12, *high)
    for unit in (*network.ups, *network.downs):
        for layer in (unit.layer1, unit.layer2, unit.layer3):  # type: ignore[union-attr]
            assert layer[0].kernel_size == (scale + 4,) * 2  # type: ignore[index, union-attr]


def test_the_newest_maps_come_first() -> None:
    network = tiny()
    made: list[torch.Tensor] = []
    for unit in network.ups:
        unit.register_forward_hook(lambda _m, _given, result: made.append(result))
    features = network.features(torch.rand(1, 3, 3, 4, dtype=torch.float64))
    assert len(made) == 3
    assert torch.equal(features, torch.cat(made[::-1], dim=1))


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_projection_corrects_by_what_going_back_loses(direction: str) -> None:
    torch.manual_seed(3)
    unit = Projection(3, scale=2, inputs=2, direction=direction).double()  # type: ignore[arg-type]
    maps = torch.randn(1, 6, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        x = unit.narrow(maps)
        first = unit.layer1(x)
        lost = unit.layer2(first) - x
        torch.testing.assert_close(unit(maps), first + unit.layer3(lost))
        assert x.shape == lost.shape == (1, 3, 4, 6)
        assert first.shape == ((1, 3, 8, 12) if direction == "up" else (1, 3, 2, 3))


def test_weights_start_as_kaiming_s() -> None:
    torch.manual_seed(4)
    network = DBPN(scale=2, width=16, stages=2, first=24)
    kinds = set()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            kinds.add(type(module))
            fan_in = module.weight[0].numel()
            count = module.weight.numel()
            deviation = float(module.weight.detach().std() / math.sqrt(2 / fan_in))
            assert abs(deviation - 1) < 4 / math.sqrt(2 * count)
            assert module.bias is not None and not module.bias.any()
        elif isinstance(module, nn.PReLU):
            assert module.weight.tolist() == [0.25]
    assert kinds == {nn.Conv2d, nn.ConvTranspose2d}


def test_a_gradient_branch_reads_what_is_at_hr_size() -> None:
    network = tiny(8)
    guided = GradientBranch(backbone=network, width=4, taps=("ups.0", "ups.2")).double()
    assert guided.enlarged_first
    lr = torch.rand(2, 3, 3, 4, dtype=torch.float64)
    found = guided.with_gradient(lr)
    assert torch.equal(found.sr, network(lr))  # as it starts
    assert found.gradient.shape == (2, 3, 24, 32)
    nn.init.normal_(guided.fusion[-1].weight, 0, 0.1)
    assert not torch.allclose(guided(lr), network(lr))
    with pytest.raises(InputError, match="a gradient branch needs all of them as large as"):
        GradientBranch(backbone=network, taps=("downs.0",))


def test_a_scale_or_number_of_stages_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(InputError, match="DBPN has no scale 3; choose one of 2, 4, 8"):
        DBPN(scale=3)
    with pytest.raises(InputError, match="stages is a whole number from 1 to 1024; got 0"):
        DBPN(stages=0)
