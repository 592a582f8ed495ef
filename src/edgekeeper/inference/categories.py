"""Maps of what can be seen where, for networks that take one: of one name, a file or a folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import ImageError, InputError, did_you_mean
from edgekeeper.image import read_image
from edgekeeper.models.sftgan import CATEGORIES

_SUFFIXES = (".png", ".tif", ".tiff")
"""File extensions of the maps in a folder: formats that keep every value."""

_VALUES = ", ".join(f"{number} {name}" for number, name in enumerate(CATEGORIES))


@dataclass(frozen=True, kw_only=True, eq=False)
class CategoryMap:
    """What can be seen at each pixel, as a number in ``CATEGORIES``.

    Attributes:
        labels: (h, w), whole numbers from 0 to 7, for the LR image or for the one that a pass
            of the network makes of it; (1, 1) is the same everywhere. Between the two sizes the
            nearest pixel is taken.
        name: what errors call it.

    Raises InputError: labels of another form, or other numbers.
    """

    labels: NDArray[np.integer]
    name: str = "The map of categories"

    def __post_init__(self) -> None:
        labels = self.labels
        if labels.ndim != 2 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f"{self.name} must be whole numbers (h, w); got {labels.shape} of {labels.dtype}."
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(CATEGORIES):
            wrong = low if low < 0 else high
            raise InputError(
                f"{self.name} holds the value {wrong}; the values of a map are {_VALUES}."
            )

    def check_size(self, size: tuple[int, int], *, scale: int) -> None:
        """Raise ImageError unless it fits an LR image of ``size`` (height, width)."""
        height, width = size
        large = (scale * height, scale * width)
        if self.labels.shape not in ((1, 1), size, large):
            rows, columns = self.labels.shape
            raise ImageError(
                f"{self.name} has {columns} x {rows} pixels; for this image it must have "
                f"{width} x {height}, or {large[1]} x {large[0]} as the network enlarges it."
            )

    def cut(self, rows: slice, columns: slice, *, size: tuple[int, int], scale: int) -> Tensor:
        """Return the probabilities (1, 8, scale·h, scale·w) for a part of an LR image of ``size``.

        ``rows`` and ``columns`` are the part, in LR pixels, h and w of them.
        """
        where = [
            np.arange(part.start * scale, part.stop * scale) * count // (length * scale)
            for part, count, length in zip((rows, columns), self.labels.shape, size, strict=True)
        ]
        labels = torch.from_numpy(self.labels[np.ix_(*where)].astype(np.int64))
        return F.one_hot(labels, len(CATEGORIES)).permute(2, 0, 1)[None].float()

    def whole(self, size: tuple[int, int], *, scale: int) -> Tensor:
        """Return the probabilities (1, 8, scale·H, scale·W) for a whole LR image of ``size``."""
        return self.cut(slice(0, size[0]), slice(0, size[1]), size=size, scale=scale)


Categories = str | Path | CategoryMap
"""A map, the file of one, or the name of the category that is everywhere."""

MapOf = Callable[[Path], CategoryMap]
"""The map of an image file."""


def category_map(given: Categories) -> CategoryMap:
    """Return the map that is given, named or in a file. Raises InputError, ImageError."""
    if isinstance(given, CategoryMap):
        return given
    if isinstance(given, str) and given in CATEGORIES:
        return CategoryMap(labels=np.full((1, 1), CATEGORIES.index(given), np.uint8), name=given)
    if not Path(given).exists():
        hint = did_you_mean(str(given), CATEGORIES)
        raise InputError(
            f"There is no category and no file '{given}'.{hint} Categories: "
            f"{', '.join(CATEGORIES)}."
        )
    return read_map(Path(given))


def read_map(path: Path) -> CategoryMap:
    """Return the map in a grey image file, whose values are the numbers of the categories.

    Raises ImageError: the file cannot be read, or is no map.
    """
    pixels: NDArray[Any] = read_image(path).pixels
    if pixels.shape[2] != 1:
        raise ImageError(f"'{path}' is in colour; a map is grey, with the values {_VALUES}.")
    try:
        return CategoryMap(labels=pixels[..., 0], name=f"'{path}'")
    except InputError as error:
        raise ImageError(str(error)) from error


def find_maps(
    given: Categories, *, images: Sequence[Path], sources: Sequence[str | Path] = ()
) -> MapOf:
    """Return the map of each of ``images``, read when it is asked for.

    ``given`` may be a folder too: the map of an image is there under its name, or, if it is in
    a folder among ``sources``, under its path below that, with a file extension of ``_SUFFIXES``.
    The maps that are asked for raise ImageError as ``read_map`` does, and where there is none.
    Raises InputError: no such category, file or folder; one file for several images; a folder where
    two images would have the same map. ImageError: the one file is no map.
    """
    everywhere = isinstance(given, CategoryMap) or given in CATEGORIES
    if everywhere or not Path(str(given)).is_dir():
        one = category_map(given)
        if len(images) > 1 and not everywhere:
            raise InputError(
                f"'{given}' is one map, and there are {len(images)} images; give a folder with "
                "a map for each, by its name."
            )
        return lambda path: one
    folders = [Path(source) for source in sources if Path(source).is_dir()]
    stems: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for path in images:
        below = next((path.relative_to(f) for f in folders if path.is_relative_to(f)), None)
        stem = Path(str(given)) / (below or Path(path.name)).with_suffix("")
        stems[path] = stem
        other = owners.setdefault(stem, path)
        if other != path:
            raise InputError(
                f"'{other}' and '{path}' would both have the map '{stem}{_SUFFIXES[0]}'; "
                "enlarge them one after the other."
            )

    def of(path: Path) -> CategoryMap:
        stem = stems[path]
        for suffix in _SUFFIXES:
            candidate = stem.with_name(stem.name + suffix)
            if candidate.is_file():
                return read_map(candidate)
        raise ImageError(
            f"There is no map of categories for '{path}': no file '{stem}{_SUFFIXES[0]}' "
            f"(or {', '.join(_SUFFIXES[1:])})."
        )

    return of
