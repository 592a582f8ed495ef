"""Results side by side: an enlarged part, its gradients, and the numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from edgekeeper.figures.canvas import PALE, figure_file, frame, show
from edgekeeper.figures.numbers import find_measures, measured
from edgekeeper.figures.panels import Panel, enlarged_box, grey_gradients, with_original
from edgekeeper.metrics import Protocol, find_protocol
from edgekeeper.ops.box import Box
from edgekeeper.ops.gradient import magnitude

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def comparison(
    hr: Tensor,
    panels: Sequence[Panel],
    *,
    path: str | Path,
    scale: int,
    protocol: str | Protocol = "y_matlab",
    box: Box | None = None,
    title: str = "",
) -> Path:
    """The file with each panel and the original: enlarged part, its gradients, and the numbers.

    The numbers (PSNR, SSIM, gradient variance gap; the best of each is bold) are of the whole
    image under ``protocol``. Gradient magnitudes share the scale of the original. ``box`` is by
    default chosen in the original alone.
    """
    chosen = find_protocol(protocol)
    shown = with_original(hr, panels, first=False)
    part = box or enlarged_box(hr)
    edges = [_edges(panel.image, part) for panel in shown]
    crop_height = 1.9 * part.height / part.width
    whole_width = min(4.2, max(1.9, 2 * crop_height * hr.shape[-1] / hr.shape[-2]))
    width = whole_width + 1.95 * len(shown)
    with figure_file(path, width=width, height=2 * crop_height + 1.0) as figure:
        grid = figure.add_gridspec(
            3,
            len(shown) + 1,
            width_ratios=[whole_width, *[1.9] * len(shown)],
            height_ratios=[crop_height, crop_height, 0.7],
        )
        whole = figure.add_subplot(grid[:2, 0])
        show(whole, hr, pixels="averaged")
        whole.set_anchor("N")
        whole.set_title(title or "the original and the part shown")
        frame(whole, part)
        for column, panel in enumerate(shown, start=1):
            upper = figure.add_subplot(grid[0, column])
            upper.set_title(panel.label)
            show(upper, part.cut(panel.image))
            lower = figure.add_subplot(grid[1, column])
            show(lower, edges[column - 1], top=float(edges[-1].max()))
            lower.set_ylabel("gradients" if column == 1 else "", color=PALE)
        cells = [figure.add_subplot(grid[2, column]) for column in range(len(shown) + 1)]
        _write_numbers(cells, hr, panels, scale=scale, protocol=chosen)
    return Path(path)


def _write_numbers(
    axes: Sequence["Axes"],
    hr: Tensor,
    panels: Sequence[Panel],
    *,
    scale: int,
    protocol: Protocol,
) -> None:
    """Write the names of the measures into the first of ``axes``, the numbers into the next.

    The last one, below the original, says how they were measured.
    """
    for axis in axes:
        axis.set_axis_off()
    images = [panel.image for panel in panels]
    for line, measure in enumerate(find_measures(("psnr", "ssim", "gv_gap"))):
        height = 1 - 0.33 * line
        axes[0].text(1, height, measure.title, ha="right", va="top", color=PALE)
        numbers = measured(measure, images, hr=hr, protocol=protocol, scale=scale)
        for axis, number in zip(axes[1:-1], numbers, strict=True):
            if number is not None:
                axis.text(0.5, height, number.text, ha="center", va="top", weight=number.weight)
    condition = f"whole image\nprotocol {protocol.name}"
    axes[-1].text(0.5, 1, condition, ha="center", va="top", color=PALE, linespacing=1.9)


def _edges(image: Tensor, part: Box) -> Tensor:
    return part.cut(magnitude(grey_gradients(image)))
