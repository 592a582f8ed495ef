"""EXIF, XMP and IPTC blocks: read as they stand, set right, packed as others read them."""

import io
import struct
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekeeper.image.metadata import (
    DamagedExifError,
    Exif,
    Tag,
    density_of,
    exif_block,
    iptc_records,
    parse_exif,
    photoshop_block,
    settled,
    settled_xmp,
)
from edgekeeper.image.tiff import complete_tiff, tiff_exif, tiff_iptc


def pillow_block(order: str) -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112], exif[0x011A] = "A maker", 6, 300.0
    exif[0x011B], exif[0x0128] = 150.0, 2
    exif.get_ifd(0x8769).update({0x829A: 0.25, 0x9000: b"0232", 0x8827: 100, 0xA434: "Lens"})
    exif.get_ifd(0x8825).update({1: "S", 2: (1.0, 2.0, 3.5), 0: b"\x02\x03\x00\x00"})
    return exif.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_pillow_writes_is_read_and_written_for_pillow_again(order):
    exif = parse_exif(pillow_block(order))
    assert exif == parse_exif(pillow_block("<"))
    assert exif.main[0x010F] == Tag(2, b"A maker\0")
    assert exif.details[0x9000].data == b"0232"
    again = Image.Exif()
    again.load(exif_block(exif))
    original = Image.Exif()
    original.load(pillow_block(order))
    for directory in (0x8769, 0x8825):
        assert again.get_ifd(directory) == original.get_ifd(directory)
    assert again[0x010F] == original[0x010F]


tags = st.dictionaries(
    st.integers(1, 0x7FFF),
    st.one_of(
        st.binary(min_size=1, max_size=20).map(lambda data: Tag(7, data)),
        st.integers(0, 2**32 - 1).map(lambda number: Tag(4, struct.pack("<I", number))),
        st.lists(st.integers(0, 65535), min_size=1, max_size=5).map(
            lambda numbers: Tag(3, struct.pack(f"<{len(numbers)}H", *numbers))
        ),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=50)
@given(tags, tags, tags, tags)
def test_every_block_comes_back(main, details, place, interoperability):
    main[1] = Tag(3, b"\0\0")  # a directory has at least one tag
    exif = Exif(main=main, details=details, place=place, interoperability=interoperability)
    assert asdict(parse_exif(exif_block(exif))) == asdict(exif)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60), st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_damaged_blocks_are_parsed_or_refused(noise, at, patch):
    block = pillow_block(">")
    for damaged in (noise, b"II*\0" + noise, block[:at], block[:at] + patch + block[at + 4 :]):
        try:
            assert exif_block(parse_exif(damaged))
        except DamagedExifError:
            continue


def test_directories_that_go_in_circles_end():
    circle = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + bytes(4)
    assert 0x8769 in parse_exif(circle).details


def test_settled_exif_tells_of_the_image_as_it_is_now():
    exif = parse_exif(pillow_block("<"))
    exif.main[0x0100] = exif.details[0xA003] = Tag(3, b"\1\0")
    exif.details[0x9214] = Tag(3, b"\1\0\2\0")
    done = settled(exif, size=(30, 40), pixels_per_mm=(10.0, 20.0))
    assert done.main[0x0112] == Tag(3, b"\1\0")
    assert done.main[0x0100] == Tag(4, struct.pack("<I", 40))
    assert done.details[0xA003] == Tag(4, struct.pack("<I", 30))
    assert 0xA002 not in done.details  # only what was there
    assert 0x9214 not in done.details
    assert density_of(done) == pytest.approx((10, 20))
    assert done.place == exif.place


def test_density_in_inches_centimetres_and_without_a_unit():
    assert density_of(parse_exif(pillow_block(">"))) == pytest.approx((300 / 25.4, 150 / 25.4))
    exif = parse_exif(pillow_block("<"))
    exif.main[0x0128] = Tag(3, b"\3\0")
    assert density_of(exif) == pytest.approx((30, 15))
    exif.main[0x0128] = Tag(3, b"\1\0")
    assert density_of(exif) is None
    exif.main[0x0128], exif.main[0x011A] = Tag(3, b"\2\0"), Tag(5, bytes(8))
    assert density_of(exif) is None


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
    for nothing in (b"", b"8BIM", others, b"Photoshop 3.0\0", b"8BIM\x04\x04\xff", b"noise" * 9):
        assert iptc_records(nothing) is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [4, 7])
def test_captions_of_a_tiff_are_bytes_whatever_it_calls_them(order, kind):
    data = RECORDS + bytes(-len(RECORDS) % 4)
    count = len(data) // (4 if kind == 4 else 1)
    entry = struct.pack(f"{order}HHII", 33723, kind, count, 26)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    records = tiff_iptc(io.BytesIO(head + entry + bytes(4) + data))
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
        exif = tiff_exif(file)
        assert (exif is not None) == kept


def test_nothing_to_add_leaves_a_tiff_as_it_is():
    file = io.BytesIO(b"not looked at")
    complete_tiff(file, exif=None, iptc=None)
    assert file.getvalue() == b"not looked at"
