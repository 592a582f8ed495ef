"""ESPCN: an efficient sub-pixel convolutional network.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network", CVPR 2016, https://arxiv.org/abs/1609.05158

Three convolutions (5, 3, 3) at LR size, tanh between, then a pixel shuffle (its equations 1 to 4).
Parameters on luma: 21,284 / 22,729 / 24,752 for x2 / x3 / x4; on RGB 26,796 / 31,131 / 37,200.

Differences: zero padding, so that the output is exactly ``scale`` times the input.
"""

import math

from torch import Tensor, nn

from edgekeeper.models.base import COLOUR_COUNT, Channels, SRModel


class ESPCN(SRModel):
    """ESPCN for one scale."""

    def __init__(self, *, scale: int = 3, channels: Channels = "y") -> None:
        super().__init__()
        colours = COLOUR_COUNT[channels]
        self.scale, self.channels = scale, channels
        self.receptive_field = 2 + 1 + 1
        self.conv1 = nn.Conv2d(colours, 64, 5, padding=2)  # C -> 64, eq. 1
        self.conv2 = nn.Conv2d(64, 32, 3, padding=1)  # 64 -> 32, eq. 2
        self.conv3 = nn.Conv2d(32, colours * scale**2, 3, padding=1)  # 32 -> C·r²
        self.shuffle = nn.PixelShuffle(scale)  # eqs. 3 and 4
        self._initialise()

    def _initialise(self) -> None:
        for conv in (self.conv1, self.conv2):
            fan_out = conv.out_channels * conv.kernel_size[0] ** 2
            nn.init.normal_(conv.weight, 0.0, math.sqrt(2 / fan_out))
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.conv3.weight, 0.0, 0.001)
        nn.init.zeros_(self.conv3.bias)  # type: ignore[arg-type]

    def features(self, lr: Tensor) -> Tensor:
        return self.conv2(self.conv1(lr).tanh()).tanh()  # (B, 32, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.shuffle(self.conv3(features))  # (B, C, rH, rW)
