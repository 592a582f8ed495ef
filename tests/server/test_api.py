"""The HTTP API of a server that runs."""

import io
import json
import socket
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edgekeeper.errors import InputError
from edgekeeper.image import (
    FORMATS,
    Animation,
    Header,
    SaveOptions,
    create_image,
    open_image,
    read_image,
)
from edgekeeper.inference import Request, upscale_file
from edgekeeper.server.app import _Api, _routes
from edgekeeper.server.compute import _sentence, foresee
from edgekeeper.server.jobs import _ALLOWED, Job, Jobs, Options

Photo = Callable[..., Path]
Server = Any  # of conftest.py


def zip_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_an_image_is_looked_at_foreseen_enlarged_and_given_back(
    server: Server, photo: Photo, tmp_path: Path
) -> None:
    path = photo(tmp_path / "small.png", 30, 20)
    image = server.looked(server.upload(path, "../../Förde 'x'.png"))
    assert image["state"] == "ready" and image["name"] == "Förde 'x'.png"
    assert {k: image["look"][k] for k in ("width", "height", "format", "depth", "alpha")} == {
        "width": 30,
        "height": 20,
        "format": "png",
        "depth": 8,
        "alpha": False,
    }
    foreseen = server.api.post(f"/images/{image['id']}/foresee", json={"scale": 3}).json()
    assert (foreseen["width"], foreseen["height"]) == (90, 60)
    assert 0 < foreseen["seconds"] < 60 and foreseen["allowed"]
    # Without a network too, files and views take their time.
    huge = {"options": asdict(Options(scale=1)), "height": 7_560, "width": 13_440, "device": "cpu"}
    huge["max_pixels"] = 10**9
    assert foresee(huge)["seconds"] > 5

    job = server.enlarge(image, scale=3)
    assert job["foreseen"] == pytest.approx(foreseen["seconds"], rel=0.01)
    job = server.finished(job)
    assert job["state"] == "done" and job["starts"] == 1
    result = server.api.get(f"/jobs/{job['id']}/result")
    assert "F%C3%B6rde%20%27x%27_x3.png" in result.headers["content-disposition"]
    # The very file that the library writes.
    request = Request(scale=3, precision="auto", save=SaveOptions(format="png"))
    upscale_file(path, tmp_path / "large.png", request=request)
    assert result.content == (tmp_path / "large.png").read_bytes()
    assert job["result"]["risk"]["verdict"] in ("supported", "undecided", "doubtful", "invented")
    for what in ("view", "risk"):
        tile = server.api.get(f"/jobs/{job['id']}/{what}/7/0_0")
        assert tile.headers["content-type"] == "image/jpeg" and len(tile.content) > 200


def test_a_model_guard_and_sharpness_are_those_of_the_library(
    server: Server, photo: Photo, tmp_path: Path
) -> None:
    path = photo(tmp_path / "small.png", 24, 16)
    image, made = server.upload(path), set()
    assert {"fast_x2", "restore_x4_texture"} <= set(server.api.get("/status").json()["models"])
    for options in (
        {"model": "fast_x2", "scale": 2},
        {"model": "fast_x2", "scale": 2, "sharpness": 0.5},
        {"style": "texture", "scale": 4},
        {"style": "texture", "scale": 4, "guard": True},
        {"style": "sharp", "scale": 4, "sharpness": 0},
    ):
        job = server.finished(server.enlarge(image, **options))
        assert job["state"] == "done", job["reason"]
        result = server.api.get(f"/jobs/{job['id']}/result")
        assert options.get("model", options.get("style")) in result.headers["content-disposition"]
        request = Request(**options, precision="auto", save=SaveOptions(format="png"))
        upscale_file(path, tmp_path / "large.png", request=replace(request, existing="replace"))
        (tmp_path / "made.png").write_bytes(result.content)
        ours, theirs = (
            read_image(tmp_path / name).pixels.astype(int) for name in ("made.png", "large.png")
        )
        # In bfloat16 or not was decided by the first image of the network.
        assert abs(ours - theirs).mean() < 0.5 and abs(ours - theirs).max() < 8, options
        made.add(result.content)
    assert len(made) >= 4  # the guard finds little to hold back here, and refuses luma below
    luma = server.finished(server.enlarge(image, model="espcn_x2", guard=True))
    assert luma["state"] == "failed" and "not of luma" in luma["reason"]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"scale": 2.5}, (60, 40)),
        ({"width": 51}, (51, 34)),
        ({"height": 48}, (72, 48)),
        ({"fit": [70, 70]}, (70, 47)),
        ({"style": "texture", "format": "webp", "quality": 80, "risk": False}, (96, 64)),
        ({"format": "jpeg"}, (96, 64)),
    ],
)
def test_sizes_and_formats(
    server: Server, photo: Photo, tmp_path: Path, options: dict[str, Any], size: tuple[int, int]
) -> None:
    job = server.finished(server.enlarge(server.upload(photo(tmp_path / "a.png")), **options))
    assert job["state"] == "done", job["reason"]
    saved = tmp_path / "result"
    saved.write_bytes(server.api.get(f"/jobs/{job['id']}/result").content)
    made = read_image(saved).header
    assert (made.width, made.height) == size
    assert made.format == options.get("format", "png") or made.format == ""


