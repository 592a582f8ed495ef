"""Structure against fidelity in a tiny form: cell by cell, beside the sharpened line."""

import json
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.files import locked
from edgekeeper.metrics import perceptual
from edgekeeper.papers import cells, frontier
from edgekeeper.papers.cells import Event
from edgekeeper.papers.frontier import _advantage, _area, frontier_tables, structure_frontier


def smooth(path: Path, *, side: int, seed: int) -> None:
    small = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(path)


def test_cells_are_trained_once_and_stand_beside_the_sharpened_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        for seed in range(2):
            smooth(tmp_path / name / f"{seed}.png", side=96, seed=seed)
    store = prepare_store(sources_in(tmp_path / "train"), tmp_path / "store", scales=(4,))
    terms = {name: frontier.STRUCTURE_TERMS[name] for name in ("gv", "aesop")}
    monkeypatch.setattr(frontier, "STRUCTURE_TERMS", terms)
    monkeypatch.setattr(frontier, "STRENGTHS", (0.0, 0.002))
    monkeypatch.setattr(frontier, "FACTORS_OF_WEIGHT", (0.3, 1.0, 3.0))
    monkeypatch.setattr(cells, "POLL", 0.01)
    told: list[tuple[str, str]] = []
    other = ExitStack()  # another process, which holds a cell for a while

    def tell(event: Event) -> None:
        told.append((event.cell, event.what))
        if event.number == 7:
            other.close()

    weights = tmp_path / "weights"  # none, to begin with

    def run(limit: float | None = None) -> frontier.Frontier:
        told.clear()
        return structure_frontier(
            store=store,
            data_root=tmp_path,
            out=tmp_path / "out",
            networks=["espcn"],
            sets=[str(tmp_path / "test")],
            seeds=[0],
            weights=weights,
            steps=2,
            time_limit=limit,
            on_event=tell,
        )

    first = run(1e-9)
    assert not first.points and len(first.unfinished) == 7  # plain, two terms at three weights
    held = tmp_path / "out" / "espcn_gv_0.03_seed0"
    held.mkdir(parents=True)
    other.enter_context(locked(held, wait=False))
    done = run()
    assert told[1:3] == [(held.name, "training"), (held.name, "by another process")]
    assert not done.unfinished and (held / "model.safetensors").is_file()
    assert [(p.term, p.weight) for p in done.points] == [
        *[("sharpened", 0.0), ("sharpened", 0.002)],
        *[("gv", pytest.approx(w)) for w in (0.03, 0.1, 0.3)],
        *[("aesop", pytest.approx(w)) for w in (0.3, 1.0, 3.0)],
    ]
    again = run()
    assert again == done and {what for _, what in told} == {"already trained"}
    points, further, areas = frontier_tables(done)
    assert len(points.cells) == len(further.cells) == len(done.points) == 8
    assert [row[:2] for row in areas.cells] == [("espcn", "gv"), ("espcn", "aesop")]
    for point, row in zip(done.points, further.cells, strict=True):
        assert point.lpips is None and row[4] == "–"
        assert point.gap_edges and point.gap_texture and point.gap_flat is None  # nothing is flat
    # What was scored before these measures, or before the weights were there, is scored anew.
    (scores := held / "scores-frontier-test-0.jsonl").write_text("[30, 0.9, 0.5, 0.4, 0]\n" * 2)
    assert run() == done and len(json.loads(scores.read_text().splitlines()[0])) == 12
    monkeypatch.setattr(frontier, "is_there", lambda name, folder: folder == weights)
    monkeypatch.setattr(perceptual, "lpips", lambda sr, hr, *, folder: torch.tensor([0.25]))
    assert {p.lpips for p in run().points} == {0.25}


def test_the_advantage_is_the_gap_at_equal_psnr() -> None:
    """Three images, all alike, so that the line and the interval can be written down."""
    line = np.zeros((3, 3, 5))
    line[:, :, 0] = np.array([30.0, 29.0, 28.0])[:, None]  # dB as the plain one is sharpened
    line[:, :, 3] = np.array([0.5, 0.4, 0.35])[:, None]  # its GV gap
    line[:, :, 4] = np.array([0.1, 0.3, 0.4])[:, None]  # its risk
    values = np.zeros((3, 5))
    values[:, 0], values[:, 3] = 29.5, 0.40
    assert astuple(_advantage(values, line, of="gv_gap")) == pytest.approx(
        (0.05,) * 3
    )  # 0.45 on the line
    assert astuple(_advantage(values, line, of="risk_percent")) == pytest.approx((0.2,) * 3)
    turned = np.insert(line, 0, line[0], axis=0)  # a little sharpening gains dB, as it may
    turned[0, :, [0, 3]] = [[29.5] * 3, [0.6] * 3]
    assert astuple(_advantage(values, turned, of="gv_gap")) == pytest.approx((0.05,) * 3)
    values[:, 0] = 30.2  # no sharpening gets there: beside the line's best, in every draw
    assert astuple(_advantage(values, line, of="gv_gap")) == pytest.approx((0.1,) * 3)
    values[:, 0] = 27.0  # beside the sharpest; not if that has a larger gap than at 29 dB
    assert astuple(_advantage(values, line, of="gv_gap")) == pytest.approx((-0.05,) * 3)
    line[2, :, 3] = 0.6
    assert astuple(_advantage(values, line, of="gv_gap")) == pytest.approx((0.0,) * 3)
    assert astuple(_advantage(values, line, of="risk_percent")) == pytest.approx((0.3,) * 3)


def test_the_area_lies_between_the_term_s_frontier_and_the_line() -> None:
    line = np.zeros((3, 2, 5))
    line[:, :, 0] = np.array([30.0, 29.0, 28.0])[:, None]
    line[:, :, 3] = np.array([0.5, 0.4, 0.3])[:, None]
    cells = np.zeros((3, 2, 5))
    cells[:, :, 0] = np.array([29.5, 27.0, 28.5])[:, None]  # in any order; the line ends at 28
    cells[:, :, 3] = np.array([0.40, 0.30, 0.30])[:, None]
    # at 28.0, 28.5 and 29.5 dB the line has 0.3, 0.35 and 0.45, the cells 0.3, 0.3 and 0.4
    expected = 0.5 * (0 + 0.05) / 2 + 1.0 * 0.05
    assert astuple(_area(cells, line)) == pytest.approx((expected,) * 3, rel=0.02)
    assert astuple(_area(line, line)) == pytest.approx((0,) * 3)
    cells[:, :, 0] = 30.5  # beyond what the line reaches
    assert astuple(_area(cells, line)) == (0, 0, 0)
