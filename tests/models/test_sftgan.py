"""SFTGAN: counts, closed forms, what the map does, what is said without one, reach, tiles."""

import logging
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tests.tiling import run_tiled
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import SFTGAN, parameter_count
from edgekeeper.models.sftgan import CATEGORIES, SFT, Block, Variant


def tiny(scale: int = 4, variant: Variant = "pytorch", blocks: int = 2) -> SFTGAN:
    torch.manual_seed(scale)
    return SFTGAN(scale=scale, width=8, blocks=blocks, condition=4, hidden=6, variant=variant)


CASES: dict[str, Callable[[], SFTGAN]] = {
    "x2": lambda: tiny(2),
    "x3": lambda: tiny(3),
    "x4": lambda: tiny(4),
    "x2_torch": lambda: tiny(2, "torch"),
    "x3_torch": lambda: tiny(3, "torch"),
    "x4_torch": lambda: tiny(4, "torch"),
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> SFTGAN:
    return CASES[request.param]().double().eval()


def images(*size: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.rand(batch, 3, *size, generator=generator, dtype=torch.float64)


def some_map(lr: Tensor, *, scale: int) -> Tensor:
    """A map of random probabilities."""
    generator = torch.Generator().manual_seed(3)
    size = (lr.shape[0], 8, scale * lr.shape[2], scale * lr.shape[3])
    return torch.randn(size, generator=generator, dtype=lr.dtype).mul(3).softmax(dim=1)


# (scale, variant) -> parameters. x4 was counted on BasicSR's modules. x2 has one enlargement less
# (64 to 256 maps, or 64 to 64) and 8 · 128 · (16 - 4) weights less in the condition network; x3
# one less, 8 · 128 · (16 - 9) weights less there and, with a pixel shuffle, 576 maps for 256.
COUNTS: dict[tuple[int, Variant], int] = {
    (4, "pytorch"): 1_833_763,
    (4, "torch"): 1_612_195,
    (2, "pytorch"): 1_833_763 - 147_712 - 12_288,
    (2, "torch"): 1_612_195 - 36_928 - 12_288,
    (3, "pytorch"): 1_833_763 - 2 * 147_712 + 577 * 576 - 7_168,
    (3, "torch"): 1_612_195 - 36_928 - 7_168,
}


@pytest.mark.parametrize(("scale", "variant"), COUNTS)
def test_parameters(scale: int, variant: Variant) -> None:
    with torch.device("meta"):
        network = SFTGAN(scale=scale, variant=variant)
    assert parameter_count(network) == COUNTS[scale, variant]


@pytest.mark.parametrize("variant", ["pytorch", "torch"])
def test_multiply_accumulates(variant: Variant) -> None:
    with torch.device("meta"):
        network, lr = SFTGAN(variant=variant), torch.zeros(1, 3, 8, 8)
        maps = torch.empty(1, 8, 32, 32)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.with_conditions(lr, maps)
    assert counter.get_total_flops() / 2 / 64 == 2_845_376
    assert network.receptive_field == network.overlap == 36


def test_an_sft_multiplies_and_shifts_by_what_the_condition_says() -> None:
    torch.manual_seed(1)
    maps, condition = torch.rand(2, 5, 3, 4), torch.rand(2, 3, 3, 4)
    for variant, slope, plus in (("pytorch", 0.1, 1.0), ("torch", 0.01, 0.0)):
        sft = SFT(5, condition=3, variant=variant)  # type: ignore[arg-type]
        made = []
        for layers in (sft.scale, sft.shift):
            first, _, second = layers
            at_pixel = torch.einsum("oi,bihw->bohw", first.weight[:, :, 0, 0], condition)
            at_pixel = at_pixel + first.bias.view(1, -1, 1, 1)
            at_pixel = torch.where(at_pixel < 0, slope * at_pixel, at_pixel)
            at_pixel = torch.einsum("oi,bihw->bohw", second.weight[:, :, 0, 0], at_pixel)
            made.append(at_pixel + second.bias.view(1, -1, 1, 1))
        torch.testing.assert_close(sft(maps, condition), maps * (made[0] + plus) + made[1])


def test_where_the_relu_of_a_block_stands() -> None:
    torch.manual_seed(2)
    x, condition = torch.randn(1, 4, 3, 3), torch.randn(1, 3, 3, 3)
    ours, theirs = (Block(4, condition=3, variant=v) for v in ("pytorch", "torch"))
    for block in (ours, theirs):
        with torch.no_grad():
            for sft in (block.sft1, block.sft2):  # factors of 1, no shift
                for name, parameter in sft.named_parameters():
                    one = name == "scale.2.bias" and block.variant == "torch"
                    parameter.fill_(1.0 if one else 0.0)

    def conv(block: Block, number: int, maps: Tensor) -> Tensor:
        layer = block.conv1 if number == 1 else block.conv2
        return F.conv2d(maps, layer.weight, layer.bias, padding=1)

    torch.testing.assert_close(ours(x, condition), x + conv(ours, 2, conv(ours, 1, x).clamp(min=0)))
    torch.testing.assert_close(
        theirs(x, condition), x + conv(theirs, 2, conv(theirs, 1, x.clamp(min=0)).clamp(min=0))
    )


def test_the_factors_of_the_torch_form_start_around_one() -> None:
    torch.manual_seed(3)
    sft = SFT(64, condition=32, variant="torch")
    assert torch.equal(sft.scale[-1].bias, torch.ones(64))
    factors = sft.scale(torch.zeros(1, 32, 1, 1))
    assert (factors - 1).abs().max() < 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 7)])
