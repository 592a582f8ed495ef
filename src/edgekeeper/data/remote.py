"""Folders at addresses such as ``s3://bucket/photos.store``, by fsspec.

A store is copied once to the user's cache and checked.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from edgekeeper.data.store import INDEX, PIXELS, read_index
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

    @contextmanager
    def _told(self, name: str, done: str, error: type[EdgekeeperError]) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as problem:  # s3fs turns its own into OSErrors
            why = f"{type(problem).__name__}: {problem}"
            raise error(f"'{self.address}/{name}' cannot be {done} ({why}).") from problem


def fetch_store(address: str) -> Path:
    """Return the folder of a local copy of the store at ``address``, such as ``s3://b/p.store``.

    Every rank draws from all images, so the whole store is copied, by ranges; the copy has the name
    of its pixels' SHA-256, and is checked against it when it is made.
    Raises DataError: no store is there.
    """
    remote = RemoteFolder(address)
    content = remote.read(INDEX, error=DataError)
    if content is None:
        raise DataError(f"'{address}' is not a packed store: it has no {INDEX}.")
    stores = make_folder(user_cache() / "stores")
    with staging(stores) as draft:
        write_bytes(draft / INDEX, content)
        index = read_index(draft / INDEX)
    folder = make_folder(stores / index.pixels_sha256)
    pixels = folder / PIXELS
    with locked(folder, wait=True):  # one copies for all ranks of this machine
        # complete when it has its name
        if not (pixels.is_file() and pixels.stat().st_size == index.pixels_bytes):
            remote.fetch(PIXELS, pixels, digest=index.pixels_sha256, error=DataError)
        write_bytes(folder / INDEX, content)  # names and licences may have changed
    return folder
