"""What every super-resolution network here has in common: little, on purpose."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError

Channels = Literal["rgb", "y"]

"""Colour of a network's input and output: RGB, or MATLAB's studio-range luma, both in [0, 1]."""

COLOUR_COUNT: dict[Channels, int] = {"rgb": 3, "y": 1}

MOST = 1024

"""The most maps, blocks or layers that an argument may ask for; the papers have up to 256."""


class SRModel(nn.Module):
    """A network that turns a small image into one ``scale`` times as large.

    Attributes:
        scale: the integer factor, HR size over LR size.
        channels: ``"rgb"``, or ``"y"`` (luma alone; ``edgekeeper.inference.network`` adds colour).
        receptive_field: how many LR pixels around a pixel can change it (a radius).
        overlap: how many LR pixels of context a tile is given; the receptive field, unless that
            is in the hundreds and all but a stated rest of the influence comes from nearer.
        multiple: the sides and places of tiles must be multiples of this many LR pixels.

    ``features`` and ``reconstruct`` are the two halves of ``forward``; a gradient branch is put
    between them, whatever the network.
    """

    scale: int
    channels: Channels
    receptive_field: int
    multiple: int = 1

    @property
    def overlap(self) -> int:
        """The context of a tile, in LR pixels."""
        return self.receptive_field

    def features(self, lr: Tensor) -> Tensor:
        """Return the deep features (B, F, H', W') of an LR batch (B, C, H, W)."""
        raise TypeError(f"{type(self).__name__} does not define features(lr)")

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        """Return the SR batch (B, C, scale·H, scale·W) from the features and the LR batch."""
        raise TypeError(f"{type(self).__name__} does not define reconstruct(features, lr)")

    def forward(self, lr: Tensor) -> Tensor:
        """Return the SR batch (B, C, scale·H, scale·W), not clamped, of an LR batch in [0, 1]."""
        return self.reconstruct(self.features(lr), lr)


@dataclass(frozen=True)
class GradientGuided:
    """What ``with_gradient`` of a network with a gradient branch gives.

    Attributes:
        sr: the SR batch (B, C, scale·H, scale·W).
        gradient: the predicted ``gradient_map`` of the HR batch, of the same shape.
    """

    sr: Tensor
    gradient: Tensor


def check_scale(scale: int, *, allowed: tuple[int, ...], model: str) -> None:
    """Raise InputError unless ``scale`` is one of ``allowed``."""
    if type(scale) is not int or scale not in allowed:
        choices = ", ".join(str(factor) for factor in allowed)
        raise InputError(f"{model} has no scale {scale}; choose one of {choices}.")


def check_choice(name: str, given: object, *, allowed: tuple[object, ...], model: str) -> None:
    """Raise InputError unless the argument ``given`` is one of ``allowed``, type included."""
    if not any(type(given) is type(choice) and given == choice for choice in allowed):
        choices = ", ".join(str(choice) for choice in allowed)
        raise InputError(f"{model}'s {name} is one of {choices}; got {given!r}.")


def check_counts(
    counts: Mapping[str, object], *, model: str, least: int = 1, most: int = MOST
) -> None:
    """Raise InputError unless all ``counts``, by argument, are whole and in ``least..most``."""
    for name, given in counts.items():
        if type(given) is not int or not least <= given <= most:
            raise InputError(
                f"{model}'s {name} is a whole number from {least} to {most}; got {given!r}."
            )


def check_factor(name: str, given: object, *, model: str) -> None:
    """Raise InputError unless ``given`` is a finite number, 0 or more."""
    if type(given) not in (int, float) or not 0 <= given <= sys.float_info.max:  # type: ignore[operator]
        raise InputError(f"{model}'s {name} is a finite number, 0 or more; got {given!r}.")


def parameter_count(model: nn.Module) -> int:
    """Return the number of learnable numbers; fixed buffers are not counted."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def filled(lr: Tensor, *, multiple: int) -> Tensor:
    """The batch, last row and column repeated until both sides are multiples of ``multiple``."""
    height, width = lr.shape[-2:]
    return F.pad(lr, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def lr_radius(hr_pixels: int, *, scale: int) -> int:
    """Return the radius in LR pixels that covers a radius of ``hr_pixels`` HR pixels."""
    return math.ceil(hr_pixels / scale)


# ---- The weights that several networks start with -----------------------------------------------


def kaiming_normal(network: nn.Module, *, factor: float = 1.0) -> None:
    """Give every layer ``factor`` times Kaiming's normal weights, and biases of zero.

    He et al., "Delving Deep into Rectifiers", ICCV 2015, https://arxiv.org/abs/1502.01852: a
    deviation of √(2 / inputs of a layer). ESRGAN's code takes a tenth.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            with torch.no_grad():
                module.weight.mul_(factor)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
