"""What is asked for, what became of it, and how far it is: shared by all that enlarge images."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, Literal

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.image import Image, Overwrite, SaveOptions
from edgekeeper.inference.categories import Categories
from edgekeeper.inference.network import Choice, Precision
from edgekeeper.models import SRModel
from edgekeeper.pretrained.exported import SUFFIXES, load_exported
from edgekeeper.pretrained.zoo import FACTORS, Style, default_name, find, load

SLACK = 1.01
"""A network is used for up to 1 % more than its factor; the exact resize adds what is missing.

Otherwise 2001 pixels made of 1000 would need the network for three times the size.
"""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Networks to choose from: the ``factors`` there are, and ``load`` gives the one of a factor.

    ``load`` is asked once for each factor that an image needs; let it remember what it has read.
    """

    factors: tuple[int, ...]
    load: Callable[[int], SRModel]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for: which images, how large, by which network, how run and written.

    Attributes:
        sources: image files and folders; what is in memory needs none.
        output: the file or folder to write; None: beside the sources.
        scale, width, height, fit: how large the image becomes: by a factor, to a width, a height,
            or into a box (width, height). At most one; by default the networks' largest factor.
            The proportions stay; what is smaller than the image shrinks it.
        model: a network, the name of one that ships, a network file, or several networks; None:
            those that ship with ``style``.
        runtime: what runs the network; None: what its file is for. ``edgekeeper.export`` makes
            what another runtime than torch takes of a network.
        device: where torch computes networks that are named; one that is given stays where it is.
        threads: of the runtime of an exported network.
        precision: "auto" is the fastest that stays within half a grey level of float32 in the mean.
        ensemble: take the mean over the eight flips and turns, in eight times the time.
        consistent: correct the result until, shrunk by bicubic interpolation, it gives the image.
        tile: the side in LR pixels of what the network sees at once, context included.
        categories: for SFTGAN, what can be seen: see ``find_maps``.
        save: format, quality and so on; the file extension decides where they do not.
        existing: what becomes of an image whose target exists; None: "skip" when a folder is among
            the sources, else "fail".
        codec, crf: of videos.

    Raises:
        InputError: several sizes are given, or one is not above zero.
    """

    sources: tuple[str | Path, ...] = ()
    output: str | Path | None = None
    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: tuple[int, int] | None = None
    model: str | Path | SRModel | Networks | None = None
    style: Style = "faithful"
    runtime: Literal["torch", "onnx", "openvino"] | None = None
    device: str = "cpu"
    threads: int | None = None
    precision: Choice = "float32"
    ensemble: bool = False
    consistent: bool = False
    tile: int | Literal["auto"] = "auto"
    categories: Categories | None = None
    save: SaveOptions = field(default_factory=SaveOptions)
    existing: Literal["skip", "fail", "replace"] | None = None
    codec: str = "libx264"
    crf: int | None = None

    def __post_init__(self) -> None:
        given = [x for x in (self.scale, self.width, self.height, self.fit) if x is not None]
        if len(given) > 1:
            raise InputError(
                "Say once how large the image is to become: a factor, a width, a height or a "
                f"box to fit into; {len(given)} of them were given."
            )
        for one in given:
            numbers = one if isinstance(one, tuple) else (one,)
            if not all(math.isfinite(number) and number > 0 for number in numbers):
                raise InputError(f"An image cannot be enlarged to {one}; give a positive number.")

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

    def factor_for(self, size: tuple[int, int], *, factors: tuple[int, ...]) -> float:
        """Return the factor for an image of ``size`` (height, width)."""
        height, width = size
        if self.width is not None:
            return self.width / width
        if self.height is not None:
            return self.height / height
        if self.fit is not None:
            return min(self.fit[0] / width, self.fit[1] / height)
        return max(factors) if self.scale is None else self.scale

    def label(self, factors: tuple[int, ...]) -> str:
        """Return what is put after the names of results: what was asked for, known before."""
        if self.fit is not None:
            return f"_{self.fit[0]}x{self.fit[1]}"
        if self.width is not None:
            return f"_w{self.width}"
        if self.height is not None:
            return f"_h{self.height}"
        return f"_x{max(factors) if self.scale is None else self.scale:g}"


# ---- The passes of networks that reach a size ----------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PassPlan:
    """The factors of the ``passes`` of networks, one after another, and the ``size`` at the end.

    Sizes are (height, width).
    """

    source: tuple[int, int]
    passes: tuple[int, ...]
    size: tuple[int, int]


def plan_passes(size: tuple[int, int], request: Request, *, factors: tuple[int, ...]) -> PassPlan:
    """Return the passes and the final size, at least 1 x 1, for an image of ``size``.

    Raises:
        InputError: no network that is given enlarges, and the image is to become larger.
    """
    factor = request.factor_for(size, factors=factors)
    asked = (request.scale, request.width, request.height, request.fit)
    if all(one is None for one in asked):  # one pass, of a factor of 1 too
        passes: tuple[int, ...] = (max(factors),)
    else:
        passes = choose_passes(factor, factors=factors)
    height, width = (max(1, math.floor(side * factor + 0.5)) for side in size)
    return PassPlan(
        source=size, passes=passes, size=(request.height or height, request.width or width)
    )


def choose_passes(wanted: float, *, factors: tuple[int, ...]) -> tuple[int, ...]:
    """Return the factors of the passes that reach ``wanted``, the fewest, of these the smallest.

    None for a factor of 1 or less, one where a network suffices, and several for more: 6 is
    2 x 3, 16 is 4 x 4. The smaller factor comes first, since the second pass works on an image
    that the first has enlarged.

    Raises:
        InputError: no factor is above 1 while ``wanted`` is.
    """
    if wanted <= SLACK:
        return ()
    if max(factors) < 2:
        raise InputError(f"No network that was given enlarges; a factor of {wanted:g} needs one.")
    count = 1
    while max(factors) ** count * SLACK < wanted:
        count += 1
    options = combinations_with_replacement(sorted(set(factors)), count)
    enough = [option for option in options if math.prod(option) * SLACK >= wanted]
    return min(enough, key=math.prod)


# ---- The networks of what was given for them -----------------------------------------------------


def networks_for(request: Request) -> Networks:
    """Return the networks to choose from, each read once, when it is needed, on its device.

    Raises:
        InputError: no such network, or it cannot be run as asked.
        CheckpointError: a file holds no network that is known.
        UnavailableError: an extra is needed; it is named.
    """
    model = request.model
    if isinstance(model, Networks):
        return model
    if model is None:
        if request.runtime not in (None, "torch"):
            raise InputError("Only an exported network is run by another runtime than torch.")
        return Networks(
            factors=FACTORS[request.style],
            load=functools.cache(
                lambda factor: load(default_name(factor, style=request.style)).to(request.device)
            ),
        )
    one = model if isinstance(model, SRModel) else _load(model, request)
    return Networks(factors=(one.scale,), load=lambda factor: one)


def _load(name_or_file: str | Path, request: Request) -> SRModel:
    needs = SUFFIXES.get(Path(name_or_file).suffix.lower(), "torch")
    if request.runtime not in (None, needs):
        raise InputError(f"'{name_or_file}' is run by {needs}, not by {request.runtime}.")
    if needs == "torch":
        return load_network(name_or_file, factor=request.scale).to(request.device)
    if request.device != "cpu":
        raise InputError(f"ONNX Runtime and OpenVINO compute on the CPU, not on {request.device}.")
    precision: Precision = "bfloat16" if request.precision == "bfloat16" else "float32"
    return load_exported(find(name_or_file), threads=request.threads, precision=precision)


def load_network(name_or_file: str | Path, *, factor: float | None = None) -> SRModel:
    """Return the network of a name that ships, or of a file of any kind that ``load`` takes.

    ``factor`` is the enlargement asked for, tried where a file does not say its own.

    Raises:
        InputError: no such name or file. CheckpointError: it holds no network that is known.
        UnavailableError: an extra is needed; it is named.
    """
    # A file that says its scale is right about it; the one asked for is for those that do not.
    nearest = None if factor is None else min(4, max(2, math.ceil(factor)))
    first, second = (nearest, None) if nearest == factor else (None, nearest)
    try:
        return load(name_or_file, scale=first)
    except (CheckpointError, UnavailableError) as error:
        try:
            return load(name_or_file, scale=second)
        except (CheckpointError, UnavailableError):
            raise error from None


# ---- What is told meanwhile and afterwards -------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far the work is: on file number ``file`` of ``files``, ``done`` of ``total`` parts.

    Parts are tiles of an image or frames of a video (``unit``); ``found`` of them an earlier run
    had made. A file that starts has 0 of 0 done.
    """

    path: Path
    file: int
    files: int
    done: int
    total: int
    unit: Literal["tiles", "frames"] = "tiles"
    found: int = 0


