"""The features of Ma's score: local frequency, normalised bands of wavelets, singular values.

Ma, Yang, Yang, Yang, "Learning a No-Reference Quality Metric for Single-Image Super-Resolution",
Computer Vision and Image Understanding 158, 2017, section 3; its wavelet features after Moorthy and
Bovik, "Blind Image Quality Assessment: From Natural Scene Statistics to Perceptual Quality", IEEE
Transactions on Image Processing 20(12), 2011. The pyramid: Simoncelli and Freeman, "The Steerable
Pyramid", ICIP 1995. A band's neighbourhood: Portilla et al., IEEE TIP 12(11), 2003.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.metrics.niqe import nearest_shape
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.structure import gaussian_window

_SCALES = 3
WINDOW, STRIDE = 7, 3  # pixels of a side of the windows of f1, and between them
PATCH = 5  # pixels of a side of the patches of f3
BAND_SCALES, ORIENTATIONS = 2, 6
_GUARD = 16  # pixels left out on each side of a band of the first scale

# Orientation of the coefficients of a 7 x 7 DCT; A horizontal, B diagonal, C vertical.
_ORIENTATIONS = ("-AAAAAA", "CBAAAAA", "CCBBAAA", "CCBBBAA", "CCCBBBB", "CCCCBBB", "CCCCBBB")


def pyramid(grey: Tensor) -> list[Tensor]:
    """Return the image (H, W), then twice blurred (3 x 3, sigma 0.5, zeros around) and halved."""
    found = [grey]
    side = math.exp(-2.0)  # exp(-1 / (2 * 0.5²))
    window = torch.tensor([side, 1.0, side], dtype=grey.dtype, device=grey.device)
    window = window / window.sum()
    for _ in range(_SCALES - 1):
        padded = functional.pad(found[-1], (1, 1, 1, 1))
        rows = window[0] * (padded[:-2] + padded[2:]) + window[1] * padded[1:-1]
        blurred = window[0] * (rows[:, :-2] + rows[:, 2:]) + window[1] * rows[:, 1:-1]
        found.append(blurred[1::2, 1::2])
    return found


def frequency_features(grey: Tensor) -> Tensor:
    """f1 of one scale, (6,) float64, of an image (H, W) in [0, 1].

    Of every 7 x 7 window of a 3 x 3 block the DCT without its constant; pooled over windows, as the
    mean of the most extreme tenth and of all: the shape of a generalised Gaussian (lowest), the
    relative deviation of the sizes, and how much it differs between orientations (highest).
    """
    coefficients = _windows(grey.double()) @ _transform().T.to(grey.device)  # (windows, 49)
    alternating = coefficients[:, 1:]
    shape = generalised_shape(alternating)
    sizes = alternating.abs()
    deviation = _relative_deviation(sizes, epsilon=1e-7)
    orientation = torch.stack(
        [_relative_deviation(sizes[:, group], epsilon=1e-8) for group in _groups()]
    ).var(dim=0)
    found = [_lowest(shape), shape.mean(), _highest(deviation), deviation.mean()]
    return torch.stack([*found, _highest(orientation), orientation.mean()])


def generalised_shape(values: Tensor) -> Tensor:
    """Return the shape of the generalised Gaussian of each row of ``values`` (N, samples), (N,)."""
    centred = values - values.mean(dim=1, keepdim=True)
    ratio = values.var(dim=1) / (centred.abs().mean(dim=1).square() + 1e-7)
    return nearest_shape(ratio, of="square over mean", smallest=30)


def singular_values(grey: Tensor) -> Tensor:
    """f3 of one scale, (25,) float64: singular values of the 5 x 5 patches of (H, W) in [0, 1].

    The patches do not overlap; zeros fill the last ones, and the values of fewer than 25 patches.
    """
    height, width = grey.shape
    padded = functional.pad(grey.double(), (0, -width % PATCH, 0, -height % PATCH))
    patches = padded.unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH).reshape(-1, PATCH * PATCH)
    # Through a QR decomposition the tall matrix of a large image becomes 25 x 25 first.
    small = torch.linalg.qr(patches, mode="r").R if len(patches) > PATCH * PATCH else patches
    found = torch.linalg.svdvals(small)
    return functional.pad(found, (0, PATCH * PATCH - len(found)))


def _windows(grey: Tensor) -> Tensor:
    """The windows (count, 49), each row by row; zeros fill the border and the last blocks."""
    height, width = grey.shape
    border = (WINDOW - STRIDE) // 2
    padded = functional.pad(
        grey, (border, border + -width % STRIDE, border, border + -height % STRIDE)
    )
    windows = padded.unfold(0, WINDOW, STRIDE).unfold(1, WINDOW, STRIDE)
    return windows.reshape(-1, WINDOW * WINDOW)


def _relative_deviation(values: Tensor, *, epsilon: float) -> Tensor:
    return values.std(dim=1) / (values.mean(dim=1) + epsilon)


def _lowest(values: Tensor) -> Tensor:
    return values.sort().values[: math.ceil(len(values) / 10)].mean()


def _highest(values: Tensor) -> Tensor:
    first = max(len(values) * 9 // 10, 1)  # counted from 1
    return values.sort().values[first - 1 :].mean()


@lru_cache(maxsize=1)
def _transform() -> Tensor:
    """Return the orthonormal 2-D DCT of a flattened window, (49, 49) float64."""
    n = np.arange(WINDOW)
    matrix = np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / (2 * WINDOW)) * math.sqrt(2 / WINDOW)
    matrix[0] /= math.sqrt(2)
    return torch.from_numpy(np.kron(matrix, matrix))


@lru_cache(maxsize=1)
def _groups() -> tuple[Tensor, ...]:
    """For each orientation the positions of its coefficients among the 48."""
    names = "".join(_ORIENTATIONS)[1:]
    return tuple(torch.tensor([k for k, name in enumerate(names) if name == g]) for g in "ABC")


# ---- Wavelets ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SteerablePyramid:
    """The high-pass residual (H, W) and the oriented bands, per scale (6, h, w)."""

    residual: Tensor
    bands: tuple[Tensor, ...]


def band_features(grey: Tensor) -> Tensor:
    """f2, (45,) float64, of an image (H, W) in 0..255 of at least 64 pixels a side.

    Shapes of generalised Gaussians of the normalised bands (12) and of both scales together (6);
    contrast-structure terms of SSIM between bands and the residual (12), and between the bands
    (15).
    """
    pyramid = steerable_pyramid(grey.double())
    first, second = (
        _normalised(bands, parents=parents, guard=_GUARD >> scale)
        for scale, (bands, parents) in enumerate(
            zip(pyramid.bands, [*pyramid.bands[1:], None], strict=True)
        )
    )
    together = torch.cat([first.flatten(1), second.flatten(1)], dim=1)
    height, width = pyramid.residual.shape
    residual = pyramid.residual.expand(ORIENTATIONS, -1, -1)
    across = [
        _contrast_structure(imresize(bands, size=(height, width)), residual)
        for bands in pyramid.bands
    ]
    left, right = zip(*itertools.combinations(range(ORIENTATIONS), 2), strict=True)
    between = _contrast_structure(first[list(left)], first[list(right)])
    shapes = [_shape(bands.flatten(1)) for bands in (first, second, together)]
    return torch.cat([*shapes, *across, between])


def steerable_pyramid(grey: Tensor) -> SteerablePyramid:
    """Two scales of six orientations and the high-pass residual of an image (H, W)."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(grey))
    octaves, angle = _polar(*grey.shape)
    residual = _image(spectrum * _high(octaves))
    low = spectrum * _low(octaves)
    bands = []
    for scale in range(BAND_SCALES):
        # The transition of each scale is an octave lower than that of the one before.
        high = _high(octaves + 1 + scale)
        steered = torch.stack([_steer(angle, k) for k in range(ORIENTATIONS)])
        phase = (-1j) ** (ORIENTATIONS - 1)
        bands.append(_image(phase * low * high * steered))
        rows, columns = (_centre(side) for side in low.shape)
        octaves, angle = octaves[rows, columns], angle[rows, columns]
        low = low[rows, columns] * _low(octaves + 1 + scale)
    return SteerablePyramid(residual=residual, bands=tuple(bands))


