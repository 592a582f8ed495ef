"""The networks that come with the package, and files of networks in general.

A network file is one safetensors file: half-precision weights, how to build the network, and its
card (recipe, seed, commit, images with licence, steps, time, results with protocol).
"""

import dataclasses
import importlib.util
import inspect
import math
from collections.abc import Callable, Mapping
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError, UnavailableError, unknown_name
from edgekeeper.files import parse_json, sha256_of, user_cache
from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.pretrained.checkpoint import (
    KEY,
    check_whole,
    is_safetensors,
    load_model,
    model_spec,
)
from edgekeeper.pretrained.community import load_community
from edgekeeper.pretrained.exported import (
    EXPORTED_SUFFIXES,
    RUNTIMES,
    ExportedNetwork,
    Runtime,
    UsedPrecision,
    load_exported,
)
from edgekeeper.pretrained.public import PUBLIC, download, hub_address, public_path
from edgekeeper.pretrained.published import UnknownNetworkError, load_published
from edgekeeper.spec import Spec

_NOT_COMMUNITY = (".mat", ".h5", ".hdf5")  # what spandrel does not read
WEIGHTS = Path(__file__).parent / "weights"
EXPORTS = WEIGHTS / "exported"
# Goes up when files of the same network change; those of before are then passed over
EXPORT_FORMAT = 4
Style = Literal["auto", "faithful", "sharp", "texture", "restore"]

# "faithful" networks have the smallest error; "sharp" sharpens what they make; "texture" looks most
# like a photograph and invents detail to do so; "restore" takes blur, noise and the marks of JPEG
# away. "auto" and "texture" mix their RESTORING networks in as far as an image has these.
_FAITHFUL = {2: "best_x2", 3: "best_x3", 4: "balanced_x4"}
DEFAULTS: dict[Style, dict[int, str]] = {
    "auto": _FAITHFUL,
    "faithful": _FAITHFUL,
    "sharp": _FAITHFUL,
    "texture": {4: "best_x4_texture"},
    "restore": {2: "restore_x2", 4: "restore_x4"},
}
RESTORING: dict[str, dict[int, str]] = {
    "auto": DEFAULTS["restore"],
    "restore": DEFAULTS["restore"],
    "texture": {4: "restore_x4_texture"},
}
FACTORS: dict[Style, tuple[int, ...]] = {style: tuple(DEFAULTS[style]) for style in DEFAULTS}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network file: its name, where it is, what it enlarges by, and its card."""

    name: str
    path: Path
    scale: int
    model: str
    card: dict[str, object]


def networks() -> list[Network]:
    """Return the networks inside the package, by name."""
    return [describe(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]


def describe(path: Path) -> Network:
    """Return what the file ``path`` holds, without reading its weights. Raises CheckpointError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = parse_json((file.metadata() or {})[KEY])
        description, card = facts["model"], facts["card"]
        scale = _scale(model_spec(description))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"'{path}' is not a network file of edgekeeper: {error}.") from error
    return Network(path.stem, path, scale, str(description["name"]), card)


def _scale(spec: Spec[object]) -> int:
    arguments = dict(spec.arguments)
    inner = [value for value in arguments.values() if isinstance(value, Spec)]
    if inner:
        return _scale(inner[0])
    if "scale" not in arguments:
        return int(inspect.signature(spec.target).parameters["scale"].default)
    return int(str(arguments["scale"]))


def check_named(model: object) -> str | Path:
    """Return the name or path itself; raise InputError, with a cure, for another network."""
    if isinstance(model, str | Path):
        return model
    raise InputError(
        "A network is a name, a file or an edgekeeper.models.SRModel; got one of type "
        f"{type(model).__name__}. Put another torch.nn.Module into a class of SRModel that sets "
        "scale, channels ('rgb' or 'y') and receptive_field, and calls it in forward."
    )


