"""How large a tile is, by the memory that there is."""

from pathlib import Path

import psutil
import torch

from edgekeeper.errors import InputError
from edgekeeper.inference.request import Request

# More than any network measured needs for an LR pixel of a tile, in float32 on a CPU: DGGGAN with
# body="lr" 30,784 bytes, RRDB for x4 12,500, VDSR 11,600, EDSR-baseline 9,000, the light EDSR that
# ships 1,200.
MOST_PIXEL_BYTES = 32_000


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
        while (
            side > least and min(side, size[0]) * min(side, size[1]) * MOST_PIXEL_BYTES >= free // 2
        ):
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


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
