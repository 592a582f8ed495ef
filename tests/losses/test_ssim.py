import numpy as np
import pytest
import torch

from edgekeeper.errors import InputError
from edgekeeper.losses import SSIM


def numbers(seed: int, *, height: int, width: int) -> torch.Tensor:
    """Test image (1, 3, H, W) of a linear congruential generator, filled as H, W, C."""
    state, values = seed, []
    for _ in range(height * width * 3):
        state = (1664525 * state + 1013904223) % 2**32
        values.append((state >> 24) / 255)
    array = np.array(values).reshape(1, height, width, 3).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    x = numbers(11, height=12, width=12)
    return x, (x + 0.2 * (numbers(12, height=12, width=12) - 0.5)).clamp(0, 1)


def test_training_form(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    # 0.9854871305664622: numpy in float64, zero padding 5, window 11, sigma 1.5; the published
    # training code, whose window is float32, gives 0.9854871307663828 on this pair.
    assert SSIM()(*pair).item() == pytest.approx(1 - 0.9854871305664622, abs=1e-12)


def test_valid_border_against_windows_one_by_one(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    axis = np.arange(-5, 6)
    line = np.exp(-(axis**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    x, y = (image.numpy()[0] for image in pair)
    values = []
    for channel in range(3):
        for top in range(2):
            for left in range(2):
                a = x[channel, top : top + 11, left : left + 11]
                b = y[channel, top : top + 11, left : left + 11]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a = (window * (a - mean_a) ** 2).sum()
                var_b = (window * (b - mean_b) ** 2).sum()
                both = (window * (a - mean_a) * (b - mean_b)).sum()
                above = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
                values.append(above / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    expected = 1 - float(np.mean(values))
    assert SSIM(border="valid")(*pair).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("border", ["zero", "valid", "symmetric"])
def test_equal_images_give_zero(border: str, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = SSIM(border=border)  # type: ignore[arg-type]
    assert loss(pair[0], pair[0]).item() == pytest.approx(0.0, abs=1e-14)


def test_data_range_scales_with_the_images(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    sr, hr = pair
    by_255 = SSIM(data_range=255.0)(sr * 255, hr * 255)
    assert by_255.item() == pytest.approx(SSIM()(sr, hr).item(), abs=1e-12)


@pytest.mark.parametrize("border", ["zero", "valid", "symmetric"])
def test_gradient_in_float64(border: str, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    sr, hr = (image[:, :1] for image in pair)
    loss = SSIM(border=border)  # type: ignore[arg-type]
    sr = sr.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, hr), (sr,))


def test_bfloat16_is_computed_in_float32(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    sr, hr = (image.bfloat16() for image in pair)
    sr.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SSIM()(sr, hr)
    assert value.dtype == torch.float32
    assert value.item() == SSIM()(sr.float(), hr.float()).item()
    value.backward()
    assert sr.grad is not None
    assert sr.grad.isfinite().all()


def test_refusals() -> None:
    image = torch.rand(1, 3, 12, 12)
    with pytest.raises(InputError, match="must be equal"):
        SSIM()(image, image[..., :-1])
    with pytest.raises(InputError, match=r"torch\.int64"):
        SSIM()(image.long(), image.long())
    with pytest.raises(InputError, match="Did you mean 'symmetric'"):
        SSIM(border="symetric")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"data_range.*above 0"):
        SSIM(data_range=0.0)
