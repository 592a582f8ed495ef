"""Where images lie, deterministic kernels, a compiled network, and runs against the clock."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from edgekeeper.cli import group
from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store
from edgekeeper.errors import InputError
from edgekeeper.evaluation.tables import TABLE_FORMS
from edgekeeper.losses import L1
from edgekeeper.models import ESPCN
from edgekeeper.papers.speedrun import run_speedrun, speedrun_table
from edgekeeper.recipes.speedrun import GOALS, speedrun_recipe
from edgekeeper.spec import spec
from edgekeeper.training.batches import stage_batches
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.process import is_resident, running
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term, Validation

TINY = Recipe(
    "tiny",
    spec(ESPCN, scale=2),
    data=Data(patch=16, batch=2),
    stages=(Stage("all", 4, Optim(learning_rate=1e-3), (Term("pixel", spec(L1)),)),),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder, numbers = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    image = numbers.integers(0, 256, (60, 48, 3), dtype=np.uint8)
    (folder / "set").mkdir()
    Image.fromarray(image).save(folder / "set" / "noise.png")
    return prepare_store(sources_in(folder / "set"), folder / "store", scales=(2,))


def test_images_lie_where_they_fit(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, free = store.index.pixels_bytes, 0
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    for device, store_on, free, resident in (
        ("cpu", "auto", 0, False),
        ("cpu", "device", 0, False),
        ("cuda", "host", 10 * size, False),
        ("cuda", "device", 0, True),
        ("cuda", "auto", 2 * size, True),
        ("cuda", "auto", 2 * size - 1, False),
    ):
        options = RunOptions(out=tmp_path, device=device, store_on=store_on)  # type: ignore[arg-type]
        assert is_resident(store, options=options) is resident, (device, store_on, free)
    wanted = {"steps": range(1), "scale": 2, "workers": 0}
    (batch,) = stage_batches(TINY, store, device="meta", **wanted)  # type: ignore[arg-type]
    assert (batch.hr.device.type, batch.hr.dtype) == ("meta", torch.uint8)


def test_deterministic_holds_within_a_run_alone(tmp_path: Path) -> None:
    with running(RunOptions(out=tmp_path, deterministic=True)):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of PyTorch itself
def test_a_compiled_network_learns_the_same_up_to_rounding(store: Store, tmp_path: Path) -> None:
    for compiled in (False, True):
        out = tmp_path / str(compiled)
        train(TINY, store, options=RunOptions(out=out, workers=0, compile=compiled))
    plain, other = (load_file(tmp_path / f"{c}/model.safetensors") for c in (False, True))
    assert plain.keys() == other.keys()
    for name, tensor in plain.items():
        # Adam moves a weight by 1e-3 an update, whatever small gradient it has
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-4, msg=name)


def test_a_run_against_the_clock_ends_at_its_goal_and_says_what_it_took(
    store: Store, tmp_path: Path
) -> None:
    images = str(store.path.parent / "set")
    recipe = replace(TINY, validation=Validation(set_name=images, every=2))
    given = {"data_root": tmp_path, "out": tmp_path, "recipe": recipe}
    found = run_speedrun("fast", store, goal=1.0, **given)  # type: ignore[arg-type]
    assert found["reached"] and found["psnr"] >= 1.0 and found["updates"] == 2
    assert found["minutes"] >= 0 and found["machine"]["threads"] >= 1
    folder = tmp_path / "tiny_1"
    assert json.loads((folder / "speedrun.json").read_text()) == json.loads(json.dumps(found))
    assert (folder / "model.safetensors").is_file()
    missed = run_speedrun("fast", store, goal=99.0, **given)  # type: ignore[arg-type]
    assert not missed["reached"] and missed["updates"] == 4 and "unfinished" not in missed
    texts = {
        form: TABLE_FORMS[form](speedrun_table(found)) for form in ("csv", "latex", "markdown")
    }
    cells = ["fast", f"{found['psnr']:.2f}", "1", "2", f"{found['minutes']:.1f}"]
    assert texts["csv"].splitlines()[-1] == ",".join(cells)
    assert all(cell in texts[form] for form in texts for cell in cells)
    late = run_speedrun("fast", store, goal=98.0, time_limit=1e-9, **given)  # type: ignore[arg-type]
    assert late["unfinished"] and not (tmp_path / "tiny_98" / "speedrun.json").exists()


def test_its_recipes_and_its_command(store: Store, tmp_path: Path) -> None:
    for network in GOALS:
        recipe = speedrun_recipe(network)
        assert recipe.validation is not None and recipe.model.build().scale == 2
    command = ["reproduce", "speedrun", "--store", str(store.path), "--data", str(tmp_path)]
    done = CliRunner().invoke(group, [*command, "--networks", "rcan", "--out", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert "a speedrun is of one network, of fast, vdsr, edsr" in str(done.exception)
    kept = tmp_path / f"{speedrun_recipe('fast').name}_1"  # what is there is not trained again
    kept.mkdir()
    record = {"network": "fast", "psnr": 1.234, "goal": 1.0, "updates": 2, "minutes": 0.5}
    (kept / "speedrun.json").write_text(json.dumps(record))
    done = CliRunner().invoke(
        group, [*command, "--to", "1", "--out", str(tmp_path), "--format", "csv"]
    )
    assert done.output.splitlines()[-1] == "fast,1.23,1,2,0.5", done.output
