"""Sets of the catalogue fetched from their public origin: each file whole and right, or not there.

By urllib, over https: of the libraries for it, pooch checks no size while a file comes, follows a
redirect to anywhere, has no limit of time, and needs eight packages.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from edgekeeper.data.catalogue import ImageSet, Remote, find_set
from edgekeeper.errors import DataError, InputError
from edgekeeper.files import BAD_ZIP, make_folder, new_file, sha256_of, write_bytes

SCHEMES = ("https", "file")  # kinds of addresses that are fetched
# Called with (files done, files in all, name of the file just done)
FetchProgress = Callable[[int, int, str], None]
_CHUNK = 2**20
_MOST = 2**26  # bytes of a file whose size nobody published, and of an image in an archive
_UNREACHABLE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
_SLOWEST = 10_000  # bytes a second on average, after the first minute
_REDIRECTS = {"github.com": ".githubusercontent.com"}  # hosts that hand on, and to whom


def fetch_set(
    wanted: str | ImageSet, root: str | Path, *, progress: FetchProgress | None = None
) -> Path:
    """Return the folder below ``root`` that holds ``wanted``, checked. Raises DataError."""
    entry = wanted if isinstance(wanted, ImageSet) else find_set(wanted)
    folder = Path(root) / entry.folder
    remotes = remote_files(entry)
    if not remotes:
        raise DataError(
            f"{entry.title} cannot be fetched directly. {entry.how} Origin: {entry.origin}; "
            f"licence: {entry.licence}; folder: '{folder}'."
        )
    for number, remote in enumerate(remotes, start=1):
        path = fetch(remote, folder)
        if remote.unpack == "zip":
            unpack_images(path, folder)
        if progress is not None:
            progress(number, len(remotes), remote.path)
    return folder


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


def fetch(remote: Remote, folder: Path, *, timeout: float = 30.0) -> Path:
    """Return the file of ``remote`` in ``folder``, fetched from its address unless it is there.

    A file that is there is kept when size and digest agree and refused when they do not.
    ``timeout`` is in seconds and counts while nothing arrives.
    Raises DataError: another content, or it cannot be had; InputError: another scheme.
    """
    if urlsplit(remote.address).scheme not in SCHEMES:
        schemes = " or ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InputError(f"The address '{remote.address}' must begin with {schemes}.")
    path = folder / remote.path
    if path.exists():
        _check(path, remote)
        return path
    make_folder(path.parent, error=DataError)
    with new_file(path, error=DataError) as draft, draft.open("wb") as file:
        digest = _copy(remote, file, timeout=timeout)
        if remote.sha256 not in (None, digest):
            raise DataError(
                f"What came from {remote.address} is not the expected file: SHA-256 is {digest}, "
                f"expected {remote.sha256}. Nothing was kept; try again or ask its publisher."
            )
    return path


def _check(path: Path, remote: Remote) -> None:
    if not path.is_file():
        raise DataError(f"'{path}' is not a file. Move it away and try again.")
    size = path.stat().st_size
    wrong = f"has {size} bytes, not {remote.size}" if remote.size not in (None, size) else ""
    if not wrong and remote.sha256 is not None:
        digest = sha256_of(path, error=DataError)
        wrong = f"its SHA-256 is {digest}, not {remote.sha256}" if digest != remote.sha256 else ""
    if wrong:
        raise DataError(f"'{path}' is there but {wrong}. Delete it to fetch it again.")


def _copy(remote: Remote, file: BinaryIO, *, timeout: float) -> str:
    address = remote.address
    opener = urllib.request.build_opener(_Redirects)
    try:
        with opener.open(address, timeout=timeout) as answer:
            announced = answer.headers.get("Content-Length") or ""
            total = int(announced) if announced.isdigit() else None
            return _pour(remote, answer, into=file, total=total)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(
            f"{address} answers {error.code} ({error.reason!a}). Check the address or fetch the "
            "file by hand."
        ) from error
    except _UNREACHABLE as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{address} cannot be reached ({str(reason)!a}). Check the network and try again."
        ) from error


def _pour(remote: Remote, answer: Any, *, into: BinaryIO, total: int | None) -> str:
    address, size = remote.address, remote.size
    if None not in (total, size) and total != size:
        raise DataError(f"{address} has {total} bytes, expected {size}. Nothing was kept.")
    expected = total if size is None else size
    most = _MOST if size is None else size
    digest, done, started = hashlib.sha256(), 0, time.monotonic()
    while chunk := answer.read1(_CHUNK):  # what has arrived, so that the clock is looked at
        done += len(chunk)
        if done > most:
            raise DataError(f"{address} sends more than {most} bytes. Nothing was kept.")
        if time.monotonic() - started > 60 + done / _SLOWEST:
            raise DataError(f"{address} sends too slowly. Nothing was kept; try again later.")
        into.write(chunk)
        digest.update(chunk)
    if expected not in (None, done):
        raise DataError(
            f"{address} broke off after {done} of {expected} bytes. Nothing was kept; try again."
        )
    return digest.hexdigest()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to the same host, or to one of its own, and never away from https."""

    def redirect_request(self, req: Any, *arguments: Any) -> urllib.request.Request | None:
        """Return the request to follow with; raises URLError for another place."""
        here, there = urlsplit(req.full_url), urlsplit(arguments[-1])
        own = _REDIRECTS.get(here.hostname or "", "/")
        same = there.netloc == here.netloc or (there.hostname or "").endswith(own)
        if there.scheme not in SCHEMES or not same:
            raise urllib.error.URLError(f"it hands on to {arguments[-1]!a}, which is not followed")
        return super().redirect_request(req, *arguments)


def unpack_images(archive: Path, folder: Path) -> None:
    """Write the PNG and JPEG files of a zip into ``folder``, flat. Raises DataError."""
    try:
        with zipfile.ZipFile(archive) as content:
            for item in content.infolist():
                # Only the last part of the name: an archive cannot write elsewhere.
                name = Path(item.filename.replace("\\", "/")).name
                if item.is_dir() or Path(name).suffix.lower() not in (".png", ".jpg", ".jpeg"):
                    continue
                if item.file_size > _MOST:
                    raise DataError(f"'{archive}' holds {name!a}, an image of {item.file_size} B.")
                write_bytes(folder / name, content.read(item), error=DataError)
    except (OSError, *BAD_ZIP) as error:
        raise DataError(f"'{archive}' cannot be unpacked ({str(error)!a}).") from error
