"""Known degradations: each step against what it is said to be."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from edgekeeper.data.degrade import KNOWN, KnownDegradation, degrade_known, find_known
from edgekeeper.errors import InputError
from edgekeeper.ops.resize import imresize


def smooth(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(1, 3, height // 16, width // 16, generator=generator) * 0.5 + 0.25
    return imresize(small, size=(height, width)).clamp(0, 1)


def test_clean_is_pillow_s_bicubic() -> None:
    hr = torch.rand(1, 3, 67, 50, generator=torch.Generator().manual_seed(1))
    pixels = (hr[0, :, :64, :48] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    small = Image.fromarray(pixels).resize((12, 16), Image.Resampling.BICUBIC)
    ours = degrade_known(hr, find_known("clean"))
    assert np.array_equal((ours[0] * 255).round().permute(1, 2, 0).numpy(), np.asarray(small))


def test_noise_has_the_strength_that_it_says() -> None:
    hr = smooth(256, 320)
    clean = degrade_known(hr, KnownDegradation("x"), scale=2)
    noise = degrade_known(hr, KnownDegradation("x", noise=6), scale=2) - clean
    assert float(noise.std()) * 255 == pytest.approx(6, rel=0.02)
    again = degrade_known(hr.repeat(2, 1, 1, 1), KnownDegradation("x", noise=6), scale=2) - clean
    assert torch.equal(again[0], noise[0]) and torch.equal(again[1], noise[0])
    other = degrade_known(hr, KnownDegradation("x", noise=6), scale=2, seed=1)
    assert not torch.equal(other, noise + clean)


def test_blur_is_a_gaussian_of_that_deviation() -> None:
    dot = torch.zeros(1, 3, 64, 64)
    dot[..., 32, 32] = 1
    seen = degrade_known(dot, KnownDegradation("x", blur=2), scale=1)[0, 0].double()
    x = torch.arange(64, dtype=torch.float64) - 32
    expected = torch.exp(-(x**2 + x[:, None] ** 2) / 8) / (8 * torch.pi)
    torch.testing.assert_close(seen, expected, rtol=0, atol=0.6 / 255)


def test_jpeg_is_pillow_s() -> None:
    hr = smooth(96, 128)
    clean = (degrade_known(hr, find_known("clean"))[0] * 255).round().permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(clean.numpy().astype(np.uint8)).save(file, "jpeg", quality=70)
    ours = (degrade_known(hr, find_known("jpeg70"))[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(ours - np.asarray(Image.open(file)).astype(float)).max() <= 1


def test_they_grow_stronger_and_have_names() -> None:
    hr = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    hr = imresize(hr, size=(192, 192)).clamp(0, 1)
    clean = degrade_known(hr, find_known("clean"))
    errors = [float((degrade_known(hr, known) - clean).square().mean()) for known in KNOWN]
    assert errors[0] == 0
    assert errors[1] < errors[2] < errors[4] < errors[5]
    with pytest.raises(InputError, match="jpeg70"):
        find_known("jpeg7")