@pytest.mark.parametrize("form", ["gif", "webp", "png"])
def test_an_animation_keeps_its_frames_as_on_the_command_line(
    server: Server, tmp_path: Path, form: str
) -> None:
    header = Header(height=12, width=16, colours=3, animation=Animation(delays=(40, 50, 60)))
    path, rows = tmp_path / f"a.{form}", np.arange(3, dtype=np.uint8).repeat(12)[:, None, None] * 99
    with create_image(path, header) as writer:
        writer.write(np.broadcast_to(rows, (36, 16, 3)))
    image = server.looked(server.upload(path))
    assert (image["look"]["frames"], image["look"]["seconds"]) == (3, 0.15), image
    moving, still = (
        server.api.post(f"/images/{image['id']}/foresee", json={"scale": 2, "format": kept}).json()
        for kept in (None, "jpeg")
    )
    assert moving["seconds"] > still["seconds"]
    for options, frames in (({}, 3), ({"format": "jpeg"}, 0), ({"format": "gif"}, 3)):
        job = server.finished(server.enlarge(image, scale=2, **options))
        assert job["state"] == "done", job["reason"]
        result = server.api.get(f"/jobs/{job['id']}/result")
        saved = tmp_path / f"a_x2{FORMATS[options.get('format', form)].suffixes[0]}"
        assert saved.name in result.headers["content-disposition"]
        saved.write_bytes(result.content)
        with open_image(saved, frames="all") as reader:
            made = reader.header
        assert (made.height, made.width) == (24, 32)
        assert made.animation == (header.animation if frames else None), options


def test_a_still_gif_becomes_a_png(server: Server, photo: Photo, tmp_path: Path) -> None:
    image = server.upload(photo(tmp_path / "still.gif"))
    job = server.finished(server.enlarge(image, scale=2))
    result = server.api.get(f"/jobs/{job['id']}/result")
    assert "still_x2.png" in result.headers["content-disposition"]
    assert result.content.startswith(b"\x89PNG")


def test_a_zip_gives_an_image_each_and_results_come_as_a_zip(
    server: Server, photo: Photo, tmp_path: Path
) -> None:
    content = photo(tmp_path / "a.png", 9, 8).read_bytes()
    names = ["../../evil.png", "deep/a.png", "a.png", "__MACOSX/a.png", ".hidden.png"]
    given = zip_of(dict.fromkeys(names, content))
    answer = server.api.post("/images", params={"name": "all.zip"}, content=given)
    images = answer.json()
    assert [image["name"] for image in images] == ["evil.png", "a.png", "a.png"]
    jobs = [server.enlarge(image, scale=2, risk=False)["id"] for image in images]
    for job in jobs:
        assert server.finished({"id": job})["state"] == "done"
    packed = server.api.get("/results.zip", params={"jobs": ",".join(jobs)}).content
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["evil_x2.png", "a_x2.png", "a_x2 (2).png"]
    assert not list((server.folder / "temporary").iterdir())


def test_names_in_a_zip_are_read_as_the_systems_write_them(
    server: Server, photo: Photo, tmp_path: Path
) -> None:
    content = photo(tmp_path / "a.png", 9, 8).read_bytes()
    said = zip_of({"größe.png": content})  # in UTF-8, and the flag says so
    unsaid = said.replace(b"\x14\x00\x00\x08", b"\x14\x00\x00\x00")
    old = zip_of({"gr__e.png": content}).replace(b"gr__e", b"gr\x94\xe1e")  # code page 437
    assert len({said, unsaid, old}) == 3
    for given in (said, unsaid, old):
        answer = server.api.post("/images", params={"name": "all.zip"}, content=given)
        assert [image["name"] for image in answer.json()] == ["größe.png"]


