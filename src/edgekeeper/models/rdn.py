"""RDN: dense blocks whose results are all kept and fused at the end.

Zhang et al., "Residual Dense Network for Image Super-Resolution", CVPR 2018,
https://arxiv.org/abs/1802.08797

Two convolutions of shallow features, ``blocks`` residual dense blocks of ``layers`` convolutions
that add ``growth`` maps each (its figure 3), a fusion of what all blocks gave, a skip from the
first convolution, then sub-pixel enlargements (figure 2).

    the paper's: 16 blocks of 8 layers, width 64, growth 64
                                               22,123,395 / 22,308,035 / 22,271,107 (x2/x3/x4)

The paper calls them D, C, G0 and G. No mean colour is subtracted, as in the official code. The
enlarged maps are ``growth`` many.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.models.base import SRModel
from edgekeeper.models.enlarge import SUBPIXEL_RADIUS, subpixel_tail


class ResidualDenseBlock(nn.Module):
    """x + a 1 x 1 fusion of x and all layers, each of which sees all before it; section 3.2.

    ``residual_scale`` is what the fusion is multiplied by; it is 1 in RDN, not in NatSR.
    """

    def __init__(
        self, width: int, *, growth: int, layers: int, residual_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.convs = nn.ModuleList(
            nn.Conv2d(width + k * growth, growth, 3, padding=1) for k in range(layers)
        )
        self.fusion = nn.Conv2d(width + layers * growth, width, 1)  # G0 + C·G -> G0, eq. 7

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in self.convs:
            seen = torch.cat([seen, F.relu(conv(seen))], dim=1)  # (B, G0 + k·G, H, W), eq. 6
        return torch.add(x, self.fusion(seen), alpha=self.residual_scale)  # (B, F, H, W)


class RDN(SRModel):
    """RDN for one scale; the defaults are the paper's largest."""

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        blocks: int = 16,
        layers: int = 8,
        growth: int = 64,
    ) -> None:
        super().__init__()
        self.scale, self.channels = scale, "rgb"
        self.head1 = nn.Conv2d(3, width, 3, padding=1)  # 3 -> G0
        self.head2 = nn.Conv2d(width, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(width, growth=growth, layers=layers) for _ in range(blocks)
        )
        self.fusion = nn.Conv2d(blocks * width, width, 1)  # D·G0 -> G0
        self.after_fusion = nn.Conv2d(width, width, 3, padding=1)
        self.upsampler = subpixel_tail(width, scale=scale, inner=growth)
        self.receptive_field = 2 + blocks * layers + 1 + SUBPIXEL_RADIUS

    def features(self, lr: Tensor) -> Tensor:
        shallow = self.head1(lr)  # (B, G0, H, W)
        maps = [self.head2(shallow)]  # of each block, (B, G0, H, W)
        for block in self.blocks:
            maps.append(block(maps[-1]))
        fused = self.fusion(torch.cat(maps[1:], dim=1))  # (B, G0, H, W)
        return shallow + self.after_fusion(fused)  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.upsampler(features)  # (B, 3, rH, rW)
