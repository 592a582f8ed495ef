"""How large an image is to become, and by which passes of which networks it gets there."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch

from edgekeeper.errors import InputError
from edgekeeper.models import SRModel
from edgekeeper.pretrained.zoo import FACTORS, Style, default_name, load

SLACK = 1.01
"""A network is used for up to 1 % more than its factor; the exact resize adds what is missing.

Otherwise 2001 pixels made of 1000 would need the network for three times the size.
"""


@dataclass(frozen=True, kw_only=True)
class Enlargement:
    """How large an image is to become: a factor, a width, a height, or a box that it fits into.

    Exactly one is given. The proportions stay; with ``fit`` = (width, height) the image becomes
    as large as the box allows. What is smaller than the image shrinks it.

    Raises:
        InputError: none or several are given, or one is not above zero.
    """

    factor: float | None = None
    width: int | None = None
    height: int | None = None
    fit: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        given = [x for x in (self.factor, self.width, self.height, self.fit) if x is not None]
        if len(given) != 1:
            raise InputError(
                "Say once how large the image is to become: a factor, a width, a height or a "
                f"box to fit into; {len(given)} of them were given."
            )
        numbers = given[0] if isinstance(given[0], tuple) else (given[0],)
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise InputError(f"An image cannot be enlarged to {given[0]}; give a positive number.")

    def factor_for(self, size: tuple[int, int]) -> float:
        """Return the factor for an image of ``size`` (height, width)."""
        height, width = size
        if self.factor is not None:
            return self.factor
        if self.width is not None:
            return self.width / width
        if self.height is not None:
            return self.height / height
        assert self.fit is not None
        return min(self.fit[0] / width, self.fit[1] / height)

    def size_for(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) that an image of ``size`` gets, rounded, at least 1 x 1."""
        factor = self.factor_for(size)
        height, width = (max(1, math.floor(side * factor + 0.5)) for side in size)
        return self.height or height, self.width or width


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Networks to choose from: the ``factors`` there are, and ``load`` gives the one of a factor.

    ``load`` is asked once for each factor that an image needs; let it remember what it has read.
    """

    factors: tuple[int, ...]
    load: Callable[[int], SRModel]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The factors of the ``passes`` of networks, one after another, and the ``size`` at the end.

    Sizes are (height, width).
    """

    source: tuple[int, int]
    passes: tuple[int, ...]
    size: tuple[int, int]


def plan_enlargement(
    size: tuple[int, int], *, enlargement: Enlargement | None, factors: tuple[int, ...]
) -> Plan:
    """Return the passes and the final size for an image of ``size`` (height, width).

    Without an ``enlargement`` it is one pass of the largest factor.

    Raises:
        InputError: no network that is given enlarges, and the image is to become larger.
    """
    if enlargement is None:
        factor = max(factors)
        return Plan(source=size, passes=(factor,), size=(size[0] * factor, size[1] * factor))
    passes = choose_passes(enlargement.factor_for(size), factors=factors)
    return Plan(source=size, passes=passes, size=enlargement.size_for(size))


def choose_passes(wanted: float, *, factors: tuple[int, ...]) -> tuple[int, ...]:
    """The factors of the passes that reach ``wanted``, the fewest, and of these the smallest.

    None for a factor of 1 or less, one where a network suffices, and several for more: 6 is
    2 x 3, 16 is 4 x 4. The smaller factor comes first, since the second pass works on an image
    that the first has enlarged.

    Raises:
        InputError: no factor is above 1 while ``wanted`` is.
    """
    if wanted <= SLACK:
        return ()
    if max(factors) < 2:
        raise InputError(f"No network that was given enlarges; a factor of {wanted:g} needs one.")
    count = 1
    while max(factors) ** count * SLACK < wanted:
        count += 1
    options = combinations_with_replacement(sorted(set(factors)), count)
    enough = [option for option in options if math.prod(option) * SLACK >= wanted]
    return min(enough, key=math.prod)


def shipped_networks(*, style: Style = "faithful", device: str | torch.device = "cpu") -> Networks:
    """Return the networks that ship in a style, each read once, on a device."""
    return remembered(
        lambda factor: load(default_name(factor, style=style)).to(device),
        factors=FACTORS[style],
    )


def remembered(load_network: Callable[[int], SRModel], *, factors: tuple[int, ...]) -> Networks:
    """Networks that are loaded once each."""
    known: dict[int, SRModel] = {}

    def one(factor: int) -> SRModel:
        if factor not in known:
            known[factor] = load_network(factor)
        return known[factor]

    return Networks(factors=factors, load=one)


def as_networks(model: SRModel | Networks) -> Networks:
    """Return a single network as networks to choose from."""
    if isinstance(model, Networks):
        return model
    return Networks(factors=(model.scale,), load=lambda factor: model)
