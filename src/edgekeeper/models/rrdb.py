"""RRDB: the generator of ESRGAN, dense blocks inside residual blocks inside a residual.

Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCV Workshops
2018, https://arxiv.org/abs/1809.00219

Head, ``blocks`` RRDBs of ``width`` maps (its figure 4), a long skip, then nearest-neighbour
enlargements with a convolution each, and two more convolutions at HR size.

    the paper's: 23 blocks, width 64, growth 32    16,697,987 parameters at x4

Where its code departs from figures, the code is followed: the residual factor is 0.2 in each
dense block and around each three. x3 (one enlargement by 3) is not in the paper. ``unshuffle=2``
is Real-ESRGAN's x2 (Wang et al., ICCV Workshops 2021, https://arxiv.org/abs/2107.10833): the x4
network on 2 x 2 pixels put into channels; odd sizes are filled by repeating the last pixel.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models.base import SRModel, ZeroOrMore, filled, kaiming_normal
from edgekeeper.models.enlarge import SLOPE, Enlarger, tail_radius

RESIDUAL = 0.2
NEAR = 64  # LR pixels within which all but a rest of what changes a pixel lies: see RRDB.overlap


class DenseBlock(nn.Module):
    """x + 0.2 · five convolutions, each of which sees the block's input and all maps before it."""

    def __init__(self, width: int, *, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(width + k * growth, growth if k < 4 else width, 3, padding=1)
            for k in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.convs  # four to growth maps, one to F
        seen = x
        for conv in hidden:
            seen = torch.cat([seen, F.leaky_relu(conv(seen), SLOPE)], dim=1)  # + growth
        return torch.add(x, last(seen), alpha=RESIDUAL)  # (B, F, H, W)


class RRDBlock(nn.Module):
    """x + 0.2 · three dense blocks in a row: the residual in residual dense block."""

    def __init__(self, width: int, *, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(width, growth=growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.dense(x), alpha=RESIDUAL)  # (B, F, H, W)


class RRDB(SRModel):
    """ESRGAN's generator for one scale; the defaults are the paper's. Raises InputError."""

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        blocks: ZeroOrMore = 23,
        growth: int = 32,
        unshuffle: Literal[1, 2] = 1,
    ) -> None:
        super().__init__()
        if unshuffle == 2 and scale != 2:
            raise InputError(
                f"RRDB has no unshuffle={unshuffle} at scale {scale}; "
                "it is 1, or 2 at scale 2 (Real-ESRGAN's x2)."
            )
        self.scale, self.channels = scale, "rgb"
        self.unshuffle = unshuffle
        self.multiple = unshuffle  # tiles that start elsewhere would group other pixels
        factor = scale * unshuffle
        self.head = nn.Conv2d(3 * unshuffle**2, width, 3, padding=1)  # pixels or cells -> F
        self.blocks = nn.Sequential(*(RRDBlock(width, growth=growth) for _ in range(blocks)))
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip
        self.enlarge = Enlarger(width, factor=factor)  # (B, F, rH, rW)
        self.refine = nn.Conv2d(width, width, 3, padding=1)  # at HR size
        self.last = nn.Conv2d(width, 3, 3, padding=1)  # F -> 3, at HR size
        radius = 1 + 15 * blocks + 1 + tail_radius(factor, convolutions=2)  # in cells
        self.receptive_field = unshuffle * radius + unshuffle - 1
        kaiming_normal(self, factor=0.1)

    @property
    def overlap(self) -> int:
        """The context of a tile in LR pixels: 64 at most (128 if unshuffled).

        Influence fades long before the receptive field ends. Measured with Real-ESRGAN's trained
        x4plus (23 blocks) on 13 strips of Set5 and Set14 that were cut off: the largest change of
        any SR value beyond so many LR pixels from the cut, in grey levels of 255, is

            16      24      32      40     48     56     64     72
            56.7    45.6    16.0    7.3    4.8    3.4    1.3    1.2

        and the root mean square over a column of pixels at 64 or more is 0.30. With weights as
        they start (6 blocks) the change is below 1e-6 from 4 pixels on. Unshuffled networks count
        in cells of two pixels.
        """
        return min(self.receptive_field, self.unshuffle * NEAR)

    def features(self, lr: Tensor) -> Tensor:
        shallow = self.head(self._unshuffled(lr))  # (B, F, H, W), half the size if unshuffled
        return shallow + self.after_blocks(self.blocks(shallow))  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        maps = F.leaky_relu(self.refine(self.enlarge(features)), SLOPE)  # (B, F, rH, rW)
        height, width = lr.shape[-2:]
        # (B, 3, rH, rW)
        return self.last(maps)[..., : self.scale * height, : self.scale * width]

    def _unshuffled(self, lr: Tensor) -> Tensor:
        """Return the input of the head: ``lr``, or its blocks of pixels in channels."""
        if self.unshuffle == 1:
            return lr
        return F.pixel_unshuffle(filled(lr, multiple=self.unshuffle), self.unshuffle)
