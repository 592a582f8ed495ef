"""A small reader of HDF5 files as h5py and Keras write them: groups and arrays of numbers, no code.

The format: "HDF5 File Format Specification Version 3.0", The HDF Group; of it what the library
writes by default, which is the layout of its version 1.8 and older: symbol tables, B-trees of
version 1, object headers of version 1. Arrays must lie in one piece and without compression, as
Keras stores weights.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekeeper.errors import CheckpointError

Array = NDArray[np.generic]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ROOT = 56  # where the entry of the root group begins
# Kinds of messages in an object header.
_SPACE, _TYPE, _LAYOUT, _FILTERS, _CONTINUED, _GROUP = 0x01, 0x03, 0x08, 0x0B, 0x10, 0x11
_WHOLE_NUMBER, _FLOAT = 0, 1  # classes of numbers
_COMPACT, _ONE_PIECE = 0, 1  # layouts of arrays


def read_hdf5(path: Path) -> dict[str, Array]:
    """Return the number arrays of an HDF5 file by name, those in groups as ``"group/name"``.

    Everything that is no array of numbers (text, for instance) is left out.

    Raises:
        CheckpointError: the file is missing or damaged, written in a newer layout, or holds
            arrays that are compressed or stored in pieces.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"'{path}' cannot be read ({error.strerror}).") from error
    if not data.startswith(_SIGNATURE):
        raise CheckpointError(f"'{path}' is not an HDF5 file.")
    if data[8:9] > b"\0" or data[13:15] != b"\x08\x08":
        raise CheckpointError(
            f"'{path}' is an HDF5 file in a layout newer than h5py's and Keras's default; save it "
            "again without 'libver', or as .safetensors."
        )
    try:
        return dict(_File(data).arrays(_ROOT, prefix=""))
    except _UnsupportedError as error:
        raise CheckpointError(
            f"'{path}': {error}; save it again uncompressed, or as .safetensors."
        ) from error
    except (struct.error, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is a damaged HDF5 file ({error}).") from error


class _UnsupportedError(Exception):
    """What is not wrong in a file, but not read here."""


class _File:
    """The bytes of a file and what they mean; addresses count from its beginning."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen: set[int] = set()

    def unpack(self, form: str, at: int) -> tuple[int, ...]:
        """Little-endian numbers from address ``at`` on."""
        return struct.unpack_from(f"<{form}", self.data, at)

    def take(self, at: int, size: int) -> bytes:
        """``size`` bytes from address ``at`` on."""
        found = self.data[at : at + size]
        if len(found) < size:
            raise ValueError("it ends too early")
        return found

    def text(self, at: int) -> str:
        """Return the text from address ``at`` to the next zero byte."""
        end = self.data.find(b"\0", at)
        if end < 0:
            raise ValueError("a name does not end")
        return self.data[at:end].decode()

    def enter(self, at: int, *, signature: bytes) -> None:
        """Check what begins at ``at``, and that a damaged file does not lead there twice."""
        if at in self.seen or self.take(at, len(signature)) != signature:
            raise ValueError(f"no '{signature.decode()}' at byte {at}")
        self.seen.add(at)

    def arrays(self, entry: int, *, prefix: str) -> Iterator[tuple[str, Array]]:
        """Names and arrays of the object that a symbol table entry at ``entry`` points to."""
        (header,) = self.unpack("Q", entry + 8)
        messages = self.messages(header)
        if _GROUP in messages:
            tree, heap = self.unpack("QQ", messages[_GROUP][0])
            (names,) = self.unpack("Q", heap + 24)
            for inner in self.entries(tree):
                (offset,) = self.unpack("Q", inner)
                name = self.text(names + offset)
                yield from self.arrays(inner, prefix=f"{prefix}/{name}" if prefix else name)
        elif {_SPACE, _TYPE, _LAYOUT} <= messages.keys():
            array = self.array(messages, name=prefix)
            if array is not None:
                yield prefix, array

    def entries(self, tree: int) -> Iterator[int]:
        """Yield the addresses of the symbol table entries below a node of a group's B-tree."""
        self.enter(tree, signature=b"TREE")
        kind, level, count = self.unpack("BBH", tree + 4)
        if kind != 0:
            raise ValueError(f"no group's tree at byte {tree}")
        for child in range(count):  # a key of 8 bytes stands before each child
            (node,) = self.unpack("Q", tree + 24 + 16 * child + 8)
            if level:
                yield from self.entries(node)
                continue
            self.enter(node, signature=b"SNOD")
            (symbols,) = self.unpack("H", node + 6)
            yield from (node + 8 + 40 * symbol for symbol in range(symbols))

    def messages(self, header: int) -> dict[int, tuple[int, int]]:
        """Kind -> address and size of the first message of each kind of an object's header."""
        version, _, count, _, size = self.unpack("BBHII", header)
        if version != 1:
            raise ValueError(f"no object header at byte {header}")
        found: dict[int, tuple[int, int]] = {}
        blocks = [(header + 16, size)]
        for at, left in blocks:  # grows while it is gone through
            while left >= 8 and count > 0:
                kind, length = self.unpack("HH", at)
                if kind == _CONTINUED:
                    blocks.append(self.unpack("QQ", at + 8))  # type: ignore[arg-type]
                found.setdefault(kind, (at + 8, length))
                at, left, count = at + 8 + length, left - 8 - length, count - 1
        return found

    def array(self, messages: dict[int, tuple[int, int]], *, name: str) -> Array | None:
        """Return the array that an object's header describes, or None if it is not of numbers."""
        kind = self.number_type(messages[_TYPE][0])
        if kind is None:
            return None
        shape = self.shape(messages[_SPACE][0])
        size = kind.itemsize * math.prod(shape)
        at = messages[_LAYOUT][0]
        version, layout = self.unpack("BB", at)
        if version != 3 or layout not in (_COMPACT, _ONE_PIECE) or _FILTERS in messages:
            raise _UnsupportedError(f"the array '{name}' is compressed or stored in pieces")
        (start,) = (at + 4,) if layout == _COMPACT else self.unpack("Q", at + 2)
        content = self.take(start, size) if size else b""
        native = kind.newbyteorder("=")
        return np.frombuffer(bytearray(content), kind).astype(native).reshape(shape)

    def number_type(self, at: int) -> np.dtype[np.generic] | None:
        """Return the type of numbers, or None if it is another type."""
        first, bits, _, _, size = self.unpack("BBBBI", at)
        order = ">" if bits & 1 else "<"
        if first & 0xF == _FLOAT and size in (2, 4, 8):
            return np.dtype(f"{order}f{size}")
        if first & 0xF == _WHOLE_NUMBER and size in (1, 2, 4, 8):
            return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
        return None

    def shape(self, at: int) -> tuple[int, ...]:
        """Return the sizes of an array."""
        version, axes = self.unpack("BB", at)
        if version not in (1, 2):
            raise ValueError(f"no sizes at byte {at}")
        return self.unpack(f"{axes}Q", at + (8 if version == 1 else 4))
