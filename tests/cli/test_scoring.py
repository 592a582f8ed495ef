"""The commands evaluate, compare and blend, run in this process."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekeeper import cli
from edgekeeper.cli.options import subject_names
from edgekeeper.errors import InputError
from edgekeeper.evaluation import compare, evaluate
from edgekeeper.pretrained.zoo import load

NAMES = ("ant", "bee", "cow")


class Run:
    """Runs the command line and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.capsys, self.patch = capsys, patch

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        self.patch.setattr(sys, "argv", ["edgekeeper", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        captured = self.capsys.readouterr()
        return status, captured.out, captured.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
    return Run(capsys, monkeypatch)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Originals ``mine``, and results ``good`` and ``bad``."""
    y, x = np.mgrid[:96, :96]
    for k, name in enumerate(NAMES):
        planes = [128 + 90 * np.sin(0.1 * (k + c + 1) * x + 0.3 * y) for c in range(3)]
        original = np.stack(planes, -1)
        for folder, error in (("mine", 0), ("good", 4), ("bad", 12 + 6 * k)):
            (tmp_path / folder).mkdir(exist_ok=True)
            changed = original + error * np.sign(np.sin(x + y))[..., None]
            pixels = np.clip(changed, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    return tmp_path


class TestEvaluate:
    def test_saved_images_score_the_same(self, run: Run, folders: Path) -> None:
        given, saved = ("--metrics", "psnr,ssim", "--format", "csv"), folders / "saved"
        first = ("evaluate", "espcn_x3", "--on", folders / "mine", *given, "--save", saved)
        status, out, err = run(*first)
        assert status == 0, err
        assert len(list(saved.rglob("*.png"))) == 3 * len(NAMES)
        for name in NAMES:
            with Image.open(saved / "LR" / "mine" / f"{name}.png") as lr:
                assert lr.size == (32, 32)
        again = ("--on", saved / "HR" / "mine", "--lr", saved / "LR" / "mine", "--scale", "3")
        for subject in ("espcn_x3", saved / "SR" / "espcn_x3"):
            _, found, err = run("evaluate", subject, *again, *given)
            assert found.splitlines()[1].split(",")[-2:] == out.splitlines()[1].split(",")[-2:], err
        status, _, err = run(*first)
        assert status == 2 and "--save" in err

    def test_chosen_metrics_and_the_reason_of_a_dash(self, run: Run, folders: Path) -> None:
        file = folders / "scores.jsonl"
        status, out, _ = run(
            "evaluate",
            folders / "good",
            "--on",
            folders / "mine",
            "--scale",
            "2",
            "--data",
            folders,
            "--metrics",
            "psnr,niqe",
            "--json",
            file,
        )
        assert status == 0
        assert "PSNR" in out and "NIQE" in out and "SSIM" not in out
        said = " ".join(out.split())
        assert "NIQE is unavailable for every image" in said
        assert "niqe_modelparameters.mat" in said
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert [line["niqe"] for line in lines] == [None] * 3
        assert "niqe_modelparameters.mat" in lines[0]["unavailable"]["niqe"]

    def test_mistakes_are_said_before_the_work(
        self, run: Run, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(evaluate, "score_result", None)  # would fail if anything were scored
        there = folders / "there.jsonl"
        there.touch()
        given = (
            "evaluate",
            folders / "good",
            "--on",
            folders / "mine",
            "--scale",
            "2",
            "--data",
            folders,
        )
        for options, said in (
            (("--metrics", "lpisp"), "Did you mean 'lpips'?"),
            (("--metrics", ","), "Name at least one metric"),
            (("--json", folders / "no" / "a.jsonl"), "--json: "),
            (("--json", there), "exists; give another name, or --force"),
            (("--weights", folders / "none"), "--weights: there is no folder"),
        ):
            status, out, err = run(*given, *options)
            assert (status, out) == (2, "")
            assert said in err

    def test_what_networks_and_folders_say_need_not_be_given(
        self, run: Run, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folders)
        given = ("--on", "mine", "--metrics", "PSNR,Ssim")  # no --scale, no --data
        status, out, _ = run("evaluate", "espcn_x3", "espcn_x3_gv", "bicubic", *given)
        assert (status, "espcn_x3, espcn_x3_gv, bicubic ×3" in out) == (0, True)
        rows = [line.split() for line in out.splitlines() if line.startswith(" mine")]
        assert [row[2] for row in rows] == ["espcn_x3", "espcn_x3_gv", "bicubic"]
        assert sum("*" in row[4] for row in rows) == 1
        for subjects, said in (
            (("bicubic",), "give --scale 2, 3 or 4; networks say nothing"),
            (("espcn_x2", "espcn_x3"), "networks say 2 and 3"),
        ):
            status, _, err = run("evaluate", *subjects, *given)
            assert (status, said in err) == (2, True)

    def test_the_interpolation_that_is_measured_is_named(self, run: Run, folders: Path) -> None:
        given = ("--on", folders / "mine", "--scale", "2", "--metrics", "psnr")
        for protocol, name in (("y_matlab", "bicubic"), ("gv_repo", "bilinear")):
            _, out, _ = run("evaluate", "bicubic", *given, "--protocol", protocol)
            assert f"{name} ×2" in out
            _, out, _ = run("compare", "bicubic", "espcn_x2", *given, "--protocol", protocol)
            assert f"A: {name}   B: espcn_x2" in out

    def test_results_may_lie_a_folder_deeper(self, run: Run, folders: Path) -> None:
        for scale, name in ((2, "good"), (3, "bad")):
            (folders / "all" / "Mine" / f"x{scale}").mkdir(parents=True)
            for file in (folders / name).iterdir():
                (folders / "all" / "Mine" / f"x{scale}" / file.name).write_bytes(file.read_bytes())
        given = ("--on", folders / "mine", "--scale", "2", "--metrics", "psnr")
        found = []
        for name in ("all", "good"):
            lines = run("evaluate", folders / name, *given)[1].splitlines()
            found += [line.split()[4] for line in lines if line.startswith(" mine")]
        assert len(found) == 2 and found[0] == found[1]

    @pytest.mark.data
    def test_weights_lie_in_the_data_folder(self, run: Run, data_root: Path) -> None:
        status, out, _ = run(
            "evaluate",
            data_root / "results" / "RCAN",
            "--scale",
            "4",
            "--data",
            data_root,
            "--metrics",
            "lpips,psnr",
        )
        assert status == 0
        assert "–" not in out
        assert "32.61" in out


class TestCompare:
    def given(self, folders: Path, *, a: str = "good", b: str = "bad") -> tuple[str | Path, ...]:
        return (
            "compare",
            folders / a,
            folders / b,
            "--on",
            folders / "mine",
            "--scale",
            "2",
            "--data",
            folders,
        )

    def test_tables_json_and_crops(self, run: Run, folders: Path) -> None:
        status, out, _ = run(
            *self.given(folders),
            "--metrics",
            "psnr,gmsd",
            "--worst",
            "2",
            "--json",
            folders / "d.json",
            "--crops",
            folders / "worse.png",
        )
        assert status == 0
        assert "A: good   B: bad" in out
        assert "0, 3 of 3" in out
        # The worst first, and no more than asked for.
        listed = out[out.index("worst images") :]
        assert listed.index("cow") < listed.index("bee")
        assert "ant" not in listed
        record = json.loads((folders / "d.json").read_text(encoding="utf-8"))
        assert record["rows"][0]["verdict"] == "worse"
        assert [place["image"] for place in record["places"]] == ["cow", "bee"]
        with Image.open(folders / "worse.png") as image:
            assert image.height > image.width / 2

    def test_nothing_is_drawn_when_nothing_is_worse(self, run: Run, folders: Path) -> None:
        status, out, _ = run(
            *self.given(folders, b="good"), "--metrics", "psnr", "--crops", folders / "w.png"
        )
        assert status == 0
        assert "nowhere worse" in out
        assert "good (A)" in out
        assert not (folders / "w.png").exists()

    def test_exit_status_for_scripts(self, run: Run, folders: Path) -> None:
        assert run(*self.given(folders), "--metrics", "psnr", "--fail-if-worse")[0] == 1
        back = self.given(folders, a="bad", b="good")
        assert run(*back, "--metrics", "psnr", "--fail-if-worse")[0] == 0

    def test_names(self, run: Run, folders: Path) -> None:
        given = (*self.given(folders), "--metrics", "psnr")
        assert "A: old   B: new" in run(*given, "--labels", "old,new")[1]
        status, _, err = run(*given, "--labels", "old")
        assert (status, "two names" in err) == (2, True)

    def test_the_scale_is_that_of_the_networks(self, run: Run, folders: Path) -> None:
        on = ("--on", folders / "mine", "--data", folders, "--metrics", "psnr")
        status, out, _ = run("compare", "bicubic", "espcn_x3", *on)
        assert (status, "×3" in out) == (0, True)
        for a, b, said in (
            ("espcn_x2", "espcn_x3", "one scale"),
            ("bicubic", str(folders / "good"), "--scale"),
            ("bicubic", "espcn_x3x", "Did you mean 'espcn_x3"),
        ):
            status, out, err = run("compare", a, b, *on)
            assert (status, out) == (2, "")
            assert said in err
        status, _, err = run("compare", "bicubic", "espcn_x3", *on, "--scale", "2")
        assert (status, "enlarges by 3, not by 2" in err) == (2, True)

    def test_mistakes_are_said_before_the_work(
        self, run: Run, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edgekeeper.evaluation.compare.score_result", None)
        (folders / "bad" / "cow.png").unlink()
        for options, said in (
            (("--crops", folders / "w.gif"), ".svg, .pdf, .png"),
            (("--crops", folders / "no" / "w.png"), "--crops: "),
            (("--json", folders), "--json: "),
            ((), "'cow' has no file"),
        ):
            status, out, err = run(*self.given(folders), *options)
            assert (status, out) == (2, "")
            assert said in err
        assert run("compare", "bicubic", "bicubic", "--scale", "2")[0] == 2

    def test_ctrl_c_leaves_no_file(
        self, run: Run, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("edgekeeper.evaluation.compare.worst_place", stop)
        before = sorted(folders.iterdir())
        status, out, err = run(
            *self.given(folders), "--json", folders / "d.json", "--crops", folders / "w.png"
        )
        assert (status, out) == (130, "")
        assert "Stopped." in err
        assert sorted(folders.iterdir()) == before

    def test_the_command_needs_the_package_it_names(self) -> None:
        assert compare.compare.__module__ == "edgekeeper.evaluation.compare"


class TestBlend:
    def test_a_network_is_written_and_loads(self, run: Run, tmp_path: Path) -> None:
        target = tmp_path / "mixed.safetensors"
        given = ("blend", "espcn_x2", "espcn_x2_gv", "--alpha", "0.3", "-o", target)
        status, out, _ = run(*given)
        assert status == 0
        assert "ESPCN ×2, alpha 0.3" in out
        assert load(target).scale == 2
        written = target.read_bytes()
        status, _, err = run(*given)
        assert (status, "--force" in err) == (2, True)
        assert (
            run("blend", "espcn_x2", "espcn_x2_gv", "--alpha", "1", "-o", target, "--force")[0] == 0
        )
        assert target.read_bytes() != written
        card = json.loads(run("models", "card", target, "--json")[1])
        assert card["blend"]["b"]["name"] == "espcn_x2_gv"

    def test_mistakes(self, run: Run, tmp_path: Path) -> None:
        target = tmp_path / "mixed.safetensors"
        for a, b, alpha, said in (
            ("espcn_x2", "espcn_x2_gv", "1.5", "alpha is 1.5; it lies from 0"),
            ("espcn_x2", "espcn_x3", "0.5", "scale is 2 in A and 3 in B"),
            ("espcn_x2", "nothing.pth", "0.5", "no network file"),
        ):
            status, out, err = run("blend", a, b, "--alpha", alpha, "-o", target)
            assert (status, out) == (2, "")
            assert said in err
        assert not target.exists()


def test_networks_of_one_file_name_are_told_apart(tmp_path):
    (tmp_path / "SR.v2").mkdir()
    folder = str(tmp_path / "SR.v2")
    assert subject_names(["runs/a/model.pth", "runs/b/model.pth", "bicubic", folder]) == [
        "a/model",
        "b/model",
        "bicubic",
        "SR.v2",
    ]
    same = ["one/a/model.pth", "two/a/model.pth"]
    assert subject_names(same) == same
    with pytest.raises(InputError, match="'espcn_x4' is given twice"):
        subject_names(["espcn_x4", "bicubic", "espcn_x4"])