def test_zips_of_any_kind_cost_what_an_upload_may_and_lose_nothing(
    serve: Any, photo: Photo, tmp_path: Path
) -> None:
    good = photo(tmp_path / "a.png", 9, 8).read_bytes()
    inner = zip_of({"b.png": good})

    def damaged(packed: bytes, name: bytes, value: bytes, offset: int) -> bytes:
        """The ZIP with a field of the directory's entry of a name set."""
        at = packed.rindex(name) - 46 + offset
        return packed[:at] + value + packed[at + len(value) :]

    def named(*names: str) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive, warnings.catch_warnings(action="ignore"):
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), good)
        return made.getvalue()

    two = zip_of({"a.png": good, "b.png": good})
    failed, most = "cannot be opened", "more than 20 files, the most that are taken at once"
    cases: dict[str, tuple[bytes, list[str]]] = {
        "many": (named(*(f"{n}.png" for n in range(21))), [most]),
        "very many": (b"PK\x03\x04" + b"PK\x01\x02" * 10**6 + inner, [most]),
        "no file": (named("a/", "__MACOSX/a.png"), ["holds no file"]),
        "nested": (zip_of({"a.png": good, "in.zip": inner}), ["", "a ZIP within a ZIP"]),
        "nested alone": (zip_of({"in.zip": inner}), ["a ZIP within a ZIP"]),
        "bomb": (zip_of({"a.png": bytes(2_000_000)}), ["larger than 1 MB"]),
        "bombs together": (zip_of(dict.fromkeys("abc", bytes(400_000))), ["larger than 1 MB"]),
        "bomb that lies": (
            damaged(zip_of({"a.png": bytes(3_000_000)}), b"a.png", b"\1\0\0\0", 24),
            [failed],
        ),
        "same names": (named("a.png", "a.png", "A.PNG", "../a.png"), [""] * 4),
        "odd names": (named("/etc/a.png", "C:\\b.png", "..", "\u202egnp.exe"), [""] * 3),
        "encrypted": (damaged(two, b"b.png", b"\1", 8), ["", failed]),
        "unknown packing": (damaged(two, b"b.png", b"\x63\0", 10), ["", failed]),
        "wrong sum": (damaged(two, b"b.png", b"\0\0\0\0", 16), ["", failed]),
        "cut short": (two[:-30], [failed]),
        "image before a ZIP": (good + inner, [""]),
    }
    with serve(tmp_path / "zips", "--max-upload", "1", "--queue", "20") as server:
        for case, (content, wanted) in cases.items():
            if case == "very many":
                content = content[:900_000] + inner
            answer = server.api.post("/images", params={"name": "a.zip"}, content=content)
            found = answer.json()
            assert answer.status_code == 201, (case, answer.text)
            assert len(found) == len(wanted), (case, found)
            for image, words in zip(found, wanted, strict=True):
                assert "/" not in image["name"] and "\\" not in image["name"]
                state = server.looked(image)
                assert words in state["reason"] and bool(words) == (state["state"] == "failed")
        assert not list((tmp_path / "zips" / "temporary").iterdir())


