"""Generated images: a function of seed and number, in range, of every kind."""

import numpy as np
import pytest
import torch

from edgekeeper.data.synthetic import KINDS, synthetic_image
from edgekeeper.errors import InputError


def test_an_image_is_a_function_of_seed_and_number() -> None:
    for number in range(len(KINDS)):
        image = synthetic_image(size=48, seed=3, number=number)
        assert image.shape == (1, 3, 48, 48)
        assert image.dtype == torch.float32
        assert image.isfinite().all() and image.min() >= 0 and image.max() <= 1
        assert torch.equal(image, synthetic_image(size=48, seed=3, number=number))
        assert not torch.equal(image, synthetic_image(size=48, seed=4, number=number))
        assert image.std() > 0.01, f"kind {number} is blank"


def test_flat_shapes_have_flat_parts_and_edges_of_a_pixel() -> None:
    image = synthetic_image(size=128, seed=0, number=1)[0]
    levels = (image.permute(1, 2, 0).reshape(-1, 3) * 255).round().byte().numpy()
    _, counts = np.unique(levels, axis=0, return_counts=True)
    assert np.sort(counts)[-3:].sum() > 0.6 * len(levels)  # few colours cover most of it


def test_leaves_hide_each_other_at_all_sizes() -> None:
    image = synthetic_image(size=128, seed=0, number=0)[0].mean(0)
    steps = (image[:, 1:] - image[:, :-1]).abs()
    assert 0.02 < (steps > 0.05).float().mean() < 0.5  # edges, but not noise


def test_a_size_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="size of a generated image is 16; it must be at least 32"):
        synthetic_image(size=16, seed=0, number=0)
