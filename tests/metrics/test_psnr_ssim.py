import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.metrics import PROTOCOLS, Protocol, psnr, ssim
from edgekeeper.metrics.ssim import downsampled, downsampling_factor


def noise(seed: int, count: int) -> np.ndarray:
    """Bytes of the generator s = (1664525 s + 1013904223) mod 2^32, the byte is s >> 24."""
    powers = np.cumprod(np.full(count, 1664525), dtype=np.uint32)
    sums = np.cumsum(np.concatenate([np.ones(1, np.uint32), powers[:-1]]), dtype=np.uint32)
    return (powers * np.uint32(seed) + np.uint32(1013904223) * sums) >> np.uint32(24)


def as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float64)).permute(2, 0, 1)[None] / 255


def colour_pair() -> tuple[Tensor, Tensor]:
    y, x = np.mgrid[:48, :48]
    image = np.stack(
        [(5 * x + 3 * y) % 256, (x * x // 7 + 11 * y) % 256, (x * y // 3 + 40) % 256], axis=-1
    )
    shift = noise(31, image.size).reshape(image.shape).astype(int) % 21 - 10
    return as_tensor(np.clip(image + shift, 0, 255)), as_tensor(image)


# Computed by independent numpy scripts and, for RGB and float luma, by BasicSR's functions
# (commit 8d56e3a) on the same pair: agreement 1e-6 dB and 4e-9.
PUBLISHED = {
    # border: psnr rgb, y_matlab, y_float; ssim rgb, y_matlab, y_float
    0: (
        32.465017115343194,
        37.29678532702174,
        37.332528997083834,
        0.931026618507135,
        0.9772245184924009,
        0.977427801919498,
    ),
    2: (
        32.463199435731944,
        37.28640730758187,
        37.323033185294115,
        0.9320593840580719,
        0.9772307137131057,
        0.9774729220920425,
    ),
    4: (
        32.43318861328073,
        37.26320238256673,
        37.30484898965316,
        0.9329243953320621,
        0.9772531717919867,
        0.9775708219514857,
    ),
}


@pytest.mark.parametrize("border", [0, 2, 4])
def test_published_values(border: int) -> None:
    sr, hr = colour_pair()
    names = ("rgb_matlab", "y_matlab", "y_float")
    for k, name in enumerate(names):
        protocol = replace(PROTOCOLS[name], border=border, ssim_border=border)
        assert psnr(sr, hr, protocol=protocol).item() == pytest.approx(
            PUBLISHED[border][k], abs=1e-9
        )
        assert ssim(sr, hr, protocol=protocol).item() == pytest.approx(
            PUBLISHED[border][3 + k], abs=1e-10
        )


def test_ssim_of_the_gradient_variance_code() -> None:
    # 0.9760382477121123: printed by the official code (commit 69f80c4) for this pair.
    sr, hr = colour_pair()
    assert ssim(sr, hr, protocol="gv_repo").item() == pytest.approx(0.9760382477121123, abs=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "factor", "auto", "plain"),
    # Numpy re-computation of Wang's rule; 384 / 256 = 1.5 rounds up to 2.
    [
        (300, 260, 1, 0.8253031478859073, 0.8253031478859073),
        (400, 520, 2, 0.9840238427296737, 0.825535828220146),
        (700, 900, 3, 0.9963870887154066, 0.8249210911962217),
        (384, 640, 2, 0.9840651443420954, 0.8252270299826922),
    ],
)
def test_automatic_downsampling(
    height: int, width: int, factor: int, auto: float, plain: float
) -> None:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    wave = np.floor(128 + 70 * np.sin(x / 9 + y / 31) + 50 * np.sin(y / 5 - x / 13))
    other = wave + noise(41, wave.size).reshape(wave.shape).astype(int) % 31 - 15
    ours, theirs = (
        torch.from_numpy(np.clip(p, 0, 255) / 255).expand(1, 3, -1, -1) for p in (other, wave)
    )
    protocol = Protocol(
        name="grey", colour="rgb", rounding="none", ssim_border=0, ssim_downsampling="auto"
    )
    assert downsampling_factor(height, width) == factor
    assert ssim(ours, theirs, protocol=protocol).item() == pytest.approx(auto, abs=1e-9)
    protocol = replace(protocol, ssim_downsampling="none")
    assert ssim(ours, theirs, protocol=protocol).item() == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("size", [1060, 1151])
def test_downsampling_by_four_mirrors_the_border(size: int) -> None:
    # The printed rule, sample by sample: window from p - 1 to p + 2, edge samples repeated.
    x = torch.rand(
        1, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    padded = np.pad(x[0, 0].numpy(), (1, 2), mode="symmetric")
    expected = np.lib.stride_tricks.sliding_window_view(padded, (4, 4)).mean(axis=(-1, -2))
    np.testing.assert_allclose(downsampled(x)[0, 0].numpy(), expected[::4, ::4], atol=1e-12)


def test_rounded_luma_agrees_with_scikit_image(generator: torch.Generator) -> None:
    hr = torch.rand(1, 3, 40, 53, generator=generator).mul(255).round() / 255
    sr = (hr + 0.05 * torch.randn(hr.shape, generator=generator)).mul(255).round() / 255
    arrays = []
    for image in (sr, hr):
        red, green, blue = np.round(image[0].clamp(0, 1).double().numpy() * 255)
        y = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
        arrays.append(np.floor(y + 0.5)[3:-3, 3:-3])
    assert psnr(sr, hr, scale=3).item() == pytest.approx(
        peak_signal_noise_ratio(arrays[1], arrays[0], data_range=255), abs=1e-10
    )
    _, scores = structural_similarity(
        arrays[1],
        arrays[0],
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    assert ssim(sr, hr, scale=3).item() == pytest.approx(scores[5:-5, 5:-5].mean(), abs=1e-10)


def test_unclipped_output_counts_only_where_the_protocol_says_so() -> None:
    hr = torch.ones(1, 3, 24, 24)
    sr = torch.full_like(hr, 1.1)
    assert psnr(sr, hr, protocol="rgb_matlab", scale=2).item() == math.inf
    assert psnr(sr, hr, protocol="gv_repo").item() == pytest.approx(20.0, abs=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equal_images_and_batches(protocol: str, generator: torch.Generator) -> None:
    hr = torch.rand(3, 3, 30, 34, generator=generator)
    sr = torch.rand(3, 3, 30, 34, generator=generator)
    sr[1] = hr[1]
    for metric, best in ((psnr, math.inf), (ssim, 1.0)):
        together = metric(sr, hr, protocol=protocol, scale=4)
        assert together.shape == (3,)
        assert together.dtype == torch.float64
        assert together[1].item() == pytest.approx(best, abs=1e-12)
        alone = [metric(sr[k : k + 1], hr[k : k + 1], protocol=protocol, scale=4) for k in range(3)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)
        flipped = metric(sr.flip(-1), hr.flip(-1), protocol=protocol, scale=4)
        torch.testing.assert_close(together, flipped, rtol=0, atol=1e-12)


def test_a_missing_scale_is_named() -> None:
    hr = torch.rand(1, 3, 24, 24)
    for metric in (psnr, ssim):
        with pytest.raises(InputError, match="'y_matlab' leaves out a border as wide as the scale"):
            metric(hr, hr)
    assert psnr(hr, hr, protocol="spsr_toolbox").item() == math.inf


def test_wrong_images_are_refused() -> None:
    hr = torch.rand(1, 3, 24, 24)
    with pytest.raises(InputError, match=r"sr is \(1, 3, 24, 23\), hr is \(1, 3, 24, 24\)"):
        psnr(hr[..., :-1], hr, scale=2)
    with pytest.raises(InputError, match="repeat a grey channel"):
        psnr(hr[:, :1], hr[:, :1], scale=2)
    with pytest.raises(InputError, match="must be floats"):
        psnr((hr * 255).to(torch.uint8), (hr * 255).to(torch.uint8), scale=2)
    with pytest.raises(InputError, match=r"hr must lie in \[0, 1\]"):
        psnr(hr * 255, hr * 255, scale=2)
    with pytest.raises(InputError, match=r"sr must .* no number"):
        psnr(hr * float("nan"), hr, scale=2)
    with pytest.raises(InputError, match=r"'sr' is of type ndarray; .*to_tensor"):
        psnr(hr.numpy(), hr, scale=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="12 pixels leaves nothing of a 24x24"):
        psnr(hr, hr, scale=12)
    with pytest.raises(InputError, match="11x11 pixels after the border"):
        ssim(hr, hr, scale=7)
    with pytest.raises(InputError, match="whole number from 1"):
        psnr(hr, hr, scale=2.0)  # type: ignore[arg-type]