def test_what_cannot_be_done_is_said(server: Server, photo: Photo, tmp_path: Path) -> None:
    image = server.looked(server.upload(photo(tmp_path / "a.png")))
    for options, words in (
        ({"scale": 0}, "'scale' is a number above 0"),
        ({"scale": True}, "'scale' is a number"),
        ({"scale": 2, "width": 9}, "Say once"),
        ({"fit": [3]}, "'fit' is a list"),
        ({"style": "../x"}, "'style' is one of auto"),
        ({"strength": 2}, "'strength' is a number from 0 to 1"),
        ({"strength": 0.5, "style": "sharp"}, "styles auto, texture and restore"),
        ({"format": "exe"}, "'format' is one of png"),
        ({"quality": 0}, "'quality' is a whole number"),
        ({"model": "/etc/passwd"}, "'model' is one of balanced_x2"),
        ({"model": "../weights/fast_x2"}, "'model' is one of"),
        ({"model": ["fast_x2"]}, "'model' is one of"),
        ({"model": "fast_x2", "style": "sharp"}, "Say a style or a model"),
        ({"model": "fast_x2", "strength": 1}, "styles auto, texture and restore"),
        ({"guard": True}, "'guard' is for the style texture"),
        ({"guard": 1, "style": "texture"}, "'guard' is true or false"),
        ({"sharpness": 1.5}, "'sharpness' is a number from 0 to 1"),
        ({"path": "/etc/passwd"}, "no option 'path'"),
        ([1], "JSON object"),
    ):
        for what in ("jobs", f"images/{image['id']}/foresee"):
            sent = {"image": image["id"], **options} if isinstance(options, dict) else options
            if what != "jobs" and isinstance(options, dict):
                sent = options
            answer = server.api.post(f"/{what}", json=sent)
            assert answer.status_code == 422 and words in answer.json()["error"], (
                options,
                answer.text,
            )
    assert server.api.post("/jobs", json={"image": "no"}).status_code == 422
    assert server.api.post("/jobs", content=b"{").status_code == 422
    assert server.api.post("/jobs", content=b"[" * 9000).status_code == 422
    assert server.api.post("/jobs", content=b" " * 20000).status_code == 413
    assert server.api.get("/jobs/0123456789abcdef").status_code == 404
    assert server.api.put("/jobs").status_code == 405


def test_a_file_that_is_no_image_fails_by_its_name(server: Server, tmp_path: Path) -> None:
    damaged = bytearray(zip_of({"a.png": bytes(range(256)) * 40 + bytes(9000)}))
    damaged[40:60] = b"\xff" * 20
    for name, content in (
        ("notes.txt", b"hello"),
        ("empty.png", b""),
        ("bad.png", b"\x89PNG\r\n\x1a\nnothing"),
        ("nothing.zip", b""),
        ("empty.zip", b"PK\x05\x06" + bytes(18)),
        ("bad.zip", bytes(damaged)),
    ):
        (tmp_path / "f").write_bytes(content)
        image = server.looked(server.upload(tmp_path / "f", name))
        assert image["state"] == "failed" and name in image["reason"]
        assert str(server.folder) not in json.dumps(image)
        job = server.finished(server.enlarge(image))
        assert (job["state"], job["reason"]) == ("failed", image["reason"])


def test_a_damaged_file_is_told_and_enlarged_as_far_as_it_goes(
    server: Server, photo: Photo, tmp_path: Path
) -> None:
    whole = photo(tmp_path / "a.png", 64, 64).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) * 3 // 4])
    image = server.looked(server.upload(tmp_path / "a.png"))
    assert image["state"] == "ready" and image["look"]["damaged"], image
    assert any("is damaged or cut short" in note for note in image["look"]["notes"]), image
    for what in (f"images/{image['id']}/foresee", "jobs"):
        answer = server.api.post(f"/{what}", json={"image": image["id"]} if what == "jobs" else {})
        found = server.finished(answer.json()) if what == "jobs" else answer.json()
        reason = found["reason"]
        assert "'a.png'" in reason and "The option 'tolerant' takes what is there." in reason
    foreseen = server.api.post(f"/images/{image['id']}/foresee", json={"tolerant": True})
    assert foreseen.json()["allowed"]
    job = server.finished(server.enlarge(image, tolerant=True, scale=2))
    assert job["state"] == "done" and job["result"]["risk"], job
    assert any("is damaged or cut short" in note for note in job["result"]["notes"])


def test_no_sentence_holds_a_path() -> None:
    task = {"source": "/kept/images/1f/source.png", "folder": "/kept/jobs/2e"}
    for said, shown in {
        "'/kept/jobs/2e/result.tif' is full: no.": "The result is full: no.",
        "'/kept/images/1f/source.png' is no image.": "The image is no image.",
        "/kept/jobs/2e/result.png: no room.\nand more": "The result: no room.",
    }.items():
        assert _sentence(InputError(said), task) == shown


