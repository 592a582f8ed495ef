"""Variances of image gradients in patches, with a hand-written derivative.

The plain form (convolution, unfold, variance) spends its time in one-channel convolutions and
in the derivative of unfold. Here a few images at a time lie in one flat buffer, rows end to
end, so that a neighbour is a shift and every step runs over contiguous memory that stays in
the cache. What a shift over the end of a row computes lies outside the gradient map and is
never read. All patches are centred before they are squared: E[x²] - E[x]² would lose every
digit on a steep ramp in float32.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Operator = Literal["sobel", "central"]
Border = Literal["zero", "valid"]

# Pixels worked on at once on a CPU: the buffers then stay in the cache, and a step is still
# long against the cost of starting it (benchmarks/losses.py --pixels-at-once).
PIXELS_AT_ONCE = 300_000


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Touching patches on a gradient map: the first one's pixel, how many, their place among all.

    ``first`` counts the patches of the grids before this one.
    """

    top: int
    left: int
    rows: int
    columns: int
    first: int

    @property
    def place(self) -> slice:
        """Where the values of this grid lie among those of all patches."""
        return slice(self.first, self.first + self.rows * self.columns)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an image is turned into variances: operator, border, patch, stride, grey weights.

    ``weights`` has one number per channel; grey is the weighted sum. ``stride`` divides
    ``patch``: the patches at a stride are then (patch/stride)² grids of touching patches,
    and each grid is handled alike.
    """

    operator: Operator
    border: Border
    patch: int
    stride: int
    weights: tuple[float, ...]

    @property
    def pad(self) -> int:
        """Width in pixels of the zeros around the image."""
        return 1 if self.border == "zero" else 0

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the gradient map of an image."""
        return height + 2 * self.pad - 2, width + 2 * self.pad - 2

    def grids(self, height: int, width: int) -> list[Grid]:
        """The grids of patches on an image's gradient map, those without a patch left out."""
        map_height, map_width = self.map_size(height, width)
        grids: list[Grid] = []
        first = 0
        for top in range(0, self.patch, self.stride):
            for left in range(0, self.patch, self.stride):
                rows, columns = (map_height - top) // self.patch, (map_width - left) // self.patch
                if rows > 0 and columns > 0:
                    grids.append(Grid(top=top, left=left, rows=rows, columns=columns, first=first))
                    first += rows * columns
        return grids


def gradient_variances(x: Tensor, layout: Layout) -> Tensor:
    """Unbiased variances (2, B, N) of the x and y gradients of grey ``x`` in N patches.

    x (B, C, H, W), C = number of weights; half precision is computed and returned in float32.
    The result can be differentiated once, with respect to ``x``. N = 0 where no patch fits.
    Patches of one grid are in row order, the grids one after the other. The sign of the
    y operator does not matter to a variance and is left as it falls.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        variances: Tensor = _GradientVariances.apply(x, layout)  # type: ignore[no-untyped-call]
        return variances
    return _forward(x, layout, keep=False)[0]


class _GradientVariances(torch.autograd.Function):
    """The forward pass, and its derivative written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: Layout) -> Tensor:
        variances, gradients, means = _forward(x, layout, keep=True)
        ctx.save_for_backward(gradients, means)
        ctx.layout, ctx.shape, ctx.dtype = layout, x.shape, x.dtype
        return variances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        gradients, means = ctx.saved_tensors
        wanted = torch.empty(ctx.shape, dtype=ctx.dtype, device=upstream.device)
        _backward(upstream, gradients, means=means, layout=ctx.layout, out=wanted)
        return wanted, None


