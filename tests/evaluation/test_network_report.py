"""The HTML page about networks, and the forms of its tables."""

import csv
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekeeper.evaluation.network_report import _power
from edgekeeper.evaluation.tables import Table, as_csv, as_latex
from edgekeeper.image import Image, write_image
from edgekeeper.metrics.structure import regions_of
from edgekeeper.ops.gradient import sobel


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    rows, columns = np.mgrid[:96, :120]
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 60, (96, 120, 3))
        pixels = noise * (rows > 48)[..., None] + (columns > 40 + rows // 3)[..., None] * 150
        write_image(Image(pixels=pixels.astype(np.uint8)), folder / f"{number}<b>.png")
    return folder


class Reader(HTMLParser):
    """Tags that are open, and addresses that are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "input", "line", "rect", "polyline", "circle", "b"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect", "polyline", "circle"):
            assert self.open.pop() == tag


def test_one_file_with_everything_inside(
    originals: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    page = tmp_path / "report.html"
    options = ("--on", originals, "--scale", "4")
    ran = command("report", "espcn_x4", *options, "-o", page, "--format", "markdown")
    assert ran.status == 0, ran.err
    assert "| espcn_x4 |" in ran.out and "espcn_x4 against bicubic" in ran.out
    text = page.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert not reader.open and len(reader.addresses) >= 3 * 5
    assert all(address.startswith("data:image/jpeg;base64,") for address in reader.addresses)
    assert "0<b>" not in text and "0&lt;b&gt;" in text  # names are text
    for heading in (
        "Scores",
        "Structure by region",
        "Spectrum",
        "Across edges",
        "Typical",
        "Cost",
        "Cards",
    ):
        assert f"<h2>{heading}</h2>" in text
    assert len(text) < 20e6
    card = text.partition("<h2>Cards</h2>")[2].partition("<details>")[0]  # what is printed too
    assert "recipe espcn_x4: " in card and re.search(r"\d+ images: \d+ CC0", card), card
    shown = re.findall(r"<p>([^<]*): structure risk", text)
    assert len(shown) == len(set(shown)) == 3  # once, where it invents most or as typical
    assert text.count("left the original, right espcn_x4</figcaption>") == 3
    ran = command("report", "espcn_x4", *options, "-o", page)
    assert ran.status == 2 and "--force" in ran.err
    assert command("report", "espcn_x4", *options).status == 2
    ran = command("report", "bicubic", *options, "--format", "csv", "-o", tmp_path / "b.html")
    assert ran.status == 0 and "PSNR" in ran.out and "parameters" not in ran.out
    text = (tmp_path / "b.html").read_text(encoding="utf-8")
    most, rest = text.partition("<h2>Where it invents most</h2>")[2].split("<h2>Typical</h2>")
    assert "In 5 of 5 images bicubic invents nothing above the threshold" in most
    assert "<img" not in most and rest.count("structure risk") == 3


def test_regions_of_an_edge_of_noise_and_of_nothing() -> None:
    edge = torch.zeros(1, 1, 34, 34)
    edge[..., 17:] = 1
    noise = torch.rand(1, 1, 34, 34, generator=torch.Generator().manual_seed(0))
    for image, expected in ((edge, {0, 2}), (noise, {1}), (torch.zeros(1, 1, 34, 34), {2})):
        maps = sobel(image, border="valid")
        found = regions_of(maps.x, maps.y)
        assert found.shape == (1, 1, 4, 4)
        values = set(found.unique().tolist())
        assert values <= expected | ({0} if image is noise else set()) and expected & values
        if image is noise:
            assert (found == 1).float().mean() > 0.9


def test_the_spectrum_of_a_wave_is_in_its_band() -> None:
    wave = np.cos(2 * np.pi * 0.25 * np.arange(128))[None, :].repeat(128, 0)
    power = _power(wave)
    assert int(power.argmax()) in (11, 12)  # of 24 up to 0.5
    assert power[12:14].sum() + power[10:12].sum() > 0.99 * power.sum()


def test_csv_and_latex() -> None:
    table = Table(
        "A & B",
        ("set", ">scale", "model", ">PSNR ↑", ">GMSD ↓", ">GV ratio →1"),
        (
            ("Set5", "×4", "a_b", "30.10*", "0.2 ", "1.2"),
            ("Set5", "×4", "c", "29.00 ", "0.1*", "0.9*"),
            ("Set5", "×4", "d", "–", "0.3 ", "2.0"),
            ("Set14", "×4", "c", "27.00", "0.3", "1.0"),
        ),
        ("50 %",),
        keys=3,
    )
    assert as_csv(table).splitlines()[:2] == [
        "set,scale,model,PSNR ↑,GMSD ↓,GV ratio →1",
        "Set5,×4,a_b,30.10,0.2,1.2",
    ]
    lines = as_latex(table).splitlines()
    assert lines[2] == r"\begin{tabular}{lrlrrr}" and lines[-1] == r"\end{tabular}"
    assert r"$\times$4 & a\_b & \textbf{30.10} & \underline{0.2} & \underline{1.2} \\" in lines[6]
    assert r"c & \underline{29.00} & \textbf{0.1} & \textbf{0.9} \\" in lines[7]
    assert r"d & -- & 0.3 & 2.0 \\" in lines[8]
    assert r"c & 27.00 & 0.3 & 1.0 \\" in lines[9]  # alone in its set
    assert re.search(r"\$\\uparrow\$", lines[4])


def test_latex_has_signs_of_its_own() -> None:
    row = ("espcn-light", "-0.12 [-0.20, −0.03]", "27.0*", "±0")
    table = Table("", ("—", "|GV ratio - 1| <", "PSNR", "x"), (row,), ("* is the best.",), keys=1)
    note, _, _, head, _, cells, *_ = as_latex(table).splitlines()
    assert note == "% bold is the best." and head == r"--- & $|$GV ratio - 1$|$ $<$ & PSNR & x \\"
    assert cells == r"espcn-light & $-$0.12 [$-$0.20, $-$0.03] & 27.0 & $\pm$0 \\"


def test_tables_are_alone_on_standard_output(
    originals: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    options = ("--on", originals, "--scale", "4", "--metrics", "psnr", "--format", "csv")
    for words in (("evaluate", "bicubic"), ("compare", "bicubic", "espcn_x4")):
        ran = command(*words, *options, "--json", tmp_path / words[0])
        assert ran.status == 0 and "Wrote" in ran.err
        head, *rows = csv.reader(ran.out.splitlines())
        assert "Wrote" not in ran.out and {len(row) for row in rows} == {len(head)}
        assert len(set(head)) == len(head) and (head[0] == "table") == (words[0] == "compare")
    found = list(csv.DictReader(ran.out.splitlines()))  # means, and image by image: in one CSV
    assert [row["metric"] != "" for row in found] == [True] + [False] * (len(found) - 1)
    assert [row["image"] == "" for row in found] == [True] + [False] * (len(found) - 1)
    assert len({row["table"] for row in found}) == 2 and found[1]["PSNR"][0] in "+-"


@pytest.mark.data
def test_evaluate_in_three_forms(command: Callable[..., Any], data_root: Path) -> None:
    for form, begin in (("csv", "set,scale"), ("latex", "% espcn"), ("markdown", "**espcn")):
        ran = command("evaluate", "espcn_x4", "--data", data_root, "--format", form)
        assert ran.status == 0 and ran.out.startswith(begin), ran.err


def test_profiles_tell_blur_and_overshoot() -> None:
    from edgekeeper.evaluation.network_report import REACH, edge_profiles

    step = torch.zeros(1, 1, 40, 40)
    step[..., 20:] = 0.5
    step[..., 30:, :20] = 0.25  # an edge down, falling and rising
    blurred = torch.nn.functional.avg_pool2d(step, 5, 1, 2, count_include_pad=False)
    sharpened = step + 0.5 * (step - blurred)
    total, number = edge_profiles(step, [step, blurred, sharpened])
    same, equal, blur, over = total / number
    assert number > 4 and np.array_equal(same, equal)
    rises = [np.abs(np.diff(line)).max() for line in (equal, blur, over)]
    assert rises[1] < 0.5 < rises[0] and over.max() > 1.05 and over.min() < -0.05
    assert np.all(np.diff(blur) >= -1e-9) and same[0] < 0.05 and same[-1] > 0.95
    flat = torch.full((1, 1, 40, 40), 0.5)
    assert edge_profiles(flat, [flat])[1] == 0
    assert edge_profiles(flat[..., :10], [flat[..., :10]])[1] == 0
    assert len(same) == 2 * REACH + 1
