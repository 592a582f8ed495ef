"""What is asked for, what becomes of it and where: shared by all that enlarge images."""

import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args

from edgekeeper.errors import InputError, unknown_name
from edgekeeper.files import is_plain, reason
from edgekeeper.image import (
    FORMATS,
    READ_SUFFIXES,
    SUFFIXES,
    Image,
    Overwrite,
    SaveOptions,
    is_animated,
    list_images,
)
from edgekeeper.inference.categories import Categories
from edgekeeper.inference.network import Choice, Drift
from edgekeeper.models import SRModel
from edgekeeper.ops.tiles import Seams
from edgekeeper.pretrained.exported import UsedPrecision
from edgekeeper.pretrained.zoo import FACTORS, RESTORING, Networks, Style


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for: which images, how large, by which network, how run and written.

    Attributes:
        sources: image files and folders; what is in memory needs none.
        output: the file or folder to write; None: beside the sources.
        scale, width, height, fit: how large the image becomes: by a factor, to a width, a height,
            or into a box (width, height). At most one; by default the networks' largest factor.
            The proportions stay; a smaller size shrinks the image.
        model: a network, the name of one that ships, a network file, or several networks; None:
            those that ship with ``style``.
        strength: how far "auto", "texture" and "restore" restore, 0 to 1; None: as far as the image
            is damaged, "restore" by 1.
        sharpness: from 0, as the network made it, to 1; None: 0, or 0.25 of the style "sharp".
        guard: take the faithful network's result where the texture of the one that is run is an
            artifact; with the style "texture" or a network of one's own.
        runtime: what runs the network; "auto": what its file is for, and of one that has files
            for several the fastest that is proved near enough to PyTorch (``probe_runtime``).
        many: whether many images follow, so that a faster runtime pays for small ones too.
        device: where torch computes networks that are named, or "auto"; given ones stay in place.
        threads: of the runtime of an exported network.
        precision: "auto" is the fastest that stays within half a grey level of float32 in the mean.
        ensemble: take the mean over the eight flips and turns, in eight times the time.
        consistent: correct the result until, shrunk by bicubic interpolation, it gives the image.
        tile: the side in LR pixels of what the network sees at once, context included.
        categories: for SFTGAN, what can be seen: see ``find_maps``.
        save: format, quality and so on; the file extension decides where they do not.
        existing: what becomes of a target that exists; None: "skip" with a folder, else "fail".
        keep_hidden_colour: keep the colours of fully transparent pixels, not those around them.
        frames: how many of an animation are made where the format that is written takes them.
        tolerant: what is there of a damaged file is used.
        codec, crf: of videos.

    Raises InputError: several sizes are given, or one is not above zero; there is no such choice.
    """

    sources: tuple[str | Path, ...] = ()
    output: str | Path | None = None
    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: tuple[int, int] | None = None
    model: str | Path | SRModel | Networks | None = None
    style: Style = "auto"
    strength: float | None = None
    sharpness: float | None = None
    guard: bool = False
    runtime: Literal["auto", "torch", "onnx", "openvino"] = "auto"
    many: bool = False
    device: str = "cpu"
    threads: int | None = None
    precision: Choice = "float32"
    ensemble: bool = False
    consistent: bool = False
    tile: int | Literal["auto"] = "auto"
    categories: Categories | None = None
    save: SaveOptions = field(default_factory=SaveOptions)
    existing: Literal["skip", "fail", "replace"] | None = None
    keep_hidden_colour: bool = False
    frames: Literal["first", "all"] = "all"
    tolerant: bool = False
    codec: str | None = None
    crf: int | None = None

    def __post_init__(self) -> None:
        _check_choices(self)
        given = [x for x in (self.scale, self.width, self.height, self.fit) if x is not None]
        if len(given) > 1:
            raise InputError(
                "Say once how large the image is to become: a factor, a width, a height or a box."
            )
        named = isinstance(self.model, str | Path | SRModel)
        if named and self.style != "auto":
            raise InputError(f"Give the style '{self.style}' or a model, not both: it chooses one.")
        if self.strength is not None and (named or self.style not in RESTORING):
            raise InputError(
                "A strength mixes a restoring network that ships into another, with the styles "
                "auto, texture and restore; edgekeeper blend mixes other networks."
            )
        if self.guard and self.model is None and self.style != "texture":
            raise InputError(
                "A guard holds back a network that invents: it goes with the style texture, or "
                "with one network that is named or given."
            )

    @property
    def used_sharpness(self) -> float:
        """The sharpness that was asked for, or the style's."""
        if self.sharpness is not None:
            return self.sharpness
        return 0.25 if self.style == "sharp" else 0.0

    @property
    def overwrite(self) -> Overwrite:
        """What happens to a file that exists when it is to be written."""
        return "replace" if self.existing == "replace" else "refuse"

    @property
    def on_existing(self) -> Literal["skip", "fail", "replace"]:
        """What becomes of an image whose target exists."""
        if self.existing is not None:
            return self.existing
        return "skip" if any(Path(source).is_dir() for source in self.sources) else "fail"

    def label(self, factors: tuple[int, ...]) -> str:
        """Return what is put after the names of results: what was asked for, known before."""
        if self.fit is not None:
            return f"_{self.fit[0]}x{self.fit[1]}"
        if self.width or self.height:
            return f"_w{self.width}" if self.width else f"_h{self.height}"
        return f"_x{max(factors) if self.scale is None else self.scale:g}"


