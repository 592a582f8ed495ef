"""A network on a batch of RGB images (``infer``) and on the tiles of one image (``TileRunner``).

The one place that knows luma networks, borders, layout, symmetries and consistency.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from math import ceil
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import colour_difference
from edgekeeper.inference import graphs
from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.models.base import in_evaluation
from edgekeeper.models.sftgan import taking_maps
from edgekeeper.ops.color import rgb_to_y, rgb_to_ycbcr, ycbcr_to_rgb
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.sharpen import STRONGEST, back_project, reach, sharpen
from edgekeeper.ops.tiles import Sides
from edgekeeper.pretrained.exported import ExportedNetwork, UsedPrecision
from edgekeeper.pretrained.zoo import Accelerable

Precision = Literal["float32", "bfloat16"]
Choice = Literal["auto", "float32", "bfloat16", "int8"]
MemoryLayout = Literal["as given", "channels last"]


@torch.inference_mode()
def infer(
    model: SRModel,
    lr: Tensor,
    *,
    maps: Tensor | None = None,
    precision: Precision = "float32",
    clamp: Literal["unit", "none"] = "unit",
    layout: MemoryLayout = "as given",
) -> Tensor:
    """Return the SR batch (B, 3, scale·H, scale·W), float32, of an LR batch (B, 3, H, W) in [0, 1].

    The network runs in evaluation mode, the caller's module untouched, with its ``border`` of
    repeated pixels around the images. A luma network works on Y; Cb and Cr are enlarged by
    MATLAB's bicubic, as in the papers. An image whose channels are equal stays grey.
    ``precision="bfloat16"`` runs convolutions in bfloat16 (autocast, channels last);
    ``clamp="none"`` leaves values outside [0, 1] as the network gave them. ``layout`` is that of
    the network's input in float32: "channels last" is faster, and may change the last bits.
    ``maps`` are those of ``SFTGAN.with_conditions``, which is then called.
    Raises InputError: ``lr`` is not a float RGB batch, or the network takes no such maps.
    """
    if lr.ndim != 4 or lr.shape[1] != 3 or not lr.is_floating_point():
        wanted = "a float RGB batch (B, 3, H, W) in [0, 1]"
        raise InputError(f"infer takes {wanted}; got {tuple(lr.shape)} of {lr.dtype}.")
    sides = (model.border,) * 4

    def forward(lr: Tensor, maps: Tensor | None) -> Tensor:
        return run_network(model, lr, maps=maps, precision=precision, layout=layout)

    sr = within_border(forward, lr, maps=maps, border=sides, scale=model.scale)  # (B, 3, sH, sW)
    grey = (lr == lr[:, :1]).flatten(1).all(dim=1)  # (B,)
    if model.channels == "rgb" and bool(grey.any()):
        sr = torch.where(grey.view(-1, 1, 1, 1), full_range_luma(sr), sr)
    return sr.clamp(0, 1) if clamp == "unit" else sr


def run_network(
    model: SRModel, lr: Tensor, *, maps: Tensor | None, precision: Precision, layout: MemoryLayout
) -> Tensor:
    """Return what the network makes of a part of an image: no border, no clamping."""
    if model.channels == "rgb":
        return _forward(model, lr, maps, precision, layout)
    ycbcr = rgb_to_ycbcr(lr)
    y = _forward(model, ycbcr[:, :1], maps, precision, layout)  # (B, 1, sH, sW)
    chroma = imresize(ycbcr[:, 1:], scale=model.scale)  # (B, 2, sH, sW)
    return ycbcr_to_rgb(torch.cat([y, chroma], dim=1))


def within_border(
    function: Callable[[Tensor, Tensor | None], Tensor],
    lr: Tensor,
    *,
    maps: Tensor | None,
    border: Sides,
    scale: int,
) -> Tensor:
    """Return what ``function`` makes of ``lr`` within repeated pixels, without their part of it."""
    if not any(border):
        return function(lr, maps)
    large = left, right, above, below = tuple(side * scale for side in border)
    if maps is not None:
        maps = F.pad(maps, large, mode="replicate")
    sr = function(F.pad(lr, border, mode="replicate"), maps)  # (B, C, above + sH + below, ...)
    return sr[..., above : sr.shape[-2] - below, left : sr.shape[-1] - right]


def full_range_luma(rgb: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) of RGB in [0, 1], so that equal channels stay what they are."""
    return (rgb_to_y(rgb) * 255 - 16) / 219


