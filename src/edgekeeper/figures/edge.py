"""One edge along a line: its values and their central differences.

Figure 3 of SPSR (Ma et al., CVPR 2020): a step, blurred and sharp, and why the second row tells
them apart. Here for the paper's kind of example and for a line through real images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.figures.canvas import COLOURS, PALE, figure_file, frame, place, show, write_title
from edgekeeper.figures.panels import Panel, grey_gradients, with_original
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.gradient import central

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Direction = Literal["across", "down"]
LEFT, WIDTH, HEIGHT, GAP = 0.55, 2.2, 1.25, 0.12  # of the plots, in inches


@dataclass(frozen=True)
class Around:
    """The part of an image (1, 3, H, W) around a line, and where in it the line is."""

    image: Tensor
    line: Box


@dataclass(frozen=True)
class Profile:
    """Grey values in [0, 1] along a line, and the image around it, if there is one."""

    label: str
    values: tuple[float, ...]
    around: Around | None = None

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
class Line:
    """A line of ``length`` pixels through the pixel (row, column), which is its middle."""

    row: int
    column: int
    length: int
    direction: Direction

    def box(self) -> Box:
        """Return the pixels of the line."""
        before = self.length // 2
        if self.direction == "across":
            return Box(self.row, self.column - before, 1, self.length)
        return Box(self.row - before, self.column, self.length, 1)


def strongest_line(hr: Tensor, *, length: int = 24, part: Box | None = None) -> Line:
    """Return the line across the strongest edge of the original, in ``part`` or anywhere.

    It runs across or down, whichever is nearer to the edge's normal, and lies in the image as
    a whole. Raises InputError when the line does not fit.
    """
    height, width = hr.shape[-2:]
    before, after = length // 2, length - length // 2
    gradients = grey_gradients(hr)
    strengths = torch.full((2, height, width), -1.0)
    if width >= length:
        inner = (slice(None), slice(before, width - after + 1))
        strengths[0][inner] = gradients.x[0, 0].abs()[inner]
    if height >= length:
        inner = (slice(before, height - after + 1), slice(None))
        strengths[1][inner] = gradients.y[0, 0].abs()[inner]
    if part is not None:
        chosen = torch.full_like(strengths, -1.0)
        part.cut(chosen)[:] = part.cut(strengths)
        strengths = chosen
    if length < 3 or float(strengths.max()) < 0:
        raise InputError(
            f"No line of {length} pixels (3 or more) fits there; choose a shorter one or another "
            "part of the image."
        )
    axis, place_in = divmod(int(strengths.flatten().argmax()), height * width)
    row, column = divmod(place_in, width)
    return Line(row, column, length, "across" if axis == 0 else "down")


def profiles_along(hr: Tensor, panels: Sequence[Panel], *, line: Line) -> list[Profile]:
    """Return the grey values of the original and of each panel along a line, the original first."""
    box = line.box()
    found = []
    for panel in with_original(hr, panels, first=True):
        grey = rgb_to_grey_gv(panel.image.detach().cpu().float().clamp(0, 1))
        values = tuple(box.cut(grey).double().flatten().tolist())
        found.append(Profile(panel.label, values, _around(panel.image, line)))
    return found


def edge(profiles: Sequence[Profile], *, path: str | Path) -> list[Profile]:
    """Return the profiles drawn: values above, central differences below, one column each.

    The first is the truth; it stands as a grey area behind the others. Images, where the
    profiles have them, are drawn on top with the line in them.
    """
    if len(profiles) < 2 or len({len(profile.values) for profile in profiles}) != 1:
        raise InputError("Give two or more profiles of the same length, the true one first.")
    if len(profiles[0].values) < 3:
        raise InputError("A profile needs 3 values or more to have a difference.")
    images = [profile.around for profile in profiles if profile.around is not None]
    aspect = images[0].image.shape[-2] / images[0].image.shape[-1] if images else 0.0
    head = 0.3 + (WIDTH * aspect + GAP if images else 0)
    width = LEFT + len(profiles) * (WIDTH + GAP) + 0.05
    height = head + 2 * (HEIGHT + GAP) + 0.35
    with figure_file(path, width=width, height=height, layout="placed") as figure:
        for number, profile in enumerate(profiles):
            left = LEFT + number * (WIDTH + GAP)
            plots = [
                place(figure, left=left, top=upper, width=WIDTH, height=HEIGHT)
                for upper in (head, head + HEIGHT + GAP)
            ]
            titled = plots[0]
            if profile.around is not None:
                titled = place(figure, left=left, top=0.3, width=WIDTH, height=WIDTH * aspect)
                show(titled, profile.around.image)
                frame(titled, profile.around.line)
            write_title(titled, profile.label, width=WIDTH)
            _draw(plots, profiles, number=number)
    return list(profiles)


def _draw(plots: Sequence["Axes"], profiles: Sequence[Profile], *, number: int) -> None:
    """Draw one profile: its values into the first of ``plots``, its differences into the last."""
    upper, lower = plots
    profile, true = profiles[number], profiles[0]
    _draw_curve(upper, profile.values, true=true.values if number else None, start=0)
    differences = true.differences() if number else None
    _draw_curve(lower, profile.differences(), true=differences, start=1)
    steepest = max(1e-3, *(max(profile.differences()) for profile in profiles))
    upper.set_ylim(-0.05, 1.05)
    lower.set_ylim(-0.05 * steepest, 1.05 * steepest)
    for axis in plots:
        axis.set_xlim(-0.5, len(profile.values) - 0.5)
        axis.tick_params(labelleft=number == 0)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("pixel")
    if number == 0:
        upper.set_ylabel("value")
        lower.set_ylabel("|difference|")


def _draw_curve(
    axis: "Axes", values: Sequence[float], *, true: Sequence[float] | None, start: int
) -> None:
    """Draw values as a line with a dot for each pixel, on the truth as a grey area."""
    places = range(start, start + len(values))
    if true is not None:
        axis.fill_between(places, true, color="#dddddd", linewidth=0)
    colour = PALE if true is None else COLOURS[1]
    axis.plot(places, values, color=colour, linewidth=1.4, marker="o", markersize=3)


def _around(image: Tensor, line: Line) -> Around:
    """Return the square around a line, as far as the image reaches."""
    height, width = image.shape[-2:]
    before = line.length // 2
    top, left = max(line.row - before, 0), max(line.column - before, 0)
    bottom = min(line.row - before + line.length, height)
    right = min(line.column - before + line.length, width)
    part = Box(top, left, bottom - top, right - left)
    box = line.box()
    return Around(part.cut(image), Box(box.top - top, box.left - left, box.height, box.width))
