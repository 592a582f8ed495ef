"""Tests of figures: what is drawn, what is written, what is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekeeper.errors import ImageError, InputError, UnavailableError
from edgekeeper.figures.curves import variance_curves
from edgekeeper.figures.images import comparison, crops, gradient_maps
from edgekeeper.figures.points import CostPoint, Point, frontier, quality_cost
from edgekeeper.figures.rows import Panel, Row, enlarged_box, structured_box
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.metrics import gv_gap, psnr, ssim
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_grey_gv


class TestBox:
    def test_the_box_of_most_structure(self, hr: Tensor) -> None:
        box = structured_box(hr, side=16)
        assert (box.top, box.left, box.height, box.width) == (40, 24, 16, 16)

    def test_lines_count_for_more_than_fur(self) -> None:
        torch.manual_seed(0)
        hr = torch.full((1, 3, 160, 240), 0.5)
        hr[..., :80, :80] = (0.5 + 0.25 * torch.randn(1, 1, 80, 80)).clamp(0, 1)  # fur
        hr[..., 80:, 120:] += 0.3 * (torch.arange(120) // 4 % 2 * 2 - 1)  # whiskers, as strong
        box = structured_box(hr, side=48)
        assert box.top >= 72 and box.left >= 112, box

    @pytest.mark.data
    def test_the_baboon_shows_its_whiskers(self, data_root: Path) -> None:
        hr = to_rgb_tensor(
            read_image(data_root / "benchmarks/Set14/image_SRF_4/img_001_SRF_4_HR.png")
        )
        box = enlarged_box(hr)
        assert box.top > hr.shape[-2] / 2 and box.left < 160, box  # beside the nose, on the left

    def test_it_is_never_larger_than_the_image(self, hr: Tensor) -> None:
        box = structured_box(hr, side=500)
        assert (box.height, box.width) == (64, 64)
        box.cut(hr)

    def test_cut(self) -> None:
        x = torch.arange(20.0).view(1, 1, 4, 5)
        assert Box(1, 2, 2, 3).cut(x).flatten().tolist() == [7, 8, 9, 12, 13, 14]

    @pytest.mark.parametrize(
        "box", [Box(-1, 0, 2, 2), Box(0, 4, 2, 2), Box(3, 0, 2, 2), Box(0, 0, 0, 2)]
    )
    def test_outside(self, box: Box) -> None:
        with pytest.raises(InputError, match="not inside the image of 5x4"):
            box.cut(torch.zeros(1, 1, 4, 5))


class TestGradientMaps:
    def test_the_bar_is_no_shorter_than_its_text(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
    ) -> None:
        for box in (Box(0, 0, 64, 80), Box(40, 0, 24, 80)):
            row = Row(hr, panels, box=box)
            gradient_maps([row], path=tmp_path / "maps.png", kind="length")
            drawn[-1].draw_without_rendering()
            bar = drawn[-1].axes[-1]
            room, text = bar.get_window_extent(), bar.yaxis.label.get_window_extent()
            assert text.height <= room.height + 0.5

    def test_one_scale_for_all_panels(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
    ) -> None:
        gradient_maps([Row(hr, panels, box=Box(0, 0, 64, 80))], path=tmp_path / "maps.png")
        images = [axis.images[0] for axis in drawn[0].axes if axis.images]
        assert len(images) == 6
        assert len({image.get_clim() for image in images}) == 1
        # the maximum of the original's Sobel maps, by scipy
        ndimage = pytest.importorskip("scipy.ndimage")
        grey = rgb_to_grey_gv(hr)[0, 0].double().numpy()
        top = max(np.abs(ndimage.sobel(grey, axis=k, mode="nearest")).max() for k in (0, 1))
        assert images[0].get_clim() == pytest.approx((0, top), rel=1e-5)

    def test_rows_are_x_and_y(self, panels: list[Panel], tmp_path: Path, drawn: list[Any]) -> None:
        ramp = torch.linspace(0, 1, 40).expand(1, 3, 40, 40).clone()  # grows along x only
        gradient_maps([Row(ramp, [Panel("same", ramp)])], path=tmp_path / "maps.svg")
        x, _, y, _ = (axis.images[0].get_array() for axis in drawn[0].axes[:4])
        assert x[5:-5, 5:-5].min() > 0.1
        assert np.abs(y).max() < 1e-5


class TestVarianceCurves:
    def test_variances_by_numpy(self, hr: Tensor, panels: list[Panel], tmp_path: Path) -> None:
        ndimage = pytest.importorskip("scipy.ndimage")
        box = Box(32, 16, 16, 24)
        curves = variance_curves(hr, panels, path=tmp_path / "curves.svg", box=box)
        grey = rgb_to_grey_gv(hr)[0, 0].double().numpy()
        part = ndimage.sobel(grey, axis=1, mode="nearest")[32:48, 16:40]
        expected = [
            part[top : top + 8, left : left + 8].var(ddof=1)
            for top in (0, 8)
            for left in (0, 8, 16)
        ]
        assert curves.x["original"] == pytest.approx(expected, rel=1e-4)
        assert list(curves.y) == ["original", "without GV", "with GV"]

    def test_expected_order_of_the_means(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path
    ) -> None:
        means = variance_curves(hr, panels, path=tmp_path / "curves.svg").means()
        assert means["original"] > means["with GV"] > means["without GV"] > 0

    def test_arrays_are_written_beside(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path
    ) -> None:
        curves = variance_curves(
            hr, panels, path=tmp_path / "curves.pdf", patch=16, box=Box(0, 8, 64, 64)
        )
        stored = json.loads((tmp_path / "curves.json").read_text())
        assert (stored["x"], stored["y"], stored["patch"]) == (curves.x, curves.y, 16)
        assert len(stored["x"]["original"]) == 16
        assert stored["box"] == {"top": 0, "left": 8, "height": 64, "width": 64}

    def test_same_axes(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
    ) -> None:
        variance_curves(hr, panels, path=tmp_path / "curves.svg")
        upper, lower = drawn[0].axes
        assert upper.get_ylim() == lower.get_ylim() and upper.get_xlim() == lower.get_xlim()

    def test_a_part_smaller_than_a_patch(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match="No patch of 8x8"):
            variance_curves(hr, panels, path=tmp_path / "c.svg", box=Box(0, 0, 6, 6))


class TestCrops:
    def test_the_same_part_of_every_image(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
    ) -> None:
        box = Box(40, 24, 8, 12)
        crops([Row(hr, panels, box=box)], path=tmp_path / "crops.png")
        axes = drawn[0].axes
        assert [axis.get_title() for axis in axes] == ["without GV", "with GV", "original"]
        for axis, image in zip(axes, [*(p.image for p in panels), hr], strict=True):
            shown = torch.from_numpy(np.array(axis.images[0].get_array())).permute(2, 0, 1)
            assert torch.equal(shown, image[0, :, 40:48, 24:36])


class TestFrontier:
    POINTS = (
        Point("w=0", 30.0, 0.6, "ESPCN"),
        Point("w=0.01", 30.001, 0.6005, "ESPCN"),
        Point("w=0.1", 30.002, 0.601, "ESPCN"),
        Point("bicubic", 28.0, 0.4),
    )

    def test_labels_do_not_overlap(self, tmp_path: Path, drawn: list[Any]) -> None:
        frontier(self.POINTS, path=tmp_path / "f.png")
        extents = [text.get_window_extent() for text in drawn[0].axes[0].texts]
        assert len(extents) == 4
        for k, extent in enumerate(extents):
            assert not any(extent.overlaps(other) for other in extents[k + 1 :])

    def test_labels_of_a_crowd_cover_neither_each_other_nor_points(
        self, tmp_path: Path, drawn: list[Any]
    ) -> None:
        crowd = [
            Point(f"network_{k}_x4", 30 + 0.06 * (k % 3), 0.6 + 0.01 * (k // 3)) for k in range(9)
        ]
        frontier([*crowd, Point("far", 32.0, 0.9)], path=tmp_path / "f.png")
        drawn[0].draw_without_rendering()
        axis = drawn[0].axes[0]
        extents = [text.get_window_extent() for text in axis.texts if text.get_text()]
        assert len(extents) == 10
        spots = axis.transData.transform([(p.psnr, p.gv_ratio) for p in crowd])
        for k, extent in enumerate(extents):
            assert not any(extent.overlaps(other) for other in extents[k + 1 :])
            assert not any(extent.contains(*spot) for spot in spots)

    def test_groups_are_joined_and_named_once(self, tmp_path: Path, drawn: list[Any]) -> None:
        frontier(self.POINTS, path=tmp_path / "f.svg")
        axis = drawn[0].axes[0]
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["ESPCN"]
        espcn = axis.get_lines()[1]
        assert espcn.get_xdata().tolist() == [30.0, 30.001, 30.002]

    def test_a_group_of_one_has_its_label_in_the_legend(
        self, tmp_path: Path, drawn: list[Any]
    ) -> None:
        frontier([*self.POINTS, Point("0.01", 29.9, 0.7, "ramp")], path=tmp_path / "f.svg")
        axis = drawn[0].axes[0]
        legend = [text.get_text() for text in axis.get_legend().get_texts()]
        assert legend == ["ESPCN", "ramp (0.01)"]
        assert "0.01" not in {text.get_text() for text in axis.texts}

    def test_nothing_to_draw(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="at least one"):
            frontier([], path=tmp_path / "f.svg")


class TestComparison:
    def test_numbers_are_those_of_the_metrics(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
    ) -> None:
        comparison(hr, panels, path=tmp_path / "c.png", scale=2, protocol="rgb_matlab")
        texts = [text for part in (drawn[0], *drawn[0].axes) for text in part.texts]
        written = {text.get_text(): text.get_weight() for text in texts}
        for measure, digits, best in ((psnr, 2, 1), (ssim, 4, 1), (gv_gap, 3, 1)):
            for k, panel in enumerate(panels):
                value = measure(panel.image, hr, protocol="rgb_matlab", scale=2).item()
                weight = "bold" if k == best else "normal"
                assert written[f"{value:.{digits}f}"] == weight
        assert any("rgb_matlab" in text for text in written)

    def test_titles(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
    ) -> None:
        comparison(hr, panels, path=tmp_path / "c.svg", scale=2)
        titles = {axis.get_title() for axis in drawn[0].axes}
        whole = "the original and the part shown"
        assert {whole, "without GV", "with GV", "original"} <= titles

    def test_a_tall_image_and_one_panel(self, tmp_path: Path) -> None:
        tall = torch.rand(1, 3, 120, 40, generator=torch.Generator().manual_seed(1))
        comparison(tall, [Panel("same", tall)], path=tmp_path / "c.png", scale=2)
        pixels = read_image(tmp_path / "c.png").pixels
        assert pixels.shape[0] > 400 and pixels.shape[1] > 600


class TestFiles:
    @pytest.mark.parametrize(
        ("ending", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
    )
    def test_the_ending_says_the_format(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, ending: str, start: bytes
    ) -> None:
        path = crops([Row(hr, panels)], path=tmp_path / f"c.{ending}")
        assert path.read_bytes().startswith(start)
        assert [file.name for file in tmp_path.iterdir()] == [f"c.{ending}"]

    @pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
    def test_equal_figures_are_equal_files(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, ending: str
    ) -> None:
        first = crops([Row(hr, panels)], path=tmp_path / f"a.{ending}").read_bytes()
        assert crops([Row(hr, panels)], path=tmp_path / f"b.{ending}").read_bytes() == first

    def test_other_endings_are_refused(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=r"ends in '\.jpg'; figures are \.svg"):
            crops([Row(hr, panels)], path=tmp_path / "c.jpg")

    def test_a_folder_that_is_missing(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path
    ) -> None:
        with pytest.raises(ImageError, match="there is no folder"):
            crops([Row(hr, panels)], path=tmp_path / "missing" / "c.png")

    def test_without_matplotlib(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(UnavailableError, match=r"pip install 'edgekeeper\[figures\]'"):
            crops([Row(hr, panels)], path=tmp_path / "c.png")

    def test_the_callers_style_is_left_alone(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path
    ) -> None:
        import matplotlib

        before = dict(matplotlib.rcParams)
        crops([Row(hr, panels)], path=tmp_path / "c.png")
        assert dict(matplotlib.rcParams) == before


class TestWrongImages:
    def test_another_size(self, hr: Tensor, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="'small' is"):
            crops([Row(hr, [Panel("small", hr[..., :32, :32])])], path=tmp_path / "c.png")

    def test_labels_must_differ(self, hr: Tensor, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="own label"):
            crops([Row(hr, [Panel("a", hr), Panel("a", hr)])], path=tmp_path / "c.png")
        with pytest.raises(InputError, match="own label"):
            crops([Row(hr, [Panel("original", hr)])], path=tmp_path / "c.png")

    def test_a_batch(self, hr: Tensor, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="one RGB image"):
            crops([Row(hr.repeat(2, 1, 1, 1), [])], path=tmp_path / "c.png")


def test_quality_cost_has_no_empty_panels(tmp_path: Path, drawn: list[Any]) -> None:
    points = [
        CostPoint("a", 1e4, 0.1, 30.0, 0.2),
        CostPoint("b", None, None, 31.0, None, origin="others", time=2.0),
    ]
    quality_cost(points, path=tmp_path / "q.png")
    axes = drawn[0].axes
    assert len(axes) == 5  # of six: nobody has LPIPS and a relative time
    assert all(any(len(line.get_xdata()) for line in axis.get_lines()) for axis in axes)
