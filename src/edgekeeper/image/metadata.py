"""EXIF blocks: directories of tags, read, set right for the image they go with, and packed.

TIFF 6.0 (section 2) describes the directories, EXIF 2.32 the tags. Values are kept as
little-endian bytes; what a tag means is looked at only where it depends on the pixels.
"""

import re
import struct
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

ORIENTATION = 0x0112

DETAILS, PLACE, INTEROPERABILITY = 0x8769, 0x8825, 0xA005

_X_DENSITY, _Y_DENSITY, _DENSITY_UNIT = 0x011A, 0x011B, 0x0128

_SHORT, _LONG, _RATIONAL, _LONG8 = 3, 4, 5, 16

# Bytes of one value of each type, and how many of them are swapped together.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

_SIZES |= {16: 8, 17: 8, 18: 8}  # BigTIFF

_SWAPPED = {3: 2, 8: 2, 4: 4, 5: 4, 9: 4, 10: 4, 11: 4, 13: 4, 12: 8, 16: 8, 17: 8, 18: 8}

_POINTERS = (4, 13, 16, 18)

_LARGEST = 2**24  # bytes of one value; a JPEG cannot hold more than 64 KB of EXIF at all

_MOST_TAGS = 4096


class DamagedExifError(ValueError):
    """The directories point outside of the block, or hold what no directory can."""


@dataclass(frozen=True)
class Tag:
    """A value: its type as TIFF numbers them, and its bytes in little-endian order."""

    kind: int
    data: bytes


Directory = dict[int, Tag]


