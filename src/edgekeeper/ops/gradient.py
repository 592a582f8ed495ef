"""Image gradients: Sobel and central differences, cross-correlations without normalisation.

Written with shifted slices: on the CPU a convolution with one channel is several times slower.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError, check_choice
from edgekeeper.ops.check import check_images

Border = Literal["zero", "replicate", "valid"]
Operator = Literal["sobel", "central"]


@dataclass(frozen=True)
class Gradients:
    """The horizontal (``x``) and vertical (``y``) derivative of images, each (B, C, H, W)."""

    x: Tensor
    y: Tensor


def _smooth(x: Tensor, *, dim: int, operator: Operator) -> Tensor:
    """The side factor of the kernel along ``dim``: (1, 2, 1) for Sobel, (0, 1, 0) for central."""
    length = x.shape[dim] - 2
    middle = x.narrow(dim, 1, length)
    if operator == "central":
        return middle
    return torch.add(x.narrow(dim, 0, length), middle, alpha=2) + x.narrow(dim, 2, length)


def _difference_x(x: Tensor, *, operator: Operator) -> Tensor:
    """Return the horizontal derivative, valid part: right minus left, (..., H - 2, W - 2)."""
    rows = _smooth(x, dim=-2, operator=operator)
    return rows[..., 2:] - rows[..., :-2]


def _difference_y(x: Tensor, *, operator: Operator) -> Tensor:
    """The vertical derivative, valid part; above minus below for Sobel, else below minus above.

    The sign of each is the sign of the paper that uses it (gradient variance loss; SPSR).
    """
    columns = _smooth(x, dim=-1, operator=operator)
    above, below = columns[..., :-2, :], columns[..., 2:, :]
    return above - below if operator == "sobel" else below - above


class _Differences(torch.autograd.Function):
    """Both derivatives, valid part, with a derivative that costs as much as they do.

    Both kernels are antisymmetric, so the transposed operation is the operation itself on the
    gradient padded by two zeros, with the opposite sign.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: Operator) -> tuple[Tensor, Tensor]:
        ctx.operator = operator
        return _difference_x(x, operator=operator), _difference_y(x, operator=operator)

    @staticmethod
    def backward(ctx: Any, along_x: Tensor, along_y: Tensor) -> tuple[Tensor, None]:
        first = _difference_x(functional.pad(along_x, (2, 2, 2, 2)), operator=ctx.operator)
        second = _difference_y(functional.pad(along_y, (2, 2, 2, 2)), operator=ctx.operator)
        return -(first + second), None


def _differences(x: Tensor, *, operator: Operator, border: Border, padding: int) -> Gradients:
    check_images(x)
    check_choice("border", border, known=("zero", "replicate", "valid"))
    if padding not in (1, 2):
        raise InputError(f"padding is 1 (same size) or 2 (a ring wider), not {padding}.")
    if border == "valid":
        if padding != 1:
            raise InputError("border 'valid' pads nothing: leave padding at 1 or name a border.")
        if min(x.shape[-2:]) < 3:
            raise InputError(
                f"Images of {x.shape[-2]} × {x.shape[-1]} pixels have no gradient without a "
                "border; they need at least 3 × 3, or border 'zero' or 'replicate'."
            )
    else:
        mode = "constant" if border == "zero" else "replicate"
        x = functional.pad(x, (padding, padding, padding, padding), mode=mode)
    if torch.compiler.is_compiling():
        return Gradients(_difference_x(x, operator=operator), _difference_y(x, operator=operator))
    along_x, along_y = _Differences.apply(x, operator)  # type: ignore[no-untyped-call]
    return Gradients(along_x, along_y)


def sobel(x: Tensor, *, border: Border = "zero", padding: int = 1) -> Gradients:
    """Return the Sobel derivatives of each channel of ``x`` (B, C, H, W), not normalised.

    x kernel ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), y kernel ((1, 2, 1), (0, 0, 0), (-1, -2, -1)):
    the signs of the gradient variance loss (Abrahamyan et al., ICASSP 2022). Same size as ``x``
    with ``padding=1``, a ring wider with 2, two rows and columns less with ``border="valid"``.
    Raises InputError for a wrong shape, border or padding.
    """
    return _differences(x, operator="sobel", border=border, padding=padding)


def central(x: Tensor, *, border: Border = "zero", padding: int = 1) -> Gradients:
    """The differences (-1, 0, 1) of each channel of ``x`` (B, C, H, W), rightwards and downwards.

    Not halved: the pixels compared are two apart (Ma et al., SPSR, CVPR 2020, equation 2). Same
    size as ``x`` with ``padding=1``; with 2 a ring wider, which is how the authors' code computes
    its losses. ``border="valid"`` drops the outermost rows and columns.
    Raises InputError for a wrong shape, border or padding.
    """
    return _differences(x, operator="central", border=border, padding=padding)


def magnitude(gradients: Gradients, *, epsilon: float = 1e-6) -> Tensor:
    """Return the length of the gradient, sqrt(gx² + gy² + epsilon), (B, C, H, W).

    ``epsilon`` keeps the derivative finite: flat areas give its root (0.001), not 0.
    """
    return torch.sqrt(gradients.x.square() + gradients.y.square() + epsilon)


def gradient_map(x: Tensor, *, operator: Operator = "central", padding: int = 1) -> Tensor:
    """The length of the gradient of each channel of ``x`` (B, C, H, W), zeros beyond the border.

    With the default operator this is M(.) of SPSR (CVPR 2020, equation 2) and, up to signs that
    the length does not see, the gradient map of DGGGAN. ``padding=2`` adds a ring.
    Raises InputError for a wrong shape, operator or padding.
    """
    check_choice("operator", operator, known=("sobel", "central"))
    return magnitude(_differences(x, operator=operator, border="zero", padding=padding))
