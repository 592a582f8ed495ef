"""Fixtures shared by all tests."""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["EDGEKEEPER_CACHE"] = "/nonexistent/edgekeeper"  # nobody's own files are looked at
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, so each computes on one
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

SLOW_SECONDS = 3600  # of a slow test, at most
_running: set[str] = set()  # in the process that hands out the tests


def pytest_configure(config: pytest.Config) -> None:
    """End a run that is told to by the names of the tests that were running."""
    if config.getoption("dist", "no") != "no" and "PYTEST_XDIST_WORKER" not in os.environ:

        def stop(number: int, _: object) -> None:
            signal.signal(number, signal.SIG_IGN)
            pytest.exit(f"stopped while these ran: {', '.join(sorted(_running))}", returncode=143)

        signal.signal(signal.SIGTERM, stop)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow"):
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Tell how a worker that died has ended: by which signal, or with which status."""
    if error:
        status = node.gateway._io.popen.wait(30)
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        terminal = node.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line(f"{node.gateway.id} ended {how}")


def pytest_runtest_logstart(nodeid: str) -> None:
    _running.add(nodeid)


def pytest_runtest_logfinish(nodeid: str) -> None:
    _running.discard(nodeid)


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