def find(name_or_path: str | Path) -> Path:
    """Return the file of a network that ships, by name, or of one's own, by path.

    So are those that others published: by name once `models get` got them, or by ``hf://``.
    Raises InputError.
    """
    path = Path(check_named(name_or_path))
    if path.is_file():
        return path
    shipped = WEIGHTS / f"{name_or_path}.safetensors"
    if shipped.is_file():
        return shipped
    if (address := hub_address(str(name_or_path))) is not None:
        return download(address)
    if str(name_or_path) in PUBLIC:
        got = public_path(str(name_or_path))
        if got.is_file():
            return got
        raise InputError(
            f"The network '{name_or_path}' is not here yet; run: "
            f"edgekeeper models get {name_or_path}"
        )
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"There is no network file '{name_or_path}'.")
    raise unknown_name(
        "network", str(name_or_path), known=[p.stem for p in sorted(WEIGHTS.glob("*.safetensors"))]
    )


def load(name_or_path: str | Path, *, scale: int | None = None) -> SRModel:
    """A network ready to use (float32, evaluation mode), by shipped name or by path of a file.

    The file is one of edgekeeper, one exported by it (.onnx, .xml), weights that another program
    published, or, with the extra ``community``, whatever spandrel knows. ``scale`` is for foreign
    files that do not say theirs. Nothing in a file is ever run.
    """
    path = find(name_or_path)
    if path.suffix.lower() in EXPORTED_SUFFIXES:
        return load_exported(path)
    return load_model(path) if is_own(path) else load_foreign_or_community(path, scale=scale)


def is_own(path: Path) -> bool:
    """Return whether it is a file of edgekeeper, or a damaged one that could be."""
    if not path.is_file() or not is_safetensors(check_whole(path)):
        return path.suffix.lower() == ".safetensors"
    try:
        with safe_open(str(path), framework="pt") as file:
            return KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return True  # whose reader says best what is wrong with it


def load_foreign_or_community(path: Path, *, scale: int | None = None) -> SRModel:
    """Return a published network, by spandrel if need be. Raises UnavailableError."""
    try:
        return load_published(path, scale=scale)
    except CheckpointError as unknown:
        if path.suffix.lower() in _NOT_COMMUNITY:
            raise
        try:
            return load_community(path)
        except UnavailableError as missing:
            if not isinstance(unknown, UnknownNetworkError):
                raise unknown from None
            raise UnavailableError(f"{unknown} {missing}") from missing


def find_device(name: str) -> str:
    """Return the device ``name``; "auto" prefers an accelerator. Raises InputError."""
    kind, _, number = name.partition(":")
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available()
        and (not number or number in map(str, range(torch.cuda.device_count()))),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    if kind not in there:
        raise InputError(f"There is no device '{name}': choose auto, cpu, cuda, cuda:1 or mps.")
    if not there[kind]:
        raise InputError(f"This machine has no {name} device that PyTorch can use; take cpu.")
    return name


