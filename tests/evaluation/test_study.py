"""A blind study from the results to the table."""

import base64
import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekeeper.evaluation import study_answers
from edgekeeper.image import Image, read_image, write_image
from edgekeeper.metrics.preference import agreement


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 80, 3)).astype(np.uint8)
        write_image(Image(pixels=pixels), folder / f"SecretName{number}.png")
    return folder


@pytest.fixture
def made(
    originals: Path, tmp_path: Path, command: Callable[..., Any]
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The page, what is in it, and the key."""
    page = tmp_path / "study.html"
    options = ("--on", originals, "--scale", "4", "--side", "48")
    ran = command("study", "make", "espcn_x4", "fast_x4", "bicubic", *options, "-o", page)
    assert ran.status == 0, ran.err
    return page, study_of(page), json.loads((tmp_path / "study_key.json").read_text())


def study_of(page: Path) -> dict[str, Any]:
    found = re.search(r"const STUDY = (.*);\n", page.read_text(encoding="utf-8"))
    assert found
    study: dict[str, Any] = json.loads(found[1])
    return study


def answers_of(study: dict[str, Any], key: dict[str, Any], person: str, strength: float) -> str:
    """The lines of a person who prefers fast_x4 to espcn_x4 to bicubic, and the original to all."""
    rng = np.random.default_rng(sum(map(ord, person)))
    worth = {"original": 9.0, "fast_x4": strength, "espcn_x4": 0.0, "bicubic": -strength}
    lines = []
    for trial in study["trials"]:
        if "images" in trial:
            seen = {token: worth[key["tokens"][token]["method"]] for token in trial["images"]}
            noise = {token: rng.gumbel() for token in seen}
            order = sorted(seen, key=lambda token: -seen[token] - noise[token])
            lines.append(json.dumps({"participant": person, **trial, "order": order}))
            continue
        a, b = (worth[key["tokens"][trial[side]]["method"]] for side in ("left", "right"))
        choice = "left" if rng.random() < 1 / (1 + np.exp(b - a)) else "right"
        choice = "none" if rng.random() < 0.1 and 9.0 not in (a, b) else choice
        lines.append(json.dumps({"participant": person, **trial, "choice": choice, "seconds": 1}))
    return "\n".join(lines) + "\n"


def test_the_page_betrays_no_method(
    made: tuple[Path, dict[str, Any], dict[str, Any]], originals: Path
) -> None:
    page, study, key = made
    text = page.read_text(encoding="utf-8").lower()
    for name in ("espcn", "fast", "bicubic", "secretname", str(originals).lower(), "original"):
        assert name not in re.sub(r"base64,[^\"]*", "", text), name
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    # 4 images x 3 pairs, one in ten again, 3 checks
    assert len(study["trials"]) == 12 + 1 + 3
    assert list(study["images"]) == sorted(key["tokens"])
    lengths: dict[str, set[int]] = {}
    for token, address in study["images"].items():
        kind, _, packed = address.partition(",")
        png = base64.b64decode(packed)
        assert kind == "data:image/png;base64" and png.endswith(b"IEND\xaeB`\x82")
        image = read_image(png, tolerant=False)  # its sums fit
        assert image.pixels.shape == (48, 48, 3)
        lengths.setdefault(key["tokens"][token]["image"], set()).add(len(png))
    assert len(lengths) == 4 and all(len(one) == 1 for one in lengths.values()), lengths
    sides: Counter[tuple[str, str]] = Counter()
    for trial in study["trials"][:12]:
        left, right = (key["tokens"][trial[side]] for side in ("left", "right"))
        assert left["image"] == right["image"] and left["method"] != right["method"]
        sides[left["method"], right["method"]] += 1
    assert set(sides.values()) == {2}  # each on the left as often as on the right


def of_table(rows: list[dict[str, str]], title: str) -> list[dict[str, str]]:
    return [row for row in rows if row["table"] == title]


def test_the_answers_become_scores_and_rates(
    made: tuple[Path, dict[str, Any], dict[str, Any]], tmp_path: Path, command: Callable[..., Any]
) -> None:
    _, study, key = made
    files = []
    for person in range(24):
        files.append(tmp_path / f"{person}.jsonl")
        files[-1].write_text(answers_of(study, key, f"p{person}", 1.2))
    sleepy = [json.loads(line) for line in answers_of(study, key, "sleepy", 1.2).splitlines()]
    files.append(tmp_path / "sleepy.jsonl")
    files[-1].write_text("\n".join(json.dumps({**a, "choice": "none"}) for a in sleepy))
    files.append(files[0])  # sent twice
    ran = command("study", "analyse", tmp_path / "study_key.json", *files, "--format", "csv")
    assert ran.status == 0, ran.err
    rows = list(csv.DictReader(ran.out.splitlines()))
    assert [row["method"] for row in of_table(rows, "Scores")] == ["fast_x4", "espcn_x4", "bicubic"]
    found = {(row["preferred"], row["to"]): row for row in of_table(rows, "Pairs")}
    pair = found["fast_x4", "bicubic"]
    assert (pair["answers"], pair["better"]) == ("96", "fast_x4")
    shown = command("study", "analyse", tmp_path / "study_key.json", *files)
    assert "24 participants, 288 answers" in " ".join(shown.out.split())
    assert "attention checks: 1" in " ".join(shown.out.split())

    ran = command(
        "study", "analyse", tmp_path / "study_key.json", files[0], tmp_path / "sleepy.jsonl"
    )
    assert ran.status == 2 and "1 failed more than half of their attention" in ran.err

    equal = tmp_path / "equal.jsonl"
    equal.write_text("".join(answers_of(study, key, f"q{n}", 0.0) for n in range(12)))
    ran = command("study", "analyse", tmp_path / "study_key.json", equal, "--format", "csv")
    assert ran.out.count("not distinguishable") >= 2

    equal.write_text('{"participant": "x"}')
    ran = command("study", "analyse", tmp_path / "study_key.json", equal)
    assert ran.status == 2 and "Answer 1 is none of this study" in ran.err


def test_rankings_measures_and_the_figure(
    originals: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    page, key_file = tmp_path / "rank.html", tmp_path / "rank_key.json"
    options = ("--on", originals, "--scale", "4", "--side", "48", "--ask", "rankings")
    subjects = ("espcn_x4", "fast_x4", "bicubic")
    ran = command("study", "make", *subjects, *options, "--crops", "differ", "-o", page)
    assert ran.status == 0, ran.err
    study = study_of(page)
    key = json.loads(key_file.read_text())
    asked = [trial["images"] for trial in study["trials"] if "images" in trial]
    assert len(asked) == 4 + 1 and len(study["trials"]) == 5 + 3
    for place in range(3):  # Latin square: over three images each subject stands in each place
        assert {key["tokens"][one[place]]["method"] for one in asked[:3]} == set(subjects)
    assert asked[4] in [one[::-1] for one in asked[:4]]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(answers_of(study, key, f"p{n}", 1.5) for n in range(15)))
    figure = tmp_path / "votes.svg"
    ran = command("study", "analyse", key_file, answers, "--format", "csv", "--figure", figure)
    assert ran.status == 0, ran.err
    rows = list(csv.DictReader(ran.out.splitlines()))
    assert [row["method"] for row in of_table(rows, "Scores")] == ["fast_x4", "espcn_x4", "bicubic"]
    answered = {(r["preferred"], r["to"]): r["answers"] for r in of_table(rows, "Pairs")}
    assert answered["fast_x4", "bicubic"] == "60"  # 15 people, 4 images
    measures = {row["measure"] for row in of_table(rows, "Measures")}
    assert {"PSNR", "structure risk"} <= measures
    assert figure.read_text(encoding="utf-8").startswith("<?xml")

    # A measure that is the worth of the methods goes with the answers, its negative against them.
    worth = {"fast_x4": 2.0, "espcn_x4": 1.0, "bicubic": 0.0}
    for sign in (1, -1):
        for token in key["tokens"].values():
            if token["method"] in worth:
                token["measures"] = {"psnr": sign * worth[token["method"]]}
        key_file.write_text(json.dumps(key))
        ran = command("study", "analyse", key_file, answers, "--format", "csv")
        (line,) = (line for line in ran.out.splitlines() if line.startswith("Measures,"))
        numbers = [float(n) for n in re.findall(r"-?\d\.\d+", line)]
        assert sign * numbers[0] > 0.6 and (numbers[3] > 0.7) == (sign == 1), line


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_participant_answers_goes_away_comes_back_and_saves(
    made: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    page_file, study, _ = made
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_context(accept_downloads=True).new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        turned = []
        for name in ("Zoë 2", "Zoë 1"):
            page.goto(page_file.as_uri())
            page.fill("#name", name)
            page.press("#name", "Enter")
            turned.append(page.evaluate(f"rowOf('{name}') % 2"))
            shown = page.evaluate("trials.map(({ left, right }) => [left, right])")
            sides = [(t["left"], t["right"]) for t in study["trials"]]
            assert Counter(map(tuple, shown)) == Counter(
                side[::-1] if turned[-1] else side for side in sides
            )
        assert sorted(turned) == [0, 1]
        for press in ("ArrowLeft", "ArrowRight", "ArrowDown"):
            page.keyboard.press(press)
        page.click("#right")
        page.reload()
        assert page.input_value("#name") == "Zoë 1"
        page.keyboard.press("Enter")  # the name has the focus
        assert page.evaluate("document.getElementById('bar').value") == 4
        page.keyboard.press("z")
        assert page.evaluate("document.body.style.getPropertyValue('--zoom')") == "2"
        while page.is_visible("#ask"):
            page.keyboard.press("ArrowLeft")
        with page.expect_download() as download:
            page.click("#save")
        lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
        browser.close()
    assert not wrong
    given = [json.loads(line) for line in lines]
    assert [a["choice"] for a in given[:4]] == ["left", "right", "none", "right"]
    asked = Counter((a["left"], a["right"]) for a in given)
    assert asked == Counter(map(tuple, shown))
    assert {a["participant"] for a in given} == {"Zoë 1"}


def test_a_subject_may_not_be_called_as_the_checks_are(
    originals: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    (tmp_path / "original").mkdir()
    ran = command(
        "study",
        "make",
        tmp_path / "original",
        "bicubic",
        "--on",
        originals,
        "--scale",
        "4",
        "-o",
        tmp_path / "study.html",
    )
    assert ran.status == 2 and "'original' is what attention checks show" in ran.err


def shown_of(page: Path, key: dict[str, Any]) -> dict[tuple[str, str], np.ndarray]:
    """The pixels of each subject on each image."""
    images = study_of(page)["images"]
    return {
        (known["image"], known["method"]): read_image(
            base64.b64decode(images[token].partition(",")[2])
        ).pixels
        for token, known in key["tokens"].items()
        if "measures" in known
    }


def test_the_worst_places_are_those_of_each_result_in_its_turn(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    """Two folders with one damaged square an image: the first's at one place, the second's at
    another; shown is that of the first, of the second, of the first ..."""
    pixels = np.random.default_rng(0).integers(60, 190, (96, 96, 3)).astype(np.uint8)
    for folder in ("hr", "a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(4):
            damaged = pixels.copy()
            if folder != "hr":
                at = 0 if folder == "a" else 64
                damaged[at : at + 32, at : at + 32] = 0 if folder == "a" else 255
            write_image(Image(pixels=damaged), tmp_path / folder / f"n{number}.png")
    page = tmp_path / "s.html"
    options = ("--on", tmp_path / "hr", "--scale", "4", "--side", "32", "--crops", "worst")
    ran = command("study", "make", tmp_path / "a", tmp_path / "b", *options, "-o", page)
    assert ran.status == 0, ran.err
    shown = shown_of(page, json.loads((tmp_path / "s_key.json").read_text()))
    for number in range(4):
        worse, value = (("a", 0), ("b", 255))[number % 2]
        assert (shown[f"hr/n{number}", worse] == value).all(), number
        other = "b" if worse == "a" else "a"
        assert np.ptp(shown[f"hr/n{number}", other]) > 50


def test_images_without_originals(
    originals: Path, tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
    page, key_file = tmp_path / "s.html", tmp_path / "s_key.json"
    options = ("--inputs", originals, "--side", "64", "-o", page)
    ran = command("study", "make", "fast_x4", "bicubic", *options, "--crops", "differ")
    assert ran.status == 0, ran.err
    study, key = study_of(page), json.loads(key_file.read_text())
    assert len(study["trials"]) == 4 + 1 + 3
    subjects = [known for known in key["tokens"].values() if "measures" in known]
    assert len(subjects) == 8 and all(list(one["measures"]) == ["risk"] for one in subjects)
    answers = tmp_path / "a.jsonl"
    answers.write_text("".join(answers_of(study, key, f"p{n}", 1.5) for n in range(8)))
    ran = command("study", "analyse", key_file, answers, "--format", "csv")
    # 8 people, 4 images; those with checks count among the measures too
    assert "fast_x4,bicubic" in ran.out and ",32," in ran.out and "structure risk" in ran.out

    ran = command("study", "make", "fast_x4", "bicubic", *options, "--crops", "worst", "--force")
    assert ran.status == 2 and "Without originals" in ran.err
    ran = command("study", "make", "fast_x4", "bicubic", "--inputs", tmp_path / "no", "-o", page)
    assert ran.status == 2 and ran.err
    # Result folders alone: one of them says the names; no scale, no network, no measure.
    (tmp_path / "other").mkdir()
    for file in originals.iterdir():
        shutil.copy(file, tmp_path / "other")
    folders = (originals, tmp_path / "other")
    ran = command("study", "make", *folders, *options, "--force")
    assert ran.status == 0, ran.err
    shown = shown_of(page, json.loads(key_file.read_text()))
    assert len(shown) == 8 and {one.shape for one in shown.values()} == {(64, 64, 3)}


def test_a_check_takes_no_measures_from_a_subject(
    made: tuple[Path, dict[str, Any], dict[str, Any]], tmp_path: Path, command: Callable[..., Any]
) -> None:
    """`bicubic` is a subject and what checks show: pairs with it count among the measures."""
    _, study, key = made
    answers = tmp_path / "a.jsonl"
    answers.write_text("".join(answers_of(study, key, f"p{n}", 2.0) for n in range(6)))
    asked = tuple(study_answers.read_answers(answers.read_text().splitlines(), key)[0])
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        count = lambda rated, seed: seen.append(len(rated)) or agreement(rated, seed=seed)  # noqa: E731
        patched.setattr(study_answers, "agreement", count)
        study_answers.analyse_study(asked, (), key=key)
    assert seen[0] == 6 * 4 * 3
