"""Rows of images: what to show, which part of it, and the grid that draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.figures.canvas import (
    INK,
    PALE,
    as_drawn,
    figure_file,
    frame,
    hide_axis,
    settle,
    show,
    write_title,
)
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.gradient import Gradients, sobel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

ORIGINAL = "original"  # its label in every figure
LINE_POINTS = 12  # from one line of numbers to the next
WIDEST_WHOLE, BAR = 4.2, 0.13  # inches

_WINDOW = 17  # pixels over which a line must keep its direction, at most a third of the square
_MIDDLE = 0.3  # of a corner's worth that it has less than the middle


@dataclass(frozen=True)
class Panel:
    """An image (1, 3, H, W) in [0, 1] and what stands beside it."""

    label: str
    image: Tensor


@dataclass(frozen=True)
class Row:
    """One original (1, 3, H, W), what is shown beside it, its name, and the part shown.

    ``box`` None: the figure chooses, from the original alone.
    """

    hr: Tensor
    panels: Sequence[Panel]
    name: str = ""
    box: Box | None = None


def structured_box(hr: Tensor, *, side: int = 64) -> Box:
    """Return the square with the most structure: strong gradients that keep a direction.

    Edge strength times the coherence of the structure tensor, so that whiskers count for more than
    fur; a little more in the middle. It is found in the original alone: it favours no result.
    """
    side = min(side, *hr.shape[-2:])
    gradients = grey_gradients(hr)
    window = min(_WINDOW, side // 3 | 1)
    x, y = gradients.x, gradients.y
    xx, yy, xy = (  # each (1, 1, H, W)
        F.avg_pool2d(product, window, stride=1, padding=window // 2, count_include_pad=False)
        for product in (x.square(), y.square(), x * y)
    )
    energy = xx + yy
    coherence = ((xx - yy).square() + 4 * xy.square()).sqrt() / (energy + 1e-4)
    worth = F.avg_pool2d(energy.sqrt() * coherence, side, stride=4)[0, 0]  # (h, w)
    height, width = worth.shape
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    if height > 1 and width > 1:
        worth = worth * (1 - _MIDDLE * (x.square() + y.square()) / 2)
    row, column = divmod(int(worth.flatten().argmax()), width)
    return Box(4 * row, 4 * column, side, side)


def enlarged_box(hr: Tensor) -> Box:
    """Return the ``structured_box`` of a size at which single pixels can be seen."""
    return structured_box(hr, side=max(48, min(128, min(hr.shape[-2:]) // 5)))


def grey_gradients(image: Tensor) -> Gradients:
    """Return the Sobel maps (1, 1, H, W) of the grey image, on the CPU."""
    # "replicate": with zeros around it the frame of the image would be its strongest edge.
    return sobel(rgb_to_grey_gv(image.detach().cpu().float().clamp(0, 1)), border="replicate")


def with_original(hr: Tensor, panels: Sequence[Panel], *, first: bool) -> dict[str, Tensor]:
    """Return the images by label, the original among them; InputError for sizes that differ."""
    if hr.ndim != 4 or hr.shape[:2] != (1, 3):
        raise InputError(f"The original must be one RGB image (1, 3, H, W); got {tuple(hr.shape)}.")
    for panel in panels:
        if panel.image.shape != hr.shape:
            raise InputError(
                f"'{panel.label}' is {tuple(panel.image.shape)}, the original {tuple(hr.shape)}; "
                "all images of a figure must have the original's size."
            )
    original = Panel(ORIGINAL, hr)
    shown = [original, *panels] if first else [*panels, original]
    found = {panel.label: panel.image for panel in shown}
    if not panels or len(found) < len(shown):
        raise InputError(f"Give at least one image, each under its own label (not '{ORIGINAL}').")
    return found


def in_columns(rows: Sequence[Row], *, first: bool) -> list[dict[str, Tensor | None]]:
    """Return the images of each row by label, its original among them, all rows in the same order.

    None stands where a row has no panel of that label. Raises InputError as ``with_original``.
    """
    found = [with_original(row.hr, row.panels, first=first) for row in rows]
    labels = dict.fromkeys(label for row in found for label in row if label != ORIGINAL)
    ordered = [ORIGINAL, *labels] if first else [*labels, ORIGINAL]
    return [{label: row.get(label) for label in ordered} for row in found]


# ---- The grid that all of them are drawn by -----------------------------------------------------


class Line(NamedTuple):
    """A line below an image: a number, the best of its kind in bold, or what it is called."""

    text: str
    weight: Literal["pale", "normal", "bold"] = "pale"


@dataclass(frozen=True)
class Cell:
    """An image of the grid, RGB (1, 3, H, W) or a map (1, 1, H, W); None leaves its place empty."""

    title: str
    image: Tensor | None
    below: Sequence[Line | None] = ()


@dataclass(frozen=True)
class Strip:
    """A row of cells of one size; it is broken into lines when the grid is narrower.

    ``whole``: the whole original, to stand left of the row, and its part that the row shows.
    """

    cells: Sequence[Cell]
    name: str = ""
    whole: tuple[Tensor, Box] | None = None

    @property
    def aspect(self) -> float:
        """Height over width of the images."""
        found = [cell.image.shape for cell in self.cells if cell.image is not None]
        return found[0][-2] / found[0][-1] if found else 1.0

    def width_of_whole(self, *, lines: int, cell: float) -> float:
        """Return the inches that the whole original takes beside so many lines of cells."""
        if self.whole is None:
            return 0.0
        height = cell * self.aspect * lines + 0.4 * (lines - 1)
        return min(WIDEST_WHOLE, height * self.whole[0].shape[-1] / self.whole[0].shape[-2])


def draw_grid(
    strips: Sequence[Strip],
    *,
    path: str | Path,
    per_line: int | None = None,
    top: float = 1.0,
    bar: str = "",
    note: str = "",
) -> Path:
    """Return the file with the strips below each other.

    per_line: images in a line, by default all. top: the brightest value of maps; bar: what maps
    show. note: a line at the foot. Raises InputError: no strips.
    """
    if not strips:
        raise InputError("There are no images to draw; give at least one original.")
    across = max(len(strip.cells) for strip in strips)
    across = min(per_line or across, across)
    lines = [math.ceil(len(strip.cells) / across) for strip in strips]
    aspects = [strip.aspect for strip, n in zip(strips, lines, strict=True) for _ in range(n)]
    cell = 2.2 if across <= 4 else 1.75
    beside = max(s.width_of_whole(lines=n, cell=cell) for s, n in zip(strips, lines, strict=True))
    below = max(len(cell.below) for strip in strips for cell in strip.cells) * LINE_POINTS / 72
    # Rows as high as their images, so that one width for all of them fits; text needs the rest.
    height = sum(cell * aspect + below + 0.3 for aspect in aspects)
    width = beside + across * cell + (0.8 if bar else 0.0) + 0.2
    with figure_file(path, width=width, height=height, layout="compressed") as figure:
        grid = figure.add_gridspec(
            len(aspects),
            across + (beside > 0),
            height_ratios=aspects,
            width_ratios=[beside] * (beside > 0) + [cell] * across,
        )
        first, maps, wholes = 0, [], []
        for strip, count in zip(strips, lines, strict=True):
            if strip.whole is not None:
                wholes.append(figure.add_subplot(grid[first : first + count, 0]))
                title = strip.name or "the original and the part shown"
                write_title(wholes[-1], title, width=beside)
                show(wholes[-1], strip.whole[0], averaged=True)
                frame(wholes[-1], strip.whole[1])
                wholes[-1].set_aspect("auto")  # it takes what room there is
            for number, each in enumerate(strip.cells):
                line, column = divmod(number, across)
                axis = figure.add_subplot(grid[first + line, column + (beside > 0)])
                # Titles above the first strip serve all, unless a strip is apart from it.
                if first == 0 or count > 1 or strip.whole is not None:
                    write_title(axis, each.title, width=cell)
                if column == 0 and strip.whole is None:
                    axis.set_ylabel(as_drawn(strip.name))
                drawn = _draw_cell(axis, each, top=top)
                maps += [(axis, drawn)] if drawn is not None else []
            first += count
        if bar and maps:
            _draw_bar(figure, maps, text=bar, aspect=cell * sum(aspects) / BAR)
        settle(figure)
        for axis in wholes:
            axis.set_aspect("equal", anchor="NE")
        if note:
            left = figure.axes[1 if wholes else 0].get_position().x0
            foot = (figure.get_tightbbox().y0 - 0.08) / figure.get_size_inches()[1]
            figure.text(left, foot, note, fontsize=8, color=PALE, va="top")
    return Path(path)


def _draw_cell(axis: "Axes", cell: Cell, *, top: float) -> "AxesImage | None":
    """Return what a map is drawn by, for the colour bar; None for other images."""
    for place, line in enumerate(cell.below):
        if line is not None:
            axis.annotate(
                line.text,
                (0.5, 0),
                xycoords="axes fraction",
                xytext=(0, -3 - LINE_POINTS * place),
                textcoords="offset points",
                ha="center",
                va="top",
                color=PALE if line.weight == "pale" else INK,
                fontsize=8 if line.weight == "pale" else 9,
                weight="bold" if line.weight == "bold" else "normal",
                annotation_clip=False,
            )
    if cell.image is None:
        hide_axis(axis)
        axis.text(0.5, 0.5, "no image", ha="center", va="center", color=PALE)
        return None
    is_map = cell.image.shape[1] == 1
    drawn = show(axis, cell.image, top=top if is_map else None)
    return drawn if is_map else None


def _draw_bar(
    figure: "Figure", maps: "Sequence[tuple[Axes, AxesImage]]", *, text: str, aspect: float
) -> None:
    found = figure.colorbar(maps[0][1], ax=[axis for axis, _ in maps], aspect=aspect, pad=0.02)
    found.set_label(text)
    figure.draw_without_rendering()
    label, room = found.ax.yaxis.label, found.ax.get_window_extent().height
    share = room / label.get_window_extent().height
    if share < 0.7:  # it stands beside a bar that is shorter than its text
        label.set(rotation=0, ha="left", va="center")
    else:
        label.set_fontsize(float(label.get_fontsize()) * min(1.0, share))
