"""Places and walks of patches: pure, evenly drawn, and the pixels numpy would cut."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgekeeper.data.patches import (
    Places,
    Positions,
    Region,
    random_words,
    read_device,
    read_memory,
    windows,
)
from edgekeeper.errors import DataError, InputError


def test_random_words_are_philox_4x64_10() -> None:
    # Known answers of the Random123 library (kat_vectors, philox4x64 10): zero key and counter.
    # numpy counts up before it draws, so the block before the first is asked for through numpy.
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    before = np.array([2**64 - 1] * 4, dtype=np.uint64)
    bits = np.random.Philox(key=np.zeros(2, dtype=np.uint64), counter=before)
    assert bits.random_raw(4).tolist() == known
    # The words after that block are the ones we use.
    assert random_words(seed=0, stream=0, first=0, count=2).ravel().tolist() == (
        bits.random_raw(8).tolist()
    )


def test_a_word_depends_on_its_index_alone() -> None:
    whole = random_words(seed=3, stream=5, first=0, count=10)
    assert np.array_equal(random_words(seed=3, stream=5, first=4, count=3), whole[4:7])
    for seed, stream, purpose in ((4, 5, 0), (3, 6, 0), (3, 5, 1)):
        other = random_words(seed=seed, stream=stream, first=0, count=10, purpose=purpose)
        assert not np.intersect1d(other, whole).size


@pytest.mark.parametrize("name", ["seed", "stream", "first"])
def test_numbers_beyond_64_bits_are_refused(name: str) -> None:
    for value in (-1, 2**64):
        numbers = {"seed": 0, "stream": 0, "first": 0, name: value}
        with pytest.raises(InputError, match="whole number from 0"):
            random_words(count=1, **numbers)


def test_all_positions_are_equally_likely() -> None:
    # 6 + 0 + 20 places; the chi-square limit is the 0.999 quantile for 25 degrees of freedom.
    regions = [Region(0, 4, 5), Region(0, 2, 9), Region(0, 6, 7)]
    positions = Positions(regions, patch=3)
    assert positions.total == 6 + 20
    count = 52_000
    places = positions.draw(
        "random", seed=1, step=2, first=0, count=count, whole=count, augment="eight"
    )
    assert set(places.image.tolist()) == {0, 2}
    hits = np.zeros((3, 4, 5))
    np.add.at(hits, (places.image, places.top, places.left), 1)
    seen = hits[hits > 0]
    assert len(seen) == 26
    assert (places.top < positions.rows[places.image]).all()
    assert (places.left < positions.columns[places.image]).all()
    assert ((seen - count / 26) ** 2 / (count / 26)).sum() < 52.6
    # ... and the symmetries (7 degrees of freedom), at every place.
    turns = np.bincount(places.symmetry, minlength=8)
    assert ((turns - count / 8) ** 2 / (count / 8)).sum() < 24.3
    both = np.zeros((3, 4, 5, 8))
    np.add.at(both, (places.image, places.top, places.left, places.symmetry), 1)
    assert (both > 0).sum() == 26 * 8


def test_augment_limits_the_symmetries() -> None:
    positions = Positions([Region(0, 8, 8)], patch=2)
    for augment, allowed in (("none", {0}), ("flips", {0, 1, 2, 3}), ("eight", set(range(8)))):
        places = positions.draw(
            "random", seed=0, step=0, first=0, count=99, whole=99, augment=augment
        )
        assert set(places.symmetry.tolist()) == allowed
    with pytest.raises(InputError, match="no augment 'all'"):
        positions.draw("random", seed=0, step=0, first=0, count=1, whole=1, augment="all")  # type: ignore[arg-type]


def test_centre_crops_take_each_fitting_image_once_per_epoch() -> None:
    regions = [Region(0, 5, 6), Region(0, 2, 2), Region(0, 9, 3), Region(0, 4, 4)]
    positions = Positions(regions, patch=3)
    draws = [
        positions.draw("centre", seed=0, step=step, first=0, count=2, whole=2, augment="none")
        for step in range(30)
    ]
    order = np.concatenate([d.image for d in draws]).reshape(-1, 3)
    assert all(sorted(epoch) == [0, 2, 3] for epoch in order.tolist())
    assert len({tuple(epoch) for epoch in order.tolist()}) > 3
    where = {
        (p, t, x)
        for d in draws
        for p, t, x in zip(d.image.tolist(), d.top.tolist(), d.left.tolist(), strict=True)
    }
    assert where == {(0, 1, 1), (2, 3, 0), (3, 0, 0)}


def test_too_large_a_patch_says_what_fits() -> None:
    with pytest.raises(DataError, match="largest short side is 4"):
        Positions([Region(0, 4, 9), Region(0, 3, 3)], patch=5)


def expected(image: NDArray[np.uint8], symmetry: int) -> NDArray[np.uint8]:
    if symmetry & 1:
        image = image[:, :, ::-1]
    if symmetry & 2:
        image = image[:, ::-1]
    return image.transpose(0, 2, 1) if symmetry & 4 else image


@pytest.mark.parametrize("patch", [1, 2, 5])
def test_walks_read_what_numpy_cuts_on_both_ways(patch: int) -> None:
    shapes = [(7, 9), (10, 5)]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, 2 * h, 2 * w), dtype=np.uint8) for h, w in shapes]
    flat = np.concatenate([p.ravel() for p in images])
    regions = [Region(0, 14, 18), Region(images[0].size, 20, 10)]
    for number, (h, w) in enumerate(shapes):
        for top, left in ((0, 0), (h - patch, w - patch), ((h - patch) // 2, 0)):
            places = Places(
                np.full(8, number), np.full(8, top), np.full(8, left), np.arange(8, dtype=np.int64)
            )
            walks = windows(places, regions, patch=patch, factor=2)
            cut = images[number][:, 2 * top : 2 * (top + patch), 2 * left : 2 * (left + patch)]
            memory = read_memory(flat, walks)
            device = read_device(torch.from_numpy(flat), walks)
            assert memory.is_contiguous() and device.is_contiguous()
            for symmetry in range(8):
                want = torch.from_numpy(expected(cut, symmetry).copy())
                assert torch.equal(memory[symmetry], want)
                assert torch.equal(device[symmetry], want)


def test_a_walk_outside_the_pixels_is_refused() -> None:
    places = Places(*(np.array([n], dtype=np.int64) for n in (0, 4, 0, 0)))
    walks = windows(places, [Region(0, 5, 5)], patch=2, factor=1)
    with pytest.raises(ValueError, match="incompatible"):
        read_memory(np.zeros(75, dtype=np.uint8), walks)


@pytest.mark.gpu
def test_an_accelerator_reads_the_same_pixels() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    flat = np.random.default_rng(0).integers(0, 256, 3 * 64 * 48, dtype=np.uint8)
    regions = [Region(0, 64, 48)]
    places = Positions(regions, patch=16).draw(
        "random", seed=0, step=0, first=0, count=64, whole=64, augment="eight"
    )
    walks = windows(places, regions, patch=16, factor=1)
    there = read_device(torch.from_numpy(flat).cuda(), walks)
    assert torch.equal(there.cpu(), read_memory(flat, walks))
