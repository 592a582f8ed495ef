"""SFTGAN: residual blocks modulated by a map of what can be seen where.

Wang et al., "Recovering Realistic Texture in Image Super-resolution by Deep Spatial Feature
Transform", CVPR 2018, https://arxiv.org/abs/1804.02815

Head, ``blocks`` residual blocks, a long skip, two enlargements, two convolutions at HR size: an
SRResNet without normalisation. Before each convolution of a block, and once after the blocks, a
spatial feature transform (SFT) multiplies and shifts the maps, by factors that two 1 x 1
convolutions make of a *condition*. The condition is made of an HR-sized map of the probabilities
of eight categories (``CATEGORIES``), by a convolution with a kernel and stride of ``scale`` and
four 1 x 1 convolutions; so it has the size of the LR image.

    variant    SFT            in a block             enlargement        parameters at x4
    pytorch    x (1 + a) + b  SFT conv ReLU SFT conv  pixel shuffle      1,833,763
    torch      x a + b        SFT ReLU conv, twice    nearest neighbour  1,612,195

"torch" is the network of the paper, "pytorch" the one its authors trained later; the layers of
both are BasicSR's (https://github.com/XPixelGroup/BasicSR, Apache-2.0, release 0.0). x2 and x3 (one
enlargement, a condition with that stride) are not in the paper. Differences: weights start as
PyTorch's layers do, where the paper starts from a trained SRGAN; the factors of "torch" start
around 1, so that it can be trained from nothing too.

The network that makes the map, a segmentation network, is not part of this: the map is given, by
``with_conditions``, or by ``categories`` of ``edgekeeper.upscale`` and ``edgekeeper upscale``.
Without one all categories are equally probable, and the network says so.

The paper's discriminator also tells the category of an image. There is none such here: the sets
that networks are trained with here do not say what is on their images. The recipe ``sftgan`` takes
ESRGAN's discriminator instead, without maps.
"""

import logging
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models.base import SRModel
from edgekeeper.models.enlarge import STEPS, subpixel_steps, tail_radius

Variant = Literal["pytorch", "torch"]

# What the channels of a map are the probabilities of, in this order
CATEGORIES = ("background", "sky", "water", "grass", "mountain", "building", "plant", "animal")
CONDITION_SLOPE = 0.1  # of the LeakyReLUs of the condition network
SFT_SLOPE: dict[Variant, float] = {"pytorch": 0.1, "torch": 0.01}
SUM_TOLERANCE = 0.01  # maps may come from half precision or from 8 bits

_log = logging.getLogger(__name__)


class SFT(nn.Module):
    """Maps times factors plus shifts, both made of the condition pixel by pixel."""

    def __init__(self, width: int, *, condition: int, variant: Variant) -> None:
        super().__init__()
        self.plus = 1.0 if variant == "pytorch" else 0.0
        self.scale = _two_layers(condition, width, slope=SFT_SLOPE[variant])
        self.shift = _two_layers(condition, width, slope=SFT_SLOPE[variant])
        if variant == "torch":
            bias = self.scale[-1].bias
            assert isinstance(bias, Tensor)
            nn.init.ones_(bias)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        # (B, F, H, W)
        return maps * (self.scale(condition) + self.plus) + self.shift(condition)


