"""Fidelity against sharpness: one point a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekeeper.errors import InputError
from edgekeeper.figures.canvas import COLOURS, PALE, figure_file
from edgekeeper.figures.labels import label_points


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
        figure.draw_without_rendering()  # the layout decides where a point lies
        figure.set_layout_engine("none")
        label_points(axis, [(point.label, point.psnr, point.gv_ratio) for point in points])
    return Path(path)
