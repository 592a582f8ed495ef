"""What is lost or doubled when processes die, the disk is full and many come at once: nothing."""

import asyncio
import errno
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgekeeper.server import app
from edgekeeper.server.app import create_app
from edgekeeper.server.jobs import FullError, Job, Jobs, UploadedImage
from edgekeeper.server.service import Limits, Service

Photo = Callable[..., Path]
Server = Any  # of conftest.py


def count(server: Server, *, images: int, jobs: int) -> None:
    """Nothing lost, nothing doubled, nothing begun twice."""
    found = server.api.get("/jobs").json()
    assert len(server.api.get("/images").json()) == images
    assert Counter(job["state"] for job in found) == {"done": jobs}
    assert len({job["id"] for job in found}) == len({job["image"] for job in found}) == jobs


@pytest.mark.parametrize("many", [pytest.param(200, marks=pytest.mark.slow), 20])
def test_many_uploads_at_once(serve: Any, photo: Photo, tmp_path: Path, many: int) -> None:
    content = photo(tmp_path / "a.png", 8, 8).read_bytes()
    with serve(tmp_path / "many") as server:

        def one(number: int) -> str:
            image = httpx.post(
                f"{server.address}api/v1/images?name={number}.png", content=content, timeout=120
            ).json()[0]
            sent = {"image": image["id"], "scale": 2, "risk": False}
            return str(
                httpx.post(f"{server.address}api/v1/jobs", json=sent, timeout=120).json()["id"]
            )

        with ThreadPoolExecutor(many) as pool:
            ids = list(pool.map(one, range(many)))
        for job in ids:
            assert server.wait(f"/jobs/{job}", lambda j: j["state"] != "queued", seconds=200)
        server.finished({"id": ids[-1]})
        for job in ids:
            assert server.finished({"id": job})["starts"] == 1
        count(server, images=many, jobs=many)


@pytest.mark.slow
def test_slow_uploads_hold_nobody_up(serve: Any, photo: Photo, tmp_path: Path) -> None:
    content = photo(tmp_path / "a.png", 8, 8).read_bytes()
    go_on = threading.Event()
    with serve(tmp_path / "slow") as server, ThreadPoolExecutor(50) as pool:

        def slowly() -> Any:
            def pieces() -> Any:
                yield content[:20]
                assert go_on.wait(60)
                yield content[20:]

            return httpx.post(f"{server.address}api/v1/images", content=pieces(), timeout=120)

        slow = [pool.submit(slowly) for _ in range(50)]
        image = server.upload(tmp_path / "a.png")
        assert server.finished(server.enlarge(image, scale=2))["state"] == "done"
        assert len(server.api.get("/images").json()) == 1
        go_on.set()
        assert all(one.result().status_code == 201 for one in slow)
        assert len(server.api.get("/images").json()) == 51


