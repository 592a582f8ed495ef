"""Linear sharpening: the cheapest change of an image that raises its gradient variance.

Gradient variance is a quadratic form q(x) = x' Q x of the image. Among all images z as near to m as
z = (I - strength Q)^-1 m is, in squared error, none has a larger q (docs/sharpness.md):

    z maximises q(z) - |z - m|² / strength, and so (I - strength Q) z = m.

With S the two Sobel derivatives inside the image (no border is invented) and C the removal of each
patch's mean from a gradient map, of 0 where no patch fits,

    patch=None: Q = S' S,    q(x) = sum of the squared gradients
    patch=n:    Q = S' C S,  q(x) = (n² - 1) × sum of the variances of the gradient variance loss

The eigenvalues of both lie in [0, 64]: 64 is the square of Sobel's response to the wave with four
pixels a period, and C is a projection. The system is solved by k Chebyshev steps, whose result is a
polynomial in Q of degree k applied to m: linear and symmetric.
"""

from math import ceil, log, sqrt

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.ops.gradient import check_floats, sobel
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.structure import patch_variances

# Bound of Q: 32 (1 + cos u) (1 + cos v) (1 - cos u cos v) is at most 64, at (u, v) = (90°, 0)
LARGEST_EIGENVALUE = 64.0
# Largest strength: amplifies no wave more than twenty times. The system is singular at 1/64
STRONGEST = 0.95 / LARGEST_EIGENVALUE
TOLERANCE = 1e-4  # bound of the solver's error, relative to the change |z - m|


def sharpen(x: Tensor, strength: float | Tensor, *, patch: int | None = None) -> Tensor:
    """Return (I - strength Q)^-1 x, each channel of ``x`` (B, C, H, W) by itself, not clipped.

    ``strength`` in [0, STRONGEST], one number or one per image (B,); 0 returns ``x``. Values of
    0.001 to 0.01 are of use. Within 1e-4 of the change from the exact solution. Constants stay,
    and with ``patch`` ramps too. Differentiable in ``x``; half precision is computed in float32.

    Raises InputError for a wrong shape, dtype or strength, and images in which no patch fits.
    """
    _check(x, patch)
    strengths = torch.as_tensor(strength, dtype=torch.float64).detach().cpu().flatten()
    if len(strengths) not in (1, len(x)) or not ((strengths >= 0) & (strengths <= STRONGEST)).all():
        raise InputError(
            f"strength is {strength}; it must be one number or one per image, from 0 to "
            f"{STRONGEST:.4f}."
        )
    half = (strengths * LARGEST_EIGENVALUE / 2).view(-1, 1, 1, 1)  # eigenvalues: 1 - half ± half
    count = _steps(2 * half.max().item())
    work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    weight = strengths.view(-1, 1, 1, 1).to(work)
    # Chebyshev iteration from z = m; ratio is T(j-1) / T(j) at the centre over the half-width
    z, ratio = work, half / (1 - half)
    residual = weight * _apply(work, patch)
    step = residual / (1 - half).to(work)
    for _ in range(count - 1):
        z = z + step
        residual = residual - step + weight * _apply(step, patch)
        scale = 1 / (2 * (1 - half) - half * ratio)
        step = (half * scale * ratio).to(work) * step + (2 * scale).to(work) * residual
        ratio = half * scale
    return (z + step if count else z).to(x.dtype)


def reach(strength: float) -> int:
    """Return how many pixels away an image matters to ``sharpen`` without patches; at most 44."""
    return 2 * _steps(strength * LARGEST_EIGENVALUE)


def back_project(sr: Tensor, lr: Tensor) -> Tensor:
    """Return ``sr`` (B, C, rH, rW) after a step towards shrinking to ``lr`` (B, C, H, W).

    What the exact bicubic makes of ``sr`` lacks of ``lr``, enlarged and added: at whole scales a
    step down the gradient of that squared difference (Irani and Peleg 1991). Not clipped.
    """
    size, large = (lr.shape[-2], lr.shape[-1]), (sr.shape[-2], sr.shape[-1])
    return sr + imresize(lr - imresize(sr, size=size), size=large)


