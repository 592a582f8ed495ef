"""Folders at addresses such as ``s3://bucket/photos.store``, by fsspec.

A store is copied once to the user's cache and checked. One that has no room there is streamed: each
batch reads the rows of its patches, each rank those of its part of the batch.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.data.patches import Integers, Windows, read_memory
from edgekeeper.data.store import INDEX, PIXELS, Index, Store, read_index
from edgekeeper.errors import DataError, EdgekeeperError, InputError, UnavailableError
from edgekeeper.files import (
    locked,
    make_folder,
    new_file,
    sha256_of,
    staging,
    user_cache,
    write_bytes,
)

PIECE = 2**26  # bytes of one request


def is_address(place: str | Path) -> bool:
    """Return whether ``place`` is the address of a remote folder, not a path."""
    return "://" in str(place)


def cached(address: str, *, what: str) -> Path:
    """Return the local folder that stands for the remote one at ``address``."""
    name = f"{address.rstrip('/').rpartition('/')[2]}-{sha256(address.encode()).hexdigest()[:12]}"
    return make_folder(user_cache() / what / name)


class RemoteFolder:
    """A folder at an address. Raises our errors: InputError, UnavailableError, DataError."""

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs  # torch brings it; 0.1 s

        self.address = address.rstrip("/")
        try:
            self.fs, self.path = url_to_fs(self.address)
        except ImportError as error:
            raise UnavailableError(
                f"'{address}' cannot be reached: {error}. Run: pip install 'edgekeeper[remote]'"
            ) from error
        except ValueError as error:
            raise InputError(f"'{address}' is no address that is known: {error}.") from error

    def read(self, name: str, *, error: type[EdgekeeperError] = InputError) -> bytes | None:
        """Return what the file holds; None where there is none."""
        with self._told(name, "read", error):
            try:
                self.fs.invalidate_cache()  # others write here too
                found: bytes = self.fs.cat_file(f"{self.path}/{name}")
            except FileNotFoundError:
                return None
        return found

    def write(
        self, name: str, content: bytes | Path, *, error: type[EdgekeeperError] = InputError
    ) -> None:
        """Write a file whole, or copy a local one there."""
        target = f"{self.path}/{name}"
        with self._told(name, "written", error):
            self.fs.makedirs(self.path, exist_ok=True)
            if isinstance(content, Path):
                self.fs.put_file(str(content), target)
            else:
                self.fs.pipe_file(target, content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._told(name, "removed", InputError), suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.path}/{name}")

    def fetch(
        self, name: str, target: Path, *, digest: str, error: type[EdgekeeperError] = InputError
    ) -> None:
        """Copy a file to ``target``, by ranges, unless it is there; its SHA-256 is ``digest``."""
        if target.is_file() and sha256_of(target) == digest:
            return
        place, found = f"{self.path}/{name}", sha256()
        with self._told(name, "read", error), new_file(target, error=error) as draft:
            size = self.fs.size(place)
            with draft.open("wb") as file:
                for start in range(0, size, PIECE):
                    piece = self.fs.cat_file(place, start=start, end=min(size, start + PIECE))
                    found.update(piece)
                    file.write(piece)
            if found.hexdigest() != digest:
                raise error(
                    f"'{self.address}/{name}' is damaged: SHA-256 is {found.hexdigest()}, and "
                    f"should be {digest}."
                )

    def ranges(
        self, name: str, *, starts: Integers, ends: Integers, error: type[EdgekeeperError]
    ) -> NDArray[np.uint8]:
        """Return what lies in the ranges of the file, one after another; all are asked for at once.

        Raises ``error``: the file is shorter.
        """
        places = [f"{self.path}/{name}"] * len(starts)
        with self._told(name, "read", error):
            pieces = self.fs.cat_ranges(places, starts.tolist(), ends.tolist(), on_error="raise")
        found = np.frombuffer(b"".join(pieces), np.uint8)
        if len(found) != (expected := int((ends - starts).sum())):
            raise error(f"'{self.address}/{name}' gave {len(found)} of {expected} bytes.")
        return found

    @contextmanager
    def _told(self, name: str, done: str, error: type[EdgekeeperError]) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as problem:  # s3fs turns its own into OSErrors
            why = f"{type(problem).__name__}: {problem}"
            raise error(f"'{self.address}/{name}' cannot be {done} ({why}).") from problem


class StreamedStore(Store):
    """A store at an address, of which nothing is kept here: a batch reads the rows of its patches.

    Beside what ``verify`` looks at, what comes is not checked. Raises DataError: an earlier version
    made the store, without a digest of each image.
    """

    streamed = True

    def __init__(self, remote: RemoteFolder, index: Index) -> None:
        super().__init__(remote.address, index, None)
        self.remote = remote
        if not all(entry.sha256 for entry in index.images):
            raise DataError(
                f"'{self.place}' has no digests of its images, so it cannot be streamed: prepare "
                "it anew, or make room for a copy."
            )

    def read(self, walks: Windows, *, pinned: bool) -> Tensor:
        """Return the patches (B, 3, size, size) uint8; of each plane one range is read."""
        along, across = (step * (walks.size - 1) for step in (walks.row, walks.column))
        low = walks.origin + np.minimum(along, 0) + np.minimum(across, 0)  # (B,)
        extent = np.abs(along) + np.abs(across) + 1  # bytes from the first to the last pixel
        starts = low[:, None] + np.arange(3) * walks.plane[:, None]  # (B, 3)
        flat = self._ranges(starts.flatten(), (starts + extent[:, None]).flatten())
        origin = walks.origin - low + 3 * (np.cumsum(extent) - extent)  # the ranges joined
        here = Windows(origin, extent, walks.row, walks.column, walks.size)
        return read_memory(flat, here, pinned=pinned)

    def bytes_at(self, place: slice) -> NDArray[np.uint8]:
        """Return so many of the pixels, flat and read-only."""
        start, stop, _ = place.indices(self.index.pixels_bytes)
        starts = np.arange(start, stop, PIECE)
        return self._ranges(starts, np.minimum(starts + PIECE, stop))

    def _ranges(self, starts: Integers, ends: Integers) -> NDArray[np.uint8]:
        return self.remote.ranges(PIXELS, starts=starts, ends=ends, error=DataError)


def open_store(place: str | Path, *, on: Literal["auto", "host", "device", "remote"]) -> Store:
    """Return the store at a path or an address.

    What is at an address is copied to the user's cache, by ranges, under the name of its pixels'
    SHA-256, and checked; streamed with "remote", and with "auto" where there is no room.
    Raises DataError: no store is there. InputError: a path is to be streamed.
    """
    if not is_address(place):
        if on == "remote":
            raise InputError(f"'{place}' is no address: only what is at one can be streamed.")
        return Store.open(place)
    remote = RemoteFolder(str(place))
    content = remote.read(INDEX, error=DataError)
    if content is None:
        raise DataError(f"'{place}' is not a packed store: it has no {INDEX}.")
    stores = make_folder(user_cache() / "stores")
    with staging(stores) as draft:
        write_bytes(draft / INDEX, content)
        index = read_index(draft / INDEX)
    if on == "remote":
        return StreamedStore(remote, index)
    folder = make_folder(stores / index.pixels_sha256)
    pixels = folder / PIXELS
    with locked(folder, wait=True):  # one copies for all ranks of this machine
        # complete when it has its name
        if not (pixels.is_file() and pixels.stat().st_size == index.pixels_bytes):
            if on == "auto" and shutil.disk_usage(folder).free <= index.pixels_bytes:
                return StreamedStore(remote, index)
            remote.fetch(PIXELS, pixels, digest=index.pixels_sha256, error=DataError)
        write_bytes(folder / INDEX, content)  # names and licences may have changed
    return Store.open(folder)
