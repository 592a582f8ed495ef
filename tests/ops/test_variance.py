import numpy as np
import pytest
import torch

from edgekeeper.errors import InputError
from edgekeeper.ops.structure import local_variance


def image(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("window", [3, 7])
def test_the_definition(window):
    x = image(2, 3, 5, 9)
    radius = window // 2
    found = local_variance(x, window=window)
    padding = ((0, 0), (0, 0), (radius, radius), (radius, radius))
    mirrored = np.pad(x.numpy(), padding, mode="reflect")
    for b, c, i, j in np.ndindex(2, 3, 5, 9):
        around = mirrored[b, c, i : i + window, j : j + window]
        assert found[b, c, i, j].item() == pytest.approx(around.var(ddof=1), abs=1e-14)


def test_properties():
    x = image(1, 2, 12, 13)
    found = local_variance(x, window=5)
    torch.testing.assert_close(local_variance(x.mT, window=5), found.mT)
    torch.testing.assert_close(local_variance(3 * x + 2, window=5), 9 * found)
    assert (local_variance(torch.full((1, 1, 9, 9), 0.7), window=7) == 0).all()
    # a bright image with little noise, in float32
    bright = 0.9 + 1e-3 * x
    torch.testing.assert_close(
        local_variance(bright.float(), window=5).double(), 1e-6 * found, rtol=1e-3, atol=0
    )


def test_derivatives():
    assert torch.autograd.gradcheck(
        lambda t: local_variance(t, window=3), (image(1, 2, 5, 5).requires_grad_(),)
    )


@pytest.mark.parametrize(
    ("x", "window", "words"),
    [
        (torch.zeros(9, 9), 3, "(B, C, H, W)"),
        (torch.zeros(1, 1, 9, 9), 4, "odd window"),
        (torch.zeros(1, 1, 9, 9), 1, "from 3"),
        (torch.zeros(1, 1, 9, 3), 7, "at least 4"),
        (torch.zeros(1, 1, 9, 9, dtype=torch.uint8), 3, "floats"),
    ],
)
def test_errors(x, window, words):
    with pytest.raises(InputError) as raised:
        local_variance(x, window=window)
    assert words in str(raised.value)
