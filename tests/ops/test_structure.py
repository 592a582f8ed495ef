"""Patch variances and the SSIM map against independent implementations."""

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from skimage.metrics import structural_similarity

from edgekeeper.errors import InputError
from edgekeeper.ops import structure
from edgekeeper.ops.structure import gaussian_window, patch_variances, ssim_map


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Patch variances ----------------------------------------------------------------------------


def test_variances_worked_out_by_hand():
    x = torch.tensor([[0.0, 1, 5, 5, 9], [2, 3, 5, 5, 9], [9, 9, 9, 9, 9]])[None, None]
    # 0 1 2 3: mean 1.5, squares 2.25 + 0.25 + 0.25 + 2.25 = 5, over 3
    expected = torch.tensor([[[[5 / 3, 0]]]])
    torch.testing.assert_close(patch_variances(x, patch=2), expected)


@pytest.mark.parametrize("patch", [2, 3, 8])
def test_variances_equal_numpy(patch):
    x = noise(2, 3, 25, 18)
    ours = patch_variances(x, patch=patch)
    rows, columns = 25 // patch, 18 // patch
    assert ours.shape == (2, 3, rows, columns)
    for row in range(rows):
        for column in range(columns):
            top, left = row * patch, column * patch
            block = x[..., top : top + patch, left : left + patch].numpy()
            expected = block.var(axis=(-2, -1), ddof=1)
            np.testing.assert_allclose(ours[..., row, column], expected, rtol=1e-13)


def test_variances_keep_their_digits_far_from_zero():
    # E[x²] - E[x]² in float32 gives anything here.
    x = noise(1, 1, 16, 16)
    exact = patch_variances(x, patch=8)
    ours = patch_variances((x + 1000).float(), patch=8)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_variances_have_derivatives(size):
    x = noise(1, 2, *size).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: patch_variances(t, patch=4), x)
    assert torch.autograd.gradgradcheck(lambda t: patch_variances(t, patch=4), x)


def test_variances_do_not_see_an_offset_and_see_the_square_of_a_factor():
    x = noise(1, 1, 16, 16)
    variances = patch_variances(x, patch=4)
    torch.testing.assert_close(patch_variances(x + 3, patch=4), variances)
    torch.testing.assert_close(patch_variances(-3 * x, patch=4), 9 * variances)
    torch.testing.assert_close(patch_variances(x.mT, patch=4), variances.mT)


def test_variances_of_a_part_of_a_larger_tensor():
    x = noise(2, 3, 20, 20)
    part = x[:, 1:2, 3:19, 2:18]
    expected = patch_variances(part.contiguous(), patch=8)
    assert torch.equal(patch_variances(part, patch=8), expected)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((3, 8, 8), {"patch": 4}, "(B, C, H, W)"),
        ((1, 1, 8, 8), {"patch": 1}, "at least 2"),
        ((1, 1, 8, 8), {"patch": 9}, "no larger than the image"),
    ],
)
def test_variance_errors(shape, options, words):
    with pytest.raises(InputError) as raised:
        patch_variances(torch.zeros(shape), **options)
    assert words in str(raised.value)


# SSIM ---------------------------------------------------------------------------------------


def test_the_window():
    window = gaussian_window()
    assert window.dtype == torch.float64
    assert window.sum() == pytest.approx(1, abs=1e-15)
    # Wang's window has 0.0708 in the middle and 0.000001 in the corner.
    square = torch.outer(window, window)
    assert square[5, 5].item() == pytest.approx(0.07076223776394, abs=1e-12)
    assert square[0, 0].item() == pytest.approx(1.0576e-06, abs=1e-10)
    torch.testing.assert_close(gaussian_window(5, 0.8), gaussian_window(5, 0.8).flip(0))
    for wrong in ((4, 1.0), (0, 1.0), (5, 0.0)):
        with pytest.raises(InputError, match="must be odd"):
            gaussian_window(*wrong)


def pair(height, width, channels=1, dtype=torch.float64):
    x = noise(2, channels, height, width, seed=1, dtype=dtype)
    x = (x[..., :1] + x) / 2
    return x, (x + 0.2 * noise(2, channels, height, width, seed=2, dtype=dtype) - 0.1)


def by_scikit_image(x, y, *, data_range):
    # skimage pads its Gaussian symmetrically ("reflect" of scipy), and gives the whole map.
    return structural_similarity(
        x.numpy(),
        y.numpy(),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )[1]


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_equals_scikit_image(data_range):
    x, y = (data_range * image for image in pair(24, 31, channels=3))
    symmetric = ssim_map(x, y, data_range=data_range, border="symmetric")
    valid = ssim_map(x, y, data_range=data_range)
    assert symmetric.shape == x.shape
    assert valid.shape == (2, 3, 14, 21)
    for place in np.ndindex(2, 3):
        theirs = by_scikit_image(x[place], y[place], data_range=data_range)
        np.testing.assert_allclose(symmetric[place], theirs, rtol=0, atol=1e-12)
        np.testing.assert_allclose(valid[place], theirs[5:-5, 5:-5], rtol=0, atol=1e-12)


