"""Tests of reproducing a table: tiny runs of the real cells on synthetic images."""

import dataclasses
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgekeeper.papers.cells
import edgekeeper.papers.scored
from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store
from edgekeeper.errors import CheckpointError, DataError, InputError
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.files import locked
from edgekeeper.metrics.score import mean_scores, read_scores
from edgekeeper.papers.cells import Event
from edgekeeper.papers.training import ReproducedTable, reproduce
from edgekeeper.pretrained.checkpoint import load_model
from edgekeeper.recipes import gv_tables
from edgekeeper.training.loop import train

PLAIN, GV = "gv_table1_espcn_x2_quick", "gv_table1_espcn_x2_gv_quick"


def write_images(folder: Path, *, seed: int, count: int = 3) -> Path:
    """A folder of small images: waves and noise in colour."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(seed)
    for k in range(count):
        y, x = np.mgrid[0:36, 0:48, 0:1][:2]
        waves = 128 + 80 * np.sin(x / (3 + k) + y / 5 + np.arange(3))
        noisy = (waves + numbers.normal(0, 15, waves.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    sources = sources_in(write_images(folder / "images", seed=0), licence="CC0-1.0")
    return prepare_store(sources, folder / "s", scales=(2,), lr_kernel="pillow_bilinear")


@pytest.fixture(scope="module")
def wave_set(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_images(tmp_path_factory.mktemp("sets") / "waves", seed=1))


@pytest.fixture
def run(
    store: Store, wave_set: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ReproducedTable]:
    """``reproduce`` of the ESPCN ×2 cells, four updates each."""
    key = ("espcn", "quick")
    tiny = dataclasses.replace(gv_tables.SCHEDULES["espcn", "quick"], steps=4, batch=2, patch=8)
    monkeypatch.setitem(gv_tables.SCHEDULES, key, tiny)  # type: ignore[arg-type]

    def call(**changes: Any) -> ReproducedTable:
        arguments: dict[str, Any] = {
            "store": store,
            "data_root": tmp_path,
            "out": tmp_path / "out",
            "budget": "quick",
            "networks": ("espcn",),
            "scales": (2,),
            "sets": (wave_set,),
        }
        return reproduce("gv_table1", **{**arguments, **changes})

    return call


def refuse_to_train(*arguments: object, **options: object) -> None:
    raise AssertionError("a finished cell was trained again")


class TestCompleteRun:
    def test_rows_are_the_means_of_the_two_networks(
        self, run: Callable[..., ReproducedTable], wave_set: str, tmp_path: Path
    ) -> None:
        table = run()
        assert table.status == "complete" and table.unfinished == ()
        assert [row.measure for row in table.rows] == ["psnr", "ssim", "gv_gap"]
        means = {}
        for cell in (PLAIN, GV):
            network = load_model(tmp_path / "out" / cell / "model.safetensors")
            scores = evaluate(
                network, sets=[wave_set], scale=2, data_root=tmp_path, protocol="gv_repo"
            )
            means[cell] = mean_scores(scores)
        for row in table.rows:
            assert row.without == pytest.approx(means[PLAIN][row.measure])
            assert row.added == pytest.approx(means[GV][row.measure])
            assert row.difference.mean == pytest.approx(row.added - row.without)
            assert row.difference.low <= row.difference.mean <= row.difference.high
            assert (row.images, row.seeds, row.set) == (3, 1, "waves")
            assert row.paper_without is None and row.paper_difference is None

    def test_json_holds_everything(self, run: Callable[..., ReproducedTable]) -> None:
        table = run()
        stored = json.loads(json.dumps(table.to_json()))
        assert stored["protocol"]["name"] == "gv_repo"
        assert stored["store"] == table.store
        assert stored["rows"][0]["without"] == table.rows[0].without

    def test_equal_networks_are_not_distinguishable(
        self, run: Callable[..., ReproducedTable], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gv_tables, "GV_WEIGHT", 0.0)
        for row in run().rows:
            assert row.difference.mean == 0
            assert row.difference.verdict == "not distinguishable"

    def test_a_smaller_gap_is_better(
        self, run: Callable[..., ReproducedTable], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gv_tables, "GV_WEIGHT", 100.0)  # pushes four updates hard
        for row in run().rows:
            difference = row.difference
            good = difference.mean < 0 if row.measure == "gv_gap" else difference.mean > 0
            if difference.verdict != "not distinguishable":
                assert (difference.verdict == "better") == good

    def test_several_seeds_are_several_runs(self, run: Callable[..., ReproducedTable]) -> None:
        one, two = run(seeds=(0,)), run(seeds=(0, 5))
        assert two.rows[0].seeds == 2
        assert two.rows[0].without != one.rows[0].without
        assert not any("One seed" in note for note in two.notes)

    def test_the_papers_numbers_stand_beside(
        self, run: Callable[..., ReproducedTable], wave_set: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        printed = gv_tables.Printed((30.0, 31.0), (0.9, 0.8), "odd")
        monkeypatch.setitem(
            gv_tables.TABLE1,
            (wave_set.lower(), "espcn", 2),  # type: ignore[arg-type]
            printed,
        )
        psnr, ssim, gap = run().rows
        assert (psnr.paper_without, psnr.paper_added, psnr.paper_difference) == (30, 31, 1)
        assert ssim.paper_difference == pytest.approx(-0.1)
        assert psnr.note == "odd"
        assert gap.paper_without is None and gap.note == ""


class TestGoingOn:
    def test_a_second_call_trains_and_scores_nothing(
        self, run: Callable[..., ReproducedTable], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = run()
        monkeypatch.setattr(edgekeeper.papers.cells, "train", refuse_to_train)
        monkeypatch.setattr(edgekeeper.papers.scored, "results", refuse_to_train)
        events: list[Event] = []
        assert run(on_event=events.append) == first
        expected = [(c, w) for c in (PLAIN, GV) for w in ("already trained", "already scored")]
        assert [(event.cell, event.what) for event in events] == expected

    def test_a_cell_that_another_process_trains_comes_last(
        self, run: Callable[..., ReproducedTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(edgekeeper.papers.cells, "POLL", 0.01)
        told: list[tuple[str, str]] = []
        (tmp_path / "out" / PLAIN).mkdir(parents=True)
        other = ExitStack()
        other.enter_context(locked(tmp_path / "out" / PLAIN, wait=False))

        def tell(event: Event) -> None:
            told.append((event.cell, event.what))
            if event == Event(GV, "scoring", 2, 2):
                other.close()

        assert run(on_event=tell).status == "complete"
        assert told == [
            (PLAIN, "training"),
            (PLAIN, "by another process"),
            (GV, "training"),
            (GV, "scoring"),
            (PLAIN, "scoring"),
        ]

    def test_no_time_left_leaves_all_cells(
        self, run: Callable[..., ReproducedTable], tmp_path: Path
    ) -> None:
        table = run(time_limit=1e-9)
        assert not (tmp_path / "out").exists()
        assert (table.status, table.rows) == ("time limit", ())
        assert table.unfinished == (PLAIN, GV)

    def test_stopped_within_a_cell_ends_like_a_straight_run(
        self, run: Callable[..., ReproducedTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        straight = run(out=tmp_path / "straight")

        def stop_early(recipe: Any, store: Any, *, options: Any) -> Any:
            options = dataclasses.replace(options, time_limit=1e-9)
            return train(recipe, store, options=options)

        with monkeypatch.context() as patch:
            patch.setattr(edgekeeper.papers.cells, "train", stop_early)
            stopped = run()
        assert (stopped.status, stopped.rows) == ("time limit", ())
        assert (tmp_path / "out" / PLAIN / "last.safetensors").is_file()
        assert not (tmp_path / "out" / GV).exists()
        assert run() == straight

    def test_a_set_added_later_is_scored_alone(
        self,
        run: Callable[..., ReproducedTable],
        wave_set: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run()
        monkeypatch.setattr(edgekeeper.papers.cells, "train", refuse_to_train)
        more = str(write_images(tmp_path / "more", seed=2, count=2))
        events: list[Event] = []
        table = run(sets=(wave_set, more), on_event=events.append)
        assert [(row.set, row.images) for row in table.rows[::3]] == [("waves", 3), ("more", 2)]
        assert [event.what for event in events] == [
            "already trained",
            "already scored",
            "scoring",
        ] * 2

    def test_scores_of_a_changed_protocol_are_made_anew(
        self, run: Callable[..., ReproducedTable], tmp_path: Path
    ) -> None:
        table = run()
        path = tmp_path / "out" / PLAIN / "scores-gv_repo-waves.jsonl"
        path.write_text(path.read_text().replace('"ssim_border": 2', '"ssim_border": 3'))
        events: list[Event] = []
        assert run(on_event=events.append) == table
        assert events[1].what == "scoring"
        assert read_scores(path)[0].protocol.ssim_border == 2

    def test_scores_go_with_the_network_they_belong_to(
        self, run: Callable[..., ReproducedTable], tmp_path: Path
    ) -> None:
        run()
        folder = tmp_path / "out" / PLAIN
        for name in ("model.safetensors", "last.safetensors"):
            (folder / name).unlink()
        events: list[Event] = []
        run(on_event=events.append)
        assert [event.what for event in events[:2]] == ["training", "scoring"]


class TestWrongRequests:
    def test_a_store_made_by_another_kernel(self, run: Callable[..., ReproducedTable]) -> None:
        with pytest.raises(DataError, match="were made by 'pillow_bilinear'"):
            run(protocol="y_matlab")

    def test_a_cell_of_another_store(
        self, run: Callable[..., ReproducedTable], tmp_path: Path
    ) -> None:
        run()
        sources = sources_in(write_images(tmp_path / "others", seed=9))
        other = prepare_store(sources, tmp_path / "s", scales=(2,), lr_kernel="pillow_bilinear")
        with pytest.raises(CheckpointError, match="on another store"):
            run(store=other)

    def test_a_cell_of_other_settings(
        self, run: Callable[..., ReproducedTable], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run()
        monkeypatch.setattr(gv_tables, "GV_WEIGHT", 0.02)
        with pytest.raises(CheckpointError, match="other settings"):
            run()

    def test_a_missing_set_shows_before_training(
        self, run: Callable[..., ReproducedTable], tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match="Set14"):
            run(sets=("set14",))
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"budget": "long"}, "no budget 'long'"),
            ({"seeds": (1, 1)}, "different whole numbers"),
            ({"seeds": ()}, "one or more"),
            ({"sets": ()}, "one or more sets"),
            ({"networks": ("srgan",)}, "no network in this table 'srgan'"),
            ({"scales": (8,)}, "no scale in this table '8'"),
        ],
    )
    def test_what_does_not_exist(
        self, run: Callable[..., ReproducedTable], changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            run(**changes)

    def test_an_unknown_table(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no table 'gv_table'"):
            reproduce("gv_table", store=store, data_root=tmp_path, out=tmp_path)  # type: ignore[arg-type]


class TestTable2:
    def test_six_comparisons_share_nine_cells(
        self, store: Store, wave_set: str, tmp_path: Path
    ) -> None:
        table = reproduce(
            "gv_table2",
            store=store,
            data_root=tmp_path,
            out=tmp_path,
            sets=(wave_set,),
            time_limit=1e-9,
        )
        assert len(table.unfinished) == 9
        assert any("L2+GV +0.69" in note for note in table.notes)


@pytest.mark.data
def test_set5_has_the_papers_numbers(run: Callable[..., ReproducedTable], data_root: Path) -> None:
    psnr = run(data_root=data_root, sets=("set5",)).rows[0]
    # Table 1, ESPCN ×2 on Set5
    assert (psnr.paper_without, psnr.paper_added) == (30.42, 30.55)
    assert psnr.images == 5
