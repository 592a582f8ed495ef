import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from edgekeeper.errors import CheckpointError
from edgekeeper.metrics.matfile import read_mat


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file written by SciPy, the independent side."""
    path = tmp_path / "stored.mat"
    cell = np.empty(2, dtype=object)
    cell[:] = [np.array([[1.5]]), np.array([[2, 3]], dtype=np.uint8)]
    many = np.zeros((1, 2), dtype=[("a", object)])
    many[0, 0]["a"], many[0, 1]["a"] = np.array([[7.0]]), np.array([[8.0]])
    values = {
        "matrix": np.arange(6, dtype=np.float64).reshape(2, 3),
        "single": np.array([[0.25, 0.5]], dtype=np.float32),
        "whole": np.array([[-3], [300]], dtype=np.int16),
        "text": "régression",
        "cell": cell,
        "one": {"inner": np.eye(2), "name": "tree", "empty": np.zeros((0, 0))},
        "many": many,
    }
    savemat(path, values, do_compression=request.param)
    return path


def test_what_scipy_wrote_is_read(stored: Path) -> None:
    found = read_mat(stored)
    assert found.keys() == {"matrix", "single", "whole", "text", "cell", "one", "many"}
    matrix, single, whole = found["matrix"], found["single"], found["whole"]
    assert isinstance(matrix, np.ndarray)
    assert isinstance(single, np.ndarray)
    assert isinstance(whole, np.ndarray)
    assert matrix.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert single.dtype == np.float32
    assert single.tolist() == [[0.25, 0.5]]
    assert whole.tolist() == [[-3], [300]]
    assert found["text"] == "régression"
    cell = found["cell"]
    assert isinstance(cell, list)
    assert [np.asarray(value).tolist() for value in cell] == [[[1.5]], [[2, 3]]]
    one, many = found["one"], found["many"]
    assert isinstance(one, dict)
    assert np.asarray(one["inner"]).tolist() == [[1, 0], [0, 1]]
    assert one["name"] == "tree"
    assert np.asarray(one["empty"]).size == 0
    assert isinstance(many, list)
    assert [np.asarray(item["a"]).item() for item in many if isinstance(item, dict)] == [7, 8]


def test_refused_files(tmp_path: Path, stored: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_mat(tmp_path / "nothing.mat")
    foreign = tmp_path / "foreign.mat"
    foreign.write_bytes(b"not a mat file")
    with pytest.raises(CheckpointError, match="level 5"):
        read_mat(foreign)
    foreign.write_bytes(stored.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="damaged"):
        read_mat(foreign)
    savemat(foreign, {"z": np.array([1 + 2j])})
    with pytest.raises(CheckpointError, match="something else"):
        read_mat(foreign)
    savemat(foreign, {"a": np.zeros(10**7)}, do_compression=True)  # 80 MB in 80 kB
    with pytest.raises(CheckpointError, match="damaged"):
        read_mat(foreign)
    head, body = bytes(124) + b"\0\1IM", b""
    for _ in range(3000):  # cells in cells
        flags = struct.pack("<4I", 6, 8, 1, 0) + struct.pack("<4I", 5, 8, 1, 1)
        body = flags + struct.pack("<2I", 1, 0) + struct.pack("<2I", 14, len(body)) + body
    foreign.write_bytes(head + struct.pack("<2I", 14, len(body)) + body)
    with pytest.raises(CheckpointError, match="damaged"):
        read_mat(foreign)


@pytest.mark.data
def test_the_model_of_niqe_as_scipy_reads_it(data_root: Path) -> None:
    path = data_root / "weights" / "niqe_modelparameters.mat"
    ours, theirs = read_mat(path), loadmat(path)
    for name in ("mu_prisparam", "cov_prisparam"):
        np.testing.assert_array_equal(np.asarray(ours[name]), theirs[name])
