"""Resizing that gives MATLAB's and Pillow's numbers, as torch operations.

``imresize`` is MATLAB's bicubic ``imresize``, in both forms that benchmark images were made
with; ``pillow_resize`` is Pillow's resize of 8-bit images, bit for bit. Along one axis each is a
sparse matrix (``Taps``), on the CPU applied as small dense blocks along the diagonal, elsewhere tap
by tap. Its derivative is the transposed matrix, applied in the same way, so that a resize can be
differentiated any number of times.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import InputError, unknown_name
from edgekeeper.ops.check import check_images

# ---- A matrix with a few neighbouring non-zeros per row, along one axis --------------------------

Axis = Literal[-2, -1]

# Rows of one dense block: smaller blocks multiply fewer zeros, larger ones make fewer calls.
_BLOCK_ROWS = 16


@dataclass(frozen=True, eq=False)
class Taps:
    """Row k of a sparse matrix with ``columns`` columns: ``weights[k, t]`` at ``index[k, t]``."""

    index: NDArray[np.int64]  # (rows, taps)
    weights: NDArray[np.float64]  # (rows, taps)
    columns: int

    @functools.cached_property
    def transposed(self) -> "Taps":
        """The transposed matrix."""
        rows = np.repeat(np.arange(len(self.index)), self.index.shape[1])
        order = np.argsort(self.index.ravel(), kind="stable")
        column, row = self.index.ravel()[order], rows[order]
        counts = np.bincount(column, minlength=self.columns)
        first = np.cumsum(counts) - counts
        place = np.arange(len(column)) - first[column]
        # Unused places have weight 0 and repeat the row's first index, which keeps blocks narrow.
        filler = row[np.minimum(first, len(row) - 1)]
        index = np.repeat(filler[:, None], counts.max(), axis=1)
        weights = np.zeros(index.shape)
        index[column, place] = row
        weights[column, place] = self.weights.ravel()[order]
        return Taps(index, weights, columns=len(self.index))


@functools.lru_cache(maxsize=256)
def _tensors(taps: Taps, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Index and weights, each (taps, rows), on a device."""
    index = torch.from_numpy(np.ascontiguousarray(taps.index.T)).to(device)
    weights = torch.from_numpy(np.ascontiguousarray(taps.weights.T)).to(dtype).to(device)
    return index, weights


@functools.lru_cache(maxsize=256)
def _blocks(taps: Taps, dtype: torch.dtype) -> tuple[tuple[int, NDArray[Any]], ...]:
    """Return the matrix as dense blocks of ``_BLOCK_ROWS`` rows: (first column, block).

    Arrays, not tensors: a tensor made while a graph is recorded must not outlive the recording.
    """
    kind = np.float64 if dtype == torch.float64 else np.float32
    blocks: list[tuple[int, NDArray[Any]]] = []
    for start in range(0, len(taps.index), _BLOCK_ROWS):
        index = taps.index[start : start + _BLOCK_ROWS]
        weights = taps.weights[start : start + _BLOCK_ROWS]
        first = int(index.min())
        dense = np.zeros((len(index), int(index.max()) - first + 1))
        rows = np.broadcast_to(np.arange(len(index))[:, None], index.shape)
        np.add.at(dense, (rows, index - first), weights)
        blocks.append((first, dense.astype(kind)))
    return tuple(blocks)


