"""Fixtures shared by all tests."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, so each computes on one
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the benchmark pictures and published weights, or the test skips."""
    folder = os.environ.get("EDGEKEEPER_DATA")
    if not folder:
        pytest.skip("set EDGEKEEPER_DATA to the folder with the benchmark pictures to run this")
    root = Path(folder).resolve()
    if not (root / "benchmarks").is_dir():
        pytest.fail(f"EDGEKEEPER_DATA is '{root}', which has no folder 'benchmarks'")
    return root


@pytest.fixture
def generator() -> torch.Generator:
    """A random generator with a fixed seed."""
    return torch.Generator().manual_seed(0)
