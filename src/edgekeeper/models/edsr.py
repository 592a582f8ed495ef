"""EDSR: residual blocks without batch normalisation.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017,
https://arxiv.org/abs/1707.02921

Head, ``blocks`` residual blocks of ``width`` maps, a long skip, an upsampler (its figures 2 and 3).
The mean colour of DIV2K is subtracted first and added last.

    baseline  width 64,  16 blocks                     1,369,859 / 1,554,499 / 1,517,571 (x2/x3/x4)
    paper     width 256, 32 blocks, residual_scale 0.1  40,729,603 / 43,680,003 / 43,089,923

Differences: colours are in [0, 1], where the official code works in 0..255 (the loader of
published weights rescales). Three options that the paper does not have make short trainings and
small machines happy: ``upsampler="direct"`` is one convolution to 3·scale² maps and one pixel
shuffle, so that every multiplication happens at LR size and a network of another scale differs
in its last layer only; ``skip="bicubic"`` adds the interpolated input, so that an untrained
network is already as good as interpolation; ``border=2`` repeats pixels around an image, so that
flat colours stay flat to its rim.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.models.base import SRModel, ZeroOrMore
from edgekeeper.models.enlarge import DIRECT_RADIUS, SUBPIXEL_RADIUS, direct_tail, subpixel_tail
from edgekeeper.ops.resize import imresize

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


class ResidualBlock(nn.Module):
    """x + residual_scale · conv(relu(conv(x))), figure 2 (c)."""

    def __init__(self, width: int, *, residual_scale: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)  # figure 2 (c)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv2(F.relu(self.conv1(x), inplace=True))  # (B, F, H, W)
        if self.residual_scale != 1.0:
            residual = residual * self.residual_scale
        return x + residual  # (B, F, H, W)


class EDSR(SRModel):
    """EDSR for one scale; the defaults are the paper's baseline."""

    mean: Tensor

    def __init__(
        self,
        *,
        scale: int = 2,
        width: int = 64,
        blocks: int = 16,
        residual_scale: float = 1.0,
        upsampler: Literal["steps", "direct"] = "steps",
        skip: Literal["none", "bicubic"] = "none",
        border: ZeroOrMore = 0,
    ) -> None:
        super().__init__()
        self.scale, self.channels, self.border = scale, "rgb", border
        self.skip = skip
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1), persistent=False)
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.blocks = nn.Sequential(
            *(ResidualBlock(width, residual_scale=residual_scale) for _ in range(blocks))
        )
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip
        if upsampler == "direct":
            self.upsampler, tail_radius = direct_tail(width, scale=scale), DIRECT_RADIUS
        else:  # section 3.2
            self.upsampler = subpixel_tail(width, scale=scale, inner=width)
            tail_radius = SUBPIXEL_RADIUS
        self.receptive_field = 1 + 2 * blocks + 1 + tail_radius  # head, blocks, after_blocks, tail
        if skip == "bicubic":  # start as interpolation
            last = self.upsampler[-2 if upsampler == "direct" else -1]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def features(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr - self.mean)  # (B, F, H, W)
        return shallow + self.after_blocks(self.blocks(shallow))  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        sr = self.upsampler(features)  # (B, 3, rH, rW)
        base = imresize(lr, scale=self.scale) if self.skip == "bicubic" else self.mean  # to RGB
        return sr + base  # (B, 3, rH, rW)
