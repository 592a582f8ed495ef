"""NatSR: a fractal residual network, and the discriminator of its natural manifold.

Soh et al., "Natural and Realistic Single Image Super-Resolution with Explicit Natural Manifold
Discrimination", CVPR 2019, https://arxiv.org/abs/1911.03624

The generator. F0 is RDN's residual dense block with a factor before the sum, and each level runs
the one below twice, with a skip:

    F0(x) = x + 0.1 · fusion(x and the maps of ``layers`` dense convolutions)
    Fn(x) = x + Fn-1(Fn-1(x)), with blocks of their own;   features = x + conv(Fn(x)), x = head(lr)

then a convolution and a pixel shuffle (two at x4) and a last convolution. Three levels are eight
blocks: 4,959,235 parameters and 5,423,808 multiply-accumulates per LR pixel at x4.

How certain this is: both numbers were counted on the authors' layers, and they fit 64 maps, five
dense convolutions and a fusion of all six groups of maps in each of eight blocks. How the skips
nest, ReLU, the factor 0.1 and the discriminator's layers cannot be seen in a count; they are taken
from a reimplementation (https://github.com/kozistr/NatSR-pytorch, MIT). Chosen here: weights start
as PyTorch's layers do.

The discriminator of the natural manifold (NMD) does not tell SR from HR but natural images from
blurred and noisy ones. It is trained first and then frozen, while the generator is asked to
make what it takes for natural: ``edgekeeper.losses.Naturalness``, weight 0.001, beside L1 (weight
1) and a relativistic GAN with a discriminator of its own (weight 0.001).
"""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models.base import SRModel
from edgekeeper.models.enlarge import SUBPIXEL_RADIUS, subpixel_tail
from edgekeeper.models.rdn import ResidualDenseBlock

HALVINGS = 4  # of the NMD
_MOST_LEVELS = 8  # 256 blocks; the paper has 8


class NatSR(SRModel):
    """NatSR's generator for one scale; the defaults have the parameters of the paper's.

    Args:
        levels: how often the fractal doubles, 8 times at most; there are 2 to the power of
            ``levels`` blocks.
        layers: the dense convolutions of a block.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        levels: Annotated[int, 0, _MOST_LEVELS] = 3,
        layers: int = 5,
        residual_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.scale, self.channels = scale, "rgb"
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(width, growth=width, layers=layers, residual_scale=residual_scale)
            for _ in range(2**levels)
        )
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip
        self.upsampler = subpixel_tail(width, scale=scale, inner=width)
        # head, blocks, after_blocks, tail
        self.receptive_field = 1 + layers * 2**levels + 1 + SUBPIXEL_RADIUS

    def features(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr)  # (B, F, H, W)
        return shallow + self.after_blocks(_fractal(list(self.blocks), shallow))  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.upsampler(features)  # (B, 3, rH, rW)


def _fractal(blocks: Sequence[nn.Module], x: Tensor) -> Tensor:
    """One block, or x + the second half of the blocks on the first half on x."""
    if len(blocks) == 1:
        return blocks[0](x)
    half = len(blocks) // 2  # Fn-1 twice, blocks of their own
    return x + _fractal(blocks[half:], _fractal(blocks[:half], x))


class NaturalManifoldDiscriminator(nn.Module):
    """One number per image, of any size: high for natural ones, low for blurred and noisy ones.

    Four pairs of 3 x 3 convolutions, each with half the size and twice the maps of the one
    before, a last convolution to one map, and its mean; 4,689,985 parameters. The number is a
    logit: its sigmoid is the probability that the image is natural.

    Args:
        width: maps of the first pair.
    """

    def __init__(self, *, width: int = 64, colours: int = 3) -> None:
        super().__init__()
        self.colours = colours
        layers: list[nn.Module] = []
        before = colours
        for pair in range(HALVINGS):
            maps = width * 2**pair  # 64, 128, 256, 512
            layers += [nn.Conv2d(before, maps, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(maps, maps, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before = maps
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(before, 1, 3, padding=1)  # 8·F -> 1
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """The logits (B, 1) of images (B, colours, H, W) in [0, 1], 16 pixels a side or more.

        Raises InputError: images that are smaller, or another number of colours.
        """
        least = 2**HALVINGS
        right = images.ndim == 4 and images.shape[1] == self.colours
        if not right or min(images.shape[2:]) < least:
            raise InputError(
                f"This discriminator takes images (B, {self.colours}, H, W) of {least} pixels "
                f"a side or more, got {tuple(images.shape)}."
            )
        return self.last(self.layers(images)).mean(dim=(2, 3))
