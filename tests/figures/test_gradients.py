"""Tests of maps of gradients: those of results on one scale, those that branches predict."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.figures.images import branch_maps, gradient_maps
from edgekeeper.figures.rows import Panel, Row
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.gradient import gradient_map


def shown(axis: Any) -> Tensor:
    return torch.from_numpy(np.array(axis.images[0].get_array()))


def with_images(figure: Any) -> list[Any]:
    """The axes of images and maps, without the colour bar."""
    return [axis for axis in figure.axes if axis.images]


def by_hand(image: Tensor) -> np.ndarray[Any, Any]:
    """Mean over R, G and B of the length of the central differences, borders repeated."""
    padded = np.pad(image[0].double().numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    x = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    y = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    mean: np.ndarray[Any, Any] = np.sqrt(x**2 + y**2 + 1e-6).mean(axis=0)
    return mean


class TestLength:
    def test_the_map_is_that_of_the_definition(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
    ) -> None:
        box = Box(4, 2, 30, 40)
        gradient_maps([Row(hr, panels, box=box)], path=tmp_path / "m.svg", kind="length")
        axes = with_images(drawn[0])
        assert [axis.get_title() for axis in axes[:3]] == ["original", "without GV", "with GV"]
        for axis, image in zip(axes, [hr, *(p.image for p in panels)], strict=False):
            expected = by_hand(image)[4:34, 2:42]
            assert np.allclose(shown(axis).numpy(), expected, atol=1e-6)

    def test_one_scale_for_all_rows(
        self, hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
    ) -> None:
        whole = Box(0, 0, 64, 80)
        pale = [Panel(p.label, p.image * 0.5) for p in panels]
        rows = [Row(hr * 0.5, pale, box=whole), Row(hr, panels, box=whole)]
        gradient_maps(rows, path=tmp_path / "m.png", kind="length")
        limits = {axis.images[0].get_clim() for axis in with_images(drawn[0])[:6]}
        assert len(limits) == 1
        assert limits.pop() == pytest.approx((0, by_hand(hr).max()), rel=1e-5)


@pytest.fixture
def row(hr: Tensor) -> Row:
    return Row(hr, [Panel("net: branch", gradient_map(hr) + 0.01)], "name", Box(0, 0, 64, 80))


def interpolated(row: Row) -> Tensor:
    return torch.nn.functional.avg_pool2d(row.hr, 5, 1, padding=2, count_include_pad=False)


def draw_branches(*rows: Row, path: Path, **options: Any) -> None:
    branch_maps(rows, bicubic=[interpolated(row) for row in rows], path=path, **options)


class TestBranchMaps:
    def test_target_interpolation_and_output(
        self, row: Row, tmp_path: Path, drawn: list[Any]
    ) -> None:
        draw_branches(row, path=tmp_path / "b.pdf")
        image, *axes = with_images(drawn[0])[:4]
        assert torch.equal(shown(image).permute(2, 0, 1), row.hr[0, :, 1:-1, 1:-1])
        assert [a.get_title() for a in axes] == ["M(original)", "M(bicubic)", "net: branch"]
        sources = (gradient_map(row.hr), gradient_map(interpolated(row)), row.panels[0].image)
        for axis, expected in zip(axes, sources, strict=True):
            # The outermost ring, where M sees the zeros beyond the border, is left out.
            inner = expected.clamp(0, 1).mean(dim=1)[0, 1:-1, 1:-1]
            assert torch.allclose(shown(axis), inner, atol=1e-6)
        assert len({axis.images[0].get_clim() for axis in axes}) == 1

    def test_distances(self, row: Row, tmp_path: Path, drawn: list[Any]) -> None:
        draw_branches(row, path=tmp_path / "b.svg")
        target, other, made = (axis.texts[0] for axis in with_images(drawn[0])[1:4])
        assert target.get_text() == "mean |difference| ↓"
        assert (made.get_text(), made.get_weight()) == ("0.0100", "bold")
        distance = (gradient_map(interpolated(row)) - gradient_map(row.hr)).abs()
        inner = distance[..., 1:-1, 1:-1].mean().item()
        assert float(other.get_text()) == pytest.approx(inner, abs=6e-5)
        assert other.get_weight() == "normal"

    def test_luma_networks_are_compared_on_luma(
        self, row: Row, tmp_path: Path, drawn: list[Any]
    ) -> None:
        output = Panel("y: branch", gradient_map(rgb_to_y(row.hr)))
        luma = Row(row.hr, [output], box=row.box)
        draw_branches(luma, path=tmp_path / "b.svg")
        assert with_images(drawn[0])[3].texts[0].get_text() == "0.0000"
        mixed = Row(row.hr, [*row.panels, output])
        with pytest.raises(InputError, match="all work on RGB or all on luma"):
            draw_branches(mixed, path=tmp_path / "b.svg")

    def test_a_map_of_another_size(self, row: Row, tmp_path: Path) -> None:
        wrong = Row(row.hr, [Panel("net", row.panels[0].image[..., 1:])])
        with pytest.raises(InputError, match="the original's size"):
            draw_branches(wrong, path=tmp_path / "b.svg")

    def test_a_box_of_border_alone(self, row: Row, tmp_path: Path) -> None:
        thin = Row(row.hr, row.panels, box=Box(0, 0, 1, 80))
        with pytest.raises(InputError, match="nothing but the border"):
            draw_branches(thin, path=tmp_path / "b.svg")
        outside = Row(row.hr, row.panels, box=Box(0, 0, 65, 80))
        with pytest.raises(InputError, match="not inside the image"):
            draw_branches(outside, path=tmp_path / "b.svg")

    def test_no_rows(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="at least one original"):
            draw_branches(path=tmp_path / "b.svg")
