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
from edgekeeper.models.base import SRModel, check_counts, check_scale
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.models.enlarge import SUBPIXEL_RADIUS, subpixel_tail

NEAR = 64  # LR pixels of context that a tile is given: see RCAN.overlap


class ChannelAttention(nn.Module):
    """maps · sigmoid(excite(relu(squeeze(mean of each map)))), equations 7 to 10."""

    def __init__(self, width: int, *, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // reduction, 1)
        self.excite = nn.Conv2d(width // reduction, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps (B, F, H, W), each times its weight, which is in (0, 1)."""
        means = maps.mean(dim=(2, 3), keepdim=True)
        return maps * torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


class AttentionBlock(nn.Module):
    """x + attention(conv(relu(conv(x)))): the residual channel attention block, figure 4."""

    def __init__(self, width: int, *, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.attention = ChannelAttention(width, reduction=reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Return the batch (B, F, H, W) with its residual added."""
        return x + self.attention(self.conv2(F.relu(self.conv1(x), inplace=True)))


class ResidualGroup(nn.Module):
    """x + conv(``blocks`` attention blocks in a row), equations 4 and 5."""

    def __init__(self, width: int, *, blocks: int, reduction: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            AttentionBlock(width, reduction=reduction) for _ in range(blocks)
        )
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the batch (B, F, H, W) with its residual added."""
        maps = x
        for block in self.blocks:
            maps = block(maps)
        return x + self.after_blocks(maps)


class RCAN(SRModel):
    """RCAN for one scale; the defaults are the paper's.

    ``receptive_field`` is that of the convolutions. The attention weighs channels by their means
    over all that the network is given, so each pixel also has a slight influence on all others.

    Raises:
        InputError: no such scale, no such size, or ``reduction`` leaves no channel of
            ``width``.
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
        check_scale(scale, allowed=(2, 3, 4), model="RCAN")
        sizes = {"width": width, "groups": groups, "blocks": blocks, "reduction": reduction}
        check_counts(sizes, model="RCAN")
        if reduction > width:
            raise InputError(
                f"RCAN's attention has width / reduction channels, {width} / {reduction} here; "
                f"choose a reduction from 1 to {width}."
            )
        self.scale = scale
        self.channels = "rgb"
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1), persistent=False)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.groups = nn.ModuleList(
            ResidualGroup(width, blocks=blocks, reduction=reduction) for _ in range(groups)
        )
        self.after_groups = nn.Conv2d(width, width, 3, padding=1)
        self.upsampler = subpixel_tail(width, scale=scale, inner=width)
        self.receptive_field = 1 + groups * (2 * blocks + 1) + 1 + SUBPIXEL_RADIUS

    @property
    def overlap(self) -> int:
        """The context of a tile in LR pixels: 64 at most.

        It is the convolutions' near influence; what attention sees of the rest of the image no
        overlap replaces. Measured at x2 on strips of Set14, as the paper's network starts, a third
        of 150 columns cut off: the largest change of any SR value beyond so many LR pixels from
        the cut, in grey levels of 255, is

            0       2       4       8       16      80
            89.0    60.0    30.0    2.3     0.099   0.089

        and all from 16 on is attention's. In a small network (2 groups of 4 blocks, width 16,
        trained until it was 1.2 to 1.7 dB above bicubic on three images of Set5) tiles change no
        value of three images of Set14 by more than 0.16 levels if they are 256 pixels wide, and
        0.34 if 64. Nothing was measured with published weights, whose attention sees means on
        0..255: with weights that start so the cut changes values by up to 16 levels at every
        distance. ``edgekeeper.inference.verify_seams`` measures it for the weights and the image
        at hand.
        """
        return min(self.receptive_field, NEAR)

    def features(self, lr: Tensor) -> Tensor:
        """Return the deep features (B, width, H, W), long skip included."""
        shallow = self.head(lr - self.mean)
        maps = shallow
        for group in self.groups:
            maps = group(maps)
        return shallow + self.after_groups(maps)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        """Return the SR batch (B, 3, scale·H, scale·W)."""
        return self.upsampler(features) + self.mean
