"""Tiles cover the image once, and the tiled result equals the whole one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiling import run_tiled
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.ops.tiles import RowWindow, plan_axis, plan_tiles, tiled_bands

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
            assert span.stop - span.start <= min(tile, length)
            assert span.start == 0 or span.keep_start - span.start >= overlap
            assert span.stop == length or span.stop - span.keep_stop >= overlap
    for spans in (tiles.rows, tiles.columns):
        (side,) = {span.stop - span.start for span in spans}
        # a pixel less a tile, and so many would not do
        assert len(spans) == 1 or len(spans) * (side - 1) < spans[-1].stop + 2 * overlap * (
            len(spans) - 1
        )
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
    assert (first.columns.box, first.columns.crop(scale=2)) == (slice(0, 9), slice(0, 12))
    assert (second.columns.box, second.columns.crop(scale=2)) == (slice(4, 13), slice(4, 18))
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


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match=r"too small for an overlap of 4.*at least 9"):
        plan_tiles((100, 5), tile=8, overlap=4)
    with pytest.raises(InputError, match="overlap"):
        plan_tiles((10, 10), tile=8, overlap=-1)
    with pytest.raises(InputError, match="no tiles"):
        plan_tiles((0, 10), tile=8, overlap=1)
    with pytest.raises(InputError, match=r"must be \(8, 8\)"):
        run_tiled(nearest(3), torch.rand(1, 1, 4, 4), tile=8, overlap=1, scale=2)


def test_bands_arrive_one_by_one():
    grid = plan_tiles((16, 8), tile=8, overlap=1)
    lr = torch.rand(1, 1, 16, 8)
    read = 0

    def rows():
        nonlocal read
        for start in range(0, 16, 2):
            read = start + 2
            yield lr[..., start : start + 2, :]

    seen = []

    def network(part, tile):
        seen.append(tile)
        return nearest(2)(part)

    bands = tiled_bands(network, RowWindow(rows()), grid=grid, scale=2)
    first = next(bands)
    assert (seen, read) == ([next(iter(grid))], 8)
    assert torch.equal(first, nearest(2)(lr)[..., : 2 * grid.rows[0].keep_stop, :])
    assert torch.equal(torch.cat([first, *bands], dim=-2), nearest(2)(lr))
    assert seen == list(grid)


def test_a_thread_makes_the_next_tile_while_the_last_is_taken():
    lr = torch.rand(1, 1, 24, 16)
    grid = plan_tiles((24, 16), tile=8, overlap=1)
    begun, taken = threading.Semaphore(0), []

    def network(part, tile):
        begun.release()
        return nearest(2)(part)

    with ThreadPoolExecutor(1) as pool:
        window = RowWindow(iter([lr]))
        bands = []
        for band in tiled_bands(
            network, window, grid=grid, scale=2, pool=pool, on_tile=lambda: taken.append(1)
        ):
            bands.append(band)
            if len(bands) < len(grid.rows):  # the first of the next row is being made already
                for _ in range(len(grid.columns) + (len(bands) == 1)):
                    assert begun.acquire(timeout=10)
                assert len(taken) == len(bands) * len(grid.columns)
    assert torch.equal(torch.cat(bands, dim=-2), nearest(2)(lr))
    assert len(taken) == len(grid)


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
