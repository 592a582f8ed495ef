"""Fidelity against sharpness: one point a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekeeper.errors import InputError
from edgekeeper.figures.canvas import COLOURS, PALE, figure_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

# Where a label may stand, in points from its point; the first of equally good places is taken.
PLACES = ((8, 0), (-8, 0), (0, 8), (0, -8), (7, 7), (-7, 7), (7, -7), (-7, -7))


@dataclass(frozen=True)
class Point:
    """A network in the plane of fidelity and sharpness; points of a ``group`` are joined."""

    label: str
    psnr: float
    gv_ratio: float
    group: str = ""


def frontier(points: Sequence[Point], *, path: str | Path, title: str = "") -> Path:
    """The file with PSNR against gradient variance ratio; a ratio of 1 is the original's sharpness.

    Points of one group share a colour and are joined in the order given. All numbers must be of
    the same set, scale and protocol.
    """
    if not points:
        raise InputError("There are no points to draw; give at least one.")
    groups = list(dict.fromkeys(point.group for point in points))
    with figure_file(path, width=6.4, height=4.2) as figure:
        axis = figure.subplots()
        axis.axhline(1.0, color=PALE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        for number, group in enumerate(groups):
            members = [point for point in points if point.group == group]
            axis.plot(
                [point.psnr for point in members],
                [point.gv_ratio for point in members],
                marker="o",
                markersize=6,
                linewidth=1 if group else 0,
                color=COLOURS[number % len(COLOURS)],
                label=group or None,
            )
        axis.margins(0.15)
        axis.set_xlabel("PSNR in dB: more faithful →")
        axis.set_ylabel("gradient variance ratio (1: as sharp as the original)")
        axis.set_title(title, loc="left")
        if any(groups):
            axis.legend(loc="best")
        _label_points(figure, axis, points)
    return Path(path)


def _label_points(figure: "Figure", axis: "Axes", points: Sequence[Point]) -> None:
    """Write each label beside its point, at the place that covers least of what is drawn."""
    figure.draw_without_rendering()  # the layout decides where a point lies
    figure.set_layout_engine("none")
    drawn = _drawn(axis)
    for point in points:
        candidates = []
        for dx, dy in PLACES:
            text = axis.annotate(
                point.label,
                (point.psnr, point.gv_ratio),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                fontsize=8,
            )
            extent = text.get_window_extent()
            inside = ((drawn >= extent.min) & (drawn <= extent.max)).all(axis=1)
            candidates.append((int(inside.sum()), text, extent))
        best = min(candidates, key=lambda candidate: candidate[0])
        for _, text, _ in candidates:
            if text is not best[1]:
                text.remove()
        drawn = np.concatenate([drawn, _grid(best[2])])


def _drawn(axis: "Axes") -> NDArray[np.float64]:
    """Pixels (N, 2) on the markers, lines and legend: what a label should not cover."""
    found = []
    for line in axis.get_lines():
        corners = axis.transData.transform(line.get_xydata())
        if line.get_marker() == "o":
            found.append(np.repeat(corners, 20, axis=0))  # to cover a point is worst
        if line.get_linewidth() > 0:
            steps = np.linspace(0, 1, 60)[:, None]
            found += [a + steps * (b - a) for a, b in pairwise(corners)]
    legend = axis.get_legend()
    if legend is not None:
        found.append(_grid(legend.get_window_extent()))
    return np.concatenate(found)


def _grid(extent: "Bbox") -> NDArray[np.float64]:
    """Points (N, 2) that fill a rectangle."""
    x, y = (np.linspace(low, high, 12) for low, high in zip(extent.min, extent.max, strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
