"""The kit for a GPU machine: its plan, what travels and comes back; the whole of it when slow."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from edgekeeper.cli.options import find_recipe
from edgekeeper.data.prepare import sources_in
from edgekeeper.models import ChainSR
from edgekeeper.pretrained.checkpoint import load_model, read_network, save_model
from edgekeeper.recipes.ladder import SHAPES
from edgekeeper.spec import spec

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, with folders of its own."""
    monkeypatch.setenv("KIT", str(tmp_path / "kit"))
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    description = importlib.util.spec_from_file_location("kit", ROOT / "scripts/gpu/kit.py")
    assert description is not None and description.loader is not None
    module = importlib.util.module_from_spec(description)
    monkeypatch.setitem(sys.modules, "kit", module)  # where dataclasses look for their module
    description.loader.exec_module(module)
    return module


def test_the_plan_s_recipes_are_recipes(kit: ModuleType, tmp_path: Path) -> None:
    names = [rung.name for rung in kit.PLAN]
    for rung in kit.PLAN:
        assert rung.start is None or names.index(rung.start) < names.index(rung.name)
        for tiny in (False, True):
            file = tmp_path / f"{rung.name}_{tiny}.py"
            file.write_text(rung.recipe(steps=80, tiny=tiny), encoding="utf-8")
            recipe = find_recipe(str(file))
            assert (recipe.name, recipe.steps) == (rung.name, 80)
            assert recipe.data.batch == (2 if tiny else 32)
            model = dict(recipe.model.arguments)
            assert model["blocks"] == SHAPES[rung.size].in_time.blocks


def test_a_network_is_taken_out_of_a_file(kit: ModuleType, tmp_path: Path) -> None:
    small = spec(ChainSR, scale=4, width=4, blocks=3, depth=1)
    save_model(
        tmp_path / "a.safetensors", small.build(), spec=small, card={"recipe": {"name": "r"}}
    )
    command = [sys.executable, "-c", kit.EXTRACT, "a.safetensors", "b.safetensors"]
    paths = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, cwd=tmp_path, env=paths, check=True, timeout=300)
    taken = load_model(tmp_path / "b.safetensors")
    assert isinstance(taken, ChainSR) and len(taken.blocks) == 3
    assert read_network(tmp_path / "b.safetensors").card == {"recipe": {"name": "r"}}


def test_results_come_back_in_small_parts_and_travel_again(
    kit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "MOST_A_FILE", 10_000)
    monkeypatch.setattr(kit, "MOST_STATES", 20_000)
    rungs = [kit.Rung(name, "fast", 4, 1, 1) for name in ("begun", "done", "later")]
    monkeypatch.setattr(kit, "PLAN", rungs)
    work = tmp_path / "work"
    here = kit.Session("cpu", True, 0.0, work, [])
    for name, file, size in (
        ("done", "model.safetensors", 50),
        ("done", "last.safetensors", 90_000),
        ("begun", "last.safetensors", 12_000),
        ("begun", "recipe.py", 5),
        ("begun", "network.safetensors", 60),
        ("later", "last.safetensors", 9_000),
    ):
        path = work / "runs" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    kit.OUT.mkdir()
    (kit.OUT / "states.tar.07").touch()  # of an earlier packing
    kit.pack(here)
    names = sorted(path.name for path in kit.OUT.iterdir())
    expected = ["logs.tar.gz", "networks.tar", "states.tar.00", "states.tar.01", "states.tar.02"]
    assert names == expected  # a finished network's state stays behind, and what has no room
    kit.KIT.mkdir()
    kit.unpack_results(kit.OUT)
    found = {str(p.relative_to(kit.KIT)): p.stat().st_size for p in kit.KIT.rglob("*.*")}
    assert found == {
        "runs/done/model.safetensors": 50,
        "runs/begun/last.safetensors": 12_000,
        "runs/begun/recipe.py": 5,
        "runs/begun/network.safetensors": 60,
    }


def test_states_that_are_too_large_stay(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("small", 10), ("large", 9_000)):
        (kit.KIT / "runs" / name).mkdir(parents=True)
        (kit.KIT / "runs" / name / "last.safetensors").write_bytes(bytes(size))
    monkeypatch.setattr(kit, "ROOT", kit.KIT.parent)
    monkeypatch.setattr(kit, "MOST_CARRIED", 5_000)
    monkeypatch.setattr(
        kit.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout="")
    )
    kit.report_size()
    assert "the state of large" in capsys.readouterr().out
    assert [path.name for path in (kit.KIT / "runs").iterdir()] == ["small"]


