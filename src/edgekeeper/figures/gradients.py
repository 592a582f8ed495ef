"""Maps of gradients side by side, all on one scale.

Figure 1 of the gradient variance paper (Abrahamyan et al., ICASSP 2022), figures 5 and 6 of SPSR
(Ma et al., CVPR 2020) and figure 5 of DGGGAN, for any originals, results and networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.figures.grid import Cell, Number, Strip, draw_grid
from edgekeeper.figures.panels import (
    ORIGINAL,
    Panel,
    Row,
    grey_gradients,
    in_columns,
    structured_box,
)
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.gradient import central, gradient_map, magnitude

COLUMNS = ("image", "original", "bicubic", "branch")
_SIDE = 128  # of the part shown, in pixels
BARS = {
    "directions": "absolute Sobel gradient\nof grey in 0..1",
    "length": "length of the gradient,\nmean of R, G, B in 0..1",
}


def gradient_maps(
    rows: Sequence[Row],
    *,
    path: str | Path,
    kind: Literal["directions", "length"] = "directions",
    whole: bool = False,
) -> Path:
    """Return the file with the gradients of each original and of its panels.

    kind: "directions" draws the absolute Sobel maps x and y of the grey image; "length" draws
    M of SPSR, the length of the central differences, the mean over R, G and B. All are on one
    scale, from 0 to the largest value in the originals' parts. Borders are repeated: with zeros
    around it the frame of an image would be its strongest edge. A row's part is by default the
    ``structured_box`` of 128 pixels.
    """
    strips, top = [], 0.0
    for row, images in zip(rows, in_columns(rows, first=True), strict=True):
        part = row.box or structured_box(row.hr, side=_SIDE)
        found = {label: None if x is None else _maps(x, kind) for label, x in images.items()}
        for name, original in (found[ORIGINAL] or {}).items():
            top = max(top, float(part.cut(original).max()))
            cells = [
                Cell(label, None if maps is None else part.cut(maps[name]))
                for label, maps in found.items()
            ]
            place = (row.hr, part) if whole else None
            strips.append(Strip(cells, " ".join(filter(None, (row.name, name))), place))
    return draw_grid(strips, path=path, top=top, bar=BARS[kind])


def _maps(image: Tensor, kind: Literal["directions", "length"]) -> dict[str, Tensor]:
    if kind == "directions":
        gradients = grey_gradients(image)
        return {"|Gx|": gradients.x.abs(), "|Gy|": gradients.y.abs()}
    pixels = image.detach().cpu().float().clamp(0, 1)
    lengths = magnitude(central(pixels, border="replicate"))  # (1, 3, H, W)
    return {"": lengths.mean(dim=1, keepdim=True)}


@dataclass(frozen=True)
class BranchRow:
    """An original, its interpolation (both (1, 3, H, W)) and what gradient branches made of it.

    The images of ``outputs`` are gradient maps, (1, 3, H, W) for networks on RGB, (1, 1, H, W)
    for networks on luma.
    """

    hr: Tensor
    bicubic: Tensor
    outputs: Sequence[Panel]
    name: str = ""
    box: Box | None = None


def branch_maps(
    rows: Sequence[BranchRow],
    *,
    path: str | Path,
    columns: Sequence[str] = ("original", "bicubic", "branch"),
    whole: bool = False,
) -> Path:
    """Return the file with M of the original, M of its interpolation and the branches' own maps.

    M is the map that branches are trained to give; all maps are drawn clamped to [0, 1], averaged
    over colours and on one scale, up to the largest value in the originals' parts. Below them
    stands the mean absolute difference from M of the original, not clamped, over the whole map but
    for its outermost ring, where M sees the zeros beyond the border. columns: what is drawn, in
    this order; the default is SPSR's figure 6, ("image", "original", "branch") is DGGGAN's 5.
    """
    if not rows:
        raise InputError("There are no images to draw; give at least one original.")
    check_columns(columns)
    strips, top = [], 0.0
    for row in rows:
        part = _within(row.box or structured_box(row.hr, side=_SIDE), row.hr)
        cells = []
        by_column = _branch_cells(row, compare_bicubic="bicubic" in columns)
        for column in columns:
            for cell in by_column[column]:
                assert cell.image is not None
                cells.append(replace(cell, image=part.cut(cell.image)))
                if column == "original":
                    top = max(top, float(part.cut(cell.image).max()))
        strips.append(Strip(cells, row.name, (row.hr, part) if whole else None))
    return draw_grid(strips, path=path, top=top, bar="length of the gradient M\nin 0..1")


def check_columns(columns: Sequence[str]) -> None:
    """Raise InputError unless ``columns`` are names of ``COLUMNS``, each once at most."""
    known = all(name in COLUMNS for name in columns)
    if not columns or not known or len(set(columns)) < len(columns):
        raise InputError(
            f"The columns are {', '.join(columns) or 'none'}; choose from {', '.join(COLUMNS)}, "
            "each once."
        )


def _branch_cells(row: BranchRow, *, compare_bicubic: bool) -> dict[str, list[Cell]]:
    """Return the whole maps of a row by column, with their distance from that of the original."""
    colours = {panel.image.shape[1] for panel in row.outputs}
    if len(colours) != 1:
        raise InputError(
            "The networks of one figure must all work on RGB or all on luma, and there must be "
            "at least one."
        )
    luma = colours == {1}
    target, bicubic = (gradient_map(rgb_to_y(x) if luma else x) for x in (row.hr, row.bicubic))
    made = [(f"M({ORIGINAL})", target), ("M(bicubic)", bicubic)]
    made += [(panel.label, panel.image.detach().cpu().float()) for panel in row.outputs]
    for label, found in made:
        if found.shape != target.shape:
            raise InputError(
                f"The map of '{label}' is {tuple(found.shape)}, that of the original "
                f"{tuple(target.shape)}; all must have the original's size."
            )
    inner = (..., slice(1, -1), slice(1, -1))
    distances = [float((x[inner] - target[inner]).abs().mean()) for _, x in made]
    compared = distances[1 if compare_bicubic else 2 :]
    best = min(compared) if len(compared) > 1 else -1.0
    cells = [
        Cell(
            label,
            x.clamp(0, 1).mean(dim=1, keepdim=True),  # (1, 1, H, W)
            (Number(f"{distance:.4f}", "bold" if distance == best else "normal"),),
        )
        for (label, x), distance in zip(made, distances, strict=True)
    ]
    return {
        "image": [Cell(ORIGINAL, row.hr, ("",))],
        "original": [replace(cells[0], below=("mean |difference| ↓",))],
        "bicubic": cells[1:2],
        "branch": cells[2:],
    }


def _within(part: Box, hr: Tensor) -> Box:
    """Return the box without the outermost ring of the image."""
    top, left = max(part.top, 1), max(part.left, 1)
    bottom = min(part.top + part.height, hr.shape[-2] - 1)
    right = min(part.left + part.width, hr.shape[-1] - 1)
    part.cut(hr)  # a box that reaches beyond the image is an error, not trimmed
    if bottom <= top or right <= left:
        raise InputError("The box holds nothing but the border of the image; choose another.")
    return Box(top, left, bottom - top, right - left)
