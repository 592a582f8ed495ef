"""IPTC captions: the records alone, and as a resource of Photoshop, the form that JPEG has.

Records begin with 0x1C (IPTC-NAA IIM 4.1, chapter 3). A resource is "8BIM", its number, a name,
its length and its bytes, padded to even lengths (Adobe Photoshop File Formats, "Image Resources").
"""

import struct

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
    """The resource that holds ``records``, as it stands in a JPEG."""
    head = b"8BIM" + struct.pack(">HHI", _CAPTIONS, 0, len(records))
    return _HEAD + head + records + bytes(len(records) % 2)
