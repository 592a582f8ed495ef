"""The photo contract, cell by cell: formats by what an image has, also in others' files."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image as PILImage
from PIL import ImageCms, ImageOps, IptcImagePlugin

from edgekeeper.errors import ImageError
from edgekeeper.image import (
    FORMATS,
    Image,
    Metadata,
    SaveOptions,
    open_image,
    read_image,
    write_image,
)

WRITTEN = ("png", "jpeg", "webp", "tiff", "avif")
LOSSLESS = ("png", "webp", "tiff", "avif")  # at quality 100
RECORDS = b"\x1c\x02\x78\x00\x05hello\x1c\x02\x50\x00\x02me"  # caption and author
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
SETTLED_XMP = XMP.replace(b'"6"', b'"1"')


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def place(folder: Path, name: str) -> Path:
    return folder / f"p{FORMATS[name].suffixes[0]}"


def noise(rng: np.random.Generator, *, channels=3, dtype=np.uint8, alpha=False, size=(12, 20)):
    top = np.iinfo(dtype).max
    return Image(
        pixels=rng.integers(0, top, (*size, channels), dtype=dtype, endpoint=True),
        alpha=rng.integers(0, top, size, dtype=dtype, endpoint=True) if alpha else None,
    )


def ramps(size=(24, 40)) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows * 6 + 20, columns * 5 + 10, rows + columns * 2 + 40], 2).astype(np.uint8)


def notes(path: Path) -> tuple[str, ...]:
    with open_image(path) as reader:
        return reader.header.notes


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_depth_colours_and_alpha_come_back(tmp_path, rng, name, dtype, channels, alpha):
    image = noise(rng, channels=channels, dtype=dtype, alpha=alpha)
    path = place(tmp_path, name)
    write_image(image, path, quality=100)
    again, form = read_image(path), FORMATS[name]
    expected = (
        image.pixels
        if not form.rgb
        else np.broadcast_to(image.pixels, (*image.pixels.shape[:2], 3))
    )
    assert again.depth == (8 if dtype == np.uint8 or form.depth == 8 else 16)
    scale = 257 if again.depth == 8 and dtype == np.uint16 else 1
    # of the 12 bits of AVIF one step is 16, so that rounding is 8 away
    close = 8 if name == "avif" and dtype == np.uint16 else (scale // 2)
    assert again.pixels.shape == expected.shape
    assert np.abs(again.pixels.astype(int) * scale - expected).max() <= close
    assert (again.alpha is None) == (not alpha)
    if alpha:
        assert np.abs(again.alpha.astype(int) * scale - image.alpha).max() <= close


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_jpeg_keeps_grey_and_becomes_8_bits(tmp_path, channels, dtype):
    pixels = (ramps()[..., :channels].astype(int) * (1 if dtype == np.uint8 else 257)).astype(dtype)
    write_image(Image(pixels=pixels), tmp_path / "p.jpg")
    again = read_image(tmp_path / "p.jpg")
    assert (again.depth, again.pixels.shape) == (8, pixels.shape)
    assert np.abs(again.pixels.astype(int) - ramps()[..., :channels]).max() <= 6


@pytest.mark.parametrize(("name", "bits"), [("png", 16), ("tiff", 16), ("avif", 12)])
def test_white_and_black_of_16_bits_stay_white_and_black(tmp_path, name, bits):
    levels = np.repeat(np.array([0, 65535], np.uint16), 400).reshape(20, 40, 1)
    path = place(tmp_path, name)
    write_image(Image(pixels=np.repeat(levels, 3, axis=2)), path, quality=100)
    again = read_image(path).pixels
    assert (again.min(), again.max()) == (0, 65535)


def test_avif_of_10_bits_fills_16(tmp_path):
    wide = np.repeat(np.array([0, 65535], np.uint16), 400).reshape(20, 40, 1).repeat(3, 2)
    opened = pyvips.Image.new_from_array(wide, interpretation="rgb16")
    opened.heifsave(str(tmp_path / "p.avif"), compression="av1", bitdepth=10, lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "p.avif").pixels, wide)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".tif"])
def test_palettes_are_expanded(tmp_path, suffix):
    opened = PILImage.fromarray(ramps()).quantize(16)
    opened.save(tmp_path / f"p{suffix}")
    again = read_image(tmp_path / f"p{suffix}")
    np.testing.assert_array_equal(again.pixels, np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_bit_becomes_grey_of_8_bits(tmp_path, suffix):
    PILImage.fromarray(np.eye(9, dtype=bool)).save(tmp_path / f"p{suffix}")
    expected = np.eye(9, dtype=np.uint8)[..., None] * 255
    np.testing.assert_array_equal(read_image(tmp_path / f"p{suffix}").pixels, expected)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif", ".avif"])
def test_alpha_of_pillow_is_read_straight(tmp_path, rng, suffix):
    pixels = noise(rng).pixels if suffix != ".avif" else ramps((12, 20))
    alpha = np.where(np.arange(20) < 8, 0, 255).astype(np.uint8)[None].repeat(12, 0)
    options = {".webp": {"lossless": True, "exact": True}, ".avif": {"quality": 100}}
    image = PILImage.fromarray(np.dstack([pixels, alpha]), "RGBA")
    image.save(tmp_path / f"p{suffix}", **options.get(suffix, {}))
    again = read_image(tmp_path / f"p{suffix}")
    assert np.abs(again.alpha.astype(int) - alpha).max() <= 1
    if suffix != ".gif":  # has 256 colours
        visible = alpha > 0 if suffix == ".avif" else alpha >= 0
        close = 6 if suffix == ".avif" else 0
        assert np.abs(again.pixels.astype(int) - pixels)[visible].max() <= close


def tiff_file(samples: np.ndarray, *, photometric: int, extra: int | None = None, tags=()) -> bytes:
    """An uncompressed little-endian TIFF of one strip (TIFF 6.0, section 2)."""
    height, width, bands = samples.shape
    bits = samples.dtype.itemsize * 8
    entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * bands),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [0]),
        277: (3, [bands]),
        278: (4, [height]),
        279: (4, [samples.nbytes]),
        **dict(tags),
    }
    if extra is not None:
        entries[338] = (3, [extra])
    at = 8 + 2 + 12 * len(entries) + 4
    table, values = struct.pack("<H", len(entries)), b""
    sizes = {
        tag: struct.calcsize(f"<{len(v)}{'H' if k == 3 else 'I'}")
        for tag, (k, v) in entries.items()
    }
    data_at = at + sum(size for size in sizes.values() if size > 4)
    entries[273] = (4, [data_at])
    for tag, (kind, numbers) in sorted(entries.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        inside = packed.ljust(4, b"\0")
        if len(packed) > 4:
            inside, values = struct.pack("<I", at + len(values)), values + packed
        table += struct.pack("<HHI", tag, kind, len(numbers)) + inside
    samples = samples.astype(samples.dtype.newbyteorder("<"))
    return b"II*\0" + struct.pack("<I", 8) + table + bytes(4) + values + samples.tobytes()


UNSUPPORTED = {
    "floats of 64 bits": (np.float64, {339: (3, [3] * 3)}),
    "complex of 64 bits": (np.complex64, {339: (3, [6] * 3)}),
    "whole numbers of 64 bits": (np.uint64, {}),
    "signed numbers of 8 bits": (np.int8, {339: (3, [2] * 3)}),
    "signed numbers of 32 bits": (np.int32, {339: (3, [2] * 3)}),
    "whole numbers of 12 bits": (np.uint8, {258: (3, [12] * 3)}),
    "whole numbers of 8 bits, tiles, separate planes": (
        np.uint8,
        {
            284: (3, [2]),
            322: (3, [16]),
            323: (3, [16]),
            324: (4, [300, 556, 812]),
            325: (4, [256] * 3),
        },
    ),
    "whole numbers of 8 bits, compression JPEG 2000": (np.uint8, {259: (3, [34712])}),
    "whole numbers of 8 bits, compression Group 4": (np.uint8, {259: (3, [4])}),
    "whole numbers of 8 bits, compression 12345": (np.uint8, {259: (3, [12345])}),
}


@pytest.mark.parametrize("form", UNSUPPORTED)
def test_a_tiff_that_is_not_supported_is_not_called_damaged(tmp_path, form):
    dtype, tags = UNSUPPORTED[form]
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_file(np.zeros((16, 16, 3), dtype), photometric=2, tags=tags))
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert "is not supported: " in str(caught.value) and ". Save it with" in str(caught.value)


def test_a_tiff_cut_short_is_called_damaged(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_file(np.zeros((16, 16, 3), np.uint8), photometric=2)[:-100])
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_premultiplied_alpha_is_divided_out_and_written_as_straight(tmp_path, dtype, channels):
    top, size = np.iinfo(dtype).max, (4, 64)
    alpha = np.linspace(0, top, 64).astype(dtype)[None].repeat(4, 0)
    straight = (np.array([0.9, 0.5, 0.2])[:channels] * top).round()
    multiplied = (straight * (alpha[..., None] / top)).round()
    samples = np.dstack([multiplied, alpha]).astype(dtype)
    path = tmp_path / "in.tif"
    path.write_bytes(tiff_file(samples, photometric=1 if channels == 1 else 2, extra=1))
    image = read_image(path)
    assert image.pixels.shape == (*size, channels)
    np.testing.assert_array_equal(image.alpha, alpha)
    # what was rounded when it was multiplied is off by half a step, divided by the alpha
    allowed = 1 + 0.5 * top / np.maximum(alpha, 1)
    off = np.abs(image.pixels - straight).max(2)
    assert (off <= allowed)[alpha > 0].all()
    write_image(image, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
    np.testing.assert_array_equal(read_image(tmp_path / "out.tif").pixels, image.pixels)


def cmyk_profile() -> bytes:
    """A version 2 profile of a press whose every ink is odd: 16 corners (ICC.1:2001-04, 6.5.7)."""
    corners = np.random.default_rng(1).uniform([20, -40, -40], [95, 40, 40], (16, 3))
    corners[0] = (100, 0, 0)  # paper

    def table(entries: np.ndarray) -> bytes:
        return entries.clip(0, 65535).round().astype(">u2").tobytes()

    lab = corners * [652.8, 256, 256] + [0, 32768, 32768]  # Lab of 16 bits, version 2
    line = struct.pack(">HH", 0, 65535)
    body = b"mft2" + bytes(4) + bytes([4, 3, 2, 0])
    body += struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    body += struct.pack(">HH", 2, 2) + line * 4 + table(lab) + line * 3

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    white = s15(0.9642) + s15(1.0) + s15(0.8249)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"c\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none" + bytes(4),
        b"wtpt": b"XYZ " + bytes(4) + white,
        b"A2B0": body,
    }
    index, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        index += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value
    head = struct.pack(">I4sI4s4s4s", 0, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    blob = head.ljust(128, b"\0") + index + data
    return struct.pack(">I", len(blob)) + blob[4:]


@pytest.mark.parametrize("inks", [(0, 255, 255, 0), (0, 0, 0, 255), (90, 20, 160, 40)])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_srgb_through_its_own_profile(tmp_path, suffix, inks):
    ink = PILImage.merge("CMYK", [PILImage.new("L", (16, 16), v) for v in inks])
    path, profile = tmp_path / f"p{suffix}", cmyk_profile()
    ink.save(path, icc_profile=profile, **({"quality": 100} if suffix == ".jpg" else {}))
    theirs = ImageCms.profileToProfile(
        ink,
        io.BytesIO(profile),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    image = read_image(path)
    assert np.abs(image.pixels.astype(int) - np.asarray(theirs)).max() <= 3
    assert image.metadata.icc is None
    assert notes(path) == ("converted from CMYK to sRGB",)


def test_cmyk_of_16_bits_becomes_srgb_of_16_bits(tmp_path):
    ink = np.full((4, 4, 4), (0, 65535, 65535, 0), np.uint16)
    (tmp_path / "p.tif").write_bytes(tiff_file(ink, photometric=5))
    PILImage.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "8.tif")
    wide, narrow = read_image(tmp_path / "p.tif"), read_image(tmp_path / "8.tif")
    assert wide.depth == 16
    assert np.abs(wide.pixels / 257 - narrow.pixels).max() <= 1


def test_lab_of_16_bits_becomes_srgb(tmp_path):
    # L* = 100 · v / 65535, a* = v / 256 (TIFF 6.0, section 23): mid grey and a red.
    lab = np.zeros((4, 4, 3), np.int16)
    lab[:2] = (35127, 0, 0) - np.array([65536, 0, 0])  # L* 53.6 as two's complement
    lab[2:] = (35127 - 65536, 20480, 17203)  # a* 80, b* 67.2: sRGB red
    (tmp_path / "p.tif").write_bytes(tiff_file(lab.view(np.uint16), photometric=8))
    image = read_image(tmp_path / "p.tif")
    assert image.depth == 16
    # CIE 15 and IEC 61966-2-1: L* 53.6 is sRGB 128; (53.2, 80.1, 67.2) is (255, 0, 0)
    assert np.abs(image.pixels[0, 0] / 257 - 128).max() <= 1.5
    assert np.abs(image.pixels[3, 0] / 257 - [255, 0, 0]).max() <= 6
    assert notes(tmp_path / "p.tif") == ("converted from CIE Lab to sRGB",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_orientation_is_applied_once(tmp_path, orientation, suffix):
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    path, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    PILImage.fromarray(ramps()).save(path, exif=exif, **options)
    with PILImage.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    image = read_image(path)
    assert np.abs(image.pixels.astype(int) - expected).max() <= (2 if suffix == ".jpg" else 0)
    write_image(image, out, quality=100)
    with PILImage.open(out) as opened:
        assert opened.getexif().get(0x0112) == 1
    assert read_image(out).pixels.shape == expected.shape


def pillow_exif() -> PILImage.Exif:
    exif = PILImage.Exif()
    exif[0x0112], exif[0x010F], exif[0x010E], exif[0x8298] = 6, "A maker", "A boat", "(c) someone"
    exif.get_ifd(0x8769).update(
        {
            0x8827: 200,
            0x927C: b"MAKER NOTE\x00\x01",
            0xA002: 9999,
            0xA003: 77,
            0x9003: "2024:05:06 07:08:09",
            0x9214: (4, 5),
            0x829A: 0.004,
        }
    )
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 12.5)})
    return exif


def tiff_around(exif: PILImage.Exif, pixels: np.ndarray, *, order: str) -> bytes:
    """A TIFF whose directory is that of Pillow's EXIF block with the tags of a layout among it."""
    exif.endian = order
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    start = struct.unpack(f"{order}I", block[4:8])[0]
    (count,) = struct.unpack_from(f"{order}H", block, start)
    entries = {
        struct.unpack_from(f"{order}H", block, at)[0]: block[at : at + 12]
        for at in range(start + 2, start + 2 + 12 * count, 12)
    }
    height, width, _ = pixels.shape
    bits_at = len(block)
    layout = {
        256: width,
        257: height,
        259: 1,
        262: 2,
        273: bits_at + 6,
        277: 3,
        278: height,
        279: pixels.nbytes,
    }
    for tag, number in layout.items():
        entries[tag] = struct.pack(f"{order}HHII", tag, 4, 1, number)
    entries[258] = struct.pack(f"{order}HHII", 258, 3, 3, bits_at)
    body = block + struct.pack(f"{order}3H", 8, 8, 8) + pixels.tobytes()
    directory = struct.pack(f"{order}H", len(entries))
    directory += b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return body[:4] + struct.pack(f"{order}I", len(body)) + body[8:] + directory


