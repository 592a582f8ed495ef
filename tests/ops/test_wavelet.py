import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.ops.wavelet import SYM7, wavelet_bands

LOW = np.array(SYM7)
HIGH = LOW[::-1] * np.array([-1, 1] * 7)


def image(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def test_the_filters_are_orthonormal_to_their_even_shifts():
    for shift in range(0, 14, 2):
        kept = 14 - shift
        assert LOW[shift:] @ LOW[:kept] == pytest.approx(float(shift == 0), abs=1e-11)
        assert HIGH[shift:] @ HIGH[:kept] == pytest.approx(float(shift == 0), abs=1e-11)
        assert LOW[shift:] @ HIGH[:kept] == pytest.approx(0, abs=1e-11)
        assert HIGH[shift:] @ LOW[:kept] == pytest.approx(0, abs=1e-11)


def test_the_high_pass_takes_polynomials_of_degree_six_away():
    assert LOW.sum() == pytest.approx(np.sqrt(2), abs=1e-12)
    place = np.arange(14) - 6.5
    for power in range(7):
        assert (HIGH * place**power).sum() == pytest.approx(0, abs=1e-10 * 7.0**power)
    assert abs((HIGH * place**7).sum()) > 1


def test_pywavelets_has_the_same_filter_and_bands():
    np.testing.assert_allclose(pywt.Wavelet("sym7").dec_lo, LOW, rtol=0, atol=1e-12)
    x = image(1, 1, 16, 20)
    ((smooth, details),) = pywt.swt2(x[0, 0].numpy(), "sym7", level=1)
    for expected, found in zip((smooth, *details), wavelet_bands(x), strict=True):
        np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=1e-12)


def test_odd_sizes_by_loops():
    x = image(1, 1, 15, 17)
    taps = {"l": LOW, "h": HIGH}
    rows, columns = np.arange(15), np.arange(17)
    for name, found in wavelet_bands(x)._asdict().items():
        across, down = (taps[letter] for letter in name)
        expected = np.zeros((15, 17))
        for i, j in np.ndindex(14, 14):
            moved = x[0, 0].numpy()[np.ix_((rows + 7 - i) % 15, (columns + 7 - j) % 17)]
            expected += down[i] * across[j] * moved
        np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=1e-12)


def test_properties():
    x = image(2, 3, 16, 18)
    bands = wavelet_bands(x)
    assert all(band.shape == x.shape for band in bands)
    energy = sum(band.square().sum() for band in bands)
    torch.testing.assert_close(energy, 4 * x.square().sum(), rtol=1e-10, atol=0)
    moved = wavelet_bands(x.roll((3, 5), (2, 3)))
    for one, other in zip(bands, moved, strict=True):
        torch.testing.assert_close(one.roll((3, 5), (2, 3)), other)
    turned = wavelet_bands(x.mT)
    torch.testing.assert_close(turned.lh, bands.hl.mT)
    flat = wavelet_bands(torch.full((1, 1, 14, 14), 0.5, dtype=torch.float64))
    torch.testing.assert_close(flat.ll, torch.ones_like(flat.ll))
    assert max(band.abs().max() for band in flat[1:]) < 1e-11
    single = wavelet_bands(x.float())
    assert single.ll.dtype == torch.float32
    torch.testing.assert_close(single.hh.double(), bands.hh, rtol=0, atol=1e-6)


def test_derivatives():
    x = image(1, 1, 14, 15).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: tuple(wavelet_bands(t)), (x,))


@pytest.mark.parametrize(
    "x", [torch.zeros(14, 14), torch.zeros(1, 1, 13, 20), torch.zeros(1, 1, 14, 14).half()]
)
def test_errors(x):
    with pytest.raises(InputError, match=r"14 × 14|floats \(B, C, H, W"):
        wavelet_bands(x)
