"""Run a network on RGB: on a batch of images (``infer``) or on the tiles of one (``TileRunner``).

The one place that knows luma networks, borders, layout, precision, symmetries and consistency.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import colour_difference
from edgekeeper.inference.finish import Finish, enlarged
from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.models.base import in_evaluation
from edgekeeper.models.sftgan import taking_maps
from edgekeeper.ops.color import rgb_to_y, rgb_to_ycbcr, ycbcr_to_rgb
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import Sides
from edgekeeper.pretrained.exported import ExportedNetwork

Precision = Literal["float32", "bfloat16"]
Choice = Literal["auto", "float32", "bfloat16"]
MemoryLayout = Literal["as given", "channels last"]

BICUBIC_RADIUS = 2
"""LR pixels over which the colour of luma networks is interpolated."""

# How often the difference to the image is enlarged and added. Five leave less than half a grey
# level in the mean on each of the 14 images of Set14, with ESPCN, the roughest of the networks that
# ship; for EDSR two would do on most. See docs/upscale.md.
PROJECTIONS = 5
NO_MAP = "The network was given no map of categories and takes all as equally probable everywhere."

_DARK = 8 / 255  # a tile this dark may well become all black


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

    Raises:
        InputError: ``lr`` is not a float RGB batch, or the network takes no such maps.
    """
    check_batch(lr)
    sides = (model.border,) * 4

    def forward(lr: Tensor, maps: Tensor | None) -> Tensor:
        return _run_network(model, lr, maps, precision, layout)

    sr = _within_border(forward, lr, maps, border=sides, scale=model.scale)  # (B, 3, sH, sW)
    grey = (lr == lr[:, :1]).flatten(1).all(dim=1)  # (B,)
    if model.channels == "rgb" and bool(grey.any()):
        sr = torch.where(grey.view(-1, 1, 1, 1), _full_range_luma(sr), sr)
    return sr.clamp(0, 1) if clamp == "unit" else sr


def _run_network(
    model: SRModel, lr: Tensor, maps: Tensor | None, precision: Precision, layout: MemoryLayout
) -> Tensor:
    """Return what the network makes of a part of an image: no border, no clamping."""
    if model.channels == "rgb":
        return _forward(model, lr, maps, precision, layout)
    ycbcr = rgb_to_ycbcr(lr)
    y = _forward(model, ycbcr[:, :1], maps, precision, layout)  # (B, 1, sH, sW)
    chroma = imresize(ycbcr[:, 1:], scale=model.scale)  # (B, 2, sH, sW)
    return ycbcr_to_rgb(torch.cat([y, chroma], dim=1))


