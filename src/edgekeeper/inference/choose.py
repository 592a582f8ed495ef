"""Which networks an image goes through: those of a style, a name or a file, restoring or not.

The style "auto" is faithful where an image is clean and restores as far as it was damaged:

pixels and file -> estimate -> strength s -> (1 - s) · faithful + s · restoring

What is mixed are the results, not the weights: on photographs kept out of training that has up to
0.3 dB less error than either network alone and than weights mixed alike (docs/diary.md). It works
for any two networks and takes the time of both.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.image.quality import Condition
from edgekeeper.inference.network import Precision, within_border
from edgekeeper.inference.request import Request
from edgekeeper.inference.runner import Finish, TileRunner
from edgekeeper.metrics.artifacts import THRESHOLD, WINDOW, texture_similarity
from edgekeeper.models import SRModel
from edgekeeper.pretrained.cards import style_of
from edgekeeper.pretrained.exported import EXPORTED_SUFFIXES, Runtime, UsedPrecision, load_exported
from edgekeeper.pretrained.zoo import (
    DEFAULTS,
    FACTORS,
    WEIGHTS,
    Accelerable,
    Networks,
    Style,
    accelerated,
    check_named,
    choose_passes,
    default_name,
    find,
    find_device,
    load_network,
)

LEAST = 0.05
"""Strength below which an image counts as clean."""

FADE = 0.1
"""Similarity of texture over which the guard fades out above the threshold of an artifact."""

# LR pixels around a flat one that are equal. JPEG makes flat blocks of eight, which are to go.
FLAT, FLAT_RESTORED = 2, 8


def networks_for(
    request: Request, *, load_one: Callable[[str | Path], SRModel] | None = None
) -> Networks:
    """Return the networks to choose from, each read once, when it is needed, on its device.

    ``load_one`` reads the one of a name or a file, where that is not done as the request says.
    Raises InputError: no such network, or it cannot be run as asked. CheckpointError: a file holds
    no network that is known. UnavailableError: an extra is needed; it is named.
    """
    model, style, read = request.model, request.style, load_one or functools.partial(_load, request)
    if isinstance(model, Networks):
        return model
    loads = functools.cache(read)

    def shipped(style: Style) -> Callable[[int], SRModel]:
        return lambda factor: loads(default_name(factor, style=style))

    plain = Networks(
        factors=FACTORS["faithful"], load=shipped("faithful"), names=DEFAULTS["faithful"]
    )
    if request.guard:  # of its own networks: a faithful one beside each that invents
        chosen = networks_for(replace(request, guard=False), load_one=load_one)
        kept = tuple(factor for factor in chosen.factors if factor in plain.factors)
        if not kept:
            theirs = ", ".join(f"×{one}" for one in plain.factors)
            raise InputError(f"The guard's faithful networks enlarge by {theirs}, this one not.")

        def guarded(factor: int) -> SRModel:
            return Guarded(plain=plain.load(factor), other=chosen.load(factor))

        return replace(chosen, factors=kept, load=functools.cache(guarded), names={})
    if model is not None:
        one = model if isinstance(model, SRModel) else read(check_named(model))
        known = isinstance(model, str | Path) and (WEIGHTS / f"{model}.safetensors").is_file()
        own = Networks(factors=(one.scale,), load=lambda factor: one)
        faithful = known and style_of(str(model)) in ("faithful", "sharp")
        if not known:
            return own
        names = {one.scale: str(model)}
        return replace(own, alpha=plain, flat=FLAT, faithful=faithful, names=names)
    if load_one is None and request.runtime not in ("auto", "torch"):
        raise InputError("Only an exported network is run by another runtime than torch.")
    find_device(request.device)
    own = Networks(
        factors=FACTORS[style],
        load=shipped(style),
        alpha=plain,
        flat=FLAT,
        faithful=style != "texture",
        names=DEFAULTS[style],
    )
    if style not in ("auto", "restore"):
        return own
    restore = Networks(factors=FACTORS["restore"], load=shipped("restore"))
    return replace(own, load=plain.load, names=plain.names, restore=restore)


def _load(request: Request, name_or_file: str | Path) -> SRModel:
    needs = EXPORTED_SUFFIXES.get(Path(name_or_file).suffix.lower(), "torch")
    if request.runtime not in ("auto", needs):
        raise InputError(f"'{name_or_file}' is run by {needs}, not by {request.runtime}.")
    if needs == "torch":
        device = find_device(request.device)
        model = load_network(name_or_file, factor=request.scale).to(device)
        if request.runtime == "torch" or request.categories is not None:
            return model
        return accelerated(model, file=find(name_or_file), threads=request.threads)
    if request.device not in ("auto", "cpu"):
        raise InputError(f"ONNX Runtime and OpenVINO compute on the CPU, not on {request.device}.")
    precision: Precision = "bfloat16" if request.precision == "bfloat16" else "float32"
    return load_exported(find(name_or_file), threads=request.threads, precision=precision)


# ---- How strongly an image is restored -----------------------------------------------------------


@dataclass(frozen=True)
class Treatment:
    """How strongly an image is restored, 0 to 1, and what there is to say of it."""

    strength: float = 0.0
    note: str = ""


def treatment(
    request: Request, networks: Networks, *, passes: tuple[int, ...], look: Callable[[], Condition]
) -> Treatment:
    """Return what to do to an image that is enlarged in ``passes``, of which the first restores.

    ``look`` estimates what it went through, and is called only where that decides.
    """
    restore, asked = networks.restore, request.strength
    if restore is None or not passes or asked == 0:
        return Treatment()
    if passes[0] not in restore.factors:
        condition = look()
        if condition.strength < LEAST and asked is None:
            return Treatment()
        seen = condition.note.partition(":")[0]
        factors = ", ".join(f"×{one}" for one in restore.factors)
        way = f"only {factors} restores; style 'restore' goes by way of it"
        return Treatment(note=f"{seen}: kept as it is, {way}")
    if asked is not None or request.style == "restore":
        return Treatment(1.0 if asked is None else asked)
    condition = look()
    if condition.strength < LEAST:
        return Treatment(note=condition.note if condition.jpeg_quality is not None else "")
    rounded = round(20 * condition.strength) / 20  # so that images share mixtures
    return Treatment(rounded, condition.note)


class _Pair(SRModel):
    """Two networks of one scale and one result; InputError unless scales and colours are equal."""

    def __init__(self, *, plain: SRModel, other: SRModel) -> None:
        super().__init__()
        if (plain.scale, plain.channels) != (other.scale, other.channels):
            raise InputError(
                f"The results of a network for ×{plain.scale} ({plain.channels}) and of one for "
                f"×{other.scale} ({other.channels}) cannot be mixed."
            )
        self.scale, self.channels = plain.scale, plain.channels
        self.plain, self.other = plain, other
        self.receptive_field = max(plain.receptive_field, other.receptive_field)
        self.multiple = math.lcm(plain.multiple, other.multiple)
        self.border = self._whole(min(plain.border, other.border))

    def _whole(self, side: int) -> int:
        return math.ceil(side / self.multiple) * self.multiple

    def _of(self, network: SRModel, lr: Tensor) -> Tensor:
        """Return what one of the two makes of ``lr`` (B, C, H, W), within its own border.

        Repeated pixels change what a network that is used to zeros makes of the border.
        """
        besides = self._whole(max(0, network.border - self.border))

        def run(part: Tensor, _: Tensor | None) -> Tensor:
            sr: Tensor = network(part)
            return sr.float()  # in bfloat16 one of the two may be so, and the other not

        return within_border(run, lr, maps=None, border=(besides,) * 4, scale=self.scale)

    @property
    def overlap(self) -> int:
        """The larger context of the two."""
        return max(self.plain.overlap, self.other.overlap)


class Mixture(_Pair):
    """The results of two networks of one scale, mixed: (1 - strength) · plain + strength · other.

    Raises InputError for networks of different scales or colours.
    """

    def __init__(self, *, plain: SRModel, other: SRModel, strength: float) -> None:
        super().__init__(plain=plain, other=other)
        self.strength = strength

    def in_runtime(self, runtime: Runtime, *, precision: UsedPrecision) -> SRModel | None:
        """Return the mixture of the two in another runtime; None unless both can be had."""
        parts = [
            one.in_runtime(runtime, precision=precision) if isinstance(one, Accelerable) else None
            for one in (self.plain, self.other)
        ]
        if parts[0] is None or parts[1] is None:
            return None
        return Mixture(plain=parts[0], other=parts[1], strength=self.strength)

    def forward(self, lr: Tensor) -> Tensor:
        """Return the SR batch, between those of the two networks."""
        plain, other = self._of(self.plain, lr), self._of(self.other, lr)
        return torch.lerp(plain, other.to(plain.dtype), self.strength)  # (B, C, rH, rW)


class Guarded(_Pair):
    """The result of a network that invents, ``other``, and of ``plain`` where it has artifacts.

    With D the similarity of their texture (DeSRA, see ``metrics.artifacts``), the faithful result
    is taken up to D = 0.7, the threshold of an artifact, and fades out until D = 0.8. Raises
    InputError for networks of different scales, or of luma.
    """

    def __init__(self, *, plain: SRModel, other: SRModel) -> None:
        if other.channels != "rgb":
            raise InputError("The guard compares the texture of RGB results, not of luma alone.")
        super().__init__(plain=plain, other=other)
        self.receptive_field += self._context

    @property
    def _context(self) -> int:
        return math.ceil((WINDOW - 1) / self.scale)  # of the similarity, in LR pixels

    @property
    def overlap(self) -> int:
        """The larger context of the two, and that of the comparison."""
        return super().overlap + self._context

    def forward(self, lr: Tensor) -> Tensor:
        """Return the SR batch (B, 3, rH, rW)."""
        faithful, sr = self._of(self.plain, lr), self._of(self.other, lr)
        if min(sr.shape[-2:]) <= WINDOW // 2:
            return sr  # nothing to compare in so few pixels
        similarity = texture_similarity(sr.clamp(0, 1), faithful.clamp(0, 1))  # (B, 1, rH, rW)
        artifact = ((THRESHOLD + FADE - similarity) / FADE).clamp(0, 1)
        return torch.lerp(sr, faithful.to(sr.dtype), artifact.to(sr.dtype))


@functools.lru_cache(maxsize=8)
def mix(plain: SRModel, *, other: SRModel, strength: float) -> SRModel:
    """Return a network whose result is as far as ``strength``, 0 to 1, from one to the other."""
    if strength in (0, 1):
        return other if strength else plain
    return Mixture(plain=plain, other=other, strength=strength).eval()


# ---- The passes of networks over an image that reach a size -------------------------------------


@dataclass(frozen=True, kw_only=True)
class PassPlan:
    """The factors of the ``passes`` of networks, in order; sizes are (height, width)."""

    source: tuple[int, int]
    passes: tuple[int, ...]
    size: tuple[int, int]


def plan_passes(size: tuple[int, int], request: Request, *, factors: tuple[int, ...]) -> PassPlan:
    """Return the passes and the final size, at least 1 x 1, for an image of ``size``.

    Raises InputError: no network that is given enlarges, and the image is to become larger.
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