@dataclass(frozen=True, kw_only=True)
class Exif:
    """The directories of an EXIF block; that of the thumbnail is never kept."""

    main: Directory = field(default_factory=dict)
    details: Directory = field(default_factory=dict)
    place: Directory = field(default_factory=dict)
    interoperability: Directory = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Directories at known offsets of a file or a block.

    Attributes:
        read: (offset, count) to that many bytes, or fewer at the end.
        order: "<" or ">", the byte order.
        width: 4, or 8 in a BigTIFF: bytes of an offset.
    """

    read: Callable[[int, int], bytes]
    order: Literal["<", ">"]
    width: Literal[4, 8] = 4

    def number(self, offset: int, size: int) -> int:
        """Return the unsigned number of ``size`` bytes at ``offset``."""
        return int.from_bytes(self._exactly(offset, size), self._endian)

    def entries(self, offset: int) -> tuple[dict[int, bytes], int]:
        """The entries of the directory at ``offset`` as they stand, and the next directory."""
        head = 2 if self.width == 4 else 8
        count = self.number(offset, head)
        if not 0 < count <= _MOST_TAGS:
            raise DamagedExifError(f"a directory of {count} tags")
        size = 4 + 2 * self.width
        table = self._exactly(offset + head, count * size)
        found = [table[at : at + size] for at in range(0, len(table), size)]
        following = self.number(offset + head + len(table), self.width)
        return {int.from_bytes(entry[:2], self._endian): entry for entry in found}, following

    def value(self, entry: bytes) -> Tag | None:
        """Return the value of an entry; None for a type that TIFF does not know."""
        kind = int.from_bytes(entry[2:4], self._endian)
        length = int.from_bytes(entry[4 : 4 + self.width], self._endian) * _SIZES.get(kind, 0)
        if kind not in _SIZES:
            return None
        if length > _LARGEST:
            raise DamagedExifError(f"a tag of {length} bytes")
        field_ = entry[4 + self.width :]
        where = int.from_bytes(field_, self._endian)
        data = field_[:length] if length <= self.width else self._exactly(where, length)
        unit = _SWAPPED.get(kind, 1)
        if self.order == ">" and unit > 1:
            data = b"".join(data[at : at + unit][::-1] for at in range(0, length, unit))
        return Tag(kind, data)

    def directory(self, offset: int, *, only: Container[int] | None = None) -> Directory:
        """Return the values of the directory at ``offset``, of the tags in ``only``."""
        entries, _ = self.entries(offset)
        chosen = {tag: e for tag, e in entries.items() if only is None or tag in only}
        values = {tag: self.value(entry) for tag, entry in chosen.items()}
        return {tag: value for tag, value in values.items() if value is not None}

    def tree(self, offset: int, *, only: Container[int] | None = None) -> Exif:
        """Return the directory at ``offset`` with those it points to."""
        main = self.directory(offset, only=only)
        details = self._below(main, DETAILS)
        return Exif(
            place=self._below(main, PLACE),
            interoperability=self._below(details, INTEROPERABILITY),
            main=main,
            details=details,
        )

    def _below(self, directory: Directory, tag: int) -> Directory:
        pointer = directory.pop(tag, None)
        if pointer is None or pointer.kind not in _POINTERS:
            return {}
        return self.directory(int.from_bytes(pointer.data, "little"))

    def _exactly(self, offset: int, count: int) -> bytes:
        data = self.read(offset, count)
        if len(data) != count:
            raise DamagedExifError(f"{count} bytes at {offset} are not there")
        return data

    @property
    def _endian(self) -> Literal["little", "big"]:
        return "little" if self.order == "<" else "big"


def parse_exif(block: bytes) -> Exif:
    """Return the directories of an EXIF block, with or without the six bytes "Exif" in front.

    Raises:
        DamagedExifError: they cannot be followed.
    """
    body = block.removeprefix(b"Exif\0\0")
    if body[:4] not in (b"II*\0", b"MM\0*"):
        raise DamagedExifError("no TIFF header")
    reader = Reader(
        read=lambda offset, count: body[offset : offset + count],
        order="<" if body[:1] == b"I" else ">",
    )
    return reader.tree(reader.number(4, 4))


def exif_block(exif: Exif) -> bytes:
    """The EXIF block of the directories, little-endian, with the six bytes "Exif" in front."""
    body, start = pack_tree(exif, at=8)
    return b"Exif\0\0II*\0" + struct.pack("<I", start) + body


def pack_tree(
    exif: Exif, *, at: int, width: Literal[4, 8] = 4, standing: Mapping[int, bytes] | None = None
) -> tuple[bytes, int]:
    """Return the bytes to stand at offset ``at`` of a file, and the offset of the main directory.

    ``standing`` are entries that point into the file already, to go into the main directory.
    """
    body = b""

    def put(directory: Directory, entries: Mapping[int, bytes] | None = None) -> int:
        nonlocal body
        offset = at + len(body)
        body += _pack(directory, at=offset, width=width, standing=entries or {})
        return offset

    def pointer(directory: Directory) -> Tag:
        return Tag(_LONG if width == 4 else _LONG8, put(directory).to_bytes(width, "little"))

    main, details = dict(exif.main), dict(exif.details)
    if exif.interoperability:
        details[INTEROPERABILITY] = pointer(exif.interoperability)
    if details:
        main[DETAILS] = pointer(details)
    if exif.place:
        main[PLACE] = pointer(exif.place)
    start = put(main, standing)
    return body, start


def _pack(
    directory: Directory, *, at: int, width: Literal[4, 8], standing: Mapping[int, bytes]
) -> bytes:
    tags = sorted(directory.keys() | standing.keys())
    short = "<H" if width == 4 else "<Q"
    values_at = at + struct.calcsize(short) + len(tags) * (4 + 2 * width) + width
    table, values = struct.pack(short, len(tags)), b""
    for tag in tags:
        if tag not in directory:
            table += standing[tag]
            continue
        kind, data = directory[tag].kind, directory[tag].data
        count = (len(data) // _SIZES[kind]).to_bytes(width, "little")
        inside = data.ljust(width, b"\0")
        if len(data) > width:
            inside = (values_at + len(values)).to_bytes(width, "little")
            values += data + bytes(len(data) % 2)  # values start at even offsets
        table += struct.pack("<HH", tag, kind) + count + inside
    return table + bytes(width) + values + bytes((len(table) + width) % 2)


def density_of(exif: Exif) -> tuple[float, float] | None:
    """The density that the EXIF states, in pixels per millimetre; None when it states none."""
    unit = exif.main.get(_DENSITY_UNIT, Tag(_SHORT, b"\2\0")).data[:2]  # inches unless it says so
    per_unit = {b"\2\0": 25.4, b"\3\0": 10.0}.get(unit)
    sides = []
    for tag in (_X_DENSITY, _Y_DENSITY):
        value = exif.main.get(tag)
        if value is None or value.kind != _RATIONAL or len(value.data) < 8 or per_unit is None:
            return None
        above, below = struct.unpack("<II", value.data[:8])
        if above == 0 or below == 0:
            return None
        sides.append(above / below / per_unit)
    return sides[0], sides[1]


def settled(exif: Exif, *, size: tuple[int, int], pixels_per_mm: tuple[float, float]) -> Exif:
    """Return the EXIF of an upright image of ``size`` (H, W): what tells of the pixels set right.

    The orientation becomes 1, the sizes those of the image, the density ``pixels_per_mm``.
    Places in the old image (subject area and location) are dropped.
    """
    main = exif.main | {ORIENTATION: Tag(_SHORT, struct.pack("<H", 1))}
    for tag, density in zip((_X_DENSITY, _Y_DENSITY), pixels_per_mm, strict=True):
        main[tag] = Tag(_RATIONAL, struct.pack("<II", round(density * 25.4 * 1000), 1000))
    main[_DENSITY_UNIT] = Tag(_SHORT, struct.pack("<H", 2))
    details = {tag: v for tag, v in exif.details.items() if tag not in (0x9214, 0xA214)}
    sizes = {0x0100: size[1], 0x0101: size[0], 0xA002: size[1], 0xA003: size[0]}
    for directory in (main, details):
        for tag in sizes.keys() & directory.keys():
            directory[tag] = Tag(_LONG, struct.pack("<I", sizes[tag]))
    return replace(exif, main=main, details=details)


# ---- IPTC captions: the records alone, and as a resource of Photoshop, the form that JPEG has ---
#
# Records begin with 0x1C (IPTC-NAA IIM 4.1, chapter 3). A resource is "8BIM", its number, a name,
# its length and its bytes, padded to even lengths (Adobe Photoshop File Formats, "Image
# Resources").

_HEAD = b"Photoshop 3.0\0"

_CAPTIONS = 0x0404


def iptc_records(block: bytes) -> bytes | None:
    """The records in ``block``, which holds them alone or among resources; None if it has none."""
    if block[:1] == b"\x1c":
        return block
    rest = block.removeprefix(_HEAD)
    while rest[:4] == b"8BIM" and len(rest) >= 12:
        (number,) = struct.unpack(">H", rest[4:6])
        name = 1 + rest[6]
        at = 6 + name + name % 2
        length = int.from_bytes(rest[at : at + 4], "big")
        if number == _CAPTIONS:
            return rest[at + 4 : at + 4 + length] or None
        rest = rest[at + 4 + length + length % 2 :]
    return None


def photoshop_block(records: bytes) -> bytes:
    """Return the resource that holds ``records``, as it stands in a JPEG."""
    head = b"8BIM" + struct.pack(">HHI", _CAPTIONS, 0, len(records))
    return _HEAD + head + records + bytes(len(records) % 2)


# ---- XMP: what it repeats of EXIF about the pixels, set right -----------------------------------
#
# The packet stays as it is but for a few numbers, which stand as attributes or as elements
# (XMP specification part 1, 7.9.2.2; part 2, 3.3 and 3.4).


def settled_xmp(xmp: bytes, *, size: tuple[int, int]) -> bytes:
    """The XMP of an upright image of ``size`` (H, W): orientation 1, the sizes as they are."""
    numbers = {
        b"tiff:Orientation": 1,
        b"tiff:ImageWidth": size[1],
        b"tiff:ImageLength": size[0],
        b"exif:PixelXDimension": size[1],
        b"exif:PixelYDimension": size[0],
    }
    for name, number in numbers.items():
        value = str(number).encode()
        xmp = re.sub(rb"\b" + name + rb"(\s*=\s*[\"'])\d+", name + rb"\g<1>" + value, xmp)
        xmp = re.sub(rb"(<" + name + rb"\s*>\s*)\d+", rb"\g<1>" + value, xmp)
    return xmp