@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("source", ["jpeg", "png", "webp", "avif", "tiff <", "tiff >"])
def test_exif_goes_from_every_format_to_every_other(tmp_path, rng, source, target):
    path, out, exif, pixels = (
        tmp_path / "in",
        place(tmp_path, target),
        pillow_exif(),
        ramps((12, 20)),
    )
    if source.startswith("tiff"):
        path.write_bytes(tiff_around(exif, pixels, order=source[-1]))
    else:
        exif[0x0100], exif[0x0101] = 5, 5  # in a TIFF they are the layout
        PILImage.fromarray(pixels).save(path, format=source, exif=exif)
    image = read_image(path)
    assert image.pixels.shape == (20, 12, 3)
    write_image(image, out)
    with PILImage.open(out) as opened:
        exif = opened.getexif()
        details, position = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        assert opened.size == (12, 20)
    assert exif.get(0x0100, 12) == 12
    assert (exif[0x0112], exif[0x010F], exif[0x8298]) == (1, "A maker", "(c) someone")
    assert exif[0x010E] == "A boat"
    assert (details[0x8827], details[0x927C]) == (200, b"MAKER NOTE\x00\x01")
    assert details[0x9003] == "2024:05:06 07:08:09"
    assert details[0x829A] == pytest.approx(0.004)
    assert (details[0xA002], details[0xA003]) == (12, 20)  # as the pixels are now
    assert 0x9214 not in details  # the subject's place in the old image
    assert (position[1], position[2]) == ("N", (52.0, 30.0, 12.5))


