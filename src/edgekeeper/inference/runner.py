"""The tiles of one image through a network: ``TileRunner``, and how large they are.

Symmetries, consistency, and the runtime and precision that are chosen on a part of the image.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Literal

import psutil
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import colour_difference
from edgekeeper.inference.network import (
    NO_INT8,
    Choice,
    Precision,
    choose,
    full_range_luma,
    is_finite,
    run_network,
    within_border,
)
from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.models.base import in_evaluation
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.sharpen import STRONGEST, back_project, reach, sharpen
from edgekeeper.ops.tiles import Sides
from edgekeeper.pretrained.exported import ExportedNetwork, UsedPrecision
from edgekeeper.pretrained.zoo import Accelerable

BICUBIC_RADIUS = 2
"""LR pixels over which the colour of luma networks is interpolated."""

# How often the difference to the image is enlarged and added. Five leave less than half a grey
# level in the mean on each of the 14 images of Set14, with ESPCN, the roughest of the networks that
# ship; for EDSR two would do on most. See docs/upscale.md.
PROJECTIONS = 5
NO_MAP = "The network was given no map of categories and takes all as equally probable everywhere."

# More than any network measured needs for an LR pixel of a tile, in float32 on a CPU: DGGGAN with
# body="lr" 30,784 bytes, RRDB for x4 12,500, VDSR 11,600, EDSR-baseline 9,000, the light EDSR that
# ships 1,200.
MOST_PIXEL_BYTES = 32_000

SMALL = 800 * 800
"""LR pixels of an image below which another runtime takes longer to start than it saves."""

# The strength of ``ops.sharpen`` at a sharpness of 1, for a scale of 1: at 2, 3 and 4 it gives
# results about as much gradient variance as originals have (docs/sharpness.md).
_FULL = 1 / 2000

_EQUAL = 2e-6  # apart by the rounding of floats; a step of 16 bits is 1.5e-5
_LEAST_SIDE = 3  # pixels in which a gradient fits
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


def tile_side(
    tile: int | Literal["auto"], *, overlap: int, size: tuple[int, int], device: torch.device
) -> int:
    """Return the side of a tile in LR pixels of an image of ``size`` (height, width).

    For "auto" 384 to 512, wasting less than half on overlap, or less when memory is short. On a
    CPU PyTorch's rate falls above 384 pixels, OpenVINO's not; a balanced network of which 256 are
    read spends a seventh more on overlap than of 384.
    Raises InputError: a number that leaves nothing between the overlaps.
    """
    if tile == "auto":
        side = max(384, min(8 * overlap, 512), 4 * overlap)
        free, least = free_bytes(device), 3 * overlap + 64
        while (
            side > least and min(side, size[0]) * min(side, size[1]) * MOST_PIXEL_BYTES >= free // 2
        ):
            side = max(side * 2 // 3, least)
        return min(side, max(size))
    if tile <= 2 * overlap:
        raise InputError(
            f"A tile of {tile} pixels is too small: this network looks {overlap} pixels around. "
            f"Use at least {2 * overlap + 1}, better {4 * overlap}, or 'auto'."
        )
    return min(tile, max(size))


def free_bytes(device: torch.device) -> int:
    """Return the memory that can still be had on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return min([int(psutil.virtual_memory().available), *_left_in_container()])


def _left_in_container(folder: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return what is left of a container's limit, if there is one: psutil does not know it."""
    try:
        limit, used = ((folder / name).read_text() for name in ("memory.max", "memory.current"))
        return [max(int(limit) - int(used), 0)]
    except (OSError, ValueError):  # no such file, or the limit is "max"
        return []


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


class TileError(ImageError):
    """A tile could not be made; the message does not say of which image."""


class TileRunner:
    """A network that enlarges the tiles of one image, and what is to be told afterwards.

    Attributes:
        model: what computes the tiles; the network, until ``probe`` found a faster runtime.
        precision: the one in use; None until it is chosen.
        overlap: the context that a tile needs, in LR pixels.
        notes: sentences for the user, each once.
        seconds: the time spent in the network.
        switches: whether the image is worth the start of another runtime than PyTorch.
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
        self._wanted, self.precision = precision, _without_probe(self.model, precision)
        self._finish = finish or Finish(scale=model.scale)
        self.overlap = tile_overlap(model, consistent=consistent) + self._finish.context
        self.notes: dict[str, None] = {}
        self.seconds, self.switches = 0.0, True
        self._ensemble, self._consistent = ensemble, consistent
        self._drift = torch.zeros(3, dtype=torch.float64)

    def probe(self, part: Tensor, *, maps: Tensor | None = None) -> None:
        """Choose runtime and precision by a part of the image, if they are still to be chosen."""
        if self.precision is None:
            started = time.perf_counter()
            maps = None if maps is None else maps.to(self.device)
            probe, wanted = _as_rgb(part).to(self.device), self._wanted
            verdict = choose(self.model, probe, wanted=wanted, switches=self.switches, maps=maps)
            self.model, self.precision = verdict.model or self.model, verdict.precision
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
        Raises InputError: maps for a network that takes none; TileError: the network gave values
        that are not finite, in float32.
        """
        if maps is None and isinstance(self.model, SFTGAN):
            self.notes[NO_MAP] = None
        if not self._consistent and self._finish.keeps(part):
            return enlarged(part, self.model.scale)
        self.probe(part, maps=maps)
        started = time.perf_counter()
        lr, scale = part.to(self.device), self.model.scale  # (1, C, h, w)
        maps = None if maps is None else maps.to(self.device)
        sr = within_border(self._run, _as_rgb(lr), maps=maps, border=border, scale=scale)
        if part.shape[1] == 1:
            sr = full_range_luma(sr)
        sr = self._finish(sr.clamp_(0, 1), lr)
        if self._consistent:
            sr = self._project(sr, lr)
        sr = sr.cpu()
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
            return run_network(model, lr, maps=maps, precision=precision, layout="channels last")

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


def exported_in(model: SRModel) -> ExportedNetwork | None:
    """Return the network itself if another runtime runs it, or one of a mixture of such."""
    parts = (part for part in model.modules() if isinstance(part, ExportedNetwork))
    return next(parts, None)


def _without_probe(model: SRModel, wanted: Choice) -> UsedPrecision | None:
    """Return the precision that needs no probe; None where one is needed."""
    if (exported := exported_in(model)) is not None:
        return exported.precision
    return None if wanted == "auto" or isinstance(model, Accelerable) else _of_torch(wanted)


def _of_torch(wanted: Literal["float32", "bfloat16", "int8"]) -> Precision:
    if wanted == "int8":
        raise InputError(NO_INT8)
    return wanted


def _as_rgb(part: Tensor) -> Tensor:
    return part if part.shape[1] == 3 else part.expand(-1, 3, -1, -1)
