"""Figures of images: the same part of many results, with numbers, or as gradients.

``crops``: figures 1, 4 and 7 of SPSR (Ma et al., CVPR 2020), figure 6 of DGGGAN and figure 3 of
the gradient variance paper (Abrahamyan et al., ICASSP 2022). ``gradient_maps`` and
``branch_maps``: figure 1 of the latter, figures 5 and 6 of SPSR, figure 5 of DGGGAN. All for any
originals, results and networks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from edgekeeper.errors import InputError, UnavailableError, check_choice
from edgekeeper.evaluation.compare import PairedComparison
from edgekeeper.evaluation.tables import DIGITS, number, titled
from edgekeeper.figures.rows import (
    ORIGINAL,
    Cell,
    Line,
    Panel,
    Row,
    Strip,
    draw_grid,
    enlarged_box,
    grey_gradients,
    in_columns,
    structured_box,
    with_original,
)
from edgekeeper.metrics import Protocol, find_protocol, gradient_psnr, gv_gap, lpips, psnr, ssim
from edgekeeper.metrics.perceptual import HEADS_FILE, SMALLEST_LPIPS
from edgekeeper.metrics.score import ALL_METRICS
from edgekeeper.models.backbones import ALEXNET_FILE, weights_file
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.gradient import central, gradient_map, magnitude

MEASURES: dict[str, Callable[..., Tensor]] = {  # (sr, hr, protocol=, scale=) -> (1,)
    "psnr": psnr,
    "ssim": ssim,
    "lpips": lambda sr, hr, **_: lpips(sr, hr),  # it knows no protocol
    "gradient_psnr": gradient_psnr,
    "gv_gap": gv_gap,
}
"""What can stand below an image, by name."""

_SIDE = 128  # of the part of maps that is shown, in pixels


def default_measures(images: Sequence[Tensor]) -> tuple[str, ...]:
    """Return PSNR, and LPIPS where its weights are at hand and the images large enough for it."""
    try:
        for name in (ALEXNET_FILE, HEADS_FILE):
            weights_file(name, purpose="LPIPS")
    except UnavailableError:
        return ("psnr",)
    large = all(min(image.shape[-2:]) >= SMALLEST_LPIPS for image in images)
    return ("psnr", "lpips") if large else ("psnr",)


def check_measures(names: Sequence[str]) -> None:
    """Raise InputError, with the nearest name, unless all are names of ``MEASURES``."""
    for name in names:
        check_choice("number", name, known=MEASURES)


def crops(
    rows: Sequence[Row],
    *,
    path: str | Path,
    numbers: Sequence[str] = (),
    scale: int | None = None,
    protocol: str | Protocol = "y_matlab",
    original: Literal["first", "last"] = "last",
    whole: bool = False,
) -> Path:
    """Return the file with the same part of each panel and of the original, a row an original.

    Panels of the same label stand in one column; where a row has none, its place stays empty.
    numbers: names of ``MEASURES``, below each panel, of the whole images under ``protocol``; the
    best in bold. whole: the original with a frame around the part too.
    """
    check_measures(numbers)
    chosen = find_protocol(protocol)
    strips = []
    for row, images in zip(rows, in_columns(rows, first=original == "first"), strict=True):
        part = row.box or enlarged_box(row.hr)
        below = _below(images, numbers, hr=row.hr, protocol=chosen, scale=scale)
        cells = [Cell(label, _cut(part, x), below[label]) for label, x in images.items()]
        strips.append(Strip(cells, row.name, (row.hr, part) if whole else None))
    note = _condition(chosen, scale=scale) if numbers else ""
    return draw_grid(strips, path=path, note=note)


def comparison(
    hr: Tensor,
    panels: Sequence[Panel],
    *,
    path: str | Path,
    scale: int,
    protocol: str | Protocol = "y_matlab",
    box: Box | None = None,
) -> Path:
    """Return the file with each panel and the original: enlarged part, gradients and numbers.

    The numbers (PSNR, SSIM, gradient variance gap) are of the whole image under ``protocol``.
    """
    chosen, part = find_protocol(protocol), box or enlarged_box(hr)
    images = with_original(hr, panels, first=False)
    below = _below(images, ("psnr", "ssim", "gv_gap"), hr=hr, protocol=chosen, scale=scale)
    edges = {label: part.cut(magnitude(grey_gradients(x))) for label, x in images.items()}
    cells = [Cell(label, part.cut(x)) for label, x in images.items()]
    cells += [Cell("gradients", edges[label], below[label]) for label in images]
    return draw_grid(
        [Strip(cells, whole=(hr, part))],
        path=path,
        per_line=len(images),
        top=float(edges[ORIGINAL].max()),
        note=_condition(chosen, scale=scale),
    )


def worst_places(found: PairedComparison, *, path: str | Path) -> Path:
    """Return the file with the places where ``b`` is worst. Raises InputError: there are none."""
    if not found.places:
        raise InputError(f"'{found.b}' is nowhere worse than '{found.a}': nothing to draw.")
    labels = (f"A: {found.a}", f"B: {found.b}", ORIGINAL)
    strips = []
    for place in found.places:
        where = f"x {place.box.left}, y {place.box.top}"
        below = (f"{place.psnr_a:.2f} dB", f"{place.psnr_b:.2f} dB", where)
        each = zip(labels, place.crops, below, strict=True)
        cells = [Cell(label, image, [Line(text)]) for label, image, text in each]
        strips.append(Strip(cells, f"{place.set} {place.image}"))
    note = f"worst first; PSNR of the square under '{found.protocol.name}'"
    return draw_grid(strips, path=path, note=note)


def _cut(part: Box, image: Tensor | None) -> Tensor | None:
    return None if image is None else part.cut(image)


def _below(
    images: Mapping[str, Tensor | None],
    measures: Sequence[str],
    *,
    hr: Tensor,
    protocol: Protocol,
    scale: int | None,
) -> dict[str, list[Line | None]]:
    """Return the lines below each image: its numbers; below the original what they are called."""
    if measures and scale is None:
        raise InputError("Numbers need the scale: give scale=2, 3 or 4.")
    lines: dict[str, list[Line | None]] = {label: [] for label in images}
    for measure in measures:
        texts = {
            label: number(
                MEASURES[measure](x, hr, protocol=protocol, scale=scale).item(),
                digits=DIGITS[measure],
            )
            for label, x in images.items()
            if label != ORIGINAL and x is not None
        }
        ranked = sorted(set(texts.values()), key=float)
        # Where all are the same, none is best.
        best = ranked[-1 if ALL_METRICS[measure] == "highest" else 0] if len(ranked) > 1 else ""
        for label, below in lines.items():
            text = texts.get(label)
            below.append(Line(text, "bold" if text == best else "normal") if text else None)
        lines[ORIGINAL][-1] = Line(titled(measure).replace("PSNR", "PSNR in dB"))
    return lines


def _condition(protocol: Protocol, *, scale: int | None) -> str:
    return f"numbers of the whole images, protocol {protocol.name}, ×{scale}"


# ---- Maps of gradients side by side, all on one scale -------------------------------------------


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
    scale, from 0 to the largest value in the originals' parts.
    """
    strips, top = [], 0.0
    for row, images in zip(rows, in_columns(rows, first=True), strict=True):
        part = row.box or structured_box(row.hr, side=_SIDE)
        found = {label: {} if x is None else _maps(x, kind) for label, x in images.items()}
        for name, original in found[ORIGINAL].items():
            top = max(top, float(part.cut(original).max()))
            cells = [Cell(label, _cut(part, maps.get(name))) for label, maps in found.items()]
            place = (row.hr, part) if whole else None
            strips.append(Strip(cells, " ".join(filter(None, (row.name, name))), place))
    bar = {
        "directions": "absolute Sobel gradient\nof grey in 0..1",
        "length": "length of the gradient,\nmean of R, G, B in 0..1",
    }
    return draw_grid(strips, path=path, top=top, bar=bar[kind])


