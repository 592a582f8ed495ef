"""From the LR size to the HR size: the enlargements and tails that several papers share.

``Enlarger``        nearest neighbour and a convolution, as in ESRGAN: RRDB, SPSR, DGGGAN, and the
                    gradient branch that any network can have.
``subpixel_steps``  a convolution and a pixel shuffle: SRResNet and MSRResNet.
``subpixel_tail``   such steps and a last convolution, as in EDSR: EDSR, RCAN, RDN and NatSR.
``direct_tail``     one convolution to all pixels at once, and a pixel shuffle: an option of EDSR.

The pixel shuffle is that of Shi et al., "Real-Time Single Image and Video Super-Resolution Using
an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016, https://arxiv.org/abs/1609.05158
"""

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

# By what a factor is enlarged, one step after the other
STEPS: dict[int, tuple[int, ...]] = {2: (2,), 3: (3,), 4: (2, 2)}
SLOPE = 0.2  # of an Enlarger's LeakyReLUs, and of all others in the networks that have one
SUBPIXEL_RADIUS = 2  # LR pixels that a subpixel_tail looks away, at each scale
DIRECT_RADIUS = 1  # the same of a direct_tail


class Enlarger(nn.Module):
    """Nearest-neighbour enlargement, a convolution and a LeakyReLU: twice for 4, else once."""

    def __init__(self, width: int, *, factor: int) -> None:
        super().__init__()
        self.factors = STEPS[factor]
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.factors)

    def forward(self, maps: Tensor) -> Tensor:
        for factor, conv in zip(self.factors, self.convs, strict=True):
            maps = F.interpolate(maps, scale_factor=float(factor), mode="nearest")  # (B, F, rH, rW)
            maps = F.leaky_relu(conv(maps), SLOPE)
        return maps  # (B, F, factor·H, factor·W)


def tail_radius(factor: int, *, convolutions: int) -> int:
    """Return how many LR pixels away an Enlarger with 3 x 3 convolutions after it looks."""
    low, high = -convolutions, factor - 1 + convolutions  # of the HR pixels of LR pixel 0
    for step in reversed(STEPS[factor]):
        low, high = (low - 1) // step, (high + 1) // step  # a 3 x 3 convolution, then 1 / step
    return max(-low, high)


def subpixel_steps(
    width: int, *, scale: int, inner: int, activation: Callable[[], nn.Module] | None = None
) -> nn.Sequential:
    """Layers (B, width, H, W) -> (B, inner, scale·H, scale·W).

    x2 and x3 are one step, a convolution to ``inner`` · factor² maps, a pixel shuffle and the
    ``activation`` if there is one; x4 is two steps of 2.
    """
    layers: list[nn.Module] = []
    for factor in STEPS[scale]:
        layers += [nn.Conv2d(width, inner * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
        layers += [activation()] if activation is not None else []
        width = inner
    return nn.Sequential(*layers)


def subpixel_tail(width: int, *, scale: int, inner: int) -> nn.Sequential:
    """Layers (B, width, H, W) -> (B, 3, scale·H, scale·W): steps, then one that makes the colours.

    ``inner`` is the number of maps after each step.
    """
    steps = subpixel_steps(width, scale=scale, inner=inner)
    return steps.append(nn.Conv2d(inner, 3, 3, padding=1))


def direct_tail(width: int, *, scale: int) -> nn.Sequential:
    """Layers (B, width, H, W) -> (B, 3, scale·H, scale·W), all multiplications at LR size."""
    return nn.Sequential(nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))
