"""FSIM: similarity of two images in phase congruency and gradient, weighted by the former.

L. Zhang, L. Zhang, Mou, D. Zhang, "FSIM: A Feature Similarity Index for Image Quality Assessment",
IEEE Transactions on Image Processing 20 (8), 2011. Phase congruency is Kovesi's, "Image Features
from Phase Congruency", Videre 1 (3), 1999, with the paper's filters: 4 scales, 4 orientations. No
weights are learned. It is not differentiated: its noise threshold is a median.
"""

import math

import torch
from torch import Tensor, fft
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.metrics.protocol import find_protocol, images

SMALLEST_FSIM = 16  # pixels a side

_SCALES, _ORIENTATIONS = 4, 4
_SHORTEST, _RATIO = 6.0, 2.0  # wavelength in pixels of the finest scale, and of one to the next
_BANDWIDTH = 0.55  # of the log-Gabor filters: sigma over centre frequency
_SPREAD = math.pi / _ORIENTATIONS / 1.2  # of the angle, in radians
_NOISE = 2.0  # deviations of the noise's energy above its mean that are cut off
_TINY = 1e-4
_T1, _T2, _T3 = 0.85, 160.0, 200.0  # constants of phase congruency, gradient and colour
_COLOUR = 0.03  # exponent of colour in FSIMc

# From R, G, B in 0..255 (section III-C).
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@torch.no_grad()
def fsim(sr: Tensor, hr: Tensor, *, colour: bool = False) -> Tensor:
    """Return the FSIM of each image, (B,) float64; 1 for equal images, higher is better.

    ``colour`` gives FSIMc. Both are clipped and rounded to the uint8 grid; nothing is cut off.
    Images whose smaller side is above 384 are shrunk first, as in the paper's code. sr, hr: RGB (B,
    3, H, W) in [0, 1], 16 pixels a side or more. Raises InputError.
    """
    pair = images(sr, hr, protocol=find_protocol("rgb_matlab"))
    if min(pair.sr.shape[-2:]) < SMALLEST_FSIM:
        raise InputError(f"FSIM needs {SMALLEST_FSIM} pixels a side; got {tuple(sr.shape[-2:])}.")
    matrix = torch.tensor(_YIQ, dtype=torch.float64, device=sr.device)
    factor = max(1, math.floor(min(sr.shape[-2:]) / 256 + 0.5))
    first, second = (
        _shrunk(torch.einsum("kc,bchw->bkhw", matrix, 255 * x.double()), factor)
        for x in (pair.sr, pair.hr)
    )  # (B, 3, h, w), Y, I, Q
    one, other = (phase_congruency(x[:, :1]) for x in (first, second))  # (B, 1, h, w)
    steep, flat = (_scharr(x[:, :1]) for x in (first, second))
    similarity = _alike(one, other, _T1) * _alike(steep, flat, _T2)  # eqs. 4 to 6
    if colour:
        chroma = _alike(first[:, 1:], second[:, 1:], _T3).prod(dim=1, keepdim=True)
        # A negative similarity has a complex power, of which the paper's code takes the real part.
        turn = torch.where(chroma < 0, math.cos(math.pi * _COLOUR), 1.0)
        similarity = similarity * chroma.abs() ** _COLOUR * turn  # eq. 8
    weight = torch.maximum(one, other)
    total = weight.sum(dim=(1, 2, 3))
    score = (similarity * weight).sum(dim=(1, 2, 3)) / total  # eq. 7
    # Without any phase congruency, flat images, only the similarity itself is left.
    return torch.where(total > 0, score, similarity.mean(dim=(1, 2, 3)))


def phase_congruency(grey: Tensor) -> Tensor:
    """Return the phase congruency in [0, 1] of grey images (B, 1, H, W) in 0..255, in float64."""
    height, width = grey.shape[-2:]
    filters = _filters(height, width, device=grey.device)  # (O, S, H, W)
    spectrum = fft.fft2(grey.double())[:, :, None]  # (B, 1, 1, H, W)
    energies, amplitudes = torch.zeros_like(grey).double(), torch.zeros_like(grey).double()
    for bank in filters:  # (S, H, W), one orientation
        response = fft.ifft2(spectrum * bank)[:, 0]  # (B, S, H, W), even + i odd
        even, odd = response.real, response.imag
        length = response.abs()
        sum_even, sum_odd = even.sum(1, keepdim=True), odd.sum(1, keepdim=True)
        size = torch.sqrt(sum_even.square() + sum_odd.square()) + _TINY
        mean_even, mean_odd = sum_even / size, sum_odd / size
        along = even * mean_even + odd * mean_odd
        across = (even * mean_odd - odd * mean_even).abs()
        energy = (along - across).sum(1, keepdim=True)
        energies += (energy - _threshold(length[:, 0], bank)).clamp_min(0)
        amplitudes += length.sum(1, keepdim=True)
    return torch.where(amplitudes > 0, energies / amplitudes, 0.0)