def with_iptc(folder: Path) -> Path:
    """A JPEG with captions beside another resource of Photoshop, put in by hand."""
    buffer = io.BytesIO()
    PILImage.fromarray(ramps()).save(buffer, "jpeg")
    other = b"8BIM\x04\x25\x03abc" + struct.pack(">I", 3) + b"xyz\0"
    records = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(RECORDS)) + RECORDS
    block = b"Photoshop 3.0\0" + other + records + bytes(len(RECORDS) % 2)
    content = buffer.getvalue()
    segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    (folder / "in.jpg").write_bytes(content[:2] + segment + content[2:])
    return folder / "in.jpg"


@pytest.mark.parametrize("name", ["jpeg", "tiff"])
def test_iptc_is_written_back_where_there_is_a_place_for_it(tmp_path, name):
    image = read_image(with_iptc(tmp_path))
    assert image.metadata.iptc == RECORDS
    write_image(image, place(tmp_path, name))
    assert read_image(place(tmp_path, name)).metadata.iptc == RECORDS
    with PILImage.open(place(tmp_path, name)) as opened:
        captions = IptcImagePlugin.getiptcinfo(opened)
    assert captions == {(2, 120): b"hello", (2, 80): b"me"}


@pytest.mark.parametrize("name", ["png", "webp", "avif"])
def test_iptc_is_left_out_where_there_is_no_place_for_it(tmp_path, name):
    write_image(read_image(with_iptc(tmp_path)), place(tmp_path, name))
    assert read_image(place(tmp_path, name)).metadata.iptc is None


