"""Linear sharpening against dense matrices written from the definition, and its properties."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.losses.gradient_variance import gradient_variances
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.sharpen import (
    LARGEST_EIGENVALUE,
    STRONGEST,
    TOLERANCE,
    allowed_change,
    back_project,
    gradient_energy,
    reach,
    sharpen,
    strength_for_change,
)

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
PATCHES = [None, 2, 4]


def dense(height: int, width: int, patch: int | None) -> NDArray[np.float64]:
    """Q of one channel, (H·W, H·W), row by row from the definition."""
    total = np.zeros((height * width, height * width))
    for kernel in (SOBEL, SOBEL.T):
        rows = np.zeros((height - 2, width - 2, height, width))
        for i, j in np.ndindex(height - 2, width - 2):
            rows[i, j, i : i + 3, j : j + 3] = kernel
        if patch is None:
            kept = rows.reshape(-1, height * width)
            total += kept.T @ kept
            continue
        for top in range(0, height - 2 - patch + 1, patch):
            for left in range(0, width - 2 - patch + 1, patch):
                block = rows[top : top + patch, left : left + patch].reshape(-1, height * width)
                block = block - block.mean(axis=0)
                total += block.T @ block
    return total


def image(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def form(matrix: NDArray[np.float64], x: Tensor) -> float:
    flat = x.flatten().numpy()
    return float(flat @ matrix @ flat)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("strength", [1e-5, 0.001, 0.005, 0.0117, STRONGEST])
def test_the_dense_system_is_solved_within_the_stated_bound(patch, strength):
    height, width = 9, 12  # with patches: one row and two columns of the map fill none
    x = image(2, 3, height, width)
    matrix = np.eye(height * width) - strength * dense(height, width, patch)
    found = sharpen(x, strength, patch=patch)
    for one, before in zip(found.flatten(0, 1), x.flatten(0, 1), strict=True):
        exact = np.linalg.solve(matrix, before.flatten().numpy()).reshape(height, width)
        change = np.linalg.norm(exact - before.numpy())
        assert np.linalg.norm(exact - one.numpy()) <= TOLERANCE * change


@pytest.mark.parametrize("patch", PATCHES)
def test_the_bound_of_the_eigenvalues(patch):
    values = np.linalg.eigvalsh(dense(18, 18, patch))
    assert values[0] > -1e-9
    assert 0.5 * LARGEST_EIGENVALUE < values[-1] <= LARGEST_EIGENVALUE


def test_the_bound_is_the_largest_response_to_any_wave():
    u, v = np.meshgrid(*[np.linspace(0, np.pi, 1001)] * 2)
    x = 4 * np.sin(u) ** 2 * (2 + 2 * np.cos(v)) ** 2
    y = 4 * np.sin(v) ** 2 * (2 + 2 * np.cos(u)) ** 2
    printed = 32 * (1 + np.cos(u)) * (1 + np.cos(v)) * (1 - np.cos(u) * np.cos(v))
    np.testing.assert_allclose(x + y, printed, atol=1e-9)
    assert (x + y).max() == pytest.approx(LARGEST_EIGENVALUE, abs=1e-9)


@pytest.mark.parametrize("patch", PATCHES)
def test_the_energy_is_the_quadratic_form(patch):
    x = image(1, 1, 9, 12)
    samples = 7 * 10 if patch is None else (7 // patch) * (10 // patch) * (patch**2 - 1)
    expected = form(dense(9, 12, patch), x) / samples
    assert gradient_energy(x, patch=patch).item() == pytest.approx(expected, rel=1e-12)


def test_the_energy_is_that_of_the_gradient_variance_loss():
    x = image(2, 1, 21, 26)
    expected = (
        gradient_variances(x, patch=8, stride=8, operator="sobel", border="valid").mean(2).sum(0)
    )
    torch.testing.assert_close(gradient_energy(x, patch=8), expected)


@pytest.mark.parametrize("patch", PATCHES)
def test_the_mean_of_the_energies_is_that_of_the_mean_and_of_the_deviations(patch):
    # E[q(X)] = q(E[X]) + tr(Q Cov(X)), of which everything follows
    x = image(5, 1, 8, 9)
    mean = x.mean(0, keepdim=True)
    trace = gradient_energy(x - mean, patch=patch).mean()
    torch.testing.assert_close(
        gradient_energy(x, patch=patch).mean(), gradient_energy(mean, patch=patch)[0] + trace
    )


@pytest.mark.parametrize("patch", PATCHES)
def test_no_image_as_near_has_more_energy(patch):
    x = image(1, 1, 8, 8)
    z = sharpen(x, 0.008, patch=patch)
    length = (z - x).norm()
    own = gradient_energy(z, patch=patch)
    assert own > gradient_energy(x, patch=patch)
    generator = torch.Generator().manual_seed(1)
    for size in (0.01, 0.1, 1, 10):
        for _ in range(50):
            other = z - x + size * length * torch.randn(x.shape, generator=generator).double() / 8
            other = x + other * length / other.norm()
            assert gradient_energy(other, patch=patch) <= own + 1e-9


@pytest.mark.parametrize("patch", PATCHES)
def test_it_is_linear_and_symmetric(patch):
    x, y = image(1, 2, 9, 10), image(1, 2, 9, 10, seed=1)
    sharp_x, sharp_y = sharpen(x, 0.006, patch=patch), sharpen(y, 0.006, patch=patch)
    torch.testing.assert_close((sharp_x * y).sum(), (x * sharp_y).sum())
    torch.testing.assert_close(sharpen(3 * x - y, 0.006, patch=patch), 3 * sharp_x - sharp_y)
    # transposed, and where the patches fill the map, flipped
    torch.testing.assert_close(sharpen(x.mT, 0.006, patch=patch), sharp_x.mT)
    flipped, kept = image(1, 1, 10, 10).flip(-1), image(1, 1, 10, 10)
    torch.testing.assert_close(
        sharpen(flipped, 0.006, patch=patch).flip(-1), sharpen(kept, 0.006, patch=patch)
    )


@pytest.mark.parametrize("patch", PATCHES)
def test_constants_stay_and_with_patches_ramps_too(patch):
    constant = torch.full((1, 3, 11, 11), 0.37, dtype=torch.float64)
    torch.testing.assert_close(sharpen(constant, STRONGEST, patch=patch), constant)
    rows, columns = torch.meshgrid(*[torch.arange(30.0).double()] * 2, indexing="ij")
    ramp = (0.2 + 0.01 * rows - 0.02 * columns)[None, None]
    sharp = sharpen(ramp, 0.005, patch=patch)
    if patch is None:  # five steps reach ten pixels from the border, where the ramp ends
        inner = (..., slice(10, -10), slice(10, -10))
        torch.testing.assert_close(sharp[inner], ramp[inner], rtol=0, atol=1e-12)
        assert (sharp - ramp)[..., 0, :].abs().max() > 1e-3
    else:
        torch.testing.assert_close(sharp, ramp, rtol=0, atol=1e-12)


def test_what_fills_no_patch_is_not_looked_at():
    x = image(1, 1, 12, 12)  # a map of 10 × 10: one patch of 8, which sees 10 × 10 pixels
    sharp = sharpen(x, 0.005, patch=8)
    torch.testing.assert_close(sharp[..., :10, :10], sharpen(x[..., :10, :10], 0.005, patch=8))
    assert torch.equal(sharp[..., 10:, :], x[..., 10:, :])


@pytest.mark.parametrize("strength", [0.0, 0.001, 0.005, STRONGEST])
def test_the_reach(strength):
    pixels = reach(strength)
    x = torch.zeros(1, 1, 5, 2 * pixels + 9, dtype=torch.float64)
    x[..., 2, pixels + 4] = 1
    columns = sharpen(x, strength).abs().amax(dim=(0, 1, 2)).nonzero().flatten()
    assert (columns[0].item(), columns[-1].item()) == (4, 2 * pixels + 4)


def test_strength_zero_is_the_image():
    x = image(1, 3, 5, 6)
    assert torch.equal(sharpen(x, 0.0), x)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_step_of_back_projection_comes_no_farther_from_any_original_of_the_image(scale):
    """U = s² D' to the border, and D U has eigenvalues in [0.2, 1]: I - U D is a contraction."""
    height, width = 9, 7
    small = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    enlarging = imresize(small, scale=scale).flatten(1).mT  # (sH sW, H W)
    large = torch.eye(len(enlarging), dtype=torch.float64).view(
        -1, 1, scale * height, scale * width
    )
    shrinking = imresize(large, scale=1 / scale).flatten(1).mT
    torch.testing.assert_close(enlarging, scale**2 * shrinking.mT)
    values = torch.linalg.eigvalsh(shrinking @ enlarging)
    assert values.min() > 0.2 and values.max() < 1 + 1e-12
    original, sr = (
        image(1, 1, scale * height, scale * width),
        image(2, 1, *large.shape[-2:], seed=1),
    )
    lr = imresize(original, scale=1 / scale)
    stepped = back_project(sr, lr.expand(2, -1, -1, -1))
    error, left = ((x - original).flatten(1) for x in (sr, stepped))
    assert (left.norm(dim=1) < error.norm(dim=1)).all()
    torch.testing.assert_close(left, error - error @ shrinking.mT @ enlarging.mT)
    torch.testing.assert_close(back_project(original, lr), original)


