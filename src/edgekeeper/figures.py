"""Figures of the gradient variance paper and our own: pictures and numbers in, one file out.

Nothing here runs or trains a network. Pictures are RGB tensors (1, 3, H, W) in [0, 1], of one
size, beside the original; the ending of the file says the format (.svg, .pdf, .png).
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.errors import InputError, PictureError, UnavailableError
from edgekeeper.metrics import gv_gap, psnr, ssim
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.gradient import Gradients, sobel
from edgekeeper.ops.structure import patch_variances

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".svg", ".pdf", ".png")
# Okabe and Ito's colours, which colour-blind readers can tell apart.
ORIGINAL_COLOUR = "#333333"
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BOX_COLOUR = "#ffd400"
EDGE_MAP = "magma"
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "edgekeeper",  # equal figures give equal files
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class Panel:
    """A picture (1, 3, H, W) in [0, 1] and what stands beside it."""

    label: str
    picture: Tensor


@dataclass(frozen=True)
class Box:
    """A part of a picture, in HR pixels from the top left."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, x: Tensor) -> Tensor:
        """The part of ``x`` (..., H, W); InputError when the box reaches beyond it."""
        height, width = x.shape[-2:]
        if (
            min(self.top, self.left) < 0
            or min(self.height, self.width) < 1
            or self.top + self.height > height
            or self.left + self.width > width
        ):
            raise InputError(
                f"The box {self.width}x{self.height} at ({self.left}, {self.top}) is not inside "
                f"the picture of {width}x{height} pixels."
            )
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Point:
    """A network in the plane of fidelity and sharpness; ``group`` gives the colour."""

    label: str
    psnr: float
    gv_ratio: float
    group: str = ""


@dataclass(frozen=True)
class VarianceCurves:
    """Gradient variances of every patch, row by row: label -> (patches,), for both directions."""

    x: dict[str, list[float]]
    y: dict[str, list[float]]

    def means(self) -> dict[str, float]:
        """Mean over patches and directions, by label."""
        return {
            label: (sum(self.x[label]) + sum(self.y[label])) / (2 * len(self.x[label]))
            for label in self.x
        }


def structured_box(hr: Tensor, *, side: int = 64) -> Box:
    """The square with the largest sum of squared gradients: chosen from the original alone."""
    height, width = hr.shape[-2:]
    side = min(side, height, width)
    gradients = sobel(rgb_to_grey_gv(hr.float()), border="replicate")
    energy = F.avg_pool2d(gradients.x.square() + gradients.y.square(), side, stride=4)
    place = int(energy.flatten().argmax())
    columns = energy.shape[-1]
    return Box(4 * (place // columns), 4 * (place % columns), side, side)


def gradient_maps(
    hr: Tensor, panels: Sequence[Panel], *, path: str | Path, box: Box | None = None
) -> Path:
    """The file with |Gx| and |Gy| of the original and of each panel (GV paper, figure 1).

    Sobel maps of the grey picture, all on one scale from 0 to the original's maximum.
    """
    shown = _with_original(hr, panels)
    whole = box or _whole(hr)
    maps = [(panel.label, _sobel(panel.picture, whole)) for panel in shown]
    top = max(float(maps[0][1].x.abs().max()), float(maps[0][1].y.abs().max()), 1e-6)
    with _figure(path, width=2.3 * len(maps) + 0.6, height=4.6 * whole.height / whole.width + 0.5) as figure:
        axes = figure.subplots(2, len(maps), squeeze=False)
        for column, (label, gradients) in enumerate(maps):
            for row, values in enumerate((gradients.x, gradients.y)):
                axis = axes[row, column]
                drawn = axis.imshow(
                    values[0, 0].abs().numpy(), cmap=EDGE_MAP, vmin=0, vmax=top, interpolation="nearest"
                )
                _bare(axis)
                if row == 0:
                    axis.set_title(label)
                if column == 0:
                    axis.set_ylabel(("|Gx|", "|Gy|")[row])
        bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.02)
        bar.set_label("absolute gradient (pictures in 0..1)")
        bar.outline.set_visible(False)
    return Path(path)