def _maps(image: Tensor, kind: Literal["directions", "length"]) -> dict[str, Tensor]:
    if kind == "directions":
        gradients = grey_gradients(image)
        return {"|Gx|": gradients.x.abs(), "|Gy|": gradients.y.abs()}
    pixels = image.detach().cpu().float().clamp(0, 1)
    lengths = magnitude(central(pixels, border="replicate"))  # (1, 3, H, W)
    return {"": lengths.mean(dim=1, keepdim=True)}


def branch_maps(
    rows: Sequence[Row], *, bicubic: Sequence[Tensor], path: str | Path, whole: bool = False
) -> Path:
    """Return the file with the original, its M, M of its interpolation, and the branches' maps.

    The images of a row's panels are the gradient maps that branches made, (1, 3, H, W) of networks
    on RGB, (1, 1, H, W) on luma; ``bicubic`` holds its interpolation (1, 3, H, W).

    M is the map that branches are trained to give; all maps are drawn clamped to [0, 1], averaged
    over colours and on one scale, up to the largest value in the originals' parts. Below them
    stands the mean absolute difference from M of the original, not clamped, over the whole map but
    for its outermost ring, where M sees the zeros beyond the border.
    """
    strips, top = [], 0.0
    for row, interpolated in zip(rows, bicubic, strict=True):
        part = _within(row.box or structured_box(row.hr, side=_SIDE), row.hr)
        made = _branch_cells(row, interpolated)
        maps = [replace(cell, image=_cut(part, cell.image)) for cell in made]
        assert maps[0].image is not None
        top = max(top, float(maps[0].image.max()))
        cells = [Cell(ORIGINAL, part.cut(row.hr)), *maps]
        strips.append(Strip(cells, row.name, (row.hr, part) if whole else None))
    return draw_grid(strips, path=path, top=top, bar="length of the gradient M\nin 0..1")