def _polar(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Octaves below half the sampling rate, and angle, of each place of a shifted spectrum."""
    y, x = (
        (torch.arange(side, dtype=torch.float64) - side // 2) / (side / 2)
        for side in (height, width)
    )
    radius = torch.hypot(y[:, None], x[None])
    angle = torch.atan2(y[:, None].expand_as(radius), x[None].expand_as(radius))
    # The logarithm of zero: as its neighbour on the left.
    radius[height // 2, width // 2] = radius[height // 2, width // 2 - 1]
    return radius.log2(), angle


def _high(octaves: Tensor) -> Tensor:
    return torch.sin(octaves.clamp(-1, 0).add(1) * (math.pi / 2))


def _low(octaves: Tensor) -> Tensor:
    """Return what ``_high`` leaves: the squares sum to 1."""
    return torch.cos(octaves.clamp(-1, 0).add(1) * (math.pi / 2))


def _steer(angle: Tensor, k: int) -> Tensor:
    """Return the angular part of band ``k``."""
    order = ORIENTATIONS - 1
    constant = 4**order * math.factorial(order) ** 2 / (ORIENTATIONS * math.factorial(2 * order))
    return math.sqrt(constant) * torch.cos(angle - math.pi * k / ORIENTATIONS) ** order


def _centre(side: int) -> slice:
    """Return the inner half of a shifted spectrum, (side + 1) // 2 wide, around its constant."""
    half = (side + 1) // 2
    first = side // 2 - half // 2
    return slice(first, first + half)


def _image(spectrum: Tensor) -> Tensor:
    image: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real
    return image


def _normalised(bands: Tensor, *, parents: Tensor | None, guard: int) -> Tensor:
    """Bands (6, h, w) over the root of their neighbourhood's energy, without ``guard`` pixels.

    The neighbourhood of a place: 3 x 3 in its band, the same place in the five others and in the
    parent. Its energy is that of a Gaussian scale mixture, y' C⁻¹ y / N, where N counts the first
    nine and the parent, but not the five others (inferred from the output of another port).
    """
    height, width = bands.shape[1:]
    inner = bands[:, 1:-1, 1:-1]
    enlarged = None
    if parents is not None:
        rows, columns = (_doubling(side) for side in parents.shape[1:])
        enlarged = (rows @ parents @ columns.T)[:, 1 : height - 1, 1 : width - 1]
    found = []
    for k in range(len(bands)):
        near = bands[k].unfold(0, 3, 1).unfold(1, 3, 1).reshape(-1, 9)
        others = [inner[j].reshape(-1, 1) for j in range(len(bands)) if j != k]
        parent = [] if enlarged is None else [enlarged[k].reshape(-1, 1)]
        energy = _energy(torch.cat([near, *parent, *others], dim=1)).view_as(inner[k])
        energy /= near.shape[1] + len(parent)
        ratio = torch.where(energy > 0, inner[k] / energy.sqrt(), 0.0)
        found.append(ratio[guard : height - 2 - guard, guard : width - 2 - guard])
    return torch.stack(found)


def _energy(neighbours: Tensor) -> Tensor:
    """Return the energy y' C⁻¹ y of each row y of ``neighbours`` (places, N), (places,)."""
    covariance = neighbours.T @ neighbours / len(neighbours)
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(covariance)
    positive = values.clamp(min=0)
    values = positive * (values.sum() / positive.sum()) if positive.any() else positive
    # A direction that nothing varies in has no part in the energy.
    inverse = torch.where(values > 0, 1 / values, 0.0)
    return (neighbours @ vectors).square() @ inverse


@lru_cache(maxsize=8)
def _doubling(side: int) -> Tensor:
    """Return the matrix (2 side, side) that doubles an axis.

    Bilinear to 4 side - 3 samples, one more extrapolated at each end, and every second kept.
    """
    dense = 4 * side - 3
    place = ((np.arange(dense) + 0.5) * side / dense - 0.5).clip(0, side - 1)
    lower = np.minimum(np.floor(place).astype(int), max(side - 2, 0))
    matrix = np.zeros((dense, side))
    matrix[np.arange(dense), lower] = 1 - (place - lower)
    matrix[np.arange(dense), np.minimum(lower + 1, side - 1)] += place - lower
    first, last = 2 * matrix[:1] - matrix[1:2], 2 * matrix[-1:] - matrix[-2:-1]
    return torch.from_numpy(np.concatenate([first, matrix, last])[::2].copy())


def _shape(values: Tensor) -> Tensor:
    """Return the shape of the generalised Gaussian of each row, the nearest of 0.2, 0.201 .. 10."""
    centred = values - values.mean(dim=1, keepdim=True)
    ratio = centred.square().mean(dim=1) / centred.abs().mean(dim=1).square()
    return nearest_shape(ratio, of="square over mean")


def _contrast_structure(x: Tensor, y: Tensor) -> Tensor:
    """The mean contrast-structure term of SSIM for values of range 255, (B,) of (B, H, W)."""
    constant = (0.03 * 255) ** 2
    mean_x, mean_y = _window(x), _window(y)
    covariance = _window(x * y) - mean_x * mean_y
    variances = _window(x * x) - mean_x**2 + _window(y * y) - mean_y**2
    return ((2 * covariance + constant) / (variances + constant)).mean(dim=(1, 2))


def _window(x: Tensor) -> Tensor:
    """Return the 11 x 11 Gaussian of sigma 1.5, whole windows only."""
    window = gaussian_window(11, 1.5).to(x)
    return x.unfold(1, 11, 1).matmul(window).unfold(2, 11, 1).matmul(window)
