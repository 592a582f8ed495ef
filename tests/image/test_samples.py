"""Samples of every kind that a TIFF has, its further channels, and files that are damaged."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from edgekeeper.errors import ImageError
from edgekeeper.image import Image, SaveOptions, open_image, read_image, write_image

SIZE = (40, 30)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def unit(rng: np.random.Generator, channels: int) -> np.ndarray:
    values = rng.random((*SIZE, channels), np.float32)
    values[0, 0], values[0, 1] = 0, 1
    return values


def save_tiff(path: Path, samples: np.ndarray, *, extra: int = 2, **options) -> Path:
    kind = "rgb" if samples.shape[2] > 2 else "minisblack"
    more = {"extrasamples": [extra]} if samples.shape[2] in (2, 4) else {}
    samples = samples[..., 0] if samples.shape[2] == 1 else samples
    tifffile.imwrite(path, samples, photometric=kind, **more, **options)
    return path


def notes(path: Path | bytes, **options) -> tuple[str, ...]:
    with open_image(path, **options) as reader:
        return reader.header.notes


def test_floats_come_back_as_floats(tmp_path, rng):
    path, out = tmp_path / "in.tif", tmp_path / "out.tif"
    for kind in (np.float16, np.float32):
        for channels in (1, 2, 3, 4):
            for options in ({}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}):
                given = unit(rng, channels).astype(kind)
                image = read_image(save_tiff(path, given, **options))
                case = (kind, channels, options)
                assert image.depth == 32, case
                np.testing.assert_array_equal(
                    image.to_numpy().reshape(given.shape), given, str(case)
                )
                write_image(image, out, overwrite="replace")
                made = tifffile.imread(out)
                assert made.dtype == np.float32, case
                np.testing.assert_array_equal(made.reshape(given.shape), given, str(case))
                again = read_image(out)
                assert (again.alpha is None) == (channels in (1, 3)), case


def test_floats_are_rounded_where_there_is_no_place_for_them(tmp_path, rng):
    for suffix, bits in ((".png", 16), (".webp", 8), (".avif", 12), (".jpg", 8)):
        given = unit(rng, 3).round() if suffix in (".avif", ".jpg") else unit(rng, 3)
        write_image(Image(pixels=given), tmp_path / f"a{suffix}", quality=100)
        made = read_image(tmp_path / f"a{suffix}")
        top = 255 if made.depth == 8 else 65535
        close = 0.6 / (2**bits - 1) if suffix != ".jpg" else 0.4
        assert np.abs(made.pixels / top - given).max() <= close, suffix


def test_floats_beyond_their_range_are_named(tmp_path, rng):
    given = unit(rng, 3)
    for spoil, words in (
        (lambda x: x * 255, "from 0 to 255"),
        (lambda x: x - 0.5, "from -0.5 to 0.5"),
        (lambda x: np.where(x > 0.9, np.nan, x), "values that are no number (NaN)"),
        (lambda x: np.where(x > 0.9, np.inf, x), "inf"),
    ):
        path = save_tiff(tmp_path / "a.tif", spoil(given).astype(np.float32))
        with pytest.raises(ImageError, match=r"a\.tif' has values") as caught:
            read_image(path)
        assert words in str(caught.value)
    path = save_tiff(tmp_path / "a.tif", given * np.float32(1.0005))  # rounding
    assert read_image(path).pixels.max() == 1


def test_signed_and_long_numbers_become_16_bits(tmp_path, rng):
    for kind, full in ((np.int16, 32767), (np.uint32, 2**32 - 1)):
        for channels in (1, 2, 3, 4):
            given = (unit(rng, channels).astype(np.float64) * full).astype(kind)
            path = save_tiff(tmp_path / "a.tif", given)
            made = read_image(path).to_numpy().reshape(given.shape)
            assert made.dtype == np.uint16
            wanted = given.astype(np.float64) / full * 65535
            assert np.abs(made - wanted).max() <= 0.5 + 1e-6
            assert notes(path)
    path = save_tiff(tmp_path / "a.tif", np.full((4, 4, 3), -7, np.int16))
    with pytest.raises(ImageError, match="signed numbers down to -7"):
        read_image(path)


def test_white_as_zero_is_turned_or_refused(tmp_path, rng):
    path, given = tmp_path / "a.tif", unit(rng, 1)[..., 0]
    for kind, full in ((np.uint8, 255), (np.uint16, 65535), (np.uint32, 2**32 - 1)):
        samples = (given.astype(np.float64) * full).astype(kind)
        tifffile.imwrite(path, samples, photometric="miniswhite")
        made = read_image(path)
        wanted = (1 - samples / full) * (255 if made.depth == 8 else 65535)
        assert np.abs(made.pixels[..., 0] - wanted).max() <= 0.5 + 1e-6, kind
    for kind in (np.int16, np.float16, np.float32):  # libvips takes them as they are
        tifffile.imwrite(path, given.astype(kind), photometric="miniswhite")
        with pytest.raises(ImageError, match=r"not supported.*with 0 as white"):
            read_image(path)


def test_a_channel_that_is_no_alpha_stays_one(tmp_path, rng):
    """Photoshop's saved selections, and files that do not say what their fourth channel is."""
    out = tmp_path / "out.tif"
    for kind in (np.uint8, np.uint16, np.float32):
        for channels in (2, 4):
            for options in ({"extra": 0}, {"extra": 0, "compression": "zlib"}):
                given = unit(rng, channels)
                if kind != np.float32:
                    given = (given * np.iinfo(kind).max).astype(kind)
                path = save_tiff(tmp_path / "in.tif", given, **options)
                image = read_image(path)
                assert image.alpha_is == "extra"
                assert image.to_pil().mode in ("RGB", "L", "I;16", "F")
                for metadata in ("keep", "strip"):
                    save = SaveOptions(metadata=metadata)
                    write_image(image, out, options=save, overwrite="replace")
                    with tifffile.TiffFile(out) as file:
                        assert file.pages[0].extrasamples == (tifffile.EXTRASAMPLE.UNSPECIFIED,)
                        np.testing.assert_array_equal(file.asarray(), given)
                for suffix in (".png", ".webp", ".avif", ".jpg"):
                    write_image(image, tmp_path / f"o{suffix}", overwrite="replace")
                    assert read_image(tmp_path / f"o{suffix}").alpha is None
                with open_image(path, holds="straight") as reader:
                    assert reader.header.alpha == "none"
                    assert "further channel" in reader.header.notes[-1]
    path = save_tiff(tmp_path / "in.tif", given, extra=2)
    assert read_image(path).alpha_is == "straight"


