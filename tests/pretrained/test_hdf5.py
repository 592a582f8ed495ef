"""The reader of HDF5 files, on files written here byte by byte after the format's specification."""

import random
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgekeeper.errors import CheckpointError
from edgekeeper.pretrained.hdf5 import read_hdf5
from edgekeeper.pretrained.published import read_weights

Array = NDArray[np.generic]
Tree = Mapping[str, "Tree | Array | str"]
NOWHERE = 2**64 - 1
CLASSES = {"i": 0, "u": 0, "f": 1}


class Writer:
    """A file of groups, arrays and texts; ``leaf`` names are together in one node of a tree."""

    def __init__(self, *, leaf: int = 8, node: int = 32) -> None:
        self.leaf, self.node = leaf, node
        self.data = bytearray(96)

    def put(self, content: bytes) -> int:
        """The address of ``content`` at the end of the file."""
        self.data += b"\0" * (-len(self.data) % 8)
        self.data += content
        return len(self.data) - len(content)

    def header(self, messages: list[tuple[int, bytes]], *, split: bool = False) -> int:
        """The address of an object header; ``split``: the last message is elsewhere."""
        packed = []
        for kind, content in messages:
            content += b"\0" * (-len(content) % 8)
            packed.append(struct.pack("<HHB3x", kind, len(content), 0) + content)
        if split:
            at = self.put(packed[-1])
            there = struct.pack("<HHB3xQQ", 0x10, 16, 0, at, len(packed[-1]))
            packed = [*packed[:-1], there]
        body = b"".join(packed)
        count = len(messages) + split
        return self.put(struct.pack("<BxHII4x", 1, count, 1, len(body)) + body)

    def array(self, array: Array, *, layout: str = "piece") -> int:
        kind, order = array.dtype, array.dtype.str[0] == ">"
        bits = order | (8 if kind.kind == "i" else 0)
        space = struct.pack(f"<BB6x{array.ndim}Q", 1, array.ndim, *array.shape)
        number = struct.pack("<BBBBI", 16 + CLASSES[kind.kind], bits, 0, 0, kind.itemsize)
        raw = array.tobytes()
        place = {
            "piece": lambda: struct.pack(
                "<BBQQ", 3, 1, self.put(raw) if raw else NOWHERE, len(raw)
            ),
            "inside": lambda: struct.pack("<BBH", 3, 0, len(raw)) + raw,
            "chunks": lambda: struct.pack("<BBBQ", 3, 2, 2, NOWHERE) + bytes(12),
        }[layout]()
        return self.header([(1, space), (3, number), (8, place)], split=layout == "piece")

    def text(self, text: str) -> int:
        number = struct.pack("<BBBBI", 16 + 3, 0, 0, 0, len(text))
        place = struct.pack("<BBH", 3, 0, len(text)) + text.encode()
        return self.header([(1, struct.pack("<BB6x", 1, 0)), (3, number), (8, place)])

    def group(self, tree: Tree) -> int:
        names, heap = {}, bytearray(8)
        for name in sorted(tree):
            names[name] = len(heap)
            heap += name.encode() + b"\0"
        entries = []
        for name in sorted(tree):
            value = tree[name]
            if isinstance(value, str):
                at = self.text(value)
            else:
                at = self.group(value) if isinstance(value, Mapping) else self.array(value)
            entries.append(struct.pack("<QQI4x16x", names[name], at, 0))
        nodes = [entries[i : i + self.leaf] for i in range(0, len(entries), self.leaf)]
        below = [
            self.put(b"SNOD" + struct.pack("<BxH", 1, len(node)) + b"".join(node)) for node in nodes
        ]
        level = 0
        while level == 0 or len(below) > 1:
            groups = [below[i : i + self.node] for i in range(0, len(below), self.node)] or [[]]
            below = [self.tree(group, level=level) for group in groups]
            level += 1
        segment = self.put(bytes(heap))
        heap_at = self.put(b"HEAP" + struct.pack("<B3xQQQ", 0, len(heap), 1, segment))
        return self.header([(0x11, struct.pack("<QQ", below[0], heap_at))])

    def tree(self, children: list[int], *, level: int) -> int:
        keys = b"".join(struct.pack("<QQ", 0, child) for child in children) + bytes(8)
        start = struct.pack("<BBHQQ", 0, level, len(children), NOWHERE, NOWHERE)
        return self.put(b"TREE" + start + keys)

    def file(self, root: int) -> bytes:
        start = struct.pack("<8B2HI", 0, 0, 0, 0, 0, 8, 8, 0, 4, 16, 0)
        addresses = struct.pack("<4Q", 0, NOWHERE, len(self.data), NOWHERE)
        entry = struct.pack("<QQI4x16x", 0, root, 0)
        self.data[:96] = b"\x89HDF\r\n\x1a\n" + start + addresses + entry
        return bytes(self.data)


