"""SPSR: an RRDB network guided by a branch that super-resolves the gradient map.

Ma et al., "Structure-Preserving Super Resolution with Gradient Guidance", CVPR 2020,
https://arxiv.org/abs/2003.13081

Three parts (its figure 2), each a module of its own, so that a stage of training can choose:

    ``sr``        RRDB's generator up to HR size, without its last convolution; 16,733,184
    ``gradient``  M(lr), joined after each tapped block with the maps of ``sr``;  6,456,835
    ``fusion``    an RRDB block and three convolutions on both, at HR size;       1,606,211

24,796,230 parameters at x4. M is the length of the central differences, zeros around the image;
the last convolution of ``gradient``, 1 x 1, predicts M of the HR image. x2 and x3 enlarge once
and are not in the paper, nor is anything but ``blocks=23, taps=(5, 10, 15, 20)``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models.base import GradientGuided, SRModel, kaiming_normal, lr_radius
from edgekeeper.models.enlarge import SLOPE, Enlarger, tail_radius
from edgekeeper.models.rrdb import NEAR, RRDBlock
from edgekeeper.ops.gradient import gradient_map


class _Enlarged(nn.Module):
    """What both branches end with: enlargement and two convolutions at HR size."""

    def __init__(self, *, scale: int, width: int) -> None:
        super().__init__()
        self.enlarge = Enlarger(width, factor=scale)
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.finish = nn.Conv2d(width, width, 3, padding=1)  # at HR size

    def to_hr(self, maps: Tensor) -> Tensor:
        """Return the maps (B, width, scale·H, scale·W) that the fusion reads."""
        return self.finish(F.leaky_relu(self.refine(self.enlarge(maps)), SLOPE))  # (B, F, rH, rW)


class SRBranch(_Enlarged):
    """RRDB's generator whose last convolution gives ``width`` maps instead of an image."""

    def __init__(self, *, scale: int, width: int, blocks: int, growth: int) -> None:
        super().__init__(scale=scale, width=width)
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.blocks = nn.ModuleList(RRDBlock(width, growth=growth) for _ in range(blocks))
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip

    def deep(self, lr: Tensor) -> list[Tensor]:
        """Return the maps (B, width, H, W) after each block, and last those with the long skip."""
        shallow = self.head(lr)  # (B, F, H, W)
        maps, found = shallow, []  # of each block
        for block in self.blocks:
            maps = block(maps)
            found.append(maps)
        return [*found, shallow + self.after_blocks(maps)]  # (B, F, H, W) each


class GradientSRBranch(_Enlarged):
    """The gradient branch: an RRDB block on its maps and a tap's, narrowed again, per tap."""

    def __init__(self, *, scale: int, width: int, taps: int, growth: int) -> None:
        super().__init__(scale=scale, width=width)
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.blocks = nn.ModuleList(RRDBlock(2 * width, growth=growth) for _ in range(taps))
        self.narrow = nn.ModuleList(nn.Conv2d(2 * width, width, 3, padding=1) for _ in range(taps))
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip
        self.last = nn.Conv2d(width, 3, 1)  # F -> 3, M of HR

    def forward(self, gradient: Tensor, taps: Sequence[Tensor]) -> Tensor:
        shallow = maps = self.head(gradient)  # (B, F, H, W)
        for block, narrow, tap in zip(self.blocks, self.narrow, taps, strict=True):
            maps = narrow(block(torch.cat([maps, tap], dim=1)))  # 2·F -> F
        return self.to_hr(shallow + self.after_blocks(maps))  # (B, F, rH, rW)


class Fusion(nn.Module):
    """The image from the maps of both branches, the gradient's first."""

    def __init__(self, *, width: int, growth: int) -> None:
        super().__init__()
        self.block = RRDBlock(2 * width, growth=growth)
        self.narrow = nn.Conv2d(2 * width, width, 3, padding=1)  # 2·F -> F
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)  # F -> 3, at HR size

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.narrow(self.block(maps))  # (B, F, rH, rW)
        return self.last(F.leaky_relu(self.refine(maps), SLOPE))  # (B, 3, rH, rW)


class SPSR(SRModel):
    """SPSR for one scale; the defaults are the paper's.

    Args:
        taps: after which blocks of ``sr``, counted from 1, the gradient branch reads.

    Raises InputError.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        blocks: int = 23,
        growth: int = 32,
        taps: Sequence[int] = (5, 10, 15, 20),
    ) -> None:
        super().__init__()
        whole = isinstance(taps, Sequence) and all(type(tap) is int for tap in taps)
        increasing = whole and sorted(set(taps)) == list(taps)
        if not increasing or not taps or taps[0] < 1 or taps[-1] > blocks:
            raise InputError(
                f"SPSR's taps are numbers of its {blocks} blocks from 1 on, increasing, at least "
                f"one; got {taps!r}."
            )
        self.scale, self.channels = scale, "rgb"
        self.width, self.taps = width, tuple(taps)
        self.sr = SRBranch(scale=scale, width=width, blocks=blocks, growth=growth)
        self.gradient = GradientSRBranch(scale=scale, width=width, taps=len(taps), growth=growth)
        self.fusion = Fusion(width=width, growth=growth)
        # By LR pixels to the last tap, from there through the branch or the rest of ``sr``,
        # then enlarged; the fusion's 18 convolutions are at HR size.
        to_tap = [1 + 15 * tap for tap in taps]  # an RRDB block is 15 convolutions
        through_branch = [far + 16 * (len(taps) - i) + 1 for i, far in enumerate(to_tap)]
        deep = max(*through_branch, 1 + 15 * blocks + 1)
        tail = tail_radius(scale, convolutions=2) + lr_radius(18, scale=scale)
        self.receptive_field = deep + tail
        kaiming_normal(self, factor=0.1)

    @property
    def overlap(self) -> int:
        """The context of a tile in LR pixels: RRDB's 64 and what the fusion looks further.

        The error bound is that measured for the SR branch alone (``RRDB.overlap``); no trained
        SPSR was at hand to measure as a whole.
        """
        return min(self.receptive_field, NEAR + lr_radius(18, scale=self.scale))

    def features(self, lr: Tensor) -> Tensor:
        *after, deep = self.sr.deep(lr)  # (B, F, H, W) each
        branch = self.gradient(gradient_map(lr), [after[tap - 1] for tap in self.taps])
        return torch.cat([branch, self.sr.to_hr(deep)], dim=1)  # (B, 2·width, rH, rW)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.fusion(features)  # (B, 3, rH, rW)

    def with_gradient(self, lr: Tensor) -> GradientGuided:
        """Return the SR batch and the predicted gradient map of the HR batch."""
        features = self.features(lr)  # (B, 2·F, rH, rW)
        gradient = self.gradient.last(features[:, : self.width])  # (B, 3, rH, rW)
        return GradientGuided(self.reconstruct(features, lr), gradient)

    def sr_branch_only(self, lr: Tensor) -> Tensor:
        """The SR batch with zeros in place of the gradient branch's maps (the paper's figure 7)."""
        maps = self.sr.to_hr(self.sr.deep(lr)[-1])  # (B, F, rH, rW)
        return self.reconstruct(torch.cat([torch.zeros_like(maps), maps], dim=1), lr)
