import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from edgekeeper.cli import main
from edgekeeper.cli.upscale import shortened, shown
from edgekeeper.cli.upscale_run import Reporter
from edgekeeper.errors import CheckpointError, UnavailableError
from edgekeeper.inference import Step
from edgekeeper.models import ESPCN
from edgekeeper.models.rrdb import RRDB
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.pretrained.zoo import load_network
from edgekeeper.spec import spec
from edgekeeper.training.progress import StopSignal

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for x2 that is small and fast; its weights are random."""
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    torch.manual_seed(0)
    made = spec(ESPCN, scale=2)
    save_model(path, made.build(), spec=made, card={})
    return path


@pytest.fixture
def raw(command: Run) -> Run:
    """``edgekeeper upscale`` in this process."""
    return lambda *arguments: command("upscale", *arguments)


@pytest.fixture
def upscale(raw: Run, network: Path) -> Run:
    """``edgekeeper upscale`` with the tiny network."""
    return lambda *arguments: raw(*arguments, "--model", network)


def image(path: Path, *, height: int = 12, width: int = 16, **options: object) -> Path:
    numbers = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = numbers.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, **options)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as opened:
        return opened.size


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestNames:
    @pytest.mark.parametrize(
        ("arguments", "name", "size"),
        [
            ([], "a_x2.png", (32, 24)),
            (["--scale", "2"], "a_x2.png", (32, 24)),
            (["--scale", "2.7"], "a_x2.7.png", (43, 32)),
            (["--scale", "5"], "a_x5.png", (80, 60)),
            (["--scale", "0.5"], "a_x0.5.png", (8, 6)),
            (["--width", "40"], "a_w40.png", (40, 30)),
            (["--height", "30"], "a_h30.png", (40, 30)),
            (["--fit", "3840x30"], "a_3840x30.png", (40, 30)),
            (["--format", "webp"], "a_x2.webp", (32, 24)),
            (["--format", "jpeg"], "a_x2.jpg", (32, 24)),
        ],
    )
    def test_beside_the_source(
        self, arguments: list[str], name: str, size: tuple[int, int], upscale: Run, tmp_path: Path
    ) -> None:
        ran = upscale(image(tmp_path / "a.png"), *arguments)
        assert (ran.status, ran.err) == (0, "")
        assert names(tmp_path) == ["a.png", name]
        assert size_of(tmp_path / name) == size
        assert ran.out.startswith(f"{tmp_path / name}  {size[0]}x{size[1]}  ")
        assert ran.out.count("\n") == 1

    def test_by_default_four_times(self, raw: Run, tmp_path: Path) -> None:
        assert raw(image(tmp_path / "a.png")).status == 0
        assert size_of(tmp_path / "a_x4.png") == (64, 48)

    def test_formats_that_are_only_read_become_png(self, upscale: Run, tmp_path: Path) -> None:
        assert upscale(image(tmp_path / "a.gif")).status == 0
        image(tmp_path / "b.png").rename(tmp_path / "no ending")
        assert upscale(tmp_path / "no ending").status == 0
        assert names(tmp_path) == ["a.gif", "a_x2.png", "no ending", "no ending_x2.png"]

    def test_the_format_is_what_is_asked_for_whatever_the_name(
        self, upscale: Run, tmp_path: Path
    ) -> None:
        small, large = image(tmp_path / "a.png"), tmp_path / "large.xyz"
        assert upscale(small, "-o", large, "--format", "webp").status == 0
        assert large.read_bytes()[8:12] == b"WEBP"
        kept = upscale(image(tmp_path / "b.jpeg"), "--format", "jpeg")
        assert kept.status == 0
        assert (tmp_path / "b_x2.jpeg").is_file()

    def test_an_ending_that_says_no_format(self, upscale: Run, tmp_path: Path) -> None:
        ran = upscale(image(tmp_path / "a.png"), "-o", tmp_path / "large.xyz")
        assert ran.status == 1
        assert "use one of .png" in ran.err

    def test_a_folder_beside_itself(
        self, upscale: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image(tmp_path / "in" / "a.png")
        image(tmp_path / "in" / "trip" / "day 1" / "b.JPG")
        assert upscale(tmp_path / "in").status == 0
        assert names(tmp_path / "in_x2") == ["a.png", "trip/day 1/b.JPG"]
        monkeypatch.chdir(tmp_path / "in")
        assert upscale(".", "--fit", "20x20").status == 0
        assert names(tmp_path / "in_20x20") == ["a.png", "trip/day 1/b.JPG"]

    def test_two_that_would_become_one_file(self, upscale: Run, tmp_path: Path) -> None:
        for name in ("a.png", "a.gif", "a.jpg"):
            image(tmp_path / "in" / name)
        assert upscale(tmp_path / "in", "-o", tmp_path / "out").status == 0
        assert names(tmp_path / "out") == ["a.gif.png", "a.jpg", "a.png"]
        assert upscale(tmp_path / "in", "-o", tmp_path / "webp", "--format", "webp").status == 0
        assert names(tmp_path / "webp") == ["a.gif.webp", "a.jpg.webp", "a.png.webp"]
        files = [tmp_path / "in" / name for name in ("a.png", "a.gif")]
        assert upscale(*files).status == 0
        assert names(tmp_path / "in") == ["a.gif", "a.gif_x2.png", "a.jpg", "a.png", "a_x2.png"]

    def test_files_and_folders_into_a_folder(self, upscale: Run, tmp_path: Path) -> None:
        small, folder = image(tmp_path / "a.png"), tmp_path / "in"
        image(folder / "b.png")
        out = tmp_path / "new" / "out"
        assert upscale(small, folder, "-o", out).status == 0
        assert names(out) == ["a.png", "in/b.png"]
        assert upscale(small, "-o", f"{tmp_path / 'alone'}/").status == 0
        assert names(tmp_path / "alone") == ["a.png"]

    def test_a_target_below_the_source_is_not_a_source(self, upscale: Run, tmp_path: Path) -> None:
        image(tmp_path / "a.png")
        for _ in range(2):
            assert upscale(tmp_path, "-o", tmp_path / "large").status == 0
        assert names(tmp_path) == ["a.png", "large/a.png"]


class TestExisting:
    def test_a_file_and_then_not_again_without_force(self, upscale: Run, tmp_path: Path) -> None:
        small, large = image(tmp_path / "a.png"), tmp_path / "b.png"
        assert upscale(small, "-o", large).status == 0
        large.write_bytes(b"precious")
        again = upscale(small, "-o", large)
        assert (again.status, again.out) == (1, "")
        assert "exists already; --force replaces it" in again.err
        skipped = upscale(small, "-o", large, "--skip-existing")
        assert (skipped.status, skipped.err) == (0, "")
        assert skipped.out.startswith("skipped: ")
        assert large.read_bytes() == b"precious"
        assert upscale(small, "-o", large, "--force").status == 0
        assert size_of(large) == (32, 24)

    def test_a_folder_started_again_goes_on(self, upscale: Run, tmp_path: Path) -> None:
        for name in ("a.png", "b.png"):
            image(tmp_path / "in" / name)
        out = tmp_path / "out"
        assert upscale(tmp_path / "in", "-o", out).status == 0
        (out / "a.png").write_bytes(b"precious")
        (out / "b.png").unlink()
        again = upscale(tmp_path / "in", "-o", out)
        assert again.status == 0
        assert "1 done, 1 skipped, 0 failed" in again.out
        assert (out / "a.png").read_bytes() == b"precious"
        refused = upscale(tmp_path / "in", "-o", out, "--no-skip-existing")
        assert refused.status == 1
        assert refused.err.count("--force") == 4  # two images, each also in the summary
        assert upscale(tmp_path / "in", "-o", out, "--force").status == 0
        assert size_of(out / "a.png") == (32, 24)


class TestSpecialTargets:
    def test_a_link_is_followed_and_a_fifo_fed(self, upscale: Run, tmp_path: Path) -> None:
        small, link, fifo = image(tmp_path / "a.png"), tmp_path / "link.png", tmp_path / "fifo"
        link.symlink_to("real.png")
        assert upscale(small, "-o", link).status == 0
        assert link.is_symlink()
        os.mkfifo(fifo)
        with ThreadPoolExecutor() as pool:
            read = pool.submit(fifo.read_bytes)
            assert upscale(small, "-o", fifo, "--format", "png").status == 0
        assert read.result() == (tmp_path / "real.png").read_bytes()
        assert fifo.is_fifo()
        assert upscale(small, "-o", os.devnull, "--format", "png").status == 0
        assert Path(os.devnull).is_char_device()


class TestAnimations:
    def test_all_frames_are_made_in_the_format_of_the_name(
        self, upscale: Run, tmp_path: Path
    ) -> None:
        folder, out = tmp_path / "in", tmp_path / "out"
        image(folder / "still.gif")
        colours = [Image.new("RGB", (16, 12), name) for name in ("red", "lime", "blue")]
        first, *others = colours
        for suffix in ("gif", "webp", "png"):
            more = {"lossless": True} if suffix == "webp" else {}
            delays = [100, 200, 50]
            first.save(
                folder / f"a.{suffix}",
                save_all=True,
                append_images=others,
                duration=delays,
                loop=0,
                **more,
            )
        ran = upscale(folder, "-o", out, "--quality", 100)
        assert ran.status == 0
        assert names(out) == ["a.gif", "a.png", "a.webp", "still.png"]
        targets = [out / f"a.{suffix}" for suffix in ("gif", "webp", "png")]
        for given in ("gif", "webp", "png"):
            for to in ("gif", "webp", "png"):
                targets.append(tmp_path / f"{given}.{to}")
                ran = upscale(folder / f"a.{given}", "-o", targets[-1], "--quality", 100)
                assert (ran.status, "3 frames" in ran.out) == (0, True)
        for target in targets:
            with Image.open(target) as opened:
                assert (opened.n_frames, opened.size) == (3, (32, 24)), target
                assert opened.info["loop"] == 0
                for number, frame in enumerate(colours):
                    opened.seek(number)
                    opened.load()
                    assert opened.info["duration"] == [100, 200, 50][number]
                    shown = np.asarray(opened.convert("RGB")).argmax(2)  # red, green, blue
                    assert (shown == np.asarray(frame).argmax(2)[0, 0]).all(), target
        ran = upscale(folder / "a.gif", "-o", tmp_path / "a.jpg", "--json")
        assert json.loads(ran.out)["notes"][0].startswith("took the first of 3 frames")
        ran = upscale(folder / "a.gif", "-o", tmp_path / "b.gif", "--json")
        assert json.loads(ran.out)["frames"] == 3

    def test_old_formats_are_read_and_written_as_png(self, upscale: Run, tmp_path: Path) -> None:
        folder, out = tmp_path / "in", tmp_path / "out"
        forms = ("bmp", "tga", "ppm", "jp2", "dds")
        for form in forms:
            image(folder / f"{form}.{form}")
        (folder / "notes.txt").write_text("no image")
        ran = upscale(folder, "-o", out)
        assert (ran.status, names(out)) == (0, sorted(f"{form}.png" for form in forms))
        assert "1 file is no images" in ran.err and "notes.txt" in ran.err


class TestFailures:
    def test_a_bad_file_is_reported_and_the_rest_goes_on(
        self, upscale: Run, tmp_path: Path
    ) -> None:
        folder = tmp_path / "in"
        for name in ("a.png", "c.png"):
            image(folder / name)
        (folder / "b.png").write_bytes(b"no image")
        ran = upscale(folder, "-o", tmp_path / "out")
        assert ran.status == 1
        assert names(tmp_path / "out") == ["a.png", "c.png"]
        lines = ran.out.splitlines()
        assert len(lines) == 3
        assert lines[-1].startswith("2 done, 0 skipped, 1 failed in ")
        first, title, reason = ran.err.splitlines()
        assert first.startswith(f"failed: '{folder / 'b.png'}' is not an image")
        assert title == "1 of 3 failed:"
        assert reason == first.replace("failed:", " ")

    def test_a_damaged_image_is_used_when_asked_and_a_note_says_what_is_lost(
        self, upscale: Run, tmp_path: Path
    ) -> None:
        path, out = image(tmp_path / "in" / "a.png", height=300), tmp_path / "out"
        image(tmp_path / "in" / "b.png")
        path.write_bytes(path.read_bytes()[:-5000])
        ran = upscale(path.parent, "-o", out)
        assert (ran.status, names(out)) == (1, ["b.png"])
        assert "--tolerant` takes what is there" in ran.err
        ran = upscale(path.parent, "-o", out, "--tolerant")
        assert (ran.status, names(out)) == (0, ["a.png", "b.png"])
        assert size_of(out / "a.png") == (32, 600)
        assert "a.png: is damaged or cut short: the rows from about" in ran.err
        assert "b.png" not in ran.err

    def test_colours_that_alpha_hides_are_kept_when_asked(
        self, upscale: Run, tmp_path: Path
    ) -> None:
        samples = np.zeros((16, 16, 4), np.uint8)
        samples[:, :8], samples[..., 0] = (0, 0, 0, 255), 200
        Image.fromarray(samples).save(tmp_path / "a.png")
        samples[:, 8:, :3] = (0, 180, 0)  # stored, and not to be seen
        Image.fromarray(samples).save(tmp_path / "b.png")
        for given, options, green in (
            ("a", [], 0),
            ("b", [], 0),
            ("b", ["--keep-hidden-colour"], 1),
        ):
            out = tmp_path / f"{given}{green}.png"
            assert upscale(tmp_path / f"{given}.png", "-o", out, *options).status == 0
            made = np.asarray(Image.open(out))[:, 24:]
            assert (made[..., 1] > made[..., 0]).all() == green, (given, options)
        tiff = tmp_path / "c.tif"  # a mask of Photoshop's: the colours beside it are the image
        tifffile.imwrite(tiff, samples, photometric="rgb", extrasamples=[0])
        assert upscale(tiff, "-o", tmp_path / "d.tif").status == 0
        with tifffile.TiffFile(tmp_path / "d.tif") as file:
            assert file.pages[0].extrasamples == (0,)
            made = file.asarray()[:, 24:]
            assert (made[..., 1] > made[..., 0]).all()
        ran = upscale(tiff, "-o", tmp_path / "d.jpg")
        assert (ran.status, ran.err.count("left out its further channel")) == (0, 1)

    def test_the_traceback_of_what_nobody_thought_of_is_shown_when_asked(
        self, upscale: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stumble(*arguments: object, **more: object) -> None:
            raise KeyError("nobody thought of it")

        source = image(tmp_path / "a.png")
        monkeypatch.setattr("edgekeeper.inference.files.open_image", stumble)
        for options, count in ((), 0), (("-v",), 1):
            ran = upscale(source, "-o", tmp_path / "b.png", *options)
            assert ran.status == 1
            assert "unexpected KeyError: 'nobody thought of it'" in ran.err
            assert ran.err.count("Traceback") == count

    def test_a_folder_that_cannot_be_made(self, upscale: Run, tmp_path: Path) -> None:
        small = image(tmp_path / "a.png")
        (tmp_path / "file").write_text("in the way")
        ran = upscale(small, "-o", tmp_path / "file" / "out.png")
        assert (ran.status, ran.out) == (1, "")
        assert ran.err.count("\n") == 1
        assert "cannot be made" in ran.err

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
    def test_what_may_not_be_read_or_written(self, upscale: Run, tmp_path: Path) -> None:
        small, closed = image(tmp_path / "a.png"), tmp_path / "closed"
        closed.mkdir(mode=0o500)
        ran = upscale(small, "-o", closed / "b.png")
        assert (ran.status, ran.err.count("\n")) == (1, 1)
        assert "permission denied" in ran.err
        small.chmod(0)
        ran = upscale(small)
        assert (ran.status, ran.err.count("\n")) == (1, 1)
        assert "permission denied" in ran.err

    def test_a_misspelt_model(self, raw: Run, tmp_path: Path) -> None:
        ran = raw(image(tmp_path / "a.png"), "--model", "espcn_x33")
        assert ran.status == 2
        assert "Did you mean 'espcn_x3'?" in ran.err


class TestJson:
    def test_one_object_a_image_and_nothing_else(self, upscale: Run, tmp_path: Path) -> None:
        folder, out = tmp_path / "in", tmp_path / "out"
        image(folder / "a.png")
        image(folder / "b.png")
        (folder / "c.png").write_bytes(b"no image")
        frames = [Image.new("L", (8, 6), shade) for shade in (0, 128, 255)]
        frames[0].save(folder / "d.tif", save_all=True, append_images=frames[1:])
        image(out / "b.png")
        ran = upscale(folder, "-o", out, "--json", "--consistent")
        assert (ran.status, ran.err) == (1, "")
        results = {Path(r["input"]).name: r for r in map(json.loads, ran.out.splitlines())}
        assert [r["status"] for r in results.values()] == ["done", "skipped", "failed", "done"]
        done = results["a.png"]
        assert done["output"] == str(out / "a.png")
        assert (done["input_size"], done["output_size"]) == ([16, 12], [32, 24])
        assert done["message"] == ""
        assert done["seconds"] >= done["network_seconds"] > 0
        assert done["precision"] in ("float32", "bfloat16")
        assert done["drift"]["before"] > done["drift"]["after"] > 0
        assert "is not an image" in results["c.png"]["message"]
        assert results["c.png"]["output_size"] is None
        assert results["d.tif"]["notes"] == ["took the first of 3 pages"]
        assert len({frozenset(r) for r in results.values()}) == 1

    def test_notes_are_told_once_on_stderr(self, upscale: Run, tmp_path: Path) -> None:
        frames = [Image.new("L", (8, 6), shade) for shade in (0, 128, 255)]
        for name in ("a.tif", "b.tif"):
            frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        ran = upscale(tmp_path, "-o", tmp_path / "out")
        assert ran.status == 0
        assert "pages" not in ran.out
        assert ran.err.splitlines() == [
            "a.tif: took the first of 3 pages",
            "2 images: took the first of 3 pages",
        ]


class TestMeasures:
    def test_a_report_and_its_overlay(self, upscale: Run, tmp_path: Path) -> None:
        small = image(tmp_path / "a.png", height=24, width=32)
        ran = upscale(small, "--report", "--json")
        told = json.loads(ran.out)
        assert ran.status == 0
        assert told["overlay"] == str(tmp_path / "a_x2_risk.png")
        assert size_of(tmp_path / "a_x2_risk.png") == (64, 48)
        assert 0 <= told["report"]["risk"] <= 1
        assert told["report"]["difference_mean"] > 0
        line = upscale(small, "--report", "--force").out
        assert f"structure risk {100 * told['report']['risk']:.2f} %" in line
        assert "overlay a_x2_risk.png" in line

    def test_a_report_that_cannot_be_made_says_why(self, upscale: Run, tmp_path: Path) -> None:
        ran = upscale(image(tmp_path / "a.png"), "--report", "--scale", "2.5")
        assert ran.status == 0
        assert "No report" in ran.err
        assert names(tmp_path) == ["a.png", "a_x2.5.png"]

    def test_seams_are_measured_on_the_first_image_that_is_large_enough(
        self, upscale: Run, tmp_path: Path
    ) -> None:
        image(tmp_path / "in" / "a.png", height=5, width=5)
        image(tmp_path / "in" / "b.png", height=60, width=50)
        image(tmp_path / "in" / "c.png", height=60, width=50)
        ran = upscale(tmp_path / "in", "-o", tmp_path / "out", "--verify-seams", "--json")
        one, two, three = map(json.loads, ran.out.splitlines())
        assert ran.status == 0
        assert one["seams"] is None
        assert "one piece" in one["notes"][0]
        assert two["seams"]["levels"] < 0.01  # rounding of floats, in a random network
        assert two["seams"]["seamless"] is True
        assert two["seams"]["tile"] < 50
        assert three["seams"] is None

    def test_seams_that_show_are_a_failure(
        self, upscale: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ESPCN, "overlap", 0)
        monkeypatch.setattr("edgekeeper.ops.tiles.ALLOWED_LEVELS", 0.1)
        ran = upscale(image(tmp_path / "a.png", height=60), "--verify-seams", "--json")
        assert json.loads(ran.out)["seams"]["levels"] > 0.1
        assert ran.status == 1
        assert (tmp_path / "a_x2.png").is_file()


class TestOptions:
    def test_strip_and_quality(self, upscale: Run, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x010F] = "Maker"
        small = image(tmp_path / "a.jpg", exif=exif)
        sizes = []
        for arguments in ([], ["--strip"], ["--quality", "20"]):
            assert upscale(small, "-o", tmp_path / "b.jpg", "--force", *arguments).status == 0
            with Image.open(tmp_path / "b.jpg") as opened:
                sizes.append((tmp_path / "b.jpg").stat().st_size)
                assert ("Maker" in opened.getexif().values()) == (arguments != ["--strip"])
        assert sizes[2] < sizes[0]

    def test_tile_ensemble_threads_and_precision(self, upscale: Run, tmp_path: Path) -> None:
        small = image(tmp_path / "a.png", height=40, width=40)
        threads = torch.get_num_threads()
        try:
            found = {}
            for name, arguments in {
                "plain": ["--precision", "float32"],
                "tiles": ["--precision", "float32", "--tile", "20", "--threads", "1"],
                "eight": ["--precision", "float32", "--ensemble"],
            }.items():
                ran = upscale(small, "-o", tmp_path / f"{name}.png", "--json", *arguments)
                assert json.loads(ran.out)["precision"] == "float32"
                with Image.open(tmp_path / f"{name}.png") as opened:
                    found[name] = np.asarray(opened).astype(int)
            assert torch.get_num_threads() == 1
        finally:
            torch.set_num_threads(threads)
        assert np.abs(found["plain"] - found["tiles"]).max() <= 1
        assert np.abs(found["plain"] - found["eight"]).max() > 1

    def test_style_chooses_the_network(self, raw: Run, tmp_path: Path) -> None:
        small = image(tmp_path / "a.png")
        found = set()
        for style in ("faithful", "sharp", "texture", "restore"):  # the last two by ×4, shrunk
            target = tmp_path / f"{style}.png"
            ran = raw(small, "-o", target, "--style", style, "--scale", "2")
            assert ran.status == 0
            found.add(target.read_bytes())
            assert ("Sharpness 0.25 changes PSNR by" in ran.err) == (style == "sharp")
        assert len(found) == 4


class TestNetworks:
    def test_foreign_weights_and_what_nobody_knows(self, tmp_path: Path, raw: Run) -> None:
        torch.manual_seed(0)
        ours = RRDB(scale=4, width=8, blocks=1, growth=4)
        theirs = {f"conv_{name}": value for name, value in ours.state_dict().items()}
        torch.save(theirs, tmp_path / "unknown.pth")
        with pytest.raises((CheckpointError, UnavailableError)) as error:
            load_network(str(tmp_path / "unknown.pth"))
        assert "community" in str(error.value) or "spandrel" in str(error.value)
        ran = raw(image(tmp_path / "a.png"), "--model", tmp_path / "unknown.pth")
        assert (ran.status, ran.err.count("\n")) == (2, 1)

    def test_a_vdsr_takes_the_scale_that_is_asked_for(self, tmp_path: Path) -> None:
        tensors = {"input.weight": torch.zeros(64, 1, 3, 3)}
        tensors |= {f"residual_layer.{i}.conv.weight": torch.zeros(64, 64, 3, 3) for i in range(18)}
        tensors["output.weight"] = torch.zeros(1, 64, 3, 3)
        torch.save(tensors, tmp_path / "vdsr.pth")
        path = str(tmp_path / "vdsr.pth")
        assert [load_network(path, factor=f).scale for f in (2, 2.7, 4, 6)] == [2, 3, 4, 4]
        with pytest.raises((CheckpointError, UnavailableError)):
            load_network(path)

    def test_a_damaged_file_of_ours_is_not_taken_for_foreign(
        self, network: Path, tmp_path: Path
    ) -> None:
        half = tmp_path / "half.safetensors"
        half.write_bytes(network.read_bytes()[:5000])
        with pytest.raises(CheckpointError, match="cut off"):
            load_network(str(half))

    def test_onnx_runtime_gives_the_same_image(
        self, upscale: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        monkeypatch.setenv("EDGEKEEPER_CACHE", str(tmp_path / "cache"))
        small = image(tmp_path / "a.png")
        for runtime in ("torch", "onnx"):
            ran = upscale(small, "-o", tmp_path / f"{runtime}.png", "--runtime", runtime, "--json")
            assert ran.status == 0, ran.err
        assert json.loads(ran.out)["precision"] == "float32"
        torch_image, onnx_image = (
            np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int)
            for name in ("torch", "onnx")
        )
        assert np.abs(torch_image - onnx_image).max() <= 3  # bfloat16 against float32
        (exported,) = (tmp_path / "cache").rglob("*.onnx")
        used = upscale(small, "-o", tmp_path / "file.png", "--model", exported)
        assert used.status == 0, used.err


class TestStreams:
    def test_from_standard_input_to_standard_output(
        self, run_process: Run, network: Path, tmp_path: Path
    ) -> None:
        arguments = ("upscale", "-", "-o", "-", "--format", "tiff", "--model", network)
        status, out, err = run_process(*arguments, stdin=image(tmp_path / "a.png"))
        assert (status, err) == (0, "")
        with Image.open(io.BytesIO(out)) as opened:
            assert (opened.format, opened.size) == ("TIFF", (32, 24))

    @pytest.fixture
    def pipe(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
        def give(data: bytes) -> None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

        return give

    def test_a_bad_stream_is_named_as_such(
        self, pipe: Callable[[bytes], None], upscale: Run, tmp_path: Path
    ) -> None:
        for data, said in [(b"", "is empty (0 bytes)"), (b"text", "is not an image")]:
            pipe(data)
            ran = upscale("-", "-o", "-", "--format", "png")
            assert (ran.status, ran.out) == (1, "")
            assert ran.err.startswith(f"failed: Standard input {said}")

    def test_one_end_may_be_a_file(
        self, pipe: Callable[[bytes], None], upscale: Run, tmp_path: Path
    ) -> None:
        small = image(tmp_path / "a.png")
        pipe(small.read_bytes())
        ran = upscale("-", "-o", tmp_path / "b.png", "--json")
        assert ran.status == 0
        assert json.loads(ran.out)["input"] == "-"
        assert size_of(tmp_path / "b.png") == (32, 24)

    def test_nothing_is_sent_that_nobody_takes(
        self, run_process: Run, network: Path, tmp_path: Path
    ) -> None:
        arguments = ("-o", "-", "--format", "png", "--model", network)
        status, _, err = run_process(
            "upscale", image(tmp_path / "a.png"), *arguments, stdout="/dev/full"
        )
        assert status == 1
        assert err == "Error: Standard output cannot be written: no space left on device.\n"


class TestStopping:
    def folder(self, tmp_path: Path) -> Path:
        for name in ("a.png", "b.png", "c.png"):
            image(tmp_path / "in" / name, height=40, width=40)
        return tmp_path / "in"

    @pytest.mark.parametrize(
        ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str
    )
    def test_what_is_done_is_kept_and_the_next_run_goes_on(
        self,
        number: int,
        status: int,
        upscale: Run,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        steps: list[Step] = []

        def step(self: Reporter, step: Step) -> None:
            steps.append(step)
            if (step.file, step.done, step.total) == (2, 1, 9):
                handler = signal.getsignal(number)  # no real signal: it could end the tests
                assert isinstance(getattr(handler, "__self__", None), StopSignal)
                handler(number, None)

        monkeypatch.setattr(Reporter, "step", step)
        before = signal.getsignal(number)
        source, out = self.folder(tmp_path), tmp_path / "out"
        ran = upscale(source, "-o", out, "--tile", "20")
        assert ran.status == status
        assert signal.getsignal(number) == before
        assert (steps[-1].file, steps[-1].done) == (2, 1)  # of more
        assert names(out) == ["a.png"]
        assert "Traceback" not in ran.err
        assert "To go on, give the same command again." in ran.err
        again = upscale(source, "-o", out, "--tile", "40")
        assert again.status == 0
        assert "2 done, 1 skipped, 0 failed" in again.out

    def test_a_reader_that_leaves(self, run_process: Run, network: Path, tmp_path: Path) -> None:
        arguments = (self.folder(tmp_path), "-o", tmp_path / "out", "--model", network)
        status, _, err = run_process("upscale", *arguments, stdout="closed pipe")
        assert status == 1
        assert err == "Error: Standard output cannot be written: broken pipe.\n"
        assert set(names(tmp_path / "out")) <= {"a.png", "b.png", "c.png"}

    def test_a_disk_that_is_full(self, run_process: Run, network: Path, tmp_path: Path) -> None:
        small = image(tmp_path / "a.png", height=80, width=80)
        arguments = (small, "-o", tmp_path / "b.png", "--model", network)
        status, out, err = run_process("upscale", *arguments, most=9000)
        assert (status, out) == (1, b"")
        assert err.count("\n") == 1
        assert "b.png' cannot be written" in err
        assert names(tmp_path) == ["a.png"]


class Terminal(io.StringIO):
    """A text that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class TestTerminal:
    def test_a_line_for_the_batch_with_the_tiles_of_its_image(
        self, upscale: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "140")
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        for name in ("a[b].png", "c.png"):
            image(tmp_path / "in" / name, height=40, width=40)
        step = Reporter.step

        def slowly(self: Reporter, now: Step) -> None:
            step(self, now)
            time.sleep(0.05)

        monkeypatch.setattr(Reporter, "step", slowly)
        ran = upscale(tmp_path / "in", "-o", tmp_path / "out", "--tile", "20")
        assert ran.status == 0
        assert len(ran.out.splitlines()) == 3  # stdout is no terminal: results are there, plain
        shown_text = screen.getvalue()
        assert "a[b].png" in shown_text
        assert "tiles" in shown_text
        assert "1/2" in shown_text and "images/s" in shown_text
        assert "in" not in shown_text.splitlines()[-1]

    def test_not_a_terminal_not_a_line(self, upscale: Run, tmp_path: Path) -> None:
        assert upscale(image(tmp_path / "a.png")).err == ""

    def test_terminals_are_no_images(
        self, upscale: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal())
        assert "the keyboard" in upscale("-", "-o", tmp_path / "b.png").err

    def test_streams_that_are_closed(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        # Python has None for a stream that was closed before it began: `upscale - >&- <&-`
        for target, words in (("-", "standard output, which is closed"), ("b.png", "is empty")):
            with monkeypatch.context() as patch:
                patch.setattr(
                    sys, "argv", ["edgekeeper", "upscale", "-", "--format", "png", "-o", target]
                )
                for name in ("stdin", "stdout"):
                    patch.setattr(sys, name, None)
                patch.chdir(tmp_path)
                with pytest.raises(SystemExit) as stopped:
                    main()
                for stream in (sys.stdin, sys.stdout):
                    stream.close()
            assert stopped.value.code in (1, 2)
            assert words in capfd.readouterr().err

    def test_what_cannot_be_shown_is_escaped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert shown("a\nb\x1b[0m\udcff ü") == r"a\nb\x1b[0m\udcff ü"
        ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr("sys.stdout", ascii_only)
        assert shown("ü") == r"\xfc"

    def test_long_names_keep_their_ends(self) -> None:
        assert shortened("short.png") == "short.png"
        assert shortened("a very long name of an image.png", length=15) == "a very …age.png"
