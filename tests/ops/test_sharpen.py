"""Linear sharpening against dense matrices written from the definition, and its properties."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.ops.gradient import sobel
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.sharpen import (
    LARGEST_EIGENVALUE,
    STRONGEST,
    TOLERANCE,
    back_project,
    reach,
    sharpen,
)

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def dense(height: int, width: int) -> NDArray[np.float64]:
    """Q of one channel, (H·W, H·W), row by row from the definition."""
    total = np.zeros((height * width, height * width))
    for kernel in (SOBEL, SOBEL.T):
        rows = np.zeros((height - 2, width - 2, height, width))
        for i, j in np.ndindex(height - 2, width - 2):
            rows[i, j, i : i + 3, j : j + 3] = kernel
        flat = rows.reshape(-1, height * width)
        total += flat.T @ flat
    return total


def image(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def energy(x: Tensor) -> Tensor:
    """q of each image (B,) by its number of samples."""
    found = sobel(x, border="valid")
    return (found.x.square() + found.y.square()).mean(dim=(1, 2, 3))


def form(matrix: NDArray[np.float64], x: Tensor) -> float:
    flat = x.flatten().numpy()
    return float(flat @ matrix @ flat)


@pytest.mark.parametrize("strength", [1e-5, 0.001, 0.005, 0.0117, STRONGEST])
def test_the_dense_system_is_solved_within_the_stated_bound(strength):
    height, width = 9, 12
    x = image(2, 3, height, width)
    matrix = np.eye(height * width) - strength * dense(height, width)
    found = sharpen(x, strength)
    for one, before in zip(found.flatten(0, 1), x.flatten(0, 1), strict=True):
        exact = np.linalg.solve(matrix, before.flatten().numpy()).reshape(height, width)
        change = np.linalg.norm(exact - before.numpy())
        assert np.linalg.norm(exact - one.numpy()) <= TOLERANCE * change


def test_the_bound_of_the_eigenvalues():
    values = np.linalg.eigvalsh(dense(18, 18))
    assert values[0] > -1e-9
    assert 0.5 * LARGEST_EIGENVALUE < values[-1] <= LARGEST_EIGENVALUE


def test_the_bound_is_the_largest_response_to_any_wave():
    u, v = np.meshgrid(*[np.linspace(0, np.pi, 1001)] * 2)
    x = 4 * np.sin(u) ** 2 * (2 + 2 * np.cos(v)) ** 2
    y = 4 * np.sin(v) ** 2 * (2 + 2 * np.cos(u)) ** 2
    printed = 32 * (1 + np.cos(u)) * (1 + np.cos(v)) * (1 - np.cos(u) * np.cos(v))
    np.testing.assert_allclose(x + y, printed, atol=1e-9)
    assert (x + y).max() == pytest.approx(LARGEST_EIGENVALUE, abs=1e-9)


def test_the_energy_is_the_quadratic_form():
    x = image(1, 1, 9, 12)
    expected = form(dense(9, 12), x) / (7 * 10)
    assert energy(x).item() == pytest.approx(expected, rel=1e-12)


def test_the_mean_of_the_energies_is_that_of_the_mean_and_of_the_deviations():
    # E[q(X)] = q(E[X]) + tr(Q Cov(X)), of which everything follows
    x = image(5, 1, 8, 9)
    mean = x.mean(0, keepdim=True)
    trace = energy(x - mean).mean()
    torch.testing.assert_close(energy(x).mean(), energy(mean)[0] + trace)


def test_no_image_as_near_has_more_energy():
    x = image(1, 1, 8, 8)
    z = sharpen(x, 0.008)
    length = (z - x).norm()
    own = energy(z)
    assert own > energy(x)
    generator = torch.Generator().manual_seed(1)
    for size in (0.01, 0.1, 1, 10):
        for _ in range(50):
            other = z - x + size * length * torch.randn(x.shape, generator=generator).double() / 8
            other = x + other * length / other.norm()
            assert energy(other) <= own + 1e-9


def test_it_is_linear_and_symmetric():
    x, y = image(1, 2, 9, 10), image(1, 2, 9, 10, seed=1)
    sharp_x, sharp_y = sharpen(x, 0.006), sharpen(y, 0.006)
    torch.testing.assert_close((sharp_x * y).sum(), (x * sharp_y).sum())
    torch.testing.assert_close(sharpen(3 * x - y, 0.006), 3 * sharp_x - sharp_y)
    # transposed and flipped
    torch.testing.assert_close(sharpen(x.mT, 0.006), sharp_x.mT)
    flipped, kept = image(1, 1, 10, 10).flip(-1), image(1, 1, 10, 10)
    torch.testing.assert_close(sharpen(flipped, 0.006).flip(-1), sharpen(kept, 0.006))


def test_constants_stay():
    constant = torch.full((1, 3, 11, 11), 0.37, dtype=torch.float64)
    torch.testing.assert_close(sharpen(constant, STRONGEST), constant)
    rows, columns = torch.meshgrid(*[torch.arange(30.0).double()] * 2, indexing="ij")
    ramp = (0.2 + 0.01 * rows - 0.02 * columns)[None, None]
    sharp = sharpen(ramp, 0.005)  # five steps reach ten pixels from the border, where it ends
    inner = (..., slice(10, -10), slice(10, -10))
    torch.testing.assert_close(sharp[inner], ramp[inner], rtol=0, atol=1e-12)
    assert (sharp - ramp)[..., 0, :].abs().max() > 1e-3


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


def test_derivatives():
    x = image(1, 2, 6, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: sharpen(t, 0.004), (x,))
    assert torch.autograd.gradcheck(lambda t: energy(t), (x,))


def test_precision():
    x = image(1, 3, 20, 20)
    exact = sharpen(x, 0.01)
    single = sharpen(x.float(), 0.01)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5)
    half = sharpen(x.half(), 0.01)
    assert half.dtype == torch.float16
    assert torch.equal(half, sharpen(x.half().float(), 0.01).half())


@pytest.mark.parametrize(
    ("shape", "strength", "words"),
    [
        ((5, 5), 0.001, "(B, C, H, W)"),
        ((1, 1, 2, 9), 0.001, "at least 3"),
        ((1, 1, 9, 9), -0.001, "from 0 to"),
        ((1, 1, 9, 9), 1 / 64, "from 0 to"),
        ((1, 1, 9, 9), float("nan"), "from 0 to"),
    ],
)
def test_errors(shape, strength, words):
    with pytest.raises(InputError) as raised:
        sharpen(torch.zeros(shape), strength)
    assert words in str(raised.value)
