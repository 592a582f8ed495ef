"""A network as it is run on one tile: precision, symmetries, consistency, and checks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.errors import ImageError
from edgekeeper.inference.memory import Tile, tile_side
from edgekeeper.inference.network import Choice, Precision, choose_precision, infer
from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.ops.color import colour_difference, rgb_to_y
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import run_tiled

# ---- The eight symmetries of the square, and what a function gives on average over them ---------


def mean_of_eight(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The mean of what ``function`` gives for ``x`` flipped and transposed, turned back each time.

    ``x`` is (B, C, H, W); ``function`` may change the size, by the same factor on both axes. For a
    function that treats all directions alike this is ``function(x)`` up to rounding. In the
    literature: geometric self-ensemble (EDSR, Lim et al. 2017, section 3.4).
    """
    total: Tensor | None = None
    for transposed in (False, True):
        for flips in ([], [-1], [-2], [-2, -1]):
            turned = (x.transpose(-2, -1) if transposed else x).flip(flips)
            result = function(turned).flip(flips)
            result = result.transpose(-2, -1) if transposed else result
            total = result.clone() if total is None else total.add_(result)
    assert total is not None
    return total.div_(8)


Ensemble = Literal["none", "eight"]

Consistent = Literal["no", "yes"]


class TileError(ImageError):
    """A tile could not be made; the message does not say of which image."""


BICUBIC_RADIUS = 2

"""LR pixels over which the colour of luma networks is interpolated."""

PROJECTIONS = 5

"""How often the difference to the image is enlarged and added.

Five leave less than half a grey level in the mean on each of the 14 images of Set14, with ESPCN,
the roughest of the networks that ship; for EDSR two would do on most. See docs/upscale.md.
"""

NO_MAP = (
    "The network was given no map of categories and takes all of them as equally probable "
    "everywhere."
)

# One projection shrinks (kernel radius 2 LR pixels) and enlarges (2 again).
_PROJECTION_RADIUS = 2 * BICUBIC_RADIUS

