"""EXIF and IPTC in TIFF files, which libvips does not read and write, or not rightly.

The tags of EXIF's main directory lie among those of the TIFF itself; the two other directories
hang from it (EXIF 2.32, 4.6.3).
"""

from dataclasses import replace
from typing import BinaryIO, Literal

from edgekeeper.image.metadata import (
    DETAILS,
    PLACE,
    DamagedExifError,
    Exif,
    Reader,
    Tag,
    iptc_records,
    pack_tree,
)

_PHOTOMETRIC, _IPTC = 262, 33723
_UNDEFINED = 7
# What tells of the image and not of how the file is laid out: name, description, maker, model,
# page name, software, date, artist, computer, rating, Windows' title to subject, copyright.
_DESCRIPTIVE = {269, 270, 271, 272, 285, 305, 306, 315, 316, 0x4746, 0x4749, 33432}
_DESCRIPTIVE |= set(range(0x9C9B, 0x9CA0))
# Descriptions by which programs find their way in their own files; false of any other image.
_LAYOUTS = (b'{"shape"', b"ImageJ=", b"<?xml")


def tiff_exif(file: BinaryIO) -> Exif | None:
    """Return the EXIF of a TIFF file's first page; None when there is none or it is damaged."""
    try:
        reader, start = _open(file)
        exif = reader.tree(start, only=_DESCRIPTIVE | {DETAILS, PLACE})
    except DamagedExifError:
        return None
    if 270 in exif.main and exif.main[270].data.startswith(_LAYOUTS):
        del exif.main[270]
    return exif if exif.main or exif.details or exif.place else None


def tiff_colours(file: BinaryIO) -> int | None:
    """Return the number by which a TIFF file says what its samples mean (TIFF 6.0, tag 262)."""
    try:
        reader, start = _open(file)
        value = reader.directory(start, only={_PHOTOMETRIC}).get(_PHOTOMETRIC)
    except DamagedExifError:
        return None
    return None if value is None else int.from_bytes(value.data[:2], "little")


def tiff_iptc(file: BinaryIO) -> bytes | None:
    """Return the IPTC records of a TIFF file's first page; None when there are none."""
    try:
        reader, start = _open(file)
        value = reader.directory(start, only={_IPTC}).get(_IPTC)
    except DamagedExifError:
        return None
    if value is None:
        return None
    data = value.data
    if value.kind == 4 and reader.order == ">":
        # Bytes that are declared as long numbers, which they are not: put back as they stood.
        data = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
    return iptc_records(data)


def complete_tiff(file: BinaryIO, *, exif: Exif | None, iptc: bytes | None) -> None:
    """Add ``exif`` and ``iptc`` to the one-page TIFF in ``file``.

    Its directory is written anew at the end, and the header points there.
    """
    if exif is None and iptc is None:
        return
    reader, start = _open(file)
    assert reader.order == "<", "libvips writes in the order of the machine"
    standing, _ = reader.entries(start)
    exif = exif or Exif()
    main = {tag: value for tag, value in exif.main.items() if tag in _DESCRIPTIVE}
    if iptc is not None:
        main[_IPTC] = Tag(_UNDEFINED, iptc)
    end = file.seek(0, 2)
    at = end + -end % 8
    body, start = pack_tree(replace(exif, main=main), at=at, width=reader.width, standing=standing)
    file.write(bytes(at - end) + body)
    file.seek(reader.width)
    file.write(start.to_bytes(reader.width, "little"))


def _open(file: BinaryIO) -> tuple[Reader, int]:
    """Return a reader of the file's directories, and where the first of them is."""

    def read(offset: int, count: int) -> bytes:
        file.seek(offset)
        return file.read(count)

    head = read(0, 16)
    order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
    width: Literal[4, 8] = 8 if 0x2B in head[2:4] else 4
    reader = Reader(read=read, order=order, width=width)
    # The first offset follows the four bytes of the header, in a BigTIFF after four more.
    return reader, reader.number(width, width)