def test_any_size_is_enlarged(model: SFTGAN, size: tuple[int, int]) -> None:
    lr = images(*size, batch=2)
    for sr in (model(lr), model.with_conditions(lr, some_map(lr, scale=model.scale))):
        assert sr.shape == (2, 3, model.scale * size[0], model.scale * size[1])
        assert sr.isfinite().all()


def test_no_map_is_the_uniform_map(model: SFTGAN) -> None:
    lr = images(5, 4, batch=2)
    uniform = torch.full((2, 8, 5 * model.scale, 4 * model.scale), 0.125, dtype=torch.float64)
    assert torch.equal(model.constant_map(lr), uniform)
    torch.testing.assert_close(model(lr), model.with_conditions(lr, uniform), rtol=0, atol=1e-12)


def test_a_map_changes_the_image_where_it_is_and_no_further(model: SFTGAN) -> None:
    lr = images(40, 2)
    maps = model.constant_map(lr).clone()
    row = 20 * model.scale
    maps[:, :, row] = maps.new_tensor([0, 0, 0, 0, 0, 1, 0, 0]).view(1, 8, 1)
    changed = (model.with_conditions(lr, maps) != model(lr)).any(dim=3).any(dim=1)[0]
    rows = changed.nonzero().flatten() // model.scale
    assert 20 in rows
    assert 1 < (rows - 20).abs().max() <= model.receptive_field


def test_one_map_serves_a_batch(model: SFTGAN) -> None:
    lr = images(3, 4, batch=2)
    one = some_map(lr[:1], scale=model.scale)
    torch.testing.assert_close(
        model.with_conditions(lr, one), model.with_conditions(lr, one.repeat(2, 1, 1, 1))
    )


def test_each_category_gives_another_image() -> None:
    network, lr = tiny().double(), images(3, 3)
    maps = torch.eye(len(CATEGORIES), dtype=torch.float64)[:, :, None, None].expand(-1, -1, 12, 12)
    found = network.with_conditions(lr.expand(len(CATEGORIES), -1, -1, -1), maps)
    assert len({tuple(one.flatten().tolist()) for one in found}) == len(CATEGORIES)


def test_gradients_reach_the_modulation_with_and_without_a_map(model: SFTGAN) -> None:
    lr = images(4, 4)
    maps = some_map(lr, scale=model.scale)
    for run in (model, lambda lr: model.with_conditions(lr, maps)):
        model.zero_grad()
        run(lr).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_a_gradient_reaches_the_map() -> None:
    network, lr = tiny().double(), images(3, 3)
    maps = some_map(lr, scale=4).requires_grad_()
    network.with_conditions(lr, maps).sum().backward()
    assert maps.grad is not None and (maps.grad.abs().amax(dim=(0, 1)) > 0).all()


def test_it_says_once_that_there_is_no_map(caplog: pytest.LogCaptureFixture) -> None:
    network, lr = tiny().double(), images(3, 3)
    with caplog.at_level(logging.WARNING, logger="edgekeeper.models.sftgan"):
        network.with_conditions(lr, some_map(lr, scale=4))
        assert not caplog.records
        network(lr)
        network.features(lr)
        tiny()  # another that is not used
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    said = record.getMessage()
    assert "no map of categories and takes all 8 as equally probable" in said
    assert "with_conditions(lr, maps)" in said


