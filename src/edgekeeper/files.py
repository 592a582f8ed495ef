"""Files written whole or not at all: every file that edgekeeper writes gets its name here.

What is unfinished lies in a hidden folder beside the target, ``.edgekeeper-<process>-<random>``,
and is renamed when it is complete and on the disk. The names of such folders are short whatever
the target's, and a lock tells those of running processes from those that a kill left behind.
"""

import errno
import hashlib
import json
import lzma
import os
import re
import secrets
import shutil
import stat
import struct
import sys
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import resources
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Literal

import platformdirs

from edgekeeper.errors import EdgekeeperError, InputError

if sys.platform != "win32":
    import fcntl

BAD_ZIP = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError),  # RuntimeError: encrypted, or packed in an unknown way
)
"""What ``zipfile`` raises for an archive that is damaged or cannot be read, beside OSError."""

Overwrite = Literal["refuse", "replace"]

_STAGING = re.compile(r"\.edgekeeper-\d+-[0-9a-f]{8}")
_DESCRIPTOR = re.compile(r"/(?:proc/self|dev)/fd/(\d+)")
_AT_ONCE = (  # without waiting, and on Windows as bytes
    getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
)
_MOST_LINKS = 40  # as Linux follows
_CLEARED: set[Path] = set()


def check_target(
    path: Path, *, overwrite: Overwrite = "refuse", error: type[EdgekeeperError] = InputError
) -> None:
    """Raise ``error`` unless a file can be written to ``path``.

    That is a plain file or a name that is free, in a folder that exists; links are followed.
    Standard output, FIFOs and devices such as /dev/null are written to as they are; disks and
    sockets are refused.
    """
    place = follow(path)
    if _DESCRIPTOR.fullmatch(str(place)):
        return
    try:
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not place.parent.is_dir():
            raise error(
                f"'{path}' cannot be written: there is no folder '{place.parent}'."
            ) from None
        return
    except OSError as problem:
        raise not_written(path, problem, error=error) from problem
    if stat.S_ISDIR(mode):
        raise error(f"'{path}' cannot be written: it is a folder.")
    if stat.S_ISREG(mode) and overwrite == "refuse":
        raise error(f"'{path}' exists already; choose another name or allow overwriting.")
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise error(f"'{path}' cannot be written: it is a disk or a socket.")


Target = str | Path | BinaryIO  # where a file goes: a path, or an open binary stream


@contextmanager
def new_file(
    target: Target, *, overwrite: Overwrite = "replace", error: type[EdgekeeperError] = InputError
) -> Iterator[Path]:
    """Yield a path to write the new file to, which becomes ``target`` when the block ends well.

    Otherwise nothing changes. The path ends as the target's name does.
    Raises EdgekeeperError: of the type ``error``: the target cannot be written, or any OSError in
    the block.
    """
    with draft_of(target, overwrite=overwrite, error=error) as draft:
        try:
            yield draft
        except OSError as problem:
            raise not_written(target, problem, error=error) from problem
        deliver(draft, target, overwrite=overwrite, error=error)


@contextmanager
def draft_of(
    target: Target, *, overwrite: Overwrite = "replace", error: type[EdgekeeperError] = InputError
) -> Iterator[Path]:
    """Yield the path of a file that ``deliver`` can give the name ``target``; gone afterwards."""
    folder, name = Path(tempfile.gettempdir()), "stream"
    if isinstance(target, str | Path):
        check_target(Path(target), overwrite=overwrite, error=error)
        place = follow(Path(target))
        folder, name = (place.parent if is_plain(place) else folder), place.name
    with ExitStack() as stack:
        try:
            draft = stack.enter_context(staging(folder)) / name
            draft.touch()
        except OSError as problem:
            raise not_written(target, problem, error=error) from problem
        yield draft


def deliver(
    draft: Path,
    target: Target,
    *,
    overwrite: Overwrite = "replace",
    error: type[EdgekeeperError] = InputError,
) -> None:
    """Give the finished file ``draft`` the name ``target``, or write it to a device or a stream.

    Raises EdgekeeperError: of the type ``error``: it cannot be written, or exists by now.
    """
    if isinstance(target, str | Path):
        check_target(Path(target), overwrite=overwrite, error=error)
    try:
        if not isinstance(target, str | Path):
            _copy(draft, target)
        elif is_plain(place := follow(Path(target))):
            # As the umask has it, which made the folder: some libraries make files private.
            draft.chmod(draft.parent.stat().st_mode & 0o666)
            with draft.open("r+b") as file:
                os.fsync(file.fileno())
            draft.replace(place)
        else:
            with _opened(place) as stream:
                _copy(draft, stream)
    except OSError as problem:
        raise not_written(target, problem, error=error) from problem


def write_bytes(
    path: str | Path, content: bytes, *, error: type[EdgekeeperError] = InputError
) -> None:
    """Write the file ``path`` whole or not at all; raises ``error``."""
    with new_file(path, error=error) as draft:
        draft.write_bytes(content)


def write_text(path: str | Path, text: str, *, error: type[EdgekeeperError] = InputError) -> None:
    """Write the file ``path`` as UTF-8, whole or not at all; raises ``error``.

    What a name has of bytes that are no UTF-8 is escaped, in JSON's way.
    """
    write_bytes(path, text.encode(errors="backslashreplace"), error=error)


