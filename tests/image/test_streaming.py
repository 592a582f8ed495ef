"""Rows in and rows out: the same as whole, in bounded memory, and nothing half written."""

import io
import os
import resource
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import (
    Header,
    Image,
    Metadata,
    SaveOptions,
    create_image,
    open_image,
    read_image,
    write_image,
)
from edgekeeper.image import write as writing

SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".avif")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def noise(rng: np.random.Generator, size=(70, 50), channels=3, dtype=np.uint8) -> np.ndarray:
    return rng.integers(0, np.iinfo(dtype).max, (*size, channels), dtype=dtype, endpoint=True)


def header_of(samples: np.ndarray, **more) -> Header:
    height, width, bands = samples.shape
    return Header(
        height=height,
        width=width,
        colours=1 if bands < 3 else 3,
        alpha="straight" if bands in (2, 4) else "none",
        depth=8 if samples.dtype == np.uint8 else 16,
        **more,
    )


def joined(image: Image) -> np.ndarray:
    if image.alpha is None:
        return image.pixels
    return np.concatenate([image.pixels, image.alpha[..., None]], 2)


def orientation(number: int) -> PILImage.Exif:
    exif = PILImage.Exif()
    exif[0x0112] = number
    return exif


class TestReading:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("turn", [1, 2, 3, 6])
    def test_rows_are_those_of_the_whole_image(self, tmp_path, rng, suffix, turn):
        path = tmp_path / f"p{suffix}"
        bands = 3 if suffix == ".jpg" else 4
        PILImage.fromarray(noise(rng, channels=bands)).save(path, exif=orientation(turn))
        whole = joined(read_image(path))
        with open_image(path) as reader:
            assert (reader.header.height, reader.header.width) == whole.shape[:2]
            assert reader.header.bands == whole.shape[2] == bands
            windows = [(0, 7), (3, 20), (3, 5), (18, 33), (40, 41), (45, reader.header.height)]
            for start, stop in windows:  # overlapping, within what was read, and with a gap
                np.testing.assert_array_equal(reader.rows(start, stop), whole[start:stop])

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_rows_of_every_depth_and_number_of_bands(self, tmp_path, rng, dtype, channels):
        samples = noise(rng, size=(300, 9), channels=channels, dtype=dtype)
        with create_image(tmp_path / "p.png", header_of(samples)) as writer:
            writer.write(samples)
        with open_image(tmp_path / "p.png") as reader:
            parts = [reader.rows(start, start + 100) for start in (0, 100, 200)]
        np.testing.assert_array_equal(np.concatenate(parts), samples, strict=True)

    def test_tiled_and_planar_tiffs(self, tmp_path, rng):
        samples = noise(rng, size=(100, 90))
        for name, options in [
            ("tiles", {"tile": (32, 48), "compression": "zlib"}),
            ("strips", {"rowsperstrip": 7, "compression": "zlib"}),
            ("planes", {"planarconfig": "separate"}),
            ("big", {"bigtiff": True}),
        ]:
            data = samples.transpose(2, 0, 1) if name == "planes" else samples
            tifffile.imwrite(tmp_path / name, data, photometric="rgb", **options)
            with open_image(tmp_path / name) as reader:
                parts = [reader.rows(start, start + 20) for start in range(0, 100, 20)]
            np.testing.assert_array_equal(np.concatenate(parts), samples)

    def test_bytes_are_read_like_a_file(self, tmp_path, rng):
        PILImage.fromarray(noise(rng)).save(tmp_path / "p.png", exif=orientation(6))
        content = (tmp_path / "p.png").read_bytes()
        np.testing.assert_array_equal(
            read_image(content).pixels, read_image(tmp_path / "p.png").pixels
        )
        with pytest.raises(ImageError, match=r"^The image cannot be decoded"):
            read_image(content[:300])

    def test_a_reader_goes_from_thread_to_thread(self, tmp_path, rng):
        samples = noise(rng, size=(200, 30))
        write_image(Image(pixels=samples), tmp_path / "p.tif")
        parts = []
        with open_image(tmp_path / "p.tif") as reader:
            for start in range(0, 200, 50):
                thread = threading.Thread(
                    target=lambda start=start: parts.append(reader.rows(start, start + 50))
                )
                thread.start()
                thread.join()
        np.testing.assert_array_equal(np.concatenate(parts), samples)

    def test_what_was_returned_can_be_changed(self, tmp_path, rng):
        samples = noise(rng)
        write_image(Image(pixels=samples), tmp_path / "p.png")
        with open_image(tmp_path / "p.png") as reader:
            reader.rows(0, 20)[:] = 0
            np.testing.assert_array_equal(reader.rows(10, 20), samples[10:20])

    def test_rows_that_are_not_there(self, tmp_path, rng):
        write_image(Image(pixels=noise(rng)), tmp_path / "p.png")
        with open_image(tmp_path / "p.png") as reader:
            reader.rows(10, 20)
            for start, stop in [(9, 20), (10, 10), (60, 71)]:
                with pytest.raises(InputError, match="of 70 rows those before 10 are gone"):
                    reader.rows(start, stop)
        with pytest.raises(InputError, match="closed"):
            reader.rows(30, 40)

    def test_opaque_alpha_can_be_left_out(self, tmp_path, rng):
        samples = noise(rng, channels=4)
        samples[..., 3] = 255
        for value, alpha in ((255, "none"), (254, "straight")):
            samples[60, 7, 3] = value
            PILImage.fromarray(samples).save(tmp_path / "p.png")
            with open_image(tmp_path / "p.png", holds="none") as reader:
                assert reader.header.alpha == alpha
                rows = reader.rows(0, 70)
            np.testing.assert_array_equal(rows, samples[..., : reader.header.bands])

    def test_files_are_let_go(self, tmp_path, rng):
        path = tmp_path / "p.jpg"
        PILImage.fromarray(noise(rng)).save(path, exif=orientation(6))

        def descriptors() -> int:
            read_image(path)
            write_image(Image(pixels=noise(rng)), tmp_path / "q.png", overwrite="replace")
            return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        counts = [descriptors() for _ in range(90)]
        assert max(counts[-30:]) <= max(counts[30:60]) + 2  # libvips keeps a few, and no more
        assert threading.active_count() < 8


