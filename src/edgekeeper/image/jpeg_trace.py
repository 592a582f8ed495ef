"""The traces of JPEG: what the header of a file says, and what the pixels of an image show.

Coefficients of blocks on the grid of a JPEG are multiples of its quantisation table, and the table
that explains them best says the quality (Fan and de Queiroz, "Identification of bitmap compression
history: JPEG detection and quantizer estimation", IEEE TIP 2003).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgekeeper.errors import ImageError
from edgekeeper.ops.jpeg import quantisation_tables

Floats = NDArray[np.float64]

INSIDE = 0.05  # least share of blocks that do not clip; a page has fewer
LUMA = (0.299, 0.587, 0.114)
_SAMPLES = 40_000  # blocks that are looked at
_QUALITIES = list(range(10, 97))  # above, nearly all steps are 1, which leaves no trace
_ROUNDING = 0.45  # deviation of a coefficient by the rounding of RGB and of luma
_n = np.arange(8)
_BASIS = np.cos((2 * _n + 1) * _n[:, None] * np.pi / 16) / 2
_BASIS[0] /= math.sqrt(2)  # orthonormal
_BLOCK_BASIS = np.kron(_BASIS, _BASIS).T  # (64 samples, 64 coefficients)
# The order in which a table is stored: by diagonals, every second one upwards (T.81, figure A.6).
_ZIGZAG = sorted(np.ndindex(8, 8), key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers SOF0 to SOF15
_SCAN, _TABLES = 0xDA, 0xDB


@dataclass(frozen=True)
class JpegHeader:
    """Luma's quantisation table (8, 8), the nearest quality of libjpeg, and the subsampling."""

    table: Floats
    quality: int
    subsampling: str


def read_jpeg_header(path: str | Path) -> JpegHeader | None:
    """Return what the header of the file says, or None if it is no JPEG or says nothing.

    Raises:
        ImageError: the file cannot be opened.
    """
    try:
        with Path(path).open("rb") as file:
            return _parse(file) if file.read(2) == b"\xff\xd8" else None
    except OSError as error:
        raise ImageError(f"'{path}' cannot be opened: {error.strerror}.") from error
    except (IndexError, ValueError):  # cut short
        return None


def _parse(file: BinaryIO) -> JpegHeader | None:
    tables: dict[int, Floats] = {}
    luma, subsampling = -1, "4:0:0"
    while (marker := _marker(file)) not in (None, _SCAN):
        length = int.from_bytes(file.read(2), "big") - 2
        body = file.read(max(0, length))
        if marker == _TABLES:
            _add_tables(body, tables)
        elif marker in _FRAMES:
            # precision, height, width, count; then id, sampling and table of each component
            luma, count = body[8], body[5]
            if count >= 3:
                subsampling = _subsampling(body[7], body[10])
    if luma not in tables:
        return None
    return JpegHeader(tables[luma], nearest_quality(tables[luma]), subsampling)


def _marker(file: BinaryIO) -> int | None:
    """Return the next marker; None at the end of the file."""
    byte = file.read(1)
    while byte == b"\xff":  # any number of these may come before
        byte = file.read(1)
    return byte[0] if byte else None


def _add_tables(body: bytes, tables: dict[int, Floats]) -> None:
    while body:
        wide, number = divmod(body[0], 16)
        values = np.frombuffer(body[1:], ">u2" if wide else "u1", count=64)
        table = np.empty((8, 8))
        table[tuple(np.transpose(_ZIGZAG))] = values
        tables[number] = table.clip(min=1)
        body = body[1 + values.nbytes :]


def _subsampling(luma: int, chroma: int) -> str:
    """Return the usual name of sampling factors, each horizontal · 16 + vertical."""
    across, down = (luma >> 4) / max(1, chroma >> 4), (luma & 15) / max(1, chroma & 15)
    factors = f"{across:g}x{down:g}"
    named = {"1x1": "4:4:4", "2x1": "4:2:2", "2x2": "4:2:0", "1x2": "4:4:0", "4x1": "4:1:1"}
    return named.get(factors, factors)


def nearest_quality(table: Floats) -> int:
    """Return the quality, 1 to 100, whose table of libjpeg is nearest by the ratio of the steps."""
    standard = quantisation_tables(range(1, 101))[0].double().numpy()
    return 1 + int(np.abs(np.log(standard / table)).sum(axis=(1, 2)).argmin())


# ---- Traces in the pixels ----------------------------------------------------------------------


def cut_blocks(pixels: Any, *, step: int, start: tuple[int, int] = (0, 0)) -> Floats:
    """Return blocks (N, C, 8, 8) of ``pixels`` (C, H, W), a multiple of ``step`` apart."""
    height, width = pixels.shape[1:]
    step *= math.ceil(math.sqrt(height * width / _SAMPLES) / step)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (8, 8), axis=(1, 2))
    chosen = windows[:, start[0] :: step, start[1] :: step]  # (C, h, w, 8, 8)
    return chosen.reshape(len(pixels), -1, 8, 8).swapaxes(0, 1).astype(np.float64)


def dct(blocks: Floats) -> Floats:
    """Return the coefficients of blocks (N, 8, 8)."""
    found: Floats = (blocks.reshape(-1, 64) @ _BLOCK_BASIS).reshape(-1, 8, 8)
    return found


def orders(first: int, last: int) -> NDArray[np.bool_]:
    """Return which coefficients (8, 8) have a sum of both frequencies in ``first..last``."""
    order = _n + _n[:, None]
    return np.logical_and(order >= first, order <= last)


@dataclass(frozen=True)
class Trace:
    """Blocks (N, 8, 8) of luma's coefficients that are multiples of a table (8, 8)."""

    coefficients: Floats
    table: Floats
    quality: int


def find_trace(
    pixels: Any, header: JpegHeader | None, *, starts: set[tuple[int, int]]
) -> Trace | None:
    """Return the table that explains the coefficients best, on the better grid; None for none."""
    tables, qualities = quantisation_tables(_QUALITIES)[0].double().numpy(), _QUALITIES
    if header:  # what lies upright now may have been coded lying
        tables, qualities = np.stack([header.table, header.table.T]), [header.quality] * 2
    best, most = None, 0.0  # gain of the logarithm of the likelihood over no table
    for start in sorted(starts):
        blocks = cut_blocks(pixels, step=8, start=start)
        inside = blocks[((blocks > 1) & (blocks < 254)).all(axis=(1, 2, 3))]
        weights = LUMA if len(pixels) == 3 else (1.0,)
        coefficients = dct(np.tensordot(inside, weights, axes=(1, 0)) - 128)
        some = coefficients[:: max(1, len(coefficients) // 2000)]
        used = orders(1, 6) & (np.abs(some) > 1.5)
        kinds = int((used.sum(axis=0) >= 5).sum())  # a smooth ramp has one or two
        if len(inside) < INSIDE * len(blocks) or used.sum() < 100 or kinds < 6:
            continue
        for table, quality in zip(tables, qualities, strict=True):
            steps = np.broadcast_to(table, used.shape)[used]
            apart = (some[used] - steps * np.rint(some[used] / steps)) / _ROUNDING
            gain = np.log(steps / (_ROUNDING * math.sqrt(2 * math.pi))) - apart**2 / 2
            if (mean := float(gain.clip(min=-2).mean())) > most:
                best, most = Trace(coefficients, table, quality), mean
    return best
