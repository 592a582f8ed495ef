"""What an image went through, estimated from its pixels and its file: JPEG and noise.

JPEG: coefficients of blocks on the grid of a JPEG are multiples of its quantisation table, and the
table that explains them best says the quality (Fan and de Queiroz, "Identification of bitmap
compression history: JPEG detection and quantizer estimation", IEEE TIP 2003).
Noise: of 8 x 8 blocks those with the least energy at low frequencies are taken for flat, and the
high frequencies of these, which for white noise do not depend on the choice, give its level
(Ponomarenko et al., "An automatic approach to lossy compression of AVIRIS images", IGARSS 2007).
Noise that was there before a JPEG shows by how few coefficients were rounded to zero.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import open_plain, reason
from edgekeeper.image.formats import Pixels, as_unit
from edgekeeper.image.image import Image
from edgekeeper.image.read import open_image
from edgekeeper.ops.jpeg import quantisation_tables

Floats = NDArray[np.floating[Any]]

INSIDE = 0.05  # least share of blocks that do not clip; a page has fewer
LUMA = (0.299, 0.587, 0.114)
_SAMPLES = 40_000  # blocks that are looked at
_LIBJPEG = quantisation_tables(range(1, 101))[0].double().numpy()  # (100, 8, 8) of qualities 1 ...
_QUALITIES = list(range(10, 97))  # above, nearly all steps are 1, which leaves no trace
_ROUNDING = 0.45  # deviation of a coefficient by the rounding of RGB and of luma
_n = np.arange(8)
_BASIS = np.cos((2 * _n + 1) * _n[:, None] * np.pi / 16) / 2
_BASIS[0] /= math.sqrt(2)  # orthonormal
_BLOCK_BASIS = np.kron(_BASIS, _BASIS).T.astype(np.float32)  # (64 samples, 64 coefficients)
# The order in which a table is stored: by diagonals, every second one upwards (T.81, figure A.6).
_ZIGZAG = sorted(np.ndindex(8, 8), key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers SOF0 to SOF15
_SCAN, _TABLES = 0xDA, 0xDB
_SMALLEST = 32  # pixels a side; below, nothing is seen
_FLAT = 0.03  # share of the blocks that is taken for flat
_SIGMAS = np.arange(0.05, 40, 0.05)

# What is looked at of a large image: strips of rows that begin with blocks of JPEG.
_PIXELS = 2**22
_STRIPS = 8
_BLOCK = 16
_WIDTH = 2**13


@dataclass(frozen=True)
class Condition:
    """What an image went through."""

    jpeg_quality: int | None  # on libjpeg's scale; None without a trace of JPEG
    noise: float  # standard deviation in grey levels of 255, in each colour
    strength: float  # how strongly to restore, from 0 (clean, keep it as it is) to 1
    subsampling: str | None = None  # "4:2:0" and the like where the file says it

    @property
    def note(self) -> str:
        """The sentence for the user: what was seen, what is done, how to get the other."""
        seen = [] if self.jpeg_quality is None else [f"JPEG about quality {self.jpeg_quality}"]
        seen += [f"noise {self.noise:.0f}"] if self.noise >= (3 if seen else 1.5) else []
        if self.strength < 0.05:
            return f"looks {'like ' + seen[0] if seen else 'clean'}: kept as it is"
        done = f"restoring at {self.strength:.1f}; style 'faithful' keeps it as it is"
        return f"looks like {', '.join(seen)}: {done}"


def estimate(image: Tensor, *, path: str | Path | None = None) -> Condition:
    """Return what the ``image`` (1, C, H, W) in [0, 1], C = 1 or 3, went through.

    ``path`` is its file: the tables of a JPEG are read there, else looked for in the pixels.
    Documents, drawings, screenshots and pixel art have no noise.
    Raises InputError: another shape; ImageError: the file cannot be opened.
    """
    if image.ndim != 4 or len(image) != 1 or image.shape[1] not in (1, 3):
        raise InputError(f"estimate takes one image (1, C, H, W); got {tuple(image.shape)}.")
    pixels = image[0].detach().cpu().float().numpy() * 255
    header = None if path is None else read_jpeg_header(path)
    quality, noise = header.quality if header else None, 0.0
    if min(pixels.shape[1:]) >= _SMALLEST:
        grid = _grid(pixels.swapaxes(1, 2)), _grid(pixels)
        trace = find_trace(pixels, header, starts={(0, 0), grid})
        quality = trace.quality if trace else quality
        if not _is_drawn(cut_blocks(pixels, step=8)):
            noise = _noise_in(trace) if trace else _white_noise(cut_blocks(pixels, step=1))
    return Condition(
        jpeg_quality=quality,
        noise=noise,
        strength=_strength(quality, noise),
        subsampling=header.subsampling if header else None,
    )


def condition_of(source: Image | str | Path, *, tolerant: bool = False) -> Condition:
    """Return what an image, or the image in a file, went through.

    Of more than four million pixels eight strips are looked at.
    Raises ImageError: the file cannot be read.
    """
    if isinstance(source, Image):
        height, width = source.pixels.shape[:2]
        columns = _columns(width)
        return _estimate([source.pixels[rows, columns] for rows in _strips(height, width)])
    with open_image(source, tolerant=tolerant) as reader:
        header, columns = reader.header, _columns(reader.header.width)
        parts = [
            reader.rows(rows.start, rows.stop)[:, columns, : header.colours]
            for rows in _strips(header.height, header.width)
        ]
    return _estimate(parts, path=source)


def _estimate(parts: list[Pixels], *, path: str | Path | None = None) -> Condition:
    samples: Any = np.concatenate(parts)  # (h, w, C)
    image = torch.from_numpy(as_unit(samples)).permute(2, 0, 1)[None]  # (1, C, h, w)
    return estimate(image.contiguous(), path=path)


def _columns(width: int) -> slice:
    start = max(0, (width - _WIDTH) // 2) // _BLOCK * _BLOCK
    return slice(start, min(width, start + _WIDTH))


def _strips(height: int, width: int) -> Iterator[slice]:
    width = min(width, _WIDTH)
    if height * width <= _PIXELS:
        yield slice(0, height)
        return
    rows = _PIXELS // _STRIPS // width // _BLOCK * _BLOCK
    for number in range(_STRIPS):
        start = (height - rows) * number // (_STRIPS - 1) // _BLOCK * _BLOCK
        yield slice(start, start + rows)


# ---- JPEG: the header of the file ----------------------------------------------------------------


@dataclass(frozen=True)
class JpegHeader:
    """Luma's quantisation table (8, 8), the nearest quality of libjpeg, and the subsampling."""

    table: Floats
    quality: int
    subsampling: str