def test_images_travel_with_their_licences(kit: ModuleType, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 900, 3), dtype=np.uint8)
    for folder in kit.FOLDERS:
        (tmp_path / "train" / folder).mkdir(parents=True)
        Image.fromarray(noise).save(tmp_path / "train" / folder / f"{folder}.jpg")
    Image.fromarray(noise).save(tmp_path / "train" / "photos_CC0" / kit.KEPT_OUT[0])
    table = tmp_path / "train" / "photos_more" / "ORIGIN.csv"
    table.write_text('file,licence\nphotos_more.jpg,"CC-BY-4.0, A. Name"\n', encoding="utf-8")
    kit.KIT.mkdir()
    kit.pack_images(tmp_path / "train", kit.KIT / "images", most=None)
    sources = sources_in(kit.KIT / "images")
    assert {source.path.name: source.licence for source in sources} == {
        "photos_CC0.avif": "CC0-1.0",
        "photos_public_domain.avif": "public domain, as the source states",
        "photos_more.avif": "CC-BY-4.0, A. Name",
    }
    with Image.open(kit.KIT / "images" / "photos_more.avif") as image:
        assert image.size == (768, 51)


def test_a_rung_whose_state_stayed_behind_goes_on_from_its_network(
    kit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = kit.PLAN[0]
    earlier = kit.KIT / "runs" / rung.name
    earlier.mkdir(parents=True)
    (earlier / "network.safetensors").touch()
    here = kit.Session("cpu", True, time.monotonic() + 900, tmp_path / "work", [])
    commands: list[list[str]] = []
    monkeypatch.setattr(kit, "OUT", tmp_path)
    monkeypatch.setattr(here, "run", lambda _, command, **__: commands.append(command) or 0)
    kit.train(here, rung, seconds=3, rates={})  # too few to begin: what there is comes back
    assert not commands
    kit.pack(here)
    with tarfile.open(tmp_path / "networks.tar") as networks:
        assert networks.getnames() == [f"{rung.name}/network.safetensors"]
    shutil.rmtree(here.work / "runs" / rung.name)
    kit.train(here, rung, seconds=60, rates={})
    begun = commands[0][commands[0].index("--start") + 1]
    assert Path(begun).is_file() and Path(begun).name == "earlier.safetensors"
    recipe = find_recipe(str(here.work / "runs" / rung.name / "recipe.py"))
    assert recipe.name == rung.name
    assert recipe.start is not None and recipe.start.fresh == ()


def test_prepare_says_what_is_missing_and_keeps_what_is_there(
    kit: ModuleType, tmp_path: Path
) -> None:
    kit.KIT.mkdir()
    (kit.KIT / "kept").touch()
    with pytest.raises(SystemExit, match="holds no train/photos_CC0, train/photos_public_domain"):
        kit.prepare(tmp_path, resume=None, images=None)
    for folder in kit.FOLDERS:
        (tmp_path / "train" / folder).mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"holds no networks\.tar"):
        kit.prepare(tmp_path, resume=tmp_path / "nowhere", images=None)
    assert (kit.KIT / "kept").is_file()


def test_rates_of_an_earlier_call_are_not_measured_again(kit: ModuleType, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "runs").mkdir(parents=True)
    (work / kit.RATES).write_text('{"fast_x4": 5.0}', encoding="utf-8")
    kit.OUT.mkdir()
    kit.pack(kit.Session("cpu", True, 0.0, work, []))
    kit.KIT.mkdir()
    kit.unpack_results(kit.OUT)
    assert (kit.KIT / kit.RATES).read_text(encoding="utf-8") == '{"fast_x4": 5.0}'


@pytest.mark.slow
def test_the_whole_script_on_a_processor(kit: ModuleType, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for folder in kit.FOLDERS:
        (tmp_path / "train" / folder).mkdir(parents=True)
        noise = generator.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "train" / folder / f"{folder}.jpg")
    kit.KIT.mkdir()
    kit.pack_images(tmp_path / "train", kit.KIT / "images", most=None)
    given = {**os.environ, "PYTHON": sys.executable, "WORK": str(tmp_path / "work")}
    command = [str(ROOT / "scripts/gpu/run.sh"), "--device", "cpu", "--tiny", "--seconds", "150"]
    subprocess.run(command, env=given, check=True, timeout=300)
    summary = (kit.OUT / "summary.txt").read_text(encoding="utf-8")
    assert "store: status 0" in summary and "rates: status 0" in summary, summary
    assert f"{kit.PLAN[0].name}: status" in summary, summary
    with tarfile.open(kit.OUT / "networks.tar") as networks:
        states = list(kit.OUT.glob("states.tar.*"))
        assert networks.getnames() or states, summary
    assert sum(1 for _ in kit.OUT.iterdir()) <= 8
