"""A test that hangs is one failed test, told by its name and its stack; the others run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import ctypes, os, threading

def wait_in_python():
    threading.Event().wait()

def wait_in_c():  # with Python's lock, twice for one mutex: no signal ends it
    mutex, lock = ctypes.create_string_buffer(64), ctypes.PyDLL(None).pthread_mutex_lock
    lock(mutex), lock(mutex)

def test_killed():
    os.kill(os.getpid(), 9)

def test_other():
    pass

def test_python():
    wait_in_python()

def test_c():
    wait_in_c()
"""
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the mutex is of Linux")


def run(folder: Path, *more: str) -> "subprocess.Popen[str]":
    (folder / "test_it.py").write_text(TESTS)
    command = (sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-n", "2", *more)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": folder}
    options |= {"text": True, "start_new_session": True}
    return subprocess.Popen([*command, f"--rootdir={folder}", folder], **options)


def test_a_wait_in_python_and_one_in_c(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("timeout")) < pytestconfig.getini("faulthandler_timeout")
    with run(tmp_path, "-o", "timeout=3", "-o", "faulthandler_timeout=6") as started:
        try:
            told = started.communicate(timeout=120)[0]
        finally:
            started.kill()
    assert started.returncode == 1 and "3 failed, 1 passed" in told
    assert "crashed while running 'test_it.py::test_c'" in told and "in wait_in_c" in told
    assert "FAILED test_it.py::test_python" in told and "Timeout (>3.0s)" in told


@pytest.mark.slow
def test_a_run_that_is_ended_tells_what_ran(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    with run(tmp_path, "-vv") as started:
        try:
            told = ""
            while "gw0 ended by signal 9" not in told:
                line = started.stdout.readline() if started.stdout else ""
                assert line, told
                told += line
            os.killpg(started.pid, signal.SIGTERM)  # as `timeout` does
            told += started.communicate(timeout=120)[0]
        finally:
            started.kill()
    assert started.returncode == 143
    assert "stopped while these ran: test_it.py::test_" in told