def _branch_cells(row: Row, bicubic: Tensor) -> list[Cell]:
    """Return the whole maps: of the original, of its interpolation, and those of the branches."""
    colours = {panel.image.shape[1] for panel in row.panels}
    if len(colours) != 1:
        raise InputError(
            "The networks of one figure must all work on RGB or all on luma, and there must be "
            "at least one."
        )
    target, enlarged = (
        gradient_map(rgb_to_y(x) if colours == {1} else x) for x in (row.hr, bicubic)
    )
    made = [(f"M({ORIGINAL})", target), ("M(bicubic)", enlarged)]
    made += [(panel.label, panel.image.detach().cpu().float()) for panel in row.panels]
    for label, found in made:
        if found.shape != target.shape:
            raise InputError(
                f"The map of '{label}' is {tuple(found.shape)}, that of the original "
                f"{tuple(target.shape)}; all must have the original's size."
            )
    inner = (..., slice(1, -1), slice(1, -1))
    distances = [float((x[inner] - target[inner]).abs().mean()) for _, x in made]
    best = min(distances[1:])
    lines = [Line(f"{d:.4f}", "bold" if d == best else "normal") for d in distances]
    lines[0] = Line("mean |difference| ↓")
    return [
        Cell(label, x.clamp(0, 1).mean(dim=1, keepdim=True), [line])  # (1, 1, H, W)
        for (label, x), line in zip(made, lines, strict=True)
    ]


def _within(part: Box, hr: Tensor) -> Box:
    part.cut(hr)  # a box that reaches beyond the image is an error, not trimmed
    top, left = max(part.top, 1), max(part.left, 1)
    bottom = min(part.top + part.height, hr.shape[-2] - 1)
    right = min(part.left + part.width, hr.shape[-1] - 1)
    if bottom <= top or right <= left:
        raise InputError("The box holds nothing but the border of the image; choose another.")
    return Box(top, left, bottom - top, right - left)
