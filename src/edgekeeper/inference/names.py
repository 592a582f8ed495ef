"""Which file is written for each image or video that is given."""

import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgekeeper.errors import InputError
from edgekeeper.image import FORMATS, READ_SUFFIXES, SUFFIXES, list_images
from edgekeeper.inference.request import Request

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
    left alone. Formats that can only be read become PNG; where a.gif and a.png would both become
    a.png, the first becomes a.gif.png.

    Raises:
        InputError: a source is not there, or holds no image.
        ImageError: a folder cannot be read.
    """
    sources = list(dict.fromkeys(map(Path, request.sources)))
    for source in sources:
        if not os.path.lexists(source):
            raise InputError(f"There is no file or folder '{source}'.")
    label, form = request.label(factors), request.save.format
    into = _folder_asked_for(sources, request.output)
    pairs: list[tuple[Path, Path]] = []
    for source in sources:
        if source.is_dir():
            target = _beside(source, label) if into is None else into
            if into is not None and len(sources) > 1:
                target /= _own_name(source)
            pairs += _tree(source, target, form)
        elif into is not None:
            pairs.append((source, into / _name(source, form)))
        elif request.output is not None:
            pairs.append((source, Path(request.output)))
        else:
            pairs.append((source, source.with_name(_labelled(_name(source, form), label))))
    if not pairs:
        named = ", ".join(f"'{source}'" for source in sources)
        raise InputError(f"{named}: no images (files {', '.join(READ_SUFFIXES)}) there.")
    return _told_apart(pairs, label, form)


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


def refusal(source: Path, target: Path) -> str | None:
    """Return why the file system does not take these names, in a sentence; None when it does."""
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            # Opening a pipe that nobody writes to would wait for ever.
            return f"'{source}' is no file but a pipe or a device; use '-' for standard input."
    except OSError as error:
        return f"'{source}' cannot be opened: {_why(error)}."
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"'{target}' cannot be written: {_why(error)}."
    return None


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _name(source: Path, form: str | None) -> str:
    """Return the source's name with the file extension of what is written."""
    if is_video(source):
        return source.name if source.suffix.lower() in VIDEO_SUFFIXES else f"{source.stem}.mkv"
    wanted = SUFFIXES if form is None else FORMATS[form].suffixes
    if source.suffix.lower() in wanted:
        return source.name
    return source.stem + (".png" if form is None else wanted[0])


def _labelled(name: str, label: str) -> str:
    return f"{Path(name).stem}{label}{Path(name).suffix}"


def _folder_asked_for(sources: Sequence[Path], output: str | Path | None) -> Path | None:
    """Return the output if it is a folder, is to become one, or has to be one."""
    if output is None:
        return None
    folder = Path(output)
    several = len(sources) > 1 or sources[0].is_dir()
    if several and os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"'{folder}' is a file; several images need a folder as output.")
    ends = isinstance(output, str) and output.endswith(("/", os.sep))
    return folder if several or folder.is_dir() or ends else None


def _own_name(folder: Path) -> str:
    """Return the name of a folder, also of "." and ".."."""
    name = folder.name if folder.name not in ("", "..") else Path(os.path.realpath(folder)).name
    if not name:
        raise InputError(f"'{folder}' has no name to name results after; say where they go.")
    return name


def _beside(folder: Path, label: str) -> Path:
    name = _own_name(folder)
    parent = folder.parent if folder.name == name else Path(os.path.realpath(folder)).parent
    return parent / f"{name}{label}"


def _tree(source: Path, target: Path, form: str | None) -> list[tuple[Path, Path]]:
    """Return the images in and below a folder, and their places in the same tree of the target."""
    inside = Path(os.path.realpath(target))
    if inside == Path(os.path.realpath(source)):
        raise InputError(f"'{source}' cannot be its own target; choose another folder.")
    pairs = []
    for path in list_images(source, depth="tree", suffixes=READ_SUFFIXES):
        # A target below the source: never enlarge one's own results.
        if not Path(os.path.realpath(path.parent)).is_relative_to(inside):
            pairs.append((path, target / path.relative_to(source).with_name(_name(path, form))))
    return pairs


def _told_apart(
    pairs: Sequence[tuple[Path, Path]], label: str, form: str | None
) -> list[tuple[Path, Path]]:
    wanted = Counter(target for _, target in pairs)
    found = []
    for source, target in pairs:
        name, renamed = source.name, _name(source, form)
        if wanted[target] > 1 and name != renamed and target.suffix == Path(renamed).suffix:
            full = name + Path(renamed).suffix
            labelled = target.name == _labelled(renamed, label)
            target = target.with_name(_labelled(full, label) if labelled else full)
        found.append((source, target))
    return found
