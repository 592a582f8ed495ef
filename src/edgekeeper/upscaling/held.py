"""Pictures in memory as sources and sinks of rows."""

from collections.abc import Iterator

import numpy as np

from edgekeeper.io import Header, Picture, Pixels

_ROWS = 256


class HeldPicture:
    """A picture in memory as a source of rows."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def announce(self) -> Header:
        """What is known of it beside its samples."""
        return self._picture.header

    def parts(self) -> Iterator[Pixels]:
        """Its rows (h, W, C), colours before alpha."""
        pixels, alpha = self._picture.pixels, self._picture.alpha
        for start in range(0, len(pixels), _ROWS):
            part = pixels[start : start + _ROWS]
            if alpha is None:
                yield part
            else:
                yield np.concatenate([part, alpha[start : start + _ROWS, :, None]], axis=2)


class Collector:
    """A sink that puts the rows together to a picture in memory."""

    def __init__(self, header: Header) -> None:
        self._header = header
        kind = np.uint8 if header.depth == 8 else np.uint16
        self._samples = np.empty((header.height, header.width, header.bands), kind)
        self._row = 0

    def write(self, rows: Pixels) -> None:
        """Take the next rows from the top."""
        self._samples[self._row : self._row + len(rows)] = rows
        self._row += len(rows)

    def picture(self) -> Picture:
        """The whole picture, when all rows are there."""
        assert self._row == len(self._samples)
        colours = self._header.colours
        return Picture(
            pixels=self._samples[..., :colours],
            alpha=self._samples[..., colours] if self._header.alpha == "straight" else None,
            metadata=self._header.metadata,
        )