Progress = Callable[[Step], None]
"""Called when a file starts and after each of its parts; may raise to stop."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """CIEDE2000 in the mean between the image and the result shrunk to its size.

    ``before`` and ``after`` the correction that ``consistent`` makes.
    """

    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Seams:
    """The largest difference between tiled and whole in grey levels of 255, and how it was made."""

    levels: float
    tile: int
    overlap: int

    @property
    def is_seamless(self) -> bool:
        """Whether no value moves by more than ``ALLOWED_LEVELS``."""
        return self.levels <= ALLOWED_LEVELS


ALLOWED_LEVELS = 0.5
"""The largest difference that tiles may make anywhere, in grey levels of 255."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one image or video.

    Attributes:
        source, target: the file that was read, and the one that was written or would have been.
        status: "done"; "skipped" (the target existed); "failed" (no file was written).
        reason: why not, one sentence; empty when done.
        source_size, size: (height, width) of what was read and written; None unless done.
        seconds: the time from the beginning of the work to the written file. Files overlap, so
            that the sum over a folder is more than the time it took.
        network_seconds: the part of it that the networks took.
        precision: of the networks; None when none was run.
        tile: the side of the tiles of the first pass in LR pixels, 0 when there was none.
        drift: None unless ``consistent`` was asked for; of the last pass.
        notes: sentences on what one might not expect.
        frames, found, codec, pixels: of a video: how many frames it has, how many of them an
            earlier run had made, the codec, and FFmpeg's name of the layout of the samples.
        seams, report, overlay: what was measured of it afterwards, and the image of that.
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
    precision: Precision | None = None
    tile: int = 0
    drift: Drift | None = None
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
        seams = self.seams
        record: dict[str, object] = {
            "input": str(self.source),
            "output": str(self.target),
            "status": self.status,
            "message": self.reason,
            "input_size": None if self.source_size is None else list(self.source_size[::-1]),
            "output_size": None if self.size is None else list(self.size[::-1]),
            "seconds": round(self.seconds, 4),
            "network_seconds": round(self.network_seconds, 4),
            "precision": self.precision,
            "notes": list(self.notes),
            "drift": None if self.drift is None else asdict(self.drift),
            "report": None if self.report is None else dict(self.report),
            "overlay": None if self.overlay is None else str(self.overlay),
            "seams": None if seams is None else {**asdict(seams), "seamless": seams.is_seamless},
        }
        if self.frames:
            record |= {name: getattr(self, name) for name in ("frames", "found", "codec", "pixels")}
        return record
