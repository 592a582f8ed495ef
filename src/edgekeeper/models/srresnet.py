"""SRResNet, the generator of SRGAN, and MSRResNet, its form without batch normalisation.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", CVPR 2017, https://arxiv.org/abs/1609.04802

A 9 x 9 convolution, ``blocks`` residual blocks, a long skip, one pixel shuffle for x2 and two for
x4, a 9 x 9 convolution (its figure 4). Parameters at x4, with biases before the normalisations in
brackets:

    16 blocks, the paper's               1,547,350 (1,549,462)
    5 blocks, a common smaller form        733,515 (734,219)

x3 (one shuffle by 3) is not in the paper. The paper has colours in [-1, 1] out; here they are in
[0, 1], as they are in. ``MSRResNet`` is the network that BasicSR trains in its place
(https://github.com/XPixelGroup/BasicSR): 3 x 3 convolutions, no normalisation, and the bilinearly
enlarged image added at the end; 1,517,571 parameters at x4.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.models.base import SRModel, kaiming_normal, lr_radius
from edgekeeper.models.enlarge import subpixel_steps

_SLOPE = 0.1  # of MSRResNet's LeakyReLUs


class SRResBlock(nn.Module):
    """x + norm(conv(prelu(norm(conv(x))))), figure 4."""

    def __init__(
        self, width: int, *, norm: Callable[[], nn.Module], bias: bool, slopes: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.norm1 = norm()
        self.activation = nn.PReLU(slopes)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.norm2 = norm()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.activation(self.norm1(self.conv1(x)))  # (B, F, H, W)
        return x + self.norm2(self.conv2(maps))  # (B, F, H, W)


class SRResNet(SRModel):
    """SRResNet for one scale; the defaults are the paper's.

    Args:
        norm: ``"batch"``, or ``"none"`` for the same network without normalisations.
        bias: whether the convolutions before a normalisation have a bias, which it takes away
            again; the others always have one.
        slopes: PReLUs with one slope (``"shared"``), or with one for each map (``"maps"``).
        output: ``"tanh"`` ends in (tanh + 1) / 2, which cannot leave [0, 1].
        epsilon: what the normalisations add to the variance.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        blocks: int = 16,
        norm: Literal["batch", "none"] = "batch",
        bias: bool = False,
        slopes: Literal["shared", "maps"] = "shared",
        output: Literal["linear", "tanh"] = "linear",
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.scale, self.channels = scale, "rgb"
        self.output = output
        self.receptive_field = 4 + 2 * blocks + 1 + 3  # the tail: 3 LR pixels at every scale
        count = 1 if slopes == "shared" else width
        bias = bias or norm == "none"

        def normalisation() -> nn.Module:
            return nn.Identity() if norm == "none" else nn.BatchNorm2d(width, eps=epsilon)

        self.head = nn.Conv2d(3, width, 9, padding=4)  # 3 -> F
        self.activation = nn.PReLU(count)
        block = partial(SRResBlock, width, norm=normalisation, bias=bias, slopes=count)
        self.blocks = nn.Sequential(*(block() for _ in range(blocks)))
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.after_norm = normalisation()
        self.upsampler = subpixel_steps(
            width, scale=scale, inner=width, activation=lambda: nn.PReLU(count)
        )
        self.last = nn.Conv2d(width, 3, 9, padding=4)  # F -> 3, at HR size

    def features(self, lr: Tensor) -> Tensor:
        shallow = self.activation(self.head(lr))  # (B, F, H, W)
        return shallow + self.after_norm(self.after_blocks(self.blocks(shallow)))  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        sr = self.last(self.upsampler(features))  # (B, 3, rH, rW)
        return (sr.tanh() + 1) / 2 if self.output == "tanh" else sr  # (B, 3, rH, rW)


class PlainBlock(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))  # (B, F, H, W)


class MSRResNet(SRModel):
    """BasicSR's SRResNet for one scale; the defaults are its own."""

    def __init__(self, *, scale: int = 4, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.scale, self.channels = scale, "rgb"
        self.receptive_field = 1 + 2 * blocks + 1 + lr_radius(2, scale=scale)
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.blocks = nn.Sequential(*(PlainBlock(width) for _ in range(blocks)))
        self.upsampler = subpixel_steps(
            width, scale=scale, inner=width, activation=lambda: nn.LeakyReLU(_SLOPE)
        )
        self.refine = nn.Conv2d(width, width, 3, padding=1)  # at HR size
        self.last = nn.Conv2d(width, 3, 3, padding=1)  # F -> 3, at HR size
        kaiming_normal(self, factor=0.1)

    def features(self, lr: Tensor) -> Tensor:
        return self.blocks(F.leaky_relu(self.head(lr), _SLOPE))  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        sr = self.last(
            F.leaky_relu(self.refine(self.upsampler(features)), _SLOPE)
        )  # (B, 3, rH, rW)
        base = F.interpolate(lr, scale_factor=float(self.scale), mode="bilinear")
        return sr + base  # (B, 3, rH, rW)