def _multiply_by_blocks(x: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    """Return (N, H, rows) or (N, rows, W) of ``x`` (N, H, W), in few products of small matrices."""
    n, height, width = x.shape
    rows = len(taps.index)
    start = 0
    if axis == -1:
        flat = x.reshape(n * height, width)  # (N·H, W)
        out = x.new_empty(n * height, rows)
        for first, block in _blocks(taps, x.dtype):
            stop = start + block.shape[0]
            part = flat[:, first : first + block.shape[1]]
            torch.mm(part, torch.from_numpy(block).T, out=out[:, start:stop])  # (N·H, 16)
            start = stop
        return out.view(n, height, rows)
    out = x.new_empty(n, rows, width)
    for first, block in _blocks(taps, x.dtype):
        stop = start + block.shape[0]
        part = x[:, first : first + block.shape[1]]  # (N, columns of the block, W)
        out[:, start:stop] = torch.bmm(torch.from_numpy(block).expand(n, -1, -1), part)
        start = stop
    return out


def _multiply_by_taps(x: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    index, weights = _tensors(taps, x.dtype, x.device)
    if axis == -2:
        weights = weights[..., None]  # (taps, rows, 1), along W
    out = x.index_select(axis, index[0]) * weights[0]
    for tap in range(1, len(index)):
        out.addcmul_(x.index_select(axis, index[tap]), weights[tap])
    return out


def _multiply(x: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    if x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return _multiply_by_blocks(x, taps, axis=axis)
    # Without matrix products no setting (TF32, autocast) can lower the precision.
    return _multiply_by_taps(x, taps, axis=axis)


class _Apply(torch.autograd.Function):
    """A matrix along one axis whose derivative is the transposed matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Taps, axis: Axis) -> Tensor:
        ctx.taps, ctx.axis = taps, axis
        return _multiply(x, taps, axis=axis)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return apply_taps(gradient, ctx.taps.transposed, axis=ctx.axis), None, None


def apply_taps(x: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    """The matrix applied to ``x`` (N, H, W) along one of the last two axes, differentiable."""
    result: Tensor = _Apply.apply(x, taps, axis)  # type: ignore[no-untyped-call]
    return result


# ---- MATLAB's resize -----------------------------------------------------------------------------

Boundary = Literal["symmetric", "replicate"]


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -0.5 (Keys 1981, equation 15)."""
    d = np.abs(distance)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d <= 2, far, 0.0))


@functools.lru_cache(maxsize=256)
def _matlab_taps(length: int, length_out: int, scale: float, boundary: Boundary) -> Taps:
    shrink = min(scale, 1.0)  # below 1 the kernel is widened: this is the anti-aliasing
    width = 4.0 / shrink
    centre = (np.arange(length_out) + 0.5) / scale - 0.5
    first = np.floor(centre + 1 - width / 2).astype(np.int64) - 1
    index = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = _cubic(shrink * (centre[:, None] - index))
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.flatnonzero(np.abs(weights).max(axis=0) > 0)
    index = index[:, used[0] : used[-1] + 1]
    weights = weights[:, used[0] : used[-1] + 1]
    if boundary == "replicate":
        index = np.clip(index, 0, length - 1)
    else:  # half-sample symmetric: the edge sample is repeated
        index = index % (2 * length)
        index = np.where(index < length, index, 2 * length - 1 - index)
    return Taps(index, weights, columns=length)


def _matlab_matrix(length: int, length_out: int, scale: float, boundary: Boundary) -> Tensor:
    """The same as a dense float64 matrix (rows, length), in operations that a graph can record."""
    shrink = min(scale, 1.0)
    reach = math.ceil(2 / shrink) + 1  # taps beyond the border, on each side
    centre = (torch.arange(length_out, dtype=torch.float64) + 0.5) / scale - 0.5
    place = torch.arange(-reach, length + reach)
    d = (shrink * (centre[:, None] - place)).abs()
    near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    weights = torch.where(d <= 1, near, torch.where(d <= 2, far, torch.zeros_like(d)))
    weights = weights / weights.sum(dim=1, keepdim=True)
    if boundary == "replicate":
        place = place.clamp(0, length - 1)
    else:
        place = place % (2 * length)
        place = torch.minimum(place, 2 * length - 1 - place)
    fold = place[:, None] == torch.arange(length)
    return weights @ fold.to(torch.float64)


def enlarging_maps(x: Tensor, *, factor: int, boundary: Boundary = "symmetric") -> Tensor:
    """Return images (B, C, H, W), enlarged by a whole factor, as maps (B, C·factor², H, W).

    A pixel shuffle makes the image of them. Each position within a pixel has weights of its own on
    5 x 5 pixels, the same in every pixel, in operations that ONNX has: the pixel itself is repeated
    and a convolution adds the difference. Where a runtime rounds that to bfloat16 an image of
    eight bits loses next to nothing: whole numbers up to 255 go in, and each weight is the sum of
    two.
    """
    check_images(x)
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return enlarging_maps(x, factor=factor, boundary=boundary)
    colours, centre = x.shape[1], (np.arange(factor) + 0.5) / factor - 0.5
    one_axis = _cubic(centre[:, None] - np.arange(-2, 3))  # (factor, 5)
    weights = np.einsum("iy,jx->ijyx", one_axis, one_axis).reshape(factor**2, 5, 5)
    weights[:, 2, 2] -= 1
    spread = np.einsum("cd,pyx->cpdyx", np.eye(colours), weights / 255)
    wanted = torch.from_numpy(spread.reshape(-1, colours, 5, 5)).to(x)  # (C·factor², C, 5, 5)
    high = wanted.bfloat16().to(x)
    around = x
    for axis in (-2, -1):  # two samples more at each end
        length = x.shape[axis]
        place = torch.arange(-2, length + 2, device=x.device)
        if boundary == "symmetric":
            place = torch.maximum(place, -1 - place)
            place = torch.minimum(place, 2 * length - 1 - place)
        # a side of 1 has no second sample
        around = around.index_select(axis, place.clamp(0, length - 1))
    twice = torch.cat([around, around], dim=1) * 255  # (B, 2·C, H + 4, W + 4)
    difference = F.conv2d(twice, torch.cat([high, wanted - high], dim=1))
    repeated = torch.arange(colours, device=x.device).repeat_interleave(factor**2)
    return difference + x.index_select(1, repeated)  # (B, C·factor², H, W)


def _round_clip_(x: Tensor) -> Tensor:
    """``x`` itself, clipped to 0..255 and rounded in place, halves upwards (MATLAB's uint8)."""
    return x.clamp_(0, 255).add_(0.5).floor_()


def imresize(
    x: Tensor,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    boundary: Boundary = "symmetric",
    quantise: Literal["none", "uint8"] = "none",
) -> Tensor:
    """Images (..., H, W) resized as by MATLAB's ``imresize(x, scale, 'bicubic')``.

    Keys' cubic kernel with a = -0.5, widened by 1/scale when shrinking. Give either ``scale``
    (both axes, output size ceil(n * scale)) or ``size`` (height, width). The axis with the
    smaller scale comes first, the vertical one when they are equal.

    ``boundary="symmetric"``, ``quantise="none"`` is today's MATLAB on floating-point images:
    any range, differentiable. ``boundary="replicate"``, ``quantise="uint8"`` is older MATLAB on
    uint8 images: values in [0, 1], rounded (halves upwards) and clipped to the grid of 1/255
    before, between and after the two passes; exact in float32; not differentiable. The LR
    images of Set5, Set14 and BSD100 in circulation were made in this second form.

    Raises InputError for another dtype than a floating-point one, an empty image, or a scale
    or size that is not positive.
    """
    _check(x)
    if quantise not in ("none", "uint8"):
        raise unknown_name("way to quantise", quantise, known=("none", "uint8"))
    if boundary not in ("symmetric", "replicate"):
        raise unknown_name("boundary", boundary, known=("symmetric", "replicate"))
    height, width = x.shape[-2:]
    rows, columns, scales = _target(height, width, scale=scale, size=size)
    work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    work = work.reshape(-1, height, width).contiguous()
    if quantise == "uint8":
        # On the grid 0..255 the products are exact in float32, so that halves round as in MATLAB.
        work = _round_clip_(work.detach() * 255)
    if _is_fixed(scale, device=x.device) and quantise == "none":
        maps = enlarging_maps(work[:, None], factor=int(scales[0]), boundary=boundary)
        work = F.pixel_shuffle(maps, int(scales[0]))  # (N, 1, rows, columns)
        return work.reshape(*x.shape[:-2], rows, columns).to(x.dtype)
    order: tuple[Axis, Axis] = (-1, -2) if scales[1] < scales[0] else (-2, -1)
    for axis in order:
        length_out = (rows, columns)[axis]
        work = _resize_axis(work, length_out, scale=scales[axis], boundary=boundary, axis=axis)
        if quantise == "uint8":
            work = _round_clip_(work)
    if quantise == "uint8":
        work = work.div_(255)
    return work.reshape(*x.shape[:-2], rows, columns).to(x.dtype)


def _resize_axis(
    x: Tensor, length_out: int, *, scale: float, boundary: Boundary, axis: Axis
) -> Tensor:
    length = x.shape[axis]
    if torch.compiler.is_compiling():  # a graph cannot hold the cached matrices
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return _resize_axis(x, length_out, scale=scale, boundary=boundary, axis=axis)
        matrix = _matlab_matrix(length, length_out, scale, boundary).to(x)
        return matrix @ x if axis == -2 else x @ matrix.T
    return apply_taps(x, _matlab_taps(length, length_out, scale, boundary), axis=axis)


def _is_fixed(scale: float | None, *, device: torch.device) -> bool:
    """Return whether a graph is recorded in which ``enlarging_maps`` do the resize.

    Not on a GPU, whose convolutions round to TF32.
    """
    recorded = torch.compiler.is_compiling() and device.type == "cpu"
    return recorded and scale is not None and scale == int(scale)


def _check(x: Tensor) -> None:
    check_images(x, axes="..., H, W")
    if 0 in x.shape[-2:]:
        raise InputError(f"Images {tuple(x.shape)} are empty; a resize needs at least one pixel.")


def _target(
    height: int, width: int, *, scale: float | None, size: tuple[int, int] | None
) -> tuple[int, int, tuple[float, float]]:
    if (scale is None) == (size is None):
        raise InputError("Give either a scale or a size (height, width), not both.")
    if size is not None:
        if min(size) < 1:
            raise InputError(f"The size to resize to is {size}; both numbers must be at least 1.")
        return size[0], size[1], (size[0] / height, size[1] / width)
    assert scale is not None
    if not (scale > 0 and math.isfinite(scale)):
        raise InputError(f"The scale to resize by is {scale}; it must be a positive number.")
    if scale == int(scale):  # leaves sizes alone that a graph keeps open
        return height * int(scale), width * int(scale), (scale, scale)
    # A third of 255 is 85, whatever the last bit of the product says.
    rows, columns = (math.ceil(round(n * scale, 9)) for n in (height, width))
    return rows, columns, (scale, scale)


# ---- Pillow's resize -----------------------------------------------------------------------------


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    d = np.abs(distance)
    return np.where(d < 1, 1 - d, 0.0)


_PILLOW_KERNELS = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}
_PILLOW_ONE = 2**22  # Pillow's fixed-point coefficients for 8-bit images have 22 binary digits


