"""Which file ``edgekeeper upscale`` writes for each image that it is given."""

import os
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekeeper.cli.upscale_output import OutputLostError, ReportedResult
from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import FORMATS, READ_SUFFIXES, SUFFIXES, list_images


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How results are named.

    Attributes:
        output: the file or folder asked for; None: beside the sources.
        label: what is put after a name beside its source, such as ``_x2``.
        form: the format that is written; None: that of the source's name, or PNG.
    """

    output: str | None
    label: str
    form: str | None = None

    def name(self, source: Path) -> str:
        """Return the source's name with the file extension of what is written."""
        wanted = SUFFIXES if self.form is None else FORMATS[self.form].suffixes
        if source.suffix.lower() in wanted:
            return source.name
        return source.stem + (".png" if self.form is None else wanted[0])

    def labelled(self, name: str) -> str:
        """Return a file's name with the label before its file extension."""
        return f"{Path(name).stem}{self.label}{Path(name).suffix}"


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Images with the files to write, and whether a folder was among what was given."""

    pairs: list[tuple[Path, Path]]
    has_folder: bool


def refusal(path: Path, target: Path) -> str | None:
    """Return why the file system does not take these names, in a sentence; None when it does."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # Opening a pipe that nobody writes to would wait for ever.
            return f"'{path}' is no file but a pipe or a device; use '-' for standard input."
    except OSError as error:
        return f"'{path}' cannot be opened: {_why(error)}."
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"'{target}' cannot be written: {_why(error)}."
    return None


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def plan_pairs(sources: Sequence[Path], naming: Naming) -> Pairs:
    """Return each image in ``sources`` (files and folders) with the file to write.

    Raises:
        InputError: a source is not there, holds no image or would be its own target; or several
            images are to be written to one file.
        ImageError: a folder cannot be read.
    """
    sources = list(dict.fromkeys(sources))
    for source in sources:
        if not os.path.lexists(source):
            raise InputError(f"There is no file or folder '{source}'.")
    into = _folder_asked_for(sources, naming.output)
    pairs: list[tuple[Path, Path]] = []
    for source in sources:
        if source.is_dir():
            target = _beside(source, naming.label) if into is None else into
            if into is not None and len(sources) > 1:
                target /= _own_name(source)
            pairs += _tree(source, target, naming)
        elif into is not None:
            pairs.append((source, into / naming.name(source)))
        elif naming.output is not None:
            pairs.append((source, Path(naming.output)))
        else:
            pairs.append((source, source.with_name(naming.labelled(naming.name(source)))))
    if not pairs:
        named = ", ".join(f"'{source}'" for source in sources)
        raise InputError(f"{named}: no images (files {', '.join(READ_SUFFIXES)}) there.")
    return Pairs(
        pairs=_told_apart(pairs, naming), has_folder=any(source.is_dir() for source in sources)
    )


def _folder_asked_for(sources: Sequence[Path], output: str | None) -> Path | None:
    """Return the output if it is a folder, is to become one, or has to be one."""
    if output is None:
        return None
    folder = Path(output)
    several = len(sources) > 1 or sources[0].is_dir()
    if several and os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"'{folder}' is a file; several images need a folder as --output.")
    return folder if several or folder.is_dir() or output.endswith(("/", os.sep)) else None


def _own_name(folder: Path) -> str:
    """Return the name of a folder, also of "." and ".."."""
    name = folder.name if folder.name not in ("", "..") else Path(os.path.realpath(folder)).name
    if not name:
        raise InputError(f"'{folder}' has no name to name results after; give --output.")
    return name


def _beside(folder: Path, label: str) -> Path:
    name = _own_name(folder)
    parent = folder.parent if folder.name == name else Path(os.path.realpath(folder)).parent
    return parent / f"{name}{label}"