def _forward(x: Tensor, layout: Layout, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Variances (2, B, N), gradients (2, B or fewer, padded H·W) and patch means (2, B, N)."""
    batch, _, height, width = x.shape
    rows, columns = height + 2 * layout.pad, width + 2 * layout.pad
    at_once = _images_at_once(x, rows * columns)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    grids = layout.grids(height, width)
    patches = sum(grid.rows * grid.columns for grid in grids)
    means = torch.empty(2, batch, patches, dtype=dtype, device=x.device)
    variances = torch.empty_like(means)
    # the frame of zeros is written here and stays; what lies beyond a map is never read
    grey = torch.zeros(at_once, rows * columns, dtype=dtype, device=x.device)
    gradients = grey.new_empty(2, batch if keep else at_once, rows * columns)
    scratch = torch.empty_like(grey)
    for first in range(0, batch, at_once):
        part = x[first : first + at_once]
        count = part.shape[0]
        _write_grey(part.to(dtype), layout, out=grey[:count].view(count, rows, columns))
        here = slice(first, first + count) if keep else slice(0, count)
        _write_gradients(
            grey[:count].view(-1), layout, row=columns, scratch=scratch, out=gradients[:, here]
        )
        maps = gradients[:, here].view(2, count, rows, columns)
        for grid in grids:
            block = _patches(maps, grid, patch=layout.patch)
            mean = _patch_sum(block).div_(layout.patch**2)
            centred = block - _over_patch(mean)
            squares = _patch_sum(centred.square_())
            means[:, first : first + count, grid.place] = mean.flatten(2)
            variances[:, first : first + count, grid.place] = squares.flatten(2)
    return variances.div_(layout.patch**2 - 1), gradients, means


def _backward(
    upstream: Tensor, gradients: Tensor, *, means: Tensor, layout: Layout, out: Tensor
) -> None:
    """Write into ``out`` (B, C, H, W) the derivative, given that of the variances (2, B, N)."""
    batch, _, height, width = out.shape
    rows, columns = height + 2 * layout.pad, width + 2 * layout.pad
    pixels = rows * columns
    at_once = _images_at_once(out, pixels)
    grids = layout.grids(height, width)
    # d variance / d g = 2 (g - mean) / (n² - 1)
    factors = upstream * (2 / (layout.patch**2 - 1))
    lead = 2 * columns + 2  # zeros before the first image, where the shifts reach back
    # outside the patches the derivative of a gradient is zero, which keeps images apart
    slopes = factors.new_zeros(2, lead + at_once * pixels)
    scratch = factors.new_empty(2 * columns + at_once * pixels)
    grey = factors.new_empty(at_once * pixels)
    for first in range(0, batch, at_once):
        count = min(at_once, batch - first)
        here = slice(first, first + count)
        maps = gradients[:, here].view(2, count, rows, columns)
        targets = slopes[:, lead : lead + count * pixels].view(2, count, rows, columns)
        targets.zero_()
        for grid in grids:
            block = _patches(maps, grid, patch=layout.patch)
            shape = (2, count, grid.rows, grid.columns)
            centred = block - _over_patch(means[:, here, grid.place].view(shape))
            factor = _over_patch(factors[:, here, grid.place].view(shape))
            _patches(targets, grid, patch=layout.patch).addcmul_(centred, factor)
        _write_adjoint(
            slopes[:, : lead + count * pixels],
            layout,
            row=columns,
            scratch=scratch,
            out=grey[: count * pixels],
        )
        inner = grey[: count * pixels].view(count, rows, columns)
        inner = inner[:, layout.pad : layout.pad + height, layout.pad : layout.pad + width]
        for channel, weight in enumerate(layout.weights):
            torch.mul(inner, weight, out=out[here, channel])


def _images_at_once(x: Tensor, pixels: int) -> int:
    """Return how many images are worked on together: a cacheful on a CPU, all on another device."""
    batch = x.shape[0]
    return min(batch, max(1, PIXELS_AT_ONCE // pixels)) if x.device.type == "cpu" else batch


def _write_grey(x: Tensor, layout: Layout, *, out: Tensor) -> None:
    """Write the weighted sum of the channels of ``x`` inside the frame of ``out`` (B, H', W')."""
    height, width = x.shape[2:]
    inner = out[:, layout.pad : layout.pad + height, layout.pad : layout.pad + width]
    torch.mul(x[:, 0], layout.weights[0], out=inner)
    for channel, weight in enumerate(layout.weights[1:], start=1):
        inner.add_(x[:, channel], alpha=weight)


def _write_gradients(
    grey: Tensor, layout: Layout, *, row: int, scratch: Tensor, out: Tensor
) -> None:
    """Write both gradients of flat ``grey`` into ``out`` (2, B, H'·W'), at their top-left pixel.

    Smoothing along one axis, then the difference of pixels two apart along the other.
    """
    used = grey.numel() - 2 * row - 2
    buffer = scratch.view(-1)
    smooth = _smooth(grey, row, operator=layout.operator, scratch=buffer)
    torch.sub(smooth[2:], smooth[:-2], out=out[0].view(-1)[:used])
    smooth = _smooth(grey, 1, operator=layout.operator, scratch=buffer)
    torch.sub(smooth[2 * row :], smooth[: -2 * row], out=out[1].view(-1)[:used])


def _write_adjoint(
    slopes: Tensor, layout: Layout, *, row: int, scratch: Tensor, out: Tensor
) -> None:
    """Write the transpose of ``_write_gradients``: from (2, lead + P) slopes to flat (P,) grey."""
    pixels = out.numel()
    difference = scratch[: pixels + 2 * row]
    torch.sub(slopes[0, :-2], slopes[0, 2:], out=difference)
    smooth = _smooth(difference, row, operator=layout.operator, scratch=out)
    if smooth.data_ptr() != out.data_ptr():
        out.copy_(smooth)
    difference = scratch[: pixels + 2]
    torch.sub(slopes[1, : -2 * row], slopes[1, 2 * row :], out=difference)
    if layout.operator == "sobel":
        out += difference[:-2]
        out.add_(difference[1:-1], alpha=2)
        out += difference[2:]
    else:
        out += difference[1:-1]


def _smooth(flat: Tensor, step: int, *, operator: Operator, scratch: Tensor) -> Tensor:
    """Weighted sum [1, 2, 1] of values ``step`` apart ("central": the middle one), flat."""
    if operator == "central":
        return flat[step:-step]
    out = scratch[: flat.numel() - 2 * step]
    torch.add(flat[: -2 * step], flat[step:-step], alpha=2, out=out)
    return out.add_(flat[2 * step :])


def _patches(maps: Tensor, grid: Grid, *, patch: int) -> Tensor:
    """View (2, B, rows, patch, columns, patch) of the patches of one grid on (2, B, H', W')."""
    bottom, right = grid.top + grid.rows * patch, grid.left + grid.columns * patch
    inside = maps[:, :, grid.top : bottom, grid.left : right]
    return inside.view(*inside.shape[:2], grid.rows, patch, grid.columns, patch)


def _patch_sum(block: Tensor) -> Tensor:
    """Sums (2, B, rows, columns): first down, over contiguous memory, then across the rest."""
    return block.sum(3).sum(4)


def _over_patch(values: Tensor) -> Tensor:
    """``values`` (2, B, rows, columns) as a view that spreads over (…, patch, …, patch)."""
    return values[:, :, :, None, :, None]
