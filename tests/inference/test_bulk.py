"""Folders by the workers of a Ray cluster: nothing lost, doubled or half written."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from edgekeeper.errors import InputError
from edgekeeper.inference import Request
from edgekeeper.inference.bulk import MANIFEST, Cluster, _read, memory_of

pytest.importorskip("ray", reason="needs the extra ray")
FILES, BROKEN = 100, (3, 30, 50, 77, 99)
NETWORK = ("--model", "espcn_x2", "--runtime", "torch", "--precision", "float32", "--tile", "256")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(FILES):
        pixels = noise.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(folder / f"{number:04}.png")
    for number in BROKEN:
        file = folder / f"{number:04}.png"
        file.write_bytes(file.read_bytes()[:90])
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, bytes]:
    """What the local command makes."""
    made = folder.parent / "local"
    ran = run(folder, made, "-q")
    assert ran.wait(timeout=300) == 1, told_in(made).read_text()
    return files(made)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".png"}


def run(folder: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    """Begin the command; what it tells goes to a file, since Ray's processes outlive a pipe."""
    command = [sys.executable, "-m", "edgekeeper", "upscale", str(folder), "-o", str(output)]
    with told_in(output).open("w") as told:
        return subprocess.Popen([*command, *NETWORK, *more], stdout=told, stderr=told)


def told_in(output: Path) -> Path:
    return output.with_name(f"{output.name}.log")


def on_ray(folder: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    return run(folder, output, "--engine", "ray", "--workers", "2", *more)


def check(output: Path, expected: dict[str, bytes]) -> None:
    """All files are there, once, whole, equal; the manifest adds up."""
    assert files(output) == expected
    assert not [p for p in output.iterdir() if p.name.startswith(".edgekeeper")]
    rows = [json.loads(line) for line in (output / MANIFEST).read_text().splitlines()]
    last = {Path(row["input"]).name: row["status"] for row in rows}
    assert Counter(last.values()) == {"done": FILES - len(BROKEN), "failed": len(BROKEN)}
    done = Counter(row["input"] for row in rows if row["status"] == "done")
    assert set(done.values()) == {1}


def workers_of(driver: int) -> list[int]:
    """The processes of actors below a driver, which Ray names after them."""
    import psutil

    below = psutil.Process(driver).children(recursive=True)
    return [p.pid for p in below if "ray::" in " ".join(p.cmdline()) and "Map" in p.cmdline()[0]]


def wait_for(output: Path, *, count: int) -> None:
    ends = time.monotonic() + 400
    while time.monotonic() < ends:
        manifest = output / MANIFEST
        if manifest.exists() and manifest.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no rows came")


@pytest.mark.slow
def test_a_worker_is_killed_in_the_middle(
    folder: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    driver = on_ray(folder, tmp_path / "out")
    wait_for(tmp_path / "out", count=1)
    killed = workers_of(driver.pid)[:1]
    for process in killed:
        os.kill(process, signal.SIGKILL)
    assert driver.wait(timeout=400) == 1, told_in(tmp_path / "out").read_text()  # broken ones
    assert killed, "no worker was found to kill"
    check(tmp_path / "out", expected)


@pytest.mark.slow
def test_the_driver_is_killed_and_started_again(
    folder: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    driver = on_ray(folder, output)
    wait_for(output, count=1)
    driver.kill()
    driver.wait()
    with (output / MANIFEST).open("a") as file:
        file.write('{"input": "cut')
    refused = on_ray(folder, output)
    assert refused.wait(timeout=100) == 2
    assert "--resume" in told_in(output).read_text()
    assert on_ray(folder, output, "--resume").wait(timeout=400) == 1, told_in(output).read_text()
    check(output, expected)


def test_the_manifest_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    manifest = tmp_path / "new" / MANIFEST
    assert _read(manifest, Cluster()) == {}
    rows = [{"input": name, "status": status} for name, status in (("a", "failed"), ("a", "done"))]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"inp')
    with pytest.raises(InputError, match="--resume"):
        _read(manifest, Cluster())
    assert _read(manifest, Cluster(resume=True)) == {"a": rows[1]}
    assert manifest.read_bytes().endswith(b"}\n")  # the next row begins a line


def test_memory_grows_with_the_tile() -> None:
    small, large = (memory_of(Request(model="espcn_x2", tile=side)) for side in (64, 256))
    assert large - small == (256**2 - 64**2) * 32_000


def test_what_does_not_go_with_it(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from edgekeeper.cli.upscale import upscale_command

    for given, words in (
        (["--engine", "ray"], "into a folder"),
        (["--engine", "ray", "-o", "out", "--report"], "not for --engine ray"),
        (["--workers", "2"], "for --engine ray"),
    ):
        ran = CliRunner().invoke(upscale_command, [str(tmp_path), *given])
        assert isinstance(ran.exception, InputError) and words in str(ran.exception), given
