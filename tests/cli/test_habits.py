"""What people type by habit: a sentence that says what to type, or what they meant."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from edgekeeper.cli import COMMANDS, scoring
from edgekeeper.data.catalogue import SETS
from edgekeeper.pretrained.reference import REFERENCE
from edgekeeper.pretrained.zoo import networks
from edgekeeper.recipes import RECIPES


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("upscale a.png big.png", "If it is to be written, say so with -o big.png"),
        ("upscale a.png b.png big.tif", "If it is to be written, say so with -o big.tif"),
        ("a.png", "Did you mean: edgekeeper upscale a.png"),
        ("elsewhere.jpg", "Did you mean: edgekeeper upscale elsewhere.jpg"),
        ("photos", "Did you mean: edgekeeper upscale photos"),
        ("upscal a.png", "Did you mean 'upscale'?"),
        ("upscale *.jpg -o photos", "There is no file or folder '*.jpg'."),
        ("upscale a.png --style sharp --model fast_x4", "a model, not both"),
        ("upscale a.png --style sharp --model fast_x4 -o o --engine ray", "a model, not both"),
        ("train espcn_x3 --lr 1e-4", "Did you mean --set stages.0.optim.learning_rate=...?"),
        ("train espcn_x3 --batch-size 8", "Did you mean --set data.batch=...?"),
        ("train espcn_x3 --steps 9", "Did you mean --set stages.0.steps=...?"),
        ("train espcn_x3 --sed 9", "Did you mean"),
        ("data prepare photos -o s --licence A,B", "holds no images"),
        ("data prepare photos photos photos -o s --licence A --licence B", "give one for each"),
    ],
)
def test_a_mistake_is_a_sentence_with_a_cure(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: Any, line: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    (tmp_path / "photos").mkdir()
    done = command(*line.split())
    assert (done.status, done.out) == (2, ""), done.err
    assert said in " ".join(done.err.split())


def test_what_is_short_or_a_pattern_is_understood(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (12, 8)).save(tmp_path / name)
    done = command("upscale", "?.png", "-o", "big", "-s", "1.5", "-q")
    assert (done.status, done.out) == (0, ""), done.err
    assert sorted(path.name for path in (tmp_path / "big").iterdir()) == ["a.png", "b.png"]


def test_no_line_of_help_is_cut(command: Callable[..., Any]) -> None:
    for group in ([], *([name] for name in COMMANDS if name in ("data", "models", "recipes"))):
        _, found, commands = command(*group, "--help").out.partition("Commands:")
        assert found and "..." not in commands, commands


def test_lists_are_tables_with_headers_whose_names_are_whole_in_80_columns(
    command: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(scoring, "console", lambda: Console(width=80))
    names = [entry.name for entry in SETS] + list(REFERENCE)
    for line, head, whole in (
        ("models", "name scale MB style speed Set5 Set14", [one.name for one in networks()]),
        ("recipes", "recipe network updates", list(RECIPES)),
        ("data", "name kind files licence", names),
    ):
        done = command(*line.split())
        lines = [each for each in done.out.splitlines() if each.startswith(" ")]  # of tables
        assert not done.status and max(map(len, lines)) <= 80, done
        assert head in [" ".join(each.split()) for each in lines], line
        first = {each.split()[0] for each in lines if each.split()}
        assert not set(whole) - first, (line, set(whole) - first)


def test_json_to_standard_output_stands_there_alone() -> None:
    command = [sys.executable, "-m", "edgekeeper", "cost", "espcn_x4", "--json", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert json.loads(done.stdout)["networks"][0]["parameters"] == 24_752
    assert "espcn_x4" in done.stderr


def test_what_an_encoding_has_not_is_escaped() -> None:
    where = {**os.environ, "PYTHONIOENCODING": "ascii"}  # cp1252 has no arrows
    command = [sys.executable, "-m", "edgekeeper", "models"]
    done = subprocess.run(command, capture_output=True, env=where, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "espcn_x4" in done.stdout.decode("ascii")
