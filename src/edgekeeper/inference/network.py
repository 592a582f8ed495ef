"""Run a network on RGB: the one place that knows luma networks, layout, precision and clamping."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models import SRModel
from edgekeeper.models.sftgan import taking_maps
from edgekeeper.ops.color import rgb_to_y, rgb_to_ycbcr, ycbcr_to_rgb
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import Sides

Precision = Literal["float32", "bfloat16"]

Layout = Literal["as given", "channels last"]


@torch.inference_mode()
def infer(
    model: SRModel,
    lr: Tensor,
    *,
    maps: Tensor | None = None,
    precision: Precision = "float32",
    clamp: Literal["unit", "none"] = "unit",
    layout: Layout = "as given",
) -> Tensor:
    """Return the SR batch (B, 3, scale·H, scale·W), float32, of an LR batch (B, 3, H, W) in [0, 1].

    The network runs in evaluation mode and is left in the mode it was in, with its ``border`` of
    repeated pixels around the images. A luma network works on Y; Cb and Cr are enlarged by
    MATLAB's bicubic, as in the papers. An image whose channels are equal stays grey.
    ``precision="bfloat16"`` runs convolutions in bfloat16 (autocast, channels last);
    ``clamp="none"`` leaves values outside [0, 1] as the network gave them. ``layout`` is that of
    the network's input in float32: "channels last" is faster, and may change the last bits.
    ``maps`` are those of ``SFTGAN.with_conditions``, which is then called.

    Raises:
        InputError: ``lr`` is not a float RGB batch, or the network takes no such maps.
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
    model: SRModel,
    lr: Tensor,
    *,
    maps: Tensor | None = None,
    precision: Precision,
    layout: Layout = "channels last",
) -> Tensor:
    """Return what the network makes of a part of an image, as ``infer``, but neither more nor less.

    No border is added, colours stay as they came, and nothing is clamped.
    """
    if model.channels == "y":
        ycbcr = rgb_to_ycbcr(lr)
        y = _forward(model, ycbcr[:, :1], maps, precision, layout)
        chroma = imresize(ycbcr[:, 1:], scale=model.scale)
        return ycbcr_to_rgb(torch.cat([y, chroma], dim=1))
    return _forward(model, lr, maps, precision, layout)


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
        raise InputError(
            f"infer takes a float RGB batch (B, 3, H, W) in [0, 1]; "
            f"got {tuple(lr.shape)} of {lr.dtype}."
        )


def _forward(
    model: SRModel, lr: Tensor, maps: Tensor | None, precision: Precision, layout: Layout
) -> Tensor:
    reduced = precision == "bfloat16"
    if reduced or layout == "channels last":
        lr = lr.contiguous(memory_format=torch.channels_last)
    with (
        _evaluation(model),
        torch.autocast(lr.device.type, dtype=torch.bfloat16) if reduced else nullcontext(),
    ):
        if maps is not None:
            return taking_maps(model).with_conditions(lr, maps).float()
        return model(lr).float()


@contextmanager
def _evaluation(model: SRModel) -> Iterator[None]:
    """The network in evaluation mode, and afterwards each part in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


# ---- The fastest precision that a processor has and that a network bears ------------------------

Choice = Literal["auto", "float32", "bfloat16"]

# What bfloat16 may differ from float32: half a grey level of 255 in the mean, and in PSNR.
MOST_LEVELS = 0.5
LEAST_DB = 50.0

PROBE_SIDE = 128


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The precision to use, and a sentence when it is not the one that was hoped for."""

    precision: Precision
    note: str = ""


# What was found for a network, with the weights it had then.
_known: "WeakKeyDictionary[SRModel, tuple[object, Verdict]]" = WeakKeyDictionary()


def choose_precision(model: SRModel, probe: Tensor, *, maps: Tensor | None = None) -> Verdict:
    """Return the precision for ``model``: bfloat16 where it is fast and good enough, else float32.

    ``probe`` is a part of an image (1, 3, h, w), of which the middle is tried in both, with
    ``maps`` as for ``infer``; this is done once for a network and its weights. Without bfloat16
    in the processor nothing is tried.
    """
    if not bfloat16_is_fast(probe.device) or not _multiplies(model):
        return Verdict(precision="float32")
    weights = _fingerprint(model)
    if model in _known and _known[model][0] == weights:
        return _known[model][1]
    top, left = (max((side - PROBE_SIDE) // 2, 0) for side in probe.shape[-2:])
    middle = probe[..., top : top + PROBE_SIDE, left : left + PROBE_SIDE]
    if maps is not None:
        rows, columns = (
            slice(model.scale * start, model.scale * (start + PROBE_SIDE)) for start in (top, left)
        )
        maps = maps[..., rows, columns]
    verdict = _compare(
        infer(model, middle, maps=maps, layout="channels last"),
        infer(model, middle, maps=maps, precision="bfloat16", clamp="none"),
    )
    _known[model] = weights, verdict
    return verdict


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
    if not bool(torch.isfinite(reduced).all()):
        return Verdict(
            precision="float32",
            note="This network gives values that are not finite in bfloat16; float32 was used.",
        )
    error = (reduced.clamp(0, 1) - full).double()
    levels = float(error.abs().mean()) * 255
    power = float(error.square().mean())
    decibels = math.inf if power == 0 else -10 * math.log10(power)
    if levels <= MOST_LEVELS and decibels >= LEAST_DB:
        return Verdict(precision="bfloat16")
    return Verdict(
        precision="float32",
        note=(
            f"In bfloat16 this network differs by {levels:.2f} grey levels in the mean "
            f"({decibels:.1f} dB); float32 was used."
        ),
    )


def _multiplies(model: SRModel) -> bool:
    """Whether torch computes this network's layers, so that their precision can be chosen."""
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return any(isinstance(module, layers) for module in model.modules())


def _fingerprint(model: SRModel) -> object:
    """Something that changes when the weights do."""
    return tuple(
        (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        for weight in model.parameters()
    )
