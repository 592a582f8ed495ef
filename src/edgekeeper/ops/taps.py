"""Sparse matrices with a few neighbouring non-zeros per row, applied along one image axis.

A resize or a blur along one axis is such a matrix. On the CPU it is applied as small dense blocks
along the diagonal, elsewhere tap by tap. Its derivative is the transposed matrix, applied in the
same way, so that everything built on it is differentiable any number of times.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    n, height, width = x.shape
    rows = len(taps.index)
    start = 0
    if axis == -1:
        flat = x.reshape(n * height, width)
        out = x.new_empty(n * height, rows)
        for first, block in _blocks(taps, x.dtype):
            stop = start + block.shape[0]
            part = flat[:, first : first + block.shape[1]]
            torch.mm(part, torch.from_numpy(block).T, out=out[:, start:stop])
            start = stop
        return out.view(n, height, rows)
    out = x.new_empty(n, rows, width)
    for first, block in _blocks(taps, x.dtype):
        stop = start + block.shape[0]
        part = x[:, first : first + block.shape[1]]
        out[:, start:stop] = torch.bmm(torch.from_numpy(block).expand(n, -1, -1), part)
        start = stop
    return out


def _multiply_by_taps(x: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    index, weights = _tensors(taps, x.dtype, x.device)
    if axis == -2:
        weights = weights[..., None]
    out = x.index_select(axis, index[0]) * weights[0]
    for tap in range(1, len(index)):
        out.addcmul_(x.index_select(axis, index[tap]), weights[tap])
    return out


def _multiply(x: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    """The matrix applied to ``x`` (N, H, W) along one of the last two axes; no derivative."""
    if x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return _multiply_by_blocks(x, taps, axis=axis)
    # Without matrix products no setting (TF32, autocast) can lower the precision.
    return _multiply_by_taps(x, taps, axis=axis)


class _Apply(torch.autograd.Function):
    """A matrix along one axis whose derivative is the transposed matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Taps, axis: Axis) -> Tensor:
        """Return the matrix applied to ``x``."""
        ctx.taps, ctx.axis = taps, axis
        return _multiply(x, taps, axis=axis)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the derivative with respect to ``x``."""
        return apply_taps(gradient, ctx.taps.transposed, axis=ctx.axis), None, None


def apply_taps(x: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    """The matrix applied to ``x`` (N, H, W) along one of the last two axes, differentiable."""
    result: Tensor = _Apply.apply(x, taps, axis)  # type: ignore[no-untyped-call]
    return result