def test_cancel_retry_and_remove(server: Server, photo: Photo, tmp_path: Path) -> None:
    image = server.upload(photo(tmp_path / "large.png", 160, 120))
    first = server.enlarge(image, scale=8, risk=False)
    second = server.enlarge(image, scale=2, risk=False)
    server.wait(f"/jobs/{first['id']}", lambda job: job["state"] == "running" and job["done"] > 0)
    assert server.api.post(f"/jobs/{second['id']}/cancel").json()["state"] == "cancelled"
    server.api.post(f"/jobs/{first['id']}/cancel")
    assert server.finished(first)["state"] == "cancelled"
    assert server.api.get(f"/jobs/{first['id']}/result").status_code == 409
    assert server.api.post(f"/jobs/{second['id']}/retry").json()["state"] == "queued"
    assert server.finished(second)["state"] == "done"

    third = server.enlarge(image, scale=8, risk=False)
    server.wait(f"/jobs/{third['id']}", lambda job: job["state"] == "running")
    assert server.api.delete(f"/images/{image['id']}").status_code == 204
    for job in (first, second, third):
        assert server.api.get(f"/jobs/{job['id']}").status_code == 404
    small = server.upload(photo(tmp_path / "small.png"))
    assert server.finished(server.enlarge(small, scale=2))["state"] == "done"
    known = {job["id"] for job in server.api.get("/jobs").json()}
    assert {path.name for path in (server.folder / "jobs").iterdir()} <= known


def test_all_are_cancelled_or_removed_by_one_request(
    server: Server, photo: Photo, tmp_path: Path
) -> None:
    image = server.upload(photo(tmp_path / "large.png", 160, 120))
    jobs = [server.enlarge(image, scale=8, risk=False) for _ in range(4)]
    server.wait(f"/jobs/{jobs[0]['id']}", lambda job: job["state"] == "running")
    assert server.api.post("/jobs/cancel").status_code == 204
    assert {server.finished(job)["state"] for job in jobs} == {"cancelled"}
    assert server.api.delete("/images").status_code == 204
    assert server.api.get("/images").json() == server.api.get("/jobs").json() == []
    assert not list((server.folder / "images").iterdir())


