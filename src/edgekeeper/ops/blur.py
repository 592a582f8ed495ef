"""Blur kernels of the degradation models, and the convolution of each image with its own."""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.ops.check import check_images

_Floats = NDArray[np.float64]


def gaussian_kernels(*, sigma: _Floats, angle: _Floats, beta: _Floats, radius: int) -> Tensor:
    """Kernels (B, 2 radius + 1, 2 radius + 1) in float64 that sum to one; ``sigma`` in pixels.

    k(d) = exp(-(d' S^-1 d)^beta / 2), S = R diag(sigma^2) R' with R the rotation by ``angle``:
    the Gaussian for beta = 1, flatter inside above, heavier tails below (Real-ESRGAN, section 3.1).
    """
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    turn = angle[:, None, None]
    first = np.cos(turn) * x + np.sin(turn) * x[:, None]  # (B, k, k) along each axis of the kernel
    second = np.cos(turn) * x[:, None] - np.sin(turn) * x
    wide, high = np.maximum(sigma, 0.05).T[:, :, None, None]  # narrower is a single sample
    kernels = np.exp(-0.5 * ((first / wide) ** 2 + (second / high) ** 2) ** beta[:, None, None])
    return torch.from_numpy(kernels / kernels.sum(axis=(1, 2), keepdims=True))


def sinc_kernels(cutoff: _Floats, *, radius: int) -> Tensor:
    """Kernels (B, 2 radius + 1, 2 radius + 1) in float64 that sum to one, of ``cutoff`` in (0, pi].

    k(r) = w / (2 pi r) J1(w r), the ideal circular low-pass (Real-ESRGAN, equation 6).
    """
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    r = (x**2 + x[:, None] ** 2).sqrt().clamp(min=1e-6)  # J1(t) / t is 1/2 at 0
    w = torch.from_numpy(cutoff)[:, None, None]
    kernels: Tensor = w / (2 * math.pi * r) * torch.special.bessel_j1(w * r)
    return kernels.div_(kernels.sum(dim=(1, 2), keepdim=True))


def _fast_length(length: int) -> int:
    """Return the next number from ``length`` on that has no prime factor above 5."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def filter_each(x: Tensor, kernels: Tensor) -> Tensor:
    """Images (B, C, H, W), each convolved with its own of ``kernels`` (B, k, k), mirrored."""
    check_images(x)
    check_images(kernels, name="kernels", axes="B, k, k")
    height, width = x.shape[-2:]
    radius = kernels.shape[-1] // 2
    x = F.pad(x, (radius,) * 4, mode="reflect")
    size = (_fast_length(x.shape[-2]), _fast_length(x.shape[-1]))
    spectrum = torch.fft.rfft2(kernels.to(x), s=size)[:, None]  # (B, 1, H', W' / 2 + 1)
    y: Tensor = torch.fft.irfft2(torch.fft.rfft2(x, s=size).mul_(spectrum), s=size)
    return y[..., 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]
