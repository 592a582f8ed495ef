"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["EDGEKEEPER_CACHE"] = "/nonexistent/edgekeeper"  # nobody's own files are looked at
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, so each computes on one
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the benchmark images and published weights, or the test skips."""
    folder = os.environ.get("EDGEKEEPER_DATA")
    if not folder:
        pytest.skip("set EDGEKEEPER_DATA to the folder with the benchmark images to run this")
    root = Path(folder).resolve()
    if not (root / "benchmarks").is_dir():
        pytest.fail(f"EDGEKEEPER_DATA is '{root}', which has no folder 'benchmarks'")
    return root


@pytest.fixture
def generator() -> torch.Generator:
    """A random generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """``edgekeeper`` with the arguments that are given, as a user runs it, in this process."""
    from edgekeeper.cli import main

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["edgekeeper", *map(str, arguments)])
        capfd.readouterr()
        status: object = 0
        try:
            main()
        except SystemExit as error:
            status = error.code
        out, err = capfd.readouterr()
        assert isinstance(status, int)
        return Ran(status, out, err)

    return run
