"""Images in rows and columns, all of one width: what most figures are drawn by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from edgekeeper.figures.canvas import INK, PALE, figure_file, frame, place, show, write_title
from edgekeeper.figures.numbers import LINE_POINTS, Number, write_below
from edgekeeper.ops.box import Box

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP, TITLE, NAME, MARGIN = 0.08, 0.24, 0.24, 0.05  # inches
WIDEST_WHOLE, TALLEST_BAR = 4.2, 6.0


@dataclass(frozen=True)
class Cell:
    """An image of the grid, RGB (1, 3, H, W) or a map (1, 1, H, W); None leaves its place empty.

    ``below``: lines written below it.
    """

    title: str
    image: Tensor | None
    below: Sequence[Number | str | None] = ()


@dataclass(frozen=True)
class Whole:
    """The whole original, left of a row, and its part that the row shows."""

    image: Tensor
    part: Box


@dataclass(frozen=True)
class Strip:
    """A row of cells of one size; it is broken into lines when the grid is narrower."""

    cells: Sequence[Cell]
    name: str = ""
    whole: Whole | None = None


@dataclass(frozen=True)
class _Plan:
    """Where things are, in inches."""

    per_line: int
    cell: float  # width of every image
    left: float  # where the first column begins
    strips: tuple[float, ...]  # where each strip begins, titles included, and where the last ends
    heads: tuple[float, ...]  # height of the titles, by strip
    heights: tuple[float, ...]  # of an image, by strip
    below: float  # height of the lines below an image
    width: float

    def corner(self, number: int, *, place: int) -> tuple[float, float]:
        """Left and top of the image at ``place`` of a strip."""
        line, column = divmod(place, self.per_line)
        left = self.left + column * (self.cell + GAP)
        head = self.heads[number]
        line_height = head + self.heights[number] + self.below + GAP
        return left, self.strips[number] + head + line * line_height


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
    plan = _plan(strips, per_line=per_line)
    foot = 0.25 if note else 0.0
    width = plan.width + (0.75 if bar else 0)
    drawn: Any = None
    with figure_file(path, width=width, height=plan.strips[-1] + foot, layout="placed") as figure:
        for number, strip in enumerate(strips):
            _write_name(figure, strip, plan=plan, number=number)
            for k, cell in enumerate(strip.cells):
                left, upper = plan.corner(number, place=k)
                height = plan.heights[number]
                axis = place(figure, left=left, top=upper, width=plan.cell, height=height)
                if plan.heads[number]:
                    write_title(axis, cell.title, width=plan.cell)
                write_below(axis, cell.below)
                if cell.image is None:
                    axis.set_axis_off()
                    axis.text(0.5, 0.5, "no image", ha="center", va="center", color=PALE)
                elif cell.image.shape[1] == 3:
                    show(axis, cell.image)
                else:
                    drawn = show(axis, cell.image, top=top)
        if bar and drawn is not None:
            upper, lower = plan.strips[0] + TITLE, plan.strips[-1] - GAP - plan.below
            beside = place(
                figure,
                left=plan.width + GAP,
                top=upper,
                width=0.13,
                height=min(lower - upper, TALLEST_BAR),
            )
            figure.colorbar(drawn, cax=beside).set_label(bar)
        if note:
            down = figure.get_size_inches()[1]
            figure.text(plan.left / width, 0.06 / down, note, fontsize=8, color=PALE, va="bottom")
    return Path(path)


def _plan(strips: Sequence[Strip], *, per_line: int | None) -> _Plan:
    across = min(per_line or math.inf, max(len(strip.cells) for strip in strips))
    across = int(max(across, 1))
    cell = 2.2 if across <= 4 else 1.75
    lines = max((len(cell.below) for strip in strips for cell in strip.cells), default=0)
    below = (lines * LINE_POINTS + 5) / 72 if lines else 0.0
    heights = tuple(cell * _aspect(strip) for strip in strips)
    # Titles above the first strip serve all, unless a strip has several lines or its name there.
    heads = tuple(
        TITLE if number == 0 or across < len(strip.cells) or strip.whole is not None else 0.0
        for number, strip in enumerate(strips)
    )
    blocks = [
        math.ceil(len(strip.cells) / across) * (head + height + below + GAP)
        for strip, head, height in zip(strips, heads, heights, strict=True)
    ]
    wholes = [
        _whole_width(strip.whole, room=block - TITLE - below - GAP)
        for strip, block in zip(strips, blocks, strict=True)
        if strip.whole is not None
    ]
    named = any(strip.name and strip.whole is None for strip in strips)
    left = MARGIN + (NAME if named else 0) + (max(wholes) + 2 * GAP if wholes else 0)
    return _Plan(
        per_line=across,
        cell=cell,
        left=left,
        strips=tuple(accumulate(blocks, initial=MARGIN)),
        heads=heads,
        heights=heights,
        below=below,
        width=left + across * (cell + GAP),
    )


def _aspect(strip: Strip) -> float:
    """Height over width of the strip's images."""
    for cell in strip.cells:
        if cell.image is not None:
            return cell.image.shape[-2] / cell.image.shape[-1]
    return 1.0


def _whole_width(whole: Whole, *, room: float) -> float:
    """As wide as it gets in the height of the cells beside it."""
    return min(WIDEST_WHOLE, room * whole.image.shape[-1] / whole.image.shape[-2])


def _write_name(figure: "Figure", strip: Strip, *, plan: _Plan, number: int) -> None:
    """Draw the whole original under the strip's name, or write the name beside the strip."""
    upper = plan.strips[number] + plan.heads[number]
    room = plan.strips[number + 1] - GAP - plan.below - upper
    if strip.whole is not None:
        width = _whole_width(strip.whole, room=room)
        shape = strip.whole.image.shape
        height = width * shape[-2] / shape[-1]
        left = plan.left - 2 * GAP - width
        axis = place(figure, left=left, top=upper, width=width, height=height)
        write_title(axis, strip.name or "the original and the part shown", width=width)
        show(axis, strip.whole.image, pixels="averaged")
        frame(axis, strip.whole.part)
    elif strip.name:
        across, down = figure.get_size_inches()
        figure.text(
            (plan.left - 0.1) / across,
            1 - (upper + room / 2) / down,
            strip.name,
            rotation=90,
            ha="right",
            va="center",
            color=INK,
        )
