"""How far a network really looks: its effective receptive field, measured on an image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekeeper.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a function looks: the ``radius`` in LR pixels, and the ``rest`` from beyond it.

    The rest is what an output changes by, as a share of the full range, when everything beyond
    the radius changes by the full range.
    """

    radius: int
    rest: float


def measure_reach(
    function: Callable[[Tensor], Tensor], lr: Tensor, *, scale: int, bound: float = 0.5 / 255
) -> Reach:
    """Return the effective receptive field of ``function`` at the middle of the image ``lr``.

    ``function`` maps (1, C, h, w) to (1, C', scale·h, scale·w); ``lr`` should hold something to
    see, a part of a photograph. The radius is the smallest beyond which the rest is at most
    ``bound`` (half a grey level).

    The rest is the sum of the absolute derivatives of an output with respect to all samples beyond
    the radius, the largest over the colours and two opposite corners of the middle LR pixel: a
    linear estimate of the worst case.
    Raises InputError: ``lr`` is too small: the field fills more than three quarters of it.
    """
    height, width = lr.shape[-2:]
    row, column = height // 2, width // 2
    far = torch.maximum(
        (torch.arange(height, device=lr.device) - row).abs()[:, None],
        (torch.arange(width, device=lr.device) - column).abs()[None, :],
    )
    largest = 3 * min(row, column) // 4
    outputs = (slice(row * scale, (row + 1) * scale), slice(column * scale, (column + 1) * scale))
    rests = _rests(function, lr, outputs=outputs, far=far)
    for radius, rest in enumerate(rests):
        if rest <= bound and radius <= largest:
            return Reach(radius=radius, rest=rest)
    raise InputError(
        f"On an image of {width} x {height} pixels the reach of this network cannot be measured: "
        f"it is more than {largest} pixels. Give a larger part of an image."
    )


def _rests(
    function: Callable[[Tensor], Tensor], lr: Tensor, *, outputs: tuple[slice, slice], far: Tensor
) -> list[float]:
    """Return the rest beyond each radius 0, 1, 2 ..."""
    with torch.enable_grad():
        leaf = lr.detach().clone().requires_grad_()
        middle = function(leaf)[0, :, *outputs]
        largest = torch.zeros(int(far.max()) + 1, dtype=torch.float64, device=lr.device)
        for colour in middle:
            for corner in (0, -1):
                (slope,) = torch.autograd.grad(colour[corner, corner], leaf, retain_graph=True)
                rings = torch.zeros_like(largest)
                rings.index_add_(0, far.flatten(), slope.abs().double().sum((0, 1)).flatten())
                beyond = rings.flip(0).cumsum(0).flip(0)  # from each radius outwards, itself too
                largest = torch.maximum(largest, beyond)
    return [*largest[1:].tolist(), 0.0]
