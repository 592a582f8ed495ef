"""Animations, and formats that Pillow reads: whole through the reader and the writer."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageOps

from edgekeeper.errors import ImageError, UnavailableError
from edgekeeper.image import (
    Animation,
    Header,
    Metadata,
    SaveOptions,
    create_image,
    is_animated,
    open_image,
    read_image,
)

DELAYS = [100, 70, 2000]
LOSSLESS = {".gif": {"disposal": 2}, ".webp": {"lossless": True}, ".png": {}}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def flat(rng: np.random.Generator, *, channels: int = 3, count: int = 3) -> np.ndarray:
    """Frames (n, 12, 20, C) of a few colours, so that a GIF holds them."""
    few = rng.integers(0, 255, (count, 3, 5, channels), dtype=np.uint8)
    if channels == 4:
        few[..., 3] = np.where(few[..., 3] > 120, 255, 0)
        few[..., :3] *= few[..., 3:] > 0
    return few.repeat(4, 1).repeat(4, 2)


def save(path: Path, frames: np.ndarray, *, delays=DELAYS, loop: int | None = 0, **more) -> Path:
    first, *others = (PILImage.fromarray(frame) for frame in frames)
    loops = {} if loop is None else {"loop": loop}
    options = LOSSLESS[path.suffix] | loops | more
    first.save(path, save_all=True, append_images=others, duration=delays[: len(frames)], **options)
    return path


def read_all(path: Path) -> tuple[Header, np.ndarray]:
    with open_image(path, frames="all") as reader:
        header = reader.header
        samples = reader.read_rest()
    return header, samples.reshape(header.frames, header.height, header.width, header.bands)


def test_all_frames_come_back_in_every_format(tmp_path, rng):
    for channels in (3, 4):
        frames = flat(rng, channels=channels)
        for suffix in LOSSLESS:
            for loop in (0, 2):
                path = save(tmp_path / f"a{suffix}", frames, loop=loop)
                header, read = read_all(path)
                case = (suffix, channels, loop)
                assert (header.height, header.width, header.rows) == (12, 20, 36), case
                assert header.notes == (), case
                assert header.animation.delays == (100, 70, 2000), case
                # NETSCAPE's number is of repetitions
                assert header.animation.loop == (loop + 1 if suffix == ".gif" and loop else loop)
                visible = read[..., -1] > 0 if channels == 4 else np.ones(read.shape[:3], bool)
                np.testing.assert_array_equal(read[visible], frames[visible], str(case))
                for to in LOSSLESS:
                    out = tmp_path / f"out{to}"
                    options = SaveOptions(quality=100)
                    with create_image(out, header, options=options, overwrite="replace") as writer:
                        writer.write(read.reshape(-1, 20, read.shape[-1]))
                    again, made = read_all(out)
                    assert again.animation == header.animation, (case, to)
                    close = 6 if to == ".gif" else 0  # palettes of 15 bits
                    shown = made[visible].astype(int)[:, :3] - frames[visible][:, :3]
                    assert np.abs(shown).max() <= close, (case, to)
                    with PILImage.open(out) as theirs:
                        assert theirs.n_frames == 3


def test_frames_are_turned_as_their_exif_says(tmp_path, rng):
    frames = [PILImage.fromarray(a) for a in rng.integers(0, 255, (3, 12, 20, 3), dtype=np.uint8)]
    for suffix in (".webp", ".png"):
        for turn in (2, 3, 6, 7):
            exif = PILImage.Exif()
            exif.update({0x010E: "a name", 0x0112: turn})
            path, out = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
            options = {**LOSSLESS[suffix], "exif": exif, "duration": 50}
            frames[0].save(path, save_all=True, append_images=frames[1:], **options)
            with open_image(path, frames="all") as reader:
                header, samples = reader.header, reader.read_rest()
            upright = [ImageOps.exif_transpose(_oriented(one, turn)) for one in frames]
            np.testing.assert_array_equal(samples, np.concatenate(upright), f"{suffix} {turn}")
            assert (header.width, header.height) == upright[0].size
            out.unlink(missing_ok=True)
            with create_image(out, header, options=SaveOptions(quality=100)) as writer:
                writer.write(samples)
            with PILImage.open(out) as made:
                assert made.getexif().get(0x0112, 1) == 1
                assert made.getexif()[0x010E] == "a name"


def _oriented(image: PILImage.Image, turn: int) -> PILImage.Image:
    image = image.copy()
    image.getexif()[0x0112] = turn
    return image


def test_one_frame_is_no_animation(tmp_path, rng):
    for suffix in LOSSLESS:
        path = save(tmp_path / f"a{suffix}", flat(rng, count=1))
        assert not is_animated(path)
        assert read_all(path)[0].animation is None
    assert is_animated(save(tmp_path / "b.gif", flat(rng)))
    (tmp_path / "c.gif").write_bytes(b"GIF89a")
    assert not is_animated(tmp_path / "c.gif")
    assert not is_animated(tmp_path / "none.gif")


def test_frames_that_cover_a_part_are_composed(tmp_path, rng):
    """Frames of other places, disposals and blendings, as optimisers make them."""
    base = PILImage.fromarray(flat(rng)[0])
    moving = [base.copy() for _ in range(4)]
    for number, frame in enumerate(moving):
        frame.paste((255, 0, 0), (number * 4, 2, number * 4 + 4, 6))
    want = np.stack([np.asarray(frame) for frame in moving])
    for suffix in LOSSLESS:
        path = tmp_path / f"a{suffix}"
        more = {"disposal": 1} if suffix == ".gif" else {}
        save(path, want, delays=[50] * 4, **more)
        _, read = read_all(path)
        np.testing.assert_array_equal(read[..., :3], want, suffix)


def test_formats_of_one_frame_refuse_several(tmp_path, rng):
    header = Header(height=4, width=4, colours=3, animation=Animation(delays=(10, 10)))
    for suffix in (".jpg", ".tif", ".avif"):
        with pytest.raises(ImageError, match="has one frame"):
            create_image(tmp_path / f"a{suffix}", header)
    large = Header(height=9000, width=9000, colours=3, animation=Animation(delays=(10, 10)))
    with pytest.raises(ImageError, match="too many for an animated PNG"):
        create_image(tmp_path / "a.png", large)


def test_an_animation_cut_short_is_refused_or_said_to_be(tmp_path, rng):
    frames = rng.integers(0, 255, (3, 60, 60, 3), dtype=np.uint8)
    for suffix in LOSSLESS:
        path = save(tmp_path / f"a{suffix}", frames)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if suffix == ".gif":
            header, read = read_all(path)
            assert (header.notes, len(read)) == (
                ("its end is missing, perhaps with frames of it",),
                2,
            )
            np.testing.assert_array_equal(read[0], read_image(path).pixels)
            continue
        with pytest.raises(ImageError, match="damaged or cut short"):
            read_all(path)


def test_animated_png_needs_pillow(tmp_path, rng, monkeypatch):
    path = save(tmp_path / "a.png", flat(rng))
    header, _ = read_all(path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UnavailableError, match=r"edgekeeper\[image\]"):
        create_image(tmp_path / "b.png", header)
    monkeypatch.setattr("edgekeeper.image.read.has_pillow", lambda: False)
    header, _ = read_all(path)
    assert header.animation is None
    assert "the package pillow" in header.notes[1]


def test_gif_has_no_profile_and_its_numbers_are_srgb(tmp_path, rng):
    from tests.image.test_image import grey_profile

    header = Header(height=8, width=8, colours=1, metadata=Metadata(icc=grey_profile(1.0)))
    with create_image(tmp_path / "a.gif", header) as writer:
        assert "256 colours" in writer.notes[0]
        writer.write(np.full((8, 8, 1), 55, np.uint8))
    assert abs(int(read_image(tmp_path / "a.gif").pixels[0, 0, 0]) - 128) <= 3


FORMS = {
    "a.bmp": ({}, "RGB"),
    "b.bmp": ({}, "L"),
    "c.bmp": ({}, "1"),
    "a.ppm": ({}, "RGB"),
    "a.pgm": ({}, "L"),
    "b.pgm": ({}, "I;16"),
    "a.pbm": ({}, "1"),
    "a.tga": ({}, "RGB"),
    "b.tga": ({"compression": "tga_rle"}, "RGBA"),
    "c.tga": ({}, "L"),
    "d.tga": ({}, "P"),
    "a.jp2": ({}, "RGB"),
    "b.jp2": ({}, "RGBA"),
    "c.j2k": ({}, "L"),
    "d.jp2": ({}, "I;16"),
    "a.dds": ({}, "RGB"),
    "b.dds": ({}, "RGBA"),
}


def pillow_image(rng: np.random.Generator, mode: str) -> PILImage.Image:
    if mode == "I;16":
        return PILImage.fromarray(rng.integers(0, 65535, (12, 20), dtype=np.uint16))
    image = PILImage.fromarray(rng.integers(0, 255, (12, 20, 4), dtype=np.uint8), "RGBA")
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_what_libvips_does_not_read_pillow_does(tmp_path, rng):
    for name, (options, mode) in FORMS.items():
        given = pillow_image(rng, mode)
        given.save(tmp_path / name, **options)
        image = read_image(tmp_path / name)
        want = np.asarray(given.convert({"1": "L", "P": "RGB"}.get(mode, mode)))
        np.testing.assert_array_equal(image.to_numpy(), want, name)
        read_image((tmp_path / name).read_bytes())
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ImageError, match="damaged or cut short"):
            read_image(tmp_path / name)


def test_what_pillow_has_in_fewer_bits_is_said(tmp_path, rng):
    size = b"P6 20 12 %d\n"
    for name, top in (("a.ppm", 255), ("b.ppm", 1023)):
        (tmp_path / name).write_bytes(size % top + bytes(20 * 12 * (3 if top == 255 else 6)))
    for name, bits in (("a.jp2", 8), ("b.jp2", 12), ("b.j2k", 16)):
        pillow_image(rng, "RGB").save(tmp_path / name, irreversible=False)
        content = bytearray((tmp_path / name).read_bytes())
        sizes = content.index(b"\xff\x51")  # SIZ, then 40 bytes on bits less one, for each channel
        content[sizes + 40 : sizes + 49 : 3] = bytes([bits - 1]) * 3
        (tmp_path / name).write_bytes(content)
    for path in sorted(tmp_path.iterdir()):
        with open_image(path) as reader:
            assert reader.header.depth == 8
            said = ("took 8 bits of the samples, which have more",) if path.stem == "b" else ()
            assert reader.header.notes == said, path


def test_without_pillow_they_are_named(tmp_path, rng, monkeypatch):
    pillow_image(rng, "RGB").save(tmp_path / "a.bmp")
    monkeypatch.setattr("edgekeeper.image.formats.has_pillow", lambda: False)
    with pytest.raises(UnavailableError, match=r"BMP, which needs the package pillow: pip"):
        read_image(tmp_path / "a.bmp")


def test_the_density_and_the_profile_of_a_bmp_and_a_jp2(tmp_path, rng):
    image = pillow_image(rng, "RGB")
    image.save(tmp_path / "a.bmp", dpi=(300, 300))
    assert read_image(tmp_path / "a.bmp").metadata.pixels_per_mm == pytest.approx(
        (300 / 25.4,) * 2, rel=1e-3
    )


def test_what_looks_like_no_image_is_none(tmp_path):
    for content in (
        b"BMW is no bitmap, whatever its first bytes are, nor is this long enough to be one",
        b"P7 and so on" * 9,
        b"P5",
        bytes(100),
        b"\x00\x00\x01\x00\x01\x00\x10\x10\x00\x00\x01\x00\x20\x00" + bytes(60),  # an icon
        b"text, and more text; " * 9,
        bytes(range(1, 100)),
    ):
        with pytest.raises(ImageError, match=r"not an image|damaged"):
            read_image(content)
    buffer = io.BytesIO(b"BM" + bytes(12) + b"\x28" + bytes(50))
    with pytest.raises(ImageError, match="damaged"):
        read_image(buffer.getvalue())