def _tree(source: Path, target: Path, naming: Naming) -> list[tuple[Path, Path]]:
    """The images in and below a folder, and their places in the same tree below the target."""
    inside = Path(os.path.realpath(target))
    if inside == Path(os.path.realpath(source)):
        raise InputError(f"'{source}' cannot be its own target; choose another folder.")
    pairs = []
    for path in list_images(source, depth="tree", suffixes=READ_SUFFIXES):
        # A target below the source: never enlarge one's own results.
        if not Path(os.path.realpath(path.parent)).is_relative_to(inside):
            place = path.relative_to(source).with_name(naming.name(path))
            pairs.append((path, target / place))
    return pairs


def _told_apart(pairs: Sequence[tuple[Path, Path]], naming: Naming) -> list[tuple[Path, Path]]:
    """The pairs; where a.gif and a.png would both become a.png, the first becomes a.gif.png."""
    wanted = Counter(target for _, target in pairs)
    found = []
    for source, target in pairs:
        name, renamed = source.name, naming.name(source)
        if wanted[target] > 1 and name != renamed and target.suffix == Path(renamed).suffix:
            full = name + Path(renamed).suffix
            labelled = target.name == naming.labelled(renamed)
            target = target.with_name(naming.labelled(full) if labelled else full)
        found.append((source, target))
    return found


# ---- Standard input and output as image files of ``edgekeeper upscale`` -----------------------
#
# Both go through a folder of their own for temporary files, so that an image of any size flows as
# from any file, and nothing reaches standard output unless it is complete.

STREAM = "-"


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The sources and the output, with files where standard input and output were named.

    Attributes:
        stands_in: the file that standard input was stored in, or None.
        goes_out: the file that is to go to standard output, or None.
    """

    sources: tuple[Path, ...]
    output: str | None
    stands_in: Path | None
    goes_out: Path | None

    def named(self, reported: ReportedResult) -> ReportedResult:
        """Return the result with "-" for the files that stand for streams."""
        result = reported.result
        message = result.message
        if self.stands_in is not None:
            message = message.replace(f"'{self.stands_in}'", "Standard input")
            result = replace(result, path=Path(STREAM))
        if self.goes_out is not None:
            message = message.replace(f"'{self.goes_out}'", "Standard output")
            result = replace(result, target=Path(STREAM))
        return replace(reported, result=replace(result, message=message))

    def deliver(self) -> None:
        """Send what was written for standard output there.

        Raises:
            OutputLostError: it cannot be written there.
        """
        if self.goes_out is None:
            return
        try:
            with self.goes_out.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer, 2**20)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputLostError(error) from error


@contextmanager
def open_streams(
    sources: Sequence[str], output: str | None, *, extension: str | None
) -> Iterator[Streams]:
    """The sources and the output; standard input is read now, to its end.

    Raises:
        InputError: standard input or output is the terminal.
        ImageError: there is no room for standard input.
    """
    reads, writes = STREAM in sources, output == STREAM
    if reads and sys.stdin.isatty():
        raise InputError("'-' reads an image from standard input, which is the keyboard here.")
    if writes and sys.stdout.isatty():
        raise InputError("'-o -' writes an image to standard output, which is the screen here.")
    if not reads and not writes:
        yield Streams(
            sources=tuple(map(Path, sources)), output=output, stands_in=None, goes_out=None
        )
        return
    with tempfile.TemporaryDirectory(prefix="edgekeeper-") as folder:
        given = Path(folder, "input") if reads else None
        made = Path(folder, f"output.{extension}") if writes else None
        if given is not None:
            _store(given)
        yield Streams(
            sources=tuple(map(Path, sources)) if given is None else (given,),
            output=output if made is None else str(made),
            stands_in=given,
            goes_out=made,
        )


def _store(path: Path) -> None:
    """Write what comes from standard input to a file."""
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
    except OSError as error:
        raise ImageError(
            f"Standard input cannot be kept in '{path.parent}': {error.strerror}. "
            "Set TMPDIR to a folder with room."
        ) from error