class TestDamage:
    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
    def test_a_file_cut_short_fails_where_it_ends(self, tmp_path, rng, suffix):
        path, out = tmp_path / f"p{suffix}", tmp_path / "out.png"
        samples = noise(rng, size=(4000, 60))
        PILImage.fromarray(samples).save(path)  # the TIFF with its directory in front
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        read = []
        with (
            pytest.raises(ImageError, match="cut short") as caught,
            open_image(path) as reader,
            create_image(out, reader.header) as writer,
        ):
            for start in range(0, 4000, 100):
                writer.write(reader.rows(start, start + 100))
                read.append(start)
        assert str(path) in str(caught.value)
        assert 0 < len(read) < 25
        assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208

    def test_a_lost_tile_of_a_tiff_is_damage(self, tmp_path, rng):
        path = tmp_path / "p.tif"
        tifffile.imwrite(
            path, noise(rng, size=(256, 256)), tile=(64, 64), photometric="rgb", compression="zlib"
        )
        whole = path.read_bytes()
        path.write_bytes(whole[:150_000] + bytes(500) + whole[150_500:])
        with pytest.raises(ImageError, match="damaged"):
            read_image(path)
        path.write_bytes(whole[:-100])
        with pytest.raises(ImageError, match="damaged"):
            read_image(path)

    def test_a_jpeg_that_ends_too_early_is_damage_even_when_it_says_so(self, tmp_path, rng):
        buffer = io.BytesIO()
        PILImage.fromarray(noise(rng, size=(64, 64))).save(buffer, "jpeg")
        content = buffer.getvalue()
        (tmp_path / "p.jpg").write_bytes(content[: len(content) // 2] + b"\xff\xd9")
        with pytest.raises(ImageError, match="damaged"):
            read_image(tmp_path / "p.jpg")

    def test_harmless_oddities_are_no_damage(self, tmp_path, rng):
        buffer = io.BytesIO()
        PILImage.fromarray(noise(rng, size=(16, 16))).save(buffer, "jpeg")
        content = buffer.getvalue()
        (tmp_path / "p.jpg").write_bytes(content[:-2] + b"\0\0\0\xff\xd9")
        assert read_image(tmp_path / "p.jpg").pixels.shape == (16, 16, 3)
        samples = noise(rng)
        tags = [(65000, "H", 3, (1, 2, 3), True), (65001, "s", 0, "odd", True)]
        tifffile.imwrite(tmp_path / "p.tif", samples, photometric="rgb", extratags=tags)
        np.testing.assert_array_equal(read_image(tmp_path / "p.tif").pixels, samples)

    def test_damaged_exif_is_left_out(self, tmp_path, rng):
        path = tmp_path / "p.jpg"
        for exif in (
            b"Exif\0\0II*\0\xff\xff\xff\x7f",
            b"Exif\0\0XX",
            b"Exif\0\0MM\0*\0\0\0\x08\xff",
        ):
            PILImage.fromarray(noise(rng)).save(path, exif=exif)
            write_image(read_image(path), tmp_path / "out.jpg", overwrite="replace")
            with PILImage.open(tmp_path / "out.jpg") as opened:
                assert opened.getexif().get(0x0112, 1) == 1

    @pytest.mark.parametrize(
        ("head", "title"),
        [
            (b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(40), "HEIC"),
            (b"\xff\x0a" + bytes(40), "JPEG XL"),
        ],
    )
    def test_formats_that_libvips_lacks_are_named(self, tmp_path, head, title):
        (tmp_path / "p").write_bytes(head)
        with pytest.raises(ImageError, match=f"is {title}, which the libvips|cannot be decoded"):
            read_image(tmp_path / "p")

    def test_a_path_through_a_file(self, tmp_path):
        (tmp_path / "p.png").touch()
        with pytest.raises(ImageError, match="not a directory"):
            read_image(tmp_path / "p.png" / "q.png")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, tmp_path):
        (tmp_path / "p.png").touch(mode=0)
        with pytest.raises(ImageError, match="permission denied"):
            read_image(tmp_path / "p.png")


def resized_jpeg(side: int, **options) -> bytes:
    """A JPEG of 16 x 16 pixels that declares to be ``side`` square."""
    buffer = io.BytesIO()
    PILImage.new("RGB", (16, 16)).save(buffer, "jpeg", **options)
    content = bytearray(buffer.getvalue())
    at = content.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(content)


def empty_tiff(side: int, turn: int) -> bytes:
    """A TIFF of ``side`` square in one strip of which there is nothing."""
    tags = {
        256: side,
        257: side,
        258: 8,
        259: 1,
        262: 1,
        273: 8,
        274: turn,
        277: 1,
        278: side,
        279: 1000,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "content",
    [
        resized_jpeg(65500),
        resized_jpeg(65500, exif=orientation(6)),
        resized_jpeg(30000, exif=orientation(6)),
        resized_jpeg(65500, progressive=True),
        empty_tiff(60_000, 1),
        empty_tiff(30_000, 6),
        empty_tiff(100_000, 1),
    ],
)
def test_a_huge_size_with_nothing_behind_it_ends_soon(tmp_path, content):
    path = tmp_path / "p"
    path.write_bytes(content)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with (
        pytest.raises(ImageError, match=r"million are read|cut short") as caught,
        open_image(path) as reader,
    ):
        reader.rows(0, 100)
    assert "\n" not in str(caught.value)
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


class Stop(KeyboardInterrupt):
    """The user's Ctrl-C."""


class TestWriting:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_rows_make_the_same_file_as_the_whole_image(self, tmp_path, rng, suffix):
        samples = noise(rng, size=(200, 60))
        write_image(Image(pixels=samples), tmp_path / f"whole{suffix}")
        with create_image(tmp_path / f"rows{suffix}", header_of(samples)) as writer:
            for start in range(0, 200, 7):
                writer.write(samples[start : start + 7])
        whole, rows = (tmp_path / f"{name}{suffix}" for name in ("whole", "rows"))
        np.testing.assert_array_equal(read_image(rows).pixels, read_image(whole).pixels)
        assert rows.read_bytes() == whole.read_bytes()

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("error", [ValueError, Stop])
    def test_an_exception_leaves_nothing(self, tmp_path, rng, suffix, error):
        samples = noise(rng, size=(400, 300))
        with (
            pytest.raises(error),
            create_image(tmp_path / f"p{suffix}", header_of(samples)) as writer,
        ):
            writer.write(samples[:250])
            raise error
        assert os.listdir(tmp_path) == []  # noqa: PTH208
        assert not [t for t in threading.enumerate() if "_run" in t.name]

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_ctrl_c_while_the_end_is_encoded_leaves_nothing(
        self, tmp_path, rng, monkeypatch, suffix
    ):
        def interrupted(self) -> None:
            raise Stop

        monkeypatch.setattr(writing._Encoder, "finish", interrupted)
        samples = noise(rng)
        with pytest.raises(Stop), create_image(tmp_path / f"p{suffix}", header_of(samples)) as w:
            w.write(samples)
        assert os.listdir(tmp_path) == []  # noqa: PTH208

    def test_an_exception_leaves_the_old_file(self, tmp_path, rng):
        (tmp_path / "p.png").write_bytes(b"precious")
        samples = noise(rng)
        with (
            pytest.raises(ValueError),
            create_image(tmp_path / "p.png", header_of(samples), overwrite="replace") as writer,
        ):
            writer.write(samples)
            raise ValueError
        assert (tmp_path / "p.png").read_bytes() == b"precious"
        assert len(os.listdir(tmp_path)) == 1  # noqa: PTH208

    def test_missing_and_spare_rows_are_refused(self, tmp_path, rng):
        samples = noise(rng)
        with (
            pytest.raises(InputError, match="69 of 70 rows"),
            create_image(tmp_path / "p.png", header_of(samples)) as writer,
        ):
            writer.write(samples[1:])
        with (
            pytest.raises(InputError, match="has 70 rows"),
            create_image(tmp_path / "p.png", header_of(samples)) as writer,
        ):
            writer.write(samples)
            writer.write(samples[:1])
        for wrong in (samples[:, 1:], samples[..., :1], samples.astype(np.uint16), samples[0]):
            with (
                pytest.raises(InputError, match="must be"),
                create_image(tmp_path / "p.png", header_of(samples)) as writer,
            ):
                writer.write(wrong)
        assert os.listdir(tmp_path) == []  # noqa: PTH208
        with pytest.raises(InputError, match="with block"):
            create_image(tmp_path / "p.png", header_of(samples)).write(samples)

    def test_a_file_that_appeared_meanwhile_is_not_overwritten(self, tmp_path, rng):
        samples, path = noise(rng), tmp_path / "p.png"
        with (
            pytest.raises(ImageError, match="exists already"),
            create_image(path, header_of(samples)) as writer,
        ):
            writer.write(samples)
            path.write_bytes(b"precious")
        assert path.read_bytes() == b"precious"

    @pytest.fixture
    def full_disk(self) -> Iterator[None]:
        """Files end at 100,000 bytes, as on a full disk."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
    def test_a_full_disk_is_noticed_before_all_is_computed(self, tmp_path, rng, full_disk, suffix):
        rows, written = noise(rng, size=(50, 1000)), 0
        header = Header(height=50_000, width=1000, colours=3)
        with (
            pytest.raises(ImageError, match="file too large"),
            create_image(tmp_path / f"p{suffix}", header) as writer,
        ):
            for _ in range(1000):
                writer.write(rows)
                written += 1
        assert 0 < written < 500
        assert os.listdir(tmp_path) == []  # noqa: PTH208

    @pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif"])
    def test_a_stream_gets_the_bytes_of_the_file(self, tmp_path, rng, name):
        samples = noise(rng)
        options, metadata = SaveOptions(format=name), Metadata(iptc=b"\x1c\x02\x78\0\1a")
        stream, header = io.BytesIO(b""), header_of(samples, metadata=metadata)
        for target in (stream, tmp_path / "no ending"):
            with create_image(target, header, options=options) as writer:
                writer.write(samples)
        assert stream.getvalue() == (tmp_path / "no ending").read_bytes()
        np.testing.assert_equal(read_image(stream.getvalue()).pixels.shape, samples.shape)

    def test_a_stream_gets_nothing_of_a_image_that_failed(self, rng):
        samples, stream = noise(rng), io.BytesIO()
        with (
            pytest.raises(ValueError),
            create_image(stream, header_of(samples), options=SaveOptions(format="png")) as writer,
        ):
            writer.write(samples)
            raise ValueError
        assert stream.getvalue() == b""
        with pytest.raises(InputError, match=r"SaveOptions\(format"):
            create_image(stream, header_of(samples))

    def test_a_pipe_that_nobody_reads_is_one_sentence(self, rng):
        reading, writing = os.pipe()
        os.close(reading)
        samples = noise(rng)
        options = SaveOptions(format="png")
        with (
            os.fdopen(writing, "wb", buffering=0) as stream,
            pytest.raises(ImageError, match="broken pipe"),
            create_image(stream, header_of(samples), options=options) as writer,
        ):
            writer.write(samples)

    def test_a_bigtiff_keeps_exif_and_captions(self, tmp_path, rng, monkeypatch):
        monkeypatch.setattr(writing, "_CLASSIC_TIFF", 0)
        exif = PILImage.Exif()
        exif[0x010F] = "A maker with a long name"
        exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
        samples = noise(rng)
        metadata = Metadata(exif=exif.tobytes(), iptc=b"\x1c\x02\x78\0\x09a caption")
        write_image(Image(pixels=samples, metadata=metadata), tmp_path / "p.tif")
        assert (tmp_path / "p.tif").read_bytes()[:4] == b"II+\0"
        again = read_image(tmp_path / "p.tif")
        np.testing.assert_array_equal(again.pixels, samples)
        assert again.metadata.iptc == metadata.iptc
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "p.tif"), samples)
        with tifffile.TiffFile(tmp_path / "p.tif") as file:
            tags = file.pages[0].tags
            assert tags["Make"].value == "A maker with a long name"
            assert tags["ExifTag"].value["DateTimeOriginal"] == "2024:05:06 07:08:09"


class TestOptions:
    def test_what_cannot_be_is_refused(self):
        for wrong, match in [
            ({"format": "tif"}, "Did you mean 'tiff'"),
            ({"format": "jxl"}, "no format to write 'jxl'"),
            ({"quality": 0}, "quality must be 1 to 100"),
            ({"metadata": "drop"}, "no choice of metadata 'drop'"),
        ]:
            with pytest.raises(InputError, match=match):
                SaveOptions(**wrong)

    def test_each_makes_a_difference_and_keeps_the_pixels(self, tmp_path):
        rows, columns = np.mgrid[:128, :128]
        samples = np.stack([rows, columns, rows + columns], 2).astype(np.uint8)

        def size(name: str, **options) -> int:
            path = tmp_path / name
            write_image(
                Image(pixels=samples), path, options=SaveOptions(**options), overwrite="replace"
            )
            if path.suffix in (".png", ".tif"):
                np.testing.assert_array_equal(read_image(path).pixels, samples)
            return path.stat().st_size

        assert max(size("p.png"), size("p.tif")) < samples.nbytes
        for suffix in (".jpg", ".webp", ".avif"):
            assert size(f"p{suffix}", quality=20) < size(f"p{suffix}", quality=98)
        assert size("p.jpg", format="png") == size("p.png")

    def test_headers_are_judged_like_images(self, tmp_path):
        small = Header(height=10, width=20_000, colours=3, alpha="straight")
        for name, scale, match in [
            ("p.jpg", 1, "no transparency"),
            ("p.jpg", 4, "JPEG ends at 65500. Write PNG or TIFF"),
            ("p.webp", 1, "WebP ends at 16383"),
            ("p.avif", 1, "AVIF ends at 16384"),
            ("p.png", 51, "PNG ends at 1000000. Write TIFF"),
            ("p.tif", 501, "TIFF ends at 10000000. Write it in parts"),
        ]:
            header = replace(small, height=10 * scale, width=20_000 * scale)
            with pytest.raises(ImageError, match=match):
                create_image(tmp_path / name, header)
        create_image(tmp_path / "p.png", replace(small, height=500, width=1_000_000))
        square = Header(height=15_000, width=15_000, colours=3)
        with pytest.raises(ImageError, match="WebP is written up to 134 million"):
            create_image(tmp_path / "p.webp", square)
        create_image(tmp_path / "p.tif", replace(square, height=60_000, width=60_000))
        with pytest.raises(ImageError, match="WebP"):
            create_image(tmp_path / "p.tif", square, options=SaveOptions(format="webp"))

    def test_what_a_format_does_not_keep_is_noted(self, tmp_path):
        grey = Header(height=5, width=5, colours=1, depth=16)
        notes = {s: create_image(tmp_path / f"p{s}", grey).notes for s in SUFFIXES}
        assert notes[".png"] == notes[".tif"] == ()
        assert notes[".jpg"] == ("rounded 16 bits to 8, the most that JPEG holds",)
        assert "12" in notes[".avif"][0]
        assert "WebP has no grey" in notes[".webp"][1]


MEASURED = """
import resource, sys
from edgekeeper.image import Header, create_image, open_image
import numpy as np
path, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rows = np.random.default_rng(0).integers(0, 60, (100, width, 3), dtype=np.uint8)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
with create_image(path, Header(height=height, width=width, colours=3)) as writer:
    for _ in range(height // 100):
        writer.write(rows)
with open_image(path) as reader:
    for start in range(0, height, 100):
        got = reader.rows(max(0, start - 20), start + 100)
        assert (got[-100:] == rows).all()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_memory_does_not_grow_with_the_image(tmp_path: Path, suffix):
    height, width = 8000, 8000  # 192 MB
    source = MEASURED if suffix != ".jpg" else MEASURED.replace("assert (", "(")
    done = subprocess.run(
        [sys.executable, "-c", source, str(tmp_path / f"p{suffix}"), str(height), str(width)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert int(done.stdout) < 150  # MB, of which a JPEG file of 60 MB is mapped
