"""SPSR's and DGGGAN's ablations: which cells, and a tiny run of DGGGAN's from store to rows."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.errors import InputError
from edgekeeper.papers import ablations
from edgekeeper.papers.cells import Event
from edgekeeper.papers.training import reproduce, reproduction_table
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Recipe


def test_the_pairs_of_each_table_with_the_printed_numbers() -> None:
    pairs = ablations.ablations("spsr_table2", seeds=(0, 3))
    assert [pair.base for pair in pairs] == ["ESRGAN", "SPSR w/o GB", "SPSR w/o GL"]
    names = [recipe.name for recipe in pairs[0].added]
    assert names == ["spsr_light_quick", "spsr_light_quick_seed3"]
    assert [recipe.seed for recipe in pairs[1].without] == [0, 3]
    assert pairs[2].printed["set14"].pi == (3.028, 2.904)
    assert pairs[0].printed["bsd100"].psnr == (25.317, 25.505)
    (first,) = ablations.ablations("dgggan_table1", budget="paper")
    assert [r.name for r in (*first.without, *first.added)] == ["dgggan_no_branch", "dgggan"]
    assert first.printed["urban100"].pi == (3.9815, 3.5486)
    assert first.printed["set5"].psnr is None
    (second,) = ablations.ablations("dgggan_table2", budget="quick", designs=("lr",))
    assert second.network == "DGGGAN, design B" and second.printed["set5"].pi == (3.3427, 3.2559)
    (without,) = second.without
    assert (without.name, without.steps) == ("dgggan_lr_no_se_small_quick", 400)
    for table in ablations.ABLATIONS:  # no two recipes share a folder
        found = {
            recipe.name: recipe
            for budget in ("quick", "standard", "paper")
            for pair in ablations.ablations(table, budget=budget, seeds=(0, 1))
            for recipe in (*pair.without, *pair.added)
        }
        assert len(found) == 3 * 2 * (4 if table == "spsr_table2" else 2)
        assert all(r.validation is None for r in found.values())
    with pytest.raises(InputError, match="no network in this table 'full'"):
        ablations.ablations("dgggan_table1", designs=("full",))


def test_a_tiny_table_is_trained_measured_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    numbers = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(numbers.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
            images / f"{name}.png"
        )
    store = prepare_store(sources_in(images), tmp_path / "s", scales=(4,), min_side=8)
    made = ablations.dgggan

    def tiny(**choices: Any) -> Recipe:
        recipe = made(**choices)
        model = dict(recipe.model.arguments) | {"width": 8, "blocks": 1, "grad_every": 1}
        stages = tuple(
            dataclasses.replace(
                stage,
                discriminators=(),
                terms=tuple(t for t in stage.terms if t.name != "perceptual"),
            )
            for stage in recipe.stages
        )
        return dataclasses.replace(
            recipe,
            model=spec(recipe.model.target, **model),
            data=dataclasses.replace(recipe.data, patch=32, batch=1),
            stages=stages,
        )

    monkeypatch.setattr(ablations, "dgggan", tiny)
    monkeypatch.setattr(ablations, "_QUICK_STEPS", (1, 1))

    def run(events: list[Event], **changes: Any) -> Any:
        arguments = {"store": store, "data_root": tmp_path, "out": tmp_path / "out"}
        arguments |= {"budget": "quick", "sets": (str(images),), "on_event": events.append}
        return reproduce("dgggan_table2", **arguments, weights=tmp_path, **changes)  # type: ignore[arg-type]

    one: list[Event] = []
    two: list[Event] = []
    table = run(one)
    measures = [row.measure for row in table.rows]
    assert measures == ["psnr", "ssim", "gv_gap", "risk"]  # without files, the others are not
    assert any(note.startswith("LPIPS is unavailable.") for note in table.notes)
    assert any("PI is unavailable" in note for note in table.notes)
    assert table.protocol.name == "y_matlab" and all(row.images == 3 for row in table.rows)
    assert all(0 <= row.without <= 1 for row in table.rows if row.measure == "risk")
    assert any("trained shorter or otherwise" in note for note in table.notes)
    assert run(two) == table
    assert {event.what for event in two} == {"already trained", "already scored"}
    shown = reproduction_table(table)
    assert shown.cells[-1][3] == "structure risk" and "DGGGAN without SE" in shown.cells[0][2]
    with pytest.raises(InputError, match="at x4: scales"):
        run([], scales=(4,))
