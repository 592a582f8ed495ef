"""Inputs with which something is wrong: each is one line, nothing hangs, the rest is done."""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekeeper.data.store import Store

Run = Callable[..., Any]

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs"),
    pytest.mark.timeout(60),
]


def image(path: Path, *, seed: int = 0, height: int = 48, width: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


@contextmanager
def closed_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``folder`` cannot be listed, also by root."""
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path) == str(folder):  # some are numbers
            raise PermissionError(13, "Permission denied", str(folder))
        return real(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        yield


WITH_A_FILE = {
    "inspect LR": ("inspect", "X", "good.png"),
    "inspect SR": ("inspect", "good.png", "X"),
    "evaluate --on": ("evaluate", "bicubic", "--on", "set", "--scale", "2", "--metrics", "psnr"),
    "degrade": ("data", "degrade", "X", "-o", "out"),
    "check --train": ("data", "check", "good", "--scale", "2", "--train", "set"),
    "recipe": ("train", "X.toml", "--store", "none", "--out", "out"),
    "weights": ("upscale", "good.png", "--model", "X"),
    "exported": ("upscale", "good.png", "--model", "X.onnx"),
    "MATLAB": ("upscale", "good.png", "--model", "X.mat"),
    "key": ("study", "analyse", "X", "good.png"),
    "answers": ("study", "analyse", "key.json", "X"),
    "points": ("figure", "quality-cost", "X", "-o", "a.png"),
    "card": ("models", "card", "X"),
    "export": ("export", "X", "--to", "onnx"),
    "upscale": ("upscale", "X"),
}


@pytest.mark.parametrize("case", WITH_A_FILE)
@pytest.mark.parametrize("kind", ["pipe", "device", "empty", "folder", "missing", "noise"])
def test_what_is_no_such_file_is_one_line(
    case: str, kind: str, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image(Path("good.png"))
    image(Path("good", "a.png"))
    image(Path("set", "a.png"))
    Path("key.json").write_text('{"methods": ["a"]}', encoding="utf-8")
    arguments = [word.replace("X", "thing") for word in WITH_A_FILE[case]]
    path = next((Path(w) for w in arguments if w.startswith("thing")), Path("set", "thing.png"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else bytes(range(256)) * 3)
    in_set = "set" in arguments
    ran = command(*arguments)
    if in_set and kind in ("folder", "missing"):
        return  # a set without it
    assert ran.status in (1, 2), ran
    told = ran.out if case == "check --train" else ran.err
    lines = [line for line in told.splitlines() if not line.startswith(("Usage", "Try", "usage"))]
    assert [line for line in lines if line.strip()], ran
    assert "Traceback" not in ran.err
    if case != "check --train":
        assert len([line for line in lines if line.strip()]) == 1, ran.err
    if kind == "pipe" and case in ("inspect LR", "inspect SR", "evaluate --on", "degrade"):
        assert "it is a pipe, a socket or a device, not a file" in told


class TestPrepare:
    def test_bad_files_are_left_out_and_named(self, command: Run, tmp_path: Path) -> None:
        folder, store = tmp_path / "in", tmp_path / "store"
        image(folder / "a.png")
        image(folder / "below" / "deeper" / "b.jfif", seed=1)
        (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:300])
        (folder / "empty.png").touch()
        (folder / "gone.png").symlink_to("nowhere")
        os.mkfifo(folder / "pipe.png")
        (folder / "zero.png").symlink_to("/dev/zero")
        (folder / "notes.pcx").write_bytes(b"BM")
        ask = ("data", "prepare", folder, "-o", store, "--min-side", "12")
        ran = command(*ask)
        assert ran.status == 0
        assert f"Wrote {store}: 2 images" in ran.out
        assert {entry.source for entry in Store.open(store).images} == {"a.png", "b.jfif"}
        lines = ran.err.splitlines()
        assert "Not read: by their names 1 file is no images" in lines[0]
        assert "(notes.pcx)" in lines[0]
        names = ("broken", "empty", "gone", "pipe", "zero")
        for line, name in zip(lines[1:6], names, strict=True):
            assert line.startswith(f"left out: '{folder / name}.png'")
        assert lines[6:] == ["Left out since it could not be read: 5, see above."]
        assert command(*ask, "--force", "--strict").status == 1

    def test_without_any_there_is_no_store(self, command: Run, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "empty.png").touch()
        ran = command("data", "prepare", folder, "-o", tmp_path / "store")
        assert ran.status == 2
        assert "None of the images can be read" in ran.err
        assert "'" + str(folder / "empty.png") + "' is empty" in ran.err
        assert [path.name for path in tmp_path.iterdir()] == ["in"]

    def test_a_folder_that_cannot_be_read(
        self, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image(tmp_path / "in" / "a.png")
        (tmp_path / "in" / "closed").mkdir()
        with closed_folder(tmp_path / "in" / "closed", monkeypatch):
            ran = command(
                "data", "prepare", tmp_path / "in", "-o", tmp_path / "s", "--min-side", "12"
            )
        assert (ran.status, ran.err.count("closed")) == (0, 1)
        assert "cannot be read: permission denied." in ran.err


class TestDegrade:
    def test_a_bad_file_fails_and_the_rest_is_done(self, command: Run, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        image(folder / "b.png")
        (folder / "a.png").touch()
        ran = command("data", "degrade", folder, "-o", tmp_path / "out", "--count", "1")
        assert ran.status == 1
        assert ran.err == f"failed: '{folder / 'a.png'}' is empty (0 bytes).\n"
        assert len(list((tmp_path / "out").iterdir())) == 2


class TestUpscale:
    def test_a_folder_that_cannot_be_read_fails_and_the_rest_is_done(
        self, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, out = tmp_path / "in", tmp_path / "out"
        image(folder / "a.png")
        image(folder / "z" / "b.jpe")
        (folder / "lost+found").mkdir()
        with closed_folder(folder / "lost+found", monkeypatch):
            ran = command("upscale", folder, "-o", out, "--model", "espcn_x2")
        assert ran.status == 1
        assert sorted(path.name for path in out.rglob("*.*")) == ["a.png", "b.jpe"]
        assert "2 done, 0 skipped, 1 failed" in ran.out
        reason = f"'{folder / 'lost+found'}' cannot be opened: permission denied."
        assert ran.err.count(reason) == 2

    def test_what_is_not_read_is_told(self, command: Run, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        image(folder / "a.jfif")
        for name in ("b.pcx", "c.svg", "below.txt", "sub/d.exr", ".hidden", "video.mp4"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        ran = command("upscale", folder, "--model", "espcn_x2")
        assert ran.status == 0
        assert "4 files are no images that can be read (b.pcx, below.txt, c.svg, ...)" in ran.err
        assert (tmp_path / "in_x2" / "a.jfif").is_file()


class TestFullDisk:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_of_standard_output(self, run_process: Run) -> None:
        status, _, err = run_process("data", stdout="/dev/full")
        assert status == 2
        assert (
            err == "Error: Standard output or a file cannot be written: no space left on device.\n"
        )

    def test_of_a_store(self, command: Run, tmp_path: Path, run_process: Run) -> None:
        image(tmp_path / "in" / "a.png", height=240, width=240)
        ask = ("data", "prepare", tmp_path / "in", "-o", tmp_path / "store")
        status, _, err = run_process(*ask, most=4096)
        assert (status, err) == (
            2,
            f"Error: '{tmp_path / 'store'}' cannot be written: file too large.\n",
        )
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_exists_is_kept_in_the_words_of_the_command(command: Run, tmp_path: Path) -> None:
    small, large = image(tmp_path / "a.png"), image(tmp_path / "b.png", height=96, width=128)
    before = large.read_bytes()
    for ask in (
        ("data", "prepare", tmp_path, "-o", large),
        ("inspect", small, large, "--overlay", large),
    ):
        ran = command(*ask)
        assert ran.status == 2
        assert ran.err == f"Error: '{large}' exists; give another name, or --force to replace it.\n"
    assert large.read_bytes() == before


class TestTrain:
    def test_a_recipe_file_that_raises_is_a_sentence_with_its_line(
        self, command: Run, tmp_path: Path
    ) -> None:
        recipe = tmp_path / "mine.py"
        for code, said in {
            "x = 1\nrecipe = {}['demmo']\n": "line 2, does not load: KeyError: 'demmo'.",
            "raise RuntimeError": "line 1, does not load: RuntimeError.",
            "1 / 0": "line 1, does not load: ZeroDivisionError: division by zero.",
            "assert False, 'no'": "line 1, does not load: AssertionError: no.",
            "import nowhere": "line 1, does not load: No module named 'nowhere'.",
        }.items():
            recipe.write_text(code, encoding="utf-8")
            ran = command("train", recipe, "--store", tmp_path, "--out", tmp_path / "out")
            assert (ran.status, ran.err) == (2, f"Error: The recipe file '{recipe}', {said}\n")

    def test_without_a_store_no_folder_is_left(self, command: Run, tmp_path: Path) -> None:
        out = tmp_path / "out"
        ran = command("train", "demo", "--store", tmp_path / "missing", "--out", out)
        assert ran.status == 2
        assert "is not a packed store" in ran.err
        assert not out.exists()
        image(tmp_path / "in" / "a.png", height=200, width=200)
        assert command("data", "prepare", tmp_path / "in", "-o", tmp_path / "store").status == 0
        recipe = tmp_path / "mine.py"
        recipe.write_text(
            "import dataclasses\n"
            "from edgekeeper.recipes import RECIPES\n"
            "from edgekeeper.training.recipe import Validation\n"
            "validation = Validation(set_name='set55')\n"
            "recipe = dataclasses.replace(RECIPES['demo'], validation=validation)\n",
            encoding="utf-8",
        )
        ran = command("train", recipe, "--store", tmp_path / "store", "--out", out)
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert "'set55'" in ran.err
        assert not out.exists()
        pixels = tmp_path / "store" / "pixels.bin"
        pixels.write_bytes(bytes(255 - one for one in pixels.read_bytes()))
        ran = command(
            "train", "demo", "--store", tmp_path / "store", "--out", out, "--no-validation"
        )
        assert (ran.status, "have changed since" in ran.err) == (2, True)
        assert not out.exists()


def test_folders_to_score_name_the_image_that_is_wrong(command: Run, tmp_path: Path) -> None:
    ours, hr, sr = ("--scale", "2", "-o", tmp_path / "s.html"), tmp_path / "hr", tmp_path / "sr"
    image(hr / "good.png")
    image(sr / "good.png")
    for (height, width), made, said in (
        ((48, 48), 64, "'hr/z' differs in size: 48x48, 48x64 pixels"),  # a study took these
        ((1, 1), 1, "hr/z.png' has a side of less than 2 pixels"),
        ((1, 64), 1, "hr/z.png' has a side of less than 2 pixels"),
        ((2, 2), 2, "hr 'z': A border of 2 pixels"),
    ):
        image(hr / "z.png", height=height, width=width)
        image(sr / "z.png", height=made, width=width)
        what = ("study", "make", *ours) if height == 48 else ("evaluate", *ours[:2])
        ran = command(*what, "bicubic", sr, "--on", hr)
        assert ran.status == 2 and said in ran.err, (said, ran)
        assert not (tmp_path / "s.html").exists()


def test_an_error_is_one_line_whatever_the_names(command: Run, tmp_path: Path) -> None:
    for name in ("new\nline", "\x1b[31mred", "tab\there\r", "not\udcffutf8"):
        ran = command("inspect", tmp_path / f"{name}.png", tmp_path / "b.png")
        assert ran.status == 2
        assert ran.err.count("\n") == 1 and ran.err.strip().isprintable(), (name, ran.err)
    (tmp_path / "file").touch()
    ran = command("train", "demo", "--store", tmp_path / "file", "--out", tmp_path / "out")
    assert "is not a packed store" in ran.err


def test_scores_are_shown_though_the_disk_is_full(command: Run, tmp_path: Path) -> None:
    image(tmp_path / "hr" / "a.png")
    image(tmp_path / "hr" / "b.png", seed=1)
    ask = ("evaluate", "bicubic", "--on", tmp_path / "hr", "--scale", "2", "--metrics", "psnr")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        ran = command(*ask, "--format", "csv", "--json", tmp_path / "j.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ran.status == 2 and "cannot be written: file too large" in ran.err, ran
    assert ran.out.startswith("set,scale,model,images,PSNR") and not (tmp_path / "j.jsonl").exists()
