"""Tiles cover the image once, and the tiled result equals the whole one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import iterate_tiles, measure_reach, plan_axis, plan_tiles, run_tiled

sizes = st.integers(1, 90)
overlaps = st.integers(0, 6)
cores = st.integers(1, 30)  # what a tile keeps between two overlaps


def nearest(scale: int):
    return lambda lr: lr.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


@settings(deadline=None)
@given(sizes, sizes, overlaps, cores)
def test_the_kept_parts_cover_each_pixel_once_with_context(height, width, overlap, core):
    tile = 2 * overlap + core
    seen = torch.zeros(height, width, dtype=torch.int)
    tiles = plan_tiles((height, width), tile=tile, overlap=overlap)
    for place in tiles:
        seen[place.rows.kept(), place.columns.kept()] += 1
        for span, length in ((place.rows, height), (place.columns, width)):
            assert span.stop - span.start == min(tile, length)
            assert span.start == 0 or span.keep_start - span.start >= overlap
            assert span.stop == length or span.stop - span.keep_stop >= overlap
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "count"),
    # By hand: the first and the last keep tile - overlap, those between tile - 2 overlap.
    [(10, 10, 2, 1), (11, 10, 2, 2), (16, 10, 2, 2), (17, 10, 2, 3), (22, 10, 2, 3), (9, 3, 0, 3)],
)
def test_no_more_tiles_than_needed(length, tile, overlap, count):
    assert len(plan_tiles((1, length), tile=tile, overlap=overlap)) == count
    assert len(plan_tiles((length, length), tile=tile, overlap=overlap)) == count**2


def test_a_plan_worked_out_by_hand():
    first, second = plan_tiles((5, 13), tile=10, overlap=2)
    assert (first.rows.box, first.rows.kept(scale=3)) == (slice(0, 5), slice(0, 15))
    assert (first.columns.box, first.columns.crop(scale=2)) == (slice(0, 10), slice(0, 12))
    assert (second.columns.box, second.columns.crop(scale=2)) == (slice(3, 13), slice(6, 20))
    assert (first.columns.kept(), second.columns.kept(scale=2)) == (slice(0, 6), slice(12, 26))


@settings(deadline=None)
@given(sizes, sizes, overlaps, cores, st.integers(1, 4))
def test_a_network_that_copies_returns_the_identical_image(height, width, overlap, core, scale):
    lr = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height + width))
    sr = run_tiled(nearest(scale), lr, tile=2 * overlap + core, overlap=overlap, scale=scale)
    assert torch.equal(sr, nearest(scale)(lr))


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


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(0, 3), cores, st.integers(1, 3))
@torch.inference_mode()
def test_tiled_equals_whole_when_the_overlap_covers_the_radius(height, width, more, core, scale):
    network = Convolutions(scale)
    overlap = network.radius + more
    lr = torch.rand(
        1, 2, height, width, generator=torch.Generator().manual_seed(7), dtype=torch.float64
    )
    sr = run_tiled(network, lr, tile=2 * overlap + core + 8, overlap=overlap, scale=scale)
    torch.testing.assert_close(sr, network(lr), rtol=0, atol=1e-14)


@torch.inference_mode()
def test_one_pixel_less_overlap_is_seen():
    network = Convolutions(2)
    lr = torch.rand(1, 2, 60, 60, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    whole = network(lr)
    exact = run_tiled(network, lr, tile=22, overlap=4, scale=2)
    short = run_tiled(network, lr, tile=20, overlap=3, scale=2)
    assert (exact - whole).abs().max() < 1e-14
    assert (short - whole).abs().max() > 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (2, 33)])
def test_thin_images(size):
    lr = torch.rand(1, 1, *size)
    assert torch.equal(run_tiled(nearest(2), lr, tile=16, overlap=3, scale=2), nearest(2)(lr))


def test_a_tile_larger_than_the_image_is_one_call_whatever_the_overlap():
    shapes = []

    def record(part: Tensor) -> Tensor:
        shapes.append(tuple(part.shape))
        return part

    run_tiled(record, torch.rand(1, 3, 9, 20), tile=20, overlap=50, scale=1)
    assert shapes == [(1, 3, 9, 20)]


def test_batches_types_and_other_channel_counts_are_kept():
    lr = torch.rand(2, 3, 20, 20).bfloat16()
    sr = run_tiled(lambda part: part[:, :1], lr, tile=8, overlap=1, scale=1)
    assert (sr.shape, sr.dtype) == ((2, 1, 20, 20), torch.bfloat16)
    assert torch.equal(sr, lr[:, :1])


def test_progress_counts_every_tile():
    calls = []
    run_tiled(
        nearest(1),
        torch.rand(1, 1, 12, 16),
        tile=8,
        overlap=2,
        scale=1,
        on_tile=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(done, 6) for done in range(1, 7)]


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match=r"too small for an overlap of 4.*at least 9"):
        plan_tiles((100, 5), tile=8, overlap=4)
    with pytest.raises(InputError, match="overlap"):
        plan_tiles((10, 10), tile=8, overlap=-1)
    with pytest.raises(InputError, match="no tiles"):
        plan_tiles((0, 10), tile=8, overlap=1)
    with pytest.raises(InputError, match=r"must be \(8, 8\)"):
        run_tiled(nearest(3), torch.rand(1, 1, 4, 4), tile=8, overlap=1, scale=2)


def test_parts_arrive_one_by_one():
    tiles = plan_tiles((8, 16), tile=8, overlap=1)
    parts = iterate_tiles(nearest(1), torch.rand(1, 1, 8, 16), tiles=tiles, scale=1)
    place, part = next(parts)
    assert place is tiles[0]
    assert part.shape == (1, 1, 8, place.columns.keep_stop)


class Blur(nn.Module):
    """A box over a radius: each pixel counts the same, so that the rest is known."""

    def __init__(self, radius: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.radius, self.gain = radius, gain

    def forward(self, lr: Tensor) -> Tensor:
        return functional.avg_pool2d(lr, 2 * self.radius + 1, 1, self.radius) * self.gain


def test_the_reach_of_a_box_is_known():
    lr = torch.rand(1, 1, 41, 41, dtype=torch.float64)
    for method in ("gradients", "perturbation"):
        assert measure_reach(Blur(5), lr, scale=1, bound=1e-9, method=method).radius == 5
    reach = measure_reach(Blur(5), lr, scale=1, bound=0.34)
    # 81 of 121 pixels lie within 4 of the middle: 40/121 = 0.3306 come from the ring of 5.
    assert reach.radius == 4
    assert reach.rest == pytest.approx(40 / 121)


def test_inverting_what_lies_beyond_never_does_more_than_the_gradients_say():
    lr = torch.rand(1, 1, 41, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    worst = measure_reach(Blur(5), lr, scale=1, bound=0.34)
    found = measure_reach(Blur(5), lr, scale=1, bound=0.34, method="perturbation")
    assert found.radius <= worst.radius
    beyond = measure_reach(
        Blur(5), torch.zeros_like(lr), scale=1, bound=0.34, method="perturbation"
    )
    assert beyond.rest == pytest.approx(40 / 121)  # all of it goes from 0 to 1


@pytest.mark.parametrize("scale", [1, 3])
def test_the_reach_of_a_network_is_at_most_its_radius(scale):
    network = Convolutions(scale).double()
    lr = torch.rand(1, 2, 40, 40, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    assert measure_reach(network, lr, scale=scale, bound=0.0).radius == network.radius
    assert measure_reach(network, lr, scale=scale, bound=0.3).radius < network.radius


def test_the_reach_of_interpolation():
    lr = torch.rand(1, 3, 30, 30, dtype=torch.float64)
    for method in ("gradients", "perturbation"):
        reach = measure_reach(lambda x: imresize(x, scale=2), lr, scale=2, bound=0.0, method=method)
        assert reach.radius == 2


def test_a_image_too_small_for_the_reach_is_refused():
    lr = torch.rand(1, 1, 30, 30)
    for method in ("gradients", "perturbation"):
        with pytest.raises(InputError, match="more than 11 pixels"):
            measure_reach(Blur(13), lr, scale=1, method=method)


def test_a_measurement_leaves_no_gradients():
    network = Convolutions(1)
    measure_reach(network, torch.rand(1, 2, 30, 30, dtype=torch.float64), scale=1)
    assert all(weight.grad is None for weight in network.parameters())


@settings(deadline=None)
@given(sizes, overlaps, st.integers(3, 30), st.integers(2, 4))
def test_spans_begin_and_end_at_multiples_and_cover_the_axis(length, overlap, core, multiple):
    tile = 2 * multiple * (overlap + 1) + multiple * core
    spans = plan_axis(length, tile=tile, overlap=overlap, multiple=multiple)
    kept = [pixel for span in spans for pixel in range(span.keep_start, span.keep_stop)]
    assert kept == list(range(length))
    for span in spans:
        assert span.start % multiple == 0
        assert span.stop % multiple == 0 or span.stop == length
        assert span.stop - span.start <= tile
        assert span.keep_start - span.start >= overlap or span.start == 0
        assert span.stop - span.keep_stop >= overlap or span.stop == length


@pytest.mark.parametrize("size", [(40, 33), (39, 40)])
def test_a_network_that_looks_at_groups_of_pixels_is_tiled_without_seams(size):
    def means(lr: Tensor) -> Tensor:  # each pixel becomes the mean of its group of 2 x 2
        height, width = lr.shape[-2:]
        padded = functional.pad(lr, (0, width % 2, 0, height % 2), mode="replicate")
        mean = functional.avg_pool2d(padded, 2)
        return nearest(2)(mean)[..., :height, :width]

    lr = torch.rand(1, 3, *size)
    tiled = run_tiled(means, lr, tile=11, overlap=2, scale=1, multiple=2)
    torch.testing.assert_close(tiled, means(lr))
    assert not torch.allclose(run_tiled(means, lr, tile=11, overlap=2, scale=1), means(lr))
