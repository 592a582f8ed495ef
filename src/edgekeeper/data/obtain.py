"""Sets of the catalogue fetched from their public origin, each file checked."""

import zipfile
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from edgekeeper.data.catalogue import ImageSet, Remote, find_set
from edgekeeper.data.fetch import fetch
from edgekeeper.errors import DataError
from edgekeeper.files import write_bytes


def remote_files(entry: ImageSet) -> tuple[Remote, ...]:
    """Return the files of which ``entry`` consists, as far as they have a public address."""
    single = []
    for path, size, sha256 in digests().get(entry.name, ()):
        start, base = next((s, b) for s, b in entry.bases if path.startswith(s))
        single.append(Remote(path, base + path.removeprefix(start), size, sha256))
    return (*single, *entry.archives)


@lru_cache(maxsize=1)
def digests() -> dict[str, list[tuple[str, int, str]]]:
    """For each set with known files: (path, bytes, SHA-256) of each."""
    known: dict[str, list[tuple[str, int, str]]] = {}
    text = files("edgekeeper.data").joinpath("digests.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        name, path, size, sha256 = line.split()
        known.setdefault(name, []).append((path, int(size), sha256))
    return known


Progress = Callable[[int, int, str], None]
"""Called with (files done, files in all, name of the file just done)."""


def fetch_set(
    wanted: str | ImageSet,
    root: str | Path,
    *,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> Path:
    """The folder below ``root`` that now holds the set ``wanted``; files already there are checked.

    Raises DataError, also with what to do by hand when a set has no public direct address.
    """
    entry = wanted if isinstance(wanted, ImageSet) else find_set(wanted)
    folder = Path(root) / entry.folder
    remotes = remote_files(entry)
    if not remotes:
        raise DataError(
            f"{entry.title} cannot be fetched directly. {entry.how} Origin: {entry.origin}; "
            f"licence: {entry.licence}; folder: '{folder}'."
        )
    for number, remote in enumerate(remotes, start=1):
        path = fetch(
            remote.address,
            folder / remote.path,
            size=remote.size,
            sha256=remote.sha256,
            timeout=timeout,
        )
        if remote.unpack == "zip":
            unpack_images(path, folder)
        if progress is not None:
            progress(number, len(remotes), remote.path)
    return folder


def unpack_images(archive: Path, folder: Path) -> None:
    """Write the PNG and JPEG files of the zip ``archive`` into ``folder``, flat."""
    try:
        with zipfile.ZipFile(archive) as content:
            for item in content.infolist():
                # Only the last part of the name: an archive cannot write elsewhere.
                name = Path(item.filename.replace("\\", "/")).name
                if item.is_dir() or Path(name).suffix.lower() not in (".png", ".jpg", ".jpeg"):
                    continue
                write_bytes(folder / name, content.read(item), error=DataError)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"'{archive}' cannot be unpacked ({error}).") from error
