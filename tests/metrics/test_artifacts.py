"""Artifacts found without an original, against loops, and on images made to have one."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.metrics.risk import texture_difference


def smooth_image(batch: int, side: int) -> Tensor:
    y, x = np.mgrid[:side, :side] / side
    rgb = np.stack([0.3 + 0.4 * x, 0.5 + 0.2 * np.sin(6 * y), 0.6 - 0.3 * x * y])
    return torch.from_numpy(rgb)[None].float().repeat(batch, 1, 1, 1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_definition() -> None:
    faithful = smooth_image(2, 24)
    sr = faithful + 0.1 * noise(2, 3, 24, 24)
    found = texture_difference(sr, faithful)
    for number in range(2):
        deviations = []
        for x in (sr, faithful):
            rgb = x[number].double().numpy()
            grey = 0.2989 * rgb[0] + 0.5870 * rgb[1] + 0.1140 * rgb[2]
            around = np.pad(grey, 5, mode="reflect")
            windows = np.lib.stride_tricks.sliding_window_view(around, (11, 11))
            deviations.append(255 * windows.std(axis=(2, 3), ddof=1))
        a, b = deviations
        constant = (0.03 * 255) ** 2
        similarity = (2 * a * b + constant) / (a**2 + b**2 + constant)
        expected = ndimage.uniform_filter(similarity, 11, mode="mirror")
        np.testing.assert_allclose(found.similarity[number, 0], expected, rtol=0, atol=1e-5)
        assert found.share[number].item() == pytest.approx((expected < 0.7).mean(), abs=1e-2)
    assert 0.1 < found.share[0] < 1


def test_noise_in_one_place_is_found_there() -> None:
    faithful = smooth_image(1, 96)
    sr = faithful.clone()
    sr[..., 32:64, 32:64] += 0.15 * noise(1, 3, 32, 32)
    found = texture_difference(sr, faithful)
    inside = torch.zeros(1, 1, 96, 96, dtype=torch.bool)
    inside[..., 32:64, 32:64] = True
    both, either = (found.mask & inside).sum(), (found.mask | inside).sum()
    assert both / either > 0.7
    assert not found.mask[..., :20, :].any()
    assert found.share.dtype == torch.float64


def test_properties() -> None:
    faithful = smooth_image(2, 40)
    sr = faithful + 0.1 * noise(2, 3, 40, 40)
    same = texture_difference(sr, sr)
    torch.testing.assert_close(same.similarity, torch.ones_like(same.similarity))
    assert (same.share == 0).all()
    found = texture_difference(sr, faithful)
    torch.testing.assert_close(texture_difference(faithful, sr).similarity, found.similarity)
    turned = texture_difference(sr.mT, faithful.mT)
    torch.testing.assert_close(turned.similarity, found.similarity.mT)
    alone = texture_difference(sr[1:], faithful[1:])
    torch.testing.assert_close(alone.similarity, found.similarity[1:])
    # another brightness is no other texture, and differences of three levels are not seen
    assert texture_difference(sr + 0.2, sr).share.max() == 0
    assert texture_difference(faithful + 0.01 * noise(2, 3, 40, 40), faithful).share.max() == 0


def test_errors() -> None:
    x = torch.zeros(1, 3, 24, 24)
    for wrong in (x[..., :20], x[:, :1], x.byte(), x[0]):
        with pytest.raises(InputError, match=r"one size|floats \(B, 3, H, W"):
            texture_difference(x, wrong)
    with pytest.raises(InputError, match="too small"):
        texture_difference(x[..., :5], x[..., :5])
