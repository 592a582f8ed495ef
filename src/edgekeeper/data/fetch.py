"""One file from the network or a disk: size, SHA-256, a temporary name, then the final name."""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from edgekeeper.errors import DataError, InputError

CHUNK_BYTES = 1 << 20

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None when the server does not say)."""


def sha256_of(path: str | Path) -> str:
    """SHA-256 of the file ``path`` as 64 hexadecimal digits; DataError when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror}).") from error


def fetch(
    address: str,
    target: str | Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """The file ``target``, fetched from ``address`` (http, https or file) unless it is there.

    A file that is there is kept when size and digest agree and refused when they do not. What is
    fetched goes to a temporary name beside ``target``, is flushed to the disk, checked against
    ``size`` (bytes) and ``sha256``, and only then renamed: no failure leaves a wrong file.
    ``timeout`` is in seconds and counts while nothing arrives. Raises DataError.
    """
    if urlsplit(address).scheme not in ("http", "https", "file"):
        raise InputError(f"The address '{address}' must begin with http://, https:// or file://.")
    path = Path(target)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        if path.exists():
            check_file(path, size=size, sha256=sha256)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            digest = _copy(address, file, size=size, timeout=timeout, progress=progress)
            file.flush()
            os.fsync(file.fileno())
        if sha256 is not None and digest != sha256.lower():
            raise DataError(
                f"What came from {address} is not the expected file: SHA-256 is {digest}, "
                f"expected {sha256.lower()}. Nothing was kept; try again or ask its publisher."
            )
        partial.rename(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written ({error.strerror or error}).") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def check_file(path: Path, *, size: int | None, sha256: str | None) -> None:
    """Raise DataError unless ``path`` is a file of this size and digest."""
    if not path.is_file():
        raise DataError(f"'{path}' is not a file. Move it away and try again.")
    found = path.stat().st_size
    if size is not None and found != size:
        raise DataError(
            f"'{path}' is there but has {found} bytes, not {size}. Delete it to fetch it again."
        )
    if sha256 is not None and (digest := sha256_of(path)) != sha256.lower():
        raise DataError(
            f"'{path}' is there but its SHA-256 is {digest}, not {sha256.lower()}. "
            "Delete it to fetch it again."
        )


def _copy(
    address: str, file: BinaryIO, *, size: int | None, timeout: float, progress: Progress | None
) -> str:
    """SHA-256 of the bytes copied from ``address`` to ``file``."""
    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer:
            announced = answer.headers.get("Content-Length")
            total = int(announced) if announced and announced.isdigit() else None
            return _pour(answer, file, address=address, size=size, total=total, progress=progress)
    except urllib.error.HTTPError as error:
        with suppress(OSError):
            error.close()
        raise DataError(
            f"{address} answers {error.code} ({error.reason}). Check the address or fetch the "
            "file by hand."
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{address} cannot be reached ({reason}). Check the network and try again."
        ) from error


def _pour(
    answer: BinaryIO,
    file: BinaryIO,
    *,
    address: str,
    size: int | None,
    total: int | None,
    progress: Progress | None,
) -> str:
    digest, done, told = hashlib.sha256(), 0, 0.0
    expected = total if size is None else size
    if total is not None and size is not None and total != size:
        raise DataError(f"{address} has {total} bytes, expected {size}. Nothing was kept.")
    while chunk := answer.read(CHUNK_BYTES):
        done += len(chunk)
        if expected is not None and done > expected:
            raise DataError(f"{address} sends more than {expected} bytes. Nothing was kept.")
        file.write(chunk)
        digest.update(chunk)
        if progress is not None and time.monotonic() - told > 0.1:
            told = time.monotonic()
            progress(done, expected)
    if expected is not None and done != expected:
        raise DataError(
            f"{address} broke off after {done} of {expected} bytes. Nothing was kept; try again."
        )
    if progress is not None:
        progress(done, expected)
    return digest.hexdigest()
