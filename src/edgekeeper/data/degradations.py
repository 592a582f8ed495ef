"""LR images as people have them: blurred, noisy, sharpened, compressed, made while training.

One round is: blur, resize, noise, sharpening or ringing, JPEG, each with its probability. One round
is the classical model; two in a row follow BSRGAN (Zhang, Liang, Van Gool, Timofte, "Designing a
practical degradation model for deep blind image super-resolution", ICCV 2021) and Real-ESRGAN
(Wang, Xie, Dong, Shan, "Real-ESRGAN: training real-world blind super-resolution with pure synthetic
data", ICCVW 2021). Ours differs from theirs in this: the second round resizes to the LR size at
once, the steps are not shuffled, and blur is given in LR pixels so that it means the same at every
scale.

All that is random is drawn on the processor from (seed, step, index of the patch), as in
``edgekeeper.data.patches``: an LR patch does not depend on its neighbours, on how the batch was
split, or on the device (up to the last bit before rounding). Normal noise is a window into one
fixed array of four million values at a drawn place, which costs a copy.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.data.patches import random_words
from edgekeeper.errors import InputError
from edgekeeper.ops.blur import filter_each, gaussian_kernels, sinc_kernels
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.jpeg import Subsampling, jpeg
from edgekeeper.ops.resize import imresize

Bounds = tuple[float, float]
Kernel = Literal["cubic", "linear", "area", "aliased"]
_Floats = NDArray[np.float64]

# Counter words 0 and 1 draw places and order; a round takes a block of eight.
_CLEAN, _SIZES, _ROUNDS, _CALLS = 7, 8, 16, 8
_NORMALS = 2**22
_RADIUS = 10  # of a blur kernel, at least: 21 x 21 as in both papers


@dataclass(frozen=True)
class DegradationRound:
    """Probabilities and ranges of one round; every value is uniform in its range.

    ``sigma`` and ``lens`` are in LR pixels, ``gaussian`` in grey levels of 255. ``lens`` is an
    isotropic Gaussian folded into the resize, which costs nothing; ``blur`` is the probability of a
    two-dimensional kernel, which costs an FFT. ``peak``: log10 of the photons at white.
    """

    blur: float = 0.0
    sinc: float = 0.1  # of the blurs
    anisotropic: float = 0.5  # of the others
    generalised: float = 0.3  # of the others
    sigma: Bounds = (0.05, 0.75)
    beta: Bounds = (0.5, 4.0)  # 1 is the Gaussian
    lens: Bounds = (0.0, 0.0)
    kernels: tuple[Kernel, ...] = ("cubic", "linear", "area", "aliased")
    noise: float = 0.0
    gaussian: Bounds = (0.0, 5.0)
    poisson: float = 0.0  # of the noisy
    peak: Bounds = (2.0, 4.0)
    grey: float = 0.4  # of the noisy
    sharpen: float = 0.0
    amount: Bounds = (0.2, 1.5)
    ring: float = 0.0  # a sinc filter after the noise, of those not sharpened
    jpeg: float = 0.0
    quality: tuple[int, int] = (75, 95)
    halved: float = 0.7  # 4:2:0, of the JPEGs


@dataclass(frozen=True)
class Degradations:
    """How LR patches are made of HR patches: one or more rounds, as part of a recipe.

    ``middle`` is the size between two rounds in units of the HR size, drawn evenly on a logarithmic
    scale; patches of one ``index // group`` have it in common and are made together. A share
    ``clean`` of the patches is only made smaller, by MATLAB's bicubic.
    """

    rounds: tuple[DegradationRound, ...]
    middle: Bounds = (0.3, 1.2)
    group: int = 4
    clean: float = 0.0


# What a phone of today gives: downscaled in an unknown way, a little noise, a good JPEG.
LIGHT = Degradations(
    rounds=(DegradationRound(lens=(0.0, 0.4), noise=0.8, gaussian=(0.0, 5.0), jpeg=0.9),),
    group=16,
    clean=0.1,
)
# One round of everything: an old camera, a scan, an image out of a page.
PHOTO = Degradations(
    rounds=(
        DegradationRound(
            blur=0.8,
            noise=0.8,
            gaussian=(0.0, 15.0),
            poisson=0.4,
            sharpen=0.3,
            ring=0.1,
            jpeg=0.95,
            quality=(30, 95),
        ),
    ),
    group=8,
    clean=0.05,
)
# Two rounds: made smaller or larger, sent on and compressed once more.
TWICE = Degradations(
    rounds=(
        DegradationRound(
            blur=0.9, noise=0.9, gaussian=(0.0, 25.0), poisson=0.5, jpeg=0.9, quality=(30, 95)
        ),
        DegradationRound(
            blur=0.5,
            sigma=(0.05, 0.4),
            noise=0.7,
            gaussian=(0.0, 15.0),
            poisson=0.5,
            sharpen=0.2,
            ring=0.4,
            jpeg=1.0,
            quality=(30, 95),
        ),
    )
)


@dataclass(frozen=True)
class Drawn:
    """What one round does to each patch: arrays (B,); 0 says that a step does not happen."""

    sigma: _Floats  # (B, 2) along the axes of the kernel, in LR pixels
    angle: _Floats
    beta: _Floats
    cutoff: _Floats  # of a sinc blur, in radians a pixel
    lens: _Floats
    kernel: NDArray[np.int64]  # index into the round's kernels
    gaussian: _Floats  # standard deviation, in [0, 1]
    photon: _Floats  # variance at white, in [0, 1]
    grey: NDArray[np.bool_]
    place: _Floats  # of the window into the normal values, in [0, 1)
    amount: _Floats  # of sharpening
    ring: _Floats  # cutoff
    quality: NDArray[np.int64]
    halved: NDArray[np.bool_]


def _uniform(*, seed: int, step: int, first: int, count: int, purpose: int) -> _Floats:
    """Values (count, 4), uniform in [0, 1), of the indices from ``first`` on."""
    words = random_words(seed=seed, stream=step, first=first, count=count, purpose=purpose)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_round(
    settings: DegradationRound, *, number: int, seed: int, step: int, first: int, count: int
) -> Drawn:
    """Return what round ``number`` does to the patches [first, first + count) of ``step``."""
    calls = range(_ROUNDS + _CALLS * number, _ROUNDS + _CALLS * (number + 1))
    draw = partial(_uniform, seed=seed, step=step, first=first, count=count)
    columns = iter(np.concatenate([draw(purpose=call) for call in calls], axis=1).T)

    def happens(probability: float) -> NDArray[np.bool_]:
        answer: NDArray[np.bool_] = next(columns) < probability
        return answer

    def within(bounds: Bounds) -> _Floats:
        value: _Floats = bounds[0] + (bounds[1] - bounds[0]) * next(columns)
        return value

    blur, sinc = happens(settings.blur), happens(settings.sinc)
    sigma = np.stack([within(settings.sigma), within(settings.sigma)], axis=1)
    sigma[:, 1] = np.where(happens(settings.anisotropic), sigma[:, 1], sigma[:, 0])
    noise, sharpen, ring = (happens(p) for p in (settings.noise, settings.sharpen, settings.ring))
    poisson = noise & happens(settings.poisson)
    compress = happens(settings.jpeg)
    low, high = settings.quality
    return Drawn(
        sigma=sigma * (blur & ~sinc)[:, None],
        angle=within((0.0, math.pi)),
        beta=np.where(happens(settings.generalised), within(settings.beta), 1.0),
        cutoff=within((math.pi / 3, math.pi)) * (blur & sinc),
        lens=within(settings.lens),
        kernel=within((0, len(settings.kernels))).astype(np.int64),
        gaussian=within(settings.gaussian) / 255 * noise,
        photon=10 ** -within(settings.peak) * poisson,
        grey=happens(settings.grey),
        place=within((0.0, 1.0)),
        amount=within(settings.amount) * sharpen,
        ring=within((math.pi / 3, math.pi)) * (ring & ~sharpen),
        quality=within((low, high + 1)).astype(np.int64) * compress,
        halved=happens(settings.halved),
    )


@lru_cache(maxsize=1024)
def _resize_matrix(length: int, length_out: int, kernel: Kernel, device: torch.device) -> Tensor:
    """Return the resize of one axis as a float32 matrix (length_out, length)."""
    if kernel == "area" and length_out < length:  # the share of each sample that a sample covers
        edge = torch.arange(length_out + 1, dtype=torch.float64) * (length / length_out)
        x = torch.arange(length, dtype=torch.float64)
        covered = torch.minimum(edge[1:, None], x + 1) - torch.maximum(edge[:-1, None], x)
        return (covered.clamp(min=0) * (length_out / length)).float().to(device)
    identity, size = torch.eye(length)[None, None], (length_out, length)
    if kernel == "cubic":
        matrix = imresize(identity, size=size)
    elif kernel == "aliased":  # Keys' cubic with a = -0.75 that is not widened, as OpenCV's
        matrix = F.interpolate(identity, size=size, mode="bicubic")
    else:
        matrix = F.interpolate(identity, size=size, mode="bilinear", antialias=True)
    return matrix[0, 0].to(device)


def _lens_matrices(length: int, sigma: Tensor) -> Tensor:
    """Gaussian blur of one axis (B, length, length) by ``sigma`` (B,) pixels; rows sum to one."""
    x = torch.arange(length, device=sigma.device)
    profile = torch.exp(-0.5 * (x / sigma.clamp(min=0.05)[:, None]) ** 2)  # (B, length)
    weights = profile[:, (x - x[:, None]).abs()]  # (B, length, length)
    return weights / weights.sum(dim=2, keepdim=True)


def _resize(
    x: Tensor, size: tuple[int, int], *, drawn: Drawn, kernels: Sequence[Kernel], shrink: float
) -> Tensor:
    """Images (B, 3, H, W) resized to ``size``, each by its own kernel and lens."""
    matrices = []
    for length, length_out in zip(x.shape[-2:], size, strict=True):
        matrix = torch.stack(
            [_resize_matrix(length, length_out, kernels[k], x.device) for k in drawn.kernel]
        )
        if drawn.lens.any():
            sigma = torch.from_numpy(drawn.lens * shrink).to(x)
            matrix = matrix @ _lens_matrices(length, sigma)
        matrices.append(matrix[:, None])  # (B, 1, length_out, length)
    return matrices[0] @ x @ matrices[1].mT


@lru_cache(maxsize=4)
def _normals(device: torch.device) -> Tensor:
    values = np.random.Generator(np.random.Philox(key=0)).standard_normal(_NORMALS, np.float32)
    return torch.from_numpy(values).to(device)


def _noise(x: Tensor, rows: list[int], *, drawn: Drawn, grey: bool) -> Tensor:
    """Images ``x`` (n, 3, H, W), the patches ``rows`` of ``drawn``, with noise.

    The standard deviation is sqrt(gaussian^2 + photon x): Poisson noise, of 100 counts and more at
    white, is taken as normal. Grey noise is one field, of the variance at the channels' mean.
    """
    channels = 1 if grey else 3
    count = channels * x.shape[-2] * x.shape[-1]
    if count > _NORMALS:
        raise InputError(f"Noise is made for patches of up to {_NORMALS // 3} pixels.")
    normals = _normals(x.device)
    places = (drawn.place[rows] * (_NORMALS - count)).astype(np.int64).tolist()
    field = torch.stack([normals[p : p + count] for p in places])
    field = field.view(len(rows), channels, *x.shape[-2:])
    gaussian, photon = (
        torch.from_numpy(v[rows]).to(x)[:, None, None, None] for v in (drawn.gaussian, drawn.photon)
    )
    signal = x.mean(dim=1, keepdim=True) if grey else x
    return torch.addcmul(x, (signal * photon).add_(gaussian**2).sqrt_(), field).clamp_(0, 1)


def _apply(
    x: Tensor, where: NDArray[np.bool_], change: Callable[[Tensor, list[int]], Tensor]
) -> Tensor:
    """``x`` with the patches of ``where`` replaced by ``change(patches, their rows)``."""
    rows = np.flatnonzero(where).tolist()
    if not rows:
        return x
    if len(rows) == len(x):
        return change(x, rows)
    x = x.clone()
    x[rows] = change(x[rows], rows)
    return x


def _rings_or(kernels: Tensor, cutoff: _Floats) -> Tensor:
    """The ``kernels`` (n, k, k), or sinc kernels of the ``cutoff`` (n,) where that is not zero."""
    rings = sinc_kernels(np.where(cutoff > 0, cutoff, math.pi), radius=kernels.shape[-1] // 2)
    return torch.where(torch.from_numpy(cutoff > 0)[:, None, None], rings, kernels)


def _blur(x: Tensor, rows: list[int], *, drawn: Drawn, largest: float, shrink: float) -> Tensor:
    """Images blurred by Gaussian kernels of ``sigma`` up to ``largest``, or by sinc kernels."""
    radius = min(max(_RADIUS, math.ceil(3 * shrink * largest)), min(x.shape[-2:]) - 1)
    kernels = gaussian_kernels(
        sigma=drawn.sigma[rows] * shrink,
        angle=drawn.angle[rows],
        beta=drawn.beta[rows],
        radius=radius,
    )
    return filter_each(x, _rings_or(kernels, drawn.cutoff[rows]))


def _finish(x: Tensor, rows: list[int], *, drawn: Drawn) -> Tensor:
    """Images sharpened as cameras do, x + amount (x - G x) with G of 1 pixel, or made to ring."""
    radius, one = min(_RADIUS, min(x.shape[-2:]) - 1), np.ones((1, 2))
    smooth = gaussian_kernels(sigma=one, angle=one[:, 0], beta=one[:, 0], radius=radius)
    amount = torch.from_numpy(drawn.amount[rows])[:, None, None]
    kernels = -amount * smooth
    kernels[:, radius, radius] += 1 + amount[:, 0, 0]
    return filter_each(x, _rings_or(kernels, drawn.ring[rows])).clamp_(0, 1)


def _compress(x: Tensor, rows: list[int], *, drawn: Drawn) -> Tensor:
    kinds: list[Subsampling] = ["4:2:0" if half else "4:4:4" for half in drawn.halved[rows]]
    return jpeg(x, quality=drawn.quality[rows].tolist(), subsampling=kinds)


def _one_round(
    x: Tensor, size: tuple[int, int], *, settings: DegradationRound, drawn: Drawn, shrink: float
) -> Tensor:
    blur = partial(_blur, drawn=drawn, largest=settings.sigma[1], shrink=shrink)
    x = _apply(x, (drawn.sigma[:, 0] > 0) | (drawn.cutoff > 0), blur)
    x = _resize(x, size, drawn=drawn, kernels=settings.kernels, shrink=shrink).clamp_(0, 1)
    noisy = (drawn.gaussian > 0) | (drawn.photon > 0)
    for grey in (False, True):
        x = _apply(x, noisy & (drawn.grey == grey), partial(_noise, drawn=drawn, grey=grey))
    x = _apply(x, (drawn.amount > 0) | (drawn.ring > 0), partial(_finish, drawn=drawn))
    return _apply(x, drawn.quality > 0, partial(_compress, drawn=drawn))


def _groups(first: int, count: int, group: int) -> Iterator[tuple[int, int]]:
    start = first
    while start < first + count:
        stop = min((start // group + 1) * group, first + count)
        yield start, stop
        start = stop


def _sizes(hr: Tensor, *, scale: int, settings: Degradations, **key: int) -> list[tuple[int, int]]:
    """Height and width after each round, for the group of patches that ``key`` names."""
    low, high = settings.middle
    sizes = []
    for number in range(len(settings.rounds) - 1):
        share = float(_uniform(**key, count=1, purpose=_SIZES + number)[0, 0])
        factor = low ** (1 - share) * high**share
        sizes.append((round(hr.shape[-2] * factor), round(hr.shape[-1] * factor)))
    return [*sizes, (hr.shape[-2] // scale, hr.shape[-1] // scale)]


def degrade(
    hr: Tensor, *, scale: int, seed: int, step: int, first_index: int, settings: Degradations
) -> Tensor:
    """LR patches (B, 3, H / scale, W / scale) on the grid of 1/255, made of ``hr`` (B, 3, H, W).

    ``hr`` is floating point in [0, 1] on any device; the result has its dtype and device. It is a
    function of ``hr``, ``settings`` and, for the patch at row i of the batch, of (``seed``,
    ``step``, ``first_index`` + i). No gradient passes. Raises InputError: other shapes or values.
    """
    if hr.ndim != 4 or hr.shape[1] != 3 or not hr.is_floating_point():
        raise InputError(
            f"degrade was given a tensor {tuple(hr.shape)} of {hr.dtype}; it needs RGB patches "
            "(B, 3, H, W) of floating point in [0, 1]."
        )
    height, width = hr.shape[-2:]
    if height % scale or width % scale or min(height, width) < 8 * scale:
        raise InputError(
            f"Patches of {height}x{width} pixels cannot be made smaller by {scale}: each side must "
            f"be a multiple of {scale} and at least {8 * scale}."
        )
    parts = []
    with torch.no_grad(), torch.autocast(hr.device.type, enabled=False):
        for start, stop in _groups(first_index, len(hr), settings.group):
            x = original = hr[start - first_index : stop - first_index].float()
            group = start // settings.group
            sizes = _sizes(hr, scale=scale, settings=settings, seed=seed, step=step, first=group)
            draw = {"seed": seed, "step": step, "first": start, "count": stop - start}
            for number, (one, size) in enumerate(zip(settings.rounds, sizes, strict=True)):
                drawn = draw_round(one, number=number, **draw)
                shrink = max(x.shape[-2] * scale / height, 1.0)  # pixels here per LR pixel
                x = _one_round(x, size, settings=one, drawn=drawn, shrink=shrink)
            clean = _uniform(**draw, purpose=_CLEAN)[:, 0] < settings.clean
            plain = partial(_plain, original=original, scale=scale)
            parts.append(round_uint8(_apply(x, clean, plain)).to(hr.dtype))
    return torch.cat(parts)


def _plain(_: Tensor, rows: list[int], *, original: Tensor, scale: int) -> Tensor:
    return imresize(original[rows], scale=1 / scale)