def _forward(
    model: SRModel, lr: Tensor, maps: Tensor | None, precision: Precision, layout: MemoryLayout
) -> Tensor:
    reduced = precision == "bfloat16"
    if reduced or layout == "channels last":
        lr = lr.contiguous(memory_format=torch.channels_last)
    model = in_evaluation(model)
    with torch.autocast(lr.device.type, dtype=torch.bfloat16) if reduced else nullcontext():
        if maps is not None:
            return taking_maps(model).with_conditions(lr, maps).float()
        return model(lr).float()


def is_finite(x: Tensor) -> bool:
    """Return whether all values are finite."""
    # One pass over the values: a NaN is handed on by both, an infinity is one of them.
    low, high = torch.aminmax(x)
    return bool(torch.isfinite(low) & torch.isfinite(high))


# ---- The tiles of one image ----------------------------------------------------------------------

BICUBIC_RADIUS = 2
"""LR pixels over which the colour of luma networks is interpolated."""

# How often the difference to the image is enlarged and added. Five leave less than half a grey
# level in the mean on each of the 14 images of Set14, with ESPCN, the roughest of the networks that
# ship; for EDSR two would do on most. See docs/upscale.md.
PROJECTIONS = 5
NO_MAP = "The network was given no map of categories and takes all as equally probable everywhere."

# The strength of ``ops.sharpen`` at a sharpness of 1, for a scale of 1: at 2, 3 and 4 it gives
# results about as much gradient variance as originals have (docs/sharpness.md).
_FULL = 1 / 2000

_EQUAL = 2e-6  # apart by the rounding of floats; a step of 16 bits is 1.5e-5
_LEAST_SIDE = 3  # pixels in which a gradient fits
NO_INT8 = (
    "--precision int8 needs OpenVINO (pip install 'edgekeeper[fast]') and a file of the network "
    "in eight bits: those of `edgekeeper upscale` by default and fast_x2, fast_x4 ship; "
    "make others by `edgekeeper export NETWORK --to openvino --int8 FOLDER`, a file for --model."
)
_DARK = 8 / 255  # a tile this dark may well become all black


@dataclass(frozen=True)
class Finish:
    """How results of a network for ``scale`` are finished.

    Attributes:
        sharpness: from 0, as the network made it, to 1.
        back: whether what is sharpened takes a step of back-projection (docs/sharpness.md).
        flat: LR pixels around one that must be equal to it for it to count as flat; 0: none do.
    """

    scale: int = 1
    sharpness: float = 0.0
    back: bool = False
    flat: int = 0

    @property
    def strength(self) -> float:
        """That of ``ops.sharpen``."""
        return min(STRONGEST, _FULL * self.sharpness * self.scale**2)

    @property
    def context(self) -> int:
        """How many LR pixels around a tile it needs, beside the network's."""
        if not self.sharpness:
            return 0
        step = 2 * BICUBIC_RADIUS if self.back else 0  # it shrinks and enlarges
        return ceil(reach(self.strength) / self.scale) + step

    def keeps(self, lr: Tensor) -> bool:
        """Return whether all of ``lr`` is flat: no network need see it."""
        return self.flat > 0 and bool(((lr - lr[..., :1, :1]).abs() < _EQUAL).all())

    def __call__(self, sr: Tensor, lr: Tensor) -> Tensor:
        """Return what becomes of ``sr`` (B, C, rH, rW) in [0, 1], made of ``lr`` (B, C, H, W)."""
        if self.sharpness and min(sr.shape[-2:]) >= _LEAST_SIDE:
            sr = sharpen(sr, self.strength).clamp_(0, 1)
            sr = back_project(sr, lr).clamp_(0, 1) if self.back else sr
        return keep_flat(sr, lr, radius=self.flat) if self.flat else sr


