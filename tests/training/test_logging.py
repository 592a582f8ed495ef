import json
import struct
import sys
import types
from pathlib import Path
from typing import Any, cast

import pytest

from edgekeeper.cli.scoring import counted_scores
from edgekeeper.errors import UnavailableError
from edgekeeper.recipes import RECIPES
from edgekeeper.training.logging import JsonLines, WandbCurves, tensorboard_writer
from edgekeeper.training.progress import ProgressLine


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_records_are_one_json_object_a_line_and_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = JsonLines(path, keep_until=0)
    log.write({"step": 1, "loss": 0.1})
    assert records(path) == [{"step": 1, "loss": 0.1}]
    log.write({"step": 2, "loss": 1 / 3})
    assert records(path)[1]["loss"] == 1 / 3
    assert path.read_text(encoding="utf-8").endswith("}\n")


def test_reopening_keeps_lines_up_to_the_step_and_drops_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = JsonLines(path, keep_until=0)
    for step in (10, 20, 20, 30, 40):
        log.write({"step": step})
    again = JsonLines(path, keep_until=20)
    assert [record["step"] for record in records(path)] == [10, 20, 20]
    again.write({"step": 25})
    assert [record["step"] for record in records(path)] == [10, 20, 20, 25]


def test_a_new_run_begins_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    JsonLines(path, keep_until=0).write({"step": 5})
    JsonLines(path, keep_until=0)
    assert path.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    "damage",
    [
        '{"step": 2, "lo',
        '{"step": 2',
        "{",
        "\0\0\0",
        "[1, 2]",
        "3",
        '{"loss": 1}',
        '{"step": "x"}',
        '{"step": null}',
    ],
)
def test_a_line_cut_off_or_damaged_is_dropped(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n' + damage, encoding="utf-8")
    log = JsonLines(path, keep_until=100)
    log.write({"step": 3})
    assert [record["step"] for record in records(path)] == [1, 3]


def test_bytes_that_are_no_text_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe{"step": 2}\n')
    JsonLines(path, keep_until=100)
    assert [record["step"] for record in records(path)] == [1]


def test_a_whole_line_without_its_end_is_kept_and_not_run_into(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}', encoding="utf-8")
    JsonLines(path, keep_until=100).write({"step": 3})
    assert [record["step"] for record in records(path)] == [1, 2, 3]


def test_reopening_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    JsonLines(path, keep_until=0).write({"step": 1})
    JsonLines(path, keep_until=1)
    assert [found.name for found in tmp_path.iterdir()] == ["log.jsonl"]


def test_the_progress_line_is_silent_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressLine("a run", total=3, start=1) as line:
        line.update(2, text="loss 0.1")
        line.update(3)
    assert capfd.readouterr() == ("", "")


def test_a_total_that_is_not_known_is_no_zero(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with counted_scores("scoring") as count:
        count(cast(Any, types.SimpleNamespace(model="x", set="set5", image="a")))
    assert "1/?" in capfd.readouterr().err


def test_a_line_at_times_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    for every, lines in ((0.0, ["scoring: 1 images, x set5 a", "scoring: 2 images"]), (60.0, [])):
        with ProgressLine("scoring", total=None, unit="images", piped_every=every) as line:
            line.update(1, text="x set5 a")
            line.update(2)
        out, err = capfd.readouterr()
        assert (out, err.splitlines()) == ("", lines)


def test_tensorboard_curves_can_be_read_back(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    writer = tensorboard_writer(tmp_path)
    writer.add_scalar("train/pixel", 0.25, 3)
    writer.close()
    (path,) = tmp_path.iterdir()
    data, at, events = path.read_bytes(), 0, []
    while at < len(data):  # length, its checksum, an event, its checksum
        (length,) = struct.unpack_from("<Q", data, at)
        events.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += length + 16
    assert [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value] == [
        (3, "train/pixel", 0.25)
    ]


def test_wandb_is_given_the_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    class Run:
        def log(self, values: dict[str, float], *, step: int) -> None:
            told.append((values, step))

        def finish(self) -> None:
            told.append("finished")

    def init(**arguments: object) -> Run:
        told.append((arguments["project"], arguments["name"]))
        assert isinstance(arguments["config"], dict) and arguments["config"]["name"] == "espcn_x2"
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    curves = WandbCurves("edges", recipe=RECIPES["espcn_x2"])
    curves.add_scalar("train/total", 0.5, global_step=7)
    curves.close()
    assert told == [("edges", "espcn_x2"), ({"train/total": 0.5}, 7), "finished"]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UnavailableError, match=r"edgekeeper\[wandb\]"):
        WandbCurves("edges", recipe=RECIPES["espcn_x2"])