def _within_border(
    function: Callable[[Tensor, Tensor | None], Tensor],
    lr: Tensor,
    maps: Tensor | None,
    *,
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


def _full_range_luma(rgb: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) of RGB in [0, 1], so that equal channels stay what they are."""
    return (rgb_to_y(rgb) * 255 - 16) / 219


def check_batch(lr: Tensor) -> None:
    """Raise InputError unless ``lr`` is a float RGB batch."""
    if lr.ndim != 4 or lr.shape[1] != 3 or not lr.is_floating_point():
        wanted = "a float RGB batch (B, 3, H, W) in [0, 1]"
        raise InputError(f"infer takes {wanted}; got {tuple(lr.shape)} of {lr.dtype}.")


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


# ---- The tiles of an image -----------------------------------------------------------------------


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
        precision: the one in use; None until it is chosen.
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
        self.model = in_evaluation(model)
        self.device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        self.precision: Precision | None = None if precision == "auto" else precision
        if any(isinstance(part, ExportedNetwork) for part in model.modules()):
            self.precision = "float32"  # its runtime has its own
        self._finish = finish or Finish(scale=model.scale)
        self.overlap = tile_overlap(model, consistent=consistent) + self._finish.context
        self.notes: dict[str, None] = {}
        self.seconds = 0.0
        self._ensemble, self._consistent = ensemble, consistent
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
    def __call__(
        self, part: Tensor, *, maps: Tensor | None = None, border: Sides = (0, 0, 0, 0)
    ) -> Tensor:
        """Return the SR (1, C, scale·h, scale·w) in [0, 1] on the CPU, of grey or RGB (1, C, h, w).

        ``maps`` (1, 8, scale·h, scale·w) are for networks that take maps of categories; ``border``
        is where the tile ends with the image, in a network that sees a border there.

        Raises:
            InputError: maps for a network that takes none.
            TileError: the network gave values that are not finite, in float32.
        """
        if maps is None and isinstance(self.model, SFTGAN):
            self.notes[NO_MAP] = None
        if not self._consistent and self._finish.keeps(part):
            return enlarged(part, self.model.scale)
        self.probe(part, maps=maps)
        started = time.perf_counter()
        lr, scale = part.to(self.device), self.model.scale  # (1, C, h, w)
        maps = None if maps is None else maps.to(self.device)
        sr = _within_border(self._run, _as_rgb(lr), maps, border=border, scale=scale)
        if part.shape[1] == 1:
            sr = _full_range_luma(sr)
        sr = self._finish(sr.clamp_(0, 1), lr)
        if self._consistent:
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
        black = float(sr.amax()) <= 0 and float(lr.amax()) > _DARK
        if self.precision != "float32" and (black or not _is_finite(sr)):
            self.notes["A tile that failed in bfloat16 was done again in float32."] = None
            sr = self._infer(lr, maps, "float32")
        if not _is_finite(sr):
            raise TileError("the network gave values that are not finite; its weights are damaged.")
        return sr

    def _infer(self, lr: Tensor, maps: Tensor | None, precision: Precision) -> Tensor:
        def run(lr: Tensor, maps: Tensor | None = None) -> Tensor:
            return _run_network(self.model, lr, maps, precision, "channels last")

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
        size, large = (lr.shape[-2], lr.shape[-1]), (sr.shape[-2], sr.shape[-1])
        small = before = imresize(sr, size=size)  # (1, C, h, w)
        for _ in range(PROJECTIONS):
            sr = (sr + imresize(lr - small, size=large)).clamp_(0, 1)
            small = imresize(sr, size=size)
        count = size[0] * size[1]
        means = [colour_difference(_as_rgb(x), _as_rgb(lr)) for x in (before, small)]
        self._drift += torch.tensor([*(mean * count for mean in means), count])
        return sr


def mean_of_eight(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the mean of ``function`` of ``x`` flipped and transposed, turned back each time.

    ``x`` is (B, C, H, W); ``function`` may change the size, by the same factor on both axes. For a
    function that treats all directions alike this is ``function(x)`` up to rounding. In the
    literature: geometric self-ensemble (EDSR, Lim et al. 2017, section 3.4).
    """
    total = torch.zeros(())
    for turned in (x, x.transpose(-2, -1)):
        for flips in ([], [-1], [-2], [-2, -1]):
            result = function(turned.flip(flips)).flip(flips)
            total = total + (result if turned is x else result.transpose(-2, -1))
    return total / 8


def _as_rgb(part: Tensor) -> Tensor:
    return part if part.shape[1] == 3 else part.expand(-1, 3, -1, -1)


def _is_finite(x: Tensor) -> bool:
    # One pass over the values: a NaN is handed on by both, an infinity is one of them.
    low, high = torch.aminmax(x)
    return bool(torch.isfinite(low) & torch.isfinite(high))


# ---- The fastest precision that a processor has and that a network bears ------------------------

# What bfloat16 may differ from float32: half a grey level of 255 in the mean, and in PSNR.
_MOST_LEVELS, _LEAST_DB = 0.5, 50.0
_PROBE_SIDE = 128


class Verdict(NamedTuple):
    """The precision to use, and a sentence when it is not the one that was hoped for."""

    precision: Precision
    note: str = ""


# What was found for a network, with the weights it had then.
_known: "WeakKeyDictionary[SRModel, tuple[object, Verdict]]" = WeakKeyDictionary()


def choose_precision(model: SRModel, probe: Tensor, *, maps: Tensor | None = None) -> Verdict:
    """Return the precision for ``model``: bfloat16 where it is fast and good enough, else float32.

    ``probe`` is a part of an image (1, 3, h, w), of which the middle is tried in both, with
    ``maps`` as for ``infer``; this is done once for a network and its weights. Without bfloat16
    in the processor nothing is tried.
    """
    if not bfloat16_is_fast(probe.device) or not _multiplies(model):
        return Verdict("float32")
    weights = _fingerprint(model)
    if model in _known and _known[model][0] == weights:
        return _known[model][1]
    top, left = (max((side - _PROBE_SIDE) // 2, 0) for side in probe.shape[-2:])
    middle = probe[..., top : top + _PROBE_SIDE, left : left + _PROBE_SIDE]
    if maps is not None:
        top, left, side = (model.scale * x for x in (top, left, _PROBE_SIDE))
        maps = maps[..., top : top + side, left : left + side]
    full = infer(model, middle, maps=maps, layout="channels last")
    reduced = infer(model, middle, maps=maps, precision="bfloat16", clamp="none")
    _known[model] = weights, _compare(full, reduced)
    return _known[model][1]


def bfloat16_is_fast(device: torch.device) -> bool:
    """Return whether the device multiplies in bfloat16 by itself.

    CUDA from compute capability 8.0; a CPU with AVX512-BF16 or AMX. (Half precision of 16 bits
    is never used on a CPU: it is many times slower than float32 there.)
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = cpu_capabilities()
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def cpu_capabilities() -> dict[str, Any]:
    """Return what torch knows of the processor; nothing where it is too old to say."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)
    return dict(capabilities())


def _compare(full: Tensor, reduced: Tensor) -> Verdict:
    if not _is_finite(reduced):
        what = "gives values that are not finite in bfloat16"
        return Verdict("float32", f"This network {what}; float32 was used.")
    error = (reduced.clamp(0, 1) - full).double()
    levels = float(error.abs().mean()) * 255
    power = float(error.square().mean())
    decibels = math.inf if power == 0 else -10 * math.log10(power)
    if levels <= _MOST_LEVELS and decibels >= _LEAST_DB:
        return Verdict("bfloat16")
    what = f"differs by {levels:.2f} grey levels in the mean ({decibels:.1f} dB)"
    return Verdict("float32", f"In bfloat16 this network {what}; float32 was used.")


def _multiplies(model: SRModel) -> bool:
    """Return whether torch computes this network's layers: only then is there a choice."""
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return any(isinstance(module, layers) for module in model.modules())


def _fingerprint(model: SRModel) -> object:
    """Return something that changes when the weights do."""
    return tuple(
        (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        for weight in model.parameters()
    )
