"""Picture files as sources of rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekeeper.io import (
    FORMATS,
    Header,
    PictureReader,
    Pixels,
    SaveOptions,
    format_to_write,
    open_picture,
)

# Bytes that are read at a time, about.
_PART_BYTES = 2**22


class StoredPicture:
    """A picture file as a source of rows."""

    def __init__(self, reader: PictureReader) -> None:
        self._reader = reader

    def announce(self) -> Header:
        """What is known of it before its samples."""
        return self._reader.header

    def parts(self) -> Iterator[Pixels]:
        """Its rows (h, W, C), colours before alpha."""
        header = self._reader.header
        step = max(1, _PART_BYTES // (header.width * header.bands * (header.depth // 8)))
        for start in range(0, header.height, step):
            yield self._reader.rows(start, min(start + step, header.height))


@contextmanager
def open_stored(path: Path, *, target: Path, options: SaveOptions) -> Iterator[StoredPicture]:
    """The picture in a file, without alpha that is opaque where the target's format has none."""
    form = FORMATS[format_to_write(target, options)]
    with open_picture(path, alpha="keep" if form.alpha == "straight" else "drop_opaque") as reader:
        yield StoredPicture(reader)
