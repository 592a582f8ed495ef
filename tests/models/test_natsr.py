"""NatSR: counts, the fractal in closed form, reach, tiles; its discriminator."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tests.tiling import run_tiled
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import NatSR, NaturalManifoldDiscriminator, parameter_count
from edgekeeper.models.rdn import ResidualDenseBlock


def tiny(scale: int = 4, levels: int = 2, layers: int = 2) -> NatSR:
    torch.manual_seed(scale + levels)
    return NatSR(scale=scale, width=6, levels=levels, layers=layers)


CASES: dict[str, Callable[[], NatSR]] = {
    "x2": lambda: tiny(2, levels=1),
    "x3": lambda: tiny(3, levels=0, layers=3),
    "x4": lambda: tiny(4),
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> NatSR:
    return CASES[request.param]().double().eval()


# x4 was counted on the authors' layers. The shuffles of x4 are two convolutions of 64 to 256 maps
# (147,712 each); x2 has one of them, x3 one of 64 to 576.
@pytest.mark.parametrize(
    ("scale", "count"),
    [(4, 4_959_235), (2, 4_959_235 - 147_712), (3, 4_959_235 - 2 * 147_712 + 577 * 576)],
)
def test_parameters(scale: int, count: int) -> None:
    with torch.device("meta"):
        network = NatSR(scale=scale)
    assert parameter_count(network) == count
    assert network.receptive_field == network.overlap == 44


def test_multiply_accumulates() -> None:
    with torch.device("meta"):
        network, lr = NatSR(), torch.zeros(1, 3, 8, 8)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(lr)
    assert counter.get_total_flops() / 2 / 64 == 5_423_808
    # 12.5 G in a table of another paper is this at 48 x 48 LR pixels
    assert round(5_423_808 * 48**2 / 1e9, 1) == 12.5


def test_a_block_is_dense_convolutions_and_their_fusion() -> None:
    torch.manual_seed(1)
    block = ResidualDenseBlock(4, growth=4, layers=3, residual_scale=0.1).double()
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64)
    maps = [x]
    for k, conv in enumerate(block.convs):
        assert isinstance(conv, torch.nn.Conv2d) and conv.in_channels == 4 * (k + 1)
        maps.append(F.conv2d(torch.cat(maps, dim=1), conv.weight, conv.bias, padding=1).clamp(0))
    fused = F.conv2d(torch.cat(maps, dim=1), block.fusion.weight, block.fusion.bias)
    torch.testing.assert_close(block(x), x + 0.1 * fused)


def test_the_skips_of_eight_blocks_nest_three_times() -> None:
    network = tiny(levels=3, layers=1).double()
    lr = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    f = list(network.blocks)
    x1 = network.head(lr)
    x2 = f[1](f[0](x1)) + x1
    x3 = f[3](f[2](x2)) + x2 + x1
    x4 = f[5](f[4](x3)) + x3
    x5 = f[7](f[6](x4)) + x4 + x3 + x1
    torch.testing.assert_close(network.features(lr), network.after_blocks(x5) + x1)


def test_blocks_that_do_nothing_leave_a_multiple() -> None:
    # F0 = 1, and Fn = 1 + Fn-1 squared: 2, 5, 26
    for levels, factor in ((0, 1), (1, 2), (2, 5), (3, 26)):
        network = tiny(levels=levels)
        with torch.no_grad():
            for parameter in network.blocks.parameters():
                parameter.zero_()
            network.after_blocks.weight.zero_()
            network.after_blocks.weight[:, :, 1, 1] = torch.eye(6)
            torch.nn.init.zeros_(network.after_blocks.bias)  # type: ignore[arg-type]
        lr = torch.rand(1, 3, 3, 3)
        torch.testing.assert_close(network.features(lr), (factor + 1) * network.head(lr))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 7)])
def test_any_size_is_enlarged(model: NatSR, size: tuple[int, int]) -> None:
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    sr = model(lr)
    assert sr.shape == (2, 3, model.scale * size[0], model.scale * size[1])
    torch.testing.assert_close(sr, torch.cat([model(one[None]) for one in lr]))


def test_a_gradient_reaches_every_parameter(model: NatSR) -> None:
    model(torch.rand(1, 3, 8, 8, dtype=torch.float64)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def farthest(network: NatSR, *, centre: int, side: int) -> int:
    """How many LR rows away a row can change the SR rows of row ``centre``."""
    with torch.no_grad():  # positive, so that nothing cancels
        for parameter in network.parameters():
            positive = parameter.abs() + 0.01 if parameter.ndim > 1 else parameter * 0 + 0.1
            parameter.copy_(positive / positive[0].sum() if parameter.ndim > 1 else positive)
    lr = torch.ones(1, 3, side, 4, dtype=torch.float64).requires_grad_()
    rows = network(lr)[:, :, centre * network.scale : (centre + 1) * network.scale]
    (gradient,) = torch.autograd.grad(rows.sum(), lr)
    return int((gradient.sum((0, 1, 3)).nonzero().flatten() - centre).abs().max())


def test_the_receptive_field_is_as_stated(model: NatSR) -> None:
    radius = model.receptive_field
    assert farthest(model, centre=radius + 2, side=2 * radius + 4) == radius


def test_tiles_equal_the_whole_image(model: NatSR) -> None:
    lr = torch.rand(1, 3, 6, 64, dtype=torch.float64)
    tile = 2 * model.overlap + 5
    with torch.no_grad():
        tiled = run_tiled(model, lr, tile=tile, overlap=model.overlap, scale=model.scale)
        torch.testing.assert_close(tiled, model(lr), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("levels", "layers"), [(-1, 5), (3, 0)])
def test_what_does_not_exist_is_refused(levels: int, layers: int) -> None:
    with pytest.raises(InputError, match="is a whole number from"):
        NatSR(levels=levels, layers=layers)


class TestDiscriminator:
    def test_parameters(self) -> None:
        # biases: two for each pair, one at the end; weights: 3 x 3 times maps in and out
        weights = 9 * (3 * 64 + 64 * 64 + sum((m // 2) * m + m * m for m in (128, 256, 512)) + 512)
        biases = 2 * (64 + 128 + 256 + 512) + 1
        with torch.device("meta"):
            assert parameter_count(NaturalManifoldDiscriminator()) == weights + biases == 4_689_985

    @pytest.mark.parametrize("size", [(16, 16), (16, 40), (37, 23)])
    def test_one_logit_for_a_image_of_any_size(self, size: tuple[int, int]) -> None:
        torch.manual_seed(1)
        network = NaturalManifoldDiscriminator(width=2)
        batch = torch.rand(3, 3, *size)
        logits = network(batch)
        assert logits.shape == (3, 1)
        torch.testing.assert_close(logits, torch.cat([network(one[None]) for one in batch]))

    def test_the_logit_is_the_mean_of_the_last_map(self) -> None:
        torch.manual_seed(2)
        network = NaturalManifoldDiscriminator(width=2).double()
        maps = image = torch.rand(1, 3, 35, 48, dtype=torch.float64)
        convs = [m for m in network.layers if isinstance(m, torch.nn.Conv2d)]
        assert [conv.out_channels for conv in convs] == [2, 2, 4, 4, 8, 8, 16, 16]
        for number, conv in enumerate(convs):
            maps = F.conv2d(maps, conv.weight, conv.bias, padding=1).clamp(0)
            maps = F.max_pool2d(maps, 2) if number % 2 else maps
        assert maps.shape == (1, 16, 2, 3)
        last = F.conv2d(maps, network.last.weight, network.last.bias, padding=1)
        torch.testing.assert_close(network(image), last.mean().view(1, 1))

    def test_a_gradient_reaches_images_and_weights(self) -> None:
        torch.manual_seed(3)
        network = NaturalManifoldDiscriminator(width=4)
        images = torch.rand(2, 3, 32, 32, requires_grad=True)
        network(images).sum().backward()
        assert images.grad is not None and images.grad.abs().max() > 0
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name

    @pytest.mark.parametrize("shape", [(1, 3, 15, 16), (1, 1, 16, 16), (3, 16, 16)])
    def test_other_images_are_refused(self, shape: tuple[int, ...]) -> None:
        network = NaturalManifoldDiscriminator(width=1)
        with pytest.raises(InputError, match=r"\(B, 3, H, W\) of 16 pixels a side or more, got"):
            network(torch.rand(shape))


def test_gray_images_have_a_discriminator_too() -> None:
    network = NaturalManifoldDiscriminator(width=1, colours=1)
    logit: Tensor = network(torch.rand(1, 1, 16, 16))
    assert logit.shape == (1, 1)