def test_ssim_with_zeros_beyond_the_border_equals_scipy():
    x, y = (image[0, 0].numpy() for image in pair(20, 17))
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def blur(t):
        return signal.convolve2d(t, window, mode="same")

    mean_x, mean_y = blur(x), blur(y)
    covariance = blur(x * y) - mean_x * mean_y
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    expected = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_x**2 + mean_y**2 + 1e-4) * (variance_x + variance_y + 9e-4)
    ours = ssim_map(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None], border="zero")
    np.testing.assert_allclose(ours[0, 0], expected, rtol=0, atol=1e-13)


def test_ssim_of_the_reference_pair():
    # x column, y row: R = 5x + 3y mod 256; 21 grey levels of noise by the linear congruential
    # generator. Mean over the channels by an independent script, equal to BasicSR's to 5e-16.
    y, x = np.mgrid[:48, :48]
    hr = np.stack([(5 * x + 3 * y) % 256, (x * x // 7 + 11 * y) % 256, (x * y // 3 + 40) % 256])
    state, draws = 31, []
    for _ in range(48 * 48 * 3):
        state = (1664525 * state + 1013904223) % 2**32
        draws.append((state >> 24) % 21 - 10)
    sr = np.clip(hr + np.array(draws).reshape(48, 48, 3).transpose(2, 0, 1), 0, 255)
    maps = ssim_map(*(torch.from_numpy(t[None] / 255.0) for t in (hr, sr)))
    assert maps.mean().item() == pytest.approx(0.931026618507135, abs=1e-12)


def test_symmetric_border_wider_than_the_image():
    x, y = pair(3, 4)
    mean = torch.from_numpy(
        ndimage.gaussian_filter(x.numpy(), 1.5, truncate=5 / 1.5, mode="reflect", axes=(2, 3))
    )
    constant = torch.full_like(x, 0.5)
    ours = ssim_map(x, constant, border="symmetric")
    variance = (
        torch.from_numpy(
            ndimage.gaussian_filter(
                x.numpy() ** 2, 1.5, truncate=5 / 1.5, mode="reflect", axes=(2, 3)
            )
        )
        - mean**2
    )
    expected = (mean + 1e-4) * 9e-4 / ((mean**2 + 0.25 + 1e-4) * (variance + 9e-4))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    assert ssim_map(x, y, border="symmetric").shape == x.shape


@pytest.mark.parametrize("border", ["valid", "zero", "symmetric"])
def test_ssim_has_derivatives(border):
    x, y = (image[:1].requires_grad_() for image in pair(12, 13))
    assert torch.autograd.gradcheck(lambda a, b: ssim_map(a, b, border=border), (x, y))


def test_the_derivative_of_the_derivative():
    x, y = (image[:1] for image in pair(11, 12))
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda a: ssim_map(a, y), x)


@pytest.mark.parametrize("border", ["valid", "zero", "symmetric"])
def test_strips_give_the_same_map_as_the_whole(border, monkeypatch):
    x, y = pair(150, 40, channels=3)
    whole = ssim_map(x.clone().requires_grad_(), y, border=border).detach()
    monkeypatch.setattr(structure, "_STRIP_PIXELS", 1)  # strips of 64 rows, the last one shorter
    assert torch.equal(ssim_map(x, y, border=border), whole)


@pytest.mark.parametrize("border", ["valid", "zero", "symmetric"])
def test_ssim_properties(border):
    x, y = pair(16, 19, channels=3)
    ssim = ssim_map(x, y, border=border)
    assert (ssim <= 1).all()
    torch.testing.assert_close(ssim_map(x, x, border=border), torch.ones_like(ssim))
    torch.testing.assert_close(ssim_map(y, x, border=border), ssim)
    torch.testing.assert_close(ssim_map(x.mT, y.mT, border=border), ssim.mT)
    torch.testing.assert_close(ssim_map(x[1:], y[1:], border=border), ssim[1:])
    scaled = ssim_map(255 * x, 255 * y, data_range=255, border=border)
    torch.testing.assert_close(scaled, ssim)
    single = ssim_map(x.float(), y.float(), border=border)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), ssim, rtol=0, atol=1e-5)


def test_a_recorded_graph_gives_the_same_numbers():
    def both(x, y):
        return ssim_map(x, y), patch_variances(x, patch=4)

    x, y = pair(16, 16)
    recorded = torch.compile(both, backend="eager", fullgraph=True)
    for ours, theirs in zip(recorded(x, y), both(x, y), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("x", "y", "border", "words"),
    [
        (torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 13), "valid", "same shape"),
        (torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 12).double(), "valid", "same shape"),
        (torch.zeros(12, 12), torch.zeros(12, 12), "valid", "(B, C, H, W)"),
        (torch.zeros(1, 1, 10, 12), torch.zeros(1, 1, 10, 12), "valid", "11 × 11"),
        (torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 12), "same", "no border 'same'"),
    ],
)
def test_ssim_errors(x, y, border, words):
    with pytest.raises(InputError) as raised:
        ssim_map(x, y, border=border)
    assert words in str(raised.value)
