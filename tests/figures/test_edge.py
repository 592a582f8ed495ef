"""Tests of the one-dimensional edge."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.figures.curves import STEP, EdgeLine, Profile, edge, profiles_along, strongest_line
from edgekeeper.figures.rows import Panel
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_grey_gv

# |v[i + 1] - v[i - 1]| of the step and of the two attempts at it, worked out by hand.
DIFFERENCES = {
    "original": (0, 0, 1, 1, 0, 0),
    "blurry": (0.125, 0.375, 0.5, 0.5, 0.375, 0.125),
    "sharp": (0, 0.125, 0.875, 0.875, 0.125, 0),
}


@pytest.fixture
def wall() -> Tensor:
    """Dark left of column 30, bright from there on; the edge is strongest in row 17."""
    image = torch.full((1, 3, 40, 60), 0.3)
    image[..., 30:] = 0.6
    image[..., 16:19, 30:] = 0.9
    return image


def test_the_explanation(tmp_path: Path, drawn: list[Any]) -> None:
    assert {profile.label: profile.differences() for profile in STEP} == DIFFERENCES
    edge(STEP, path=tmp_path / "e.svg")
    axes = drawn[0].axes
    assert len(axes) == 6
    for number, (upper, lower) in enumerate(zip(axes[::2], axes[1::2], strict=True)):
        profile = STEP[number]
        assert upper.get_title() == profile.label
        assert tuple(upper.get_lines()[0].get_ydata()) == profile.values
        assert tuple(lower.get_lines()[0].get_ydata()) == profile.differences()
        assert tuple(lower.get_lines()[0].get_xdata()) == (1, 2, 3, 4, 5, 6)
        assert len(upper.collections) == (0 if number == 0 else 1)  # the truth behind it
    assert len({axis.get_ylim() for axis in axes[1::2]}) == 1


def test_the_strongest_line_crosses_the_edge(wall: Tensor) -> None:
    line = strongest_line(wall, length=10)
    assert (line.row, line.column, line.direction) == (17, 29, "across")
    turned = strongest_line(wall.transpose(-1, -2), length=10)
    assert (turned.row, turned.column, turned.direction) == (29, 17, "down")
    assert strongest_line(wall, length=10, part=Box(0, 20, 8, 20)).row < 8


def test_the_line_lies_in_the_image(wall: Tensor) -> None:
    near = wall.clone()
    near[..., 1:] = 0.3
    near[..., 0] = 1.0  # the strongest edge is where no line of 10 pixels fits across
    line = strongest_line(near, length=10)
    line.box().cut(near)
    assert line.box() == Box(line.row, line.column - 5, 1, 10)


@pytest.mark.parametrize("length", [2, 61])
def test_a_line_that_does_not_fit(wall: Tensor, length: int) -> None:
    with pytest.raises(InputError, match=f"No line of {length} pixels"):
        strongest_line(wall, length=length)


def test_profiles_are_the_grey_values_along_the_line(wall: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    other = torch.rand(wall.shape, generator=generator)
    for line, part in (
        (EdgeLine(17, 29, 8, "across"), (slice(17, 18), slice(25, 33))),
        (EdgeLine(17, 29, 8, "down"), (slice(13, 21), slice(29, 30))),
    ):
        first, second = profiles_along(wall, [Panel("other", other)], line=line)
        assert (first.label, second.label) == ("original", "other")
        expected = rgb_to_grey_gv(other)[0, 0][part].flatten()
        assert torch.allclose(torch.tensor(second.values), expected)
        assert second.image is not None and second.line is not None
        around = second.line.cut(second.image)
        assert torch.equal(around[0], other[0, :, part[0], part[1]])


def test_images_stand_above_their_curves(wall: Tensor, tmp_path: Path, drawn: list[Any]) -> None:
    profiles = profiles_along(wall, [Panel("same", wall)], line=strongest_line(wall, length=12))
    edge(profiles, path=tmp_path / "e.png")
    images = [axis for axis in drawn[0].axes if axis.images]
    assert [axis.get_title() for axis in images] == ["original", "same"]
    renderer = FigureCanvasAgg(drawn[0]).get_renderer()
    plots = [axis for axis in drawn[0].axes if not axis.images]
    highest = max(axis.get_tightbbox(renderer).y1 for axis in plots)
    assert all(axis.get_window_extent().y0 > highest for axis in images)


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    for profiles in (STEP[:1], (STEP[0], Profile("short", (0, 1, 0)))):
        with pytest.raises(InputError, match="two or more profiles of the same length"):
            edge(profiles, path=tmp_path / "e.svg")
    with pytest.raises(InputError, match="3 values or more"):
        edge([Profile("a", (0, 1)), Profile("b", (0, 1))], path=tmp_path / "e.svg")
