"""Image files as they are wanted: without what cannot be kept, or as far as they are whole."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from edgekeeper.errors import EdgekeeperError, ImageError
from edgekeeper.image.formats import MAX_PIXELS, MAX_STREAMED_PIXELS
from edgekeeper.image.header import Further, full
from edgekeeper.image.read import ImageReader

_LOOKED_AT = 16  # rows that are decoded at once to see where damage begins


def open_image(
    source: str | Path | bytes,
    *,
    holds: Further = "extra",
    frames: Literal["first", "all"] = "first",
    limit: int = MAX_STREAMED_PIXELS,
    tolerant: bool = False,
) -> ImageReader:
    """Return a reader of the image file ``source``, a path or its bytes, to use with ``with``.

    ``holds`` says what is wanted beside the colours: nothing, alpha, or any channel. One that
    says nothing of transparency is left out with a note, and alpha where it is opaque everywhere,
    for which the file is read once more beforehand.

    ``frames`` says how much of an animation (GIF, WebP, PNG with Pillow) is read.

    Of a damaged file ``tolerant`` takes the rows that can be decoded, with a note, for which it is
    read once more too.

    Raises:
        ImageError: the file is missing, empty, no image, damaged in its header, or larger than
            ``limit`` pixels, or its samples are not of 8, 16 or 32 bits.
    """
    damage = _damage_of(source) if tolerant else ""
    limit = min(limit, MAX_PIXELS) if damage else limit  # of rows that are not there
    reader = ImageReader(source, limit=limit, frames=frames, tolerant=bool(damage))
    header = reader.header
    notes = header.notes + ((damage,) if damage else ())
    unheld = header.alpha == "extra" != holds
    if unheld:
        notes += ("left out its further channel, which says nothing of transparency",)
    if unheld or (header.alpha == "straight" and holds == "none" and _is_opaque(source, damage)):
        reader.close()
        reader = ImageReader(source, further="drop", frames=frames, tolerant=bool(damage))
    reader.header = replace(reader.header, notes=notes)
    return reader


def _damage_of(source: str | Path | bytes) -> str:
    """Return what is to be said of the damage of a file; nothing of a whole one."""
    row = 0
    try:
        with ImageReader(source) as reader:
            height = reader.header.rows
            for row in range(0, height, _LOOKED_AT):
                reader.rows(row, min(height, row + _LOOKED_AT))
    except ImageError:
        where = f"the rows from about {row} of {height} on are lost" if row else "parts are lost"
        return f"is damaged or cut short: {where}"
    return ""


def is_animated(path: Path) -> bool:
    """Return whether a file is an image of several frames, all of which can be read."""
    try:
        with ImageReader(path, frames="all") as reader:
            return reader.header.animation is not None
    except EdgekeeperError:
        return False


def _is_opaque(source: str | Path | bytes, damage: str) -> bool:
    with ImageReader(source, tolerant=bool(damage)) as reader:
        height, step = reader.header.rows, reader.step
        top = full(reader.header.depth)
        parts = (reader.rows(row, min(height, row + step)) for row in range(0, height, step))
        return all(bool((part[..., -1] == top).all()) for part in parts)
