"""Discriminators that tell SR images, or their gradient maps, from HR ones.

The network of ESRGAN and SPSR, after VGG (Simonyan and Zisserman, 2015): pairs of a 3 x 3
convolution and a 4 x 4 one with stride 2, then two fully connected layers.

    size   pairs: maps                      parameters with batch normalisation / without
    96     64, 128, 256, 512, 512           14,143,881 / 14,138,121
    128    64, 128, 256, 512, 512           14,502,281 / 14,496,521
    192    64, 128, 256, 512, 512, 512      20,700,553 / 20,692,745

The very first convolution is never normalised. Every convolution has a bias, also those before a
normalisation, as in the code of SPSR; BasicSR leaves those out.

``SRGANDiscriminator`` is the one that theirs comes from, of SRGAN (figure 4 of Ledig et al.,
"Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017):
3 x 3 convolutions only, every second with stride 2, 1024 units in the first fully connected layer;
23,563,649 parameters for 96 x 96 with batch normalisation, 23,561,793 without. Its convolutions
before a normalisation have no bias.

``UNetDiscriminator`` judges every pixel: the U-Net with spectral normalisation of Real-ESRGAN (Wang
et al., ICCVW 2021, figure 6; https://arxiv.org/abs/2107.10833), 4,376,897 parameters at width 64.

``PatchDiscriminator`` judges overlapping patches of 56 pixels (Isola et al., "Image-to-image
translation with conditional adversarial networks", CVPR 2017), and of them the detail alone.
"""

import itertools
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from edgekeeper.errors import InputError
from edgekeeper.models.base import kaiming_normal
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.wavelet import wavelet_bands

_SLOPE = 0.2  # of each LeakyReLU
HIDDEN = 100  # units of the first fully connected layer
SRGAN_HIDDEN = 1024
SRGAN_PAIRS = 4


class VGGDiscriminator(nn.Module):
    """One number per image of ``size`` x ``size`` pixels: high for HR, low for SR, no sigmoid.

    Args:
        size: 96, 128, 192, or any other 3 or 4 times a power of two from 8 on.
        width: maps of the first pair; each pair doubles them, up to eight times ``width``.
        norm: ``"none"`` for losses that look at each image alone (a gradient penalty).
    """

    def __init__(
        self,
        *,
        size: int = 128,
        colours: int = 3,
        width: int = 64,
        norm: Literal["batch", "none"] = "batch",
    ) -> None:
        super().__init__()
        self.halvings, self.edge = _halvings(size)
        self.size, self.colours = size, colours
        layers: list[nn.Module] = []
        before = colours
        for pair in range(self.halvings):
            maps = width * min(2**pair, 8)  # 64, 128, 256, 512, 512, 512
            layers += [nn.Conv2d(before, maps, 3, padding=1)]
            layers += _activation(maps, norm="none" if pair == 0 else norm)
            layers += [nn.Conv2d(maps, maps, 4, stride=2, padding=1)]
            layers += _activation(maps, norm=norm)
            before = maps
        self.layers = nn.Sequential(*layers)  # (B, maps, edge, edge)
        self.hidden = nn.Linear(before * self.edge**2, HIDDEN)
        self.last = nn.Linear(HIDDEN, 1)  # one logit
        kaiming_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        # A few pixels more are fine while the halvings end at the same size: a gradient map with
        # a ring around it is 2 larger.
        sides = (side >> self.halvings for side in images.shape[2:])
        _check(self, images, fits=tuple(sides) == (self.edge, self.edge))
        maps = self.layers(images).flatten(1)  # (B, maps · edge²)
        return self.last(F.leaky_relu(self.hidden(maps), _SLOPE))  # (B, 1), logits


class WaveletDiscriminator(VGGDiscriminator):
    """The same network on the three bands of detail of luma, side by side, as in WGSR.

    Korkmaz et al., "Training Generative Image Super-Resolution Models by Wavelet-Domain Losses
    Enables Better Control of Artifacts", CVPR 2024. Images are RGB (B, 3, H, W) in [0, 1].
    """

    def forward(self, images: Tensor) -> Tensor:
        bands = wavelet_bands(rgb_to_y(images.float()))  # (B, 1, H, W) each
        return super().forward(torch.cat([bands.lh, bands.hl, bands.hh], dim=1))  # (B, 1)