def runner_of(model: SRModel, request: Request, *, finish: Finish | None = None) -> TileRunner:
    """Return what runs the network on tiles as it was asked for."""
    return TileRunner(
        model,
        precision=request.precision,
        ensemble=request.ensemble,
        consistent=request.consistent,
        finish=finish,
    )


def steps_of(
    networks: Networks, request: Request, *, passes: tuple[int, ...], treated: Treatment
) -> Iterator[tuple[SRModel, Finish]]:
    """Yield the network and the finish of each pass: the first restores, the last sharpens."""
    for number, factor in enumerate(passes, start=1):
        model, flat, back = networks.load(factor), networks.flat, networks.faithful
        if number == 1 and treated.strength and networks.restore is not None:
            other = networks.restore.load(factor)
            model = mix(model, other=other, strength=treated.strength)
            flat, back = FLAT_RESTORED, False  # what was taken away is not to come back
        sharpness = request.used_sharpness if number == len(passes) else 0.0
        yield model, Finish(scale=factor, sharpness=sharpness, back=back, flat=flat)


def alpha_runners(
    networks: Networks, request: Request, *, passes: tuple[int, ...]
) -> Iterator[TileRunner]:
    """Yield what makes each pass of alpha, by the networks with the least error."""
    if networks.alpha is not None and set(passes) <= set(networks.alpha.factors):
        plain = replace(request, ensemble=False, consistent=False)
        for factor in passes:
            finish = Finish(scale=factor, flat=FLAT)
            yield runner_of(networks.alpha.load(factor), plain, finish=finish)
