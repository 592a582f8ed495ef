"""Linear sharpening: the cheapest change of an image that raises its gradient variance.

Gradient variance is a quadratic form q(x) = x' Q x of the image. Among all images z as near to m as
z = (I - strength Q)^-1 m is, in squared error, none has a larger q (docs/sharpness.md):

    z maximises q(z) - |z - m|² / strength, and so (I - strength Q) z = m.

With S the two Sobel derivatives inside the image (no border is invented), Q = S' S: q(x) is the sum
of the squared gradients.

The eigenvalues of Q lie in [0, 64]: 64 is the square of Sobel's response to the wave with four
pixels a period. The system is solved by k Chebyshev steps, whose result is a polynomial in Q of
degree k applied to m: linear and symmetric.
"""

from math import ceil, log, sqrt

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.ops.check import check_images
from edgekeeper.ops.gradient import sobel
from edgekeeper.ops.resize import imresize

# Bound of Q: 32 (1 + cos u) (1 + cos v) (1 - cos u cos v) is at most 64, at (u, v) = (90°, 0)
LARGEST_EIGENVALUE = 64.0
# Largest strength: amplifies no wave more than twenty times. The system is singular at 1/64
STRONGEST = 0.95 / LARGEST_EIGENVALUE
TOLERANCE = 1e-4  # bound of the solver's error, relative to the change |z - m|


def sharpen(x: Tensor, strength: float) -> Tensor:
    """Return (I - strength Q)^-1 x, each channel of ``x`` (B, C, H, W) by itself, not clipped.

    ``strength`` in [0, STRONGEST]; 0 returns ``x``. Values of 0.001 to 0.01 are of use. Within 1e-4
    of the change from the exact solution. Constants stay. Differentiable in ``x``; half precision
    is computed in float32. Raises InputError for a wrong shape, dtype or strength.
    """
    check_images(x, valued=True)
    if not 0 <= strength <= STRONGEST or min(x.shape[-2:]) < 3:
        raise InputError(
            f"Images of {x.shape[-2]} × {x.shape[-1]} pixels cannot be sharpened by {strength}: "
            f"both sides are at least 3, the strength is from 0 to {STRONGEST:.4f}."
        )
    half = strength * LARGEST_EIGENVALUE / 2  # eigenvalues: 1 - half ± half
    work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    # Chebyshev iteration from z = m; ratio is T(j-1) / T(j) at the centre over the half-width
    z, ratio = work, half / (1 - half)
    residual = strength * _apply(work)
    step = residual / (1 - half)
    for _ in range(_steps(2 * half) - 1):
        z = z + step
        residual = residual - step + strength * _apply(step)
        scale = 1 / (2 * (1 - half) - half * ratio)
        step = half * scale * ratio * step + 2 * scale * residual
        ratio = half * scale
    return (z + step if strength else z).to(x.dtype)


def reach(strength: float) -> int:
    """Return how many pixels away an image matters to ``sharpen``; at most 44."""
    return 2 * _steps(strength * LARGEST_EIGENVALUE)


def back_project(sr: Tensor, lr: Tensor) -> Tensor:
    """Return ``sr`` (B, C, rH, rW) after a step towards shrinking to ``lr`` (B, C, H, W).

    What the exact bicubic makes of ``sr`` lacks of ``lr``, enlarged and added: at whole scales a
    step down the gradient of that squared difference (Irani and Peleg 1991). Not clipped.
    """
    check_images(sr, name="sr")
    check_images(lr, name="lr")
    size, large = (lr.shape[-2], lr.shape[-1]), (sr.shape[-2], sr.shape[-1])
    return sr + imresize(lr - imresize(sr, size=size), size=large)


def _apply(x: Tensor) -> Tensor:
    """Return Q x, (B, C, H, W)."""
    gradients = sobel(x, border="valid")  # (B, C, H - 2, W - 2) each
    # Sobel's kernels are antisymmetric: S' is S on the map with a frame of zeros, negated.
    back_x = sobel(gradients.x, border="zero", padding=2).x
    return -(back_x + sobel(gradients.y, border="zero", padding=2).y)


def _steps(spread: float) -> int:
    """Return how many steps bring 2 r^k below the tolerance, for eigenvalues in [1 - spread, 1]."""
    if spread == 0:
        return 0
    rate = (1 - sqrt(1 - spread)) / (1 + sqrt(1 - spread))
    return ceil(log(2 / TOLERANCE) / log(1 / rate))
