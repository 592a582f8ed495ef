"""The commands that count and measure costs, and those that put ours beside a paper's table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekeeper.cli import COMMANDS

SVG = b"<?xml"


def edgekeeper(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own."""
    command = [sys.executable, "-c", "from edgekeeper.cli import main; main()"]
    environment = {key: value for key, value in os.environ.items() if key != "EDGEKEEPER_DATA"}
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, env={**environment, **variables},
    )  # fmt: skip


def fails(*arguments: str | Path) -> str:
    """The one line that a user's mistake prints; exit status 2, no traceback."""
    found = edgekeeper(*arguments)
    assert found.returncode == 2, found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    return found.stderr


def test_it_is_a_command() -> None:
    assert "cost" in COMMANDS


class TestCost:
    def test_counts_and_measures(self, tmp_path: Path) -> None:
        file = tmp_path / "cost.json"
        found = edgekeeper(
            "cost", "espcn_x2", "espcn:channels=rgb", "--scale", "4", "--size", "8x6",
            "--repeats", "2", "--json", file,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        assert "LR picture of 8x6 pixels" in found.stdout
        assert "Median of 2 passes" in found.stdout and "thread" in found.stdout
        first, second = json.loads(file.read_text())["networks"]
        assert (first["network"], first["scale"], second["scale"]) == ("espcn_x2", 2, 4)
        assert (second["parameters"], second["macs_per_lr_pixel"]) == (37_200, 37_056)
        assert second["flops_table5"] == 2 * 48 * (37_056 + 144)
        assert second["measured"]["seconds"] > 0
        assert second["quality"] is None

    def test_without_networks_all_that_ship_for_the_scale(self, tmp_path: Path) -> None:
        file = tmp_path / "cost.json"
        found = edgekeeper("cost", "--scale", "3", "--no-measure", "--json", file)
        assert found.returncode == 0, found.stderr
        records = json.loads(file.read_text())["networks"]
        assert len(records) >= 4
        assert {record["scale"] for record in records} == {3}
        assert {record["measured"] for record in records} == {None}
        assert "Median" not in found.stdout

    def test_mistakes_are_one_line(self, tmp_path: Path) -> None:
        assert "--size is '50'" in fails("cost", "espcn", "--size", "50")
        assert "Did you mean 'espcn_x4'" in fails("cost", "espn_x4")
        assert "Did you mean 'width'" in fails("cost", "edsr:widht=8")
        assert "EDGEKEEPER_DATA" in fails("cost", "espcn_x4", "--on", "set5")
        assert "folder that exists" in fails("cost", "--json", tmp_path / "none" / "a.json")


class TestReproduce:
    def test_table5_is_counted(self, tmp_path: Path) -> None:
        file = tmp_path / "t5.json"
        found = edgekeeper("reproduce", "dgggan-table5", "--json", file)
        assert found.returncode == 0, found.stderr
        rows = json.loads(file.read_text())["rows"]
        agreeing = {row["method"] for row in rows if row["agrees"]}
        assert agreeing >= {"ESRGAN", "SPSR", "SRGAN", "DGGGAN", "NatSR", "SFTGAN"}

    def test_without_data_the_papers_rows(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        found = edgekeeper("reproduce", "dgggan-table3", "--out", out)
        assert found.returncode == 0, found.stderr
        assert "30.48" in found.stdout and "ours" not in found.stdout.split("Ours")[0].split()
        assert not out.exists()

    def test_mistakes_are_one_line(self, tmp_path: Path) -> None:
        assert "give a packed store" in fails("reproduce", "gv-table1")
        assert "--ours is not for it" in fails(
            "reproduce", "gv-table1", "--store", tmp_path, "--ours", "a=b"
        )
        assert "--budget is not for it" in fails("reproduce", "spsr-table1", "--budget", "quick")
        assert "--on is not for it" in fails("reproduce", "dgggan-table5", "--on", "set5")
        assert "NAME=SUBJECT" in fails(
            "reproduce", "spsr-table1", "--ours", "espcn_x4", "--data", tmp_path
        )
        assert "always measured" in fails(
            "reproduce", "spsr-table1", "--ours", "a=bicubic", "--data", tmp_path
        )
        assert "Did you mean 'espcn_x4'" in fails(
            "reproduce", "spsr-table1", "--ours", "a=espn_x4", "--data", tmp_path
        )

    @pytest.mark.data
    def test_ours_beside_the_paper(self, data_root: Path, tmp_path: Path) -> None:
        file = tmp_path / "table.json"
        found = edgekeeper(
            "reproduce", "dgggan-table3", "--ours", "RCAN=" + str(data_root / "results/RCAN"),
            "--on", "set5", "--data", data_root, "--out", tmp_path / "out", "--json", file,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        (part,) = (
            part for part in json.loads(file.read_text())["sections"] if part["name"] == "y_matlab"
        )
        values = {(x["method"], x["origin"]): x["values"] for x in part["lines"]}
        # Y rounded to uint8 costs 0.02 dB: the paper's 32.63 is of float Y.
        assert values["RCAN", "ours"]["psnr"]["mean"] == pytest.approx(32.61, abs=0.005)
        assert values["RCAN", "paper"]["psnr"]["mean"] == 32.63


def records(*, scale: int = 4, **changes: object) -> list[dict[str, object]]:
    """Two scored networks as `edgekeeper cost --json` writes them."""
    measured = {"seconds": 0.5, "size": [50, 50], "device": "cpu", "threads": 1}
    quality = {"set": "set5", "psnr": 30.0, "lpips": 0.2}
    record = {
        "network": "a", "scale": scale, "macs_per_lr_pixel": 1e6,
        "measured": measured, "quality": quality,
    }  # fmt: skip
    other = {**record, "network": "b", "macs_per_lr_pixel": 2e6}
    return [record, {**other, **changes}]


class TestQualityCost:
    def draw(self, path: Path, networks: list[dict[str, object]], *more: str) -> str:
        file = path.with_suffix(".json")
        file.write_text(json.dumps({"networks": networks}))
        found = edgekeeper("figure", "quality-cost", file, "-o", path, *more)
        assert "Traceback" not in found.stderr
        return found.stdout + found.stderr

    def test_quoted_points_are_marked(self, tmp_path: Path) -> None:
        path = tmp_path / "a.svg"
        assert "Wrote" in self.draw(path, records())
        assert path.read_bytes().startswith(SVG)
        text = path.read_text()
        assert "quoted: quality from the papers" in text and "SPSR" in text

    def test_no_points_are_quoted_at_another_scale_or_by_wish(self, tmp_path: Path) -> None:
        for number, (scale, more) in enumerate(((2, ()), (4, ("--not-quoted",)))):
            path = tmp_path / f"{number}.svg"
            assert "Wrote" in self.draw(path, records(scale=scale), *more)
            assert "SPSR" not in path.read_text()

    def test_unlike_numbers_are_refused(self, tmp_path: Path) -> None:
        other_set = {"set": "set14", "psnr": 30.0, "lpips": 0.2}
        text = self.draw(tmp_path / "a.svg", records(quality=other_set))
        assert "must be scored on one set" in text
        assert not (tmp_path / "a.svg").exists()
        slower = {"seconds": 0.5, "size": [50, 50], "device": "cpu", "threads": 2}
        assert "threads" in self.draw(tmp_path / "b.svg", records(measured=slower))

    def test_nothing_to_draw(self, tmp_path: Path) -> None:
        alone = [{**record, "quality": None} for record in records()]
        assert "not scored" in self.draw(tmp_path / "a.svg", alone)
        (tmp_path / "bad.json").write_text("[]")
        assert "not a file of `edgekeeper cost" in fails(
            "figure", "quality-cost", tmp_path / "bad.json", "-o", tmp_path / "b.svg"
        )
