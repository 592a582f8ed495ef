"""VDSR: twenty convolutions that predict what the interpolated image lacks.

Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016,
https://arxiv.org/abs/1511.04587

Interpolate, 20 layers of 3 x 3 convolutions with 64 maps and no bias, add the interpolated input
(its section 3). Three variants:

``"y"``    the paper's: luma in and out, 664,704 parameters.
``"gv"``   the one behind the tables of the gradient variance loss (Abrahamyan et al., ICASSP 2022,
           https://arxiv.org/abs/2202.00997): three channels in, one residual map that is added to
           all three, 665,856 parameters.
``"rgb"``  three channels in and out, 667,008 parameters.

Differences: the interpolation is inside the network; ``interpolation="bilinear"`` is what the
gradient variance code feeds it; ``bias="all"`` is for the published weights, which have biases.
"""

import math
from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.models.base import SRModel, lr_radius
from edgekeeper.ops.resize import imresize

DEPTH = 20
WIDTH = 64


class VDSR(SRModel):
    """VDSR for one scale."""

    def __init__(
        self,
        *,
        scale: int = 2,
        variant: Literal["y", "gv", "rgb"] = "y",
        interpolation: Literal["bicubic", "bilinear"] = "bicubic",
        bias: Literal["none", "all"] = "none",
    ) -> None:
        super().__init__()
        self.scale = scale
        self.channels = "y" if variant == "y" else "rgb"
        self.interpolation = interpolation
        self.receptive_field = 2 + lr_radius(DEPTH, scale=scale)
        colours_in = 1 if variant == "y" else 3
        colours_out = 3 if variant == "rgb" else 1
        widths = [colours_in] + [WIDTH] * (DEPTH - 1)  # into each layer
        self.hidden = nn.ModuleList(
            nn.Conv2d(before, WIDTH, 3, padding=1, bias=bias == "all") for before in widths[:-1]
        )
        self.last = nn.Conv2d(WIDTH, colours_out, 3, padding=1, bias=bias == "all")
        for conv in [*self.hidden, self.last]:
            assert isinstance(conv, nn.Conv2d)
            nn.init.normal_(conv.weight, 0.0, math.sqrt(2 / (9 * conv.out_channels)))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def interpolate(self, lr: Tensor) -> Tensor:
        """Return the interpolated image (B, C, scale·H, scale·W) that the residual is added to."""
        if self.interpolation == "bicubic":
            return imresize(lr, scale=self.scale)
        return F.interpolate(lr, scale_factor=self.scale, mode="bilinear", align_corners=False)

    def features(self, lr: Tensor) -> Tensor:
        maps = self.interpolate(lr)  # (B, C, rH, rW)
        for conv in self.hidden:
            maps = F.relu(conv(maps), inplace=True)  # (B, 64, rH, rW)
        return maps  # (B, 64, rH, rW)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.interpolate(lr) + self.last(features)  # (B, C, rH, rW)
