"""Which networks an image goes through: those of a style, a name or a file, restoring or not.

"auto" is faithful where an image is clean and restores as far as it was damaged ("texture" alike):

pixels and file -> estimate -> strength s -> (1 - s) · faithful + s · restoring

What computes them, and in which precision, is chosen too, by a tile that is the same for all.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.image.quality import Condition
from edgekeeper.inference.network import (
    NO_INT8,
    Choice,
    Finish,
    Precision,
    TileRunner,
    infer,
    is_finite,
)
from edgekeeper.inference.pairs import guarded, mix
from edgekeeper.inference.request import Request
from edgekeeper.models import SRModel
from edgekeeper.ops.tiles import probe_tile
from edgekeeper.pretrained.cards import style_of
from edgekeeper.pretrained.exported import (
    EXPORTED_SUFFIXES,
    ExportedNetwork,
    UsedPrecision,
    load_exported,
)
from edgekeeper.pretrained.zoo import (
    DEFAULTS,
    FACTORS,
    RESTORING,
    WEIGHTS,
    Accelerable,
    Networks,
    accelerated,
    check_named,
    choose_passes,
    find,
    find_device,
    is_own,
    load_network,
)

LEAST = 0.05
"""Strength below which an image counts as clean."""

# LR pixels around a flat one that are equal. JPEG makes flat blocks of eight, which are to go.
FLAT, FLAT_RESTORED = 2, 8


def networks_for(request: Request) -> Networks:
    """Return the networks to choose from, each read once, when it is needed, on its device.

    Raises InputError: no such network, or it cannot be run as asked. CheckpointError: a file holds
    no network that is known. UnavailableError: an extra is needed; it is named.
    """
    model, style = request.model, request.style
    if isinstance(model, Networks):
        return model
    loads = functools.cache(functools.partial(_load, request))

    def shipped(names: dict[int, str]) -> Networks:
        return Networks(factors=tuple(names), load=lambda f: loads(names[f]), names=names)

    plain = shipped(DEFAULTS["faithful"])
    if request.guard:  # of its own networks: a faithful one beside each that invents
        chosen = networks_for(replace(request, guard=False))
        restore = chosen.restore and guarded(chosen.restore, plain=shipped(DEFAULTS["restore"]))
        return replace(guarded(chosen, plain=plain), restore=restore)
    if model is not None:
        one = loads(model if isinstance(model, SRModel) else check_named(model))
        own = Networks(factors=(one.scale,), load=lambda factor: one)
        if isinstance(model, SRModel) or not (WEIGHTS / f"{model}.safetensors").is_file():
            return own
        faithful = style_of(str(model)) in ("faithful", "sharp")
        names = {one.scale: str(model)}
        return replace(own, alpha=plain, flat=FLAT, faithful=faithful, names=names)
    find_device(request.device)
    own = shipped(DEFAULTS["faithful" if style == "restore" else style])
    own = replace(own, factors=FACTORS[style], alpha=plain, flat=FLAT, faithful=style != "texture")
    return replace(own, restore=shipped(RESTORING[style])) if style in RESTORING else own


def _load(request: Request, given: str | Path | SRModel) -> SRModel:
    """Return the network of a name or a file, or the one that is given, as it is to be run."""
    runtime, device = request.runtime, request.device
    needs = EXPORTED_SUFFIXES.get("" if isinstance(given, SRModel) else Path(given).suffix.lower())
    if needs is None and runtime in ("auto", "torch"):
        if isinstance(given, SRModel):
            return given
        model = load_network(given, factor=request.scale).to(find_device(device))
        if runtime == "torch" or request.categories is not None:
            return model
        return accelerated(model, file=find(given), threads=request.threads)
    if needs and runtime not in ("auto", needs):
        raise InputError(f"'{given}' is run by {needs}, not by {runtime}.")
    device = "cpu" if device == "auto" else device
    if device != "cpu" and not (device.startswith("cuda") and (needs or runtime) == "onnx"):
        raise InputError(f"ONNX Runtime computes on the CPU or CUDA, OpenVINO not on {device}.")
    precision: Precision = "bfloat16" if request.precision == "bfloat16" else "float32"
    file = given if isinstance(given, SRModel) else find(given)
    if needs and isinstance(file, Path):
        return load_exported(file, threads=request.threads, precision=precision, device=device)
    if request.precision == "int8":
        raise InputError("In int8 OpenVINO runs a file of its own: leave the runtime at 'auto'.")
    from edgekeeper.inference.export import with_runtime  # makes the file that there is not

    if isinstance(file, Path) and not is_own(file):
        file = load_network(file, factor=request.scale)
    assert runtime != "auto" and runtime != "torch"
    return with_runtime(
        file, runtime=runtime, precision=precision, threads=request.threads, device=device
    )


# ---- How strongly an image is restored -----------------------------------------------------------


class Treatment(NamedTuple):
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


# ---- The passes of networks over an image that reach a size -------------------------------------


class PassPlan(NamedTuple):
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


def alpha_steps(networks: Networks, *, passes: tuple[int, ...]) -> Iterator[tuple[SRModel, Finish]]:
    """Yield the network and the finish of each pass of alpha, with the least error; or none."""
    if networks.alpha is not None and set(passes) <= set(networks.alpha.factors):
        for factor in passes:
            yield networks.alpha.load(factor), Finish(scale=factor, flat=FLAT)


# ---- The fastest runtime and precision that a processor has and that a network bears ------------

# What bfloat16 may differ from float32: half a grey level of 255 in the mean, and in PSNR. Another
# runtime in float32: a quarter of one in any pixel.
_MOST_LEVELS, _LEAST_DB = 0.5, 50.0
_MOST_OF_A_PIXEL = 1e-3


class Verdict(NamedTuple):
    """The precision, a sentence if there is one to tell, and what computes (None: the network)."""

    precision: UsedPrecision
    note: str = ""
    model: SRModel | None = None


# What was found for a network and a choice, with the weights it had then.
_Found = dict[tuple[Choice, bool], tuple[object, Verdict]]
_known: WeakKeyDictionary[SRModel, _Found] = WeakKeyDictionary()


def probe_runtime(
    runner: TileRunner, size: tuple[int, int], *, maps: Tensor | None = None, switches: bool = True
) -> None:
    """Choose what computes the network of ``runner``, and how, for tiles (h, w) of ``size``.

    ``switches``: whether the image is worth the start of another runtime than PyTorch.
    """
    if runner.precision is not None:
        return
    started = time.perf_counter()
    verdict = choose(
        runner.model,
        size,
        device=runner.device,
        wanted=runner.wanted,
        switches=switches,
        maps=None if maps is None else maps.to(runner.device),
    )
    runner.model, runner.precision = verdict.model or runner.model, verdict.precision
    if verdict.note:
        runner.notes[verdict.note] = None
    runner.seconds += time.perf_counter() - started


def choose(
    model: SRModel,
    size: tuple[int, int],
    *,
    device: torch.device,
    wanted: Choice = "auto",
    switches: bool = True,
    maps: Tensor | None = None,
) -> Verdict:
    """Return what computes ``model`` in which precision, tried once for a network and its weights.

    What is tried, a tile (h, w) of ``size``, is none of the image: all of a folder get the same. Of
    a network with files for other runtimes, if it ``switches``: OpenVINO where it is near enough to
    PyTorch's float32, else ONNX Runtime where it is so and faster, else PyTorch. "auto" is bfloat16
    where it is fast and good enough, else float32; "int8" is OpenVINO's.
    Raises InputError: no file of the network in eight bits, or no OpenVINO.
    """
    if not (switches or wanted == "int8") and wanted != "auto":
        return Verdict(wanted)
    weights, known, key = _fingerprint(model), _known.setdefault(model, {}), (wanted, switches)
    if key not in known or known[key][0] != weights:
        probe = probe_tile()[..., : size[0], : size[1]].to(device)
        if isinstance(model, Accelerable) and (switches or wanted == "int8"):
            known[key] = weights, _choose_runtime(model, probe, wanted)
        elif not bfloat16_is_fast(device) or not _multiplies(model):
            return Verdict("float32")
        else:
            if maps is not None:
                height, width = (model.scale * side for side in probe.shape[-2:])
                maps = maps[..., :height, :width]
            known[key] = weights, _choose_precision(model, probe, maps)
    return known[key][1]


def _choose_precision(model: SRModel, probe: Tensor, maps: Tensor | None = None) -> Verdict:
    full = infer(model, probe, maps=maps, layout="channels last")
    reduced = infer(model, probe, maps=maps, precision="bfloat16", clamp="none")
    return _compare(full, reduced)


def _choose_runtime(model: SRModel, probe: Tensor, wanted: Choice) -> Verdict:
    assert isinstance(model, Accelerable)
    if wanted == "int8":
        if (found := model.in_runtime("openvino", precision="int8")) is None:
            raise InputError(NO_INT8)
        return Verdict("int8", _loss_of(found), found)
    reduced: list[Precision] = ["bfloat16"] if bfloat16_is_fast(probe.device) else []
    precisions: list[Precision] = [*reduced, "float32"] if wanted == "auto" else [wanted]
    started = time.perf_counter()
    full = infer(model, probe, layout="channels last")
    in_torch = time.perf_counter() - started
    for precision in precisions:
        found = model.in_runtime("openvino", precision=precision)
        if found is not None and _is_near(infer(found, probe, clamp="none"), full, precision):
            return Verdict(precision, f"OpenVINO ran the network in {precision}.", found)
    verdict = Verdict("float32") if wanted == "auto" else Verdict(precisions[0])
    if wanted == "auto" and reduced and _multiplies(model):
        started = time.perf_counter()
        verdict = _choose_precision(model, probe)
        if verdict.precision == "bfloat16":
            in_torch = (time.perf_counter() - started) - in_torch  # float32 was in it again
    found = None if wanted == "bfloat16" else model.in_runtime("onnx", precision="float32")
    if found is not None and _is_near(infer(found, probe, clamp="none"), full, "float32"):
        started = time.perf_counter()
        infer(found, probe)
        if time.perf_counter() - started < in_torch:
            return Verdict("float32", "ONNX Runtime ran the network in float32.", found)
    return verdict


def _loss_of(model: SRModel) -> str:
    """Return the sentence on what eight bits cost, from the cards of the files."""
    said = []
    for part in model.modules():
        if isinstance(part, ExportedNetwork):
            loss: Any = part.facts["int8"]
            said.append(
                f"{part.path.name.partition('.')[0]} loses {max(loss['loss_db'], 0):.3f} dB on "
                f"{loss['images']} images that did not calibrate"
            )
    return f"OpenVINO ran the network in int8: {'; '.join(said)}."


def _is_near(sr: Tensor, full: Tensor, precision: Precision) -> bool:
    """Return whether another runtime's result is near enough to PyTorch's in float32."""
    if precision == "bfloat16":
        return _compare(full, sr).precision == "bfloat16"
    return is_finite(sr) and float((sr.clamp(0, 1) - full).abs().amax()) <= _MOST_OF_A_PIXEL


def bfloat16_is_fast(device: torch.device) -> bool:
    """Return whether the device multiplies in bfloat16 by itself.

    CUDA from compute capability 8.0; a CPU with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = cpu_capabilities()
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def cpu_capabilities() -> dict[str, Any]:
    """Return what torch knows of the processor; nothing where it is too old to say."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())


def _compare(full: Tensor, reduced: Tensor) -> Verdict:
    if not is_finite(reduced):
        what = "gives values that are not finite in bfloat16"
        return Verdict("float32", f"This network {what}; float32 was used.")
    error = (reduced.clamp(0, 1) - full).double()
    levels = float(error.abs().mean()) * 255
    power = float(error.square().mean())
    decibels = math.inf if power == 0 else -10 * math.log10(power)
    if levels <= _MOST_LEVELS and decibels >= _LEAST_DB:
        return Verdict("bfloat16")
    what = f"differs by {levels:.2f} grey levels in the mean ({decibels:.1f} dB)"
    return Verdict("float32", f"In bfloat16 this network {what}; float32 was used.")


def _multiplies(model: SRModel) -> bool:
    """Return whether torch computes this network's layers: only then is there a choice."""
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return any(isinstance(module, layers) for module in model.modules())


def _fingerprint(model: SRModel) -> object:
    """Return something that changes when the weights do."""
    return tuple(
        (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        for weight in model.parameters()
    )
