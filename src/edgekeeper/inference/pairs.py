"""Two networks of one scale as one: their results mixed, or one guarded by the other.

What is mixed are the results, not the weights: on photographs kept out of training that has up to
0.3 dB less error than either network alone and than weights mixed alike (docs/diary.md). It works
for any two networks and takes the time of both.
"""

import functools
import math
from dataclasses import replace

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.inference.network import within_border
from edgekeeper.metrics.risk import THRESHOLD, WINDOW, texture_similarity
from edgekeeper.models import SRModel
from edgekeeper.pretrained.exported import Runtime, UsedPrecision
from edgekeeper.pretrained.zoo import Accelerable, Networks

FADE = 0.1
"""Similarity of texture over which the guard fades out above the threshold of an artifact."""


class _Pair(SRModel):
    """Two networks of one scale and one result; InputError unless scales and colours are equal."""

    def __init__(self, *, plain: SRModel, other: SRModel) -> None:
        super().__init__()
        if (plain.scale, plain.channels) != (other.scale, other.channels):
            raise InputError(
                f"The results of a network for ×{plain.scale} ({plain.channels}) and of one for "
                f"×{other.scale} ({other.channels}) cannot be mixed."
            )
        self.scale, self.channels = plain.scale, plain.channels
        self.plain, self.other = plain, other
        self.receptive_field = max(plain.receptive_field, other.receptive_field)
        self.multiple = math.lcm(plain.multiple, other.multiple)
        self.border = self._whole(min(plain.border, other.border))

    def _whole(self, side: int) -> int:
        return math.ceil(side / self.multiple) * self.multiple

    def _of(self, network: SRModel, lr: Tensor) -> Tensor:
        """Return what one of the two makes of ``lr`` (B, C, H, W), within its own border.

        Repeated pixels change what a network that is used to zeros makes of the border.
        """
        besides = self._whole(max(0, network.border - self.border))

        def run(part: Tensor, _: Tensor | None) -> Tensor:
            sr: Tensor = network(part)
            return sr.float()  # in bfloat16 one of the two may be so, and the other not

        return within_border(run, lr, maps=None, border=(besides,) * 4, scale=self.scale)

    @property
    def overlap(self) -> int:
        """The larger context of the two."""
        return max(self.plain.overlap, self.other.overlap)


class Mixture(_Pair):
    """The results of two networks of one scale, mixed: (1 - strength) · plain + strength · other.

    Raises InputError for networks of different scales or colours.
    """

    def __init__(self, *, plain: SRModel, other: SRModel, strength: float) -> None:
        super().__init__(plain=plain, other=other)
        self.strength = strength

    def in_runtime(self, runtime: Runtime, *, precision: UsedPrecision) -> SRModel | None:
        """Return the mixture of the two in another runtime; None unless both can be had."""
        parts = [
            one.in_runtime(runtime, precision=precision) if isinstance(one, Accelerable) else None
            for one in (self.plain, self.other)
        ]
        if parts[0] is None or parts[1] is None:
            return None
        return Mixture(plain=parts[0], other=parts[1], strength=self.strength)

    def forward(self, lr: Tensor) -> Tensor:
        """Return the SR batch, between those of the two networks."""
        plain, other = self._of(self.plain, lr), self._of(self.other, lr)
        return torch.lerp(plain, other.to(plain.dtype), self.strength)  # (B, C, rH, rW)


class Guarded(_Pair):
    """The result of a network that invents, ``other``, and of ``plain`` where it has artifacts.

    With D the similarity of their texture (DeSRA, see ``metrics.artifacts``), the faithful result
    is taken up to D = 0.7, the threshold of an artifact, and fades out until D = 0.8. Raises
    InputError for networks of different scales, or of luma.
    """

    def __init__(self, *, plain: SRModel, other: SRModel) -> None:
        if other.channels != "rgb":
            raise InputError("The guard compares the texture of RGB results, not of luma alone.")
        super().__init__(plain=plain, other=other)
        self.receptive_field += self._context

    @property
    def _context(self) -> int:
        return math.ceil((WINDOW - 1) / self.scale)  # of the similarity, in LR pixels

    @property
    def overlap(self) -> int:
        """The larger context of the two, and that of the comparison."""
        return super().overlap + self._context

    def forward(self, lr: Tensor) -> Tensor:
        """Return the SR batch (B, 3, rH, rW)."""
        faithful, sr = self._of(self.plain, lr), self._of(self.other, lr)
        if min(sr.shape[-2:]) <= WINDOW // 2:
            return sr  # nothing to compare in so few pixels
        similarity = texture_similarity(sr.clamp(0, 1), faithful.clamp(0, 1))  # (B, 1, rH, rW)
        artifact = ((THRESHOLD + FADE - similarity) / FADE).clamp(0, 1)
        return torch.lerp(sr, faithful.to(sr.dtype), artifact.to(sr.dtype))


def guarded(chosen: Networks, *, plain: Networks) -> Networks:
    """Return the networks, each held back by the faithful one of its factor. Raises InputError."""
    kept = tuple(factor for factor in chosen.factors if factor in plain.factors)
    if not kept:
        theirs = ", ".join(f"×{one}" for one in plain.factors)
        raise InputError(f"The guard's faithful networks enlarge by {theirs}, this one not.")

    def load(factor: int) -> SRModel:
        return Guarded(plain=plain.load(factor), other=chosen.load(factor))

    return replace(chosen, factors=kept, load=functools.cache(load), names={})


@functools.lru_cache(maxsize=8)
def mix(plain: SRModel, *, other: SRModel, strength: float) -> SRModel:
    """Return a network whose result is as far as ``strength``, 0 to 1, from one to the other."""
    if strength in (0, 1):
        return other if strength else plain
    return Mixture(plain=plain, other=other, strength=strength).eval()
