"""What goes along with an image beside its pixels: captions (IPTC), XMP, and the tags of TIFF.

libvips takes EXIF through all formats but TIFF, and sets right what it says of the pixels.
"""

import io
import math
import re
import struct
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from edgekeeper.image.formats import Further

# ---- IPTC captions: the records alone, and as a resource of Photoshop, the form that JPEG has ---
#
# Records begin with 0x1C (IPTC-NAA IIM 4.1, chapter 3). A resource is "8BIM", its number, a name,
# its length and its bytes, padded to even lengths (Adobe Photoshop File Formats, "Image
# Resources").

_HEAD = b"Photoshop 3.0\0"

_CAPTIONS = 0x0404
_MOST_RESOURCES = 10_000  # Photoshop writes some dozens


def iptc_records(block: bytes) -> bytes | None:
    """Return the records in ``block``, alone there or among resources; None if it has none."""
    if block[:1] == b"\x1c":
        return block
    at = len(_HEAD) if block.startswith(_HEAD) else 0
    for _ in range(_MOST_RESOURCES):
        if block[at : at + 4] != b"8BIM" or len(block) < at + 12:
            break
        number = int.from_bytes(block[at + 4 : at + 6], "big")
        name = 1 + block[at + 6]
        start = at + 10 + name + name % 2
        length = int.from_bytes(block[start - 4 : start], "big")
        if number == _CAPTIONS:
            return block[start : start + length] or None
        at = start + length + length % 2
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
    """Return the XMP with orientation 1 and the sizes of an image of ``size`` (H, W)."""
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


# ---- EXIF and IPTC of TIFF files, which libvips passes over: tags are moved as bytes -------------
#
# The tags of EXIF's main directory lie among those of the TIFF itself, and its two other
# directories hang from it (EXIF 2.32, 4.6.3); an EXIF block is a TIFF without an image. TIFF 6.0,
# section 2, describes directories. What is read is bounded whatever a file says of itself. Not so
# tifftools 1.7: 8 s and 940 MiB for 4000 tags that name the same bytes (a file of 108 kB), no end
# of a directory that follows itself; and it copies all pixels to add a tag.

_PHOTOMETRIC, _DESCRIPTION, _IPTC, _DETAILS, _PLACE = 262, 270, 33723, 0x8769, 0x8825
_FURTHER = 338
# What tells of the image and not of how the file is laid out: name, description, maker, model,
# page name, software, date, artist, computer, rating, Windows' title to subject, copyright.
_DESCRIPTIVE = {269, _DESCRIPTION, 271, 272, 285, 305, 306, 315, 316, 0x4746, 0x4749, 33432}
_DESCRIPTIVE |= set(range(0x9C9B, 0x9CA0))
# Descriptions by which programs find their way in their own files; false of any other image.
_LAYOUTS = (b'{"shape"', b"ImageJ=", b"<?xml")
# The subject's area and location, places in the old image; a pointer that is not followed.
_LEFT_OUT = (0x9214, 0xA214, 0xA005)
_WIDTH, _HEIGHT = 0xA002, 0xA003

_UNDEFINED, _SHORT, _LONG, _LONG8 = 7, 3, 4, 16
_POINTERS = (_LONG, 13, _LONG8, 18)
_RATIONALS = (5, 10)
# Bytes of one value of each type; 16 to 18 are BigTIFF's.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}

_MOST_TAGS = 4096
_MOST_BYTES = 2**22  # that are read of one file's directories; libvips takes 2**23 of EXIF


class _Tag(NamedTuple):
    """A value: its type as TIFF numbers them, and its bytes in little-endian order."""

    kind: int
    data: bytes


_Tree = dict[int, "_Tag | dict[int, _Tag]"]  # A directory with those that hang from it


class _DamagedError(ValueError):
    """The directories point outside of the file, or hold what no directory can."""