def load_network(name_or_file: str | Path, *, factor: float | None = None) -> SRModel:
    """Return the network of a name that ships, or of a file of any kind that ``load`` takes.

    ``factor`` is the enlargement asked for, tried where a file does not say its own.
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


# ---- The files by which other runtimes than PyTorch run networks faster --------------------------
#
# Those of the networks that are used by default ship: ``weights/exported/NAME.onnx``, which ONNX
# Runtime and OpenVINO read, and ``NAME.int8.onnx``. Those of others lie in the user's cache once
# ``with_runtime`` has made them. A file that is of another network (its digest says so), or that
# cannot be read, is passed over.


@runtime_checkable
class Accelerable(Protocol):
    """A network that other runtimes may run as well."""

    def in_runtime(self, runtime: Runtime, *, precision: UsedPrecision) -> SRModel | None:
        """Return the network in another runtime; None where there is no such file or package."""


class Accelerated(SRModel):
    """The network ``model``, computed by PyTorch, whose file may have faster forms."""

    def __init__(self, model: SRModel, *, file: Path, threads: int | None = None) -> None:
        super().__init__()
        self.model, self._threads = model, threads
        self.scale, self.channels = model.scale, model.channels
        self.receptive_field, self.multiple = model.receptive_field, model.multiple
        self.border = model.border
        self._name, self._digest = file.stem, sha256_of(file)
        self.eval()  # or each image would have a copy, that opens its runtime anew
        self._opened: dict[tuple[Runtime, UsedPrecision], ExportedNetwork | None] = {}

    @property
    def overlap(self) -> int:
        """The context of a tile, in LR pixels."""
        return self.model.overlap

    def forward(self, lr: Tensor) -> Tensor:
        """Return the SR batch of PyTorch."""
        return self.model(lr)

    def in_runtime(self, runtime: Runtime, *, precision: UsedPrecision) -> ExportedNetwork | None:
        """Return the network in another runtime, opened once; None where that cannot be."""
        key = runtime, precision
        if key not in self._opened:
            self._opened[key] = self._open(runtime, precision)
        return self._opened[key]

    def _open(self, runtime: Runtime, precision: UsedPrecision) -> ExportedNetwork | None:
        if importlib.util.find_spec(RUNTIMES[runtime]) is None:
            return None
        kind = ".int8" if precision == "int8" else ""
        reduced: Literal["float32", "bfloat16"] = (
            "bfloat16" if precision == "bfloat16" else "float32"
        )
        for path in (
            EXPORTS / f"{self._name}{kind}.onnx",
            cached_export(self._digest, runtime=runtime, kind=kind),
        ):
            if path.is_file():
                try:
                    found = load_exported(
                        path, threads=self._threads, precision=reduced, runtime=runtime
                    )
                except CheckpointError:  # cut: what made it makes it anew
                    continue
                if is_export_of(found, self._digest):
                    return found
        return None


def accelerated(model: SRModel, *, file: Path, threads: int | None = None) -> SRModel:
    """Return the network with what may run it faster; itself where nothing could."""
    on_cpu = all(tensor.device.type == "cpu" for tensor in model.parameters())
    runtimes = any(importlib.util.find_spec(name) for name in RUNTIMES.values())
    if isinstance(model, SFTGAN | ExportedNetwork) or not on_cpu or not runtimes:
        return model
    return Accelerated(model, file=file, threads=threads)


def cached_export(digest: str, *, runtime: Runtime, kind: str = "") -> Path:
    """Return where the cache has the file for a runtime of the network with that digest."""
    suffix = next(suffix for suffix, name in EXPORTED_SUFFIXES.items() if name == runtime)
    return user_cache() / "exports" / f"{digest[:32]}-{EXPORT_FORMAT}{kind}{suffix}"


def is_export_of(exported: ExportedNetwork, digest: str) -> bool:
    """Return whether a file says that it was made, by code of today, of the network's file."""
    source = exported.facts.get("source")
    same = isinstance(source, dict) and source.get("sha256") == digest
    return same and exported.facts.get("format") == EXPORT_FORMAT


# ---- The networks that reach a size, one after another -------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Networks:
    """Networks to choose from, by the factors that there are."""

    factors: tuple[int, ...]
    load: Callable[[int], SRModel]  # asked once for each factor that an image needs
    restore: "Networks | None" = None  # mixed in for an image that was damaged
    alpha: "Networks | None" = None  # for alpha; None: it is interpolated
    flat: int = 0  # LR pixels around one that must be equal for its colour to be kept
    faithful: bool = False  # whether results, shrunk, are meant to be their image again
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)  # that ship, by factor


def choose_passes(wanted: float, *, factors: tuple[int, ...]) -> tuple[int, ...]:
    """Return the factors of the passes that reach ``wanted``, the fewest, of these the smallest.

    None for a factor of 1 or less, several for more than one network's: 6 is 2 x 3. The smaller
    factor comes first, since the second pass works on an image that the first has enlarged.
    Raises InputError: none enlarges.
    """
    # A network is used for up to 1 % more than its factor; the exact resize adds what is missing.
    # Otherwise 2001 pixels made of 1000 would need the network for three times the size.
    slack = 1.01
    if wanted <= slack:
        return ()
    if max(factors) < 2:
        raise InputError(f"No network that was given enlarges; a factor of {wanted:g} needs one.")
    count = 1
    while max(factors) ** count * slack < wanted:
        count += 1
    options = combinations_with_replacement(sorted(set(factors)), count)
    enough = [option for option in options if math.prod(option) * slack >= wanted]
    return min(enough, key=math.prod)