# A tile this dark may well become all black.
_DARK = 8 / 255


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a network is run.

    Attributes:
        precision: "float32", "bfloat16", or "auto": the fastest that stays within half a grey
            level of float32 in the mean.
        ensemble: "eight" takes the mean over the flips and turns of the image, in eight times
            the time.
        consistent: "yes" corrects the result until, shrunk by bicubic interpolation, it gives
            the image back.
    """

    precision: Choice = "float32"
    ensemble: Ensemble = "none"
    consistent: Consistent = "no"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """CIEDE2000 in the mean between the image and the result shrunk to its size.

    ``before`` and ``after`` the correction that ``consistent`` makes.
    """

    before: float
    after: float


class Enlarger:
    """A network that enlarges the tiles of one image, and what is to be told afterwards.

    Attributes:
        precision: the one in use; None until it is chosen.
        overlap: the context that a tile needs, in LR pixels.
        notes: sentences for the user, each once.
        seconds: the time spent in the network.
    """

    def __init__(self, model: SRModel, *, manner: Manner) -> None:
        tensors = chain(model.parameters(), model.buffers())
        self.model, self.manner = model.eval(), manner
        self.device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        self.precision: Precision | None = None
        if manner.precision != "auto":
            self.precision = manner.precision
        self.overlap = tile_overlap(model, manner=manner)
        self.notes: dict[str, None] = {}
        self.seconds = 0.0
        self._drift = torch.zeros(3, dtype=torch.float64)

    def probe(self, part: Tensor, *, maps: Tensor | None = None) -> None:
        """Choose the precision by a part of the image, if it is still to be chosen."""
        if self.precision is None:
            started = time.perf_counter()
            maps = None if maps is None else maps.to(self.device)
            verdict = choose_precision(self.model, _as_rgb(part).to(self.device), maps=maps)
            self.precision = verdict.precision
            if verdict.note:
                self.notes[verdict.note] = None
            self.seconds += time.perf_counter() - started

    @torch.inference_mode()
    def __call__(self, part: Tensor, *, maps: Tensor | None = None) -> Tensor:
        """Grey or RGB (1, C, scale·h, scale·w) in [0, 1] on the CPU, of (1, C, h, w).

        ``maps`` (1, 8, scale·h, scale·w) are for networks that take maps of categories.

        Raises:
            InputError: maps for a network that takes none.
            TileError: the network gave values that are not finite, in float32.
        """
        if maps is None and isinstance(self.model, SFTGAN):
            self.notes[NO_MAP] = None
        self.probe(part, maps=maps)
        started = time.perf_counter()
        lr = part.to(self.device)
        sr = self._run(_as_rgb(lr), None if maps is None else maps.to(self.device))
        if part.shape[1] == 1:
            sr = (rgb_to_y(sr) * 255 - 16) / 219  # studio range to full range
        sr = sr.clamp_(0, 1)
        if self.manner.consistent == "yes":
            sr = self._project(sr, lr)
        sr = sr.cpu()
        self.seconds += time.perf_counter() - started
        return sr

    @property
    def drift(self) -> Drift | None:
        """How far the result was, and is, from the image; None without ``consistent``."""
        before, after, count = self._drift.tolist()
        return Drift(before=before / count, after=after / count) if count else None

    def _run(self, lr: Tensor, maps: Tensor | None) -> Tensor:
        """Return what the network gives, in float32 if it fails in less."""
        assert self.precision is not None
        sr = self._infer(lr, maps, self.precision)
        if self.precision != "float32" and not _is_sound(sr, lr):
            self.notes["A tile that failed in bfloat16 was done again in float32."] = None
            sr = self._infer(lr, maps, "float32")
        if not _is_finite(sr):
            raise TileError("the network gave values that are not finite; its weights are damaged.")
        return sr

    def _infer(self, lr: Tensor, maps: Tensor | None, precision: Precision) -> Tensor:
        def forward(x: Tensor, maps: Tensor | None = maps) -> Tensor:
            return infer(
                self.model,
                x,
                maps=maps,
                precision=precision,
                clamp="none",
                layout="channels last",
            )

        if self.manner.ensemble != "eight":
            return forward(lr)
        if maps is None:
            return mean_of_eight(forward, lr)
        # The image is turned with its map: at the map's size, each pixel repeated.
        scale = self.model.scale
        large = lr.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
        return mean_of_eight(
            lambda x: forward(x[:, :3, ::scale, ::scale], x[:, 3:]), torch.cat([large, maps], dim=1)
        )

    def _project(self, sr: Tensor, lr: Tensor) -> Tensor:
        """Iterated back-projection (Irani and Peleg 1991) with the exact bicubic as the camera."""
        size, large = (lr.shape[-2], lr.shape[-1]), (sr.shape[-2], sr.shape[-1])
        small = imresize(sr, size=size)
        before = small
        for _ in range(PROJECTIONS):
            sr = (sr + imresize(lr - small, size=large)).clamp_(0, 1)
            small = imresize(sr, size=size)
        differences = [
            colour_difference(_as_rgb(x.clamp(0, 1)), _as_rgb(lr)).sum() for x in (before, small)
        ]
        count = lr.new_tensor(size[0] * size[1], dtype=torch.float64)
        self._drift += torch.stack([*differences, count]).cpu()
        return sr


def tile_overlap(model: SRModel, *, manner: Manner) -> int:
    """Return the LR pixels of context that a tile of ``model`` needs."""
    overlap = max(model.overlap, BICUBIC_RADIUS)
    if manner.consistent == "yes":
        overlap += PROJECTIONS * _PROJECTION_RADIUS
    return overlap


def _as_rgb(part: Tensor) -> Tensor:
    return part if part.shape[1] == 3 else part.expand(-1, 3, -1, -1)


def _is_finite(x: Tensor) -> bool:
    # One pass over the values: a NaN is handed on by both, an infinity is one of them.
    low, high = torch.aminmax(x)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _is_sound(sr: Tensor, lr: Tensor) -> bool:
    """Return whether the values are finite, and not all black where the tile was not."""
    return _is_finite(sr) and (float(sr.amax()) > 0 or float(lr.amax()) <= _DARK)


# ---- Whether tiles show: the result made in tiles against the same made at once -----------------

ALLOWED_LEVELS = 0.5

"""The largest difference that tiles may make anywhere, in grey levels of 255."""


@dataclass(frozen=True, kw_only=True)
class Seams:
    """The largest difference between tiled and whole in grey levels of 255, and how it was made."""

    levels: float
    tile: int
    overlap: int

    @property
    def is_seamless(self) -> bool:
        """Whether no value moves by more than half a grey level."""
        return self.levels <= ALLOWED_LEVELS


def verify_seams(
    model: SRModel,
    lr: Tensor,
    *,
    tile: Tile = "auto",
    manner: Manner | None = None,
    maps: Tensor | None = None,
) -> Seams:
    """Return what tiles change on a part of an image ``lr``, grey or RGB (1, C, h, w) in [0, 1].

    The part must be larger than a tile, or there is nothing to compare; where memory is short
    give a smaller ``tile``, since the part is also run whole. ``maps`` (1, 8, scale·h, scale·w)
    are for networks that take maps of categories.

    Raises:
        InputError: the tile is too small for the network's context, or maps for a network that
            takes none.
    """
    enlarger = Enlarger(model, manner=Manner() if manner is None else manner)
    size = (lr.shape[-2], lr.shape[-1])
    side = tile_side(tile, overlap=enlarger.overlap, size=size, device=enlarger.device)
    whole = enlarger(lr, maps=maps)
    colours, both = lr.shape[1], lr
    if maps is not None:  # cut with the image, as further channels of it
        both = torch.cat([lr, F.pixel_unshuffle(maps, model.scale)], dim=1)

    def enlarged(part: Tensor) -> Tensor:
        beside = None if maps is None else F.pixel_shuffle(part[:, colours:], model.scale)
        return enlarger(part[:, :colours], maps=beside)

    tiled = run_tiled(
        enlarged,
        both,
        tile=side,
        overlap=enlarger.overlap,
        scale=model.scale,
        multiple=model.multiple,
    )
    levels = float((tiled - whole).abs().max()) * 255
    return Seams(levels=levels, tile=side, overlap=enlarger.overlap)
