"""The aligned variance loss against loops and explicit matrices, and its properties."""

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.losses import AlignedVariance


def pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sr, hr = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    return sr, hr


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def resize_matrix(before: int, after: int) -> np.ndarray:
    """MATLAB's imresize as a matrix: kernel widened when shrinking, borders mirrored."""
    scale = after / before
    narrow = min(scale, 1)
    matrix = np.zeros((after, before))
    for row in range(after):
        centre = (row + 0.5) / scale - 0.5
        for index in range(int(np.floor(centre - 3 / narrow)), int(np.ceil(centre + 3 / narrow))):
            weight = narrow * cubic(narrow * (centre - index))
            mirrored = index % (2 * before)
            matrix[row, min(mirrored, 2 * before - 1 - mirrored)] += weight
    return matrix / matrix.sum(axis=1, keepdims=True)


def covariances(one: np.ndarray, other: np.ndarray, patch: int) -> np.ndarray:
    """Return the unbiased covariance of both gradients in each patch, x first."""
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    found = []
    for mask in (kernel, kernel.T):
        maps = [
            (np.lib.stride_tricks.sliding_window_view(x, (3, 3)) * mask).sum(axis=(2, 3))
            for x in (one, other)
        ]
        for top in range(0, maps[0].shape[0] - patch + 1, patch):
            for left in range(0, maps[0].shape[1] - patch + 1, patch):
                a, b = (m[top : top + patch, left : left + patch].ravel() for m in maps)
                found.append(np.cov(a, b)[0, 1])
    return np.array(found)


def test_the_definition_by_matrices_and_loops() -> None:
    sr, hr = pair(2, 3, 20, 24)
    down = [resize_matrix(side, side // 4) for side in (20, 24)]
    up = [resize_matrix(side // 4, side) for side in (20, 24)]
    plain, projected = [], []
    for ours, theirs in zip(sr.numpy(), hr.numpy(), strict=True):
        a, b = (np.tensordot([0.2989, 0.5870, 0.1140], x, 1) for x in (ours, theirs))
        wanted = covariances(b, b, 8)
        plain.append(np.abs(covariances(a, b, 8) - wanted))
        a = a + up[0] @ (down[0] @ (b - a) @ down[1].T) @ up[1].T
        projected.append(np.abs(covariances(a, b, 8) - wanted))
    assert AlignedVariance()(sr, hr).item() == pytest.approx(np.mean(plain), rel=1e-9)
    assert AlignedVariance(scale=4)(sr, hr).item() == pytest.approx(np.mean(projected), rel=1e-9)


def test_derivative() -> None:
    sr, hr = pair(1, 1, 12, 12)
    loss = AlignedVariance(scale=2, patch=4)
    assert torch.autograd.gradcheck(lambda x: loss(x, hr), sr.requires_grad_())


def test_what_counts() -> None:
    _, hr = pair(1, 3, 48, 48)
    plain, projected = AlignedVariance(), AlignedVariance(scale=4)
    assert plain(hr, hr).item() < 1e-12 and projected(hr, hr).item() < 1e-12
    grey = hr.mean(dim=1, keepdim=True)
    # Half the contrast lacks half of the variance; noise of its own phase lacks all of it.
    whole = plain(torch.zeros_like(grey), grey)
    torch.testing.assert_close(plain(0.5 * grey, grey), 0.5 * whole)
    noise = pair(1, 1, 48, 48, seed=5)[0]
    assert plain(noise, grey).item() > 0.8 * whole.item()
    # What the shrunk image shows is taken from the original.
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    seen = 0.2 * torch.sin(2 * torch.pi * x / 24) * torch.cos(2 * torch.pi * y / 24)
    assert projected(hr + seen, hr).item() < 0.3 * plain(hr + seen, hr).item()
    half = plain((0.5 * grey).half(), grey.half())
    assert half.dtype == torch.float32 and half.item() == pytest.approx(whole.item() / 2, rel=0.02)


def test_mistakes() -> None:
    loss = AlignedVariance(scale=4)
    for shape, message in (
        ((1, 3, 22, 24), "multiples"),
        ((1, 3, 8, 8), "at least 10"),
        ((1, 2, 16, 16), "channels"),
    ):
        with pytest.raises(InputError, match=message):
            loss(torch.zeros(shape), torch.zeros(shape))
    for wrong in ({"scale": 0}, {"scale": 4, "patch": 1}):
        with pytest.raises(InputError):
            AlignedVariance(**wrong)
