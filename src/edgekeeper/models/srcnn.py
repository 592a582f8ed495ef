"""SRCNN: three convolutions on the interpolated image.

Dong et al., "Image Super-Resolution Using Deep Convolutional Networks", TPAMI 2016,
https://arxiv.org/abs/1501.00092

Patch extraction (9), non-linear mapping (``middle``: 1 or 5), reconstruction (5), section 3.1.
Parameters of 9-5-5: 57,281 on luma, 69,251 on RGB; of 9-1-5: 8,129 and 20,099.

Differences: zero padding keeps the size; the paper trains without padding. The interpolation is
inside the network, so that it takes the LR image like every other network here.
"""

from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.models.base import COLOUR_COUNT, Channels, SRModel, lr_radius
from edgekeeper.ops.resize import imresize


class SRCNN(SRModel):
    """SRCNN 9-``middle``-5 for one scale."""

    def __init__(
        self, *, scale: int = 3, channels: Channels = "y", middle: Literal[1, 5] = 5
    ) -> None:
        super().__init__()
        colours = COLOUR_COUNT[channels]
        self.scale, self.channels = scale, channels
        self.receptive_field = 2 + lr_radius(4 + middle // 2 + 2, scale=scale)
        self.conv1 = nn.Conv2d(colours, 64, 9, padding=4)  # C -> 64, eq. 1
        self.conv2 = nn.Conv2d(64, 32, middle, padding=middle // 2)  # 64 -> 32, eq. 2
        self.conv3 = nn.Conv2d(32, colours, 5, padding=2)  # 32 -> C, eq. 3
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.normal_(conv.weight, 0.0, 0.001)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def features(self, lr: Tensor) -> Tensor:
        # (B, 32, rH, rW)
        return F.relu(self.conv2(F.relu(self.conv1(imresize(lr, scale=self.scale)))))

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.conv3(features)  # (B, C, rH, rW)
