"""From file to larger file: nothing of the image is lost, and one bad file harms no other."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import Image, Metadata, from_tensor, read_image, to_rgb_tensor, write_image
from edgekeeper.inference import Request, Step, upscale_file, upscale_files, upscale_image
from edgekeeper.inference.network import infer
from edgekeeper.ops.resize import imresize


@pytest.fixture
def broken(nearest):
    """Gives NaN where the image is white: as a damaged network, on some images only."""

    class Broken(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            return torch.where(super().forward(lr) < 1, super().forward(lr), torch.nan)

    return Broken


def upscaled(image: Image, *, on_tile=None, **asked) -> Image:
    return upscale_image(image, Request(**asked), on_tile=on_tile).image


def folder_results(source: Path, target: Path, *, on_step=None, **asked):
    return upscale_files(Request(sources=(source,), output=target, **asked), on_step=on_step)


def repeat(samples: np.ndarray, scale: int) -> np.ndarray:
    return samples.repeat(scale, axis=0).repeat(scale, axis=1)


def random_image(*, size=(21, 33), channels=3, dtype=np.uint8, alpha=False) -> Image:
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    return Image(
        pixels=rng.integers(0, top, (*size, channels), dtype=dtype, endpoint=True),
        alpha=np.full(size, top, dtype) if alpha else None,
        metadata=Metadata(icc=b"profile", exif=b"exif", xmp=b"xmp", pixels_per_mm=(3, 4)),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("network", ["rgb", "y"])
def test_depth_colours_alpha_and_metadata_are_kept(dtype, channels, alpha, network, nearest):
    image = random_image(dtype=dtype, channels=channels, alpha=alpha)
    model = nearest(scale=3, channels=network)
    result = upscaled(image, model=model, tile=16)
    assert len(model.seen) > 1
    assert result.metadata == image.metadata
    assert result.pixels.dtype == dtype
    assert result.pixels.shape == (63, 99, channels)
    if network == "rgb" or channels == 1:  # a luma network interpolates colour
        np.testing.assert_array_equal(result.pixels, repeat(image.pixels, 3))
    if alpha:
        np.testing.assert_array_equal(result.alpha, np.full((63, 99), np.iinfo(dtype).max, dtype))
    else:
        assert result.alpha is None


@pytest.mark.parametrize("network", ["rgb", "y"])
@pytest.mark.parametrize("size", [(40, 57), (1, 70), (57, 1)])
def test_tiles_give_the_same_image_as_the_network_at_once(network, size, wavy):
    image = random_image(size=size)
    model = wavy(channels=network)
    tiled = upscaled(image, model=model, tile=17)
    whole = from_tensor(infer(model, to_rgb_tensor(image)))
    assert model.training  # dropout is off in what runs, and the network itself not touched
    # Float rounding may move a value over a half; nothing more.
    difference = np.abs(tiled.pixels.astype(int) - whole)
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


def test_alpha_is_bicubic(nearest):
    image = random_image(alpha=True)
    rows, columns = np.mgrid[:21, :33]
    alpha = np.clip((rows - 10) * 20 + columns, 0, 255).astype(np.uint8)
    image = Image(pixels=image.pixels, alpha=alpha)
    result = upscaled(image, model=nearest(), tile=12)
    expected = imresize(torch.from_numpy(alpha / 255.0)[None, None], scale=2)
    assert (expected < 0).any(), "the interpolation overshoots, which must be clipped"
    difference = np.abs(result.alpha.astype(int) - from_tensor(expected)[..., 0])
    assert difference.max() <= 1  # where float32 falls on the other side of a half
    assert difference.mean() < 2e-3


def test_no_fringe_from_colours_stored_under_transparent_pixels(nearest):
    # A red disc on what is stored as black and fully transparent.
    rows, columns = np.mgrid[:40, :40]
    disc = (rows - 20) ** 2 + (columns - 22) ** 2 < 100
    pixels = np.where(disc[..., None], [230, 20, 20], [0, 0, 0]).astype(np.uint8)
    image = Image(pixels=pixels, alpha=disc.astype(np.uint8) * 255)

    class Bicubic(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            return imresize(lr, scale=self.scale)

    result = upscaled(image, model=Bicubic(scale=4))
    assert (result.pixels[result.alpha > 0] == [230, 20, 20]).all()
    assert (result.pixels == [230, 20, 20]).all()  # one colour is all that there is to spread


def test_visible_pixels_keep_their_colours_and_holes_take_those_near(nearest):
    image = random_image(alpha=True, dtype=np.uint16)
    holes = np.random.default_rng(1).random((21, 33)) < 0.7
    pixels = image.pixels // 4 + 20000
    pixels[holes] = 0
    alpha = np.where(holes, 0, 1).astype(np.uint16)
    result = upscaled(Image(pixels=pixels, alpha=alpha), model=nearest(scale=1))
    np.testing.assert_array_equal(result.pixels[~holes], pixels[~holes])
    assert result.pixels.min() >= 20000
    assert result.pixels.max() <= 20000 + 65535 // 4


def test_a_image_without_any_visible_pixel_stays_as_it_is(nearest):
    image = random_image()
    hidden = Image(pixels=image.pixels, alpha=np.zeros((21, 33), np.uint8))
    result = upscaled(hidden, model=nearest(scale=1))
    np.testing.assert_array_equal(result.pixels, image.pixels)
    assert not result.alpha.any()


def test_red_green_and_blue_that_are_equal_stay_equal(tmp_path, monkeypatch, wavy):
    monkeypatch.setattr("edgekeeper.inference.files._PART_BYTES", 1000)  # several parts
    for dtype, alpha in ((np.uint8, False), (np.uint16, True)):
        grey = random_image(size=(40, 30), channels=1, dtype=dtype, alpha=alpha)
        same = Image(pixels=grey.pixels.repeat(3, axis=2), alpha=grey.alpha)
        asked = {"model": wavy(strength=0.3), "scale": 2.5, "tile": 16}
        alone, made = (upscaled(image, **asked) for image in (grey, same))
        assert made.pixels.shape[2] == 3
        assert np.array_equal(made.pixels, alone.pixels.repeat(3, axis=2))
        write_image(same, tmp_path / "in.png", overwrite="replace")
        request = Request(existing="replace", **asked)
        upscale_file(tmp_path / "in.png", tmp_path / "out.png", request=request)
        assert np.array_equal(read_image(tmp_path / "out.png").pixels, made.pixels)
        if alpha:
            assert np.array_equal(made.alpha, alone.alpha)
        # One pixel in colour, seen last, and it is an image in colour: as the network has it.
        same.pixels[-1, -1, 0] ^= 1
        write_image(same, tmp_path / "in.png", overwrite="replace")
        upscale_file(tmp_path / "in.png", tmp_path / "out.png", request=request)
        made = read_image(tmp_path / "out.png").pixels.astype(int)
        assert np.array_equal(made, upscaled(same, **asked).pixels)
        assert np.abs(made[:30, :30] - made[:30, :30, :1]).max() > 3


def test_memory_running_out_halves_the_tile_and_starts_over(nearest):
    image = random_image(size=(50, 64))
    model, calls = nearest(memory=500), []
    result = upscaled(image, model=model, on_tile=lambda done, total: calls.append((done, total)))
    np.testing.assert_array_equal(result.pixels, repeat(image.pixels, 2))
    assert model.seen[:4] == [(50, 64), (27, 24), (27, 24), (16, 16)]  # one is made ahead
    assert calls == [(done, 20) for done in range(1, 21)]


def test_memory_running_out_on_the_cpu_is_the_same(nearest):
    class Greedy(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            if lr.shape[-1] > 40:
                torch.empty(2**52)  # what PyTorch itself says when this fails
            return super().forward(lr)

    image = random_image(size=(50, 64))
    model = Greedy()
    result = upscaled(image, model=model)
    np.testing.assert_array_equal(result.pixels, repeat(image.pixels, 2))
    assert set(model.seen) == {(27, 24)}


def test_memory_that_never_suffices_is_one_sentence(nearest):
    with pytest.raises(ImageError, match=r"64 x 50 pixels needs more memory.*tiles of 12 pixels"):
        upscaled(random_image(size=(50, 64)), model=nearest(memory=100, receptive_field=4), tile=40)


def test_other_errors_of_a_network_are_not_taken_for_memory(nearest):
    class Faulty(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        upscaled(random_image(), model=Faulty())


def test_a_tile_smaller_than_the_context_is_refused(nearest):
    with pytest.raises(InputError, match=r"looks 36 pixels around\. Use at least 73"):
        upscaled(random_image(), model=nearest(receptive_field=36), tile=72)


@pytest.mark.parametrize("radius", [0, 3, 36, 68, 300])
def test_the_automatic_tile_keeps_half_of_what_it_reads(radius, nearest):
    model = nearest(scale=1, receptive_field=radius)
    upscaled(random_image(size=(1300, 4), channels=1), model=model)
    side = model.seen[0][0]
    assert 256 <= side <= max(512, 4 * radius)
    assert sum(height for height, _ in model.seen) <= 2 * 1300


def test_values_that_are_not_finite_yield_no_file(tmp_path, broken):
    white = Image(pixels=np.full((4, 4, 3), 255, np.uint8))
    write_image(white, tmp_path / "white.png")
    with pytest.raises(ImageError, match=r"white\.png' cannot be upscaled: .*not finite"):
        upscale_file(tmp_path / "white.png", tmp_path / "big.png", request=Request(model=broken()))
    assert os.listdir(tmp_path) == ["white.png"]  # noqa: PTH208


def test_a_file_is_upscaled(tmp_path, nearest):
    image = random_image(dtype=np.uint16)
    image = Image(pixels=image.pixels)
    write_image(image, tmp_path / "in.png")
    calls = []
    result = upscale_file(
        tmp_path / "in.png",
        tmp_path / "out.tif",
        request=Request(model=nearest(), tile=20),
        on_step=lambda step: calls.append((step.done, step.total)),
    )
    assert (result.status, result.reason) == ("done", "")
    assert (result.source, result.target) == (tmp_path / "in.png", tmp_path / "out.tif")
    assert result.seconds > 0
    assert calls[-1] == (4, 4)
    np.testing.assert_array_equal(
        read_image(result.target).pixels, repeat(image.pixels, 2), strict=True
    )


def test_what_can_be_refused_is_refused_before_the_network_runs(tmp_path, nearest):
    clear = random_image(alpha=True)
    clear.alpha[0] = 0
    source = tmp_path / "in.png"
    write_image(Image(pixels=clear.pixels, alpha=clear.alpha), source)
    (tmp_path / "there.png").touch()
    model = nearest(scale=8)
    long = tmp_path / "long.png"
    write_image(Image(pixels=np.zeros((1, 2048, 1), np.uint8)), long)
    for start, target, error, reason in [
        (source, source, InputError, "its own target"),
        (source, tmp_path / "there.png", ImageError, "exists already"),
        (source, tmp_path / "out.jpg", ImageError, "no transparency"),
        (source, tmp_path / "out.xyz", ImageError, r"\.xyz"),
        (source, tmp_path, ImageError, "it is a folder|use one of"),
        (long, tmp_path / "out.webp", ImageError, "16384 pixels on a side"),
    ]:
        with pytest.raises(error, match=reason):
            upscale_file(start, target, request=Request(model=model))
    assert model.seen == []


@pytest.fixture
def folder(tmp_path) -> Path:
    """A tree with two good images, a bad one, one that breaks the network, and other files."""
    source = tmp_path / "in"
    (source / "trip" / "day 1").mkdir(parents=True)
    image = Image(pixels=random_image(size=(10, 12)).pixels // 2)
    write_image(image, source / "a.png")
    (source / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    write_image(Image(pixels=np.full((9, 9, 3), 255, np.uint8)), source / "c.png")
    write_image(image, source / "trip" / "day 1" / "d.tif")
    (source / "notes.txt").write_text("not an image")
    return source


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_gives_the_same_tree_and_goes_on_after_bad_files(folder, tmp_path, broken):
    steps: list[Step] = []
    results = list(
        folder_results(folder, tmp_path / "out", model=broken(), on_step=steps.append, tile=8)
    )
    assert [result.status for result in results] == ["done", "failed", "failed", "done"]
    assert [result.source.name for result in results] == ["a.png", "b.jpg", "c.png", "d.tif"]
    assert "cut short" in results[1].reason
    assert "not finite" in results[2].reason
    assert files(tmp_path / "out") == ["a.png", os.path.join("trip", "day 1", "d.tif")]  # noqa: PTH118
    original = read_image(folder / "a.png").pixels
    for result in (results[0], results[3]):
        np.testing.assert_array_equal(read_image(result.target).pixels, repeat(original, 2))
    assert {(step.file, step.files) for step in steps} == {(n, 4) for n in (1, 2, 3, 4)}
    assert [(step.done, step.total) for step in steps if step.file == 1] == [
        (0, 0),
        (1, 4),
        (2, 4),
        (3, 4),
        (4, 4),
    ]
    assert all(first.file <= second.file for first, second in pairwise(steps))


def test_a_folder_is_checked_before_it_starts(folder, tmp_path, nearest):
    (tmp_path / "empty").mkdir()
    for source, target, options, error, reason in [
        (folder, folder, {}, InputError, "its own target"),
        (tmp_path / "empty", tmp_path / "out", {}, InputError, "no images"),
        (tmp_path / "none", tmp_path / "out", {}, InputError, "no file or folder"),
        (folder, tmp_path / "out", {"tile": 4}, InputError, "too small"),
    ]:
        with pytest.raises(error, match=reason):
            folder_results(source, target, model=nearest(), **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_fails_its_files_only(folder, tmp_path, nearest):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trip").write_text("a file in the way")
    results = list(folder_results(folder, tmp_path / "out", model=nearest()))
    assert [result.status for result in results] == ["done", "failed", "done", "failed"]
    assert "cannot be made" in results[3].reason


def test_orientation_is_applied_once_on_the_whole_way(tmp_path, nearest):
    exif = PILImage.Exif()
    exif[0x0112] = 6
    PILImage.new("RGB", (30, 20)).save(tmp_path / "in.jpg", exif=exif)
    upscale_file(tmp_path / "in.jpg", tmp_path / "out.jpg", request=Request(model=nearest()))
    with PILImage.open(tmp_path / "out.jpg") as opened:
        assert opened.size == (40, 60)
        assert opened.getexif()[0x0112] == 1


@pytest.mark.gpu
def test_the_models_device_is_used(wavy):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    image = random_image(alpha=True)
    on_cpu = upscaled(image, model=wavy(), tile=16)
    on_gpu = upscaled(image, model=wavy().cuda(), tile=16)
    assert np.abs(on_cpu.pixels.astype(int) - on_gpu.pixels).max() <= 1