class TiffTags(NamedTuple):
    """What a TIFF file's first page says beside its pixels; None for what it does not say."""

    exif: bytes | None = None  # as an EXIF block
    iptc: bytes | None = None  # the records
    photometric: int | None = None  # what its samples mean (tag 262)
    # What a channel after the colours is: alpha only where the file says so (tag 338)
    further: Literal["straight", "extra"] = "straight"
    overfull: bool = False  # whether they are too many, or name far more bytes than the file has


def read_tags(file: BinaryIO) -> TiffTags:
    """Return the tags of a TIFF file's first page; nothing of a file whose directory is damaged."""
    overfull = False
    try:
        tiff = _Tiff(file)
        overfull = tiff.named() > 2 * file.seek(0, 2) + 2**20
        own = tiff.tags(tiff.first, only=(_PHOTOMETRIC, _DESCRIPTION, _IPTC, _FURTHER))
        tree = tiff.exif()
    except _DamagedError:
        return TiffTags(overfull=overfull)
    if _DESCRIPTION in own and own[_DESCRIPTION].data.startswith(_LAYOUTS):
        del tree[_DESCRIPTION]
    exif = None
    if tree:
        body, start = _pack(tree, at=8)
        exif = b"Exif\0\0II*\0" + struct.pack("<I", start) + body
    records = None
    if _IPTC in own:
        kind, data = own[_IPTC]
        if kind == _LONG and tiff.order == "big":
            # Bytes that are declared as long numbers, which they are not: put back as they stood.
            data = _swapped(data, 4)
        records = iptc_records(data)
    numbers = {tag: int.from_bytes(own[tag].data[:2], "little") for tag in own}
    return TiffTags(
        exif=exif,
        iptc=records,
        photometric=numbers.get(_PHOTOMETRIC),
        further="straight" if numbers.get(_FURTHER) in (1, 2) else "extra",
        overfull=overfull,
    )


def add_tags(
    file: BinaryIO,
    *,
    exif: bytes | None,
    iptc: bytes | None,
    size: tuple[int, int],
    further: Further = "none",
) -> None:
    """Add an EXIF block and IPTC records to the one-page TIFF in ``file``, of ``size`` (H, W).

    Its directory is written anew at the end, and the header points there. A damaged block is
    left out. A channel after the colours that is "extra" is called so; libvips calls it alpha.
    """
    tree: _Tree = {}
    if exif is not None:
        with suppress(_DamagedError):
            tree = _Tiff(io.BytesIO(exif.removeprefix(b"Exif\0\0"))).exif()
    details = tree.get(_DETAILS)
    if isinstance(details, dict):
        for tag in _LEFT_OUT:
            details.pop(tag, None)
        for tag, side in ((_HEIGHT, size[0]), (_WIDTH, size[1])):
            if tag in details:
                details[tag] = _Tag(_LONG, struct.pack("<I", side))
    if iptc is not None:
        tree[_IPTC] = _Tag(_UNDEFINED, iptc)
    if further == "extra":
        tree[_FURTHER] = _Tag(_SHORT, bytes(2))
    if not tree:
        return
    tiff = _Tiff(file)
    assert tiff.order == "little", "libvips writes in the order of the machine"
    standing = tiff.entries(tiff.first)
    end = file.seek(0, 2)
    at = end + -end % 8
    body, start = _pack(tree, at=at, width=tiff.width, standing=standing)
    file.write(bytes(at - end) + body)
    file.seek(tiff.width)
    file.write(start.to_bytes(tiff.width, "little"))