def keep_flat(sr: Tensor, lr: Tensor, *, radius: int) -> Tensor:
    """Return ``sr`` (B, C, rH, rW) with the colour of ``lr`` (B, C, H, W) where that is flat.

    Flat are pixels with equal ones around them, up to ``radius`` in both directions: what is
    one colour in a logo stays that colour to the level, whatever the network makes of it.
    """
    size = 2 * radius + 1
    around = F.pad(lr, (radius,) * 4, mode="replicate")
    most, least = (_extreme(around, size, find) for find in (torch.maximum, torch.minimum))
    flat = (most - least < _EQUAL).all(dim=1, keepdim=True)  # (B, 1, H, W)
    if not bool(flat.any()):
        return sr
    (height, width), scale = lr.shape[-2:], sr.shape[-1] // lr.shape[-1]
    pixels = sr.reshape(*sr.shape[:2], height, scale, width, scale)
    wide, colour = (x[..., None, :, None] for x in (flat, lr))  # (B, C, H, 1, W, 1)
    return torch.where(wide, colour, pixels).view(sr.shape)


def _extreme(x: Tensor, size: int, find: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the extreme of each ``size`` x ``size`` pixels, 20 times as fast as ``max_pool2d``."""
    for axis in (-2, -1):
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            length = x.shape[axis] - step
            x = find(x.narrow(axis, 0, length), x.narrow(axis, step, length))
            covered += step
    return x


def enlarged(x: Tensor, scale: int) -> Tensor:
    """Return ``x`` (..., H, W) with each pixel repeated: (..., scale·H, scale·W)."""
    return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Mean CIEDE2000 of the image and the shrunk result, without ``consistent`` and with it."""

    before: float
    after: float


def tile_overlap(model: SRModel, *, consistent: bool = False) -> int:
    """Return the LR pixels of context that a tile of ``model`` needs."""
    overlap = max(model.overlap, BICUBIC_RADIUS)
    # One projection shrinks (kernel radius 2 LR pixels) and enlarges (2 again).
    return overlap + PROJECTIONS * 2 * BICUBIC_RADIUS if consistent else overlap


class TileError(ImageError):
    """A tile could not be made; the message does not say of which image."""


class TileRunner:
    """A network that enlarges the tiles of one image, and what is to be told afterwards.

    Attributes:
        model: what computes the tiles: the network, or it in a runtime that was found faster.
        wanted, precision: the one asked for, and the one in use; None until it is chosen.
        overlap: the context that a tile needs, in LR pixels.
        notes: sentences for the user, each once.
        seconds: the time spent in the network.
    """

    def __init__(
        self,
        model: SRModel,
        *,
        precision: Choice = "float32",
        ensemble: bool = False,
        consistent: bool = False,
        finish: Finish | None = None,
    ) -> None:
        tensors = chain(model.parameters(), model.buffers())
        self.model = self._torch = in_evaluation(model)
        self.device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        self.wanted, self.precision = precision, _without_choice(self.model, precision)
        self._finish = finish or Finish(scale=model.scale)
        self.overlap = tile_overlap(model, consistent=consistent) + self._finish.context
        self.notes: dict[str, None] = {}
        self.seconds = 0.0
        self._ensemble, self._consistent = ensemble, consistent
        self._drift = torch.zeros(3, dtype=torch.float64)
        self._graphs = graphs.Graphs() if self.device.type in graphs.RECORDING else None

    @torch.inference_mode()
    def __call__(
        self, part: Tensor, *, maps: Tensor | None = None, border: Sides = (0, 0, 0, 0)
    ) -> Tensor:
        """Return the SR (1, C, scale·h, scale·w) in [0, 1] of grey or RGB (1, C, h, w).

        It is finished, but lies on the network's device still (``ops.tiles.to_host``).
        ``maps`` (1, 8, scale·h, scale·w) are for networks that take maps of categories; ``border``
        is where the tile ends with the image, in a network that sees a border there.
        Raises InputError: maps for a network that takes none; TileError: the network gave values
        that are not finite, in float32.
        """
        if maps is None and isinstance(self.model, SFTGAN):
            self.notes[NO_MAP] = None
        if not self._consistent and self._finish.keeps(part):
            return enlarged(part, self.model.scale)
        started = time.perf_counter()
        lr, scale = part.to(self.device), self.model.scale  # (1, C, h, w)
        maps = None if maps is None else maps.to(self.device)
        sr = within_border(self._run, as_rgb(lr), maps=maps, border=border, scale=scale)
        if part.shape[1] == 1:
            sr = full_range_luma(sr)
        sr = self._finish(sr.clamp_(0, 1), lr)
        if self._consistent:
            sr = self._project(sr, lr)
        if sr.device.type == "cuda":  # so that a thread may copy it while the next is made
            torch.cuda.current_stream(sr.device).synchronize()
        self.seconds += time.perf_counter() - started
        return sr

    @property
    def runtime(self) -> Literal["torch", "onnx", "openvino"]:
        """What runs the network."""
        exported = exported_in(self.model)
        return "torch" if exported is None else exported.runtime

    @property
    def drift(self) -> Drift | None:
        """How far the result was, and is, from the image; None without ``consistent``."""
        before, after, count = self._drift.tolist()
        return Drift(before=before / count, after=after / count) if count else None

    def _run(self, lr: Tensor, maps: Tensor | None) -> Tensor:
        """Return what the network gives, in float32 if it fails in less."""
        assert self.precision is not None
        reduced = self.precision == "bfloat16" and self.runtime == "torch"
        sr = self._infer(self.model, lr, maps, "bfloat16" if reduced else "float32")
        black = float(sr.amax()) <= 0 and float(lr.amax()) > _DARK
        if self.precision != "float32" and (black or not is_finite(sr)):
            self.notes[f"A tile that failed in {self.precision} was done again in float32."] = None
            sr = self._infer(self._torch, lr, maps, "float32")
        if not is_finite(sr):
            raise TileError("the network gave values that are not finite; its weights are damaged.")
        return sr

    def _infer(
        self, model: SRModel, lr: Tensor, maps: Tensor | None, precision: Precision
    ) -> Tensor:
        def run(lr: Tensor, maps: Tensor | None = None) -> Tensor:
            def forward(lr: Tensor) -> Tensor:
                return run_network(
                    model, lr, maps=maps, precision=precision, layout="channels last"
                )

            if self._graphs is None or maps is not None:
                return forward(lr)
            return self._graphs(forward, lr, precision=precision)

        if not self._ensemble:
            return run(lr, maps)
        if maps is None:
            return mean_of_eight(run, lr)
        # The image is turned with its map: at the map's size, each pixel repeated.
        scale = self.model.scale
        both = torch.cat([enlarged(lr, scale), maps], dim=1)  # (1, 3 + 8, sh, sw)
        return mean_of_eight(lambda x: run(x[:, :3, ::scale, ::scale], x[:, 3:]), both)

    def _project(self, sr: Tensor, lr: Tensor) -> Tensor:
        """Project iteratively back (Irani and Peleg 1991); the exact bicubic is the camera."""
        size = (lr.shape[-2], lr.shape[-1])
        before = imresize(sr, size=size)  # (1, C, h, w)
        for _ in range(PROJECTIONS):
            sr = back_project(sr, lr).clamp_(0, 1)
        small = imresize(sr, size=size)
        count = size[0] * size[1]
        means = [colour_difference(as_rgb(x), as_rgb(lr)) for x in (before, small)]
        self._drift += torch.tensor([*(mean * count for mean in means), count])
        return sr


def mean_of_eight(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the mean of ``function`` of ``x`` flipped and transposed, turned back each time.

    ``x`` is (B, C, H, W); ``function`` may change the size, by the same factor on both axes. For a
    function that treats all directions alike this is ``function(x)`` up to rounding. In the
    literature: geometric self-ensemble (EDSR, Lim et al. 2017, section 4.3).
    """
    total = torch.zeros(())
    for turned in (x, x.transpose(-2, -1)):
        for flips in ([], [-1], [-2], [-2, -1]):
            result = function(turned.flip(flips)).flip(flips)
            total = total + (result if turned is x else result.transpose(-2, -1))
    return total / 8


def exported_in(model: SRModel) -> ExportedNetwork | None:
    """Return the network itself if another runtime runs it, or one of a mixture of such."""
    parts = (part for part in model.modules() if isinstance(part, ExportedNetwork))
    return next(parts, None)


def _without_choice(model: SRModel, wanted: Choice) -> UsedPrecision | None:
    """Return the precision where nothing is left to choose, else None."""
    if (exported := exported_in(model)) is not None:
        return exported.precision
    if wanted == "int8" and not isinstance(model, Accelerable):
        raise InputError(NO_INT8)
    return None if wanted == "auto" or isinstance(model, Accelerable) else wanted


def as_rgb(part: Tensor) -> Tensor:
    """Return grey (1, 1, h, w) as three equal channels, RGB as it is."""
    return part if part.shape[1] == 3 else part.expand(-1, 3, -1, -1)