def open_plain(path: str | Path) -> BufferedReader:
    """Return the file ``path``, open for reading; a pipe, a socket or a device is not opened.

    Reading those could wait for ever, or never end.
    Raises OSError: the file cannot be opened, or is something else than a file.
    """
    try:
        mode = Path(path).stat().st_mode
    except ValueError as problem:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(problem), str(path)) from problem
    _check_plain(mode, path)  # opening a device may already do something
    descriptor = os.open(path, os.O_RDONLY | _AT_ONCE)
    try:
        _check_plain(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path) -> bytes:
    """Return what the file ``path`` holds; raises OSError as ``open_plain`` does."""
    with open_plain(path) as file:
        return file.read()


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text says; raises ValueError also for lists in lists without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its lists or objects lie too deep in one another") from None


def read_facts(package: str, name: str) -> dict[str, Any]:
    """Return what a TOML file of the package says, such as ``edgekeeper.data``'s ``sets.toml``."""
    return tomllib.loads(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def read_text(path: str | Path) -> str:
    """Return the text of the file ``path``; an OSError too where it is no UTF-8."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as problem:
        raise OSError(errno.EILSEQ, "it is no text in UTF-8", str(path)) from problem


def _check_plain(mode: int, path: str | Path) -> None:
    """Raise OSError unless ``mode`` is that of a plain file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        what = "it is a pipe, a socket or a device, not a file"
        raise OSError(errno.EINVAL, what, str(path))


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock on ``folder``, which ends with the process, however that ends.

    Raises BlockingIOError when another holds it and ``wait`` is off, OSError where there are none.
    """
    if sys.platform == "win32":  # which cannot lock a folder
        yield
        return
    # the folder itself is locked: a lock file could be left behind or removed
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


@contextmanager
def reading(path: str | Path, *, error: type[EdgekeeperError], what: str = "") -> Iterator[None]:
    """Turn an OSError into ``error``: that the file ``path``, which is ``what``, cannot be read."""
    try:
        yield
    except OSError as problem:
        raise error(f"{what}'{path}' cannot be read: {reason(problem)}.") from problem


def sha256_of(path: str | Path, *, error: type[EdgekeeperError] = InputError) -> str:
    """Return the SHA-256 of the file ``path`` as 64 hexadecimal digits; raises ``error``."""
    with reading(path, error=error), open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_cache() -> Path:
    """Return the folder for what can be got again: EDGEKEEPER_CACHE, or the system's for users."""
    given = os.environ.get("EDGEKEEPER_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("edgekeeper")


def make_folder(path: Path, *, error: type[EdgekeeperError] = InputError) -> Path:
    """Return the folder ``path``, made with its parents unless it is there; raises ``error``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"The folder '{path}' cannot be made: {reason(problem)}.") from problem
    return path


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """Yield a new hidden folder in ``parent`` for what is unfinished; gone afterwards.

    The first time in a process, those that killed processes left in ``parent`` are removed.
    """
    if parent not in _CLEARED:
        _CLEARED.add(parent)
        remove_leftovers(parent)
    folder = parent / f".edgekeeper-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    with ExitStack() as stack:
        with suppress(OSError):  # where there are no locks
            stack.enter_context(locked(folder, wait=False))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove the staging folders in ``parent`` that no process holds any more."""
    if sys.platform == "win32":  # which cannot lock a folder
        return
    with suppress(OSError):
        for entry in os.scandir(parent):
            if _STAGING.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError), locked(Path(entry.path), wait=False):
                    shutil.rmtree(entry.path, ignore_errors=True)


def follow(path: Path) -> Path:
    """Return what ``path`` leads to through links, up to one that stands for an open file."""
    with suppress(OSError):  # no link
        for _ in range(_MOST_LINKS):
            if _DESCRIPTOR.fullmatch(str(path)):
                break
            path = path.parent / path.readlink()
    return path


def not_written(
    target: Target, problem: OSError, *, error: type[EdgekeeperError] = InputError
) -> EdgekeeperError:
    """Return the error that says why ``target`` cannot be written."""
    name = f"'{target}'" if isinstance(target, str | Path) else "The image"
    return error(f"{name} cannot be written: {reason(problem)}.")


def is_full(error: BaseException | None) -> bool:
    """Return whether an error comes from a disk, or a quota, without space."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def reason(problem: OSError) -> str:
    """Return what went wrong, to stand after a colon."""
    return (problem.strerror or str(problem) or type(problem).__name__).lower()


def shown(text: object) -> str:
    """Return a text in one line that any terminal takes: what is not printable is escaped."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def is_plain(path: Path) -> bool:
    """Return whether ``path`` leads to a file or is free: no device, FIFO or standard output."""
    place = follow(path)
    if _DESCRIPTOR.fullmatch(str(place)):
        return False
    return place.is_file() or not place.exists()


def is_standard_output(path: Path) -> bool:
    """Return whether ``path`` is /dev/stdout, or leads there."""
    found = _DESCRIPTOR.fullmatch(str(follow(path)))
    return found is not None and found[1] == "1"


def _opened(place: Path) -> BinaryIO:
    """Return a device, a FIFO or an open file of this process, to be written to."""
    number = _DESCRIPTOR.fullmatch(str(place))
    if number is None:
        return place.open("wb")
    for stream in (sys.stdout, sys.stderr):  # what was printed before comes before
        stream.flush()
    return os.fdopen(os.dup(int(number[1])), "wb")


def _copy(draft: Path, stream: BinaryIO) -> None:
    with draft.open("rb") as file:
        shutil.copyfileobj(file, stream, 2**20)
    stream.flush()
