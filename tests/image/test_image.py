"""Image files: what comes in goes out, and every bad file is one sentence."""

import io
import os
import resource
import struct
import threading
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import pyvips
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from PIL import ImageCms, ImageOps

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import (
    MAX_PIXELS,
    Image,
    Metadata,
    alpha_tensor,
    colour_difference,
    from_tensor,
    list_images,
    read_image,
    to_rgb_tensor,
    to_tensor,
    write_image,
)

LOSSLESS = (".png", ".tif", ".tiff")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def exif_with_thumbnail(thumbnail: bytes) -> bytes:
    """EXIF whose second directory holds a JPEG (EXIF 2.32, 4.6.5: tags 0x0201 and 0x0202)."""
    first = struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 26)  # orientation 6; next directory at 26
    second = struct.pack("<H", 3) + struct.pack("<HHII", 0x0103, 3, 1, 6)
    second += struct.pack("<HHII", 0x0201, 4, 1, 68) + struct.pack(
        "<HHII", 0x0202, 4, 1, len(thumbnail)
    )
    return (
        b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + struct.pack("<I", 0) + thumbnail
    )


def random_image(
    rng: np.random.Generator, *, size=(13, 17), channels=3, dtype=np.uint8, alpha=False, **metadata
) -> Image:
    top = np.iinfo(dtype).max
    return Image(
        pixels=rng.integers(0, top, (*size, channels), dtype=dtype, endpoint=True),
        alpha=rng.integers(0, top, size, dtype=dtype, endpoint=True) if alpha else None,
        metadata=Metadata(**metadata),
    )


