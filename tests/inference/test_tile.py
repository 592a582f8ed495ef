"""One tile: symmetries, consistency, precision, and what is wrong with a result."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekeeper.image import colour_difference
from edgekeeper.inference import choose
from edgekeeper.inference.network import TileError, TileRunner, infer, mean_of_eight, tile_overlap
from edgekeeper.models import SRModel
from edgekeeper.ops.resize import imresize


@pytest.fixture
def tile(generator: torch.Generator) -> Tensor:
    noise = torch.rand(1, 3, 12, 16, generator=generator)
    return imresize(noise, size=(24, 32)).clamp(0, 1)


def test_a_tile_is_what_infer_gives(wavy, tile):
    model = wavy()
    result = TileRunner(model)(tile)
    torch.testing.assert_close(result, infer(model, tile), atol=1e-6, rtol=0)
    assert model.training  # the caller's network is as it was


def test_grey_stays_grey_and_keeps_its_range(nearest):
    grey = torch.linspace(0, 1, 30).reshape(1, 1, 5, 6)
    result = TileRunner(nearest(scale=1))(grey)
    torch.testing.assert_close(result, grey, atol=1e-6, rtol=0)


def test_eight_symmetries(wavy, tile):
    model = wavy()
    eight = TileRunner(model, ensemble=True)
    result = eight(tile)
    assert float((result - infer(model, tile)).abs().max()) > 1e-3
    turned = eight(tile.transpose(-2, -1).flip(-1))
    torch.testing.assert_close(turned, result.transpose(-2, -1).flip(-1), atol=1e-5, rtol=0)


def test_eight_symmetries_of_what_treats_directions_alike(nearest, tile):
    result = TileRunner(nearest(scale=3), ensemble=True)(tile)
    torch.testing.assert_close(result, nearest(scale=3)(tile), atol=1e-6, rtol=0)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("scale", [2, 4])
def test_a_consistent_result_gives_the_image_back(wavy, tile, scale, colours):
    tile = tile[:, :colours]
    model = wavy(scale=scale, strength=0.05)

    def drift(*, consistent: bool) -> float:
        small = imresize(TileRunner(model, consistent=consistent)(tile), size=(24, 32))
        return float((small - tile).abs().mean()) * 255

    assert drift(consistent=False) > 2
    assert drift(consistent=True) < 0.5


def test_the_drift_is_told_before_and_after(wavy, tile):
    runner = TileRunner(wavy(strength=0.05), consistent=True)
    plain = imresize(TileRunner(wavy(strength=0.05))(tile), size=(24, 32))
    result = imresize(runner(tile), size=(24, 32))
    told = runner.drift
    assert told is not None
    for value, small in ((told.before, plain), (told.after, result)):
        expected = colour_difference(small, tile)
        assert value == pytest.approx(expected, rel=1e-3)
    assert told.after < told.before / 4
    assert TileRunner(wavy()).drift is None


def test_the_drift_is_the_mean_over_all_tiles(wavy, tile):
    runner = TileRunner(wavy(strength=0.05), consistent=True)
    runner(tile)
    alone = runner.drift
    for _ in range(3):
        runner(tile)
    assert runner.drift.after == pytest.approx(alone.after)


def test_the_context_is_the_network_s_and_more_where_more_is_looked_at(nearest):
    assert tile_overlap(nearest(receptive_field=7)) == 7
    assert tile_overlap(nearest()) == 2
    assert tile_overlap(nearest(receptive_field=7), consistent=True) == 7 + 20


class Odd(SRModel):
    """Gives ``wrong`` in bfloat16, or everywhere; in float32 twice the size."""

    scale, channels, receptive_field = 2, "rgb", 0

    def __init__(self, wrong: float, *, everywhere: bool = False) -> None:
        super().__init__()
        self.wrong, self.everywhere = wrong, everywhere
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, lr: Tensor) -> Tensor:
        large = lr.repeat_interleave(2, -2).repeat_interleave(2, -1)
        reduced = torch.is_autocast_enabled("cpu")
        return torch.full_like(large, self.wrong) if reduced or self.everywhere else large


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_a_tile_that_fails_in_bfloat16_is_done_in_float32(wrong, tile):
    runner = TileRunner(Odd(wrong), precision="bfloat16")
    torch.testing.assert_close(runner(tile), infer(Odd(wrong), tile))
    runner(tile)
    assert list(runner.notes) == ["A tile that failed in bfloat16 was done again in float32."]


def test_black_may_become_black(tile):
    runner = TileRunner(Odd(0.0), precision="bfloat16")
    assert runner(tile * 0.02).abs().max() == 0
    assert not runner.notes


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_in_float32_are_an_error(wrong, tile):
    for reduced in ("float32", "bfloat16"):
        runner = TileRunner(Odd(wrong, everywhere=True), precision=reduced)
        with pytest.raises(TileError, match="not finite"):
            runner(tile)


def test_one_value_that_is_not_finite_is_enough(wavy, tile):
    class Spotted(wavy):
        def forward(self, lr: Tensor) -> Tensor:
            result = super().forward(lr)
            result[0, 1, 2, 3] = torch.nan
            return result

    with pytest.raises(TileError, match="not finite"):
        TileRunner(Spotted())(tile)


def settled(model: SRModel, tile: Tensor) -> TileRunner:
    runner = TileRunner(model, precision="auto")
    choose.probe_runtime(runner, tile.shape[-2:])
    return runner


class TestAutomaticPrecision:
    @pytest.fixture(autouse=True)
    def fast(self, monkeypatch):
        monkeypatch.setattr(choose, "bfloat16_is_fast", lambda device: True)

    def test_bfloat16_where_it_is_good_enough(self, wavy, tile):
        runner = settled(wavy(), tile)
        runner(tile)
        assert runner.precision == "bfloat16"
        assert not runner.notes

    def test_float32_and_a_note_where_it_is_not(self, wavy, tile):
        class Amplified(wavy):
            def forward(self, lr: Tensor) -> Tensor:
                return (self.layers(lr) - self.layers(lr + 1e-3)) * 100 + 0.5

        runner = settled(Amplified(), tile)
        result = runner(tile)
        assert runner.precision == "float32"
        assert len(runner.notes) == 1
        assert "In bfloat16 this network differs by" in next(iter(runner.notes))
        torch.testing.assert_close(result, infer(Amplified(), tile), atol=2e-3, rtol=0)

    def test_float32_where_bfloat16_is_not_finite(self, tile):
        runner = settled(Odd(np.nan), tile)
        runner(tile)
        assert runner.precision == "float32"
        assert "not finite in bfloat16" in next(iter(runner.notes))

    def test_a_network_is_tried_once_until_its_weights_change(self, wavy, tile, monkeypatch):
        calls = []

        def counted(model, lr, *, precision="float32", **rest):
            calls.append(precision)
            return infer(model, lr, precision=precision, **rest)

        monkeypatch.setattr(choose, "infer", counted)
        model = wavy().eval()
        for _ in range(3):
            settled(model, tile)(tile)
        assert calls == ["float32", "bfloat16"]
        with torch.no_grad():
            model.layers[0].weight.mul_(1.1)
        settled(model, tile)(tile)
        assert calls == ["float32", "bfloat16"] * 2

    def test_what_torch_does_not_compute_stays_float32(self, nearest, tile):
        runner = settled(nearest(), tile)
        runner(tile)
        assert runner.precision == "float32"
        assert len(runner.model.seen) == 1
        assert not runner.notes


def test_without_bfloat16_in_the_processor_it_is_float32(wavy, tile, monkeypatch):
    monkeypatch.setattr(choose, "cpu_capabilities", lambda: {"avx2": True, "avx512_f": True})
    runner = settled(wavy(), tile)
    runner(tile)
    assert runner.precision == "float32"
    assert not runner.notes
    for flag in ("avx512_bf16", "amx_bf16"):
        monkeypatch.setattr(choose, "cpu_capabilities", lambda flag=flag: {flag: True})
        assert choose.bfloat16_is_fast(torch.device("cpu"))


# ---- The mean over the eight symmetries ----------------------------------------------------------


def noise(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(2, 3, 9, 14, generator=generator)


def test_a_function_that_treats_directions_alike_is_unchanged(generator: torch.Generator) -> None:
    x = noise(generator)
    before = x.clone()
    torch.testing.assert_close(mean_of_eight(lambda y: y, x), x, atol=3e-7, rtol=0)
    large = mean_of_eight(lambda y: imresize(y, scale=3), x)
    torch.testing.assert_close(large, imresize(x, scale=3), atol=2e-6, rtol=0)
    assert torch.equal(x, before)


def test_the_eight_symmetries_are_all_different_and_each_taken_once() -> None:
    seen = []

    def record(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(map(tuple, x[0, 0].tolist())))
        return x

    mean_of_eight(record, torch.arange(6.0).reshape(1, 1, 2, 3))
    assert len(set(seen)) == len(seen) == 8


def test_any_function_becomes_equivariant(generator: torch.Generator) -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False)
    x = noise(generator)
    result = mean_of_eight(conv, x)
    assert (conv(x) - result).abs().max() > 0.01
    for turn in (lambda y: y.flip(-1), lambda y: y.flip(-2), lambda y: y.transpose(-2, -1)):
        torch.testing.assert_close(mean_of_eight(conv, turn(x)), turn(result), atol=1e-6, rtol=0)
