"""The focal frequency loss against a transform written as sums, and its properties."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.losses import L2, FocalFrequency


def pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sr, hr = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    return sr, hr


def spectrum(x: NDArray[np.float64]) -> NDArray[np.complex128]:
    """The orthonormal transform of (H, W), frequency by frequency from its definition."""
    height, width = x.shape
    m, n = np.mgrid[:height, :width]
    found = np.empty((height, width), dtype=np.complex128)
    for u, v in np.ndindex(height, width):
        found[u, v] = (x * np.exp(-2j * np.pi * (u * m / height + v * n / width))).sum()
    return found / np.sqrt(height * width)


def oracle(sr: Tensor, hr: Tensor, *, alpha: float) -> float:
    terms = []
    for ours, theirs in zip(sr.flatten(0, 1).numpy(), hr.flatten(0, 1).numpy(), strict=True):
        distance = np.abs(spectrum(ours) - spectrum(theirs))
        weight = distance**alpha / (distance**alpha).max()
        terms.append((weight * distance**2).mean())
    return float(np.mean(terms))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (1, 1, 4, 4)])
def test_the_definition(alpha: float, shape: tuple[int, ...]) -> None:
    sr, hr = pair(*shape)
    found = FocalFrequency(alpha=alpha)(sr, hr).item()
    assert found == pytest.approx(oracle(sr, hr, alpha=alpha), rel=1e-12)


def test_by_hand() -> None:
    # Differences 1, 0 / 0, 0 have |F| = 1/2 everywhere: w = 1, the loss 1/4.
    # Differences 2, 0 / 2, 0 have F = 2, 2 / 0, 0: the loss (4 + 4) / 4.
    hr = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    point, column = hr.clone(), hr.clone()
    point[..., 0, 0] = 1
    column[..., :, 0] = 2
    assert FocalFrequency()(point, hr).item() == pytest.approx(0.25)
    assert FocalFrequency()(column, hr).item() == pytest.approx(2.0)
    # their sum: 3, 0 / 2, 0 have |F| = 5/2, 5/2 / 1/2, 1/2, so w = 1, 1 / 1/5, 1/5
    both = FocalFrequency()(point + column, hr).item()
    assert both == pytest.approx((2 * 6.25 + 2 * 0.25 / 5) / 4)


def test_with_alpha_0_it_is_the_mean_square() -> None:
    sr, hr = pair(2, 3, 7, 10)
    torch.testing.assert_close(FocalFrequency(alpha=0)(sr, hr), L2()(sr, hr))


def test_equal_images_give_zero_and_no_derivative() -> None:
    sr, _ = pair(2, 3, 6, 6)
    sr.requires_grad_()
    loss = FocalFrequency()(sr, sr.detach().clone())
    loss.backward()
    assert loss.item() == 0
    assert sr.grad is not None
    assert (sr.grad == 0).all()


def test_the_derivative_holds_the_weights_constant() -> None:
    # No gradcheck but for alpha 0: differences of the value would see the weights move.
    sr, hr = (x.requires_grad_() for x in pair(1, 2, 5, 6))
    assert torch.autograd.gradcheck(FocalFrequency(alpha=0), (sr, hr))
    (found,) = torch.autograd.grad(FocalFrequency()(sr, hr), sr)
    distance = (torch.fft.fft2(sr - hr, norm="ortho")).abs().detach()
    weight = distance / distance.amax(dim=(2, 3), keepdim=True)
    constant = (weight * torch.fft.fft2(sr - hr, norm="ortho").abs() ** 2).mean()
    (expected,) = torch.autograd.grad(constant, sr)
    torch.testing.assert_close(found, expected)


def test_properties() -> None:
    sr, hr = pair(3, 2, 8, 6)
    loss = FocalFrequency()
    value = loss(sr, hr)
    torch.testing.assert_close(loss(hr, sr), value)
    torch.testing.assert_close(loss(sr.mT, hr.mT), value)
    torch.testing.assert_close(loss(sr.roll((2, 3), (2, 3)), hr.roll((2, 3), (2, 3))), value)
    torch.testing.assert_close(loss(3 * sr, 3 * hr), 9 * value)
    each = [loss(a[None], b[None]) for a, b in zip(sr, hr, strict=True)]
    torch.testing.assert_close(torch.stack(each).mean(), value)
    half = loss(sr.half(), hr.half())
    assert half.dtype == torch.float32
    assert half == loss(sr.half().float(), hr.half().float())


def test_errors() -> None:
    for alpha in (-1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="alpha"):
            FocalFrequency(alpha=alpha)
    with pytest.raises(InputError, match="equal"):
        FocalFrequency()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5))
