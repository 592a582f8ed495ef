"""A small reader of MATLAB's level 5 files: numbers, text, cells and structs, no code.

The format: "MAT-File Format", The MathWorks. SciPy reads it too, for 36 MB in every installation.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekeeper.errors import CheckpointError
from edgekeeper.files import read_bytes, reading

MatValue = NDArray[np.generic] | str | list["MatValue"] | dict[str, "MatValue"]

_STORED = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8"}
_STORED |= {12: "<i8", 13: "<u8"}
_ENCODINGS = {1: "utf-8", 2: "utf-8", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}
_COMPRESSED = 15
_MOST_UNPACKED = 100  # bytes for each byte of the file, in all
_MOST_ELEMENTS = 2**17  # of all kinds, some five to an array
_DAMAGE = (struct.error, zlib.error, ValueError, IndexError, KeyError, RecursionError)
_CELL, _STRUCT, _TEXT, _DOUBLE, _SINGLE, _UINT64 = 1, 2, 4, 6, 7, 15


@dataclass(frozen=True)
class _Element:
    kind: int
    content: memoryview


def read_mat(path: Path) -> dict[str, MatValue]:
    """Return the variables of a MATLAB level 5 file, by name.

    Number arrays keep their shape, as float64 or, of MATLAB's single, float32; text is one str; a
    cell is a flat list in MATLAB's order; a 1 × 1 struct is a dict, any other struct array a list
    of dicts. Raises CheckpointError: a damaged file, another format, sparse or complex arrays.
    """
    with reading(path, error=CheckpointError):
        data = read_bytes(path)
    if len(data) < 128 or data[126:128] != b"IM":
        raise CheckpointError(
            f"'{path}' is not a little-endian MATLAB level 5 file; save it with '-v7' in MATLAB."
        )
    found: dict[str, MatValue] = {}
    try:
        reader = _Reader(left=_MOST_UNPACKED * len(data) + 2**20)
        for element in reader.elements(memoryview(data)[128:]):
            if element.kind == _COMPRESSED:  # a variable, and nothing inside of one
                (element,) = reader.elements(reader.unpacked(element.content))
            parts = reader.elements(element.content)
            found[bytes(parts[2].content).decode("ascii")] = reader.value(parts)
    except _DAMAGE as error:
        raise CheckpointError(
            f"'{path}' is damaged or holds something else than numbers, text, cells and structs."
        ) from error
    return found


def _numbers(element: _Element) -> NDArray[np.generic]:
    return np.frombuffer(element.content, dtype=_STORED[element.kind])


class _Reader:
    """Takes a file's elements apart, nothing copied; ``left`` bytes may be unpacked."""

    def __init__(self, *, left: int) -> None:
        self._left, self._elements_left = left, _MOST_ELEMENTS

    def unpacked(self, packed: memoryview) -> memoryview:
        """Return what a compressed element holds, cut off where nothing is left."""
        data = zlib.decompressobj().decompress(packed, max(1, self._left))
        self._left -= len(data)
        return memoryview(data)

    def elements(self, data: memoryview) -> list[_Element]:
        found, at = [], 0
        while at < len(data):
            self._elements_left -= 1
            if self._elements_left < 0:
                raise ValueError("more elements than are read")
            kind, size = struct.unpack_from("<II", data, at)
            start = at + 8
            if kind >> 16:  # small element: its size is in the upper half, its bytes follow at once
                kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
                at += 8
            elif kind == _COMPRESSED:  # the only kind without padding to 8 bytes
                at = start + size
            else:
                at = start + size + -size % 8
            if start + size > len(data):
                raise ValueError("an element is longer than the file")
            found.append(_Element(kind, data[start : start + size]))
        return found

    def value(self, matrix: list[_Element]) -> MatValue:
        """The value of the miMATRIX element of these parts; an empty element is an empty array."""
        if not matrix:
            return np.zeros((0, 0))
        flags, dimensions, _, *parts = matrix
        shape = [int(n) for n in _numbers(dimensions)]
        flag = int(_numbers(flags)[0])
        kind, is_complex = flag & 0xFF, flag & 0x0800
        if kind == _CELL:
            return [self.value(self.elements(part.content)) for part in parts]
        if kind == _STRUCT:
            return self._struct(parts, count=math.prod(shape))
        if kind == _TEXT:
            return bytes(parts[0].content).decode(_ENCODINGS[parts[0].kind])
        if is_complex or not _DOUBLE <= kind <= _UINT64:
            raise ValueError("sparse or complex numbers")
        # MATLAB stores whole numbers in fewer bytes, whatever their class.
        numbers = _numbers(parts[0])
        self._left -= 8 * numbers.size
        if self._left < 0:
            raise ValueError("its arrays are far larger than the file")
        return numbers.astype("f4" if kind == _SINGLE else "f8").reshape(shape, order="F")

    def _struct(self, parts: list[_Element], *, count: int) -> MatValue:
        """Return a struct of one as a dict, of several as a list of dicts."""
        length, text = int(_numbers(parts[0])[0]), bytes(parts[1].content)
        fields = [
            text[i : i + length].split(b"\0")[0].decode("ascii")
            for i in range(0, len(text), length)
        ]
        values = [self.value(self.elements(part.content)) for part in parts[2:]]
        if len(values) != count * len(fields) or not (fields or count == 1):
            raise ValueError("a struct lacks fields")
        size = len(fields)
        found: list[MatValue] = [
            dict(zip(fields, values[i * size : (i + 1) * size], strict=True)) for i in range(count)
        ]
        return found[0] if count == 1 else found
