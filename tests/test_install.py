"""What `make` asks pip for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INDEX = "--index-url https://download.pytorch.org/whl/cpu"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("make"), reason="make on Linux")
@pytest.mark.parametrize(("torch", "asks"), [(None, True), ("cpu", True), ("cuda", False)])
def test_the_build_without_cuda_is_the_default_on_linux(torch: str | None, asks: bool) -> None:
    command = ["make", "-n", "-B", ".venv/.installed", *([f"TORCH={torch}"] if torch else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.endswith(" torch")]
    assert (INDEX in line) == asks
    # An index that is out of reach neither fails nor delays the install.
    plain = line.rpartition("||")[2].strip()
    assert plain == ".venv/bin/python -m pip install --quiet -c constraints.txt torch"
    assert ("--retries 0 --timeout 5" in line) == asks
