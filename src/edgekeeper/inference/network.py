"""Run a network on a batch of RGB images (``infer``), and choose what computes it how.

The one place that knows luma networks, borders, layout and precision.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models import SRModel
from edgekeeper.models.base import in_evaluation
from edgekeeper.models.sftgan import taking_maps
from edgekeeper.ops.color import rgb_to_y, rgb_to_ycbcr, ycbcr_to_rgb
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import Sides
from edgekeeper.pretrained.exported import ExportedNetwork, UsedPrecision
from edgekeeper.pretrained.zoo import Accelerable

Precision = Literal["float32", "bfloat16"]
Choice = Literal["auto", "float32", "bfloat16", "int8"]
MemoryLayout = Literal["as given", "channels last"]


@torch.inference_mode()
def infer(
    model: SRModel,
    lr: Tensor,
    *,
    maps: Tensor | None = None,
    precision: Precision = "float32",
    clamp: Literal["unit", "none"] = "unit",
    layout: MemoryLayout = "as given",
) -> Tensor:
    """Return the SR batch (B, 3, scale·H, scale·W), float32, of an LR batch (B, 3, H, W) in [0, 1].

    The network runs in evaluation mode, the caller's module untouched, with its ``border`` of
    repeated pixels around the images. A luma network works on Y; Cb and Cr are enlarged by
    MATLAB's bicubic, as in the papers. An image whose channels are equal stays grey.
    ``precision="bfloat16"`` runs convolutions in bfloat16 (autocast, channels last);
    ``clamp="none"`` leaves values outside [0, 1] as the network gave them. ``layout`` is that of
    the network's input in float32: "channels last" is faster, and may change the last bits.
    ``maps`` are those of ``SFTGAN.with_conditions``, which is then called.
    Raises InputError: ``lr`` is not a float RGB batch, or the network takes no such maps.
    """
    check_batch(lr)
    sides = (model.border,) * 4

    def forward(lr: Tensor, maps: Tensor | None) -> Tensor:
        return run_network(model, lr, maps=maps, precision=precision, layout=layout)

    sr = within_border(forward, lr, maps=maps, border=sides, scale=model.scale)  # (B, 3, sH, sW)
    grey = (lr == lr[:, :1]).flatten(1).all(dim=1)  # (B,)
    if model.channels == "rgb" and bool(grey.any()):
        sr = torch.where(grey.view(-1, 1, 1, 1), full_range_luma(sr), sr)
    return sr.clamp(0, 1) if clamp == "unit" else sr


def run_network(
    model: SRModel, lr: Tensor, *, maps: Tensor | None, precision: Precision, layout: MemoryLayout
) -> Tensor:
    """Return what the network makes of a part of an image: no border, no clamping."""
    if model.channels == "rgb":
        return _forward(model, lr, maps, precision, layout)
    ycbcr = rgb_to_ycbcr(lr)
    y = _forward(model, ycbcr[:, :1], maps, precision, layout)  # (B, 1, sH, sW)
    chroma = imresize(ycbcr[:, 1:], scale=model.scale)  # (B, 2, sH, sW)
    return ycbcr_to_rgb(torch.cat([y, chroma], dim=1))


def within_border(
    function: Callable[[Tensor, Tensor | None], Tensor],
    lr: Tensor,
    *,
    maps: Tensor | None,
    border: Sides,
    scale: int,
) -> Tensor:
    """Return what ``function`` makes of ``lr`` within repeated pixels, without their part of it."""
    if not any(border):
        return function(lr, maps)
    large = left, right, above, below = tuple(side * scale for side in border)
    if maps is not None:
        maps = F.pad(maps, large, mode="replicate")
    sr = function(F.pad(lr, border, mode="replicate"), maps)  # (B, C, above + sH + below, ...)
    return sr[..., above : sr.shape[-2] - below, left : sr.shape[-1] - right]


def full_range_luma(rgb: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) of RGB in [0, 1], so that equal channels stay what they are."""
    return (rgb_to_y(rgb) * 255 - 16) / 219


def check_batch(lr: Tensor) -> None:
    """Raise InputError unless ``lr`` is a float RGB batch."""
    if lr.ndim != 4 or lr.shape[1] != 3 or not lr.is_floating_point():
        wanted = "a float RGB batch (B, 3, H, W) in [0, 1]"
        raise InputError(f"infer takes {wanted}; got {tuple(lr.shape)} of {lr.dtype}.")


def _forward(
    model: SRModel, lr: Tensor, maps: Tensor | None, precision: Precision, layout: MemoryLayout
) -> Tensor:
    reduced = precision == "bfloat16"
    if reduced or layout == "channels last":
        lr = lr.contiguous(memory_format=torch.channels_last)
    model = in_evaluation(model)
    with torch.autocast(lr.device.type, dtype=torch.bfloat16) if reduced else nullcontext():
        if maps is not None:
            return taking_maps(model).with_conditions(lr, maps).float()
        return model(lr).float()


# ---- The fastest runtime and precision that a processor has and that a network bears ------------

# What bfloat16 may differ from float32: half a grey level of 255 in the mean, and in PSNR. Another
# runtime in float32: a quarter of one in any pixel.
_MOST_LEVELS, _LEAST_DB = 0.5, 50.0
_MOST_OF_A_PIXEL = 1e-3
_PROBE_SIDE = 128


