"""How much memory there is, and how large tiles and bands may be."""

from pathlib import Path
from typing import Literal

import torch

from edgekeeper.errors import InputError

Tile = int | Literal["auto"]

BAND_BYTES = 2**28
"""What the rows that a network makes at a time may take (256 MiB), whatever the width."""

# More than any network measured needs for an LR pixel of a tile, in float32 on a CPU: DGGGAN with
# body="lr" 30,784 bytes, RRDB for x4 12,500, VDSR 11,600, EDSR-baseline 9,000, the light EDSR that
# ships 1,200.
_PIXEL_BYTES = 32_000


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that can still be had on a device; None when the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    found = [_available(), _left_in_group()]
    return min((free for free in found if free is not None), default=None)


def tile_side(tile: Tile, *, overlap: int, size: tuple[int, int], device: torch.device) -> int:
    """Return the side of a tile in LR pixels of an image of ``size`` (height, width).

    For "auto" 256 to 512, wasting less than half on overlap, or less when memory is short. On a
    CPU 192 to 256 pixels are as fast as the whole image at once, fewer than 96 cost half again.

    Raises:
        InputError: a number that leaves nothing between the overlaps.
    """
    if tile == "auto":
        side = max(256, min(8 * overlap, 512), 4 * overlap)
        free, least = free_bytes(device), 3 * overlap + 64
        while free is not None and side > least:
            if min(side, size[0]) * min(side, size[1]) * _PIXEL_BYTES < free // 2:
                break
            side = max(side // 2, least)
        return min(side, max(size))
    if tile <= 2 * overlap:
        raise InputError(
            f"A tile of {tile} pixels is too small: this network looks {overlap} pixels around. "
            f"Use at least {2 * overlap + 1}, better {4 * overlap}, or 'auto'."
        )
    return min(tile, max(size))


def _available() -> int | None:
    """Return what Linux says is available without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _left_in_group(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what is left of a container's limit."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if limit == "max" else max(int(limit) - int(used), 0)
