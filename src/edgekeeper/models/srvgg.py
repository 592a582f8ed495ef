"""SRVGGNetCompact: Real-ESRGAN's compact network, a plain stack of convolutions at LR size.

Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic
Data", ICCVW 2021, https://arxiv.org/abs/2107.10833. The network came after the paper, with the
weights realesr-general-x4v3 and realesr-animevideov3 of https://github.com/xinntao/Real-ESRGAN.

    y = shuffle(c_n+1(f(c_n(... f(c_1(f(c_0(x)))))))) + nearest(x)

with 3 x 3 convolutions c and PReLUs f of one slope for each map. n is 32 in the general networks,
16 in those for animation. Layers have the official names ``body.0``, ``body.1``, ...

    parameters     x2         x3         x4
    width 64, 32   1,192,524  1,201,179  1,213,296   convolutions, the default
    width 64, 16     600,652    609,307    621,424

What differs: x3 is not published, and the only activation is PReLU. Weights start as PyTorch's do.
"""

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.models.base import SRModel


class SRVGGNetCompact(SRModel):
    """The compact network for one scale.

    Args:
        width: maps of every layer.
        convolutions: those between the first and the last.
    """

    def __init__(self, *, scale: int = 4, width: int = 64, convolutions: int = 32) -> None:
        super().__init__()
        self.scale, self.channels = scale, "rgb"
        self.receptive_field = convolutions + 2  # 3 x 3 each
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        # 3 -> F -> 3·r²
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3 * scale**2, 3, padding=1))
        self.shuffle = nn.PixelShuffle(scale)  # (B, 3·r², H, W) -> (B, 3, rH, rW)

    def features(self, lr: Tensor) -> Tensor:
        return self.body[:-1](lr)  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        residual = self.shuffle(self.body[-1](features))  # (B, 3·scale², H, W) -> HR size
        # (B, 3, rH, rW)
        return residual + F.interpolate(lr, scale_factor=float(self.scale), mode="nearest")
