"""The artifact loss against loops over pixels written from its definition, and its properties."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.losses import L1, LDL
from edgekeeper.losses.ldl import artifact_map


def images(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sr, hr, sr_ema = torch.rand(3, *shape, generator=generator, dtype=torch.float64)
    return sr, hr, sr_ema


def oracle_map(
    sr: NDArray[np.float64], hr: NDArray[np.float64], ema: NDArray[np.float64]
) -> NDArray[np.float64]:
    """M (H, W) of one image (C, H, W)."""
    error, error_ema = np.abs(hr - sr).sum(axis=0), np.abs(hr - ema).sum(axis=0)
    mirrored = np.pad(error, 3, mode="reflect")
    found = np.zeros_like(error)
    for i, j in np.ndindex(error.shape):
        if error[i, j] >= error_ema[i, j]:
            found[i, j] = mirrored[i : i + 7, j : j + 7].var(ddof=1)
    return error.var(ddof=1) ** 0.2 * found


def test_the_definition() -> None:
    sr, hr, sr_ema = images(2, 3, 9, 12)
    maps = artifact_map(sr, hr, sr_ema=sr_ema)
    assert maps.shape == (2, 1, 9, 12)
    assert 0.2 < (maps == 0).double().mean() < 0.8  # both cases are there
    values = []
    for number in range(2):
        one = [x[number].numpy() for x in (sr, hr, sr_ema)]
        expected = oracle_map(*one)
        np.testing.assert_allclose(maps[number, 0], expected, rtol=0, atol=1e-13)
        values.append(np.abs(expected * one[0] - expected * one[1]).mean())
    assert LDL()(sr, hr, sr_ema=sr_ema).item() == pytest.approx(np.mean(values), rel=1e-12)


def test_a_step_by_hand() -> None:
    # The error is 1 in the right half: the windows of column 5 hold 28 of 49 such pixels.
    hr = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    sr = hr.clone()
    sr[..., 5:] = 1
    share = 7 * 12 / 144
    overall = (share * (1 - share) * 144 / 143) ** 0.2
    around = 28 / 49 * 21 / 49 * 49 / 48
    found = artifact_map(sr, hr, sr_ema=sr)
    torch.testing.assert_close(found[0, 0, :, 5], torch.full((12,), overall * around).double())
    assert (found[..., 8:] == 0).all()  # all error, no variance


def test_where_the_average_is_worse_nothing_counts() -> None:
    sr, hr, _ = images(2, 3, 9, 9)
    worse = hr + 2 * (sr - hr)
    assert LDL()(sr, hr, sr_ema=worse).item() == 0
    own, better = (artifact_map(sr, hr, sr_ema=x) for x in (sr, hr))
    assert torch.equal(own, better)  # as good is not better


def test_the_derivative_holds_the_map_constant() -> None:
    # No gradcheck: differences of the value would see the map move.
    sr, hr, sr_ema = (x.requires_grad_() for x in images(1, 3, 8, 8))
    weight = artifact_map(sr, hr, sr_ema=sr_ema)
    assert not weight.requires_grad
    LDL()(sr, hr, sr_ema=sr_ema).backward()
    expected = weight * torch.sign(sr - hr) / sr.numel()
    torch.testing.assert_close(sr.grad, expected)
    assert hr.grad is None
    assert sr_ema.grad is None


def test_properties() -> None:
    sr, hr, sr_ema = images(3, 3, 10, 8)
    loss = LDL()
    value = loss(sr, hr, sr_ema=sr_ema)
    torch.testing.assert_close(loss(sr.mT, hr.mT, sr_ema=sr_ema.mT), value)
    torch.testing.assert_close(loss(sr.flip(-1), hr.flip(-1), sr_ema=sr_ema.flip(-1)), value)
    # var^(1/5) · var · |d| grows with the power 2/5 + 2 + 1
    torch.testing.assert_close(loss(2 * sr, 2 * hr, sr_ema=2 * sr_ema), 2**3.4 * value)
    each = [loss(sr[i, None], hr[i, None], sr_ema=sr_ema[i, None]) for i in range(3)]
    torch.testing.assert_close(torch.stack(each).mean(), value)
    assert loss(hr, hr, sr_ema=hr).item() == 0
    shifted = loss(hr + 0.1, hr, sr_ema=hr + 0.1).item()  # an error without variance is no artifact
    assert shifted < 1e-6 * L1()(hr + 0.1, hr).item()
    single = loss(sr.float(), hr.float(), sr_ema=sr_ema.float())
    assert single.item() == pytest.approx(value.item(), rel=1e-5)
    half = loss(sr.half(), hr.half(), sr_ema=sr_ema.half())
    assert half.dtype == torch.float32


def test_errors() -> None:
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(InputError, match="averaged weights"):
        LDL()(x, x, sr_ema=x[..., :4])
    with pytest.raises(InputError, match="NoneType"):
        LDL()(x, x, sr_ema=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="equal"):
        LDL()(x, x[..., :4], sr_ema=x)
    with pytest.raises(InputError, match="too small"):
        LDL()(x[..., :3], x[..., :3], sr_ema=x[..., :3])