class Block(nn.Module):
    """A residual block of two convolutions, each after an SFT."""

    def __init__(self, width: int, *, condition: int, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.sft1 = SFT(width, condition=condition, variant=variant)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.sft2 = SFT(width, condition=condition, variant=variant)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        if self.variant == "pytorch":
            maps = F.relu(self.conv1(self.sft1(x, condition)))  # (B, F, H, W)
            return x + self.conv2(self.sft2(maps, condition))
        maps = self.conv1(F.relu(self.sft1(x, condition)))  # (B, F, H, W)
        return x + self.conv2(F.relu(self.sft2(maps, condition)))  # (B, F, H, W)


class SFTGAN(SRModel):
    """SFTGAN's generator for one scale; the defaults are BasicSR's.

    ``forward`` and ``features`` take the LR batch alone: every category is then equally probable
    everywhere, and the first such call says so in a warning of the logger of this module.
    ``with_conditions`` takes a map as well.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        blocks: int = 16,
        condition: int = 32,
        hidden: int = 128,
        variant: Variant = "pytorch",
    ) -> None:
        super().__init__()
        self.scale, self.channels = scale, "rgb"
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.blocks = nn.ModuleList(
            Block(width, condition=condition, variant=variant) for _ in range(blocks)
        )
        self.last_sft = SFT(width, condition=condition, variant=variant)
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip
        self.enlarge = _enlarger(scale, width=width, variant=variant)  # (B, F, rH, rW)
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)  # F -> 3, at HR size
        # 8 -> condition
        self.condition = _condition_network(scale, hidden=hidden, condition=condition)
        # Pixel shuffles and the two convolutions at HR size: 2 LR pixels at every scale.
        tail = 2 if variant == "pytorch" else tail_radius(scale, convolutions=2)
        self.receptive_field = 1 + 2 * blocks + 1 + tail
        self._told = False

    def features(self, lr: Tensor) -> Tensor:
        only_counted = lr.is_meta or torch.compiler.is_compiling()
        if not self._told and not only_counted:
            self._told = True
            _log.warning(
                "SFTGAN was given no map of categories and takes all %d as equally probable "
                "everywhere; a map is given with with_conditions(lr, maps).",
                len(CATEGORIES),
            )
        return self._modulated(lr, self.constant_map(lr))  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.last(F.relu(self.refine(self.enlarge(features))))  # (B, 3, rH, rW)

    def with_conditions(self, lr: Tensor, maps: Tensor) -> Tensor:
        """Return the SR batch (B, 3, scale·H, scale·W) of an LR batch (B, 3, H, W) and a map.

        ``maps`` (B or 1, 8, scale·H, scale·W): at each HR pixel the probabilities of
        ``CATEGORIES``, 0 or more, with a sum of 1. To enlarge in tiles, cut the map as the
        image, at ``scale`` times the places.
        Raises InputError: a map of another shape, or of numbers that are no probabilities.
        """
        self._check(lr, maps)
        maps = maps.to(lr).expand(lr.shape[0], -1, -1, -1)  # (B, 8, rH, rW)
        return self.reconstruct(self._modulated(lr, maps), lr)

    def constant_map(self, lr: Tensor) -> Tensor:
        """A map (B, 8, scale·H, scale·W) for ``lr`` (B, 3, H, W): all are equally probable."""
        count, (height, width) = len(CATEGORIES), lr.shape[-2:]
        size = (lr.shape[0], count, self.scale * height, self.scale * width)
        return lr.new_full((), 1 / count).expand(size)

    def _modulated(self, lr: Tensor, maps: Tensor) -> Tensor:
        """Return the deep features (B, width, H, W), long skip included."""
        condition = self.condition(maps)  # (B, condition, H, W)
        shallow = features = self.head(lr)  # (B, F, H, W)
        for block in self.blocks:
            features = block(features, condition)
        return shallow + self.after_blocks(self.last_sft(features, condition))

    def _check(self, lr: Tensor, maps: Tensor) -> None:
        height, width = lr.shape[-2:]
        expected = (len(CATEGORIES), self.scale * height, self.scale * width)
        fits = maps.ndim == 4 and maps.shape[1:] == expected and maps.shape[0] in (1, lr.shape[0])
        if not fits or not maps.is_floating_point():
            batch = "1" if lr.shape[0] == 1 else f"{lr.shape[0]} or 1"
            raise InputError(
                f"The map for LR images {tuple(lr.shape)} must be floats ({batch}, "
                f"{', '.join(map(str, expected))}): the probabilities of "
                f"{', '.join(CATEGORIES)} at each HR pixel; got {tuple(maps.shape)} of "
                f"{maps.dtype}."
            )
        if maps.numel() == 0 or maps.is_meta:  # no values to look at
            return
        sums = maps.detach().float().sum(dim=1)  # (B, rH, rW)
        low, high, least = (float(x) for x in (sums.min(), sums.max(), maps.detach().min()))
        # Turned around, so that a NaN does not pass.
        if not (least >= 0 and 1 - low <= SUM_TOLERANCE and high - 1 <= SUM_TOLERANCE):
            raise InputError(
                "The probabilities of a pixel must be 0 or more and sum to 1; those of this map "
                f"sum to {low:.4g} up to {high:.4g}, the least is {least:.4g}: give logits as "
                "logits.softmax(dim=1), and labels as one-hot channels."
            )


def taking_maps(model: SRModel) -> SFTGAN:
    """Return the network itself, if it takes maps of categories. Raises InputError."""
    if not isinstance(model, SFTGAN):
        raise InputError(
            f"{type(model).__name__} takes no map of categories; only SFTGAN does, run in PyTorch "
            "and not exported."
        )
    return model


def _two_layers(width: int, width_out: int, *, slope: float) -> nn.Sequential:
    """Two 1 x 1 convolutions with a LeakyReLU between them."""
    return nn.Sequential(
        nn.Conv2d(width, width, 1), nn.LeakyReLU(slope), nn.Conv2d(width, width_out, 1)
    )


def _condition_network(scale: int, *, hidden: int, condition: int) -> nn.Sequential:
    """Layers (B, 8, scale·H, scale·W) -> (B, condition, H, W)."""
    layers: list[nn.Module] = [nn.Conv2d(len(CATEGORIES), hidden, scale, stride=scale)]
    for width in (hidden, hidden, hidden, condition):
        layers += [nn.LeakyReLU(CONDITION_SLOPE), nn.Conv2d(hidden, width, 1)]
    return nn.Sequential(*layers)


def _enlarger(scale: int, *, width: int, variant: Variant) -> nn.Sequential:
    """Layers (B, width, H, W) -> (B, width, scale·H, scale·W)."""
    if variant == "pytorch":
        return subpixel_steps(width, scale=scale, inner=width, activation=nn.ReLU)
    layers: list[nn.Module] = []
    for factor in STEPS[scale]:
        nearest = nn.Upsample(scale_factor=float(factor), mode="nearest")
        layers += [nearest, nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)