def read_jpeg_header(path: str | Path) -> JpegHeader | None:
    """Return what the header of the file says, or None if it is no JPEG or says nothing.

    Raises ImageError: the file cannot be opened.
    """
    try:
        with open_plain(path) as file:
            return _parse(file) if file.read(2) == b"\xff\xd8" else None
    except OSError as error:
        raise ImageError(f"'{path}' cannot be opened: {reason(error)}.") from error
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
    return 1 + int(np.abs(np.log(_LIBJPEG / table)).sum(axis=(1, 2)).argmin())


# ---- Traces in the pixels ----------------------------------------------------------------------


def cut_blocks(pixels: Any, *, step: int, start: tuple[int, int] = (0, 0)) -> Floats:
    """Return blocks (N, C, 8, 8) of ``pixels`` (C, H, W), a multiple of ``step`` apart."""
    height, width = pixels.shape[1:]
    step *= math.ceil(math.sqrt(height * width / _SAMPLES) / step)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (8, 8), axis=(1, 2))
    chosen = windows[:, start[0] :: step, start[1] :: step]  # (C, h, w, 8, 8)
    return chosen.reshape(len(pixels), -1, 8, 8).swapaxes(0, 1).astype(np.float32)


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
    tables = _LIBJPEG[_QUALITIES[0] - 1 : _QUALITIES[-1]].astype(np.float32)
    qualities = _QUALITIES
    if header:  # what lies upright now may have been coded lying
        tables, qualities = np.stack([header.table, header.table.T]), [header.quality] * 2
    best, most = None, 0.0  # gain of the logarithm of the likelihood over no table
    for start in sorted(starts):
        blocks = cut_blocks(pixels, step=8, start=start)
        inside = blocks[((blocks > 1) & (blocks < 254)).all(axis=(1, 2, 3))]
        weights = np.array(LUMA if len(pixels) == 3 else (1.0,), np.float32)
        coefficients = dct(np.tensordot(inside, weights, axes=(1, 0)) - 128)
        some = coefficients[:: max(1, len(coefficients) // 2000)]
        used = orders(1, 6) & (np.abs(some) > 1.5)
        kinds = int((used.sum(axis=0) >= 5).sum())  # a smooth ramp has one or two
        if len(inside) < INSIDE * len(blocks) or used.sum() < 100 or kinds < 6:
            continue
        values, (_, row, column) = some[used], np.nonzero(used)
        for table, quality in zip(tables, qualities, strict=True):
            steps = table[row, column]
            apart = (values - steps * np.rint(values / steps)) / _ROUNDING
            likely = np.log(table / (_ROUNDING * math.sqrt(2 * math.pi)))[row, column]
            if (mean := float(np.maximum(likely - apart**2 / 2, -2).mean())) > most:
                best, most = Trace(coefficients, table, quality), mean
    return best


# ---- Noise, and how much it matters --------------------------------------------------------------


def _strength(quality: int | None, noise: float) -> float:
    """Return what the damage costs a network that knows nothing of it, relative to "strong".

    In PSNR of six photographs enlarged x4 by the light EDSR, as a share of what "strong" of
    ``edgekeeper.data.degrade`` costs: JPEG 95, 90, 70, 50, 30: .27, .40, .65, .79, .92; noise 1, 2,
    4, 6, 10: .04, .13, .39, .67, 1.16. Both cost little more than the larger of the two.
    """
    factor = 0.0  # of libjpeg's tables
    if quality is not None:
        factor = (100 - quality) / 50 if quality >= 50 else 50 / quality
    return min(1.0, max(factor / (factor + 0.3), (noise - 1.5) / 7.5))


def _is_drawn(blocks: Floats) -> bool:
    """Whether most neighbours that do not clip are equal, or there are few colours at all."""
    levels = np.rint(blocks).astype(np.int32)  # (N, C, 8, 8)
    colours = sum((levels[:, c] << 8 * c for c in range(levels.shape[1])), np.int32(0)).ravel()
    few = all(len(np.unique(some)) <= 64 for some in (colours[::64], colours))  # few need all
    equal = np.all(levels[..., 1:] == levels[..., :-1], axis=1)
    inside = np.any((levels > 0) & (levels < 255), axis=1)[..., 1:]
    return few or not inside.any() or float(equal[inside].mean()) > 0.5


def _flattest(low: Floats, *, fewest: int) -> NDArray[np.intp]:
    """Return which blocks have the least energy in their coefficients ``low`` (N, some)."""
    count = min(len(low), max(fewest, int(_FLAT * len(low))))
    return np.argpartition(np.einsum("ij,ij->i", low, low), count - 1)[:count]


def _without_texture(high: float, low: float, *, share: float) -> float:
    """Return the root of the noise in energy ``high``: texture has more at ``low``, noise not."""
    return math.sqrt(max(0.0, high - share * max(0.0, low - high)))


def _white_noise(blocks: Floats) -> float:
    """Return the level of the noise in ``blocks`` (N, C, 8, 8) that saw no JPEG."""
    planes = blocks.reshape(-1, 8, 8)
    inside = ((planes < 1) | (planes > 254)).sum(axis=(1, 2)) <= 3  # clipped noise is less
    if inside.sum() < max(64, INSIDE * len(planes)):
        return 0.0
    planes = planes[inside]
    low = planes.reshape(-1, 64) @ _BLOCK_BASIS[:, orders(1, 4).ravel()]  # of all only these
    flat = dct(planes[_flattest(low, fewest=64)])
    energy = (flat**2).mean(axis=0) - 1 / 12  # of rounding to levels
    middle, high = (float(energy[orders(*band)].mean()) for band in ((6, 8), (12, 14)))
    return _without_texture(high, middle, share=0.5)


def _grid(pixels: Any) -> int:
    """Return the first column of that grid of every eighth at which steps are largest."""
    grey = pixels[:, :: max(1, pixels.shape[1] // 512)].mean(axis=0)
    steps = np.diff(grey, axis=1)
    beyond = np.abs(steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2).mean(axis=0)
    phases = [float(beyond[phase::8].mean()) for phase in range(8)]  # of the column phase + 2
    return (int(np.argmax(phases)) + 2) % 8


def _noise_in(trace: Trace) -> float:
    """Return the level that rounds as many coefficients to zero as flat blocks have of them.

    Luma shows 0.67 of noise that is independent in each colour, which is assumed. Of an image of
    fewer than 400 blocks (160 x 160 pixels) too few are flat: it has no noise.
    """
    if len(trace.coefficients) < 400:
        return 0.0
    flattest = _flattest(trace.coefficients[:, orders(1, 3)], fewest=12)
    flat = np.rint(trace.coefficients[flattest] / trace.table)

    def energy(used: NDArray[np.bool_]) -> float:
        zero = float((flat[:, used] == 0).mean())
        bound = torch.from_numpy(trace.table[used] / _SIGMAS[:, None] / math.sqrt(8))
        expected = torch.erf(bound).mean(dim=1).numpy()  # falls with sigma
        return 0.0 if zero == 1 else float(np.interp(-zero, -expected, _SIGMAS)) ** 2

    high, low = energy(orders(4, 6)), energy(orders(1, 3))
    return _without_texture(high, low, share=1.0) / math.hypot(*LUMA)