@pytest.mark.parametrize("name", WRITTEN)
def test_xmp_is_written_back_with_its_orientation_set_right(tmp_path, rng, name):
    image = replace(noise(rng), metadata=Metadata(xmp=XMP))
    write_image(image, place(tmp_path, name))
    assert read_image(place(tmp_path, name)).metadata.xmp.rstrip(b"\0") == SETTLED_XMP


@pytest.mark.parametrize("name", WRITTEN)
def test_icc_profiles_stay_and_the_numbers_with_them(tmp_path, rng, name):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    odd = icc.replace(b"sRGB", b"oRGB")  # another space for all that reads its name
    image = replace(noise(rng), metadata=Metadata(icc=odd))
    write_image(image, place(tmp_path, name), quality=100)
    again = read_image(place(tmp_path, name))
    assert again.metadata.icc == odd
    if name != "jpeg":
        np.testing.assert_array_equal(again.pixels, image.pixels)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("density", [(300.0, 300.0), (96.0, 200.0)])
def test_density_is_written_back(tmp_path, rng, name, density):
    per_mm = (density[0] / 25.4, density[1] / 25.4)
    image = replace(noise(rng), metadata=Metadata(pixels_per_mm=per_mm))
    write_image(image, place(tmp_path, name))
    assert read_image(place(tmp_path, name)).metadata.pixels_per_mm == pytest.approx(
        per_mm, rel=1e-3
    )
    with PILImage.open(place(tmp_path, name)) as opened:
        if name in ("png", "tiff"):
            assert tuple(map(float, opened.info["dpi"])) == pytest.approx(density, rel=1e-2)
        else:
            exif = opened.getexif()
            assert (exif[0x011A], exif[0x011B], exif[0x0128]) == (*density, 2)


