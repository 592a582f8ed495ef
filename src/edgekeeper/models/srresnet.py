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
from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.models.base import (
    SRModel,
    check_choice,
    check_counts,
    check_factor,
    check_scale,
    kaiming_normal,
    lr_radius,
)
from edgekeeper.models.enlarge import subpixel_steps

SLOPE = 0.1  # of MSRResNet's LeakyReLUs


class ResidualBlock(nn.Module):
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
        """Return the batch (B, width, H, W) with its residual added."""
        maps = self.activation(self.norm1(self.conv1(x)))
        return x + self.norm2(self.conv2(maps))


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
        check_scale(scale, allowed=(2, 3, 4), model="SRResNet")
        check_counts({"width": width, "blocks": blocks}, model="SRResNet")
        check_choice("norm", norm, allowed=("batch", "none"), model="SRResNet")
        check_choice("bias", bias, allowed=(True, False), model="SRResNet")
        check_choice("slopes", slopes, allowed=("shared", "maps"), model="SRResNet")
        check_choice("output", output, allowed=("linear", "tanh"), model="SRResNet")
        check_factor("epsilon", epsilon, model="SRResNet")
        self.scale = scale
        self.channels = "rgb"
        self.output = output
        self.receptive_field = 4 + 2 * blocks + 1 + 3  # the tail: 3 LR pixels at every scale
        count = 1 if slopes == "shared" else width
        bias = bias or norm == "none"

        def normalisation() -> nn.Module:
            return nn.Identity() if norm == "none" else nn.BatchNorm2d(width, eps=epsilon)

        self.head = nn.Conv2d(3, width, 9, padding=4)
        self.activation = nn.PReLU(count)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, norm=normalisation, bias=bias, slopes=count) for _ in range(blocks)
        )
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.after_norm = normalisation()
        self.upsampler = subpixel_steps(
            width, scale=scale, inner=width, activation=lambda: nn.PReLU(count)
        )
        self.last = nn.Conv2d(width, 3, 9, padding=4)

    def features(self, lr: Tensor) -> Tensor:
        """Return the deep features (B, width, H, W), long skip included."""
        shallow = self.activation(self.head(lr))
        maps = shallow
        for block in self.blocks:
            maps = block(maps)
        return shallow + self.after_norm(self.after_blocks(maps))

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        """Return the SR batch (B, 3, scale·H, scale·W); ``lr`` is not used."""
        sr = self.last(self.upsampler(features))
        return (sr.tanh() + 1) / 2 if self.output == "tanh" else sr


class PlainBlock(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the batch (B, width, H, W) with its residual added."""
        return x + self.conv2(F.relu(self.conv1(x)))


class MSRResNet(SRModel):
    """BasicSR's SRResNet for one scale; the defaults are its own."""

    def __init__(self, *, scale: int = 4, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        check_scale(scale, allowed=(2, 3, 4), model="MSRResNet")
        check_counts({"width": width, "blocks": blocks}, model="MSRResNet")
        self.scale = scale
        self.channels = "rgb"
        self.receptive_field = 1 + 2 * blocks + 1 + lr_radius(2, scale=scale)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(PlainBlock(width) for _ in range(blocks))
        self.upsampler = subpixel_steps(
            width, scale=scale, inner=width, activation=lambda: nn.LeakyReLU(SLOPE)
        )
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        kaiming_normal(self, factor=0.1)

    def features(self, lr: Tensor) -> Tensor:
        """Return the deep features (B, width, H, W)."""
        maps = F.leaky_relu(self.head(lr), SLOPE)
        for block in self.blocks:
            maps = block(maps)
        return maps

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        """Return the SR batch (B, 3, scale·H, scale·W), the bilinearly enlarged ``lr`` included."""
        sr = self.last(F.leaky_relu(self.refine(self.upsampler(features)), SLOPE))
        base = F.interpolate(lr, scale_factor=float(self.scale), mode="bilinear")
        return sr + base
