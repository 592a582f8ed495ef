"""A study that is served: links, answers on the disk, nothing that tells the methods apart."""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest

from edgekeeper.errors import DataError
from edgekeeper.evaluation.evaluate import find_subject
from edgekeeper.evaluation.study import Ask, make_study
from edgekeeper.image import Image, write_image
from edgekeeper.server.study import StudyService, create_study_app


class Client:
    """Asks the application without a server."""

    def __init__(self, service: StudyService) -> None:
        self._app = create_study_app(service)

    def get(self, path: str, **sent: Any) -> httpx.Response:
        return self._ask("GET", path, **sent)

    def post(self, path: str, **sent: Any) -> httpx.Response:
        return self._ask("POST", path, **sent)

    def _ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as api:
                return await api.request(method, path, **sent)

        return asyncio.run(request())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of pairs and one of rankings, of a folder with a telling name."""
    folder = tmp_path_factory.mktemp("study")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3)).astype(np.uint8)
        write_image(Image(pixels=pixels), folder / f"SecretName{number}.png")
    subjects = {name: find_subject(name) for name in ("espcn_x4", "fast_x4", "bicubic")}
    for ask in get_args(Ask):
        page, key = make_study(subjects, sets=[folder], scale=4, data_root=folder, ask=ask)
        (folder / f"{ask}.html").write_text(page, encoding="utf-8")
        (folder / f"{ask}_key.json").write_text(json.dumps(key))
    return folder


def trials_of(page: Path) -> list[dict[str, Any]]:
    found = re.search(r"const STUDY = (.*);\n", page.read_text(encoding="utf-8"))
    assert found
    trials: list[dict[str, Any]] = json.loads(found[1])["trials"]
    return trials


def test_answers_are_kept_once_and_found_again(study: Path, tmp_path: Path) -> None:
    page = study / "pairs.html"
    service = StudyService(page, tmp_path / "a", participants=3)
    link, other, trial = *service.links[:2], trials_of(page)[0]
    answer = {"study": service.id, **trial, "choice": "left", "seconds": 1.5}
    api = Client(service)

    def post(number: int, what: object, to: str = link) -> int:
        sent = {"number": number, "answer": what}
        return api.post(f"/p/{to}/answers", json=sent).status_code

    assert post(0, answer) == post(0, answer) == 200  # sent again: not kept again
    other_sides = {**answer, "left": trial["right"], "right": trial["left"]}
    assert post(0, other_sides, other) == 200
    assert post(2, answer) == 422  # one before it is missing
    for wrong in ({**answer, "left": "x"}, {**answer, "choice": "up"}, {**answer, "study": 0}):
        assert post(1, wrong) == 422
    assert post(0, answer, "nobody") == api.get("/p/nobody").status_code == 404
    assert post(1, [1]) == api.post(f"/p/{link}/answers", content=b"{").status_code == 422
    assert api.post(f"/p/{link}/answers", content=b" " * 20000).status_code == 413
    assert api.post(f"/p/{link}/answers", headers={"origin": "http://x"}).status_code == 403
    elsewhere = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert api.get(f"/p/{link}", headers=elsewhere).status_code == 200  # a link in a mail
    assert api.post(f"/p/{link}/answers", headers=elsewhere).status_code == 403
    assert api.get("/").status_code == 404
    kept = [json.loads(line) for line in service.file(link).read_text().splitlines()]
    assert len(kept) == 1 and kept[0]["participant"] == "participant_001"
    assert len(service.file(other).read_text().splitlines()) == 1

    with service.file(link).open("a") as file:
        file.write('{"cut off')  # by a crash
    again = StudyService(page, tmp_path / "a", participants=5)
    assert again.links[:3] == service.links and len(set(again.links)) == 5
    assert again.answers[link] == kept
    assert service.file(link).read_text() == json.dumps(kept[0]) + "\n"
    with pytest.raises(DataError, match="another study"):
        StudyService(study / "rankings.html", tmp_path / "a", participants=3)
    with pytest.raises(DataError, match="no page"):
        StudyService(study / "pairs_key.json", tmp_path / "b", participants=3)


def test_a_full_disk_keeps_whole_lines(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = study / "pairs.html"
    service = StudyService(page, tmp_path, participants=1)
    link, answer = service.links[0], {"study": service.id, **trials_of(page)[0], "choice": "none"}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    api = Client(service)
    sent = {"number": 0, "answer": answer}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert api.post(f"/p/{link}/answers", json=sent).status_code == 507
    assert service.file(link).read_bytes() == b"" and not service.answers[link]
    assert api.post(f"/p/{link}/answers", json=sent).status_code == 200


def test_what_is_served_betrays_no_method(study: Path, tmp_path: Path) -> None:
    for ask in ("pairs", "rankings"):
        service = StudyService(study / f"{ask}.html", tmp_path / ask, participants=2)
        api = Client(service)
        answer = api.get(f"/p/{service.links[1]}")
        served = re.sub(r"base64,[^\"]*", "", answer.text).lower() + str(answer.headers).lower()
        for name in ("espcn", "fast", "bicubic", "secretname", str(study).lower(), "original"):
            assert name not in served, name
        sizes = set()
        for found in re.findall(r"base64,([^\"]*)", answer.text):
            png = base64.b64decode(found)
            parts, at = [png[16:24]], 8
            while at < len(png):  # lengths and names: padding would tell how much there is of it
                parts.append(png[at : at + 8])
                at += 12 + int.from_bytes(png[at : at + 4])
            sizes.add(tuple(parts))
        assert len(sizes) == 1, sizes  # one size, the same chunks, each as long
        key = json.loads((study / f"{ask}_key.json").read_text())["tokens"]
        found = re.findall(r'"(\w+)": "(data:[^"]*)"', answer.text)
        lengths = {(key[token]["image"], len(address)) for token, address in found}
        assert len(found) == len(key) and len(lengths) == 3, lengths  # of 3 images
        assert "script-src 'sha256-" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.fixture
def served(study: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start `study serve`; returns the process and the links."""
    started = []

    def start(page: str, port: int = 0) -> tuple[Any, list[str]]:
        command = [sys.executable, "-m", "edgekeeper", "study", "serve", str(study / page)]
        options = ["--participants", "2", "--port", str(port), "--answers", str(tmp_path / page)]
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        links = [process.stdout.readline().split()[1] for _ in range(2)]
        for _ in range(100):
            try:
                httpx.get(links[0])
                break
            except httpx.ConnectError:
                signal.sigtimedwait([], 0.05)
        return process, links

    yield start
    for process in started:
        process.kill()
        process.wait(60)
        process.stdout.close()


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_participants_in_a_browser(served: Callable[..., Any], study: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        wrong: list[str] = []

        def open_(link: str, **options: Any) -> Any:
            page = browser.new_context(**options).new_page()
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(link)
            return page

        # Rankings, in German: by keys, by mouse, taken back, on another device, with the server
        # killed in the middle.
        process, links = served("rankings.html")
        page = open_(links[0], locale="de-DE")
        assert page.is_hidden("#name") and page.title() == "Was gefällt Ihnen besser?"
        page.keyboard.press("Enter")  # "Beginnen" has the focus
        orders = page.evaluate(
            "Array.from({length: 7}, (_, row) => latin(7, row)).concat([[...latin(8, 3)]])"
        )
        for place in range(7):  # each question in each place once
            assert {row[place] for row in orders[:7]} == set(range(7))
        assert sorted(orders[7]) == list(range(8))
        count = len(trials_of(study / "rankings.html"))
        file = tmp_path / "rankings.html" / "participant_001.jsonl"

        def sent(page: Any, number: int) -> None:
            for _ in range(200):
                if page.evaluate("sent") == number:
                    return
                page.wait_for_timeout(50)
            raise AssertionError(page.evaluate("sent"))

        def one(page: Any) -> None:
            if page.locator("#left").count():
                page.keyboard.press("ArrowLeft")
                return
            assert page.is_disabled("#next")
            page.click("#image2")
            page.click("#image2")  # taken back
            page.keyboard.press("3")
            page.click("#image1")
            page.keyboard.press("2")
            assert page.locator(".rank").all_inner_texts() == ["2.", "3.", "1."]
            page.keyboard.press("Enter")

        if folder := os.environ.get("EDGEKEEPER_SCREENS"):
            page.wait_for_timeout(300)
            page.screenshot(path=Path(folder, "study.png"))
        one(page)
        one(page)
        sent(page, 2)
        assert len(file.read_text().splitlines()) == 2
        port = int(links[0].split(":")[2].split("/")[0])
        process.kill()
        process.wait(60)
        one(page)
        page.get_by_text("Der Server antwortet nicht").wait_for()
        _, again = served("rankings.html", port)
        assert again == links
        sent(page, 3)
        assert page.is_hidden("#unsaved")
        page = open_(links[0])  # another device goes on
        assert page.title() == "Which do you prefer?"
        page.get_by_role("button", name="Begin").click()
        assert page.evaluate("document.getElementById('bar').value") == 3
        while page.is_visible("#ask"):
            one(page)
        page.get_by_role("heading", name="Thank you").wait_for()
        sent(page, count)
        kept = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(kept) == count and all(a["participant"] == "participant_001" for a in kept)
        asked = [tuple(a.get("images") or (a["left"], a["right"])) for a in kept]
        assert len(set(asked)) == count  # nothing lost, nothing twice
        axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
        page = open_(links[1])
        page.get_by_role("button", name="Begin").click()
        turned = page.evaluate("trials.map((one) => one.images ?? [one.left, one.right])")
        assert {tuple(one[::-1]) for one in turned} == set(asked)
        found = axe.run(page).response["violations"]
        assert not [f["id"] for f in found if f["impact"] in ("serious", "critical")], found
        browser.close()
    assert not wrong
