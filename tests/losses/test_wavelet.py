"""The wavelet loss against loops over bands, and its properties."""

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.losses import Wavelet
from edgekeeper.ops.color import rgb_to_y


def pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sr, hr = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    return sr, hr


def test_the_definition_with_pywavelets() -> None:
    sr, hr = pair(2, 3, 16, 20)
    total = 0.0
    for ours, theirs in zip(sr.numpy(), hr.numpy(), strict=True):
        bands = []
        for red, green, blue in (ours, theirs):
            luma = (16 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255
            ((smooth, details),) = pywt.swt2(luma, "sym7", level=1)
            bands.append((smooth, *details))
        for weight, a, b in zip((0.1, 0.01, 0.01, 0.05), *bands, strict=True):
            total += weight * np.abs(a - b).mean() / 2
    assert Wavelet()(sr, hr).item() == pytest.approx(total, rel=1e-12)


def test_a_constant_by_hand() -> None:
    hr = torch.zeros(1, 1, 14, 15, dtype=torch.float64)
    assert Wavelet()(hr + 0.3, hr).item() == pytest.approx(0.1 * 2 * 0.3)


@pytest.mark.parametrize("band", ["ll", "lh", "hl", "hh"])
def test_each_band_has_its_weight(band: str) -> None:
    sr, hr = pair(1, 3, 16, 16)
    none = {"ll": 0.0, "lh": 0.0, "hl": 0.0, "hh": 0.0}
    alone = Wavelet(**{**none, band: 1.0})(sr, hr)
    doubled = Wavelet(**{**none, band: 2.0})(sr, hr)
    torch.testing.assert_close(doubled, 2 * alone)
    default = {"ll": 0.1, "lh": 0.01, "hl": 0.01, "hh": 0.05}
    without = Wavelet(**{**default, band: 0.0})(sr, hr)
    torch.testing.assert_close(without + default[band] * alone, Wavelet()(sr, hr))


def test_lh_has_the_horizontal_edges() -> None:
    hr = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    sr = hr.clone()
    sr[..., 16:, :] = 1
    assert Wavelet(ll=0, lh=1, hl=0, hh=0)(sr, hr) > 0.1
    assert Wavelet(ll=0, lh=0, hl=1, hh=1)(sr, hr) < 1e-10


def test_derivatives() -> None:
    sr, hr = (x.requires_grad_() for x in pair(1, 3, 14, 15))
    assert torch.autograd.gradcheck(Wavelet(), (sr, hr))


def test_properties() -> None:
    sr, hr = pair(3, 3, 17, 18)
    loss = Wavelet()
    value = loss(sr, hr)
    assert loss(sr, sr).item() == 0
    torch.testing.assert_close(loss(hr, sr), value)
    torch.testing.assert_close(loss(sr.mT, hr.mT), value)
    torch.testing.assert_close(loss(rgb_to_y(sr), rgb_to_y(hr)), value)
    each = [loss(a[None], b[None]) for a, b in zip(sr, hr, strict=True)]
    torch.testing.assert_close(torch.stack(each).mean(), value)
    assert loss(sr.float(), hr.float()).item() == pytest.approx(value.item(), rel=1e-5)
    half = loss(sr.bfloat16(), hr.bfloat16())
    assert half.dtype == torch.float32
    assert "lh=0.01" in repr(loss)


def test_errors() -> None:
    x = torch.zeros(1, 3, 14, 14)
    for weight in (-0.1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="from 0 on"):
            Wavelet(hh=weight)
    with pytest.raises(InputError, match="2 channels"):
        Wavelet()(x[:, :2], x[:, :2])
    with pytest.raises(InputError, match="14 × 14"):
        Wavelet()(x[..., :13], x[..., :13])
    with pytest.raises(InputError, match="equal"):
        Wavelet()(x, x[..., :13])
