"""Labels beside points, each where it covers least of what is drawn."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

# Where a label may stand, in points from its point; the first of equally good places is taken.
_UNIT = np.stack(np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 1, 7)), axis=-1).reshape(-1, 2)
PLACES = ((8, 0), (-8, 0), (0, 8), (0, -8), (7, 7), (-7, 7), (7, -7), (-7, -7))


def label_points(
    axis: "Axes", labels: Sequence[tuple[str, float, float]], *, size: float = 8
) -> None:
    """Write each label (text, x, y) beside its point.

    Call it when the layout is final: it looks at where things lie on the page.
    """
    drawn = _drawn(axis)
    for label, x, y in labels:
        candidates = []
        for dx, dy in PLACES:
            text = axis.annotate(
                label,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                fontsize=size,
            )
            extent = text.get_window_extent()
            inside = ((drawn >= extent.min) & (drawn <= extent.max)).all(axis=1)
            outside = _outside(axis, extent)
            candidates.append((int(inside.sum()) + 1000 * outside, text, extent))
        best = min(candidates, key=lambda candidate: candidate[0])
        for _, text, _ in candidates:
            if text is not best[1]:
                text.remove()
        drawn = np.concatenate([drawn, _grid(best[2])])


def _outside(axis: "Axes", extent: "Bbox") -> bool:
    """Return whether a label would reach beyond the axes."""
    frame = axis.get_window_extent()
    across = extent.x0 < frame.x0 or extent.x1 > frame.x1
    return bool(across or extent.y0 < frame.y0 or extent.y1 > frame.y1)


def _drawn(axis: "Axes") -> NDArray[np.float64]:
    """Pixels (N, 2) on the markers, lines and legend: what a label should not cover."""
    found = [np.empty((0, 2))]
    for line in axis.get_lines():
        corners = axis.transData.transform(line.get_xydata())
        if line.get_marker() != "None":
            half = axis.figure.dpi_scale_trans.transform((line.get_markersize() / 144, 0))[0]
            around = half * (_UNIT - 0.5) * 2
            found.append((corners[:, None] + around).reshape(-1, 2))
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
