"""The numbers below the images of a figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from edgekeeper.errors import InputError, UnavailableError, unknown_name
from edgekeeper.figures.canvas import INK, PALE
from edgekeeper.metrics import Protocol, gradient_psnr, gv_gap, lpips, psnr, ssim
from edgekeeper.metrics.perceptual import HEADS_FILE
from edgekeeper.models.backbones import ALEXNET_FILE, weights_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_POINTS = 12  # from one line of numbers to the next
LPIPS_SIDE = 31  # pixels that LPIPS needs


@dataclass(frozen=True)
class Measure:
    """A number of a result: its name in the figure, its digits, and which value is best."""

    title: str
    digits: int
    best: Literal["highest", "lowest"]
    of: Callable[[Tensor, Tensor, Protocol, int], Tensor]


MEASURES: dict[str, Measure] = {
    "psnr": Measure(
        "PSNR in dB ↑",
        2,
        "highest",
        lambda sr, hr, protocol, scale: psnr(sr, hr, protocol=protocol, scale=scale),
    ),
    "ssim": Measure(
        "SSIM ↑",
        4,
        "highest",
        lambda sr, hr, protocol, scale: ssim(sr, hr, protocol=protocol, scale=scale),
    ),
    "lpips": Measure("LPIPS ↓", 3, "lowest", lambda sr, hr, _protocol, _scale: lpips(sr, hr)),
    "gradient_psnr": Measure(
        "gradient PSNR ↑",
        2,
        "highest",
        lambda sr, hr, protocol, scale: gradient_psnr(sr, hr, protocol=protocol, scale=scale),
    ),
    "gv_gap": Measure(
        "GV gap ↓",
        3,
        "lowest",
        lambda sr, hr, protocol, scale: gv_gap(sr, hr, protocol=protocol, scale=scale),
    ),
}
"""What can stand below an image, by name; LPIPS knows no protocol."""


@dataclass(frozen=True)
class Number:
    """A number as it is written, the best of its kind in bold."""

    text: str
    weight: Literal["normal", "bold"]


def default_measures(images: Sequence[Tensor]) -> tuple[str, ...]:
    """PSNR, and LPIPS where its weights are at hand and the images large enough for it."""
    if any(min(image.shape[-2:]) < LPIPS_SIDE for image in images):
        return ("psnr",)
    try:
        for name in (ALEXNET_FILE, HEADS_FILE):
            weights_file(name, purpose="LPIPS")
    except UnavailableError:
        return ("psnr",)
    return ("psnr", "lpips")


def find_measures(names: Sequence[str]) -> list[Measure]:
    """Return the measures of these names; InputError for an unknown one, with the nearest name."""
    for name in names:
        if name not in MEASURES:
            raise unknown_name("number", name, known=MEASURES)
    return [MEASURES[name] for name in names]


def measured(
    measure: Measure,
    images: Sequence[Tensor | None],
    *,
    hr: Tensor,
    protocol: Protocol,
    scale: int | None,
) -> list[Number | None]:
    """Return the number of each image against ``hr``; None for None."""
    if scale is None:
        raise InputError("Numbers need the scale: give scale=2, 3 or 4.")
    values = [
        None if image is None else measure.of(image, hr, protocol, scale).item() for image in images
    ]
    texts = [None if value is None else f"{value:.{measure.digits}f}" for value in values]
    there = [value for value in values if value is not None]
    bold = ""  # none, where all are the same
    if len(set(texts) - {None}) > 1:
        bold = f"{(max if measure.best == 'highest' else min)(there):.{measure.digits}f}"
    return [
        None if text is None else Number(text, "bold" if text == bold else "normal")
        for text in texts
    ]


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
