"""Where training patches lie: a pure function of (seed, step, index in the batch).

Random numbers are Philox 4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), keyed by (seed, stream) with the index as counter. So the patch at an index needs no
state and no earlier draw, and is the same on every platform and for any number of workers.

A patch is an affine walk through one flat array of pixels: ``origin + channel * plane +
i * row + j * column``. Crop, flips and transpose are only choices of those four numbers, and the
processor and an accelerator read the same pixels by the same arithmetic.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import DataError, InputError, check_choice

Augment = Literal["none", "flips", "eight"]
Crop = Literal["random", "centre"]
Integers = NDArray[np.int64]

WORD = 2**64
SYMMETRIES: dict[str, int] = {"none": 1, "flips": 4, "eight": 8}
# The last counter word keeps the two uses of one (seed, step) key apart.
PATCHES, ORDER = 0, 1


@dataclass(frozen=True)
class Region:
    """One stored image: three planes of ``height * width`` bytes starting at ``offset``."""

    offset: int
    height: int
    width: int

    @property
    def nbytes(self) -> int:
        """Bytes of the three planes together."""
        return 3 * self.height * self.width


@dataclass(frozen=True)
class Places:
    """For each patch of a batch: image, top and left in LR pixels, symmetry 0..7."""

    image: Integers
    top: Integers
    left: Integers
    symmetry: Integers


@dataclass(frozen=True)
class Windows:
    """For each patch of a batch: the four numbers of its walk through the flat pixels."""

    origin: Integers
    plane: Integers
    row: Integers
    column: Integers
    size: int


def random_words(
    *, seed: int, stream: int, first: int, count: int, purpose: int = PATCHES
) -> NDArray[np.uint64]:
    """Random words (count, 4), uniform over 64 bits; row i belongs to index ``first + i``.

    ``seed`` and ``stream`` (usually the step) form the key and lie in [0, 2^64). Raises InputError.
    """
    for name, value in (("seed", seed), ("step", stream), ("first", first)):
        if not 0 <= value < WORD:
            raise InputError(f"{name} is {value}; it must be a whole number from 0 to 2^64 - 1.")
    key = np.array([seed, stream], dtype=np.uint64)
    counter = np.array([first, 0, 0, purpose], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(4 * count).reshape(count, 4)


class Positions:
    """All places of LR patches in the LR images ``regions``. Raises DataError: there are none."""

    def __init__(self, regions: list[Region], *, patch: int) -> None:
        self.rows = np.array([max(r.height - patch + 1, 0) for r in regions], dtype=np.int64)
        self.columns = np.array([max(r.width - patch + 1, 0) for r in regions], dtype=np.int64)
        self.ends = np.cumsum(self.rows * self.columns)
        self.fitting = np.flatnonzero(self.rows * self.columns)
        if self.total == 0:
            sides = max((min(r.height, r.width) for r in regions), default=0)
            raise DataError(
                f"No image of the store holds an LR patch of {patch}x{patch} pixels: the largest "
                f"short side is {sides}. Take smaller patches or larger images."
            )

    @property
    def total(self) -> int:
        """Number of places over all images."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def draw(
        self,
        crop: Crop,
        *,
        seed: int,
        step: int,
        first: int,
        count: int,
        whole: int,
        augment: Augment,
    ) -> Places:
        """Places of patches [first, first + count) of ``whole`` at ``step``. Raises InputError."""
        check_choice("crop", crop, known=get_args(Crop))
        words = random_words(seed=seed, stream=step, first=first, count=count)
        if crop == "random":
            image, top, left = self._random(words)
        else:
            sample = step * whole + first + np.arange(count, dtype=np.int64)
            image = self._image_by_epoch(sample, seed=seed)
            top, left = (self.rows[image] - 1) // 2, (self.columns[image] - 1) // 2
        return Places(image, top, left, symmetries(words, augment=augment))

    def _random(self, words: NDArray[np.uint64]) -> tuple[Integers, Integers, Integers]:
        """Image, top and left, evenly over all positions, so that an image counts by its area."""
        # The bias of the modulo is total / 2^64, below 1e-9 for any real store.
        position = (words[:, 0] % np.uint64(self.total)).astype(np.int64)
        image = np.searchsorted(self.ends, position, side="right").astype(np.int64)
        within = position - (self.ends - self.rows * self.columns)[image]
        top, left = np.divmod(within, self.columns[image])
        return image, top, left

    def _image_by_epoch(self, sample: Integers, *, seed: int) -> Integers:
        """Image of each sample: each fitting image once per epoch, in an order drawn per epoch."""
        epoch, index = np.divmod(sample, len(self.fitting))
        image = np.empty_like(sample)
        for e in np.unique(epoch):
            words = random_words(
                seed=seed, stream=int(e), first=0, count=len(self.fitting), purpose=ORDER
            )
            order = self.fitting[np.argsort(words[:, 0], kind="stable")]
            image[epoch == e] = order[index[epoch == e]]
        return image