def test_estimates_learn_from_the_last_jobs(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    auto, sharp = asdict(Options()), asdict(Options(style="sharp"))

    def add(options: dict[str, Any], foreseen: float, seconds: float) -> Job:
        number = len(jobs.jobs)
        job = Job(id=f"{number}", image="", options=options, state="done", foreseen=foreseen)
        job.result = {"seconds": seconds}
        jobs.save(job)
        return job

    assert jobs.pace(auto) == 1
    add(auto, 0, 50)  # which nobody asked for before
    assert jobs.pace(auto) == 1
    add(auto, 0.1, 1)  # a small one, whose start is most of it
    add(auto, 9.9, 19)
    assert jobs.pace(auto) == pytest.approx(2)
    assert jobs.pace(sharp) == pytest.approx(2)  # the machine is the same
    for _ in range(5):
        add(sharp, 10, 40)  # and has become busy
    assert jobs.pace(sharp) == pytest.approx(4) and jobs.pace(auto) == pytest.approx(2)
    running = Job(id="now", image="", options=auto, state="running", foreseen=10)
    assert jobs.pace(auto, running=(running, 60)) == pytest.approx(4)
    jobs.close()


def test_events_tell_what_happens(server: Server, photo: Photo, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png", 200, 100)
    states, made = [], None
    with server.api.stream("GET", "/events") as events:
        lines = events.iter_lines()
        assert next(lines) == "event: all"
        for line in lines:
            if not line.startswith("data: "):
                continue
            event = json.loads(line[6:])
            if made is None:
                assert isinstance(event, list)
                made = server.enlarge(server.upload(path), scale=2, risk=False)
            elif event.get("job", {}).get("id") == made["id"]:
                states.append((event["job"]["state"], event["job"]["done"]))
                if states[-1][0] == "done":
                    break
    assert [state for state, _ in states] == sorted(
        [state for state, _ in states], key=["queued", "running", "done"].index
    )
    assert {"running", "done"} <= {state for state, _ in states}


def test_an_upload_that_is_cut_short_leaves_nothing(server: Server) -> None:
    before = len(server.api.get("/images").json())
    port = int(server.address.rstrip("/").rpartition(":")[2])
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as half:
            head = "POST /api/v1/images?name=a.png HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            half.sendall(head.encode() + b"Content-Length: 100000\r\n\r\n" + b"x" * 5000)
    end = time.monotonic() + 10
    while list((server.folder / "temporary").iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(server.api.get("/images").json()) == before


def test_static_files_are_the_page_s_alone(server: Server) -> None:
    get = server.api.get
    assert get(server.address).headers["content-type"].startswith("text/html")
    for name in ("main.js", "page.css", "texts.js"):
        assert get(f"{server.address}page/{name}").status_code == 200
    for path in ("/page/", "/page", "/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd"):
        answer = get(f"{server.address[:-1]}{path}")
        assert answer.status_code in (404, 307, 405) and "import" not in answer.text, path
    for tile in ("99/0_0", "0/9_9", "0/-1_0", "0/0_0.jpg", "..%2f..%2f/0_0"):
        images = server.api.get("/images").json()  # those of other tests, or none
        image = images[0]["id"] if images else 1
        assert server.api.get(f"/images/{image}/view/{tile}").status_code == 404


def test_the_document_names_every_address(server: Server) -> None:
    document = server.api.get(f"{server.address}api").json()
    described = {(path, how.upper()) for path, ways in document["paths"].items() for how in ways}
    api = _Api.__new__(_Api)  # only its methods' names are looked at
    there = {
        (route.path.replace(":int", ""), how)  # type: ignore[attr-defined]
        for route in _routes(api)
        for how in getattr(route, "methods", ()) or ()
        if how != "HEAD"
    }
    assert described == {(path, how) for path, how in there if path.startswith("/api/v1")}
    assert set(document["components"]["schemas"]["Options"]["properties"]) == set(_ALLOWED)


def test_limits_are_told(serve: Any, photo: Photo, tmp_path: Path) -> None:
    limits = ("--max-upload", "1", "--max-pixels", "1", "--queue", "2", "--token", "abc")
    with serve(tmp_path / "limited", *limits) as server:
        assert server.api.get("/status").status_code == 401
        server.api.headers["Authorization"] = "Bearer abc"
        answer = server.api.post("/images", content=bytes(1_000_001))
        assert answer.status_code == 413 and "1 MB" in answer.json()["error"]
        chunks = (bytes(400_000) for _ in range(3))  # which say no length
        assert server.api.post("/images", content=chunks).status_code == 413
        bomb = zip_of({"a.png": bytes(5_000_000)})
        assert len(bomb) < 10_000
        assert "larger than 1 MB" in server.api.post("/images", content=bomb).json()[0]["reason"]
        assert not list((tmp_path / "limited" / "temporary").iterdir())

        small = server.looked(server.upload(photo(tmp_path / "a.png", 300, 300)))
        foreseen = server.api.post(f"/images/{small['id']}/foresee", json={"scale": 4}).json()
        assert not foreseen["allowed"] and "at most 1 megapixels" in foreseen["reason"]
        job = server.finished(server.enlarge(small, scale=4))
        assert job["state"] == "failed" and "at most 1 megapixels" in job["reason"]
        (tmp_path / "flat.png").write_bytes(photo(tmp_path / "b.png", 1100, 1000).read_bytes())
        waiting = server.api.post("/images", content=(tmp_path / "b.png").read_bytes()[:900_000])
        assert waiting.status_code in (201, 413)

        made = [server.api.post("/jobs", json={"image": small["id"], "scale": 3}) for _ in range(9)]
        assert [a.status_code for a in made].count(202) >= 2
        assert made[-1].status_code == 503 and "2 jobs are waiting" in made[-1].json()["error"]


def test_other_hosts_need_a_token(command: Any) -> None:
    ran = command("serve", "--host", "0.0.0.0", "--no-browser")
    assert ran.status == 2 and "--token" in ran.err
    for token in ("", "my pass", "a/b"):
        ran = command("serve", "--token", token, "--no-browser")
        assert ran.status == 2 and "--token holds letters" in ran.err


def test_what_is_printed_for_all_addresses_can_be_opened(serve: Any, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::"):
        with serve(tmp_path / host.strip(":"), "--host", host, "--token", "abc") as server:
            printed = [server.address]
            while (line := server.process.stdout.readline()).startswith("http"):
                assert line.endswith("/?token=abc\n")
                printed.append(line.partition("?")[0])
            assert server.process.stdout.readline().startswith("Whoever reaches this machine")
            assert printed[0].startswith("http://127.0.0.1:") and len(set(printed)) == len(printed)
            for address in printed:
                assert httpx.get(f"{address}api/v1/status").status_code == 401
                assert httpx.get(f"{address}?token=abc").status_code == 303


def test_a_port_that_is_taken_is_said(command: Any, server: Server) -> None:
    port = server.address.rstrip("/").rpartition(":")[2]
    ran = command("serve", "--port", port, "--no-browser")
    assert ran.status == 2 and "--port" in ran.err
    ran = command("serve", "--port", "0", "--no-browser", "--folder", server.folder)
    assert ran.status == 2 and "Another server uses the folder" in ran.err