# Fields that are numbers: what they may be in words, their kind, the least and the most.
_SIDE = ("a whole number of pixels above 0", Integral, 1, 10**7)  # no format has longer sides
_NUMBERS: dict[str, tuple[str, type[Any], float, float]] = {
    "scale": ("a number from 1e-7 to 1e7, such as 2.5", Real, 1e-7, 1e7),
    "fit": ("two whole numbers of pixels above 0, such as (3840, 2160)", *_SIDE[1:]),
    "tile": (f"'auto' or {_SIDE[0]}", Integral, 1, math.inf),
    "threads": ("a whole number above 0", Integral, 1, math.inf),
    **dict.fromkeys(("width", "height"), _SIDE),
    **dict.fromkeys(("strength", "sharpness"), ("a number from 0 to 1", Real, 0, 1)),
}


def _check_choices(request: Request) -> None:
    """Raise InputError for a number out of range, or, with the nearest name, for no such choice."""
    for name, known in (
        ("style", tuple(FACTORS)),
        ("runtime", ("auto", "torch", "onnx", "openvino")),
        ("precision", get_args(Choice)),
        ("existing", (None, "skip", "fail", "replace")),
        ("frames", ("first", "all")),
    ):
        if (value := getattr(request, name)) not in known:
            raise unknown_name(name, str(value), known=filter(None, known))
    for name in ("guard", "ensemble", "consistent", "keep_hidden_colour", "tolerant"):
        if not isinstance(value := getattr(request, name), bool):  # "no" would be taken for yes
            raise InputError(f"{name} is {value!r}; give True or False.")
    for name, (wanted, kind, least, most) in _NUMBERS.items():
        value, pair = getattr(request, name), name == "fit"
        numbers = value if pair and isinstance(value, tuple) else (value,)
        default = Request.__dataclass_fields__[name].default
        if not (isinstance(value, str | None) and value == default) and not (
            len(numbers) == 1 + pair
            and all(isinstance(x, kind) and least <= x <= most for x in numbers)
            and bool not in map(type, numbers)
        ):
            raise InputError(f"{name} is {value!r}; give {wanted}.")


