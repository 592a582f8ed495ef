"""JPEG on tensors: what libjpeg decodes from what libjpeg encoded, without a file between.

Colour, subsampling, DCT, quantisation and upsampling follow the integer arithmetic of libjpeg's
default path (the "islow" DCT, "fancy" upsampling), which is what Pillow, browsers and most phones
run; the entropy coding between loses nothing and is left out. Formulas: ITU-T T.81 (1992), annexes
A and K; ITU-T T.871 (2011) for the colours; Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D
DCT algorithms with 11 multiplications" (ICASSP 1989) for the DCT.

Every sum here is a whole number that the dtype it is held in represents exactly, so a result does
not depend on the device, on the number of threads or on the other images of the batch.
"""

import functools
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgekeeper.errors import InputError, check_choice
from edgekeeper.ops.check import check_images

Subsampling = Literal["4:2:0", "4:4:4"]

# T.81, tables K.1 (luma) and K.2 (chroma), row by row.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# sqrt(2) cos((2j + 1) i pi / 16) times 2^13 for the left half of the columns j; the sums of
# rounded constants that "islow" uses, some of which differ by one from the rounded sum.
_DCT = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)


@functools.lru_cache(maxsize=8)
def _dct_matrix(device: torch.device) -> Tensor:
    """Return the DCT (8 frequencies, 8 samples) in float64, times 2^13."""
    left = torch.tensor(_DCT, dtype=torch.float64)
    sign = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).repeat(4, 1)  # odd rows are odd
    return torch.cat([left, sign * left.flip(1)], dim=1).to(device)