def test_what_trickles_in_is_given_up_and_leaves_nothing(
    photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = photo(tmp_path / "a.png", 8, 8).read_bytes()
    service = Service(folder=tmp_path / "trickle")
    application = create_app(service)
    monkeypatch.setattr(app, "_SILENCE", 0.5)

    async def trickle() -> Any:
        while True:  # never silent, never done
            yield b" "
            await asyncio.sleep(0.1)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as api:
            slow = [
                api.post(f"/api/v1/{what}", content=trickle())
                for what in ("images", "jobs")
                for _ in range(50)
            ]
            return await asyncio.gather(*slow, api.post("/api/v1/images", content=content))

    *slow, whole = asyncio.run(asyncio.wait_for(ask(), 60))
    assert Counter(answer.status_code for answer in slow) == {408: 100}
    assert "too slow" in slow[0].json()["error"]
    assert whole.status_code == 201 and len(service.jobs.images) == 1
    assert not list(service.jobs.temporary.iterdir()) and not service.jobs.jobs
    service.jobs.close()


def test_a_worker_that_is_killed_fails_its_job_alone(
    serve: Any, photo: Photo, tmp_path: Path
) -> None:
    with serve(tmp_path / "worker") as server:
        large = server.upload(photo(tmp_path / "large.png", 120, 90))
        small = server.upload(photo(tmp_path / "small.png"))
        jobs = [server.enlarge(large, scale=8, risk=False), server.enlarge(small, scale=2)]
        server.wait(f"/jobs/{jobs[0]['id']}", lambda job: job["done"] > 0)
        for worker in server.workers():
            worker.kill()
        killed = server.finished(jobs[0])
        assert killed["state"] == "failed" and "memory" in killed["reason"]
        assert server.finished(jobs[1])["state"] == "done"
        server.api.post(f"/jobs/{jobs[0]['id']}/retry")
        assert server.finished(jobs[0])["state"] == "done"
        count(server, images=2, jobs=2)


def test_an_estimate_whose_process_is_killed_is_asked_again(
    serve: Any, photo: Photo, tmp_path: Path
) -> None:
    with serve(tmp_path / "kept") as server:
        image = server.looked(server.upload(photo(tmp_path / "a.png")))
        looker = server.workers()[0]
        looker.suspend()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(server.api.post, f"/images/{image['id']}/foresee", json={})
            time.sleep(0.5)
            looker.kill()
            answer = asked.result()
        assert answer.status_code == 200 and answer.json()["seconds"] > 0, answer.text


def test_a_server_that_is_killed_goes_on_where_it_was(
    serve: Any, photo: Photo, tmp_path: Path
) -> None:
    content, folder = photo(tmp_path / "a.png", 60, 50), tmp_path / "server"
    with serve(folder) as server:
        ids = [server.enlarge(server.upload(content), scale=4, risk=False)["id"] for _ in range(8)]
        server.wait(f"/jobs/{ids[2]}", lambda job: job["state"] in ("running", "done"))
        workers = server.workers()
        server.kill()
        for worker in workers:  # which end by themselves
            worker.wait(10)
    with serve(folder) as server:
        assert [job["id"] for job in server.api.get("/jobs").json()] == ids
        starts = [server.finished({"id": job})["starts"] for job in ids]
        assert set(starts) <= {1, 2} and starts.count(2) <= 1
        count(server, images=8, jobs=8)
        assert {path.name for path in (folder / "jobs").iterdir()} == set(ids)


def test_a_job_that_ends_the_server_every_time_is_given_up(tmp_path: Path) -> None:
    for number in range(5):
        service = Service(folder=tmp_path)
        if not number:
            image = UploadedImage(id="1", name="a", suffix="", bytes=1, state="ready")
            service.jobs.save(image)
            service.jobs.place(image).mkdir()
            service.jobs.save(Job(id="2", image="1", options={"style": "faithful"}))
        job = service.jobs.jobs["2"]
        if job.state == "failed":
            break
        job.state, job.starts = "running", job.starts + 1
        service.jobs.save(job)
        service.jobs.close()
    assert number == 3 and "ended 3 times" in job.reason


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    known = jobs._file.execute("PRAGMA page_count").fetchone()[0]
    jobs._file.execute(f"PRAGMA max_page_count = {known + 1}")
    saved = []
    with pytest.raises(FullError, match="full"):
        for number in range(200):
            image = UploadedImage(id=str(number), name="x" * 100, suffix="", bytes=1)
            jobs.save(image)
            saved.append(image.id)
    assert saved
    assert list(jobs.images) == saved  # what was not saved was not taken
    for name in saved:
        jobs.place(jobs.images[name]).mkdir()
    jobs.close()
    assert list(Jobs(tmp_path).images) == saved


def test_an_upload_to_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(service: Service, method: str, content: bytes | None = None) -> httpx.Response:
        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(app=create_app(service))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as api:
                return await api.request(method, "/api/v1/images", content=content)

        return asyncio.run(request())

    opened = Path.open

    def full(path: Path, *mode: str) -> Any:
        if path.parent.name == "temporary":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *mode)

    service = Service(folder=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        answer = ask(service, "POST", b"abc")
    assert answer.status_code == 507 and "full" in answer.json()["error"]
    assert ask(service, "GET").json() == [] and not list((tmp_path / "temporary").iterdir())
    service.limits = Limits(reserve=10**18)
    assert ask(service, "POST", b"abc").status_code == 507
    service.jobs.close()
    assert not (tmp_path / "temporary").exists()  # emptied at the end