class Verdict(NamedTuple):
    """The precision to use, a sentence where there is something to tell, and what computes it.

    ``model`` is None where that is the network itself.
    """

    precision: UsedPrecision
    note: str = ""
    model: SRModel | None = None


# What was found for a network and a choice, with the weights it had then.
_known: "WeakKeyDictionary[SRModel, dict[tuple[Choice, bool], tuple[object, Verdict]]]" = (
    WeakKeyDictionary()
)


def choose(
    model: SRModel,
    probe: Tensor,
    *,
    wanted: Choice = "auto",
    switches: bool = True,
    maps: Tensor | None = None,
) -> Verdict:
    """Return what computes ``model`` in which precision, tried once for a network and its weights.

    ``probe`` is a part of an image (1, 3, h, w), of which the middle is tried, with ``maps`` as
    for ``infer``. Of a network with files for other runtimes, if it ``switches``: OpenVINO where
    it is near enough to PyTorch's float32 there, else ONNX Runtime where it is so and faster,
    else PyTorch. "auto" is bfloat16 where it is fast and good enough, else float32; "int8" is
    OpenVINO's.
    Raises InputError: no file of the network in eight bits, or no OpenVINO.
    """
    if not (switches or wanted == "int8") and wanted != "auto":
        return Verdict(wanted)
    weights, known, key = _fingerprint(model), _known.setdefault(model, {}), (wanted, switches)
    if key not in known or known[key][0] != weights:
        top, left = (max((side - _PROBE_SIDE) // 2, 0) for side in probe.shape[-2:])
        middle = probe[..., top : top + _PROBE_SIDE, left : left + _PROBE_SIDE]
        if isinstance(model, Accelerable) and (switches or wanted == "int8"):
            known[key] = weights, _choose_runtime(model, middle, wanted)
        elif not bfloat16_is_fast(probe.device) or not _multiplies(model):
            return Verdict("float32")
        else:
            if maps is not None:
                top, left, side = (model.scale * x for x in (top, left, _PROBE_SIDE))
                maps = maps[..., top : top + side, left : left + side]
            known[key] = weights, _choose_precision(model, middle, maps)
    return known[key][1]


def _choose_precision(model: SRModel, middle: Tensor, maps: Tensor | None) -> Verdict:
    full = infer(model, middle, maps=maps, layout="channels last")
    reduced = infer(model, middle, maps=maps, precision="bfloat16", clamp="none")
    return _compare(full, reduced)


def _choose_runtime(model: SRModel, middle: Tensor, wanted: Choice) -> Verdict:
    assert isinstance(model, Accelerable)
    if wanted == "int8":
        if (found := model.in_runtime("openvino", precision="int8")) is None:
            raise InputError(NO_INT8)
        return Verdict("int8", _loss_of(found), found)
    reduced: list[Precision] = ["bfloat16"] if bfloat16_is_fast(middle.device) else []
    precisions: list[Precision] = [*reduced, "float32"] if wanted == "auto" else [wanted]
    started = time.perf_counter()
    full = infer(model, middle, layout="channels last")
    in_torch = time.perf_counter() - started
    for precision in precisions:
        found = model.in_runtime("openvino", precision=precision)
        if found is not None and _is_near(infer(found, middle, clamp="none"), full, precision):
            return Verdict(precision, f"OpenVINO ran the network in {precision}.", found)
    verdict = Verdict("float32") if wanted == "auto" else Verdict(precisions[0])
    if wanted == "auto" and reduced and _multiplies(model):
        started = time.perf_counter()
        verdict = _choose_precision(model, middle, None)
        if verdict.precision == "bfloat16":
            in_torch = (time.perf_counter() - started) - in_torch  # float32 was in it again
    found = None if wanted == "bfloat16" else model.in_runtime("onnx", precision="float32")
    if found is not None and _is_near(infer(found, middle, clamp="none"), full, "float32"):
        started = time.perf_counter()
        infer(found, middle)
        if time.perf_counter() - started < in_torch:
            return Verdict("float32", "ONNX Runtime ran the network in float32.", found)
    return verdict


NO_INT8 = (
    "--precision int8 needs OpenVINO (pip install 'edgekeeper[fast]') and a file of the network "
    "in eight bits: those of `edgekeeper upscale` by default and fast_x2, fast_x4 ship; "
    "make others by `edgekeeper export NETWORK --to openvino --int8 FOLDER`, a file for --model."
)


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
    if not is_finite(sr):
        return False
    if precision == "bfloat16":
        return _compare(full, sr).precision == "bfloat16"
    return float((sr.clamp(0, 1) - full).abs().amax()) <= _MOST_OF_A_PIXEL


def is_finite(x: Tensor) -> bool:
    """Return whether all values are finite."""
    # One pass over the values: a NaN is handed on by both, an infinity is one of them.
    low, high = torch.aminmax(x)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def bfloat16_is_fast(device: torch.device) -> bool:
    """Return whether the device multiplies in bfloat16 by itself.

    CUDA from compute capability 8.0; a CPU with AVX512-BF16 or AMX. (Half precision of 16 bits
    is never used on a CPU: it is many times slower than float32 there.)
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = cpu_capabilities()
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def cpu_capabilities() -> dict[str, Any]:
    """Return what torch knows of the processor; nothing where it is too old to say."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)
    return dict(capabilities())


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
