"""Networks as points: fidelity against sharpness, and quality against cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgekeeper.errors import InputError
from edgekeeper.evaluation.study_answers import StudyResult
from edgekeeper.figures.canvas import COLOURS, PALE, as_drawn, figure_file, settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Quality = Literal["psnr", "lpips"]
Price = Literal["macs", "seconds", "time"]

QUALITIES: dict[Quality, str] = {"psnr": "PSNR in dB", "lpips": "LPIPS (up is better)"}
PRICES: dict[Price, str] = {
    "macs": "MACs per LR pixel",
    "seconds": "seconds",
    "time": "time; edsr_light_x4's counts 6.2",
}
ORIGINS = {
    "measured": "measured here",
    "quoted": "quoted: quality from the papers' tables, MACs counted here",
    "others": "others' networks, trained for long on DF2K",
}
# Where a label may stand, in points from its point; the first of equally good places is taken.
_NEAR = ((8, 0), (-8, 0), (0, 8), (0, -8), (7, 7), (-7, 7), (7, -7), (-7, -7))
PLACES = (
    *_NEAR,
    *((9, 14), (-9, 14), (9, -14), (-9, -14)),
    *((far * x, far * y) for far in (3, 5, 7) for x, y in _NEAR),  # at the end of a line
)
_WITHOUT_LINE = 13  # points up to which a label needs no line to its point


@dataclass(frozen=True)
class Point:
    """A network in the plane of fidelity and sharpness; points of a ``group`` are joined."""

    label: str
    psnr: float
    gv_ratio: float
    group: str = ""


def frontier(points: Sequence[Point], *, path: str | Path) -> Path:
    """Return the file with PSNR against gradient variance ratio; at 1 it is as the original's.

    Points of one group are joined in the order given; one point has its label in the legend.
    Raises InputError: no points.
    """
    if not points:
        raise InputError("There are no points to draw; give at least one.")
    groups = list(dict.fromkeys(point.group for point in points))
    beside = []
    with figure_file(path, width=6.4, height=4.2) as figure:
        axis = figure.subplots()
        axis.axhline(1.0, color=PALE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        for number, group in enumerate(groups):
            members = [point for point in points if point.group == group]
            alone = group and len(members) == 1
            if not alone:
                beside += [(point.label, point.psnr, point.gv_ratio) for point in members]
            axis.plot(
                [point.psnr for point in members],
                [point.gv_ratio for point in members],
                marker="o",
                markersize=6,
                linewidth=1 if group else 0,
                color=COLOURS[number % len(COLOURS)],
                label=f"{group} ({members[0].label})" if alone else group or None,
            )
        axis.margins(0.15)
        axis.set_xlabel("PSNR in dB: more faithful →")
        axis.set_ylabel("gradient variance ratio (1: as sharp as the original)")
        if any(groups):
            axis.legend(loc="best")
        settle(figure)
        label_points(axis, beside)
    return Path(path)


@dataclass(frozen=True)
class CostPoint:
    """A network's quality and cost; None for what is not known.

    time: on the scale of ``benchmarks/ladder.py``. origin: "measured", "quoted" where the
    quality is a paper's number, or "others" for networks that others trained, measured here.
    """

    label: str
    macs: float | None = None
    seconds: float | None = None
    psnr: float | None = None
    lpips: float | None = None
    origin: Literal["measured", "quoted", "others"] = "measured"
    time: float | None = None

    def at(self, price: Price, quality: Quality) -> tuple[float, float] | None:
        """Return where the point stands in a panel, None where it has no place in it."""
        x, y = getattr(self, price), getattr(self, quality)
        return None if x is None or y is None else (x, y)


def quality_cost(
    points: Sequence[CostPoint], *, path: str | Path, title: str = "", clock: str = ""
) -> Path:
    """Return the file with PSNR and LPIPS against MACs per LR pixel, seconds and relative time.

    A row or column for which no point has numbers is left out; up is always better. ``title`` and
    ``clock`` say of what set, scale, machine and size all are. Raises InputError: nothing to draw.
    """
    qualities = [q for q in QUALITIES if any(p.at(price, q) for p in points for price in PRICES)]
    prices = [price for price in PRICES if any(p.at(price, q) for p in points for q in QUALITIES)]
    if not qualities or not prices:
        raise InputError("No network has both a quality and a cost; there is nothing to draw.")
    width, height = 4.6 * len(prices) + 0.6, 3.3 * len(qualities) + 0.7
    with figure_file(path, width=width, height=height) as figure:
        axes = figure.subplots(len(qualities), len(prices), squeeze=False, sharey="row")
        panels = {}  # axis -> points and their places
        for (row, column), axis in np.ndenumerate(axes):
            price, quality = prices[column], qualities[row]
            placed = [(p, at) for p in points if (at := p.at(price, quality))]
            if placed:
                panels[axis] = placed
            else:  # no network has both: an empty panel would say nothing
                axis.remove()
        present = [origin for origin in ORIGINS if any(p.origin == origin for p in points)]
        for axis, placed in panels.items():
            _draw_origins(axis, placed, present)
        for line, quality in zip(axes, qualities, strict=True):
            first = next(axis for axis in line if axis in panels)
            first.set_ylabel(QUALITIES[quality])
            first.tick_params(labelleft=True)
            if quality == "lpips":
                first.invert_yaxis()
        for column, price in zip(axes.T, prices, strict=True):
            kept = [axis for axis in column if axis in panels]
            for axis in kept:
                _scale_price(axis, price)
            unit = f" ({clock})" if price == "seconds" and clock else ""
            kept[-1].set_xlabel(PRICES[price] + unit)
        shown = next(iter(panels))
        shown.set_title(title, loc="left")
        handles, labels = shown.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2)
        settle(figure)
        for axis, placed in panels.items():
            label_points(axis, [(p.label, *at) for p, at in placed], size=7)
    return Path(path)


def _draw_origins(
    axis: "Axes", placed: Sequence[tuple[CostPoint, tuple[float, float]]], origins: Sequence[str]
) -> None:
    for origin in origins:
        known = [at for point, at in placed if point.origin == origin]
        colour = COLOURS[1] if origin == "measured" else PALE
        axis.plot(
            [x for x, _ in known],
            [y for _, y in known],
            marker={"measured": "o", "quoted": "s", "others": "^"}[origin],
            markersize=6,
            linewidth=0,
            color=colour,
            markerfacecolor=colour if origin == "measured" else "white",
            label=ORIGINS[origin],
            zorder=3 if origin == "measured" else 2,  # one both quoted and measured shows both
        )
    axis.margins(x=0.2, y=0.14)


def _scale_price(axis: "Axes", price: Price) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_locator(LogLocator(subs=(1,) if price == "macs" else (1, 3)))
    if price != "macs":
        axis.xaxis.set_major_formatter("{x:g}")


# ---- Labels beside points, each where it covers least of what is drawn --------------------------


def label_points(
    axis: "Axes", labels: Sequence[tuple[str, float, float]], *, size: float = 8
) -> None:
    """Write each label (text, x, y) beside its point, where things lie after ``settle``."""
    drawn, frame = _drawn(axis), axis.get_window_extent()
    for label, x, y in labels:
        candidates = []
        for dx, dy in PLACES:
            text = axis.annotate(
                as_drawn(label),
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                fontsize=size,
            )
            extent = text.get_window_extent().padded(2)
            inside = ((drawn >= extent.min) & (drawn <= extent.max)).all(axis=1)
            outside = (
                np.less(extent.min, frame.min).any() or np.greater(extent.max, frame.max).any()
            )
            covered = int(inside.sum()) + 1000 * bool(outside)
            candidates.append((covered, text, extent))
            if covered == 0:
                break
        best = min(candidates, key=lambda candidate: candidate[0])
        for _, text, _ in candidates:
            if text is not best[1]:
                text.remove()
        drawn = np.concatenate([drawn, _filled(best[2].min, best[2].max)])
        if max(map(abs, best[1].get_position())) > _WITHOUT_LINE:
            axis.annotate(
                "",
                (x, y),
                xytext=best[1].get_position(),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.6, "shrinkB": 4},
                zorder=1,
            )


def _drawn(axis: "Axes") -> NDArray[np.float64]:
    """Return pixels (N, 2) on markers, lines and legend: what a label should not cover."""
    found = [np.empty((0, 2))]
    for line in axis.get_lines():
        corners = axis.transData.transform(line.get_xydata())
        if line.get_marker() != "None":
            half = axis.figure.dpi_scale_trans.transform((line.get_markersize() / 144, 0))[0]
            found += [_filled(corner - half, corner + half, count=7) for corner in corners]
        if line.get_linewidth() > 0:
            steps = np.linspace(0, 1, 60)[:, None]
            found += [a + steps * (b - a) for a, b in pairwise(corners)]
    legend = axis.get_legend()
    if legend is not None:
        extent = legend.get_window_extent()
        found.append(_filled(extent.min, extent.max))
    return np.concatenate(found)


def _filled(low: ArrayLike, high: ArrayLike, *, count: int = 12) -> NDArray[np.float64]:
    x, y = np.linspace(np.asarray(low), np.asarray(high), count).T
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


# ---- What people preferred ----------------------------------------------------------------------


def votes(found: StudyResult, *, path: str | Path) -> Path:
    """Return the file with the Bradley-Terry scores beside the shares of votes, ties in between."""
    rows = max(len(found.scores), len(found.pairs))
    with figure_file(path, width=8.0, height=0.9 + 0.38 * rows) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        for place, (name, score) in enumerate(found.scores):
            assert score.low is not None and score.high is not None
            left.plot([score.low, score.high], [place, place], color=COLOURS[0], linewidth=2)
            left.plot([score.mean], [place], marker="o", color=COLOURS[0], label=name)
        left.axvline(0, color=PALE, linewidth=1, zorder=0)
        left.set_yticks(range(len(found.scores)), [as_drawn(name) for name, _ in found.scores])
        left.invert_yaxis()
        left.margins(y=0.15)
        left.set_xlabel("Bradley-Terry score [95 %]")
        for place, pair in enumerate(found.pairs):
            start, total = 0.0, sum(pair.votes)
            for count, colour in zip(pair.votes, (COLOURS[0], PALE, COLOURS[1]), strict=True):
                share = count / total
                right.barh(place, share, left=start, color=colour, height=0.7)
                if share > 0.08:
                    right.text(start + share / 2, place, f"{share:.0%}", ha="center", va="center")
                start += share
            ends = [pair.clustered.low, pair.clustered.high]
            right.plot(ends, [place - 0.42] * 2, color="black")
        right.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
        right.set_xlim(0, 1)
        names = [as_drawn(f"{pair.a} | {pair.b}") for pair in found.pairs]
        right.set_yticks(range(len(found.pairs)), names)
        right.invert_yaxis()
        right.set_xlabel("first preferred, no difference, second; black: the rate, 95 %")
    return Path(path)
