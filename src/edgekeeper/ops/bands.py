"""Pictures that flow as bands of rows, so that no more of them is in memory than is needed.

A band is a float tensor (1, C, h, W); a picture is an iterator of bands from the top down. What
works on bands gives the numbers that it would give on the whole picture, up to float rounding.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.ops.resize import _matlab_taps
from edgekeeper.ops.taps import Axis, Taps, apply_taps

# Rows that a resize makes at a time, and rows that it reads for them, about.
_MADE_ROWS = 64
_READ_ROWS = 256


class RowWindow:
    """Rows of a picture that arrives in bands: windows whose first row never decreases."""

    def __init__(self, bands: Iterator[Tensor]) -> None:
        self._bands = bands
        self._held: deque[Tensor] = deque()
        self._first = self._stop = 0  # the rows that are held

    def rows(self, start: int, stop: int) -> Tensor:
        """The rows ``start`` to ``stop`` (1, C, stop - start, W); earlier ones are forgotten.

        Raises:
            InputError: the rows were forgotten, or the bands end before ``stop``.
        """
        if start < self._first:
            raise InputError(f"Row {start} was asked for after row {self._first} was left behind.")
        self._forget(start)
        while self._stop < stop:
            band = next(self._bands, None)
            if band is None:
                raise InputError(f"A picture ended at row {self._stop}, before row {stop}.")
            self._held.append(band)
            self._stop += band.shape[-2]
            del band
            self._forget(start)
        parts, row = [], self._first
        for band in self._held:
            parts.append(band[..., max(start - row, 0) : max(stop - row, 0), :])
            row += band.shape[-2]
        parts = [part for part in parts if part.shape[-2]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)

    def _forget(self, start: int) -> None:
        while self._held and self._first + self._held[0].shape[-2] <= start:
            self._first += self._held.popleft().shape[-2]


def resize_bands(
    bands: Iterator[Tensor], *, size: tuple[int, int], to: tuple[int, int]
) -> Iterator[Tensor]:
    """Bands of the picture ``imresize(picture, size=to)``, of bands of a picture of ``size``.

    Sizes are (height, width). The result has at most 64 rows a band. What is read and what is
    made at a time does not grow with the height.
    """
    (height, width), (rows, columns) = size, to
    across = _matlab_taps(width, columns, columns / width, "symmetric")
    down = _matlab_taps(height, rows, rows / height, "symmetric")
    # Shrinking goes across first, band by band, so that fewer columns wait in the window.
    if columns < width:
        bands = (_along(band, across, axis=-1) for band in bands)
    window = RowWindow(bands)
    step = max(1, min(_MADE_ROWS, _READ_ROWS * rows // height))
    # Reflected rows at the bottom may lie above those of an earlier band in tiny pictures.
    first = np.minimum.accumulate(down.index.min(axis=1)[::-1])[::-1]
    for start in range(0, rows, step):
        index = down.index[start : start + step]
        above, below = int(first[start]), int(index.max()) + 1
        taps = Taps(index - above, down.weights[start : start + step], columns=below - above)
        band = _along(window.rows(above, below), taps, axis=-2)
        yield band if columns < width else _along(band, across, axis=-1)


def _along(band: Tensor, taps: Taps, *, axis: Axis) -> Tensor:
    """``band`` resized along one axis."""
    return apply_taps(band[0].contiguous(), taps, axis=axis)[None]
