"""Figure 2 of the gradient variance paper, for any original and any results.

Abrahamyan et al., "Gradient Variance Loss for Structure-Enhanced Image Super-Resolution",
ICASSP 2022.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from edgekeeper.errors import ImageError, InputError
from edgekeeper.figures.canvas import COLOURS, figure_file
from edgekeeper.figures.panels import Panel, grey_gradients, structured_box, with_original
from edgekeeper.ops.box import Box
from edgekeeper.ops.structure import patch_variances

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    hr: Tensor,
    panels: Sequence[Panel],
    *,
    path: str | Path,
    patch: int = 8,
    box: Box | None = None,
) -> VarianceCurves:
    """Return the curves drawn: gradient variance of every patch, x and y direction (figure 2).

    All on the same axes; the arrays are also written beside the figure as JSON. Gradients are
    taken in the whole image, then ``box`` (by default ``structured_box`` of 128 pixels) is cut
    into patches. Expected order of the means: original > with the loss > without it.
    """
    shown = with_original(hr, panels, first=True)
    part = box or structured_box(hr, side=128)
    gradients = {panel.label: grey_gradients(panel.image) for panel in shown}
    curves = VarianceCurves(
        x={label: _variances(part.cut(maps.x), patch=patch) for label, maps in gradients.items()},
        y={label: _variances(part.cut(maps.y), patch=patch) for label, maps in gradients.items()},
    )
    with figure_file(path, width=8.0, height=4.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
        for axis, series, name in ((upper, curves.x, "x"), (lower, curves.y, "y")):
            _draw_curves(axis, series)
            axis.set_ylabel(f"variance of G{name}")
        lower.set_xlabel(f"patch of {patch}×{patch} pixels, row by row")
        handles, labels = upper.get_legend_handles_labels()
        means = curves.means()
        texts = [f"{label}   mean {means[label]:.4f}" for label in labels]
        figure.legend(handles, texts, loc="outside upper left", ncols=len(labels))
    _write_json(
        Path(path).with_suffix(".json"), {"patch": patch, "box": asdict(part), **asdict(curves)}
    )
    return curves


def _variances(values: Tensor, *, patch: int) -> list[float]:
    if min(values.shape[-2:]) < patch:
        raise InputError(f"No patch of {patch}x{patch} pixels fits into the part shown.")
    return [float(value) for value in patch_variances(values.double(), patch=patch).flatten()]


def _draw_curves(axis: "Axes", series: dict[str, list[float]]) -> None:
    """Draw the first series as a grey area, which the others' lines are read against."""
    for number, (label, values) in enumerate(series.items()):
        places = range(len(values))
        if number == 0:
            axis.fill_between(places, values, color="#d9d9d9", linewidth=0, label=label)
        else:
            colour = COLOURS[(number - 1) % len(COLOURS)]
            axis.plot(places, values, color=colour, linewidth=0.9, label=label)
    axis.margins(x=0.005)
    axis.set_ylim(bottom=0)


def _write_json(path: Path, content: dict[str, object]) -> None:
    try:
        path.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        raise ImageError(f"Cannot write '{path}': {error.strerror}.") from error
