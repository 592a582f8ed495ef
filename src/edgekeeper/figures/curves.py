"""Curves: an edge along a line, and the gradient variance of every patch.

``edge`` is figure 3 of SPSR (Ma et al., CVPR 2020): a step, blurred and sharp, and why the central
differences tell them apart. ``variance_curves`` is figure 2 of the gradient variance paper
(Abrahamyan et al., ICASSP 2022). Both for any original and any results.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from edgekeeper.errors import ImageError, InputError
from edgekeeper.figures.canvas import COLOURS, PALE, as_drawn, figure_file, frame, show, write_title
from edgekeeper.figures.rows import Panel, grey_gradients, structured_box, with_original
from edgekeeper.files import write_text
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.gradient import central
from edgekeeper.ops.structure import patch_variances

WIDTH, HEIGHT = 2.3, 1.35  # of a plot of an edge, in inches


@dataclass(frozen=True)
class Profile:
    """Grey values in [0, 1] along a line.

    ``image`` (1, 3, H, W) is what is around the line, if it is known, ``line`` its place there.
    """

    label: str
    values: tuple[float, ...]
    image: Tensor | None = None
    line: Box | None = None

    def differences(self) -> tuple[float, ...]:
        """Return the size of v[i + 1] - v[i - 1], not halved, for all places but the two ends."""
        line = torch.tensor(self.values, dtype=torch.float64).expand(1, 1, 3, -1)
        return tuple(central(line, border="valid").x.abs().flatten().tolist())


STEP = (
    Profile("original", (0, 0, 0, 0, 1, 1, 1, 1)),
    Profile("blurry", (0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1)),
    Profile("sharp", (0, 0, 0, 0.125, 0.875, 1, 1, 1)),
)
"""A step and two attempts at it: what SPSR's figure 3 explains the gradient with."""


@dataclass(frozen=True)
class EdgeLine:
    """A line of ``length`` pixels through the pixel (row, column), which is its middle."""

    row: int
    column: int
    length: int
    direction: Literal["across", "down"]

    def box(self) -> Box:
        """Return the pixels of the line."""
        before = self.length // 2
        if self.direction == "across":
            return Box(self.row, self.column - before, 1, self.length)
        return Box(self.row - before, self.column, self.length, 1)

    def square(self, image: Tensor) -> Box:
        """Return the square of the image around the line, as far as the image reaches."""
        height, width = image.shape[-2:]
        before, after = self.length // 2, self.length - self.length // 2
        top, left = max(self.row - before, 0), max(self.column - before, 0)
        bottom, right = min(self.row + after, height), min(self.column + after, width)
        return Box(top, left, bottom - top, right - left)


def strongest_line(hr: Tensor, *, length: int = 24, part: Box | None = None) -> EdgeLine:
    """Return the line across the strongest edge of the original, in ``part`` or anywhere.

    It runs across or down, whichever is nearer to the edge's normal; InputError if none fits.
    """
    height, width = hr.shape[-2:]
    before, after = length // 2, length - length // 2
    gradients = grey_gradients(hr)
    strengths = torch.full((2, height, width), -1.0)  # across, down; below 0 no line fits
    rows, columns = (slice(before, side - after + 1) for side in (height, width))
    strengths[0, :, columns] = gradients.x[0, 0, :, columns].abs()
    strengths[1, rows] = gradients.y[0, 0, rows].abs()
    if part is not None:
        outside = torch.ones(height, width, dtype=torch.bool)
        part.cut(outside)[:] = False
        strengths[:, outside] = -1.0
    if length < 3 or float(strengths.max()) < 0:
        raise InputError(
            f"No line of {length} pixels (3 or more) fits there; choose a shorter one or another "
            "part of the image."
        )
    axis, place = divmod(int(strengths.flatten().argmax()), height * width)
    row, column = divmod(place, width)
    return EdgeLine(row, column, length, "across" if axis == 0 else "down")


def profiles_along(hr: Tensor, panels: Sequence[Panel], *, line: EdgeLine) -> list[Profile]:
    """Return the grey values of the original and of each panel along a line, the original first."""
    box, square = line.box(), line.square(hr)
    place = Box(box.top - square.top, box.left - square.left, box.height, box.width)
    found = []
    for label, image in with_original(hr, panels, first=True).items():
        grey = rgb_to_grey_gv(image.detach().cpu().float().clamp(0, 1))
        values = tuple(box.cut(grey).double().flatten().tolist())
        found.append(Profile(label, values, square.cut(image), place))
    return found


