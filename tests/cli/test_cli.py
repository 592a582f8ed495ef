import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekeeper import __version__
from edgekeeper.cli import COMMANDS
from edgekeeper.cli.upscale import quick_imports

NO_TORCH = "import sys, edgekeeper.cli as c; c.COMMANDS; sys.exit('torch' in sys.modules)"
# What PyTorch's threads do while they wait is read when PyTorch is loaded.
ASLEEP = """
import os, sys, edgekeeper.cli as c
seen = []
def note(event, what):
    if event == "import" and what[0] == "torch":
        seen.append(os.environ.get("GOMP_SPINCOUNT"))
sys.addaudithook(note)
c.group(["upscale", "--help"], standalone_mode=False)
import torch
sys.exit(seen[0] != "0")
"""
TINY_RECIPE = """
from edgekeeper.losses import L2
from edgekeeper.models import ESPCN
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term
from edgekeeper.spec import spec

recipe = Recipe(
    name="tiny",
    model=spec(ESPCN, scale=2),
    data=Data(patch=16, batch=2),
    stages=(Stage("all", 3, Optim(learning_rate=1e-3), (Term("pixel", spec(L2)),)),),
)
"""


def edgekeeper(*arguments: str | Path, **options: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own."""
    command = [sys.executable, "-c", "from edgekeeper.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


def fails(*arguments: str | Path) -> str:
    """The one line that a user's mistake prints; exit status 2, no traceback."""
    found = edgekeeper(*arguments)
    assert found.returncode == 2, found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    return found.stderr


def image(path: Path, *, side: int = 24) -> Path:
    numbers = np.random.default_rng(0)
    Image.fromarray(numbers.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as opened:
        return opened.size


def test_help_loads_no_torch_and_names_every_command() -> None:
    assert (
        subprocess.run([sys.executable, "-c", NO_TORCH], check=False, timeout=200).returncode == 0
    )
    unset = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    subprocess.run([sys.executable, "-c", ASLEEP], check=True, timeout=200, env=unset)
    shown = edgekeeper("--help")
    assert shown.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_an_example(command: str) -> None:
    shown = edgekeeper(command, "--help")
    assert shown.returncode == 0
    assert "Example: edgekeeper " in " ".join(shown.stdout.split())


def test_garbage_is_searched_for_again_after_torch_was_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even if the import fails; where torch is there already nothing is frozen for ever."""
    frozen = gc.get_freeze_count()
    with quick_imports():
        assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    monkeypatch.delitem(sys.modules, "torch")
    try:
        with pytest.raises(ImportError), quick_imports():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_version() -> None:
    assert __version__ in edgekeeper("--version").stdout


def test_a_misspelt_command() -> None:
    assert "Did you mean 'upscale'?" in fails("upscal")


class TestModels:
    def test_json_has_name_scale_file_and_card(self) -> None:
        lines = edgekeeper("models", "--json").stdout.splitlines()
        assert lines
        for line in lines:
            network = json.loads(line)
            assert Path(network["file"]).is_file()
            assert network["scale"] in (2, 3, 4)
            cards = [card := network["card"]]
            while cards:  # a blend may be one of blends
                one = cards.pop()
                cards += [one["blend"][side]["card"] for side in "ab"] if "blend" in one else []
                assert "blend" in one or one["recipe"]["seed"] == 0
            assert {"set", "protocol", "psnr", "psnr_interval"} <= card["results"][0].keys()
            images = card.get("images") or card["pictures"]  # as earlier versions say
            assert all(image["licence"] and image["sha256"] for image in images)

    def test_an_unknown_card(self) -> None:
        assert "Did you mean 'espcn_x3'" in fails("models", "card", "espcn_x3x")


class TestTrain:
    def test_prepare_train_stop_resume_and_use(self, tmp_path: Path) -> None:
        photos, recipe = tmp_path / "photos", tmp_path / "tiny.py"
        photos.mkdir()
        image(photos / "a.png", side=48)
        recipe.write_text(TINY_RECIPE, encoding="utf-8")
        store, out = tmp_path / "store", tmp_path / "run"
        made = edgekeeper(
            "data", "prepare", photos, "-o", store, "--scales", "2", "--min-side", "8"
        )
        assert made.returncode == 0, made.stderr
        train = ("train", recipe, "--store", store, "--out", out)
        stopped = edgekeeper(*train, "--time-limit", "0.000001")
        assert stopped.returncode == 0
        assert "Stopped (time limit) after 1 of 3 steps" in stopped.stdout
        finished = edgekeeper(*train)
        assert finished.returncode == 0
        assert "Finished after 3 steps" in finished.stdout
        small, large = image(tmp_path / "a.png"), tmp_path / "b.png"
        used = edgekeeper("upscale", small, "-o", large, "--model", out / "model.safetensors")
        assert used.returncode == 0, used.stderr
        assert size_of(large) == (48, 48)

    def test_what_is_to_stay_out_of_a_store_stays_out(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        for name in ("a", "val1", "val2"):
            image(tmp_path / f"photos/{name}.png", side=24)
        ask = ("data", "prepare", tmp_path / "photos", "-o", tmp_path / "s", "--min-side", "8")
        ask = (*ask, "--scales", "2", "--exclude")
        assert "no image 'val1' in these folders. Did you mean 'val1.png'?" in fails(*ask, "val1")
        made = edgekeeper(*ask, "val1.png", "--exclude", "val2.png")
        assert "1 images" in made.stdout, made.stderr

    def test_a_misspelt_recipe_and_a_misspelt_field(self, tmp_path: Path) -> None:
        options = ("--store", tmp_path / "s", "--out", tmp_path / "o", "--no-validation")
        assert "Did you mean 'espcn_x3'?" in fails("train", "espcn_x3x", *options)
        recipe = tmp_path / "wrong.py"
        recipe.write_text(TINY_RECIPE.replace("batch=2", "bach=2"), encoding="utf-8")
        assert "unexpected keyword argument 'bach'" in fails("train", recipe, *options)
        recipe.write_text(TINY_RECIPE.replace("scale=2", "scal=2"), encoding="utf-8")
        assert "Did you mean 'scale'?" in fails("train", recipe, *options)

    def test_a_store_that_is_none(self, tmp_path: Path) -> None:
        shown = fails(
            "train", "espcn_x3", "--store", tmp_path, "--out", tmp_path / "o", "--no-validation"
        )
        assert "not a packed store" in shown


class TestEvaluate:
    def test_without_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
        assert "--data" in fails("evaluate", "bicubic", "--scale", "4")

    @pytest.mark.data
    def test_bicubic_as_table_and_as_json_lines(self, tmp_path: Path, data_root: Path) -> None:
        file = tmp_path / "scores.jsonl"
        shown = edgekeeper(
            "evaluate",
            "bicubic",
            "--on",
            "set5",
            "--scale",
            "4",
            "--data",
            data_root,
            "--json",
            file,
        )
        assert shown.returncode == 0, shown.stderr
        assert "28.42" in shown.stdout  # bicubic, Y rounded, border 4: a row of several papers
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert len(lines) == 5
        wanted = {"set", "image", "scale", "model", "protocol", "psnr", "ssim", "gv_gap"}
        assert wanted <= lines[0].keys()


class TestFigure:
    def test_needs_the_original(self, tmp_path: Path) -> None:
        assert "--hr" in fails("figure", "crops", "bicubic", "-o", tmp_path / "a.png")

    def test_crops_of_bicubic_and_a_network(self, tmp_path: Path) -> None:
        original = image(tmp_path / "hr.png", side=72)
        out = tmp_path / "figure.svg"
        found = edgekeeper(
            "figure", "crops", "bicubic", "espcn_x3", "--hr", original, "--scale", "3", "-o", out
        )
        assert found.returncode == 0, found.stderr
        assert out.read_text(encoding="utf-8").startswith("<?xml")


def test_models_at_80_columns_breaks_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    from edgekeeper.cli import models, scoring
    from edgekeeper.pretrained.zoo import networks

    out = io.StringIO()
    monkeypatch.setattr(scoring, "console", lambda: Console(file=out, width=80))
    monkeypatch.setattr(models, "console", lambda: Console(file=out, width=80), raising=False)
    models._show()
    lines = out.getvalue().splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    words = set(out.getvalue().split())
    assert {network.name for network in networks()} <= words and "…" not in out.getvalue()
