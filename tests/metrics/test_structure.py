import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from scipy.signal import convolve2d
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.metrics import PROTOCOLS, compare_variances, gmsd, gradient_psnr, gv_gap, gv_ratio
from edgekeeper.metrics.structure import variances_by_region

PLAIN = replace(PROTOCOLS["gv_repo"], name="plain")  # no border, no rounding


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    hr = torch.rand(*shape, dtype=torch.float64, generator=generator)
    sr = hr + 0.1 * torch.randn(shape, dtype=torch.float64, generator=generator)
    return sr, hr


def grey(image: Tensor) -> np.ndarray:
    return np.tensordot((0.2989, 0.5870, 0.1140), image.numpy(), axes=1)


def variances(image: Tensor, kernel: np.ndarray, patch: int) -> np.ndarray:
    """Patch variances by loops over patches of the valid part of a scipy convolution."""
    edges = convolve(grey(image), kernel, mode="constant")[1:-1, 1:-1]
    rows, columns = (side // patch for side in edges.shape)
    return np.array(
        [
            edges[i * patch : (i + 1) * patch, j * patch : (j + 1) * patch].var(ddof=1)
            for i in range(rows)
            for j in range(columns)
        ]
    )


@pytest.mark.parametrize(("patch", "border"), [(8, 0), (8, 3), (5, 0)])
def test_gradient_variance_against_loops(patch: int, border: int) -> None:
    sr, hr = pair(2, 3, 37, 45)
    protocol = replace(PLAIN, border=border)
    kernel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    found = compare_variances(sr, hr, patch=patch, protocol=protocol)
    inner = (..., slice(border, 37 - border), slice(border, 45 - border))
    for k in range(2):
        for direction, operator in (("x", kernel), ("y", kernel.T)):
            ours, theirs = (variances(p[k][inner], operator, patch) for p in (sr, hr))
            ratio, gap = getattr(found, f"ratio_{direction}"), getattr(found, f"gap_{direction}")
            assert ratio[k].item() == pytest.approx(ours.mean() / theirs.mean(), rel=1e-10)
            assert gap[k].item() == pytest.approx(
                np.abs(ours - theirs).mean() / theirs.mean(), rel=1e-10
            )
    whole = compare_variances(sr, hr, protocol=protocol)
    ratio = (whole.ratio_x + whole.ratio_y) / 2
    torch.testing.assert_close(gv_ratio(sr, hr, protocol=protocol), ratio)
    torch.testing.assert_close(gv_gap(sr, hr, protocol=protocol), (whole.gap_x + whole.gap_y) / 2)


def test_variances_by_region_against_loops() -> None:
    """A flat part, an edge, and noise, each of which some patches lie in altogether."""
    kernel, generator = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]), torch.Generator()
    hr = torch.full((1, 3, 34, 50), 0.5, dtype=torch.float64)
    hr[..., 20:34] = 0.9
    hr[..., 34:] = torch.rand(34, 16, dtype=torch.float64, generator=generator)
    sr = hr * 0.8 + 0.1
    expected = np.zeros((3, 3))
    maps = [
        [convolve(grey(x[0]), k, mode="constant") for k in (kernel, kernel.T)] for x in (sr, hr)
    ]
    for i in range(4):
        for j in range(6):
            cut = [[m[1 + 8 * i : 9 + 8 * i, 1 + 8 * j : 9 + 8 * j] for m in of] for of in maps]
            ours, theirs = (sum(m.var(ddof=1) for m in of) for of in cut)
            x, y = cut[1]
            tensor = np.array([[(x * x).sum(), (x * y).sum()], [(x * y).sum(), (y * y).sum()]])
            low, high = np.linalg.eigvalsh(tensor)
            coherent = high - low >= 0.5 * (high + low)
            region = 2 if np.trace(tensor) / 64 < (4 / 255) ** 2 else 0 if coherent else 1
            expected[region] += (ours, theirs, abs(ours - theirs))
    found = variances_by_region(sr, hr)
    assert (expected[:2] > 0).all()
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-9, atol=1e-20)
    assert not variances_by_region(sr[..., :9, :], hr[..., :9, :]).any()


