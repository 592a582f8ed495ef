"""Images with labels, the part of them that a figure shows, and their gradients."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.gradient import Gradients, sobel

ORIGINAL = "original"  # its label in every figure


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


_WINDOW = 17  # pixels over which a line must keep its direction, at most a third of the square
_MIDDLE = 0.3  # of a corner's worth that it has less than the middle


def structured_box(hr: Tensor, *, side: int = 64) -> Box:
    """Return the square with the most structure: strong gradients that keep a direction.

    Edge strength times the coherence of the structure tensor, so that whiskers count for more
    than fur; a little more in the middle of the image. It is found in the original alone, so that
    the choice favours no result.
    """
    side = min(side, *hr.shape[-2:])
    gradients = grey_gradients(hr)
    window = min(_WINDOW, side // 3 | 1)

    def mean(products: Tensor) -> Tensor:
        return F.avg_pool2d(
            products, window, stride=1, padding=window // 2, count_include_pad=False
        )

    xx, yy = mean(gradients.x.square()), mean(gradients.y.square())  # (1, 1, H, W)
    xy = mean(gradients.x * gradients.y)
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


def whole_box(hr: Tensor) -> Box:
    """Return the box that is the image."""
    return Box(0, 0, *hr.shape[-2:])


def with_original(hr: Tensor, panels: Sequence[Panel], *, first: bool) -> list[Panel]:
    """Return the panels and the original, after a check of their sizes and labels."""
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
    if not panels or len({panel.label for panel in shown}) < len(shown):
        raise InputError(f"Give at least one image, each under its own label (not '{ORIGINAL}').")
    return shown


def in_columns(rows: Sequence[Row], *, first: bool) -> list[dict[str, Tensor | None]]:
    """Return the images of each row by label, its original among them, all rows in the same order.

    None stands where a row has no panel of that label. Raises InputError when there are no rows,
    or as ``with_original``.
    """
    if not rows:
        raise InputError("There are no images to draw; give at least one original.")
    found = [
        {p.label: p.image for p in with_original(row.hr, row.panels, first=first)} for row in rows
    ]
    labels = dict.fromkeys(label for row in found for label in row if label != ORIGINAL)
    ordered = [ORIGINAL, *labels] if first else [*labels, ORIGINAL]
    return [{label: row.get(label) for label in ordered} for row in found]


def grey_gradients(image: Tensor) -> Gradients:
    """Return the Sobel maps (1, 1, H, W) of the grey image, on the CPU."""
    # "replicate": with zeros around it the frame of the image would be its strongest edge.
    return sobel(rgb_to_grey_gv(image.detach().cpu().float().clamp(0, 1)), border="replicate")
