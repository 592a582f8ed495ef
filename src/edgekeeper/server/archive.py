"""ZIP files in and out, and file names that are only ever names."""

import re
import zipfile
from collections.abc import Iterator, Mapping
from io import RawIOBase
from pathlib import Path, PurePosixPath
from typing import Any

_PIECE = 2**20
_UNSEEN = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")  # control, and turned text


def plain_name(name: str) -> str:
    """Return the last part of a file name, for people to read; it never becomes a path."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return _UNSEEN.sub("", last)[:200] or "image"


def is_wanted(name: str) -> bool:
    """Return whether a file of a ZIP is none of those that systems put there."""
    return not PurePosixPath(name).name.startswith(".") and "__MACOSX" not in name


def extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, target: Path) -> None:
    """Write a file of a ZIP to ``target``; raises BadZipFile when it is longer than it says."""
    left = info.file_size
    with archive.open(info) as source, target.open("wb") as file:
        while chunk := source.read(_PIECE):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile("an entry is longer than it says")
            file.write(chunk)


def zipped(files: Mapping[str, Path]) -> Iterator[bytes]:
    """Yield a ZIP of files by their names in it, piece by piece, as it is made."""
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w") as archive:  # images are not packed: they are already
        for name, path in files.items():
            info = zipfile.ZipInfo.from_file(path, name)
            with path.open("rb") as source, archive.open(info, "w") as entry:
                while chunk := source.read(_PIECE):
                    entry.write(chunk)
                    yield pieces.taken()
    yield pieces.taken()


class _Pieces(RawIOBase):
    """A stream that is written to, from which what was written is taken."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._kept.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        kept, self._kept = self._kept, []
        return b"".join(kept)
