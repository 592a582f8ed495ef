"""Sparse rows applied along an axis equal the dense matrix, forwards and backwards."""

import numpy as np
import pytest
import torch

from edgekeeper.ops import resize as taps_module
from edgekeeper.ops.resize import Taps, apply_taps


def example(rows=37, columns=23, width=5, seed=0):
    random = np.random.default_rng(seed)
    start = np.sort(random.integers(0, columns - width + 1, rows))
    index = start[:, None] + random.permuted(np.tile(np.arange(width), (rows, 1)), axis=1)
    index[3] = index[3, 0]  # a column named twice counts twice
    return Taps(index, random.standard_normal((rows, width)), columns)


def dense(taps):
    matrix = np.zeros((len(taps.index), taps.columns))
    for row, (columns, weights) in enumerate(zip(taps.index, taps.weights, strict=True)):
        for column, weight in zip(columns, weights, strict=True):
            matrix[row, column] += weight
    return torch.from_numpy(matrix)


def test_the_transposed_matrix():
    taps = example()
    assert torch.equal(dense(taps.transposed), dense(taps).T)


def test_a_column_that_no_row_uses():
    taps = Taps(np.array([[1], [1]]), np.array([[2.0], [3.0]]), columns=4)
    expected = torch.tensor([[0.0, 0], [2, 3], [0, 0], [0, 0]], dtype=torch.float64)
    assert torch.equal(dense(taps.transposed), expected)


@pytest.mark.parametrize("way", ["_multiply_by_blocks", "_multiply_by_taps"])
@pytest.mark.parametrize("axis", [-2, -1])
def test_both_ways_equal_the_dense_matrix(way, axis, generator):
    taps = example()
    x = torch.rand(2, 23, 23, generator=generator, dtype=torch.float64)
    expected = dense(taps) @ x if axis == -2 else x @ dense(taps).T
    result = getattr(taps_module, way)(x, taps, axis=axis)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("axis", [-2, -1])
def test_the_derivative_and_its_derivative(axis, generator):
    taps = example(rows=6, columns=8, width=3)
    x = torch.rand(1, 8, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: apply_taps(t, taps, axis=axis), x)
    assert torch.autograd.gradgradcheck(lambda t: apply_taps(t, taps, axis=axis) ** 2, x)


@pytest.mark.parametrize("axis", [-2, -1])
def test_autocast_does_not_lower_the_precision(axis, generator):
    x = torch.rand(1, 23, 23, generator=generator)
    taps = example()
    expected = apply_taps(x, taps, axis=axis)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(apply_taps(x, taps, axis=axis), expected)
