"""Folders by the workers of a Ray cluster: nothing lost, doubled or half written."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from edgekeeper.errors import InputError
from edgekeeper.inference import Request, Result, bulk
from edgekeeper.inference.bulk import (
    MANIFEST,
    TRIES,
    Cluster,
    _read,
    memory_of,
    shares_of,
    upscale_on_cluster,
)

pytest.importorskip("ray", reason="needs the extra ray")
FILES, MANY, BROKEN = 100, 3000, (3, 30, 50, 77, 99)
NETWORK = ("--model", "espcn_x2", "--runtime", "torch", "--precision", "float32", "--tile", "256")


def draw(folder: Path, *, count: int, size: tuple[int, int] = (24, 32)) -> Path:
    """Fill the folder with images, five of which are broken."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(count):
        pixels = noise.integers(0, 255, (*size, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(folder / f"{number:04}.png")
    for number in BROKEN:
        file = folder / f"{number:04}.png"
        file.write_bytes(file.read_bytes()[:90])
    return folder


def made_locally(folder: Path) -> dict[str, bytes]:
    made = folder.parent / "local"
    ran = run(folder, made, "-q")
    assert ran.wait(timeout=600) == 1, told(made)
    return files(made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("many") / "photos", count=FILES)


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, bytes]:
    return made_locally(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".png"}


def run(folder: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    """Begin the command; what it tells goes to a file, since Ray's processes outlive a pipe."""
    command = [sys.executable, "-m", "edgekeeper", "upscale", str(folder), "-o", str(output)]
    with told_in(output).open("w") as told:
        return subprocess.Popen([*command, *NETWORK, *more], stdout=told, stderr=told)


def told_in(output: Path) -> Path:
    return output.with_name(f"{output.name}.log")


def told(output: Path) -> str:
    return told_in(output).read_text()[-2000:]


def on_ray(folder: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    return run(folder, output, "--engine", "ray", "--workers", "2", *more)


def check(output: Path, expected: dict[str, bytes]) -> None:
    """All files are there, once, whole, equal; the manifest adds up."""
    assert files(output) == expected
    assert not [p for p in output.iterdir() if p.name.startswith(".edgekeeper")]
    rows = rows_in(output)
    last = {Path(row["input"]).name: row["status"] for row in rows}
    assert Counter(last.values()) == {"done": len(expected), "failed": len(BROKEN)}
    done = Counter(row["input"] for row in rows if row["status"] == "done")
    assert set(done.values()) == {1}


def rows_in(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / MANIFEST).read_text().splitlines()]


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
    assert driver.wait(timeout=400) == 1, told(tmp_path / "out")[-2000:]  # broken ones
    assert killed, "no worker was found to kill"
    assert "Ray" not in told(tmp_path / "out") and "WARNING" not in told(tmp_path / "out")
    check(tmp_path / "out", expected)


@pytest.mark.slow
def test_the_driver_is_killed_and_started_again(
    folder: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    driver = on_ray(folder, output)
    wait_for(output, count=1)
    driver.kill()
    driver.wait(60)
    with (output / MANIFEST).open("a") as file:
        file.write('{"input": "cut')
    refused = on_ray(folder, output)
    assert refused.wait(timeout=100) == 2
    assert "--resume" in told(output)
    assert on_ray(folder, output, "--resume").wait(timeout=400) == 1, told(output)[-2000:]
    check(output, expected)


@pytest.mark.slow
def test_a_node_is_removed_in_the_middle(
    folder: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster as Nodes

    small = {"include_dashboard": False, "object_store_memory": 2**27}
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        doomed = [nodes.add_node(num_cpus=1, object_store_memory=2**27) for _ in range(2)][1]
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        driver = on_ray(folder, tmp_path / "out")
        wait_for(tmp_path / "out", count=1)
        nodes.remove_node(doomed, allow_graceful=False)
        assert driver.wait(timeout=300) == 1, told(tmp_path / "out")
    finally:
        driver.kill()
        nodes.shutdown()
    check(tmp_path / "out", expected)


@pytest.mark.slow
def test_three_thousand_files_through_two_interrupts(tmp_path: Path) -> None:
    folder, output = draw(tmp_path / "photos", count=MANY, size=(16, 16)), tmp_path / "out"
    expected = made_locally(folder)
    assert len(expected) == MANY - len(BROKEN)
    for count, number in ((200, signal.SIGINT), (1200, signal.SIGTERM)):
        driver = on_ray(folder, output, *(("--resume",) if output.exists() else ()))
        wait_for(output, count=count)
        sent = time.monotonic()
        driver.send_signal(number)
        assert driver.wait(timeout=100) == 128 + number, told(output)
        assert time.monotonic() - sent < 60
        assert "again with --resume" in told(output)
        # The manifest says all that was done, and nothing else; no file is half written.
        made = files(output)
        assert len(made) < len(expected), "all was done before the signal"
        done = {Path(row["output"]).name for row in rows_in(output) if row["status"] == "done"}
        assert done == set(made) and made.items() <= expected.items()
        assert not [p for p in output.iterdir() if p.name.startswith(".edgekeeper")]
    assert on_ray(folder, output, "--resume").wait(timeout=600) == 1, told(output)[-2000:]
    check(output, expected)


def test_the_manifest_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    manifest = tmp_path / "new" / MANIFEST
    assert _read(manifest, Cluster()) == set()
    rows = [{"input": name, "status": status} for name, status in (("a", "failed"), ("a", "done"))]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"inp')
    with pytest.raises(InputError, match="--resume"):
        _read(manifest, Cluster())
    assert _read(manifest, Cluster(resume=True)) == {"a"}
    assert manifest.read_bytes().endswith(b"}\n")  # the next row begins a line


def test_a_manifest_of_many_rows_takes_little_memory(tmp_path: Path) -> None:
    manifest, count = tmp_path / MANIFEST, 20_000
    source = "/bucket/photos/of/a/year/{:08}.jpeg"
    row = Result(source=Path(source.format(0)), target=Path("/b/a.jpeg"), status="done")
    line = json.dumps(row.as_json()) + "\n"
    with manifest.open("w") as file:
        file.writelines(line.replace(source.format(0), source.format(k)) for k in range(count))
    tracemalloc.start()
    try:
        assert len(_read(manifest, Cluster(resume=True))) == count
        assert tracemalloc.get_traced_memory()[1] < 250 * count  # a set of names
    finally:
        tracemalloc.stop()


def test_a_worker_tries_a_file_three_times_and_stops_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: Counter[str] = Counter()

    def made(
        _: Request, *, pairs: Sequence[tuple[Path, Path]], on_step: Callable[[], None]
    ) -> Iterator[Result]:
        for source, target in pairs:
            on_step()
            begun[source.name] += 1
            good = source.name == "good" or (source.name == "later" and begun["later"] == TRIES)
            yield Result(source=source, target=target, status="done" if good else "failed")

    monkeypatch.setattr(bulk, "upscale_files", made)
    monkeypatch.setattr(bulk, "networks_for", lambda request: request.model)
    stop = tmp_path / "stop"
    batch = {"source": ["good", "later", "never"], "target": ["a", "b", "c"]}
    found = bulk._Actor(Request(model="espcn_x2"), stop)(batch)["result"]
    assert [result.status for result in found] == ["done", "done", "failed"]
    assert begun == {"good": 1, "later": TRIES, "never": TRIES}
    assert not list(tmp_path.iterdir())

    def dies(self: Any, pairs: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(bulk._Actor, "_made", dies)
        for _ in range(TRIES):
            with pytest.raises(MemoryError):
                bulk._Actor(Request(model="espcn_x2"), stop)(batch)
        assert list(bulk._Actor(Request(model="espcn_x2"), stop)(batch)["result"]) == [None] * 3
    assert begun.total() == 2 * TRIES + 1 and not list(tmp_path.iterdir())
    stop.touch()
    assert list(bulk._Actor(Request(model="espcn_x2"), stop)(batch)["result"]) == [None] * 3


def test_files_that_no_row_came_for_are_listed_and_an_interrupt_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends early, as if all were done, and one that is stopped."""
    pairs = [(tmp_path / name, tmp_path / "out" / name) for name in "abc"]
    for source, _ in pairs:
        source.touch()
    waits = [True]

    def passed(_: Any, left: dict[str, Path], *more: Any, stop: Path, **__: Any) -> Iterator[Any]:
        name = str(pairs[0][0])
        if name in left:
            yield Result(source=Path(name), target=left[name], status="done")
        while waits and not stop.exists():
            time.sleep(0.01)
        if waits:
            yield Result(source=pairs[1][0], target=pairs[1][1], status="done")

    monkeypatch.setattr(bulk, "_pass", passed)
    monkeypatch.setattr(bulk, "_start", lambda ray, needed: None)
    manifest = tmp_path / "out" / MANIFEST
    request = Request(model="espcn_x2")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(
            upscale_on_cluster(
                pairs, request, manifest=manifest, cluster=Cluster(), check=interrupt
            )
        )
    assert [row["status"] for row in rows_in(tmp_path / "out")] == ["done", "done"]
    waits.clear()
    again = Cluster(resume=True)
    found = list(upscale_on_cluster(pairs, request, manifest=manifest, cluster=again))
    assert [result.status for result in found] == ["skipped", "skipped", "failed"]
    assert "its worker died each time" in found[2].reason
    assert not [p for p in manifest.parent.iterdir() if p.name.startswith(".")]


def test_workers_share_processors_memory_and_gpus() -> None:
    """As they are scheduled: all of them fit at once."""
    request, memory = Request(model="espcn_x2"), 64 * 2**30
    for gpus, asked, batches, workers, part in (
        (1, 0, 99, 8, 1 / 8),
        (2, 0, 99, 8, 1 / 4),
        (2, 3, 99, 3, 1 / 2),
        (4, 2, 99, 2, 1),
        (1, 0, 5, 5, 1 / 5),
    ):
        there = {"CPU": 16, "GPU": gpus, "memory": memory}
        cluster = Cluster(workers=asked, threads=2)
        on_gpu = replace(request, device="cuda")
        found, takes = shares_of(there, on_gpu, cluster=cluster, batches=batches)
        assert (found, takes["num_gpus"]) == (workers, part)
        assert takes["num_gpus"] * found <= gpus and takes["num_cpus"] * found <= 16
        assert takes["memory"] * found <= memory
        assert "num_gpus" not in shares_of(there, request, cluster=cluster, batches=batches)[1]
    with pytest.raises(InputError, match="no GPU"):
        shares_of({"CPU": 4}, replace(request, device="cuda"), cluster=Cluster(), batches=1)


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
