"""Blur kernels and the convolution of each image with its own."""

import math

import numpy as np
import pytest
import torch

from edgekeeper.ops.blur import filter_each, gaussian_kernels, sinc_kernels


def test_kernels_sum_to_one_and_have_the_width_they_say() -> None:
    generator = np.random.default_rng(0)
    sigma = generator.uniform(0.1, 3, (20, 2))
    angle, beta = generator.uniform(0, 3, 20), generator.uniform(0.5, 4, 20)
    kernels = gaussian_kernels(sigma=sigma, angle=angle, beta=beta, radius=10)
    rings = sinc_kernels(generator.uniform(1, math.pi, 20), radius=10)
    for each in (kernels, rings):
        assert torch.allclose(each.sum(dim=(1, 2)), torch.ones(20, dtype=torch.float64))
        assert torch.allclose(each, each.flip(1, 2))
    # A Gaussian's covariance is R diag(sigma^2) R'.
    turn = 0.6
    (kernel,) = gaussian_kernels(
        sigma=np.array([[3.0, 1.5]]), angle=np.array([turn]), beta=np.ones(1), radius=20
    )
    x = torch.arange(-20, 21, dtype=torch.float64)
    xx, yy = (kernel * x**2).sum().item(), (kernel * x[:, None] ** 2).sum().item()
    xy = (kernel * x * x[:, None]).sum().item()
    cos, sin = math.cos(turn), math.sin(turn)
    assert xx == pytest.approx(9 * cos**2 + 2.25 * sin**2, rel=1e-3)
    assert yy == pytest.approx(9 * sin**2 + 2.25 * cos**2, rel=1e-3)
    assert xy == pytest.approx((9 - 2.25) * cos * sin, rel=1e-3)


def test_each_image_is_convolved_with_its_own_kernel() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(3, 3, 30, 41, generator=generator)
    kernels = torch.rand(3, 7, 7, generator=generator)
    kernels = (kernels + kernels.flip(1, 2)) / 50
    padded = torch.nn.functional.pad(x, (3, 3, 3, 3), mode="reflect")
    for i in range(3):
        weight = kernels[i].expand(3, 1, 7, 7)
        expected = torch.nn.functional.conv2d(padded[i : i + 1], weight, groups=3)
        assert torch.allclose(filter_each(x, kernels)[i : i + 1], expected, atol=1e-5)
