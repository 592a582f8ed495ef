"""ZIP files in and out, and file names that are only ever names."""

import contextlib
import mmap
import re
import zipfile
from collections.abc import Iterator, Mapping
from io import RawIOBase
from pathlib import Path, PurePosixPath
from typing import Any

from edgekeeper.errors import InputError
from edgekeeper.files import BAD_ZIP

_PIECE = 2**20
_IS_UTF8 = 0x800  # the flag of a name in UTF-8; all others are of code page 437
_UNSEEN = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")  # control, and turned text


def plain_name(name: str) -> str:
    """Return the last part of a file name, for people to read; it never becomes a path."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return _UNSEEN.sub("", last)[:200] or "image"


def name_in(info: zipfile.ZipInfo) -> str:
    """Return the name of a file of a ZIP; macOS writes UTF-8 without saying that it is."""
    if not info.flag_bits & _IS_UTF8:
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode()
    return info.filename


def is_wanted(name: str) -> bool:
    """Return whether a file of a ZIP is none of those that systems put there."""
    return not PurePosixPath(name).name.startswith(".") and "__MACOSX" not in name


def is_zip(path: Path) -> bool:
    """Return whether a file is a ZIP; an image with one behind its end is an image."""
    with path.open("rb") as file:
        return file.read(2) == b"PK" and zipfile.is_zipfile(file)


def opened(path: Path, *, most: int) -> zipfile.ZipFile:
    """Open a ZIP of no more than ``most`` files, and of ten times as many entries of any kind.

    Raises InputError: it has more. Those of ``BAD_ZIP``: it is damaged.
    """
    entries, limit = 0, 10 * most
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        for _ in re.finditer(rb"PK\x01\x02", whole):  # each of which zipfile keeps in memory
            entries += 1
            if entries > limit:
                break
    if entries <= limit:
        archive = zipfile.ZipFile(path)
        entries = sum(not i.is_dir() and is_wanted(i.filename) for i in archive.infolist())
        if entries <= most:
            return archive
        archive.close()
    raise InputError(f"it holds more than {most} files, the most that are taken at once")


def extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, target: Path) -> str:
    """Write a file of a ZIP to ``target``; returns what is wrong with it, or nothing."""
    left = info.file_size
    with target.open("wb") as file:
        try:
            with archive.open(info) as source:
                while chunk := source.read(_PIECE):
                    left -= len(chunk)
                    if left < 0:
                        return "an entry is longer than it says"
                    file.write(chunk)
        except BAD_ZIP as error:
            return str(error)
    return "a ZIP within a ZIP; unpack it first" if is_zip(target) else ""


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
