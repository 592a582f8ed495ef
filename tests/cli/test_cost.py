"""The commands that count and measure costs, and those that put ours beside a paper's table."""

import json
import pickle
from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekeeper.cli import COMMANDS, figure
from edgekeeper.cli.figure import quoted_points, read_points
from edgekeeper.data.store import Store
from edgekeeper.errors import DataError
from edgekeeper.evaluation.tables import Table
from edgekeeper.papers import costs, frontier, printed, speedrun, training

SVG = b"<?xml"


@pytest.fixture
def edgekeeper(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run the command line as a user without EDGEKEEPER_DATA does, in this process."""
    monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
    return command


@pytest.fixture
def fails(edgekeeper: Callable[..., Any]) -> Callable[..., str]:
    """Give the one line that a user's mistake prints; exit status 2."""

    def run(*arguments: str | Path) -> str:
        found = edgekeeper(*arguments)
        assert (found.status, found.out) == (2, ""), found.err
        return found.err

    return run


def test_it_is_a_command() -> None:
    assert "cost" in COMMANDS


class TestCost:
    def test_counts_and_measures(self, edgekeeper: Callable[..., Any], tmp_path: Path) -> None:
        file = tmp_path / "cost.json"
        found = edgekeeper(
            "cost",
            "espcn_x2",
            "espcn:channels=rgb",
            "--scale",
            "4",
            "--size",
            "8x6",
            "--repeats",
            "2",
            "--json",
            file,
        )
        assert found.status == 0, found.err
        assert "LR image of 8x6 pixels" in found.out
        assert "Median of 2 passes" in found.out and "thread" in found.out
        assert "gradient map" not in found.out and "gradient" not in file.read_text()
        first, second = json.loads(file.read_text())["networks"]
        assert (first["network"], first["scale"], second["scale"]) == ("espcn_x2", 2, 4)
        assert (second["parameters"], second["macs_per_lr_pixel"]) == (37_200, 37_056)
        assert second["flops_table5"] == 2 * 48 * (37_056 + 144)
        assert second["measured"]["seconds"] > 0
        assert second["quality"] is None

    def test_one_pass_has_no_median(self, edgekeeper: Callable[..., Any]) -> None:
        found = edgekeeper("cost", "espcn_x2", "--size", "4x4", "--repeats", "1")
        assert found.status == 0, found.err
        assert "One pass, float32" in found.out and "Median" not in found.out

    def test_the_gradient_map_of_those_that_make_one(
        self, edgekeeper: Callable[..., Any], tmp_path: Path
    ) -> None:
        file = tmp_path / "cost.json"
        found = edgekeeper("cost", "spsr", "espcn_x4", "dgggan", "--no-measure", "--json", file)
        assert found.status == 0, found.err
        text = " ".join(found.out.split())
        assert "which Table 5 counts: spsr 262.187, dgggan 23.732." in text
        records = {each["network"]: each for each in json.loads(file.read_text())["networks"]}
        flops = {name: each["flops_table5"] for name, each in records.items()}
        key = "flops_table5_with_gradient_map"
        assert flops["spsr"] / 1e9 == pytest.approx(262.171, abs=5e-4)
        assert records["spsr"][key] / 1e9 == pytest.approx(262.187, abs=5e-4)
        assert records["dgggan"][key] / 1e9 == pytest.approx(23.732, abs=5e-4)
        assert key not in records["espcn_x4"]

    def test_without_networks_all_that_ship_for_the_scale(
        self, edgekeeper: Callable[..., Any], tmp_path: Path
    ) -> None:
        file = tmp_path / "cost.json"
        found = edgekeeper("cost", "--scale", "3", "--no-measure", "--json", file)
        assert found.status == 0, found.err
        records = json.loads(file.read_text())["networks"]
        assert len(records) >= 4
        assert {record["scale"] for record in records} == {3}
        assert {record["measured"] for record in records} == {None}
        assert "Median" not in found.out

    def test_mistakes_are_one_line(self, fails: Callable[..., str], tmp_path: Path) -> None:
        assert "--size is '50'" in fails("cost", "espcn", "--size", "50")
        assert "Did you mean 'espcn_x4'" in fails("cost", "espn_x4")
        assert "Did you mean 'width'" in fails("cost", "edsr:widht=8")
        assert "channels is one of rgb, y" in fails("cost", "srcnn:channels=foo")
        assert "levels is a whole number from 0 to 8" in fails("cost", "natsr:levels=40")
        assert "too large" in fails("cost", "espcn_x4", "--size", "200000x200000")
        huge = "999999999x999999999"
        assert "too large" in fails("cost", "espcn_x4", "--size", huge, "--no-measure")
        assert "--size is '999" in fails("cost", "espcn_x4", "--size", "9" * 5000 + "x1")
        assert "EDGEKEEPER_DATA" in fails("cost", "espcn_x4", "--on", "set5")
        assert "there is no folder" in fails("cost", "--json", tmp_path / "none" / "a.json")


class TestReproduce:
    def test_table5_is_counted(
        self, edgekeeper: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = [case for case in costs._CASES if case.method in ("ESRGAN", "SFTGAN")]
        monkeypatch.setattr(costs, "_CASES", few)  # all of them are counted in another test
        file = tmp_path / "t5.json"
        found = edgekeeper("reproduce", "dgggan-table5", "--json", file)
        assert (found.status, found.err) == (0, "")
        rows = json.loads(file.read_text())["rows"]
        agreeing = {row["method"] for row in rows if row["agrees"]}
        assert (len(rows), agreeing) == (3, {"ESRGAN", "SFTGAN"})
        begins = {"csv": "column,", "latex": "% dgggan-table5", "markdown": "**dgggan-table5**"}
        for form, begin in begins.items():
            found = edgekeeper("reproduce", "dgggan-table5", "--format", form)
            assert found.status == 0 and found.out.startswith(begin) and "ESRGAN" in found.out

    def test_without_data_the_papers_rows(
        self, edgekeeper: Callable[..., Any], tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        found = edgekeeper("reproduce", "dgggan-table3", "--out", out)
        assert found.status == 0, found.err
        assert "30.48" in found.out and "ours" not in found.out.split("Ours")[0].split()
        assert not out.exists()
        for table in ("dgggan-table3", "spsr-table1"):
            for form, parts in {
                "csv": ["set5,ESRGAN,paper,", ",30.4"],
                "latex": ["\\toprule", "\nset5 & NatSR & paper & \\textbf{30.99", "\\end{tabular}"],
                "markdown": [f"**{table}, protocol", "| set5 | ESRGAN | paper | 30.4"],
            }.items():
                found = edgekeeper("reproduce", table, "--out", out, "--format", form)
                assert found.status == 0 and not found.err, found.err
                for part in parts:
                    assert part in f"\n{found.out}", (table, form, part, found.out)

    def test_trained_tables_take_a_format(
        self, edgekeeper: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "set").mkdir()
        rows = (("a", "gv", "30"), ("a", "–", "29"))
        table = Table("title", ("set", "loss", ">PSNR ↑"), rows, keys=2)
        ended = make_dataclass("Ended", ["rows"], namespace={"to_json": lambda _: {}})([1])
        monkeypatch.setattr(Store, "open", lambda _: None)
        for module, run, draw in (
            (training, "reproduce", "reproduction_table"),
            (frontier, "structure_frontier", "frontier_tables"),
            (speedrun, "run_speedrun", "speedrun_table"),
        ):
            monkeypatch.setattr(module, run, lambda *_, **__: ended)
            made = [table] if draw.endswith("s") else table
            monkeypatch.setattr(module, draw, lambda _, made=made: made)
        monkeypatch.setattr(speedrun, "run_speedrun", lambda *_, **__: {})
        for name in ("gv-table1", "gv-table2", "spsr-table2", "structure-frontier", "speedrun"):
            given = ("--store", tmp_path, "--on", tmp_path / "set", "--out", tmp_path / "out")
            for form, part in {
                "csv": "set,loss,PSNR ↑\na,gv,30",
                "latex": r"a & gv & \textbf{30} \\",
                "markdown": "| a | gv | 30 |",
            }.items():
                found = edgekeeper("reproduce", name, *given, "--format", form)
                assert found.status == 0 and part in found.out, (name, form, found)

        begun: list[tuple[object, ...]] = []
        ended_by: list[str] = []

        class Process:
            def __init__(self, *, target: object, args: tuple[object, ...]) -> None:
                self.args = args

            def start(self) -> None:
                begun.append(self.args)

            def terminate(self) -> None:
                ended_by.append("terminate")

            def join(self) -> None:
                ended_by.append("join")

        context = SimpleNamespace(Process=Process)
        monkeypatch.setattr("multiprocessing.get_context", lambda _: context)
        monkeypatch.setattr("torch.get_num_threads", lambda: 8)
        threads: list[int] = []
        monkeypatch.setattr("torch.set_num_threads", threads.append)
        found = edgekeeper("reproduce", "gv-table1", *given, "--processes", "3")
        assert found.status == 0 and ended_by == ["join"] * 2 and threads == [2]
        assert [args[:2] for args in begun] == [(2, "gv-table1")] * 2
        assert pickle.loads(pickle.dumps(begun[0]))[2]["store"] == tmp_path
        monkeypatch.setattr(training, "reproduce", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            edgekeeper("reproduce", "gv-table1", *given, "--processes", "2")
        assert ended_by[2:] == ["terminate", "join"]

    def test_mistakes_are_one_line(self, fails: Callable[..., str], tmp_path: Path) -> None:
        assert "give a packed store" in fails("reproduce", "gv-table1")
        assert "--ours is not for it" in fails(
            "reproduce", "gv-table1", "--store", tmp_path, "--ours", "a=b"
        )
        assert "--budget is not for it" in fails("reproduce", "spsr-table1", "--budget", "quick")
        speedrun = ("reproduce", "speedrun", "--processes", "2", "--store", tmp_path)
        assert "--processes is not for it" in fails(*speedrun)
        assert "--ours is not for it" in fails(
            "reproduce", "spsr-table2", "--store", tmp_path, "--ours", "a=b"
        )
        assert "--seeds is not for it" in fails("reproduce", "spsr-table2", "--seeds", "1,2")
        foreign = (("--on", "set5"), ("--data", tmp_path / "none"), ("--out", tmp_path))
        for option, value in (*foreign, ("--device", "cpu")):
            assert f"{option} is not for it" in fails("reproduce", "dgggan-table5", option, value)
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
    def test_ours_beside_the_paper(
        self, edgekeeper: Callable[..., Any], data_root: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "table.json"
        found = edgekeeper(
            "reproduce",
            "dgggan-table3",
            "--ours",
            "RCAN=" + str(data_root / "results/RCAN"),
            "--on",
            "set5",
            "--data",
            data_root,
            "--out",
            tmp_path / "out",
            "--json",
            file,
        )
        assert found.status == 0, found.err
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
        "network": "a",
        "scale": scale,
        "macs_per_lr_pixel": 1e6,
        "measured": measured,
        "quality": quality,
    }
    other = {**record, "network": "b", "macs_per_lr_pixel": 2e6}
    return [record, {**other, **changes}]


class TestQualityCost:
    @pytest.fixture
    def draw(self, edgekeeper: Callable[..., Any]) -> Callable[..., str]:
        def run(path: Path, networks: list[dict[str, object]], *more: str) -> str:
            file = path.with_suffix(".json")
            file.write_text(json.dumps({"networks": networks}))
            found = edgekeeper("figure", "quality-cost", file, "-o", path, *more)
            return found.out + found.err

        return run

    def test_quoted_points_are_marked(
        self, draw: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for method in set(printed.PRINTED_NETWORKS) - {
            "SPSR",
            "SFTGAN",
            "RCAN",
        }:  # counts take long
            monkeypatch.delitem(printed.PRINTED_NETWORKS, method)
        quoted = quoted_points("set5")
        monkeypatch.setattr(figure, "quoted_points", lambda _: quoted)
        path = tmp_path / "a.svg"
        assert draw(path, records()).strip() == f"Wrote {path}"  # and no warning
        assert path.read_bytes().startswith(SVG)
        assert "SPSR" in path.read_text()
        points = {point.label: point for point in quoted}
        assert len(points) == 3
        assert {point.origin for point in points.values()} == {"quoted"}
        assert {point.seconds for point in points.values()} == {None}
        assert (points["SPSR"].macs, points["SPSR"].psnr) == (52_396_416, 30.4)
        assert (points["SFTGAN"].psnr, points["SFTGAN"].lpips) == (29.932, 0.0890)
        assert (points["RCAN"].psnr, points["RCAN"].lpips) == (32.63, None)

    def test_no_points_are_quoted_at_another_scale_or_by_wish(
        self, draw: Callable[..., str], tmp_path: Path
    ) -> None:
        for number, (scale, more) in enumerate(((2, ()), (4, ("--not-quoted",)))):
            path = tmp_path / f"{number}.svg"
            assert "Wrote" in draw(path, records(scale=scale), *more)
            assert "SPSR" not in path.read_text()

    def test_times_relative_to_one_network_s_are_drawn_with_one_another(
        self, edgekeeper: Callable[..., Any], fails: Callable[..., str], tmp_path: Path
    ) -> None:
        points = [{"network": "ours", "time": 1.0, "psnr": 30.0}]
        points += [{"network": "theirs", "by": "others", "time": 0.5, "psnr": 30.5}]
        for number, point in enumerate(points):
            content = {"scale": 4, "set": "set5", "points": [point], "note": f"seen {number}"}
            (tmp_path / f"{number}.json").write_text(json.dumps(content))
        files = [tmp_path / "0.json", tmp_path / "1.json", "--not-quoted"]
        path = tmp_path / "a.svg"
        edgekeeper("figure", "quality-cost", *files, "-o", path)
        text = path.read_text()
        for part in (
            "seen 0; seen 1",
            "ours",
            "theirs",
            "others' networks",
            "edsr_light_x4's counts 6.2",
        ):
            assert part in text, part
        assert "MACs" not in text
        assert "quoted" not in text  # the legend has what is there
        (tmp_path / "1.json").write_text('{"scale": 4, "set": "set5", "points": [{"time": 0}]}')
        bad = fails("figure", "quality-cost", *files, "-o", tmp_path / "b.svg")
        assert "is not a file of" in bad

    def test_unlike_numbers_are_refused(self, draw: Callable[..., str], tmp_path: Path) -> None:
        other_set = {"set": "set14", "psnr": 30.0, "lpips": 0.2}
        text = draw(tmp_path / "a.svg", records(quality=other_set), "--not-quoted")
        assert "must be scored on one set" in text and "set14" in text
        assert not (tmp_path / "a.svg").exists()
        mixed = [*records(scale=2)[:1], *records(scale=3)[:1]]
        assert "at one scale" in draw(tmp_path / "a.svg", mixed)
        unscored = {**records(scale=3)[0], "quality": None}
        assert "Wrote" in draw(tmp_path / "c.svg", [unscored, *records(scale=2)])
        slower = {"seconds": 0.5, "size": [50, 50], "device": "cpu", "threads": 2}
        assert "threads" in draw(tmp_path / "b.svg", records(measured=slower), "--not-quoted")

    def test_nothing_to_draw(
        self, draw: Callable[..., str], fails: Callable[..., str], tmp_path: Path
    ) -> None:
        alone = [{**record, "quality": None} for record in records()]
        assert "not scored" in draw(tmp_path / "a.svg", alone)
        (tmp_path / "bad.json").write_text("[]")
        assert "not a file of `edgekeeper cost" in fails(
            "figure", "quality-cost", tmp_path / "bad.json", "-o", tmp_path / "b.svg"
        )

    def test_a_damaged_file_is_a_sentence(self, tmp_path: Path) -> None:
        measured = {"seconds": 1.0, "size": [5, 5], "device": "cpu", "threads": 1}
        quality = {"set": "set5", "psnr": 30.0, "lpips": None}
        cases: tuple[tuple[dict[str, object], str], ...] = (
            ({"quality": {"psnr": 30.0, "lpips": 0.2}}, "'set'"),
            ({"quality": "good"}, "string indices must be integers"),
            ({"quality": {**quality, "psnr": float("nan")}}, "nan is no number above 0"),
            ({"measured": {**measured, "size": [5]}}, "not enough values"),
            ({"measured": {**measured, "size": None}}, "cannot unpack"),
            ({"measured": {**measured, "seconds": 0}}, "0 is no number above 0"),
            ({"measured": {"seconds": 1.0, "size": [5, 5]}}, "'device'"),
            ({"macs_per_lr_pixel": "no"}, "must be real number"),
            ({"scale": "four"}, "invalid literal for int()"),
        )
        file = tmp_path / "a.json"
        for changes, message in cases:
            file.write_text(json.dumps({"networks": records(**changes)}))  # type: ignore[arg-type]
            with pytest.raises(DataError) as told:
                read_points(file)
            assert message in str(told.value) and "Write it anew" in str(told.value)

    def test_a_file_of_less_is_a_sentence(self, tmp_path: Path) -> None:
        file = tmp_path / "a.json"
        complete = records()[0]
        for key in ("measured", "quality", "network"):
            some = {name: value for name, value in complete.items() if name != key}
            for content in ([some], [key], some):
                file.write_text(json.dumps({"networks": content}))
                with pytest.raises(DataError, match="is not a file of `edgekeeper cost"):
                    read_points(file)
        file.write_text(json.dumps({"networks": [{**complete, "measured": None, "quality": None}]}))
        assert read_points(file) == []  # not scored
