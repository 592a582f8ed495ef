"""What is done to a network's result: it is sharpened as asked, and what is flat stays flat."""

from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.ops.sharpen import STRONGEST, reach, sharpen

# The strength of ``ops.sharpen`` at a sharpness of 1, for a scale of 1: at 2, 3 and 4 it gives
# results about as much gradient variance as originals have (docs/sharpness.md).
_FULL = 1 / 2000

_EQUAL = 2e-6  # apart by the rounding of floats; a step of 16 bits is 1.5e-5
_LEAST_SIDE = 3  # pixels in which a gradient fits


@dataclass(frozen=True)
class Finish:
    """How results of a network for ``scale`` are finished.

    Attributes:
        sharpness: from 0, as the network made it, to 1.
        flat: LR pixels around one that must be equal to it for it to count as flat; 0: none do.
    """

    scale: int = 1
    sharpness: float = 0.0
    flat: int = 0

    @property
    def strength(self) -> float:
        """That of ``ops.sharpen``."""
        return min(STRONGEST, _FULL * self.sharpness * self.scale**2)

    @property
    def context(self) -> int:
        """How many LR pixels around a tile it needs, beside the network's."""
        return ceil(reach(self.strength) / self.scale) if self.sharpness else 0

    def keeps(self, lr: Tensor) -> bool:
        """Return whether all of ``lr`` is flat: no network need see it."""
        return self.flat > 0 and bool(((lr - lr[..., :1, :1]).abs() < _EQUAL).all())

    def __call__(self, sr: Tensor, lr: Tensor) -> Tensor:
        """Return what becomes of ``sr`` (B, C, rH, rW) in [0, 1], made of ``lr`` (B, C, H, W)."""
        if self.sharpness and min(sr.shape[-2:]) >= _LEAST_SIDE:
            sr = sharpen(sr, self.strength).clamp_(0, 1)
        return keep_flat(sr, lr, radius=self.flat) if self.flat else sr


def keep_flat(sr: Tensor, lr: Tensor, *, radius: int) -> Tensor:
    """Return ``sr`` (B, C, rH, rW) with the colour of ``lr`` (B, C, H, W) where that is flat.

    Flat are pixels with equal ones around them, up to ``radius`` in both directions: what is
    one colour in a logo stays that colour to the level, whatever the network makes of it.
    """
    size = 2 * radius + 1
    around = F.pad(lr, (radius,) * 4, mode="replicate")
    most, least = F.max_pool2d(around, size, 1), -F.max_pool2d(-around, size, 1)
    flat = (most - least < _EQUAL).all(dim=1, keepdim=True)  # (B, 1, H, W)
    if not bool(flat.any()):
        return sr
    scale = sr.shape[-1] // lr.shape[-1]
    return torch.where(enlarged(flat, scale), enlarged(lr, scale), sr)  # (B, C, rH, rW)


def enlarged(x: Tensor, scale: int) -> Tensor:
    """Return ``x`` (..., H, W) with each pixel repeated: (..., scale·H, scale·W)."""
    return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