# ---- What is told meanwhile and afterwards -------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far the work is: on ``file`` of ``files``, ``done`` of ``total`` tiles or frames.

    ``found`` an earlier run had made; ``size`` (height, width) is what an image gets, once known.
    """

    path: Path
    file: int
    files: int
    done: int
    total: int
    unit: Literal["tiles", "frames"] = "tiles"
    found: int = 0
    size: tuple[int, int] | None = None


Progress = Callable[[Step], None]
"""Called when a file starts and after each of its parts; may raise to stop."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one image or video.

    Attributes:
        source, target: the file that was read, and the one that was written or would have been.
        status: "done"; "skipped" (the target existed); "failed" (no file was written).
        reason: why not, one sentence; empty when done.
        source_size, size: (height, width) of what was read and written; None unless done.
        seconds, network_seconds: from the beginning of the work to the written file, and in the
            networks. Files overlap: the sum over a folder is more than the time it took.
        precision, runtime, tile: what ran the first of the networks, and the side of its tiles in
            LR pixels; None and 0 when none was run.
        drift: of the last pass, if ``consistent`` was asked for.
        strength: how strongly it was restored; 0 for not at all.
        notes: sentences on what one might not expect.
        frames: how many an animation or a video has; 0 of an image.
        found, codec, pixels: of a video: frames made by an earlier run, codec, FFmpeg's layout.
        seams, report, overlay: what was measured of it, and the image of that.
        image: the result itself, when it stays in memory.
    """

    source: Path = Path()
    target: Path = Path()
    status: Literal["done", "skipped", "failed"] = "done"
    reason: str = ""
    source_size: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    seconds: float = 0.0
    network_seconds: float = 0.0
    precision: UsedPrecision | None = None
    runtime: Literal["torch", "onnx", "openvino"] | None = None
    tile: int = 0
    drift: Drift | None = None
    strength: float = 0.0
    notes: tuple[str, ...] = ()
    frames: int = 0
    found: int = 0
    codec: str = ""
    pixels: str = ""
    seams: Seams | None = None
    report: Mapping[str, Any] | None = None
    overlay: Path | None = None
    image: Image | None = None

    def as_json(self) -> dict[str, object]:
        """Return it as JSON takes it; sizes are [width, height]."""
        seams, sizes = self.seams, (self.source_size, self.size)
        before, after = (None if size is None else list(size[::-1]) for size in sizes)
        record: dict[str, object] = {
            "input": str(self.source),
            "output": str(self.target),
            "status": self.status,
            "message": self.reason,
            "input_size": before,
            "output_size": after,
            "seconds": round(self.seconds, 4),
            "network_seconds": round(self.network_seconds, 4),
            **{name: getattr(self, name) for name in ("precision", "runtime", "strength")},
            "notes": list(self.notes),
            "drift": None if self.drift is None else asdict(self.drift),
            "report": None if self.report is None else dict(self.report),
            "overlay": None if self.overlay is None else str(self.overlay),
            "seams": None if seams is None else {**asdict(seams), "seamless": seams.is_seamless},
        }
        if self.frames:
            record |= {name: getattr(self, name) for name in ("frames", "found", "codec", "pixels")}
        return record


# ---- Which file is written for each image or video, and which are not even begun ---------------

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
    images in and below it go to the same tree below another folder; its videos are left alone, and
    a folder below that cannot be read stands there as an image would. Formats that can only be
    read, and GIF of one frame, become PNG; of a.gif and a.png the first becomes a.gif.png.
    Raises InputError: a source is not there, or holds no image; ImageError: a folder cannot be
    read.
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
        for path in _images_below(source, outside=target):
            found.append((path, target / path.relative_to(source).parent, ""))
    if not found:
        names = "', '".join(map(str, sources))
        raise InputError(f"'{names}': no images (files {', '.join(READ_SUFFIXES)}) there.")
    places = [place / _name(source, label, form) for source, place, label in found]
    wanted = Counter(places)
    return [
        (source, place.with_name(_name(source, label, form, full=wanted[place] > 1)))
        for (source, _, label), place in zip(found, places, strict=True)
    ]


def _with_name(folder: Path) -> Path:
    """Return a folder by a path that ends in its name, which "." and ".." do not."""
    named = folder if folder.name not in ("", "..") else Path(os.path.realpath(folder))
    if not named.name:
        raise InputError(f"'{folder}' has no name to name results after; say where they go.")
    return named


def _images_below(folder: Path, *, outside: Path) -> list[Path]:
    """Return images, and folders that cannot be read, below a folder; none in ``outside``."""
    inside = Path(os.path.realpath(outside))
    if inside == Path(os.path.realpath(folder)):
        raise InputError(f"'{folder}' cannot be its own target; choose another folder.")
    unread: list[Path] = []  # each will be a failure of its own
    found = list_images(folder, depth="tree", on_unread=lambda path, why: unread.append(path))
    found = sorted([*found, *unread])
    return [p for p in found if not Path(os.path.realpath(p.parent)).is_relative_to(inside)]


def _name(source: Path, label: str, form: str | None, *, full: bool = False) -> str:
    """Return the source's name with a label and the extension of what is written.

    ``full`` keeps in the name an extension that changes.
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