def written(tree: Tree, folder: Path, *, leaf: int = 8, node: int = 32) -> Path:
    writer = Writer(leaf=leaf, node=node)
    path = folder / "weights.h5"
    path.write_bytes(writer.file(writer.group(tree)))
    return path


def test_groups_arrays_and_kinds_of_numbers(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1)
    tree: Tree = {
        "conv2d": {"conv2d": {"kernel:0": numbers.random((3, 3, 2, 4)).astype("f4")}},
        "big_endian": np.arange(5, dtype=">f8"),
        "half": np.array([1.5, -2], dtype="f2"),
        "iterations": np.array(-7, dtype="i8"),
        "bytes": np.arange(6, dtype="u1").reshape(2, 3),
        "empty": np.zeros((0, 4), dtype="f4"),
        "version": "2.2.4-tf",
        "group_without_anything": {},
    }
    found = read_hdf5(written(tree, tmp_path))
    assert sorted(found) == sorted(
        ["conv2d/conv2d/kernel:0", "big_endian", "half", "iterations", "bytes", "empty"]
    )
    conv = tree["conv2d"]["conv2d"]["kernel:0"]  # type: ignore[index, call-overload]
    assert np.array_equal(found["conv2d/conv2d/kernel:0"], conv)
    for name in ("big_endian", "half", "iterations", "bytes", "empty"):
        expected = tree[name]
        assert isinstance(expected, np.ndarray)
        assert np.array_equal(found[name], expected) and found[name].shape == expected.shape
        assert found[name].dtype == expected.dtype.newbyteorder("=")
    tensors = read_weights(tmp_path / "weights.h5")
    assert torch.equal(tensors["big_endian"], torch.arange(5, dtype=torch.float64))


@pytest.mark.parametrize(("leaf", "node"), [(8, 32), (2, 2), (1, 3)])
def test_trees_of_any_depth(tmp_path: Path, leaf: int, node: int) -> None:
    tree: Tree = {f"layer_{n}": np.full(2, n, dtype="f4") for n in range(41)}
    found = read_hdf5(written(tree, tmp_path, leaf=leaf, node=node))
    assert {name: float(array[0]) for name, array in found.items()} == {
        f"layer_{n}": n for n in range(41)
    }


def test_small_arrays_may_lie_in_their_header(tmp_path: Path) -> None:
    writer = Writer()
    array = np.arange(3, dtype="f4")
    path = tmp_path / "weights.h5"
    path.write_bytes(writer.file(writer.array(array, layout="inside")))
    assert np.array_equal(read_hdf5(path)[""], array)


def test_arrays_in_pieces_are_refused(tmp_path: Path) -> None:
    writer = Writer()
    path = tmp_path / "weights.h5"
    path.write_bytes(writer.file(writer.array(np.arange(3, dtype="f4"), layout="chunks")))
    with pytest.raises(CheckpointError, match="stored in pieces; save it again uncompressed"):
        read_hdf5(path)


def test_newer_layouts_are_refused(tmp_path: Path) -> None:
    path = written({"a": np.zeros(1)}, tmp_path)
    content = bytearray(path.read_bytes())
    content[8] = 2
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="save it again without 'libver'"):
        read_hdf5(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_hdf5(path)
    for content in (b"", b"\x89HDF", b"PK\x03\x04" * 30):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="is not an HDF5 file"):
            read_hdf5(path)


def test_damaged_files_are_said_to_be_so(tmp_path: Path) -> None:
    tree: Tree = {f"layer_{n}": {"kernel": np.ones((2, 2), dtype="f4")} for n in range(5)}
    good = written(tree, tmp_path).read_bytes()
    choose = random.Random(3)
    path = tmp_path / "damaged.h5"
    refused = 0
    for number in range(300):
        content = bytearray(good)
        if number % 3 == 0:
            del content[choose.randrange(len(good)) :]
        else:
            for _ in range(number % 8 + 1):
                content[choose.randrange(len(good))] = choose.choice([0, 1, 127, 255])
        path.write_bytes(content)
        try:
            read_hdf5(path)
        except CheckpointError as error:
            refused += 1
            assert "damaged.h5" in str(error)
    assert 100 < refused < 300


def test_a_group_inside_itself_is_refused(tmp_path: Path) -> None:
    path = written({"a": {"b": np.zeros(1)}}, tmp_path)
    content = bytearray(path.read_bytes())
    (root,) = struct.unpack_from("<Q", content, 64)
    node = content.index(b"SNOD", content.index(b"SNOD") + 1)
    struct.pack_into("<Q", content, node + 16, root)  # where a's header was
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged HDF5 file"):
        read_hdf5(path)
