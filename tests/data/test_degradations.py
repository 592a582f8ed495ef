"""Degraded LR patches: functions of (seed, step, index), and as degraded as they say."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekeeper.data.degradations import (
    LIGHT,
    PHOTO,
    TWICE,
    DegradationRound,
    Degradations,
    degrade,
    draw_round,
)
from edgekeeper.errors import InputError
from edgekeeper.ops.blur import filter_each, gaussian_kernels
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.resize import imresize

PRESETS = {"light": LIGHT, "photo": PHOTO, "twice": TWICE}


def smooth(count: int, side: int) -> Tensor:
    """Smooth images (count, 3, side, side) well inside [0, 1]."""
    generator = torch.Generator().manual_seed(5)
    small = torch.rand(count, 3, side // 16, side // 16, generator=generator) * 0.6 + 0.2
    return imresize(small, size=(side, side)).clamp(0, 1)


def one(**settings: object) -> Degradations:
    return Degradations(rounds=(DegradationRound(**settings),))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRESETS)
def test_a_patch_depends_on_seed_step_and_index_alone(name: str) -> None:
    hr, settings = smooth(11, 96), PRESETS[name]

    def run(first: int, stop: int, *, seed: int = 3, step: int = 7) -> Tensor:
        return degrade(
            hr[first:stop], scale=4, seed=seed, step=step, first_index=2 + first, settings=settings
        )

    whole = run(0, 11)
    for cuts in ((0, 11), (0, 1, 5, 11), tuple(range(12))):
        parts = [run(a, b) for a, b in pairwise(cuts)]
        assert torch.equal(torch.cat(parts), whole), f"cut at {cuts}"
    assert not torch.equal(run(0, 11, step=8), whole)
    assert not torch.equal(run(0, 11, seed=4), whole)
    other = degrade(hr, scale=4, seed=3, step=7, first_index=20, settings=settings)
    assert not torch.equal(other, whole)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", PRESETS)
def test_the_image_stays_where_it_is_on_the_grid(name: str, scale: int) -> None:
    hr = smooth(16, 96)
    before = hr.clone()
    for step in range(3):
        lr = degrade(hr, scale=scale, seed=0, step=step, first_index=0, settings=PRESETS[name])
        assert lr.shape == (16, 3, 96 // scale, 96 // scale)
        assert lr.min() >= 0 and lr.max() <= 1
        assert torch.equal(lr, round_uint8(lr))
        # A wrong or shifted resize would be far off on every patch; noise is not, on average.
        error = (lr - imresize(hr, scale=1 / scale)).mean(dim=(2, 3)).abs()
        assert error.max() < 0.03, f"step {step}: {error.max()}"
    assert torch.equal(hr, before)


def test_kernels_of_the_resize_agree_on_smooth_images_at_any_size() -> None:
    hr = smooth(32, 96)
    quiet = DegradationRound()
    settings = Degradations(rounds=(quiet, quiet), middle=(0.4, 1.2), group=1)
    lr = degrade(hr, scale=3, seed=1, step=0, first_index=0, settings=settings)
    assert (lr - imresize(hr, scale=1 / 3)).abs().amax(dim=(1, 2, 3)).max() < 0.04


def test_clean_patches_are_matlab_bicubic() -> None:
    hr = smooth(4, 64)
    lr = degrade(hr, scale=4, seed=1, step=0, first_index=0, settings=replace(PHOTO, clean=1.0))
    assert torch.equal(lr, round_uint8(imresize(hr, scale=0.25)))


def test_an_axis_with_lens_is_blurred_as_by_the_kernel() -> None:
    hr = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    settings = one(lens=(0.5, 0.5), kernels=("cubic",))
    lr = degrade(hr, scale=4, seed=0, step=0, first_index=0, settings=settings)
    ones = np.ones(2)
    kernels = gaussian_kernels(sigma=np.full((2, 2), 2.0), angle=ones, beta=ones, radius=10)
    expected = imresize(filter_each(hr, kernels), scale=0.25)
    inner = (..., slice(3, -3), slice(3, -3))  # the borders are mirrored in one, cut in the other
    assert (lr - expected)[inner].abs().max() < 1.5 / 255


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_noise_has_the_variance_that_was_asked_for(grey: float) -> None:
    flat = torch.full((8, 3, 256, 256), 0.4)
    settings = one(noise=1.0, gaussian=(10, 10), poisson=1.0, peak=(3.0, 3.0), grey=grey)
    noise = degrade(flat, scale=2, seed=0, step=0, first_index=0, settings=settings) - 0.4
    expected = math.sqrt((10 / 255) ** 2 + 0.4 * 1e-3 + (1 / 255) ** 2 / 12)
    assert noise.std().item() == pytest.approx(expected, rel=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=4 * expected / 256 / 1.4)
    channels = torch.corrcoef(noise.transpose(0, 1).reshape(3, -1))
    assert channels[0, 1].item() == pytest.approx(grey, abs=0.01)
    patches = torch.corrcoef(noise[:, 0].reshape(8, -1)) - torch.eye(8)
    assert patches.abs().max() < 0.04
    neighbours = torch.corrcoef(torch.stack([noise[..., 1:].flatten(), noise[..., :-1].flatten()]))
    assert abs(neighbours[0, 1].item()) < 0.01


def test_draws_keep_to_their_ranges_and_probabilities() -> None:
    (settings,) = PHOTO.rounds
    drawn = draw_round(settings, number=0, seed=1, step=2, first=0, count=4000)
    blurred = (drawn.sigma[:, 0] > 0) | (drawn.cutoff > 0)
    for name, happened, probability in (
        ("blur", blurred, settings.blur),
        ("noise", drawn.gaussian > 0, settings.noise),
        ("sharpen", drawn.amount > 0, settings.sharpen),
        ("jpeg", drawn.quality > 0, settings.jpeg),
        ("4:2:0", drawn.halved, settings.halved),
    ):
        assert happened.mean() == pytest.approx(probability, abs=0.03), name
    compressed = drawn.quality[drawn.quality > 0]
    assert (compressed.min(), compressed.max()) == settings.quality
    assert set(drawn.kernel) == set(range(len(settings.kernels)))
    later = draw_round(settings, number=1, seed=1, step=2, first=0, count=4000)
    assert abs(np.corrcoef(drawn.lens + drawn.place, later.lens + later.place)[0, 1]) < 0.06


def test_wrong_patches_are_refused() -> None:
    with pytest.raises(InputError, match="RGB patches"):
        degrade(torch.zeros(1, 1, 64, 64), scale=4, seed=0, step=0, first_index=0, settings=LIGHT)
    with pytest.raises(InputError, match="multiple of 4"):
        degrade(torch.zeros(1, 3, 66, 64), scale=4, seed=0, step=0, first_index=0, settings=LIGHT)


def test_mixed_precision_around_it_changes_nothing() -> None:
    hr = smooth(4, 64)
    lr = degrade(hr, scale=4, seed=1, step=1, first_index=0, settings=TWICE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = degrade(hr, scale=4, seed=1, step=1, first_index=0, settings=TWICE)
    assert torch.equal(lr, mixed)