@functools.lru_cache(maxsize=256)
def _pillow_taps(length: int, length_out: int, method: Literal["bilinear", "bicubic"]) -> Taps:
    """Return the taps of Pillow's 8-bit resize along one axis, as whole multiples of 2**-22."""
    kernel, radius = _PILLOW_KERNELS[method]
    ratio = length / length_out
    stretch = max(ratio, 1.0)
    centre = (np.arange(length_out) + 0.5) * ratio
    # Taps outside the image are dropped and the others share their weight.
    first = np.maximum((centre - radius * stretch + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + radius * stretch + 0.5).astype(np.int64), length)
    index = first[:, None] + np.arange(int((stop - first).max()))
    weights = kernel((index - centre[:, None] + 0.5) * (1.0 / stretch))
    weights = np.where(index < stop[:, None], weights, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    fixed = np.trunc(weights * _PILLOW_ONE + np.where(weights < 0, -0.5, 0.5))
    return Taps(np.minimum(index, length - 1), fixed, columns=length)


def pillow_resize(
    x: Tensor, *, size: tuple[int, int], method: Literal["bilinear", "bicubic"]
) -> Tensor:
    """8-bit images (..., H, W) resized to ``size`` (height, width) as by Pillow, bit for bit.

    ``x`` is floating point on the grid of 1/255 in [0, 1], and so is the result; not
    differentiable. Pillow's BILINEAR and BICUBIC (a = -0.5) widen the kernel when shrinking,
    go horizontally first and round to 8 bits after each pass, with 22-bit coefficients. (Since
    version 13 Pillow goes vertically first when the height shrinks by more than twice as many
    pixels as the width; here the order is always that of the versions before.)
    This is how the code of the gradient variance loss makes its LR images.

    Raises InputError for another dtype than a floating-point one, an empty image, an unknown
    method or a size below 1.
    """
    _check(x)
    if method not in _PILLOW_KERNELS:
        raise InputError(f"method is 'bilinear' or 'bicubic', not '{method}'.")
    height, width = x.shape[-2:]
    rows, columns, _ = _target(height, width, scale=None, size=size)
    passes: list[tuple[Taps, Axis]] = [
        (_pillow_taps(width, columns, method), -1),
        (_pillow_taps(height, rows, method), -2),
    ]
    # Whole numbers below 2**53: float64 holds every sum exactly.
    work = (x.detach().double() * 255).round_().reshape(-1, height, width).contiguous()
    for taps, axis in passes:
        work = _round_clip_(apply_taps(work, taps, axis=axis).div_(_PILLOW_ONE))
    return work.div_(255).reshape(*x.shape[:-2], rows, columns).to(x.dtype)
