"""The tail that RCAN and RDN share with EDSR: sub-pixel enlargements, then one convolution.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network", CVPR 2016, https://arxiv.org/abs/1609.05158
"""

from torch import nn

STEPS: dict[int, tuple[int, ...]] = {2: (2,), 3: (3,), 4: (2, 2)}
TAIL_RADIUS = 2  # LR pixels, at each scale: one or two steps and the last convolution


def subpixel_tail(width: int, *, scale: int, inner: int) -> nn.Sequential:
    """Layers (B, width, H, W) -> (B, 3, scale·H, scale·W), of ``inner`` maps after each step.

    x2 and x3 are one step, a convolution to ``inner`` · factor² maps and a pixel shuffle; x4 is
    two steps of 2. The last convolution makes the colours.
    """
    layers: list[nn.Module] = []
    for factor in STEPS[scale]:
        layers += [nn.Conv2d(width, inner * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
        width = inner
    return nn.Sequential(*layers, nn.Conv2d(inner, 3, 3, padding=1))
