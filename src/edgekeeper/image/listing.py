"""The image files of a folder, and what else lies there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edgekeeper.errors import EdgekeeperError, ImageError
from edgekeeper.image.formats import READ_SUFFIXES, vips_reason
from edgekeeper.image.read import ImageReader

# Called with a file or a folder that is not read, and a sentence that says why
NotRead = Callable[[Path, str], None]


def list_images(
    folder: str | Path,
    *,
    depth: Literal["folder", "tree"] = "folder",
    on_unread: NotRead | None = None,
) -> list[Path]:
    """Return the image files in ``folder`` (for "tree" below it too), sorted, by file extension.

    Hidden files and folders are left out.
    ``on_unread`` is told of each folder below that cannot be read, and why; without it that is an
    error too.
    Raises ImageError: there is no such folder, or it cannot be read.
    """
    found = _files(Path(folder), depth=depth, on_unread=on_unread)
    return sorted(path for path in found if path.suffix.lower() in READ_SUFFIXES)


def list_others(folder: str | Path) -> list[Path]:
    """Return the files in and below ``folder`` that no name says to be an image that is read.

    Hidden ones, and folders that cannot be read, are left out.
    Raises ImageError: there is no such folder, or it cannot be read.
    """
    found = _files(Path(folder), depth="tree", on_unread=lambda path, why: None)
    return sorted(path for path in found if path.suffix.lower() not in READ_SUFFIXES)


def _files(
    folder: Path, *, depth: Literal["folder", "tree"], on_unread: NotRead | None
) -> list[Path]:
    """Return the files in ``folder``, and for "tree" below it, that are not hidden."""
    if not folder.is_dir():
        raise ImageError(f"'{folder}' is not a folder.")

    def note(error: OSError) -> None:
        place, why = Path(error.filename), f"cannot be read: {vips_reason(error)}."
        if on_unread is None or place == folder:
            raise ImageError(f"'{place}' {why}") from error
        on_unread(place, f"'{place}' {why}")

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if depth == "tree" and not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return found


def is_animated(path: Path) -> bool:
    """Return whether a file is an image of several frames, all of which can be read."""
    try:
        with ImageReader(path, frames="all") as reader:
            return reader.header.animation is not None
    except EdgekeeperError:
        return False