def test_a_jpeg_without_its_end_is_read_whole(tmp_path, rng):
    smooth = PILImage.fromarray((unit(rng, 3) * 255).astype(np.uint8)).resize((300, 200))
    exif = PILImage.Exif()
    exif[0x010E] = "end marks in a text \xff\xd9"
    for options in ({}, {"progressive": True}, {"exif": exif}, {"subsampling": 0}):
        buffer = io.BytesIO()
        smooth.save(buffer, "jpeg", **options)
        whole = buffer.getvalue()
        for cut in (1, 2):
            np.testing.assert_array_equal(read_image(whole[:-cut]).pixels, read_image(whole).pixels)
            assert notes(whole[:-cut]) == ("its last bytes are missing, but all rows are there",)
        for more in (b"", b"\0" * 100, b"\xff\xda" + bytes(2**17)):  # as motion photos have
            assert notes(whole + more) == (), options
        with pytest.raises(ImageError, match=r"damaged or cut short .*--tolerant"):
            read_image(whole[: len(whole) // 2])


def test_tolerant_takes_the_rows_that_are_there(tmp_path, rng):
    given = np.kron(rng.integers(0, 255, (64, 32, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    given ^= rng.integers(0, 4, given.shape, np.uint8)
    forms = {
        ".jpg": {"quality": 95},
        ".png": {},
        ".webp": {"lossless": True},
        ".gif": {},
        ".tif": {},
        ".bmp": {},
        ".tga": {},
        ".ppm": {},
    }
    for suffix, options in forms.items():
        path = tmp_path / f"a{suffix}"
        if suffix == ".tif":  # with its directory in front
            tifffile.imwrite(path, given, photometric="rgb", rowsperstrip=8)
        else:
            PILImage.fromarray(given).save(path, **options)
        content = path.read_bytes()
        whole = read_image(path).pixels
        assert notes(path, tolerant=True) == ()
        for part in (0.4, 0.7):
            path.write_bytes(content[: int(len(content) * part)])
            with pytest.raises(ImageError, match="--tolerant"):
                read_image(path)
            made = read_image(path, tolerant=True).pixels
            assert made.shape == whole.shape
            good = (np.abs(made.astype(int) - whole).max((1, 2)) < 8).sum()
            assert good >= (part - 0.2) * len(whole), (suffix, part)
            (note,) = notes(path, tolerant=True)
            assert note.startswith("is damaged or cut short"), note
    for content in (b"", b"no image", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ImageError):
            read_image(content or path.parent, tolerant=True)
