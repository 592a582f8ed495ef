"""A network as it is run on one tile: precision, symmetries, consistency, and checks."""

import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import psutil
import torch
from torch import Tensor

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import colour_difference
from edgekeeper.inference.network import (
    Precision,
    choose_precision,
    full_range_luma,
    run_network,
    within_border,
)
from edgekeeper.inference.request import Drift, Request
from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import Sides
from edgekeeper.pretrained.exported import ExportedNetwork

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

_NO_BORDER: Sides = (0, 0, 0, 0)


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

    def __init__(self, model: SRModel, request: Request) -> None:
        tensors = chain(model.parameters(), model.buffers())
        self.model = model.eval()
        self.device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        self.precision: Precision | None = None
        if isinstance(model, ExportedNetwork):  # whose runtime has its own precision
            self.precision = "float32"
        elif request.precision != "auto":
            self.precision = request.precision
        self.overlap = tile_overlap(model, consistent=request.consistent)
        self.notes: dict[str, None] = {}
        self.seconds = 0.0
        self._ensemble, self._consistent = request.ensemble, request.consistent
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
        self, part: Tensor, *, maps: Tensor | None = None, border: Sides = _NO_BORDER
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
        self.probe(part, maps=maps)
        started = time.perf_counter()
        lr = part.to(self.device)
        maps = None if maps is None else maps.to(self.device)
        sr = within_border(self._run, _as_rgb(lr), maps=maps, border=border, scale=self.model.scale)
        if part.shape[1] == 1:
            sr = full_range_luma(sr)
        sr = sr.clamp_(0, 1)
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
        if self.precision != "float32" and not _is_sound(sr, lr):
            self.notes["A tile that failed in bfloat16 was done again in float32."] = None
            sr = self._infer(lr, maps, "float32")
        if not _is_finite(sr):
            raise TileError("the network gave values that are not finite; its weights are damaged.")
        return sr

    def _infer(self, lr: Tensor, maps: Tensor | None, precision: Precision) -> Tensor:
        if not self._ensemble:
            return run_network(self.model, lr, maps=maps, precision=precision)
        if maps is None:
            return mean_of_eight(lambda x: run_network(self.model, x, precision=precision), lr)
        # The image is turned with its map: at the map's size, each pixel repeated.
        scale = self.model.scale
        large = lr.repeat_interleave(scale, -2).repeat_interleave(scale, -1)  # (1, 3, sh, sw)

        def forward(both: Tensor) -> Tensor:
            small = both[:, :3, ::scale, ::scale]  # (1, 3, h, w)
            return run_network(self.model, small, maps=both[:, 3:], precision=precision)

        return mean_of_eight(forward, torch.cat([large, maps], dim=1))

    def _project(self, sr: Tensor, lr: Tensor) -> Tensor:
        """Iterated back-projection (Irani and Peleg 1991) with the exact bicubic as the camera."""
        size, large = (lr.shape[-2], lr.shape[-1]), (sr.shape[-2], sr.shape[-1])
        small = imresize(sr, size=size)
        before = small
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
    total: Tensor | None = None
    for transposed in (False, True):
        for flips in ([], [-1], [-2], [-2, -1]):
            turned = (x.transpose(-2, -1) if transposed else x).flip(flips)
            result = function(turned).flip(flips)
            result = result.transpose(-2, -1) if transposed else result
            total = result.clone() if total is None else total.add_(result)
    assert total is not None
    return total.div_(8)


def _as_rgb(part: Tensor) -> Tensor:
    return part if part.shape[1] == 3 else part.expand(-1, 3, -1, -1)


def _is_finite(x: Tensor) -> bool:
    # One pass over the values: a NaN is handed on by both, an infinity is one of them.
    low, high = torch.aminmax(x)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _is_sound(sr: Tensor, lr: Tensor) -> bool:
    """Whether the values are finite, and not all black where the tile was not."""
    return _is_finite(sr) and (float(sr.amax()) > 0 or float(lr.amax()) <= _DARK)


# ---- How large a tile is -------------------------------------------------------------------------

# More than any network measured needs for an LR pixel of a tile, in float32 on a CPU: DGGGAN with
# body="lr" 30,784 bytes, RRDB for x4 12,500, VDSR 11,600, EDSR-baseline 9,000, the light EDSR that
# ships 1,200.
_PIXEL_BYTES = 32_000


def tile_overlap(model: SRModel, *, consistent: bool = False) -> int:
    """Return the LR pixels of context that a tile of ``model`` needs."""
    overlap = max(model.overlap, BICUBIC_RADIUS)
    return overlap + PROJECTIONS * _PROJECTION_RADIUS if consistent else overlap


def tile_side(
    request: Request, *, overlap: int, size: tuple[int, int], device: torch.device
) -> int:
    """Return the side of a tile in LR pixels of an image of ``size`` (height, width).

    For "auto" 256 to 512, wasting less than half on overlap, or less when memory is short. On a
    CPU 192 to 256 pixels are as fast as the whole image at once, fewer than 96 cost half again.

    Raises:
        InputError: a number that leaves nothing between the overlaps.
    """
    tile = request.tile
    if tile == "auto":
        side = max(256, min(8 * overlap, 512), 4 * overlap)
        free, least = free_bytes(device), 3 * overlap + 64
        while side > least and min(side, size[0]) * min(side, size[1]) * _PIXEL_BYTES >= free // 2:
            side = max(side // 2, least)
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