class _Tiff:
    """The directories of a TIFF file or an EXIF block.

    Attributes:
        order: of bytes.
        width: 4, or 8 in a BigTIFF: bytes of an offset.
        first: where the first directory is.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, _MOST_BYTES
        head = self._read(0, 4)
        if head not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise _DamagedError("no TIFF header")
        self.order: Literal["little", "big"] = "little" if head[:1] == b"I" else "big"
        self.width: Literal[4, 8] = 8 if b"+" in head else 4
        # The first offset follows the four bytes of the header, in a BigTIFF after four more.
        self.first = self._number(self._read(self.width, self.width))

    def entries(self, offset: int) -> dict[int, bytes]:
        """Return the entries of the directory at ``offset`` as they stand."""
        head = 2 if self.width == 4 else 8
        count = self._number(self._read(offset, head))
        if not 0 < count <= _MOST_TAGS:
            raise _DamagedError(f"a directory of {count} tags")
        size = 4 + 2 * self.width
        table = self._read(offset + head, count * size)
        found = [table[at : at + size] for at in range(0, len(table), size)]
        return {self._number(entry[:2]): entry for entry in found}

    def named(self) -> float:
        """Return how many bytes the first directory's tags name; infinity for too many tags."""
        if self._number(self._read(self.first, 2 if self.width == 4 else 8)) > _MOST_TAGS:
            return math.inf
        return sum(
            self._number(entry[4 : 4 + self.width]) * _SIZES.get(self._number(entry[2:4]), 0)
            for entry in self.entries(self.first).values()
        )

    def tags(self, offset: int, *, only: Container[int] = range(2**16)) -> dict[int, _Tag]:
        """Return the tags in ``only`` of the directory at ``offset``, but those of unknown type."""
        found = {}
        for tag, entry in self.entries(offset).items():
            kind = self._number(entry[2:4])
            if tag not in only or kind not in _SIZES:
                continue
            length = self._number(entry[4 : 4 + self.width]) * _SIZES[kind]
            data = entry[4 + self.width :][:length]
            if length > self.width:
                data = self._read(self._number(data), length)
            unit = _SIZES[kind] // (2 if kind in _RATIONALS else 1)
            found[tag] = _Tag(kind, _swapped(data, unit) if self.order == "big" else data)
        return found

    def exif(self) -> _Tree:
        """Return EXIF's main directory with the two that hang from it."""
        tree: _Tree = dict(self.tags(self.first, only=_DESCRIPTIVE))
        for tag, pointer in self.tags(self.first, only=(_DETAILS, _PLACE)).items():
            if pointer.kind in _POINTERS:
                tree[tag] = self.tags(int.from_bytes(pointer.data, "little"))
        return tree

    def _number(self, data: bytes) -> int:
        return int.from_bytes(data, self.order)

    def _read(self, offset: int, count: int) -> bytes:
        self._left -= count
        if self._left < 0 or offset >= 2**63:
            raise _DamagedError("more bytes than a file has")
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) != count:
            raise _DamagedError(f"{count} bytes at {offset} are not there")
        return data


def _swapped(data: bytes, unit: int) -> bytes:
    """Return the bytes of each ``unit`` in the other order."""
    return np.frombuffer(data, f"<u{unit}").byteswap().tobytes()


def _pack(
    tree: Mapping[int, "_Tag | dict[int, _Tag]"],
    *,
    at: int,
    width: Literal[4, 8] = 4,
    standing: Mapping[int, bytes] | None = None,
) -> tuple[bytes, int]:
    """Return directories to stand at offset ``at`` of a file, and where the main one begins.

    ``standing`` are entries that point into the file already, to go into the main directory.
    """
    body, entries = b"", dict(standing or {})
    for tag, value in tree.items():
        if isinstance(value, dict):
            below, start = _pack(value, at=at + len(body), width=width)
            body += below
            value = _Tag(_LONG if width == 4 else _LONG8, start.to_bytes(width, "little"))
        kind, data = value
        inside = data.ljust(width, b"\0")
        if len(data) > width:
            inside = (at + len(body)).to_bytes(width, "little")
            body += data + bytes(len(data) % 2)  # values and directories start at even offsets
        count = (len(data) // _SIZES[kind]).to_bytes(width, "little")
        entries[tag] = struct.pack("<HH", tag, kind) + count + inside
    table = struct.pack("<H" if width == 4 else "<Q", len(entries))
    table += b"".join(entries[tag] for tag in sorted(entries)) + bytes(width)
    return body + table, at + len(body)
