"""The same part of many results, with their numbers and with their gradients.

``crops``: figures 1, 4 and 7 of SPSR (Ma et al., CVPR 2020), figure 6 of DGGGAN and figure 3 of
the gradient variance paper (Abrahamyan et al., ICASSP 2022), for any originals and any results.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from edgekeeper.errors import InputError, UnavailableError, unknown_name
from edgekeeper.evaluation.compare import PairedComparison
from edgekeeper.evaluation.tables import DIGITS, number, titled
from edgekeeper.figures.grid import Cell, Number, Strip, draw_grid
from edgekeeper.figures.panels import (
    ORIGINAL,
    Panel,
    Row,
    enlarged_box,
    grey_gradients,
    in_columns,
    with_original,
)
from edgekeeper.metrics import Protocol, find_protocol, gradient_psnr, gv_gap, lpips, psnr, ssim
from edgekeeper.metrics.perceptual import HEADS_FILE, SMALLEST_LPIPS
from edgekeeper.metrics.score import ALL_METRICS
from edgekeeper.models.backbones import ALEXNET_FILE, weights_file
from edgekeeper.ops.box import Box
from edgekeeper.ops.gradient import magnitude


def _lpips(sr: Tensor, hr: Tensor, *, protocol: Protocol, scale: int) -> Tensor:
    return lpips(sr, hr)


MEASURES: dict[str, Callable[..., Tensor]] = {  # (sr, hr, protocol=, scale=) -> (1,)
    "psnr": psnr,
    "ssim": ssim,
    "lpips": _lpips,
    "gradient_psnr": gradient_psnr,
    "gv_gap": gv_gap,
}
"""What can stand below an image, by name; LPIPS knows no protocol."""


def default_measures(images: Sequence[Tensor]) -> tuple[str, ...]:
    """Return PSNR, and LPIPS where its weights are at hand and the images large enough for it."""
    if any(min(image.shape[-2:]) < SMALLEST_LPIPS for image in images):
        return ("psnr",)
    try:
        for name in (ALEXNET_FILE, HEADS_FILE):
            weights_file(name, purpose="LPIPS")
    except UnavailableError:
        return ("psnr",)
    return ("psnr", "lpips")


def check_measures(names: Sequence[str]) -> None:
    """Raise InputError, with the nearest name, unless all are names of ``MEASURES``."""
    for name in names:
        if name not in MEASURES:
            raise unknown_name("number", name, known=MEASURES)


def crops(
    rows: Sequence[Row],
    *,
    path: str | Path,
    numbers: Sequence[str] = (),
    scale: int | None = None,
    protocol: str | Protocol = "y_matlab",
    original: Literal["first", "last"] = "last",
    whole: bool = False,
    per_line: int | None = None,
) -> Path:
    """Return the file with the same part of each panel and of the original, a row an original.

    Panels of the same label stand in one column; where a row has none, its place stays empty.
    numbers: names of ``MEASURES``, written below each panel, of the whole images under
    ``protocol`` (which needs ``scale``), the best of each row in bold. whole: the original
    with a frame around the part, left of each row. per_line: panels in a line.
    """
    check_measures(numbers)
    chosen = find_protocol(protocol)
    strips = []
    for row, images in zip(rows, in_columns(rows, first=original == "first"), strict=True):
        part = row.box or enlarged_box(row.hr)
        below = _below(images, numbers, hr=row.hr, protocol=chosen, scale=scale)
        cells = [
            Cell(label, None if x is None else part.cut(x), below[label])
            for label, x in images.items()
        ]
        strips.append(Strip(cells, row.name, (row.hr, part) if whole else None))
    note = _condition(chosen, scale=scale) if numbers else ""
    return draw_grid(strips, path=path, per_line=per_line, note=note)


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
    """Return the file with each panel and the original: enlarged part, gradients and numbers.

    The numbers (PSNR, SSIM, gradient variance gap; the best of each is bold) are of the whole
    image under ``protocol``. Gradient magnitudes share the scale of the original. ``box`` is by
    default chosen in the original alone.
    """
    chosen, part = find_protocol(protocol), box or enlarged_box(hr)
    images = {panel.label: panel.image for panel in with_original(hr, panels, first=False)}
    below = _below(images, ("psnr", "ssim", "gv_gap"), hr=hr, protocol=chosen, scale=scale)
    edges = {label: part.cut(magnitude(grey_gradients(x))) for label, x in images.items()}
    cells = [Cell(label, part.cut(x)) for label, x in images.items()]
    cells += [Cell("gradients", edges[label], below[label]) for label in images]
    return draw_grid(
        [Strip(cells, title, (hr, part))],
        path=path,
        per_line=len(images),
        top=float(edges[ORIGINAL].max()),
        note=_condition(chosen, scale=scale),
    )


def worst_places(found: PairedComparison, *, path: str | Path) -> Path:
    """Return the file with the places where ``b`` is worst: A, B and the original side by side.

    Raises InputError when ``b`` is nowhere worse, UnavailableError without matplotlib.
    """
    if not found.places:
        raise InputError(f"'{found.b}' is nowhere worse than '{found.a}': nothing to draw.")
    labels = (f"A: {found.a}", f"B: {found.b}", ORIGINAL)
    strips = []
    for place in found.places:
        where = f"x {place.box.left}, y {place.box.top}"
        below = (f"{place.psnr_a:.2f} dB", f"{place.psnr_b:.2f} dB", where)
        cells = [Cell(*each) for each in zip(labels, place.crops, zip(below), strict=True)]
        strips.append(Strip(cells, f"{place.set} {place.image}"))
    note = f"worst first; PSNR of the square under '{found.protocol.name}'"
    return draw_grid(strips, path=path, note=note)


def _below(
    images: Mapping[str, Tensor | None],
    measures: Sequence[str],
    *,
    hr: Tensor,
    protocol: Protocol,
    scale: int | None,
) -> dict[str, list[Number | str | None]]:
    """Return the lines below each image: its numbers; below the original what they are called."""
    if measures and scale is None:
        raise InputError("Numbers need the scale: give scale=2, 3 or 4.")
    lines: dict[str, list[Number | str | None]] = {label: [] for label in images}
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
            value = text and Number(text, "bold" if text == best else "normal")
            below.append(_title(measure) if label == ORIGINAL else value or None)
    return lines


def _title(measure: str) -> str:
    return titled(measure).replace("PSNR", "PSNR in dB")


def _condition(protocol: Protocol, *, scale: int | None) -> str:
    return f"numbers of the whole images, protocol {protocol.name}, ×{scale}"