def test_each_image_has_its_strength():
    x = image(3, 1, 9, 9)
    strengths = torch.tensor([0.0, 0.002, 0.01])
    found = sharpen(x, strengths, patch=3)
    assert torch.equal(found[:1], x[:1])
    for number, strength in enumerate(strengths.tolist()):
        alone = sharpen(x[number : number + 1], strength, patch=3)
        torch.testing.assert_close(found[number : number + 1], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("patch", PATCHES)
def test_derivatives(patch):
    x = image(1, 2, 6, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: sharpen(t, 0.004, patch=patch), (x,))
    assert torch.autograd.gradcheck(lambda t: gradient_energy(t, patch=patch), (x,))


@pytest.mark.parametrize("patch", PATCHES)
def test_strength_for_a_change(patch):
    x = image(2, 3, 12, 12)
    mse = allowed_change(psnr=20, price=0.5)
    assert mse == pytest.approx(0.01 * (10**0.05 - 1))
    strengths = strength_for_change(x, mse, patch=patch)
    change = (sharpen(x, strengths, patch=patch) - x).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(change, torch.full((2,), mse).double(), rtol=1e-2, atol=0)
    assert (change <= mse).all()
    assert -10 * np.log10(0.01 + mse) == pytest.approx(20 - 0.5)
    assert strength_for_change(x[:1], 0.0, patch=patch).item() == 0
    enough = strength_for_change(x[:1], 1e9, patch=patch).item()
    assert enough == pytest.approx(STRONGEST, rel=1e-4)


def test_precision():
    x = image(1, 3, 20, 20)
    exact = sharpen(x, 0.01, patch=8)
    single = sharpen(x.float(), 0.01, patch=8)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5)
    half = sharpen(x.half(), 0.01)
    assert half.dtype == torch.float16
    assert torch.equal(half, sharpen(x.half().float(), 0.01).half())


@pytest.mark.parametrize(
    ("shape", "strength", "patch", "words"),
    [
        ((5, 5), 0.001, None, "(B, C, H, W)"),
        ((1, 1, 2, 9), 0.001, None, "at least 3"),
        ((1, 1, 9, 9), 0.001, 8, "at least 10"),
        ((1, 1, 9, 9), 0.001, 1, "a patch is at least 2"),
        ((1, 1, 9, 9), -0.001, None, "from 0 to"),
        ((1, 1, 9, 9), 1 / 64, None, "from 0 to"),
        ((1, 1, 9, 9), float("nan"), None, "from 0 to"),
        ((2, 1, 9, 9), torch.zeros(3), None, "one per image"),
    ],
)
def test_errors(shape, strength, patch, words):
    with pytest.raises(InputError) as raised:
        sharpen(torch.zeros(shape), strength, patch=patch)
    assert words in str(raised.value)


def test_errors_of_what_is_wanted():
    x = image(1, 1, 9, 9)
    with pytest.raises(InputError, match="at least 0"):
        strength_for_change(x, -1e-3)
    with pytest.raises(InputError, match="floating-point"):
        gradient_energy(torch.zeros(1, 3, 9, 9, dtype=torch.uint8))
