"""What every super-resolution network here has in common: little, on purpose."""

import copy
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError

# Colour of a network's input and output: RGB, or MATLAB's studio-range luma, both in [0, 1].
Channels = Literal["rgb", "y"]
COLOUR_COUNT: dict[Channels, int] = {"rgb": 3, "y": 1}

MOST = 1024  # maps, blocks or layers that an argument may ask for; the papers have up to 256
ZeroOrMore = Annotated[int, 0, MOST]  # of a count that may be none; plain int begins at 1


class SRModel(nn.Module):
    """A network that turns a small image into one ``scale`` times as large.

    Attributes:
        scale: the integer factor, HR size over LR size.
        channels: ``"rgb"``, or ``"y"`` (luma alone; ``edgekeeper.inference.network`` adds colour).
        receptive_field: how many LR pixels around a pixel can change it (a radius).
        overlap: how many LR pixels of context a tile is given; the receptive field, unless that
            is in the hundreds and all but a stated rest of the influence comes from nearer.
        multiple: the sides and places of tiles must be multiples of this many LR pixels.
        border: how many LR pixels of repeated border are put around a whole image before the
            network, and cut off after it.

    ``features`` and ``reconstruct`` are the two halves of ``forward``; a gradient branch is put
    between them, whatever the network. In comments of shapes r is ``scale`` and F the width.

    A class's constructor takes keywords. What they may be is said by their types alone
    (``check_arguments``), and for ``scale`` by ``scales``.
    """

    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    scale: int
    channels: Channels
    receptive_field: int
    multiple: int = 1
    border: int = 0

    def __new__(cls, *_positions: object, **arguments: object) -> Self:
        check_arguments(cls, arguments)
        return super().__new__(cls)

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
    """What ``with_gradient`` of a network with a gradient branch gives."""

    sr: Tensor  # the SR batch (B, C, scale·H, scale·W)
    gradient: Tensor  # the predicted ``gradient_map`` of the HR batch, of the same shape


def check_arguments(network: type[SRModel], arguments: Mapping[str, object]) -> None:
    """Raise InputError for an argument that its type in the constructor does not allow.

    A ``Literal`` or a bool is one of its values, type included; an int is from 1 to MOST, or in
    the limits of ``Annotated[int, least, most]``; a float is finite and 0 or more. Other types are
    left to the network.
    """
    title = network.__name__
    if "scale" in arguments:
        scale, scales = arguments["scale"], network.scales
        if type(scale) is not int or scale not in scales:
            choices = ", ".join(map(str, scales))
            raise InputError(f"{title} has no scale {scale}; choose one of {choices}.")
    for name, kind in _types(network.__init__).items():
        if name in arguments and name != "scale":
            expected = _expected(arguments[name], kind)
            if expected is not None:
                raise InputError(f"{title}'s {name} is {expected}; got {arguments[name]!r}.")


def _expected(given: object, kind: Any) -> str | None:
    """Return what an argument of this type must be; None when ``given`` is that."""
    origin = get_origin(kind)
    if kind is bool or origin is Literal:
        choices = (True, False) if kind is bool else get_args(kind)
        fits = any(type(given) is type(choice) and given == choice for choice in choices)
        return None if fits else f"one of {', '.join(map(str, choices))}"
    if kind is int or origin is Annotated:
        least, most = (1, MOST) if kind is int else kind.__metadata__
        fits = type(given) is int and least <= given <= most
        return None if fits else f"a whole number from {least} to {most}"
    if kind is float:
        fits = type(given) in (int, float) and 0 <= given <= sys.float_info.max  # type: ignore[operator]
        return None if fits else "a finite number, 0 or more"
    return None


@cache
def _types(constructor: Callable[..., None]) -> dict[str, Any]:
    return get_type_hints(constructor, include_extras=True)


def parameter_count(model: nn.Module) -> int:
    """Return the number of learnable numbers; fixed buffers are not counted."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def in_evaluation(model: SRModel) -> SRModel:
    """Return the network in evaluation mode: itself, or another around the same weights.

    The caller's module is not touched, so that threads may run it while one trains it.
    """
    found = _evaluating(model, {}) if any(m.training for m in model.modules()) else model
    assert isinstance(found, SRModel)
    return found


# No inner function: one that calls itself would keep the network, and the threads of a runtime
# that runs it, until a garbage collection ends them somewhere else.
def _evaluating(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in made:
        made[module] = twin = copy.copy(module)  # which shares parameters and buffers
        twin.training = False
        twin._modules = {k: part and _evaluating(part, made) for k, part in module._modules.items()}
    return made[module]


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
