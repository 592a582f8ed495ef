"""FSRCNN: the work done on few maps at LR size, the enlargement by a deconvolution at the end.

Dong et al., "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016,
https://arxiv.org/abs/1608.00367

A 5 x 5 convolution to ``width`` maps, 1 x 1 to ``narrow``, ``mapping`` times 3 x 3, 1 x 1 back to
``width``, and a 9 x 9 deconvolution with stride ``scale`` (its figure 2); PReLUs with one slope
for each map. Only the stride depends on the scale. On luma at x2, x3 and x4:

    FSRCNN (56, 12, 4)    12,809 parameters, 12,464 of them weights of convolutions, as in its
                          table 1; the others are 173 biases and 172 slopes
    FSRCNN-s (32, 5, 1)    4,086 and 3,937

Differences: zero padding, so that the output is exactly ``scale`` times the input.
"""

from torch import Tensor, nn

from edgekeeper.models.base import COLOUR_COUNT, Channels, SRModel, ZeroOrMore

INITIAL_SLOPE = 0.25  # of each PReLU


class FSRCNN(SRModel):
    """FSRCNN for one scale; the defaults are the paper's.

    Args:
        width: maps of the first and the last step, d in the paper.
        narrow: maps of the steps between, s.
        mapping: 3 x 3 convolutions on the narrow maps, m.
    """

    def __init__(
        self,
        *,
        scale: int = 3,
        channels: Channels = "y",
        width: int = 56,
        narrow: int = 12,
        mapping: ZeroOrMore = 4,
    ) -> None:
        super().__init__()
        colours = COLOUR_COUNT[channels]
        self.scale, self.channels = scale, channels
        # HR pixel 0 of an LR pixel is under the kernel's centre, the last one scale - 1 further.
        self.receptive_field = 2 + mapping + (4 + scale - 1) // scale
        self.extract = _step(colours, width, size=5)  # C -> d
        self.shrink = _step(width, narrow, size=1)  # d -> s
        self.map = nn.Sequential(*(_step(narrow, narrow, size=3) for _ in range(mapping)))  # s
        self.expand = _step(narrow, width, size=1)  # s -> d
        self.enlarge = nn.ConvTranspose2d(  # d -> C, r times the size
            width, colours, 9, stride=scale, padding=4, output_padding=scale - 1
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=INITIAL_SLOPE)
        nn.init.normal_(self.enlarge.weight, 0.0, 0.001)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def features(self, lr: Tensor) -> Tensor:
        return self.expand(self.map(self.shrink(self.extract(lr))))  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.enlarge(features)  # (B, C, rH, rW)


def _step(before: int, after: int, *, size: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, size, padding=size // 2)
    return nn.Sequential(conv, nn.PReLU(after, init=INITIAL_SLOPE))
