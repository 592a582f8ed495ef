"""Images in rows and columns, all of one width: what the figures of images are drawn by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from edgekeeper.figures.canvas import (
    INK,
    PALE,
    figure_file,
    frame,
    hide_axis,
    settle,
    show,
    write_title,
)
from edgekeeper.ops.box import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_POINTS = 12  # from one line of numbers to the next
WIDEST_WHOLE, BAR = 4.2, 0.13  # inches
WHOLE = "the original and the part shown"


@dataclass(frozen=True)
class Number:
    """A number as it is written, the best of its kind in bold."""

    text: str
    weight: Literal["normal", "bold"]


@dataclass(frozen=True)
class Cell:
    """An image of the grid, RGB (1, 3, H, W) or a map (1, 1, H, W); None leaves its place empty.

    ``below``: lines written below it.
    """

    title: str
    image: Tensor | None
    below: Sequence[Number | str | None] = ()


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

    per_line: images in a line; by default all of a strip. top: the brightest value of maps;
    bar: what maps show, beside a colour bar. note: a line at the foot.
    """
    across = max(len(strip.cells) for strip in strips)
    across = min(per_line or across, across)
    lines = [math.ceil(len(strip.cells) / across) for strip in strips]
    aspects = [strip.aspect for strip, n in zip(strips, lines, strict=True) for _ in range(n)]
    cell = 2.2 if across <= 4 else 1.75
    beside = max(_whole_width(s, lines=n, cell=cell) for s, n in zip(strips, lines, strict=True))
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
                write_title(wholes[-1], strip.name or WHOLE, width=beside)
                show(wholes[-1], strip.whole[0], pixels="averaged")
                frame(wholes[-1], strip.whole[1])
                wholes[-1].set_aspect("auto")  # it takes what room there is
            for number, each in enumerate(strip.cells):
                line, column = divmod(number, across)
                axis = figure.add_subplot(grid[first + line, column + (beside > 0)])
                # Titles above the first strip serve all, unless a strip is apart from it.
                if first == 0 or count > 1 or strip.whole is not None:
                    write_title(axis, each.title, width=cell)
                if column == 0 and strip.whole is None:
                    axis.set_ylabel(strip.name)
                drawn = _draw_cell(axis, each, top=top)
                maps += [(axis, drawn)] if drawn is not None else []
            first += count
        if bar and maps:
            axes = [axis for axis, _ in maps]
            ratio = cell * sum(aspects) / BAR
            found = figure.colorbar(maps[0][1], ax=axes, aspect=ratio, pad=0.02)
            found.set_label(bar)
            figure.draw_without_rendering()
            label, room = found.ax.yaxis.label, found.ax.get_window_extent().height
            share = room / label.get_window_extent().height
            if share < 0.7:  # it stands beside a bar that is shorter than its text
                label.set(rotation=0, ha="left", va="center")
            else:
                label.set_fontsize(float(label.get_fontsize()) * min(1.0, share))
        settle(figure)
        for axis in wholes:
            axis.set_aspect("equal", anchor="NE")
        if note:
            _write_note(figure, note, left=figure.axes[1 if wholes else 0])
    return Path(path)


def _whole_width(strip: Strip, *, lines: int, cell: float) -> float:
    if strip.whole is None:
        return 0.0
    height = cell * strip.aspect * lines + 0.4 * (lines - 1)
    return min(WIDEST_WHOLE, height * strip.whole[0].shape[-1] / strip.whole[0].shape[-2])


def _draw_cell(axis: "Axes", cell: Cell, *, top: float) -> Any:
    """Return what a map is drawn by, for the colour bar; None for other images."""
    write_below(axis, cell.below)
    if cell.image is None:
        hide_axis(axis)
        axis.text(0.5, 0.5, "no image", ha="center", va="center", color=PALE)
        return None
    drawn = show(axis, cell.image, top=None if cell.image.shape[1] == 3 else top)
    return None if cell.image.shape[1] == 3 else drawn


def write_below(axis: "Axes", lines: Sequence[Number | str | None]) -> None:
    """Write lines below an image, numbers in ink and what they are called in pale."""
    for place, line in enumerate(lines):
        if line is None:
            continue
        number = isinstance(line, Number)
        axis.annotate(
            line.text if isinstance(line, Number) else line,
            (0.5, 0),
            xycoords="axes fraction",
            xytext=(0, -3 - LINE_POINTS * place),
            textcoords="offset points",
            ha="center",
            va="top",
            color=INK if number else PALE,
            fontsize=9 if number else 8,
            weight=line.weight if isinstance(line, Number) else "normal",
            annotation_clip=False,
        )


def _write_note(figure: "Figure", note: str, *, left: "Axes") -> None:
    foot = figure.get_tightbbox().y0 - 0.08  # inches
    figure.text(
        left.get_position().x0,
        foot / figure.get_size_inches()[1],
        note,
        fontsize=8,
        color=PALE,
        va="top",
    )
