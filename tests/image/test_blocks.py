"""EXIF, XMP and IPTC blocks: read as they stand, set right, packed as others read them."""

import io
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekeeper.image.metadata import (
    TiffTags,
    add_tags,
    iptc_records,
    photoshop_block,
    read_tags,
    settled_xmp,
)


def pillow_block(order: str) -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112], exif[0x011A] = "A maker", 6, 300.0
    exif.get_ifd(0x8769).update(
        {0x829A: 0.25, 0x9000: b"0232", 0x8827: 100, 0xA434: "Lens", 0xA003: 7, 0x9214: (1, 2)}
    )
    exif.get_ifd(0x8825).update({1: "S", 2: (1.0, 2.0, 3.5), 0: b"\x02\x03\x00\x00"})
    return exif.tobytes()


def small_tiff() -> io.BytesIO:
    """A file of one tag, as it might come from libvips."""
    return io.BytesIO(b"II*\0" + struct.pack("<IHHHII", 8, 1, 256, 4, 1, 40) + bytes(4))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_block_goes_into_a_tiff_and_out_of_it(order):
    file = small_tiff()
    add_tags(file, exif=pillow_block(order), iptc=RECORDS, size=(30, 40))
    found = read_tags(file)
    assert found.iptc == RECORDS
    original, again = Image.Exif(), Image.Exif()
    original.load(pillow_block("<"))
    again.load(found.exif)
    assert again[0x010F] == "A maker"
    assert 0x0112 not in again  # orientation and density are the TIFF's own
    details = original.get_ifd(0x8769)
    assert details.pop(0x9214)  # the subject's place in the old image
    assert again.get_ifd(0x8769) == details | {0xA003: 30}
    assert again.get_ifd(0x8825) == original.get_ifd(0x8825)


def test_what_a_tiff_says_already_stays():
    file = small_tiff()
    add_tags(file, exif=None, iptc=RECORDS, size=(30, 40))
    whole = Image.Exif()
    whole.load(b"Exif\0\0" + file.getvalue())
    assert whole[256] == 40
    assert whole[33723] == RECORDS


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60), st.integers(0, 300), st.binary(min_size=1, max_size=4))
def test_damaged_blocks_are_read_or_left_out(noise, at, patch):
    block = pillow_block(">")
    for damaged in (noise, b"II*\0" + noise, block[:at], block[:at] + patch + block[at + 4 :]):
        file = small_tiff()
        add_tags(file, exif=damaged, iptc=None, size=(1, 2))
        assert read_tags(io.BytesIO(damaged.removeprefix(b"Exif\0\0")))
        assert read_tags(file).iptc is None


def test_directories_that_go_in_circles_end():
    circle = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8)
    assert read_tags(io.BytesIO(circle + struct.pack("<I", 8))).exif


def test_tags_that_all_name_the_same_bytes_take_no_time():
    many = 4000
    first, values = 26, 26 + 2 + 12 * many + 4
    entries = [struct.pack("<HHII", n, 3, 30_000, values) for n in range(1, many + 1)]
    block = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, first)
    block += bytes(4) + struct.pack("<H", many) + b"".join(entries) + bytes(4) + bytes(60_000)
    started = time.process_time()
    assert read_tags(io.BytesIO(block)) == TiffTags()
    assert time.process_time() - started < 1


def test_xmp_is_set_right_in_both_of_its_forms():
    attributes = b"<r tiff:Orientation='8' exif:PixelXDimension = \"7\" tiff:Orientations='3'/>"
    assert settled_xmp(attributes, size=(2, 3)) == (
        b"<r tiff:Orientation='1' exif:PixelXDimension = \"3\" tiff:Orientations='3'/>"
    )
    elements = b"<tiff:Orientation>6</tiff:Orientation><tiff:ImageLength>9</tiff:ImageLength>"
    assert settled_xmp(elements, size=(2, 3)) == (
        b"<tiff:Orientation>1</tiff:Orientation><tiff:ImageLength>2</tiff:ImageLength>"
    )


RECORDS = b"\x1c\x02\x78\0\x05hello"


def test_captions_are_found_among_resources_and_wrapped_again():
    assert iptc_records(RECORDS) == RECORDS
    assert iptc_records(photoshop_block(RECORDS)) == RECORDS
    others = b"8BIM\x03\xed\x04name\0" + struct.pack(">I", 5) + b"12345\0"
    assert iptc_records(b"Photoshop 3.0\0" + others + photoshop_block(RECORDS)[14:]) == RECORDS
    started = time.process_time()
    assert iptc_records(b"Photoshop 3.0\0" + (b"8BIM\x03\xed\0\0" + bytes(4)) * 2**20) is None
    assert time.process_time() - started < 5  # 12 MB; no copy of the rest for each resource
    for nothing in (b"", b"8BIM", others, b"Photoshop 3.0\0", b"8BIM\x04\x04\xff", b"noise" * 9):
        assert iptc_records(nothing) is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [4, 7])
def test_captions_of_a_tiff_are_bytes_whatever_it_calls_them(order, kind):
    data = RECORDS + bytes(-len(RECORDS) % 4)
    count = len(data) // (4 if kind == 4 else 1)
    entry = struct.pack(f"{order}HHII", 33723, kind, count, 26)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    records = read_tags(io.BytesIO(head + entry + bytes(4) + data)).iptc
    assert records.rstrip(b"\0") == RECORDS


def test_a_description_that_tells_of_another_layout_is_left_out():
    for text, kept in ((b"A boat on a lake\0", True), (b'{"shape": [4, 4, 3]}\0', False)):
        file = io.BytesIO(
            b"II*\0"
            + struct.pack("<IH", 8, 1)
            + struct.pack("<HHII", 270, 2, len(text), 26)
            + bytes(4)
            + text
        )
        assert (read_tags(file).exif is not None) == kept


def test_nothing_to_add_leaves_a_tiff_as_it_is():
    file = io.BytesIO(b"not looked at")
    add_tags(file, exif=None, iptc=None, size=(1, 1))
    assert file.getvalue() == b"not looked at"