def smooth_image(dtype=np.uint8, channels=3, size=(40, 56)) -> Image:
    """Slow ramps, which lossy formats keep within a few levels."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    ramps = [rows * 4 + 20, columns * 4 + 10, rows + columns * 2 + 40]
    scale = 1 if dtype == np.uint8 else 257
    return Image(pixels=(np.stack(ramps[:channels], 2) * scale).astype(dtype))


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_formats_return_the_same_image(tmp_path, rng, suffix, dtype, channels, alpha):
    image = random_image(rng, channels=channels, dtype=dtype, alpha=alpha)
    write_image(image, tmp_path / f"p{suffix}")
    again = read_image(tmp_path / f"p{suffix}")
    np.testing.assert_array_equal(again.pixels, image.pixels, strict=True)
    assert (again.alpha is None) == (image.alpha is None)
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha, strict=True)


def test_webp_at_quality_100_is_lossless_under_transparent_pixels_too(tmp_path, rng):
    image = random_image(rng, alpha=True)
    image.alpha[:5] = 0
    write_image(image, tmp_path / "p.webp", quality=100)
    again = read_image(tmp_path / "p.webp")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    np.testing.assert_array_equal(again.alpha, image.alpha)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".webp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossy_formats_stay_close_and_become_8_bits(tmp_path, suffix, dtype):
    write_image(smooth_image(dtype), tmp_path / f"p{suffix}")
    again = read_image(tmp_path / f"p{suffix}")
    assert again.depth == 8
    error = again.pixels.astype(int) - smooth_image().pixels
    assert np.abs(error).max() <= 8
    assert abs(error.mean()) < 0.5


def test_16_bits_become_8_by_rounding_not_by_cutting(tmp_path):
    values = np.arange(0, 65536, 17, dtype=np.uint16).reshape(1, -1, 1)  # 3856 of them
    image = Image(pixels=np.repeat(values, 3, axis=2))
    write_image(image, tmp_path / "p.webp", quality=100)
    expected = np.rint(image.pixels / 257).astype(np.uint8)  # no halves: 257 is odd
    np.testing.assert_array_equal(read_image(tmp_path / "p.webp").pixels, expected)


def test_quality_makes_a_jpeg_larger_and_better(tmp_path, rng):
    image = random_image(rng, size=(64, 64))
    errors, sizes = [], []
    for quality in (30, 95):
        path = tmp_path / f"{quality}.jpg"
        write_image(image, path, quality=quality)
        sizes.append(path.stat().st_size)
        errors.append(np.abs(read_image(path).pixels.astype(int) - image.pixels).mean())
    assert sizes[1] > 2 * sizes[0]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_orientation_is_applied_once_as_pillow_applies_it(tmp_path, orientation, suffix):
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"p{suffix}"
    PILImage.fromarray(smooth_image().pixels).save(path, exif=exif)
    with PILImage.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    image = read_image(path)
    assert np.abs(image.pixels.astype(int) - expected).max() <= (2 if suffix == ".jpg" else 0)
    write_image(image, tmp_path / f"again{suffix}")
    with PILImage.open(tmp_path / f"again{suffix}") as opened:
        assert opened.getexif().get(0x0112, 1) == 1
    assert read_image(tmp_path / f"again{suffix}").pixels.shape == expected.shape


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_is_written_back(tmp_path, rng, suffix):
    exif = PILImage.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = 6, "A maker", "(c) someone"
    exif.get_ifd(0x8769).update({0x8827: 200, 0x927C: b"MAKER NOTE\x00\x01", 0xA002: 9999})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 12.5)})
    PILImage.fromarray(random_image(rng).pixels).save(tmp_path / f"in{suffix}", exif=exif)
    image = read_image(tmp_path / f"in{suffix}")
    write_image(image, tmp_path / f"out{suffix}")
    with PILImage.open(tmp_path / f"out{suffix}") as opened:
        again = opened.getexif()
        details, place = again.get_ifd(0x8769), again.get_ifd(0x8825)
        assert (again[0x0112], again[0x010F], again[0x8298]) == (1, "A maker", "(c) someone")
        assert (details[0x8827], details[0x927C]) == (200, b"MAKER NOTE\x00\x01")
        assert details[0xA002] == opened.width == 13  # the stated width follows the pixels
        assert (place[1], place[2]) == ("N", (52.0, 30.0, 12.5))


def test_a_thumbnail_that_shows_the_old_image_is_dropped(tmp_path, rng):
    buffer = io.BytesIO()
    PILImage.new("RGB", (16, 8)).save(buffer, "jpeg")
    thumbnail = buffer.getvalue()
    exif = exif_with_thumbnail(thumbnail)
    PILImage.fromarray(random_image(rng).pixels).save(tmp_path / "in.jpg", exif=exif)
    header = pyvips.Image.jpegload(str(tmp_path / "in.jpg"))
    assert header.get("jpeg-thumbnail-data") == thumbnail
    write_image(read_image(tmp_path / "in.jpg"), tmp_path / "out.jpg")
    with PILImage.open(tmp_path / "out.jpg") as opened:
        assert opened.getexif()[0x0112] == 1
    assert thumbnail not in (tmp_path / "out.jpg").read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_icc_xmp_and_density_are_written_back(tmp_path, rng, suffix):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    image = random_image(rng, icc=icc, xmp=xmp, pixels_per_mm=(12.0, 12.0))
    write_image(image, tmp_path / f"p{suffix}")
    again = read_image(tmp_path / f"p{suffix}").metadata
    assert again.icc == icc
    assert again.xmp.rstrip(b"\x00") == xmp
    assert again.exif is not None or suffix in (".png", ".tif", ".webp")
    if suffix != ".webp":  # holds no density outside EXIF
        assert again.pixels_per_mm == pytest.approx((12.0, 12.0), rel=0.01)
    with PILImage.open(tmp_path / f"p{suffix}") as opened:
        assert opened.info["icc_profile"] == icc


def grey_profile(gamma: float) -> bytes:
    """A minimal version 2 ICC profile of a grey device (ICC.1:2001-04, 6.1 to 6.5)."""

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    white = s15(0.9642) + s15(1.0) + s15(0.8249)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(78),
        b"wtpt": b"XYZ " + bytes(4) + white,
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2),
        b"cprt": b"text" + bytes(4) + b"none" + bytes(4),
    }
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 0, b"\0\0\0\0", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    blob = head.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(blob)) + blob[4:]


def test_grey_with_a_profile_becomes_srgb_in_webp_and_stays_grey_in_png(tmp_path):
    grey = np.full((8, 8, 1), 128, np.uint8)
    image = Image(pixels=grey, metadata=Metadata(icc=grey_profile(1.0)))
    write_image(image, tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").pixels, grey)
    assert read_image(tmp_path / "p.png").metadata.icc == image.metadata.icc
    write_image(image, tmp_path / "p.webp", quality=100)
    # linear 128/255 is 188 on the sRGB curve (IEC 61966-2-1: 1.055·0.502^(1/2.4) − 0.055)
    assert np.abs(read_image(tmp_path / "p.webp").pixels.astype(int) - 188).max() <= 1


def test_palette_and_transparent_colours_are_expanded(tmp_path, rng):
    opened = PILImage.fromarray(random_image(rng).pixels).quantize(16)
    opened.save(tmp_path / "opaque.png")
    image = read_image(tmp_path / "opaque.png")
    np.testing.assert_array_equal(image.pixels, np.asarray(opened.convert("RGB")))
    assert image.alpha is None
    opened.save(tmp_path / "clear.png", transparency=3)
    expected = np.where(np.asarray(opened) == 3, 0, 255)
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png").alpha, expected)


def test_one_bit_images_are_grey(tmp_path):
    PILImage.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "p.png")
    image = read_image(tmp_path / "p.png")
    np.testing.assert_array_equal(image.pixels[..., 0], np.eye(8, dtype=np.uint8) * 255)


def test_low_values_meaning_white_are_inverted(tmp_path):
    tifffile.imwrite(tmp_path / "p.tif", np.full((4, 4), 10, np.uint8), photometric="miniswhite")
    assert (read_image(tmp_path / "p.tif").pixels == 245).all()


def test_premultiplied_alpha_is_divided_out(tmp_path):
    samples = np.full((4, 4, 4), 64, np.uint8)
    samples[..., 3] = 128
    for kind, expected in (("assocalpha", 127), ("unassalpha", 64)):
        tifffile.imwrite(tmp_path / f"{kind}.tif", samples, photometric="rgb", extrasamples=[kind])
        image = read_image(tmp_path / f"{kind}.tif")
        assert np.abs(image.pixels.astype(int) - expected).max() <= 1
        assert (image.alpha == 128).all()


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_srgb_and_drops_its_profile(tmp_path, suffix):
    inks = {(0, 0, 0, 0): (255, 255, 255), (0, 255, 255, 0): (231, 0, 17)}
    inks |= {(0, 0, 0, 255): (12, 0, 19), (255, 255, 255, 255): (0, 0, 20)}  # not (41, 35, 43)
    for ink, colour in inks.items():
        # No CMYK profile is free to ship; one that does not fit is passed over, and dropped too.
        PILImage.new("CMYK", (16, 16), ink).save(
            tmp_path / f"p{suffix}", icc_profile=grey_profile(2.0)
        )
        image = read_image(tmp_path / f"p{suffix}")
        assert np.abs(image.pixels.astype(int) - colour).max() <= 8  # a press's red, not 255 0 0
        assert image.metadata.icc is None


def test_gif_and_avif_are_read(tmp_path):
    PILImage.fromarray(smooth_image().pixels).save(tmp_path / "p.avif", quality=95)
    error = read_image(tmp_path / "p.avif").pixels.astype(int) - smooth_image().pixels
    assert np.abs(error).max() <= 12
    grey = smooth_image(channels=1).pixels[..., 0]
    PILImage.fromarray(grey).save(tmp_path / "p.gif")
    np.testing.assert_array_equal(read_image(tmp_path / "p.gif").pixels[..., 0], grey)


def bad_png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.png": (lambda: b"", "is empty"),
    "text.jpg": (lambda: b"this is a letter, not an image", "is not an image"),
    "vector.png": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is not an image"),
    "head.png": (lambda: b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
    "short.png": (lambda: bad_png(500, 500), "cannot be decoded"),
    "huge.png": (lambda: bad_png(100_000, 100_000), "at most 134 million"),
    "head.jpg": (lambda: b"\xff\xd8\xff\xe0", "cannot be decoded"),
    "head.tif": (lambda: b"II*\x00\x08\x00\x00\x00", "cannot be decoded"),
    "head.webp": (lambda: b"RIFF\x00\x00\x00\x00WEBPVP8 ", "cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_one_sentence_and_no_noise(tmp_path, capfd, name):
    content, reason = BAD_FILES[name]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(tmp_path / name)
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    assert message.endswith(".")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_files_cut_short_are_refused(tmp_path, rng, capfd, suffix, part):
    path = tmp_path / f"p{suffix}"
    write_image(random_image(rng, size=(64, 64)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ImageError, match="cut short"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_png_is_refused(tmp_path, rng):
    path = tmp_path / "p.png"
    write_image(random_image(rng, size=(64, 64)), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


def test_other_channel_counts_are_refused(tmp_path):
    five = np.zeros((4, 4, 5), np.uint8)
    tifffile.imwrite(tmp_path / "five.tif", five, photometric="rgb", planarconfig="contig")
    with pytest.raises(ImageError, match="5 channels"):
        read_image(tmp_path / "five.tif")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png.*no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a directory"):
        read_image(tmp_path)


def test_names_that_libvips_would_read_as_options_work(tmp_path, rng):
    image = random_image(rng)
    for name in ("p[1].png", "p.png[page=3].png", "größe 写真.tif"):
        write_image(image, tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, image.pixels)
    os.rename(tmp_path / "p[1].png", tmp_path / "p.png[1]")  # noqa: PTH104
    np.testing.assert_array_equal(read_image(tmp_path / "p.png[1]").pixels, image.pixels)


def test_an_existing_file_is_replaced_only_on_request(tmp_path, rng):
    path = tmp_path / "p.png"
    first, second = random_image(rng), random_image(rng)
    write_image(first, path)
    with pytest.raises(ImageError, match="exists already"):
        write_image(second, path)
    np.testing.assert_array_equal(read_image(path).pixels, first.pixels)
    write_image(second, path, overwrite="replace")
    np.testing.assert_array_equal(read_image(path).pixels, second.pixels)
    assert os.listdir(tmp_path) == ["p.png"]  # noqa: PTH208


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files end at 10,000 bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, rng, capfd, full_disk, suffix):
    image = random_image(rng, size=(300, 300))
    old = tmp_path / f"old{suffix}"
    old.write_bytes(b"old")
    with pytest.raises(ImageError, match="cannot be written: file too large"):
        write_image(image, tmp_path / f"p{suffix}")
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(image, old, overwrite="replace")
    assert os.listdir(tmp_path) == [old.name]  # noqa: PTH208
    assert old.read_bytes() == b"old"
    assert capfd.readouterr() == ("", "")


def test_no_reader_ever_sees_half_a_file(tmp_path, rng):
    path, stop = tmp_path / "p.png", threading.Event()
    write_image(random_image(rng, size=(200, 200)), path)
    image = random_image(rng, size=(200, 200))

    def write_again() -> None:
        while not stop.is_set():
            write_image(image, path, overwrite="replace")

    writer = threading.Thread(target=write_again)
    writer.start()
    try:
        for _ in range(20):
            assert read_image(path).pixels.shape == (200, 200, 3)
    finally:
        stop.set()
        writer.join()


def test_what_a_format_cannot_hold_is_refused(tmp_path, rng):
    clear = random_image(rng, alpha=True)
    with pytest.raises(ImageError, match="JPEG has no transparency"):
        write_image(clear, tmp_path / "p.jpg")
    opaque = Image(pixels=clear.pixels, alpha=np.full((13, 17), 255, np.uint8))
    write_image(opaque, tmp_path / "opaque.jpg")
    wide = Image(pixels=np.zeros((1, 16384, 1), np.uint8))
    with pytest.raises(ImageError, match="16383"):
        write_image(wide, tmp_path / "p.webp")
    with pytest.raises(ImageError, match=r"'\.bmp'"):
        write_image(opaque, tmp_path / "p.bmp")
    with pytest.raises(ImageError, match="there is no folder"):
        write_image(opaque, tmp_path / "missing" / "p.png")
    with pytest.raises(InputError, match="quality"):
        write_image(opaque, tmp_path / "p.png", quality=0)


def test_images_check_their_arrays():
    grey = np.zeros((4, 5, 1), np.uint8)
    for pixels in (np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), grey[:0]):
        with pytest.raises(InputError, match="must be"):
            Image(pixels=pixels)
    with pytest.raises(InputError, match="uint8, uint16 or float32"):
        Image(pixels=grey.astype(np.float64))
    with pytest.raises(InputError, match="Alpha"):
        Image(pixels=grey, alpha=np.zeros((4, 5), np.uint16))


def test_images_are_listed_in_order_without_hidden_files(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/c.webp", ".git/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list_images(tmp_path) == [tmp_path / "a.png", tmp_path / "b.JPG"]
    assert list_images(tmp_path, depth="tree")[2:] == [tmp_path / "sub" / "c.webp"]
    with pytest.raises(ImageError, match="is not a folder"):
        list_images(tmp_path / "none")


@pytest.mark.parametrize("depth", [8, 16])
def test_every_level_survives_the_way_through_a_tensor(depth):
    dtype = np.uint8 if depth == 8 else np.uint16
    levels = np.arange(2**depth, dtype=dtype).reshape(2**4, -1, 1)
    tensor = to_tensor(Image(pixels=levels))
    assert tensor.dtype == torch.float32
    assert (tensor.min(), tensor.max()) == (0, 1)
    np.testing.assert_array_equal(from_tensor(tensor, depth=depth), levels, strict=True)


def test_tensor_layout_follows_the_pixels(rng):
    image = random_image(rng, alpha=True)
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 13, 17)
    assert float(tensor[0, 2, 4, 5]) == pytest.approx(image.pixels[4, 5, 2] / 255)
    assert float(alpha_tensor(image)[0, 0, 4, 5]) == pytest.approx(image.alpha[4, 5] / 255)
    grey = random_image(rng, channels=1)
    assert to_tensor(grey).shape == (1, 1, 13, 17)
    rgb = to_rgb_tensor(grey)
    assert rgb.shape == (1, 3, 13, 17)
    assert torch.equal(rgb[:, 0], rgb[:, 2])
    with pytest.raises(InputError, match="no alpha"):
        alpha_tensor(grey)


def test_halves_round_away_from_zero_and_the_rest_is_clipped():
    steps = torch.tensor([0.5, 1.5, 2.5, 253.5], dtype=torch.float64) / 255
    values = torch.cat([steps, torch.tensor([-0.2, 1.7, 0.499999 / 255], dtype=torch.float64)])
    assert from_tensor(values.view(1, 1, 1, -1)).ravel().tolist() == [1, 2, 3, 254, 0, 255, 0]


@settings(deadline=None)
@given(st.floats(0, 1, width=32), st.sampled_from([8, 16]))
def test_rounding_is_exact_for_every_float(value, depth):
    got = int(from_tensor(torch.full((1, 1, 1, 1), value), depth=depth)[0, 0, 0])
    numerator, denominator = value.as_integer_ratio()
    top = 2**depth - 1
    assert got == (2 * numerator * top + denominator) // (2 * denominator)


@pytest.mark.parametrize("depth", [8, 16])
def test_rounding_is_exact_beside_every_half(depth):
    # The float32 numbers at and next to (k + 1/2) / top; their product in float32 can land on
    # the other side of the half.
    top = 2**depth - 1
    halves = ((np.arange(top) + 0.5) / top).astype(np.float32)
    below, above = np.nextafter(halves, np.float32(0)), np.nextafter(halves, np.float32(1))
    values = np.concatenate([below, halves, above])
    mantissa, exponent = np.frexp(values.astype(np.float64))
    numerator = (mantissa * 2**24).astype(np.int64) * 2 * top  # float32 has 24 bits
    denominator = np.int64(1) << (24 - exponent).astype(np.int64)
    expected = (numerator + denominator) // (2 * denominator)
    got = from_tensor(torch.from_numpy(values).view(1, 1, 1, -1), depth=depth)
    np.testing.assert_array_equal(got.ravel(), expected)


def test_tensors_that_are_no_image_are_refused():
    for bad in (torch.zeros(2, 3, 4, 4), torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4).int()):
        with pytest.raises(InputError, match="must be floats"):
            from_tensor(bad)
    with pytest.raises(InputError, match="not finite"):
        from_tensor(torch.tensor([[[[float("nan")]]]]))


def test_a_image_at_the_limit_is_judged_by_its_header(tmp_path):
    (tmp_path / "p.png").write_bytes(bad_png(2, MAX_PIXELS // 2 + 1))
    with pytest.raises(ImageError, match="million"):
        read_image(tmp_path / "p.png")


@pytest.mark.data
def test_benchmark_images_decode_as_pillow_decodes_them(data_root):
    folder = data_root / "benchmarks" / "Set14" / "image_SRF_4"
    paths = list_images(folder)
    assert len(paths) == 28
    for path in paths[:8]:
        with PILImage.open(path) as opened:
            expected = np.asarray(opened)
        np.testing.assert_array_equal(np.squeeze(read_image(path).pixels), expected)


def test_libvips_is_recent_enough_to_read_descriptors():
    assert (pyvips.version(0), pyvips.version(1)) >= (8, 10)


def test_the_difference_of_alike_colours_is_that_of_scikit_image():
    from skimage import color

    generator = torch.Generator().manual_seed(1)
    first = torch.rand(1, 3, 40, 40, generator=generator)
    second = (first + 0.01 * torch.randn(first.shape, generator=generator)).clamp(0, 1)
    labs = [color.rgb2lab(x[0].permute(1, 2, 0).double().numpy()) for x in (first, second)]
    expected = color.deltaE_ciede2000(*labs).mean()
    assert colour_difference(first, second) == pytest.approx(expected, abs=1e-3)
    assert colour_difference(first, first) == 0
    assert colour_difference(torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)) == pytest.approx(100)
