"""What is asked for, what became of it, and how far it is: shared by all that enlarge images."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

from edgekeeper.errors import InputError, unknown_name
from edgekeeper.image import (
    Image,
    Overwrite,
    SaveOptions,
)
from edgekeeper.inference.categories import Categories
from edgekeeper.inference.network import Choice
from edgekeeper.inference.runner import Drift
from edgekeeper.models import SRModel
from edgekeeper.ops.tiles import Seams
from edgekeeper.pretrained.exported import UsedPrecision
from edgekeeper.pretrained.zoo import FACTORS, Networks, Style, choose_passes


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
        strength: of "auto" and "restore", from 0 (faithful) to 1; None: as far as the image looks
            damaged, or 1.
        sharpness: from 0, as the network made it, to 1; None: 0, or 0.25 of the style "sharp".
        guard: take the faithful network's result where the texture of the one that is run is an
            artifact; with the style "texture" or a network of one's own.
        runtime: what runs the network; "auto": what its file is for, and of one that has files
            for several the fastest that is proved near enough to PyTorch (``network.choose``).
        many: whether many images follow, so that a faster runtime pays for small ones too.
        device: where torch computes networks that are named, or "auto"; given ones stay in place.
        threads: of the runtime of an exported network.
        precision: "auto" is the fastest that stays within half a grey level of float32 in the mean.
        ensemble: take the mean over the eight flips and turns, in eight times the time.
        consistent: correct the result until, shrunk by bicubic interpolation, it gives the image.
        tile: the side in LR pixels of what the network sees at once, context included.
        categories: for SFTGAN, what can be seen: see ``find_maps``.
        save: format, quality and so on; the file extension decides where they do not.
        existing: what becomes of an image whose target exists; None: "skip" when a folder is among
            the sources, else "fail".
        keep_hidden_colour: keep the colours of fully transparent pixels, which else are taken
            from around them.
        frames: how many of an animation are made where the format that is written takes them.
        tolerant: what is there of a damaged file is used.
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
                "Say once how large the image is to become: a factor, a width, a height or a "
                f"box to fit into; {len(given)} of them were given."
            )
        for one in given:
            for number in one if isinstance(one, tuple) else (one,):
                if isinstance(number, bool) or not isinstance(number, Real):
                    kind = type(number).__name__
                    raise InputError(f"A size is a number, such as 4; got {number!r}, a {kind}.")
                if not (math.isfinite(number) and number > 0):
                    raise InputError(f"No image can become {one}; give a positive number.")
        for name in ("strength", "sharpness"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"The {name} is {value:g}; it must be a number from 0 to 1.")
        if self.strength is not None and (
            isinstance(self.model, str | Path | SRModel) or self.style not in ("auto", "restore")
        ):
            raise InputError(
                "A strength mixes the faithful and the restoring network that ship, with the "
                "styles auto and restore; edgekeeper blend mixes other networks."
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
        return 0.25 if self.style == "sharp" and not isinstance(self.model, str | Path) else 0.0

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
        if self.width is not None:
            return f"_w{self.width}"
        if self.height is not None:
            return f"_h{self.height}"
        return f"_x{max(factors) if self.scale is None else self.scale:g}"


def _check_choices(request: Request) -> None:
    """Raise InputError, with the nearest name, for a choice that there is not."""
    for name, known in (
        ("style", tuple(FACTORS)),
        ("runtime", ("auto", "torch", "onnx", "openvino")),
        ("precision", get_args(Choice)),
        ("existing", (None, "skip", "fail", "replace")),
    ):
        if (value := getattr(request, name)) not in known:
            raise unknown_name(name, str(value), known=filter(None, known))
    if request.tile != "auto" and (type(request.tile) is not int or request.tile < 1):
        raise InputError(f"tile is {request.tile!r}; give 'auto' or the side, a whole number.")


# ---- The passes of networks that reach a size ----------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PassPlan:
    """The factors of the ``passes`` of networks, in order; sizes are (height, width)."""

    source: tuple[int, int]
    passes: tuple[int, ...]
    size: tuple[int, int]


def plan_passes(size: tuple[int, int], request: Request, *, factors: tuple[int, ...]) -> PassPlan:
    """Return the passes and the final size, at least 1 x 1, for an image of ``size``.

    Raises:
        InputError: no network that is given enlarges, and the image is to become larger.
    """
    height, width = request.height, request.width
    if width is not None:
        factor = width / size[1]
    elif height is not None:
        factor = height / size[0]
    elif request.fit is not None:
        factor = min(request.fit[0] / size[1], request.fit[1] / size[0])
    elif request.scale is not None:
        factor = request.scale
    else:  # one pass, of a factor of 1 too
        most = max(factors)
        return PassPlan(source=size, passes=(most,), size=(size[0] * most, size[1] * most))
    large = [max(1, math.floor(side * factor + 0.5)) for side in size]
    passes = choose_passes(factor, factors=factors)
    return PassPlan(source=size, passes=passes, size=(height or large[0], width or large[1]))


# ---- What is told meanwhile and afterwards -------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far the work is: on ``file`` of ``files``, ``done`` of ``total`` tiles or frames.

    ``found`` of them an earlier run had made. A file that starts has 0 of 0 done. ``size`` is the
    (height, width) that an image gets, once that is known.
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
        seconds: the time from the beginning of the work to the written file. Files overlap, so
            that the sum over a folder is more than the time it took.
        network_seconds: the part of it that the networks took.
        precision, runtime, tile: of the networks, what ran the first of them, and the side of its
            tiles in LR pixels; None and 0 when none was run.
        drift: of the last pass, if ``consistent`` was asked for.
        strength: how strongly it was restored; 0 for not at all.
        notes: sentences on what one might not expect.
        frames: how many an animation or a video has; 0 of an image.
        found, codec, pixels: of a video: how many frames an earlier run had made, the codec, and
            FFmpeg's name of the layout of the samples.
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
            "runtime": self.runtime,
            "strength": self.strength,
            "notes": list(self.notes),
            "drift": None if self.drift is None else asdict(self.drift),
            "report": None if self.report is None else dict(self.report),
            "overlay": None if self.overlay is None else str(self.overlay),
            "seams": None if seams is None else {**asdict(seams), "seamless": seams.is_seamless},
        }
        if self.frames:
            record |= {name: getattr(self, name) for name in ("frames", "found", "codec", "pixels")}
        return record
