"""Photographs turned and recoloured: the same from the same seed, no rim, licences carried."""

import csv

import numpy as np
import pytest
import pyvips

from edgekeeper.data.prepare import sources_in
from edgekeeper.data.turned import turned_photograph


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("a", "b")):
        pixels = np.full((700, 900, 3), 60 + 90 * number, np.uint8)
        pyvips.Image.new_from_array(pixels).write_to_file(str(folder / f"{name}.png"))
    (folder / "ORIGIN.csv").write_text("file,licence\na.png,MIT\n")
    return folder


def test_a_photograph_is_turned_the_same_way_twice_and_differently_next_time(photos):
    first, again, other = (turned_photograph(photos / "a.png", seed=1, number=n) for n in (0, 0, 1))
    assert first.equal(again) and first.shape != other.shape
    assert turned_photograph(photos / "b.png", seed=1, number=0).shape != first.shape


def test_nothing_of_the_ground_beside_a_turned_photograph_is_seen(photos):
    for number in range(30):  # one colour: it stays one colour, to a level of the resampling
        image = turned_photograph(photos / "a.png", seed=2, number=number)
        spread = image.amax(dim=(-2, -1)) - image.amin(dim=(-2, -1))
        assert spread.max() * 255 < 2.5, number
        assert min(image.shape[-2:]) > 100 and max(image.shape[-2:]) <= 860


def test_grey_and_16_bits_are_turned_too(photos):
    deep = np.full((200, 300), 30_000, np.uint16)
    pyvips.Image.new_from_array(deep).write_to_file(str(photos / "deep.png"))
    image = turned_photograph(photos / "deep.png", seed=0, number=0)
    assert image.shape[1] == 3 and (image[:, 0] - image[:, 2]).abs().max() == 0


def test_the_command_carries_the_licences_that_are_known(photos, tmp_path, command):
    out = tmp_path / "turned"
    ran = command("data", "generate", "-o", out, "--photos", photos, "--count", "3", "--seed", "5")
    assert ran.status == 0, ran.out
    assert sorted(path.name for path in out.glob("*.png")) == [
        "a_turned_5_0000.png",
        "a_turned_5_0001.png",
        "b_turned_5_0000.png",
    ]
    rows = list(csv.DictReader((out / "ORIGIN.csv").read_text().splitlines()))
    assert {row["licence"] for row in rows} == {"MIT"} and len(rows) == 2
    assert [s.licence for s in sources_in(out, licence="CC0-1.0")] == ["MIT", "MIT", "CC0-1.0"]
    both = ("--drawings", photos)
    ran = command("data", "generate", "-o", out, "--photos", photos, *both)
    assert ran.status == 2 and "one of --drawings, --photos and --flat" in ran.err


def test_flat_colours_are_flat_in_each_quarter(tmp_path, command):
    assert command("data", "generate", "-o", tmp_path, "--flat", "--count", "2").status == 0
    first, second = (
        pyvips.Image.new_from_file(str(path)).numpy() for path in sorted(tmp_path.glob("flat_*"))
    )
    assert first.shape == (512, 512, 3) and (first != second).any()
    for y, x in ((0, 0), (0, 256), (256, 0), (256, 256)):
        assert np.ptp(first[y : y + 256, x : x + 256], axis=(0, 1)).max() == 0
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 1