def test_a_density_that_nobody_stated_is_written_as_72_per_inch(tmp_path, rng):
    write_image(noise(rng), tmp_path / "p.png")
    with PILImage.open(tmp_path / "p.png") as opened:
        assert opened.info["dpi"] == pytest.approx((72, 72), rel=1e-3)


@pytest.mark.parametrize("name", WRITTEN)
def test_strip_leaves_nothing_but_the_profile(tmp_path, rng, name):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    metadata = Metadata(
        icc=icc, exif=pillow_exif().tobytes(), xmp=XMP, iptc=RECORDS, pixels_per_mm=(11.8, 11.8)
    )
    path = place(tmp_path, name)
    write_image(replace(noise(rng), metadata=metadata), path, options=SaveOptions(metadata="strip"))
    again = read_image(path).metadata
    assert again.icc == icc
    assert (again.exif, again.xmp, again.iptc) == (None, None, None)
    assert again.pixels_per_mm != pytest.approx((11.8, 11.8), rel=0.1)
    content = path.read_bytes()
    assert b"A maker" not in content
    assert b"hello" not in content


def frames(rng: np.random.Generator) -> list[PILImage.Image]:
    flat = rng.integers(0, 255, (3, 1, 1, 3), dtype=np.uint8).repeat(12, 1).repeat(20, 2)
    return [PILImage.fromarray(pixels) for pixels in flat]


