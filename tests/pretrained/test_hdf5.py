"""HDF5 files, as Keras writes them and as nobody should."""

import random
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from edgekeeper.errors import CheckpointError, UnavailableError
from edgekeeper.pretrained.published import read_weights


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize("packed", [{}, {"compression": "gzip", "chunks": True, "shuffle": True}])
def test_groups_arrays_and_kinds_of_numbers(tmp_path: Path, version: str, packed: dict) -> None:  # type: ignore[type-arg]
    path = tmp_path / "weights.h5"
    arrays = {
        "conv2d/conv2d/kernel:0": np.random.default_rng(1).random((3, 3, 2, 4)).astype("f4"),
        "big_endian": np.arange(5, dtype=">f8"),
        "half": np.array([1.5, -2], dtype="f2"),
        "bytes": np.arange(6, dtype="u1").reshape(2, 3),
    }
    with h5py.File(path, "w", libver=version) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **packed)
        file["iterations"], file["empty"] = np.int64(-7), np.zeros((0, 4), "f4")
        file["text"], file.attrs["keras_version"] = "2.2.4-tf", "2.2.4-tf"
        file.create_group("group_without_anything")
        file["link"] = h5py.SoftLink("/half")
    found = read_weights(path)
    arrays |= {"iterations": np.array(-7), "empty": np.zeros((0, 4), "f4")}
    assert found.keys() == arrays.keys()
    for name, expected in arrays.items():
        native = torch.from_numpy(expected.astype(expected.dtype.newbyteorder("=")))
        torch.testing.assert_close(found[name], native, rtol=0, atol=0)


def test_nothing_comes_from_another_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.ones(3)
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/a")
        file["own"] = np.zeros(2)
    assert read_weights(path).keys() == {"own"}
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (16,), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(CheckpointError, match="lies in another file"):
        read_weights(path)
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (3,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("a", layout)
    with pytest.raises(CheckpointError, match="lies in another file"):
        read_weights(path)


def test_a_file_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (10**9,), "f4", chunks=(10**6,), compression="gzip")
    with pytest.raises(CheckpointError, match="far larger than the file"):
        read_weights(path)


def test_damaged_and_other_files_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "damaged.h5"
    with h5py.File(path, "w") as file:
        for number in range(5):
            file[f"layer_{number}/kernel"] = np.ones((2, 2), dtype="f4")
    good, choose, refused = path.read_bytes(), random.Random(3), 0
    for number in range(300):
        content = bytearray(good)
        if number % 3 == 0:
            del content[choose.randrange(len(good)) :]
        else:
            for _ in range(number % 8 + 1):
                content[choose.randrange(len(good))] = choose.choice([0, 1, 127, 255])
        path.write_bytes((b"", b"\x89HDF", b"PK\x03\x04" * 30)[number] if number < 3 else content)
        try:
            read_weights(path)
        except CheckpointError as error:
            refused += 1
            said = ("is not a readable HDF5 file (", "is empty (0 bytes)", "is cut off")
            assert any(f"'{path}' {words}" in str(error) for words in said), error
    assert 100 < refused < 300


def test_without_h5py_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UnavailableError, match=r"pip install 'edgekeeper\[keras\]'"):
        read_weights(tmp_path / "a.h5")
