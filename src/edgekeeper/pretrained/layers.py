"""How the tensors of another program's file become a network: counted, renamed, rescaled, checked.

A format (``PublishedFormat``) is known by its names and says with ``read`` which network it is
(``Plan``): its size, read off the shapes, and the published name of each of our layers::

    {"head": "fea_conv", "blocks.{i}.join": "IMDB{i+1}.c5"}

``fill`` does the rest, the same for all: every name, shape and scale must fit.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError, nearest_name
from edgekeeper.files import read_facts
from edgekeeper.models import SRModel
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.pretrained.checkpoint import some_of
from edgekeeper.spec import Spec

Tensors = Mapping[str, Tensor]

PUBLISHED_SCALES = (2, 3, 4)
# Of some formats: our names of layers -> theirs, as patterns.
LAYERS: dict[str, dict[str, str]] = read_facts("edgekeeper.pretrained", "layers.toml")
COUNTER = ".num_batches_tracked"  # not in files of before 2018, not used by any network
# The mean-shift layers in EDSR's code, which RCAN's is built on.
SHIFTS = frozenset(
    f"{name}.{part}" for name in ("sub_mean", "add_mean") for part in ("weight", "bias")
)

_HOLE = re.compile(r"\{(?:(\d+)\*)?(\w)(?:\+(\d+))?\}")  # {i}, {i+1}, {3*i+3}


def same(_name: str, tensor: Tensor) -> Tensor:
    """Return the published tensor, which is ours."""
    return tensor


@dataclass(frozen=True)
class Plan:
    """Which network a file holds, and where its weights are."""

    spec: Spec[SRModel]
    layers: Mapping[str, str]  # our names of layers (or tensors) -> the published ones, as patterns
    adapt: Callable[[str, Tensor], Tensor] = same  # what our tensor is, from the published one
    required: frozenset[str] = frozenset()  # names that must be there too, but are no weights
    ignored: frozenset[str] = frozenset()  # names that may be there, and are no weights


@dataclass(frozen=True)
class Published:
    """The tensors of a file, the title of its format, and the scale that was asked for."""

    tensors: Tensors
    origin: Path
    title: str = "a network"
    asked: int | None = None

    def error(self, what: str) -> CheckpointError:
        """Return the error to raise: the file, and ``what`` of it does not fit."""
        return CheckpointError(f"'{self.origin}' {what}")

    def count(self, pattern: str) -> int:
        """Return one more than the largest i of the names that begin as ``pattern``, in bounds."""
        form = re.compile(re.escape(pattern).replace(r"\{i\}", r"(\d+)"))
        largest = max((int(m[1]) for name in self.tensors if (m := form.match(name))), default=-1)
        return min(largest + 1, len(self.tensors))

    def channels(self, layer: str) -> tuple[int, int]:
        """Return the channels out and in of a convolution; CheckpointError if it is none."""
        weight = f"{layer}.weight"
        if weight not in self.tensors:
            raise self.error(f"looks like {self.title}, but lacks {weight}.")
        shape = tuple(self.tensors[weight].shape)
        if len(shape) != 4 or 0 in shape:
            raise self.error(f"looks like {self.title}, but {weight} is {shape}, no convolution.")
        return int(shape[0]), int(shape[1])

    def scale(self, found: float | None) -> int:
        """Return the scale of the network: the one that its layers show, else the one asked for."""
        if found in PUBLISHED_SCALES:
            if self.asked not in (None, found):
                raise self.error(f"is a network for scale {found:.0f}, not {self.asked}.")
            return int(found)
        if self.asked is None:
            raise self.error(
                "does not say by how much its network enlarges; give the scale: 2, 3 or 4."
            )
        return self.asked

    def subpixel(
        self, *, steps: tuple[str, str], last: tuple[str, str]
    ) -> tuple[float, dict[str, str]]:
        """Return the scale of a ``subpixel_tail``, and the published names of its layers.

        ``steps`` are the names of its one or two enlarging convolutions, ``last`` that of the last
        convolution where there are one or two of them.
        """
        mark = last[1] if last[0] != last[1] else steps[1]
        two = f"{mark}.weight" in self.tensors
        used, end = (steps, last[1]) if two else (steps[:1], last[0])
        (out, _), (_, into) = self.channels(used[0]), self.channels(end)
        layers = {f"upsampler.{2 * n}": name for n, name in enumerate((*used, end))}
        return 4.0 if two else (out / into) ** 0.5, layers

    def check_shifts(self) -> None:
        """Raise CheckpointError unless the layers in SHIFTS are DIV2K's mean colour on 0..255."""
        if not self.tensors.keys() >= SHIFTS:
            return  # ``fill`` says which are missing
        mean = 255 * torch.tensor(DIV2K_MEAN)
        for name, sign in (("sub_mean", -1), ("add_mean", 1)):
            weight, bias = (self.tensors[f"{name}.{part}"].float() for part in ("weight", "bias"))
            identity = torch.equal(weight.reshape(-1), torch.eye(3).reshape(-1))
            shifts = bias.shape == mean.shape and torch.allclose(bias, sign * mean, atol=1e-2)
            if not (identity and shifts):
                raise self.error(
                    f"has another {name} (bias {bias.tolist()}) than the shift by DIV2K's mean "
                    "colour on 0..255 that edgekeeper's network subtracts."
                )