@pytest.mark.parametrize(
    ("suffix", "note"),
    [
        (".gif", "took the first of 3 frames"),
        (".webp", "took the first of 3 frames"),
        (".png", "took the first of 3 frames"),
        (".tif", "took the first of 3 pages"),
        (".avif", "took the first frame of an animation"),
    ],
)
def test_of_several_frames_the_first_is_taken_with_a_note(tmp_path, rng, suffix, note):
    first, *others = frames(rng)
    options = {".webp": {"lossless": True}, ".avif": {"quality": 100}}.get(suffix, {})
    first.save(tmp_path / f"p{suffix}", save_all=True, append_images=others, **options)
    with open_image(tmp_path / f"p{suffix}") as reader:
        assert reader.header.notes == (note,)
        assert reader.header.height == 12
    error = read_image(tmp_path / f"p{suffix}").pixels.astype(int) - np.asarray(first)
    assert np.abs(error).max() <= (3 if suffix == ".avif" else 0)


def test_what_a_image_is_called_does_not_matter(tmp_path, rng):
    image = noise(rng)
    write_image(image, tmp_path / "p.png")
    (tmp_path / "p.png").rename(tmp_path / "p.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "p.jpg").pixels, image.pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1)])
@pytest.mark.parametrize("name", LOSSLESS)
def test_thin_images(tmp_path, rng, name, size):
    image = noise(rng, size=size, alpha=True)
    write_image(image, place(tmp_path, name), quality=100)
    again = read_image(place(tmp_path, name))
    np.testing.assert_array_equal(again.pixels, image.pixels)
    np.testing.assert_array_equal(again.alpha, image.alpha)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_grey_of_16_bits_with_alpha_made_by_hand(tmp_path):
    samples = (np.arange(12).reshape(2, 3, 2) * 5000).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", 3, 2, 16, 4, 0, 0, 0)
    (tmp_path / "p.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + png_chunk(b"IDAT", zlib.compress(lines))
        + png_chunk(b"IEND", b"")
    )
    image = read_image(tmp_path / "p.png")
    np.testing.assert_array_equal(image.pixels[..., 0], samples[..., 0])
    np.testing.assert_array_equal(image.alpha, samples[..., 1])


def test_a_density_that_cannot_be_is_written_as_unknown(tmp_path, rng):
    path = tmp_path / "p.jpg"
    write_image(replace(noise(rng), metadata=Metadata(pixels_per_mm=(4e9, 4e9))), path)
    with PILImage.open(path) as opened:
        assert opened.info["dpi"] == pytest.approx((72, 72), rel=1e-3)


def test_loaders_that_are_not_for_strangers_files_are_blocked_in_every_process() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    with pytest.raises(pyvips.Error, match=r"not in a known format|blocked"):
        pyvips.Image.new_from_buffer(svg, "")