def test_halved_contrast_quarters_the_variance() -> None:
    _, hr = pair(1, 3, 34, 34)
    assert gv_ratio(0.5 * hr, hr, protocol=PLAIN).item() == pytest.approx(0.25)
    assert gv_gap(0.5 * hr, hr, protocol=PLAIN).item() == pytest.approx(0.75)


def test_flat_images() -> None:
    flat = torch.full((1, 3, 24, 24), 0.5)
    sr = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    assert gv_ratio(flat, flat, scale=2).item() == 1
    assert gv_gap(flat, flat, scale=2).item() == 0
    assert gv_ratio(sr, flat, scale=2).item() == math.inf
    assert gv_gap(sr, flat, scale=2).item() == math.inf
    assert gv_ratio(flat, sr, scale=2).item() == 0
    with pytest.raises(InputError, match=r"No patch of 8x8 .* 8x8"):
        gv_ratio(flat, flat, scale=8)


def test_gradient_psnr_against_numpy() -> None:
    sr, hr = pair(1, 3, 20, 23)

    def lengths(image: Tensor) -> np.ndarray:
        p = image[0].numpy()
        x, y = p[:, 1:-1, 2:] - p[:, 1:-1, :-2], p[:, 2:, 1:-1] - p[:, :-2, 1:-1]
        return np.sqrt(x * x + y * y + 1e-6)

    expected = -10 * np.log10(((lengths(sr) - lengths(hr)) ** 2).mean())
    assert gradient_psnr(sr, hr, protocol=PLAIN).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("size", [(40, 52), (41, 53)])
def test_gmsd_against_the_paper_in_scipy(size: tuple[int, int]) -> None:
    sr, hr = pair(1, 3, *size)

    def lengths(image: Tensor) -> np.ndarray:
        # MATLAB's conv2(x, ones(2) / 4, 'same') leaves out the first row and column of "full".
        mean = convolve2d(255 * grey(image[0]), np.full((2, 2), 0.25), mode="full")[1:, 1:]
        kernel = np.array([[1, 0, -1]] * 3) / 3
        small = mean[::2, ::2]
        return np.hypot(
            convolve(small, kernel, mode="constant"), convolve(small, kernel.T, mode="constant")
        )

    a, b = lengths(sr), lengths(hr)
    expected = ((2 * a * b + 170) / (a**2 + b**2 + 170)).std()
    assert gmsd(sr, hr, protocol=PLAIN).item() == pytest.approx(expected, abs=1e-10)


def test_equal_images_and_batches() -> None:
    sr, hr = pair(3, 3, 40, 44)
    sr[1] = hr[1]
    for metric, best in ((gv_ratio, 1), (gv_gap, 0), (gradient_psnr, math.inf), (gmsd, 0)):
        together = metric(sr, hr, scale=2)
        assert together.shape == (3,)
        assert together.dtype == torch.float64
        assert together[1].item() == pytest.approx(best, abs=1e-12)
        alone = [metric(sr[k : k + 1], hr[k : k + 1], scale=2) for k in range(3)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)
        turned = metric(sr.transpose(-1, -2), hr.transpose(-1, -2), scale=2)
        torch.testing.assert_close(together, turned, rtol=1e-9, atol=1e-12)


def test_rounding_follows_the_protocol() -> None:
    _, hr = pair(1, 3, 30, 30)
    sr = hr + 0.1 / 255
    rounded = hr.mul(255).round() / 255
    assert gradient_psnr(sr, rounded, protocol="gv_repo").item() < math.inf
    assert gradient_psnr(rounded + 0.1 / 255, rounded, protocol="rgb_matlab", scale=2).isinf()