def edge(profiles: Sequence[Profile], *, path: str | Path) -> list[Profile]:
    """Return the profiles drawn: values above, central differences below, one column each.

    The first is the truth; it stands as a grey area behind the others. Images, where the
    profiles have them, are drawn on top with the line in them.
    Raises InputError: one profile, other lengths.
    """
    if len(profiles) < 2 or len({len(profile.values) for profile in profiles}) != 1:
        raise InputError("Give two or more profiles of the same length, the true one first.")
    if len(profiles[0].values) < 3:
        raise InputError("A profile needs 3 values or more to have a difference.")
    shapes = [profile.image.shape for profile in profiles if profile.image is not None]
    above = [WIDTH * shapes[0][-2] / shapes[0][-1]] if shapes else []
    heights = [*above, HEIGHT, HEIGHT]
    size = {"width": 0.6 + WIDTH * len(profiles), "height": sum(heights) + 0.8}
    steepest = max(1e-3, *(max(profile.differences()) for profile in profiles))
    with figure_file(path, layout="compressed", **size) as figure:
        grid = figure.add_gridspec(len(heights), len(profiles), height_ratios=heights)
        for column, profile in enumerate(profiles):
            *_, upper, lower = axes = [
                figure.add_subplot(grid[row, column]) for row in range(len(heights))
            ]
            if profile.image is not None and profile.line is not None:
                show(axes[0], profile.image)
                frame(axes[0], profile.line)
            write_title(axes[0], profile.label, width=WIDTH)
            for axis, values, true, start, top in (
                (upper, profile.values, profiles[0].values, 0, 1.0),
                (lower, profile.differences(), profiles[0].differences(), 1, steepest),
            ):
                places = range(start, start + len(values))
                if column:
                    axis.fill_between(places, true, color="#dddddd", linewidth=0)
                colour = COLOURS[1] if column else PALE
                axis.plot(places, values, color=colour, linewidth=1.4, marker="o", markersize=3)
                axis.set_ylim(-0.05 * top, 1.05 * top)
                axis.set_xlim(-0.5, len(profile.values) - 0.5)
                axis.tick_params(labelleft=column == 0)
            upper.tick_params(labelbottom=False)
            lower.set_xlabel("pixel")
            if column == 0:
                upper.set_ylabel("value")
                lower.set_ylabel("|difference|")
    return list(profiles)


@dataclass(frozen=True)
class VarianceCurves:
    """Gradient variance of every patch, row by row: label -> (patches,), for each direction."""

    x: dict[str, list[float]]
    y: dict[str, list[float]]

    def means(self) -> dict[str, float]:
        """Return the mean over patches and both directions, by label."""
        return {
            label: sum(self.x[label] + self.y[label]) / (2 * len(self.x[label])) for label in self.x
        }


def variance_curves(
    hr: Tensor, panels: Sequence[Panel], *, path: str | Path, patch: int = 8, box: Box | None = None
) -> VarianceCurves:
    """Return the curves drawn: gradient variance of every patch, x and y direction.

    The arrays are also written beside the figure as JSON. Gradients are taken in the whole image,
    then ``box`` is cut into patches. Expected means: original > with the loss > without it.
    Raises InputError: a box without a patch.
    """
    part = box or structured_box(hr, side=128)
    if min(part.height, part.width) < patch:
        raise InputError(f"No patch of {patch}x{patch} pixels fits into the part shown.")
    curves = VarianceCurves({}, {})
    for label, image in with_original(hr, panels, first=True).items():
        maps = grey_gradients(image)
        for series, values in ((curves.x, maps.x), (curves.y, maps.y)):
            found = patch_variances(part.cut(values).double(), patch=patch)
            series[label] = found.flatten().tolist()
    with figure_file(path, width=8.0, height=4.6) as figure:
        axes = figure.subplots(2, 1, sharex=True, sharey=True)
        for axis, series, name in zip(axes, (curves.x, curves.y), "xy", strict=True):
            for number, (label, line) in enumerate(series.items()):
                places = range(len(line))
                if number == 0:  # a grey area, which the others' lines are read against
                    axis.fill_between(places, line, color="#d9d9d9", linewidth=0, label=label)
                else:
                    colour = COLOURS[(number - 1) % len(COLOURS)]
                    axis.plot(places, line, color=colour, linewidth=0.9, label=label)
            axis.margins(x=0.005)
            axis.set_ylim(bottom=0)
            axis.set_ylabel(f"variance of G{name}")
        axes[1].set_xlabel(f"patch of {patch}×{patch} pixels, row by row")
        handles, labels = axes[0].get_legend_handles_labels()
        means = curves.means()
        texts = [f"{as_drawn(label)}   mean {means[label]:.4f}" for label in labels]
        figure.legend(handles, texts, loc="outside upper left", ncols=len(labels))
    content = {"patch": patch, "box": asdict(part), **asdict(curves)}
    write_text(Path(path).with_suffix(".json"), json.dumps(content), error=ImageError)
    return curves