def quantisation_tables(quality: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Tables (B, 8, 8) of luma and chroma that libjpeg takes at ``quality`` 1 to 100.

    t = clip(floor((K s + 50) / 100), 1, 255) with s = 5000 // q below 50 and 200 - 2 q from there.
    Raises InputError: beyond.
    """
    for q in quality:
        if not 1 <= q <= 100:
            raise InputError(f"JPEG quality is {q}; it must be a whole number from 1 to 100.")
    scale = torch.tensor([5000 // q if q < 50 else 200 - 2 * q for q in quality])[:, None, None]
    luma, chroma = (
        ((torch.tensor(table) * scale + 50) // 100).clamp(1, 255) for table in (_LUMA, _CHROMA)
    )
    return luma, chroma


def _code(planes: Tensor, table: Tensor) -> Tensor:
    """Planes (B, C, H, W) of 0..255, H and W multiples of 8, quantised by ``table`` (B, 8, 8).

    Each line is one pass of the fixed-point DCT, rounded where libjpeg rounds.
    """
    batch, channels, height, width = planes.shape
    dct = _dct_matrix(planes.device)
    step = table.to(planes.device, torch.float64).view(batch, 1, 8, 8) * 8  # DCT values are times 8
    half = torch.full((8,), 0.5, dtype=torch.float64, device=planes.device)
    x = (planes - 128).to(torch.float64).reshape(-1, 8)
    x = torch.addmm(half, x, dct.T / 2**11).floor_()
    x = ((dct / 2**15) @ x.view(batch, -1, 8, width) + 0.5).floor_()
    x = x.view(batch, -1, 8, width // 8, 8) / step[:, :, :, None]  # by (B, 1, 8, 1, 8)
    # Quotients round half away from zero.
    x = torch.add(x, x.sign(), alpha=0.5).trunc_() * step[:, :, :, None]
    x = ((dct.T / 2**14) @ x.view(batch, -1, 8, width) + 0.5).floor_().view(-1, 8)
    x = torch.addmm(half + 128, x, dct / 2**18).floor_().clamp(0, 255)
    return x.view(batch, channels, height, width).to(planes.dtype)


def _to_ycc(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Y (B, 1, H, W) and CbCr (B, 2, H, W), whole 0..255, of RGB: T.871 in 16-bit fixed point."""
    red, green, blue = rgb.unbind(1)
    y = (19595 * red + 38470 * green + 7471 * blue + 32768) / 65536
    offset = 128 * 65536 + 32767
    cb = (32768 * blue - 11059 * red - 21709 * green + offset) / 65536
    cr = (32768 * red - 27439 * green - 5329 * blue + offset) / 65536
    chroma = torch.stack([cb, cr], dim=1)
    return y.floor_().unsqueeze(1), chroma.floor_()


def _to_rgb(y: Tensor, chroma: Tensor) -> Tensor:
    """RGB (B, 3, H, W), whole 0..255, of Y (B, 1, H, W) and CbCr (B, 2, H, W)."""
    y, cb, cr = y[:, 0], chroma[:, 0] - 128, chroma[:, 1] - 128
    red = y + ((91881 * cr + 32768) / 65536).floor_()
    green = y + ((32768 - 22554 * cb - 46802 * cr) / 65536).floor_()
    blue = y + ((116130 * cb + 32768) / 65536).floor_()
    return torch.stack([red, green, blue], dim=1).clamp(0, 255)


def _pad(x: Tensor, *, rows: int, columns: int) -> Tensor:
    """``x`` (B, C, H, W) with its last row and column repeated up to multiples of the numbers."""
    bottom, right = -x.shape[-2] % rows, -x.shape[-1] % columns
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def _halve(x: Tensor) -> Tensor:
    """Means of 2x2 (B, C, H/2, W/2); halves go down and up by turns along a row, as in libjpeg."""
    total = x[..., 0::2, :] + x[..., 1::2, :]
    total = total[..., 0::2] + total[..., 1::2]
    bias = torch.arange(total.shape[-1], device=x.device, dtype=x.dtype) % 2 + 1
    return ((total + bias) / 4).floor_()


def _double(x: Tensor) -> Tensor:
    """Planes (B, C, 2 H, 2 W) by the triangle filter 3/4, 1/4 along each axis ("fancy")."""
    if x.shape[-1] <= 2:  # libjpeg repeats the samples of so narrow an image
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    batch, channels, height, width = x.shape
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    middle = 3 * x[..., 1:-1, :]
    x = torch.stack([middle + x[..., :-2, :], middle + x[..., 2:, :]], dim=3)
    x = x.view(batch, channels, 2 * height, width + 2)
    middle = 3 * x[..., 1:-1]
    x = torch.stack([middle + x[..., :-2] + 8, middle + x[..., 2:] + 7], dim=4)
    return (x.view(batch, channels, 2 * height, 2 * width) / 16).floor_()


def _code_chroma(chroma: Tensor, table: Tensor, half: bool) -> Tensor:
    """CbCr (B, 2, H, W) after coding, at half the size in each direction where ``half``."""
    height, width = chroma.shape[-2:]
    if not half:
        coded = _code(_pad(chroma, rows=8, columns=8), table)
    else:
        # libjpeg repeats columns before it halves, but rows only afterwards.
        small = _halve(_pad(chroma, rows=2, columns=16))
        small = _code(_pad(small, rows=8, columns=8), table)
        coded = _double(small[..., : (height + 1) // 2, : (width + 1) // 2])
    return coded[..., :height, :width]


def jpeg(
    images: Tensor,
    *,
    quality: int | Sequence[int],
    subsampling: Subsampling | Sequence[Subsampling] = "4:2:0",
) -> Tensor:
    """Images (B, 3, H, W) as Pillow would decode them after encoding them as JPEG.

    RGB floating point in [0, 1], rounded to 8 bits first; the result is on the grid of 1/255.
    ``quality`` (1 to 100) and ``subsampling`` are one value for the batch or one per image. Any
    height and width: blocks at the border are filled as libjpeg fills them. No gradient passes.

    Raises InputError for another shape or dtype, a quality outside 1 to 100, another subsampling
    than "4:2:0" and "4:4:4", or a list whose length is not B.
    """
    check_images(images, name="images", axes="B, 3, H, W")
    batch, _, height, width = images.shape
    qualities = [quality] * batch if isinstance(quality, int) else list(quality)
    kinds = [subsampling] * batch if isinstance(subsampling, str) else list(subsampling)
    if len(qualities) != batch or len(kinds) != batch:
        raise InputError(
            f"jpeg was given {len(qualities)} qualities and {len(kinds)} subsamplings for {batch} "
            "images; give one value, or one per image."
        )
    for kind in kinds:
        check_choice("subsampling", kind, known=get_args(Subsampling))
    with torch.no_grad():
        luma_table, chroma_table = quantisation_tables(qualities)
        # float32 holds all sums of the colour conversions: the largest is 2^24 - 1
        rgb = (images.float().clamp(0, 1) * 255 + 0.5).floor_()
        y, chroma = _to_ycc(rgb)
        y = _code(_pad(y, rows=8, columns=8), luma_table)[..., :height, :width]
        if len(set(kinds)) == 1:
            chroma = _code_chroma(chroma, chroma_table, kinds[0] == "4:2:0")
        else:
            coded = torch.empty_like(chroma)
            for half in (False, True):
                rows = [i for i, kind in enumerate(kinds) if (kind == "4:2:0") == half]
                coded[rows] = _code_chroma(chroma[rows], chroma_table[rows], half)
            chroma = coded
        return (_to_rgb(y, chroma) / 255).to(images.dtype)