Change = Callable[[Tensor], Tensor]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m[:, :7], r"must be floats \(2 or 1, 8, 12, 16\).*got \(2, 7, 12, 16\)"),
        (lambda m: m[..., ::4, ::4], r"\(2 or 1, 8, 12, 16\).*got \(2, 8, 3, 4\)"),
        (lambda m: m[0], r"background, sky, .* at each HR pixel; got \(8, 12, 16\)"),
        (lambda m: m.repeat(2, 1, 1, 1), r"got \(4, 8, 12, 16\)"),
        (lambda m: m.argmax(dim=1, keepdim=True), r"got \(2, 1, 12, 16\) of torch.int64"),
        (lambda m: (m > 0).long(), r"got \(2, 8, 12, 16\) of torch.int64"),
        (lambda m: 2 * m, r"sum to 2 up to 2, .*logits.softmax\(dim=1\)"),
        (lambda m: 0.9 * m, r"sum to 0\.9 up to 0\.9"),
        (lambda m: m.log(), r"must be 0 or more and sum to 1.*the least is -"),
        (lambda m: m * float("nan"), r"sum to nan up to nan"),
    ],
)
def test_what_is_no_map_is_refused(change: Change, sentence: str) -> None:
    network, lr = tiny().double(), images(3, 4, batch=2)
    with pytest.raises(InputError, match=sentence):
        network.with_conditions(lr, change(some_map(lr, scale=4)))


def test_a_map_from_eight_bits_or_half_precision_will_do() -> None:
    network, lr = tiny(), images(3, 4).float()
    exact = some_map(lr, scale=4)
    whole = network.with_conditions(lr, exact)
    for rounded in (exact.half(), exact.mul(255).round() / 255):
        sr = network.with_conditions(lr, rounded)
        assert sr.dtype == torch.float32
        torch.testing.assert_close(sr, whole, rtol=0, atol=0.01)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="SFTGAN has no scale 8; choose one of 2, 3, 4"):
        SFTGAN(scale=8)
    with pytest.raises(InputError, match="variant is one of pytorch, torch; got 'caffe'"):
        SFTGAN(variant="caffe")  # type: ignore[arg-type]


def farthest(network: SFTGAN, *, centre: int, side: int) -> int:
    """How many LR rows away a row can change the SR rows of row ``centre``."""
    with torch.no_grad():  # positive, so that nothing cancels
        for parameter in network.parameters():
            positive = parameter.abs() + 0.01 if parameter.ndim > 1 else parameter * 0 + 0.1
            parameter.copy_(positive / positive[0].sum() if parameter.ndim > 1 else positive)
    lr = torch.ones(1, 3, side, 4, dtype=torch.float64).requires_grad_()
    rows = network(lr)[:, :, centre * network.scale : (centre + 1) * network.scale]
    (gradient,) = torch.autograd.grad(rows.sum(), lr)
    return int((gradient.sum((0, 1, 3)).nonzero().flatten() - centre).abs().max())


def test_the_receptive_field_is_as_stated(model: SFTGAN) -> None:
    radius = model.receptive_field
    assert farthest(model, centre=radius + 2, side=2 * radius + 4) == radius


def test_tiles_equal_the_whole_image(model: SFTGAN) -> None:
    lr = images(6, 40)
    tile, overlap, scale = 2 * model.overlap + 5, model.overlap, model.scale
    with torch.no_grad():
        tiled = run_tiled(model, lr, tile=tile, overlap=overlap, scale=scale)
        torch.testing.assert_close(tiled, model(lr), rtol=0, atol=1e-12)
        # and with the map cut at scale times the places
        maps = some_map(lr, scale=scale)
        whole = model.with_conditions(lr, maps)
        place = slice(7 * scale, (7 + tile) * scale)
        part = model.with_conditions(lr[..., 7 : 7 + tile], maps[..., place])
        kept = part[..., overlap * scale : (overlap + 5) * scale]
        start = (7 + overlap) * scale
        torch.testing.assert_close(kept, whole[..., start : start + 5 * scale], rtol=0, atol=1e-12)