def _filters(height: int, width: int, *, device: torch.device) -> Tensor:
    """Return the log-Gabor filters (O, S, H, W) on the grid of the Fourier transform."""
    rows, columns = (
        (torch.arange(n, dtype=torch.float64, device=device) - n // 2) / (n - n % 2)
        for n in (height, width)
    )
    y, x = torch.meshgrid(fft.ifftshift(rows), fft.ifftshift(columns), indexing="ij")
    radius = torch.sqrt(x.square() + y.square())
    low_pass = 1 / (1 + (radius / 0.45) ** 30)  # cuts off the corners
    radius[0, 0] = 1
    angle = torch.atan2(-y, x)
    banks = []
    for number in range(_ORIENTATIONS):
        turned = angle - number * math.pi / _ORIENTATIONS
        away = torch.atan2(torch.sin(turned), torch.cos(turned)).abs()
        spread = torch.exp(-away.square() / (2 * _SPREAD**2))
        for scale in range(_SCALES):
            centre = 1 / (_SHORTEST * _RATIO**scale)
            radial = torch.exp(
                -torch.log(radius / centre).square() / (2 * math.log(_BANDWIDTH) ** 2)
            )
            radial = radial * low_pass
            radial[0, 0] = 0
            banks.append(radial * spread)
    return torch.stack(banks).view(_ORIENTATIONS, _SCALES, height, width)


def _threshold(finest: Tensor, bank: Tensor) -> Tensor:
    """Return the energy (B, 1, 1, 1) that noise alone reaches, told by the finest scale."""
    middle = _median(finest.square().flatten(1))  # of a chi-square distribution: tells the mean
    power = middle / math.log(2) / bank[0].square().sum()  # (B,)
    height, width = bank.shape[-2:]
    kernels = fft.ifft2(bank).real * math.sqrt(height * width)  # (S, H, W)
    squares = kernels.square().sum()
    products = (kernels.sum(0).square().sum() - squares) / 2  # of each pair of scales
    deviation = torch.sqrt((2 * power * squares + 4 * power * products).clamp_min(0) / 2)
    mean = deviation * math.sqrt(math.pi / 2)
    spread = deviation * math.sqrt(2 - math.pi / 2)
    return ((mean + _NOISE * spread) / 1.7).view(-1, 1, 1, 1)  # 1.7: Kovesi's rescaling


def _median(x: Tensor) -> Tensor:
    """Return the median of each row as MATLAB has it: of two middle ones their mean."""
    ordered, count = x.sort(dim=1).values, x.shape[1]
    return (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2


def _scharr(grey: Tensor) -> Tensor:
    kernel = torch.tensor([[3.0, 0, -3], [10, 0, -10], [3, 0, -3]], dtype=grey.dtype) / 16
    both = torch.stack([kernel, kernel.T])[:, None].to(grey.device)  # (2, 1, 3, 3)
    return torch.linalg.vector_norm(functional.conv2d(grey, both, padding=1), dim=1, keepdim=True)


def _alike(a: Tensor, b: Tensor, constant: float) -> Tensor:
    return (2 * a * b + constant) / (a.square() + b.square() + constant)


def _shrunk(x: Tensor, factor: int) -> Tensor:
    """Return every ``factor``-th pixel of the running mean, as conv2(..., 'same') has it."""
    if factor == 1:
        return x
    before = (factor - 1) // 2  # zeros above; conv2 'same' keeps from floor(factor / 2) on
    after = factor - 1 - before
    x = functional.pad(x, (before, after, before, after))
    return functional.avg_pool2d(x, factor, stride=1)[..., ::factor, ::factor]
