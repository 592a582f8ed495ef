"""Where one result is worse than the other: the square of a picture that shows it most."""

import math
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.evaluate import Result
from edgekeeper.figures.panels import Box
from edgekeeper.metrics.protocol import compared

SIDE = 64  # pixels of the squares that are looked at
STEP = 4  # pixels between two of them


@dataclass(frozen=True, kw_only=True)
class Place:
    """A square in which ``b`` is worse than ``a``: where, its PSNR in dB, and what it looks like.

    excess: how much larger b's mean squared error is there, for values in [0, 1]. PSNR under the
    protocol's colour and rounding. crops: of a, b and the original, each (1, 3, h, w).
    """

    set: str
    picture: str
    box: Box
    excess: float
    psnr_a: float
    psnr_b: float
    crops: tuple[Tensor, Tensor, Tensor]


def worst_place(a: Result, b: Result, *, hr: Tensor) -> Place | None:
    """The square in which b's squared error exceeds a's most, None where it nowhere does."""
    errors = []
    for result in (a, b):
        pair = compared(result.picture, hr, protocol=a.protocol, scale=a.pair.scale, metric="psnr")
        errors.append((pair.sr - pair.hr).square().mean(dim=1, keepdim=True))
    side = min(SIDE, *errors[0].shape[-2:])
    ours, theirs = (F.avg_pool2d(error, side, stride=STEP) for error in errors)
    excess = (theirs - ours).flatten()
    at = int(excess.argmax())
    if excess[at] <= 0:
        return None
    border = (hr.shape[-2] - errors[0].shape[-2]) // 2
    row, column = divmod(at, ours.shape[-1])
    box = Box(STEP * row + border, STEP * column + border, side, side)
    return Place(
        set=a.set,
        picture=a.pair.name,
        box=box,
        excess=float(excess[at]),
        psnr_a=_decibel(float(ours.flatten()[at])),
        psnr_b=_decibel(float(theirs.flatten()[at])),
        crops=(_crop(a.picture, box), _crop(b.picture, box), _crop(hr, box)),
    )


def _crop(picture: Tensor, box: Box) -> Tensor:
    return box.cut(picture).clamp(0, 1).float()


def _decibel(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)