class SRGANDiscriminator(nn.Module):
    """One number per image of ``size`` x ``size`` pixels: high for HR, low for SR, no sigmoid.

    Args:
        size: a multiple of 16, as the convolutions halve it four times; the paper's is 96.
        width: maps of the first pair; each pair doubles them.
        norm: ``"none"`` for losses that look at each image alone (a gradient penalty).

    Raises InputError.
    """

    def __init__(
        self,
        *,
        size: int = 96,
        colours: int = 3,
        width: int = 64,
        norm: Literal["batch", "none"] = "batch",
    ) -> None:
        super().__init__()
        if size < 2**SRGAN_PAIRS or size % 2**SRGAN_PAIRS:
            raise InputError(
                f"SRGAN's discriminator is not made for images of {size} pixels; the size is a "
                f"multiple of {2**SRGAN_PAIRS}: 32, 48, 64, 96, 128 …"
            )
        self.size, self.colours = size, colours
        layers: list[nn.Module] = []
        before = colours
        for pair in range(SRGAN_PAIRS):
            maps = width * 2**pair  # 64, 128, 256, 512
            for stride in (1, 2):
                kind = "none" if not layers else norm  # the very first is never normalised
                bias = kind == "none"
                layers += [nn.Conv2d(before, maps, 3, stride=stride, padding=1, bias=bias)]
                layers += _activation(maps, norm=kind)
                before = maps
        self.layers = nn.Sequential(*layers)  # (B, maps, edge, edge)
        self.hidden = nn.Linear(before * (size // 2**SRGAN_PAIRS) ** 2, SRGAN_HIDDEN)
        self.last = nn.Linear(SRGAN_HIDDEN, 1)  # one logit
        kaiming_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        _check(self, images, fits=images.shape[2:] == (self.size, self.size))
        maps = self.layers(images).flatten(1)  # (B, maps · edge²)
        return self.last(F.leaky_relu(self.hidden(maps), _SLOPE))  # (B, 1), logits


class UNetDiscriminator(nn.Module):
    """One number per pixel (B, 1, H, W): high for HR, low for SR, no sigmoid.

    Images are (B, colours, H, W), sides a multiple of 8; InputError otherwise. Three halvings,
    three doublings that each add the maps of before, two more convolutions. All layers but the
    first and the last have no bias, and weights of spectral norm 1, whose estimate moves one step
    with every call in training.

    Args:
        width: maps at full size; a halving doubles them.
    """

    def __init__(self, *, colours: int = 3, width: int = 64) -> None:
        super().__init__()
        self.colours = colours

        def normalised(before: int, after: int, *, halve: bool = False) -> nn.Module:
            side, stride = (4, 2) if halve else (3, 1)
            return spectral_norm(nn.Conv2d(before, after, side, stride, padding=1, bias=False))

        self.head = nn.Conv2d(colours, width, 3, padding=1)
        widths = [width * 2**level for level in range(4)]  # 64, 128, 256, 512
        steps = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(normalised(a, b, halve=True) for a, b in steps)
        self.up = nn.ModuleList(normalised(b, a) for a, b in reversed(steps))
        self.body = nn.ModuleList(normalised(width, width) for _ in range(2))
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        fits = all(side and side % 8 == 0 for side in images.shape[2:])
        if images.ndim != 4 or images.shape[1] != self.colours or not fits:
            raise InputError(
                f"This discriminator takes images (B, {self.colours}, H, W) with sides that are "
                f"multiples of 8, got {tuple(images.shape)}; choose such training patches."
            )
        maps = F.leaky_relu(self.head(images), _SLOPE)  # (B, F, H, W)
        before = []
        for layer in self.down:
            before.append(maps)
            maps = F.leaky_relu(layer(maps), _SLOPE)  # (B, 8·F, H/8, W/8) at last
        for layer, same_size in zip(self.up, reversed(before), strict=True):
            maps = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
            maps = F.leaky_relu(layer(maps), _SLOPE) + same_size
        for layer in self.body:
            maps = F.leaky_relu(layer(maps), _SLOPE)  # (B, F, H, W)
        return self.last(maps)  # (B, 1, H, W), logits


class PatchDiscriminator(nn.Module):
    """One number per 8 x 8 pixels (B, 1, H/8, W/8): high for HR, low for SR, no sigmoid.

    Images are (B, colours, H, W), sides a multiple of 8 from 16 on; InputError otherwise. It sees
    what is left without the mean of the 17 x 17 pixels around, 8 times as strong: by more than that
    SR and HR of a trained network hardly differ, and its first hundred updates find it.

    Args:
        width: maps at full size; a halving doubles them, up to four times ``width``.
    """

    REACH, GAIN = 8, 8.0

    def __init__(self, *, colours: int = 3, width: int = 32) -> None:
        super().__init__()
        self.colours = colours
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.head = nn.Conv2d(colours, width, 3, padding=1)
        halvings = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(widths)]
        self.body = nn.ModuleList([*halvings, nn.Conv2d(4 * width, 4 * width, 3, padding=1)])
        self.last = nn.Conv2d(4 * width, 1, 3, padding=1)
        kaiming_normal(self)
        kaiming_normal(self.last, factor=0.1)

    def forward(self, images: Tensor) -> Tensor:
        fits = all(side >= 16 and side % 8 == 0 for side in images.shape[2:])
        if images.ndim != 4 or images.shape[1] != self.colours or not fits:
            raise InputError(
                f"This discriminator takes images (B, {self.colours}, H, W) with sides that are "
                f"multiples of 8 from 16 on, got {tuple(images.shape)}; choose such patches."
            )
        wide = F.pad(images, (self.REACH,) * 4, mode="replicate")
        around = F.avg_pool2d(wide, 2 * self.REACH + 1, stride=1)
        maps = F.leaky_relu(self.head(self.GAIN * (images - around)), _SLOPE)
        for layer in self.body:
            maps = F.leaky_relu(layer(maps), _SLOPE)  # (B, 4·F, H/8, W/8) at last
        return self.last(maps)  # (B, 1, H/8, W/8), logits


def _check(network: VGGDiscriminator | SRGANDiscriminator, images: Tensor, *, fits: bool) -> None:
    if images.ndim != 4 or images.shape[1] != network.colours or not fits:
        raise InputError(
            f"This discriminator takes images (B, {network.colours}, {network.size}, "
            f"{network.size}), got {tuple(images.shape)}; build it with the size of the training "
            "patches."
        )


def _activation(maps: int, *, norm: Literal["batch", "none"]) -> list[nn.Module]:
    normalisation: list[nn.Module] = [nn.BatchNorm2d(maps)] if norm == "batch" else []
    return [*normalisation, nn.LeakyReLU(_SLOPE)]


def _halvings(size: int) -> tuple[int, int]:
    """Return how often ``size`` is halved, and the 3 or 4 pixels that are left."""
    for edge in (3, 4):
        times = (size // edge).bit_length() - 1
        if times >= 3 and size == edge << times:
            return times, edge
    raise InputError(
        f"No discriminator is made for images of {size} pixels; the size is 3 or 4 times a "
        "power of two from 8 on: 24, 32, 48, 64, 96, 128, 192, 256 …"
    )