def gradient_energy(x: Tensor, *, patch: int | None = None) -> Tensor:
    """Return q of each image (B,): the mean square gradient or the mean variance of the patches.

    Of ``x`` (B, C, H, W), summed over the x and y derivative and averaged over the channels;
    ``patch`` as in ``sharpen``. The GV ratio of two images is about the ratio of their energies.
    """
    _check(x, patch)
    gradients = sobel(x, border="valid")
    found = x.new_zeros(len(x))
    for field in (gradients.x, gradients.y):
        values = field.square() if patch is None else patch_variances(field, patch=patch)
        found = found + values.mean(dim=(1, 2, 3))
    return found


def strength_for_change(x: Tensor, mse: float, *, patch: int | None = None) -> Tensor:
    """Return the strengths (B,) at which the mean square change of the image is ``mse``.

    ``allowed_change`` gives the ``mse`` of a price in dB. By bisection; ``STRONGEST`` where even
    that changes the image less. Raises InputError for a negative ``mse``, and as ``sharpen``.
    """
    if not mse >= 0:
        raise InputError(f"mse is {mse}; a mean square change is at least 0.")
    _check(x, patch)
    found = []
    for image in torch.split(x.detach(), 1):
        low, high = 0.0, STRONGEST
        for _ in range(16):
            middle = (low + high) / 2
            if (image - sharpen(image, middle, patch=patch)).square().mean() >= mse:
                high = middle
            else:
                low = middle
        found.append(low)
    return torch.tensor(found, dtype=torch.float64)


def allowed_change(*, psnr: float, price: float) -> float:
    """Return the mean square change that lowers a posterior mean of ``psnr`` dB by ``price`` dB.

    10^(-psnr / 10) (10^(price / 10) - 1), peak 1: the error of a posterior mean is orthogonal to
    every function of LR, so the change adds to it. For another network it is an estimate.
    """
    return float(10 ** (-psnr / 10) * (10 ** (price / 10) - 1))


def _apply(x: Tensor, patch: int | None) -> Tensor:
    """Return Q x, (B, C, H, W)."""
    gradients = sobel(x, border="valid")
    along_x, along_y = gradients.x, gradients.y  # (B, C, H - 2, W - 2)
    if patch is not None:
        along_x, along_y = _centre(along_x, patch), _centre(along_y, patch)
    # Sobel's kernels are antisymmetric: S' is S on the map with a frame of zeros, negated.
    back_x = sobel(along_x, border="zero", padding=2).x
    return -(back_x + sobel(along_y, border="zero", padding=2).y)


def _centre(field: Tensor, patch: int) -> Tensor:
    """Return the map minus the mean of each patch, 0 at the right and below where none fits."""
    height, width = (side // patch * patch for side in field.shape[-2:])
    inner = field[..., :height, :width]
    means = functional.avg_pool2d(inner, patch)
    spread = means.repeat_interleave(patch, -2).repeat_interleave(patch, -1)
    missing = (0, field.shape[-1] - width, 0, field.shape[-2] - height)
    return functional.pad(inner - spread, missing)


def _steps(spread: float) -> int:
    """Return how many steps bring 2 r^k below the tolerance, for eigenvalues in [1 - spread, 1]."""
    if spread == 0:
        return 0
    rate = (1 - sqrt(1 - spread)) / (1 + sqrt(1 - spread))
    return ceil(log(2 / TOLERANCE) / log(1 / rate))


def _check(x: Tensor, patch: int | None) -> None:
    check_floats(x)
    needed = 3 if patch is None else patch + 2
    if (patch is not None and patch < 2) or min(x.shape[-2:]) < needed:
        raise InputError(
            f"Images of {x.shape[-2]} × {x.shape[-1]} pixels cannot be sharpened with patch="
            f"{patch}: a patch is at least 2, and both sides at least {needed}."
        )
