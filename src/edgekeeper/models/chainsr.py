"""ChainSR: the networks of the ladder, a chain of residual blocks whose maps are joined at the end.

Own design, after SPAN (Wan et al., CVPRW 2024, https://arxiv.org/abs/2311.12770), which joins the
maps after its head, its first block, its last block but one and its last convolution. What differs:

    attention  none: SPAN's parameter-free attention with SiLU lost 0.3 dB in short trainings
    block      x + c3(f(c2(f(c1(x))))), 3 x 3 convolutions, f a LeakyReLU with slope 0.1
    skip       the bicubic image is added, so that training begins as interpolation
    limit      blocks but the last pass on maps within ±128/width: no pattern grows without bound
    size       every multiplication at LR size; one convolution to 3·scale² maps, a pixel shuffle

    parameters     x2       x3       x4
    width 32, 6    184,204  188,539  194,608   blocks, the default
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.models.base import SRModel
from edgekeeper.ops.resize import enlarging_maps, imresize

_SLOPE = 0.1  # of each LeakyReLU


class ChainBlock(nn.Module):
    """A residual block of ``depth`` 3 x 3 convolutions with a LeakyReLU between them."""

    def __init__(self, width: int, *, depth: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        # In place: a convolution's backward pass needs its input, never its output.
        first, *others = self.convolutions
        maps = first(x)  # (B, F, H, W)
        for convolution in others:
            maps = convolution(F.leaky_relu(maps, _SLOPE, inplace=True))
        return maps.add_(x)  # (B, F, H, W)


class ChainSR(SRModel):
    """A chain of residual blocks for one scale.

    Args:
        width: maps of every layer; processors like multiples of 16.
        blocks: residual blocks.
        depth: convolutions in a block.
    """

    border = 4  # repeated pixels: flat colours stay flat to a level, at 2 they miss by 7

    def __init__(self, *, scale: int = 4, width: int = 32, blocks: int = 6, depth: int = 3) -> None:
        super().__init__()
        self.scale, self.channels, self.depth = scale, "rgb", depth
        self.limit = 128 / width  # photographs and nearly all drawings stay below
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.blocks = nn.ModuleList(ChainBlock(width, depth=depth) for _ in range(blocks))
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip
        self.join = nn.Conv2d(4 * width, width, 1)  # 4·F -> F
        self.last = nn.Conv2d(width, 3 * scale**2, 3, padding=1)  # F -> 3·r²
        self.shuffle = nn.PixelShuffle(scale)  # (B, 3·r², H, W) -> (B, 3, rH, rW)
        self.receptive_field = 1 + depth * blocks + 1 + 1  # head, blocks, after_blocks, last
        for parameter in self.last.parameters():  # start as interpolation
            nn.init.zeros_(parameter)

    def features(self, lr: Tensor) -> Tensor:
        maps = head = self.head(lr)  # (B, F, H, W)
        after = []
        *blocks, last = self.blocks
        for block in blocks:  # unlimited, rare fine patterns grow from block to block, to 1e5
            maps = F.hardtanh(block(maps), -self.limit, self.limit, inplace=True)
            after.append(maps)
        after.append(maps := last(maps))
        joined = torch.cat([head, after[0], after[-2:][0], self.after_blocks(maps)], dim=1)
        return self.join(joined)  # (B, 4·width, H, W) -> width

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # other runtimes: one shuffle, and no sum at HR size
            return self.shuffle(self.last(features) + enlarging_maps(lr, factor=self.scale))
        residual = self.shuffle(self.last(features))  # (B, 3·scale², H, W) -> HR size
        # Not in place: under autocast the residual is bfloat16, and the sum stays in float32.
        return residual + imresize(lr, scale=self.scale)  # (B, 3, rH, rW)
