"""Which file is written for each image or video, and which are not even begun."""

import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edgekeeper.errors import InputError
from edgekeeper.files import is_plain, reason
from edgekeeper.image import FORMATS, READ_SUFFIXES, SUFFIXES, is_animated, list_images, list_others
from edgekeeper.inference.request import Request, Result

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""The file extensions of videos that are written; Matroska (.mkv) takes nearly everything."""

VIDEO_READ_SUFFIXES = (
    *VIDEO_SUFFIXES,
    *(".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".vob", ".wmv", ".flv", ".ogv", ".3gp"),
    ".mxf",
)
"""The file extensions by which a file is taken for a video."""


def is_video(path: str | Path) -> bool:
    """Return whether a file is taken for a video."""
    return Path(path).suffix.lower() in VIDEO_READ_SUFFIXES and Path(path).is_file()


def plan_outputs(request: Request, *, factors: tuple[int, ...]) -> list[tuple[Path, Path]]:
    """Return each image and video that is given with the file to write.

    A file is written to ``request.output``, into it where that is a folder, or beside its source
    with what was asked for in its name: ``_x4`` (of networks with ``factors``). Of a folder the
    images in and below it are written to the same tree below another folder; videos in it are
    left alone, and a folder below that cannot be read stands there as an image would. Formats
    that can only be read, and GIF of one frame, become PNG; where a.gif and a.png would both become
    a.png, the first becomes a.gif.png.

    Raises:
        InputError: a source is not there, or holds no image.
        ImageError: a folder cannot be read.
    """
    sources = list(dict.fromkeys(map(Path, request.sources)))
    for source in sources:
        if not os.path.lexists(source):
            raise InputError(f"There is no file or folder '{source}'.")
    several, label, form = len(sources) > 1, request.label(factors), request.save.format
    into = None if request.output is None else Path(request.output)
    if into and not into.is_dir() and (several or sources[0].is_dir()) and os.path.lexists(into):
        raise InputError(f"'{into}' is a file; several images need a folder as output.")
    is_folder = several or sources[0].is_dir() or str(request.output).endswith(("/", os.sep))
    if into and not is_folder and not into.is_dir():
        return [(sources[0], into)]
    found: list[tuple[Path, Path, str]] = []  # the source, the folder of the result, its label
    for source in sources:
        if not source.is_dir():
            found.append((source, into or source.parent, "" if into else label))
            continue
        target = into
        if into is None or several:
            named = _with_name(source)
            target = into / named.name if into else named.with_name(named.name + label)
        assert target is not None
        images = _images_below(source, outside=target)
        found += [(path, target / path.relative_to(source).parent, "") for path in images]
    if not found:
        names = "', '".join(map(str, sources))
        raise InputError(f"'{names}': no images (files {', '.join(READ_SUFFIXES)}) there.")
    places = [place / _name(source, label, form) for source, place, label in found]
    wanted = Counter(places)
    return [
        (source, place.with_name(_name(source, label, form, full=wanted[place] > 1)))
        for (source, _, label), place in zip(found, places, strict=True)
    ]


def not_read(request: Request) -> list[Path]:
    """Return the files in and below the folders that are given which are no images or videos."""
    folders = [Path(source) for source in dict.fromkeys(request.sources) if Path(source).is_dir()]
    return [p for folder in folders for p in list_others(folder) if not is_video(p)]


def _with_name(folder: Path) -> Path:
    """Return a folder by a path that ends in its name, which "." and ".." do not."""
    named = folder if folder.name not in ("", "..") else Path(os.path.realpath(folder))
    if not named.name:
        raise InputError(f"'{folder}' has no name to name results after; say where they go.")
    return named


def _images_below(folder: Path, *, outside: Path) -> list[Path]:
    """Return the images in and below a folder, but never one's own results in ``outside``.

    Beside images so are the folders below that cannot be read.
    """
    inside = Path(os.path.realpath(outside))
    if inside == Path(os.path.realpath(folder)):
        raise InputError(f"'{folder}' cannot be its own target; choose another folder.")
    unread: list[Path] = []  # each will be a failure of its own
    found = list_images(
        folder,
        depth="tree",
        suffixes=READ_SUFFIXES,
        on_unread=lambda path, why: unread.append(path),
    )
    found = sorted([*found, *unread])
    return [p for p in found if not Path(os.path.realpath(p.parent)).is_relative_to(inside)]


def _name(source: Path, label: str, form: str | None, *, full: bool = False) -> str:
    """Return the source's name with a label and the file extension of what is written.

    ``full`` keeps a file extension that changes in the name.
    """
    kept = SUFFIXES if form is None else FORMATS[form].suffixes
    suffix = ".png" if form is None else kept[0]
    if form is None and source.suffix.lower() == ".gif" and not is_animated(source):
        kept = tuple(one for one in kept if one != ".gif")  # more than 256 colours
    if is_video(source):
        kept, suffix = VIDEO_SUFFIXES, ".mkv"
    if source.suffix.lower() in kept:
        return f"{source.stem}{label}{source.suffix}"
    return f"{source.name if full else source.stem}{label}{suffix}"


def check_outputs(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Raise InputError for a source that is its own target, or two sources of one target."""
    seen: dict[str, Path] = {}
    for source, target in pairs:
        place = os.path.realpath(target)
        if os.path.realpath(source) == place:
            raise InputError(f"'{source}' cannot be its own target; choose another name.")
        if place in seen:
            raise InputError(f"'{seen[place]}' and '{source}' would both be written to '{target}'.")
        seen[place] = source


def refusal(
    source: Path, target: Path, *, existing: Literal["skip", "fail", "replace"]
) -> Result | None:
    """Return the result of a file that is not even begun, and None for all others."""
    no = Result(source=source, target=target, status="failed")
    try:
        mode = source.stat().st_mode
        if stat.S_ISDIR(mode):
            os.scandir(source).close()  # says why it could not be read before
        if not stat.S_ISREG(mode):
            # Opening a pipe that nobody writes to would wait for ever.
            why = f"'{source}' is no file but a pipe or a device; use '-' for standard input."
            return replace(no, reason=why)
    except OSError as error:
        return replace(no, reason=f"'{source}' cannot be opened: {reason(error)}.")
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return replace(no, reason=f"'{target}' cannot be written: {reason(error)}.")
    if existing != "replace" and target.is_file() and is_plain(target):
        status: Literal["skipped", "failed"] = "skipped" if existing == "skip" else "failed"
        return replace(no, status=status, reason=f"'{target}' exists already.")
    return None
