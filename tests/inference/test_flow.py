"""Images through the whole flow: any size, several passes, alpha, bands, memory."""

import functools
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekeeper import upscale
from edgekeeper.errors import InputError
from edgekeeper.image import Header, Image, alpha_tensor, from_tensor, to_rgb_tensor, to_tensor
from edgekeeper.inference import Networks, Request, flow, upscale_image
from edgekeeper.inference.images import Collector, image_parts
from edgekeeper.inference.network import TileError, infer
from edgekeeper.models import ESPCN
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import tile_side


def several(kind) -> Networks:
    return Networks(factors=(2, 3, 4), load=functools.cache(lambda factor: kind(scale=factor)))


@pytest.fixture
def networks(wavy) -> Networks:
    return several(wavy)


def upscaled(image: Image, **asked) -> Image:
    return upscale_image(image, Request(**asked)).image


def levels(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("factor", [0.4, 1, 1.5, 2, 2.7, 3, 5.3, 6])
@pytest.mark.parametrize("tile", [16, "auto"])
def test_any_factor_is_the_passes_and_one_exact_resize(factor, tile, networks, wavy, image):
    small = image(size=(24, 37))
    result = upscaled(small, model=networks, scale=factor, tile=tile)
    expected = to_rgb_tensor(small)
    passes = {0.4: (), 1: (), 1.5: (2,), 2: (2,), 2.7: (3,), 3: (3,), 5.3: (2, 3), 6: (2, 3)}
    for scale in passes[factor]:
        expected = infer(wavy(scale=scale), expected)
    size = tuple(int(side * factor + 0.5) for side in (24, 37))
    expected = imresize(expected, size=size).clamp(0, 1)
    assert levels(result.pixels, from_tensor(expected)) <= 1
    assert result.metadata == small.metadata
    if factor == 1:
        np.testing.assert_array_equal(result.pixels, small.pixels)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", [False, True])
def test_depth_colours_and_alpha_are_kept_at_any_factor(colours, dtype, alpha, networks, image):
    small = image(colours=colours, dtype=dtype, alpha=alpha)
    result = upscaled(small, model=networks, width=77, tile=16)
    assert result.pixels.shape == (49, 77, colours)
    assert result.pixels.dtype == dtype
    assert (result.alpha is not None) == alpha


@pytest.mark.parametrize("factor", [0.5, 1.7, 2, 6])
def test_alpha_is_one_exact_resize_whatever_the_passes(factor, networks, image):
    small = image(alpha=True, size=(70, 30))
    result = upscaled(small, model=networks, scale=factor, tile=24)
    assert result.alpha is not None
    expected = imresize(alpha_tensor(small), size=result.alpha.shape)
    assert levels(result.alpha, from_tensor(expected)[..., 0]) <= 1


def test_grey_through_a_colour_network_is_its_luma(networks, wavy, image):
    small = image(colours=1, dtype=np.uint16)
    result = upscaled(small, model=networks, scale=2, tile=16)
    rgb = infer(wavy(scale=2), to_tensor(small).expand(-1, 3, -1, -1), clamp="none")
    weights = torch.tensor([65.481, 128.553, 24.966]).view(3, 1, 1) / 219  # BT.601
    expected = (rgb * weights).sum(1, keepdim=True)
    assert levels(result.pixels, from_tensor(expected, depth=16)) <= 2


def test_alpha_with_holes_is_filled_alike_in_tiles_and_whole(wavy, image):
    small = image(size=(200, 150), alpha=True)
    alpha = np.where(np.random.default_rng(1).random((200, 150)) < 0.99, 0, small.alpha)
    hollow = Image(pixels=small.pixels, alpha=alpha.astype(np.uint8))
    tiled = upscaled(hollow, model=wavy(), tile=32)
    whole = upscaled(hollow, model=wavy(), tile=1000)
    assert levels(tiled.pixels, whole.pixels) <= 1
    np.testing.assert_array_equal(tiled.alpha, whole.alpha)


@pytest.mark.parametrize("factor", [2, 3, 4.5])
@pytest.mark.parametrize("behind", [0.0, 1.0])
def test_a_red_disc_has_no_rim(factor, behind, nearest):
    class Bicubic(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            return imresize(lr, scale=self.scale)

    rows_, columns = np.mgrid[:40, :40]
    distance = np.hypot(rows_ - 20, columns - 22)
    coverage = np.clip(12.5 - distance, 0, 1)[..., None]
    pixels = np.where(coverage > 0, [230, 20, 20], 0).astype(np.uint8)
    alpha = np.rint(coverage[..., 0] * 255).astype(np.uint8)
    networks = several(Bicubic)
    result = upscaled(Image(pixels=pixels, alpha=alpha), model=networks, scale=factor, tile=16)
    seen = result.alpha[..., None] / 255
    after = result.pixels / 255 * seen + behind * (1 - seen)
    before = pixels / 255 * (alpha[..., None] / 255) + behind * (1 - alpha[..., None] / 255)
    reference = imresize(torch.from_numpy(before).permute(2, 0, 1)[None], size=after.shape[:2])
    reference = reference[0].permute(1, 2, 0).numpy()
    # Interpolation rings beyond both colours where alpha ends at 0 and 1.
    red = np.array([230, 20, 20]) / 255
    reference = np.clip(reference, np.minimum(red, behind), np.maximum(red, behind))
    # What was composed first and then enlarged looks the same: no dark rim, no light one.
    assert np.abs(after - reference).max() < 2 / 255


def test_bands_are_low_where_the_image_is_wide(wavy, image, monkeypatch):
    wide = image(size=(60, 64))
    whole = upscaled(wide, model=wavy(), tile=64)
    monkeypatch.setattr(flow, "BAND_BYTES", 64 * 4 * 3 * 4 * 10)  # ten LR rows, enlarged
    heights, original = [], flow.to_rows

    def watched(bands, header):
        def noted():
            for band in bands:
                heights.append(band.shape[-2])
                yield band

        return original(noted(), header)

    monkeypatch.setattr(flow, "to_rows", watched)
    low = upscaled(wide, model=wavy(), tile=64)
    assert levels(low.pixels, whole.pixels) <= 1
    assert len(heights) > 4
    assert max(heights) <= 2 * (10 + 3)  # the first and the last keep their border
    assert sum(heights) == 120


@pytest.mark.parametrize("alpha", [False, True])
def test_no_more_is_read_than_the_next_tiles_need(alpha, networks, image):
    """Rows read and not yet written stay the same in number however high the image is."""
    small = image(size=(2000, 6), alpha=alpha)
    read = written = most = 0

    def counted():
        nonlocal read
        for part in image_parts(small):
            if isinstance(part, Header):
                yield part
                continue
            for start in range(0, len(part), 10):
                read += len(part[start : start + 10])
                yield part[start : start + 10]

    class Counter(Collector):
        def write(self, rows):
            nonlocal written, most
            most = max(most, read - written / 2.5)
            super().write(rows)
            written += len(rows)

    sinks = []

    def open_sink(header):
        sinks.append(Counter(header))
        return nullcontext(sinks[0])

    request = Request(model=networks, scale=2.5, tile=30)
    flow.run(counted, open_sink, request=request, look=lambda: pytest.fail("looked at"))
    assert written == 5000
    # Two tiles, of which a thread makes one, and their context, the window of the last resize, and
    # with alpha two blocks to fill.
    assert most <= 2 * 30 + 10 + 64 / 2.5 + 10 + alpha * 3 * 64
    expected = upscaled(small, model=networks, scale=2.5)
    assert levels(sinks[0].image().pixels, expected.pixels) <= 1


def test_tiles_of_all_passes_are_counted(networks, image):
    calls = []
    upscale_image(
        image(size=(20, 20)),
        Request(model=networks, scale=6, tile=20),
        on_tile=lambda done, total: calls.append((done, total)),
    )
    total = calls[0][1]
    assert calls == [(done, total) for done in range(1, total + 1)]
    assert total == 1 + 9


def test_memory_running_out_in_a_later_pass_halves_all_tiles(nearest, image):
    made = {2: nearest(scale=2), 3: nearest(scale=3, memory=500)}
    networks = Networks(factors=(2, 3), load=made.__getitem__)
    result = upscale_image(image(size=(30, 30)), Request(model=networks, scale=6))
    assert made[3].seen[:4] == [(60, 60), (23, 23), (23, 23), (14, 14)]  # one is made ahead
    assert result.notes == ("Memory ran out; the image was made in tiles of 7 pixels.",)
    assert result.tile == 7


def test_memory_running_out_before_the_first_tile_is_told(image):
    def spent(*_):
        raise MemoryError

    networks = Networks(factors=(2,), load=spent)
    for source in (lambda: (spent() for _ in "a"), lambda: image_parts(image())):
        with pytest.raises(TileError, match="The image needs more memory than there is"):
            flow.run(source, spent, request=Request(model=networks), look=spent)


def test_a_result_says_how_it_was_made(networks, image):
    request = Request(model=networks, scale=5, ensemble=True, consistent=True)
    result = upscale_image(image(), request)
    assert result.image.pixels.shape == (105, 165, 3)
    assert (result.source_size, result.size) == ((21, 33), (105, 165))
    assert result.precision == "float32"
    assert 0 < result.network_seconds < result.seconds
    assert result.drift.after < result.drift.before


def test_an_image_that_no_network_sees(networks, image):
    result = upscale_image(image(), Request(model=networks, scale=0.5))
    assert (result.precision, result.tile, result.network_seconds) == (None, 0, 0)


def test_a_network_that_makes_another_size_is_refused(nearest, image):
    class Liar(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            return super().forward(lr)[..., 1:]

    with pytest.raises(InputError, match=r"must be \(42, 66\)"):
        upscaled(image(), model=Liar())


class TestUpscale:
    def test_a_tensor(self, wavy, generator):
        lr = torch.rand(2, 3, 9, 11, generator=generator)
        model = wavy(scale=2)
        exact = {"model": model, "precision": "float32"}
        torch.testing.assert_close(upscale(lr, **exact), infer(model, lr))
        expected = imresize(infer(model, lr), size=(14, 17)).clamp(0, 1)
        torch.testing.assert_close(upscale(lr, scale=1.5, **exact), expected)
        assert upscale(lr, scale=6, model=model).shape == (2, 3, 54, 66)
        assert upscale(lr, scale=0.5, model=model).shape == (2, 3, 5, 6)
        for scale in (0.5, 2):
            with pytest.raises(InputError, match="grey or RGB, then alpha"):
                upscale(torch.cat([lr, lr], dim=1), scale=scale, model=model)

    def test_a_image_and_the_networks_that_ship(self, image):
        small = image(size=(8, 9))
        assert upscale(small).pixels.shape == (32, 36, 3)
        assert upscale(small, scale=2.5, style="sharp").pixels.shape == (20, 23, 3)
        assert upscale(small, model="espcn_x3").pixels.shape == (24, 27, 3)
        assert upscale(small, model="espcn_x3", scale=2).pixels.shape == (16, 18, 3)


class TestTileSide:
    def test_it_is_smaller_when_memory_is_short(self, monkeypatch):
        cpu = torch.device("cpu")
        size, sides = (4000, 4000), []
        for free in (2**40, 2**34, 2**30, 2**28, 0):
            monkeypatch.setattr("edgekeeper.ops.tiles.free_bytes", lambda _, free=free: free)
            sides.append(tile_side("auto", overlap=16, size=size, device=cpu))
        assert sides[0] == sides[1] == 384
        assert sides == sorted(sides, reverse=True)
        assert sides[-1] >= 3 * 16
        assert len(set(sides)) >= 3

    def test_it_is_not_larger_than_the_image(self):
        assert tile_side("auto", overlap=4, size=(10, 30), device=torch.device("cpu")) == 30
        assert tile_side(100, overlap=4, size=(10, 30), device=torch.device("cpu")) == 30


def test_small_networks_of_the_package_in_tiles_and_whole(image):
    torch.manual_seed(0)
    small = image(size=(40, 60))
    model = ESPCN(scale=2).eval()
    with torch.no_grad():
        model.conv3.weight.mul_(100)
    tiled = upscaled(small, model=model, tile=24)
    assert levels(tiled.pixels, from_tensor(infer(model, to_rgb_tensor(small)))) <= 1