def symmetries(words: NDArray[np.uint64], *, augment: Augment) -> Integers:
    """Bit 0 flips a patch's columns, 1 its rows, 2 then transposes it. Raises InputError."""
    check_choice("augment", augment, known=SYMMETRIES)
    return (words[:, 1] % np.uint64(SYMMETRIES[augment])).astype(np.int64)


def windows(places: Places, regions: list[Region], *, patch: int, factor: int) -> Windows:
    """Walks over ``factor * patch`` pixels at ``factor`` times the LR places, in ``regions``."""
    size = patch * factor
    of = [regions[i] for i in places.image]
    offset, height, width = np.array([(r.offset, r.height, r.width) for r in of], np.int64).T
    flip_columns, flip_rows = places.symmetry & 1 == 1, places.symmetry & 2 == 2
    transpose = places.symmetry & 4 == 4
    origin = offset + (factor * places.top) * width + factor * places.left
    origin += np.where(flip_columns, size - 1, 0) + np.where(flip_rows, (size - 1) * width, 0)
    row, column = np.where(flip_rows, -width, width), np.where(flip_columns, -1, 1)
    row, column = np.where(transpose, column, row), np.where(transpose, row, column)
    return Windows(origin, height * width, row, column, size)


def read_memory(pixels: NDArray[np.uint8], walks: Windows, *, pinned: bool = False) -> Tensor:
    """Patches (B, 3, size, size) uint8 on the processor, read from the flat ``pixels``."""
    count, size = len(walks.origin), walks.size
    patches = torch.empty((count, 3, size, size), dtype=torch.uint8, pin_memory=pinned)
    target = patches.numpy()
    scratch = torch.empty((3, size, size), dtype=torch.uint8)
    rows = scratch.numpy()
    numbers = np.stack([walks.origin, walks.plane, walks.row, walks.column], axis=1).tolist()
    for i, (origin, plane, row, column) in enumerate(numbers):
        transposed = abs(column) != 1
        along, across = (row, column) if transposed else (column, row)
        # Copied in the order of memory and turned afterwards: three times as fast as walking
        # backwards. np.ndarray checks that the whole walk stays inside the buffer.
        crop: NDArray[np.uint8] = np.ndarray(
            (3, size, size),
            np.uint8,
            buffer=pixels,
            offset=origin if along > 0 else origin - (size - 1),
            strides=(plane, across, 1),
        )
        if along > 0 and not transposed:
            target[i] = crop
            continue
        rows[...] = crop
        turned = scratch if along > 0 else scratch.flip(-1)
        patches[i].copy_(turned.transpose(1, 2) if transposed else turned)
    return patches


def read_device(pixels: Tensor, walks: Windows) -> Tensor:
    """Patches (B, 3, size, size) uint8 on the device that holds the flat ``pixels``."""
    numbers = torch.from_numpy(np.stack([walks.origin, walks.plane, walks.row, walks.column]))
    if pixels.is_cuda:  # so that the copy does not wait for what the device is doing
        numbers = numbers.pin_memory()
    there = numbers.to(pixels.device, non_blocking=True)
    origin, plane, row, column = there[:, :, None, None, None].unbind(0)
    axis = torch.arange(walks.size, device=pixels.device)
    channel = torch.arange(3, device=pixels.device)[:, None, None]
    # (B, 1, 1, 1) with (3, 1, 1), (size, 1) and (size,) gives (B, 3, size, size)
    index = origin + channel * plane + axis[:, None] * row + axis * column
    return pixels[index]
