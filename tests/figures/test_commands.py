"""Tests of ``edgekeeper figure``: every figure from the command line, and its errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from edgekeeper.cli import group
from edgekeeper.cli.figure import FIGURES
from edgekeeper.errors import DataError, EdgekeeperError, InputError
from edgekeeper.models import DGGGAN, EDSR, SPSR, GradientBranch, SRModel
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.spec import Spec, spec


def draw(*arguments: str | Path, force: bool = True) -> str:
    """What ``edgekeeper figure`` prints; what it raises is raised."""
    command = ["figure", *map(str, arguments), *(["--force"] if force else [])]
    found = CliRunner().invoke(group, command, catch_exceptions=True)
    if isinstance(found.exception, EdgekeeperError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def save(image: Tensor, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)
    return path


def network(description: Spec[SRModel], path: Path) -> Path:
    torch.manual_seed(1)
    save_model(path, description.build(), spec=description, card={})
    return path


@pytest.fixture
def leaf(hr: Tensor, tmp_path: Path) -> Path:
    return save(hr, tmp_path / "leaf.png")


@pytest.fixture
def twig(hr: Tensor, tmp_path: Path) -> Path:
    return save(hr.flip(-1), tmp_path / "twig.png")


@pytest.fixture
def edsr(tmp_path: Path) -> Path:
    return network(spec(EDSR, scale=2, width=4, blocks=1), tmp_path / "edsr.safetensors")


@pytest.fixture
def spsr(tmp_path: Path) -> Path:
    description = spec(SPSR, scale=2, width=8, blocks=1, growth=4, taps=(1,))
    return network(description, tmp_path / "spsr.safetensors")


@pytest.fixture(autouse=True)
def without_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)


def titles(figure: Any) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


class TestCrops:
    def test_networks_folders_files_and_bicubic_in_rows(
        self, leaf: Path, twig: Path, edsr: Path, hr: Tensor, tmp_path: Path, drawn: list[Any]
    ) -> None:
        save(hr, tmp_path / "results" / "leaf_x2.png")
        printed = draw(
            "crops",
            "bicubic",
            edsr,
            tmp_path / "results",
            "--hr",
            leaf,
            "--hr",
            twig,
            "--scale",
            "2",
            "--box",
            "16",
            "--box",
            "0,0,20,20",
            "--original",
            "first",
            "--whole",
            "-o",
            tmp_path / "c.svg",
        )
        assert "'results' holds no result for 'twig': left empty." in printed
        columns = ["original", "bicubic", "edsr", "results"]
        assert titles(drawn[0]) == ["leaf", *columns, "twig", *columns]
        assert drawn[0].axes[1].images[0].get_array().shape == (16, 16, 3)
        assert drawn[0].axes[6].images[0].get_array().shape == (20, 20, 3)
        assert (tmp_path / "c.svg").read_bytes().startswith(b"<?xml")

    def test_numbers(self, leaf: Path, tmp_path: Path, drawn: list[Any]) -> None:
        subjects = ("crops", "bicubic", "--hr", leaf, "--scale", "2", "-o", tmp_path / "c.png")
        draw(*subjects)
        draw(*subjects, "--numbers", "none")
        draw(*subjects, "--numbers", "ssim,gv_gap")
        counts = [len(figure.axes[0].texts) for figure in drawn]
        assert counts == [1, 0, 2]

    def test_labels(self, leaf: Path, edsr: Path, tmp_path: Path, drawn: list[Any]) -> None:
        other = tmp_path / "run" / "edsr.safetensors"
        other.parent.mkdir()
        other.write_bytes(edsr.read_bytes())
        options = ("--hr", leaf, "--scale", "2", "-o", tmp_path / "c.png")
        draw("crops", edsr, other, *options)
        assert titles(drawn[0]) == [f"{tmp_path.name}/edsr", "run/edsr", "original"]
        draw("crops", edsr, other, "--labels", "old, new", *options)
        assert titles(drawn[1]) == ["old", "new", "original"]
        with pytest.raises(InputError, match="2 subjects but 1 --labels"):
            draw("crops", edsr, other, "--labels", "old", *options)
        with pytest.raises(InputError, match="is given twice"):
            draw("crops", edsr, edsr, *options)

    def test_any_name_of_a_file_can_be_drawn(
        self, leaf: Path, tmp_path: Path, drawn: list[Any]
    ) -> None:
        odd = leaf.rename(tmp_path / "$\\frac{$ a\nb \x1b \udcff.png")  # no formula
        options = ("--hr", odd, "--scale", "2", "-o", tmp_path / "c.svg", "--numbers", "none")
        draw("crops", "bicubic", odd, *options)
        assert titles(drawn[0])[1] == r"\$\frac{\$ a\nb \x1b \udcff"
        text = drawn[0].axes[1].title
        assert text._preprocess_math(text.get_text())[1] is False  # matplotlib's own word

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--box", "1,2"), "--box is '1,2'"),
            (("--box", "0,0,999,4"), "not inside the image of 80x64"),
            (("--box", "8", "--box", "8"), "1 images but 2 --box"),
            (("--numbers", "psmr"), "Did you mean 'psnr'"),
            (("--protocol", "y_matlap"), "Did you mean 'y_matlab'"),
            (("-o", "c.jpg"), "figures are .svg"),
        ],
    )
    def test_mistakes_are_told_before_any_network_runs(
        self,
        leaf: Path,
        edsr: Path,
        tmp_path: Path,
        options: tuple[str, ...],
        message: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(*_given: object) -> None:
            raise AssertionError("a network ran")

        monkeypatch.setattr(EDSR, "forward", refuse)
        target = ("-o", tmp_path / "c.png")
        with pytest.raises(EdgekeeperError) as told:
            draw("crops", edsr, "--hr", leaf, "--scale", "2", *target, *options)
        assert message in str(told.value)

    def test_a_folder_without_any_of_the_images(self, leaf: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="'empty' holds no result for 'leaf'"):
            draw("crops", tmp_path / "empty", "--hr", leaf, "-o", tmp_path / "c.png")

    @pytest.mark.data
    def test_published_images_have_their_published_numbers(
        self, data_root: Path, tmp_path: Path, drawn: list[Any]
    ) -> None:
        draw(
            "crops",
            data_root / "results" / "ESRGAN_Set14_x4",
            "--hr",
            "set14/baboon",
            "--hr",
            "set14/comic",
            "--protocol",
            "y_float",
            "-o",
            tmp_path / "c.pdf",
        )
        written = [[text.get_text() for text in axis.texts] for axis in drawn[0].axes]
        assert written[0] == ["20.32", "0.2031"] and written[2] == ["20.97", "0.1371"]


class TestGradients:
    def test_both_kinds(self, leaf: Path, edsr: Path, tmp_path: Path, drawn: list[Any]) -> None:
        options = ("--hr", leaf, "--scale", "2", "-o", tmp_path / "g.pdf")
        draw("gradients", "bicubic", edsr, *options)
        draw("gradients", "bicubic", edsr, "--kind", "length", "--box", "whole", *options)
        maps = [[axis for axis in figure.axes if axis.images] for figure in drawn]
        assert [len(found) for found in maps] == [6, 3]
        assert maps[1][0].images[0].get_array().shape == (64, 80)


class TestOneImage:
    def test_comparison_and_variances(
        self, leaf: Path, twig: Path, edsr: Path, tmp_path: Path
    ) -> None:
        options = ("bicubic", edsr, "--hr", leaf, "--scale", "2")
        draw("comparison", *options, "-o", tmp_path / "c.svg")
        printed = draw("variances", *options, "-o", tmp_path / "v.svg", "--patch", "4")
        assert "mean gradient variance" in printed and (tmp_path / "v.json").is_file()
        with pytest.raises(InputError, match="shows one image; give --hr once"):
            draw("comparison", *options, "--hr", twig, "-o", tmp_path / "c.svg")


class TestEdge:
    def test_the_explanation_needs_no_image(self, tmp_path: Path, drawn: list[Any]) -> None:
        draw("edge", "-o", tmp_path / "e.svg", force=False)
        with pytest.raises(InputError, match=r"exists; give another name, or --force"):
            draw("edge", "-o", tmp_path / "e.svg", force=False)
        assert titles(drawn[0]) == ["original", "blurry", "sharp"]

    def test_a_line_through_images(
        self, leaf: Path, edsr: Path, tmp_path: Path, drawn: list[Any]
    ) -> None:
        options = ("edge", "bicubic", edsr, "--hr", leaf, "--scale", "2", "-o", tmp_path / "e.png")
        assert "The line runs" in draw(*options, "--length", "9")
        printed = draw(*options, "--box", "30,40,1,1", "--length", "11")
        assert "through row 30, column 40." in printed
        assert titles(drawn[0]) == titles(drawn[1]) == ["original", "bicubic", "edsr"]
        assert len(drawn[1].axes[1].get_lines()[0].get_ydata()) == 11

    def test_mistakes(self, leaf: Path, tmp_path: Path) -> None:
        out = ("-o", tmp_path / "e.png")
        line = ("--hr", leaf)
        for given in (("bicubic",), line, ("--length", "9"), ("--box", "9")):
            with pytest.raises(InputError, match="needs both"):
                draw("edge", *given, *out)
        with pytest.raises(InputError, match="No line of 24 pixels"):
            draw("edge", "bicubic", *line, "--box", "3,4,1,1", *out)
        assert not (tmp_path / "e.png").exists()


class TestBranches:
    @pytest.fixture
    def wrapped(self, tmp_path: Path) -> Path:
        backbone = spec(EDSR, scale=2, width=4, blocks=1)
        description = spec(GradientBranch, backbone=backbone, width=4)
        return network(description, tmp_path / "wrapped.safetensors")

    def test_what_branches_predict(
        self, leaf: Path, twig: Path, spsr: Path, wrapped: Path, tmp_path: Path, drawn: list[Any]
    ) -> None:
        options = ("--hr", leaf, "--hr", twig, "--scale", "2", "-o", tmp_path / "b.svg")
        draw("branch", spsr, wrapped, *options)
        maps = ["M(original)", "M(bicubic)", "spsr: branch", "wrapped: branch"]
        assert titles(drawn[0]) == ["original", *maps]

    def test_dgggan(self, hr: Tensor, tmp_path: Path, drawn: list[Any]) -> None:
        net = network(spec(DGGGAN, width=4, blocks=3), tmp_path / "dgggan.safetensors")
        leaf = save(hr, tmp_path / "leaf.png")
        draw("branch", net, "--hr", leaf, "--box", "whole", "-o", tmp_path / "b.png")
        assert titles(drawn[0])[-1] == "dgggan: branch"
        plain = spec(DGGGAN, width=4, blocks=3, gradient_branch=False)
        with pytest.raises(InputError, match="built without its gradient branch"):
            draw(
                "branch",
                network(plain, tmp_path / "p.safetensors"),
                "--hr",
                leaf,
                "-o",
                tmp_path / "b.png",
            )

    def test_without_and_with(
        self, leaf: Path, spsr: Path, wrapped: Path, tmp_path: Path, drawn: list[Any]
    ) -> None:
        options = ("--hr", leaf, "--scale", "2", "-o", tmp_path / "b.svg")
        draw("guidance", spsr, *options)
        assert titles(drawn[0]) == ["without the branch", "with the branch", "original"]
        without, with_branch = (axis.images[0].get_array() for axis in drawn[0].axes[:2])
        assert (without != with_branch).any()
        draw("guidance", spsr, wrapped, *options)
        assert titles(drawn[1])[:2] == ["spsr without the branch", "spsr with the branch"]
        dgggan = network(spec(DGGGAN, scale=2, width=4, blocks=3), tmp_path / "dgggan.safetensors")
        draw("guidance", dgggan, *options)
        assert titles(drawn[2])[:2] == ["without the branch", "with the branch"]

    def test_networks_without_a_branch(self, leaf: Path, edsr: Path, tmp_path: Path) -> None:
        for figure in ("branch", "guidance"):
            with pytest.raises(InputError, match="has no gradient branch that serves here"):
                draw(figure, edsr, "--hr", leaf, "--scale", "2", "-o", tmp_path / "b.svg")


def test_an_unknown_figure_names_the_nearest() -> None:
    found = CliRunner().invoke(group, ["figure", "crop"])
    assert found.exit_code == 2
    assert "Did you mean 'crops'" in found.output


def test_every_figure_is_documented() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "figures.md").read_text(encoding="utf-8")
    missing = [figure.name for figure in FIGURES if f"edgekeeper figure {figure.name}" not in text]
    assert missing == []
