"""RCAN: residual blocks whose channels are weighted by what the whole image holds of them.

Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks",
ECCV 2018, https://arxiv.org/abs/1807.02758

Head, ``groups`` residual groups of ``blocks`` blocks each, a skip around each group and a long
one around all (its figure 2), then EDSR's sub-pixel tail. A block is EDSR's with channel attention
(figure 3) before the sum. The mean colour of DIV2K is subtracted first and added last.

    the paper's: 10 groups of 20 blocks, width 64, reduction 16
                                               15,444,643 / 15,629,283 / 15,592,355 (x2/x3/x4)

Differences: colours are in [0, 1], where the official code works in 0..255 (the loader of
published weights rescales). In a training from scratch the attention's means are then as much
smaller against its first weights and biases, so that it begins nearly the same for all images.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models.base import SRModel
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.models.enlarge import SUBPIXEL_RADIUS, subpixel_tail

_NEAR = 64  # LR pixels of context that a tile is given: see RCAN.overlap


class ChannelAttention(nn.Module):
    """maps · sigmoid(excite(relu(squeeze(mean of each map)))): figure 3, section 3.3."""

    def __init__(self, width: int, *, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // reduction, 1)  # F -> F / reduction
        self.excite = nn.Conv2d(width // reduction, width, 1)  # back

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean(dim=(2, 3), keepdim=True)  # (B, F, 1, 1)
        return maps * torch.sigmoid(self.excite(F.relu(self.squeeze(means))))  # (B, F, H, W)


class AttentionBlock(nn.Module):
    """x + attention(conv(relu(conv(x)))): residual channel attention, figure 4."""

    def __init__(self, width: int, *, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.attention = ChannelAttention(width, reduction=reduction)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.conv2(F.relu(self.conv1(x), inplace=True)))  # (B, F, H, W)


class ResidualGroup(nn.Module):
    """x + conv(``blocks`` attention blocks in a row), section 3.2."""

    def __init__(self, width: int, *, blocks: int, reduction: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(AttentionBlock(width, reduction=reduction) for _ in range(blocks))
        )
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.after_blocks(self.blocks(x))  # (B, F, H, W)


class RCAN(SRModel):
    """RCAN for one scale; the defaults are the paper's.

    ``receptive_field`` is that of the convolutions. The attention weighs channels by their means
    over all that the network is given, so each pixel also has a slight influence on all others.
    Raises InputError.
    """

    mean: Tensor

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        if reduction > width:
            raise InputError(
                f"RCAN's attention has width / reduction channels, {width} / {reduction} here; "
                f"choose a reduction from 1 to {width}."
            )
        self.scale, self.channels = scale, "rgb"
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1), persistent=False)
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.groups = nn.Sequential(
            *(ResidualGroup(width, blocks=blocks, reduction=reduction) for _ in range(groups))
        )
        self.after_groups = nn.Conv2d(width, width, 3, padding=1)  # before the long skip
        self.upsampler = subpixel_tail(width, scale=scale, inner=width)  # (B, 3, rH, rW)
        self.receptive_field = 1 + groups * (2 * blocks + 1) + 1 + SUBPIXEL_RADIUS

    @property
    def overlap(self) -> int:
        """The context of a tile in LR pixels: 64 at most, the convolutions' near influence.

        What attention sees of the rest of the image no overlap replaces. Measured at x2 on strips
        of Set14, as the network starts, a third of 150 columns cut off, the largest change beyond
        so many LR pixels from the cut, in grey levels of 255; from 16 on all is attention's:

            0       2       4       8       16      80
            89.0    60.0    30.0    2.3     0.099   0.089

        ``edgekeeper.inference.verify_seams`` measures it for other weights and images.
        """
        return min(self.receptive_field, _NEAR)

    def features(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr - self.mean)  # (B, F, H, W)
        return shallow + self.after_groups(self.groups(shallow))  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.upsampler(features) + self.mean  # (B, 3, rH, rW)