@dataclass(frozen=True)
class PublishedFormat:
    """A published format: regular expressions all of which begin some name, and how it is read."""

    title: str
    marks: tuple[str, ...]
    read: Callable[[Published], Plan]

    def recognises(self, tensors: Tensors) -> bool:
        """Return whether the tensors have this format's names."""
        return all(any(re.match(mark, name) for name in tensors) for mark in self.marks)


def fill(file: Published, plan: Plan) -> SRModel:
    """Return the network with the file's weights. Raises CheckpointError."""
    model = plan.spec.build()
    own = {name: t for name, t in model.state_dict().items() if not name.endswith(COUNTER)}
    names = {published_name(name, plan.layers): name for name in own}
    left = {n for n in file.tensors if n in plan.ignored or n.endswith(COUNTER)}
    check_names(file.tensors.keys() - left, names.keys() | plan.required, origin=file.origin)
    adapted = {}
    for theirs, ours in names.items():
        adapted[ours] = plan.adapt(ours, file.tensors[theirs])
        if adapted[ours].shape != own[ours].shape:
            raise CheckpointError(
                f"'{file.origin}': {theirs} is {tuple(adapted[ours].shape)}, but "
                f"{type(model).__name__} needs {tuple(own[ours].shape)}."
            )
    model.load_state_dict({ours: tensor.float() for ours, tensor in adapted.items()})
    return model.eval()


def published_name(name: str, layers: Mapping[str, str]) -> str:
    """Return the published name of our tensor ``name``."""
    layer, _, part = name.rpartition(".")
    for ours, theirs in layers.items():
        for tried, end in ((layer, f".{part}"), (name, "")):
            if found := _pattern(ours).fullmatch(tried):
                return _HOLE.sub(partial(_number, found.groupdict()), theirs) + end
    raise KeyError(name)


@cache
def _pattern(ours: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(ours)))


def _number(numbers: Mapping[str, str], hole: re.Match[str]) -> str:
    return str(int(hole[1] or 1) * int(numbers[hole[2]]) + int(hole[3] or 0))


def check_names(found: Iterable[str], expected: Iterable[str], *, origin: Path) -> None:
    """Raise CheckpointError that names what is missing and what is unknown in the file."""
    missing, unknown = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    if missing or unknown:
        nearest = nearest_name(unknown[0], missing) if unknown else None
        hint = f" ('{unknown[0]}' is most like '{nearest}')" if nearest else ""
        raise CheckpointError(
            f"'{origin}' does not have the published names: missing {some_of(missing)}; "
            f"unknown {some_of(unknown)}{hint}."
        )


def unit_range(name: str, tensor: Tensor) -> Tensor:
    """Return the tensor for colours on [0, 1] of a network of convolutions, ReLUs, sums on 0..255.

    ReLU and sums follow a factor: with all biases over 255 every map is the old one over 255.
    """
    return tensor / 255 if name.endswith(".bias") else tensor
