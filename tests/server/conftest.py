"""A server as a user starts it, in a process of its own."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from edgekeeper.image import Image, write_image

JSON = dict[str, Any]


@dataclass
class Served:
    """A server that runs, and its API."""

    process: "subprocess.Popen[str]"
    address: str
    folder: Path
    api: httpx.Client

    def upload(self, path: Path, name: str | None = None) -> JSON:
        answer = self.api.post(
            "/images", params={"name": name or path.name}, content=path.read_bytes()
        )
        assert answer.status_code == 201, answer.text
        found: JSON = answer.json()[0]
        return found

    def enlarge(self, image: JSON, **options: object) -> JSON:
        answer = self.api.post("/jobs", json={"image": image["id"], **options})
        assert answer.status_code == 202, answer.text
        found: JSON = answer.json()
        return found

    def wait(self, what: str, until: Callable[[JSON], bool], *, seconds: float = 120) -> JSON:
        """The image or job at ``what`` as soon as it is so."""
        end = time.monotonic() + seconds
        while True:
            found: JSON = self.api.get(what).json()
            if until(found):
                return found
            assert time.monotonic() < end, found
            time.sleep(0.05)

    def finished(self, job: JSON) -> JSON:
        ended = ("done", "failed", "cancelled")
        return self.wait(f"/jobs/{job['id']}", lambda found: found["state"] in ended)

    def looked(self, image: JSON) -> JSON:
        return self.wait(f"/images/{image['id']}", lambda found: found["state"] != "looking")

    def workers(self) -> list[psutil.Process]:
        """The processes that look and compute, the oldest first."""
        children = psutil.Process(self.process.pid).children()
        return sorted(children, key=lambda process: process.create_time())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)


@contextlib.contextmanager
def _serve(folder: Path, *options: str) -> Iterator[Served]:
    """A server on a free port."""
    command = [sys.executable, "-m", "edgekeeper", "serve", "--no-browser", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--folder", str(folder), *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip().partition("?")[0]
    try:
        with httpx.Client(base_url=f"{address}api/v1", timeout=60) as api:
            for _ in range(100):
                with contextlib.suppress(httpx.ConnectError):
                    api.get("/status")
                    break
                time.sleep(0.05)
            yield Served(process, address, folder, api)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with _serve(tmp_path_factory.mktemp("serve")) as served:
        yield served


def _photo(path: Path, width: int = 24, height: int = 16, seed: int = 0) -> Path:
    """An image file with something to see."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    pixels = (noise + (rows * 5 + columns * 7)[..., None] % 200).astype(np.uint8)
    write_image(Image(pixels=pixels), path, overwrite="replace")
    return path


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Served]]:
    return _serve


@pytest.fixture(scope="session")
def photo() -> Callable[..., Path]:
    return _photo
