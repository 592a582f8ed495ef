"""RRDB: counts, closed forms, reach, odd sizes, Real-ESRGAN's x2."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tests.tiling import run_tiled
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import RRDB, parameter_count
from edgekeeper.models.rrdb import DenseBlock, RRDBlock


def tiny(scale: int = 4, unshuffle: int = 1) -> RRDB:
    torch.manual_seed(scale)
    return RRDB(scale=scale, width=8, blocks=1, growth=4, unshuffle=unshuffle)


CASES: dict[str, Callable[[], RRDB]] = {
    "x2": lambda: tiny(2),
    "x3": lambda: tiny(3),
    "x4": lambda: tiny(4),
    "x2_unshuffled": lambda: tiny(2, unshuffle=2),
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> RRDB:
    """A network in float64 with biases that are not zero and weights that are not tiny."""
    network = CASES[request.param]().double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1)
    return network


def test_parameters() -> None:
    with torch.device("meta"):
        network = RRDB()
        ends = {key: RRDB(scale=key[0], unshuffle=key[1], blocks=0) for key in ENDS}
    assert parameter_count(network) == 16_697_987  # counted on ESRGAN's own module
    for key, more in ENDS.items():
        assert parameter_count(ends[key]) - parameter_count(ends[4, 1]) == more, key
    assert (network.receptive_field, network.overlap) == (349, 64)


# (scale, unshuffle) -> parameters more than x4. One enlargement less is one convolution less,
# 9 · 64 · 64 + 64; a head of 12 channels has 9 · 9 · 64 more than one of 3.
ENDS = {(4, 1): 0, (3, 1): -36_928, (2, 1): -36_928, (2, 2): 5184}


def test_multiply_accumulates_of_the_paper_s() -> None:
    with torch.device("meta"):
        network, lr = RRDB(), torch.zeros(1, 3, 8, 8)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(lr)
    assert counter.get_total_flops() / 2 / 64 == 17_926_848


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 7), (4, 6)])
def test_any_size_is_enlarged(model: RRDB, size: tuple[int, int]) -> None:
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    sr = model(lr)
    assert sr.shape == (2, 3, model.scale * size[0], model.scale * size[1])
    assert sr.isfinite().all()
    torch.testing.assert_close(sr, torch.cat([model(one[None]) for one in lr]))


def test_a_gradient_reaches_every_parameter(model: RRDB) -> None:
    model(torch.rand(1, 3, 8, 8, dtype=torch.float64)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_without_weights_a_block_multiplies_by_its_residual_factor() -> None:
    block = RRDBlock(6, growth=3)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    maps = torch.rand(1, 6, 4, 5)
    torch.testing.assert_close(block(maps), 1.2 * maps)  # x + 0.2 x
    assert torch.equal(block.dense[0](maps), maps)


def test_a_dense_block_is_five_convolutions_of_all_before() -> None:
    torch.manual_seed(1)
    block = DenseBlock(6, growth=3).double()
    x = torch.rand(2, 6, 5, 4, dtype=torch.float64)
    maps = [x]
    for k, conv in enumerate(block.convs):
        assert isinstance(conv, torch.nn.Conv2d)
        assert conv.in_channels == 6 + 3 * k
        made = F.conv2d(torch.cat(maps, dim=1), conv.weight, conv.bias, padding=1)
        maps.append(torch.where(made < 0, 0.2 * made, made))
    before_slope = F.conv2d(torch.cat(maps[:5], dim=1), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(block(x), x + 0.2 * before_slope)


def test_weights_start_at_a_tenth_of_kaiming_s() -> None:
    torch.manual_seed(2)
    network = RRDB(width=32, blocks=1, growth=16)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            expected = 0.1 * math.sqrt(2 / (9 * module.in_channels))
            count = module.weight.numel()
            assert abs(module.weight.std() / expected - 1) < 4 / math.sqrt(2 * count)
            assert module.bias is not None and not module.bias.any()


def test_enlargement_repeats_the_nearest_pixel() -> None:
    network = tiny(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        centre = torch.eye(8)
        for conv in (*network.enlarge.convs, network.refine):
            assert isinstance(conv, torch.nn.Conv2d)
            conv.weight[:, :, 1, 1] = centre
        network.last.weight[:, :3, 1, 1] = torch.eye(3)
    features = torch.rand(1, 8, 2, 3)
    sr = network.reconstruct(features, torch.rand(1, 3, 2, 3))
    assert torch.equal(sr, features[:, :3].repeat_interleave(3, 2).repeat_interleave(3, 3))


def farthest(model: RRDB, *, centre: int, side: int) -> int:
    """How many LR rows away a row can change the SR rows of row ``centre``."""
    with torch.no_grad():  # positive, so that nothing cancels
        for parameter in model.parameters():
            positive = parameter.abs() + 0.01 if parameter.ndim > 1 else parameter * 0 + 0.1
            parameter.copy_(positive / positive[0].sum() if parameter.ndim > 1 else positive)
    lr = torch.ones(1, 3, side, 4, dtype=torch.float64).requires_grad_()
    rows = model(lr)[:, :, centre * model.scale : (centre + 1) * model.scale]
    (gradient,) = torch.autograd.grad(rows.sum(), lr)
    return int((gradient.sum((0, 1, 3)).nonzero().flatten() - centre).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_the_receptive_field_is_as_stated(case: str) -> None:
    network = CASES[case]().double()
    radius = network.receptive_field
    slack = 1 if network.unshuffle == 2 else 0  # cells of two pixels are rounded up
    side = 2 * radius + 4
    reach = max(farthest(network, centre=radius + n, side=side) for n in (2, 3))
    assert reach == radius - slack


def test_the_overlap_is_the_receptive_field_or_64_pixels() -> None:
    with torch.device("meta"):
        networks = [RRDB(scale=s, width=2, growth=1, blocks=5) for s in (2, 3, 4)]
        unshuffled = RRDB(scale=2, width=2, growth=1, blocks=5, unshuffle=2)
    assert [network.receptive_field for network in networks] == [79, 78, 79]
    assert [network.overlap for network in (*networks, unshuffled)] == [64, 64, 64, 128]
    assert tiny().overlap == tiny().receptive_field == 19


def test_tiles_that_start_at_multiples_equal_the_whole_image(model: RRDB) -> None:
    lr = torch.rand(1, 3, 8, 128, dtype=torch.float64)
    tile = 2 * model.overlap + 10
    with torch.no_grad():
        whole = model(lr)
        start = 20  # even, as x2 unshuffled needs it
        assert start % model.multiple == 0
        part = model(lr[..., start : start + tile])
        kept = slice(model.overlap * model.scale, (model.overlap + 4) * model.scale)
        shift = start * model.scale
        expected = whole[..., shift + kept.start : shift + kept.stop]
        torch.testing.assert_close(part[..., kept], expected, rtol=0, atol=1e-12)
        if model.multiple == 1:
            tiled = run_tiled(model, lr, tile=tile, overlap=model.overlap, scale=model.scale)
            torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


def test_unshuffled_x2_is_the_x4_network_on_cells_of_four_pixels() -> None:
    network = CASES["x2_unshuffled"]().double()
    lr = torch.rand(1, 3, 5, 7, dtype=torch.float64)
    rows = torch.cat([lr, lr[:, :, -1:]], dim=2)
    filled = torch.cat([rows, rows[..., -1:]], dim=3)
    # channel 4 c + 2 row + column, as PyTorch's pixel_unshuffle orders them
    cells = torch.stack(
        [filled[:, c, r::2, k::2] for c in range(3) for r in (0, 1) for k in (0, 1)], dim=1
    )
    plain = RRDB(scale=4, width=8, blocks=1, growth=4).double()
    plain.head = torch.nn.Conv2d(12, 8, 3, padding=1).double()
    plain.load_state_dict(network.state_dict())
    expected = plain.reconstruct(plain.features(cells), cells)[..., :10, :14]
    torch.testing.assert_close(network(lr), expected)


def test_unshuffle_exists_for_x2_alone() -> None:
    for scale, unshuffle in ((4, 2), (2, 3), (2, 4), (3, 0)):
        sentence = f"no unshuffle=2 at scale {scale}|unshuffle is one of 1, 2; got {unshuffle}"
        with pytest.raises(InputError, match=sentence):
            RRDB(scale=scale, unshuffle=unshuffle)
