"""Eight bits: which range each layer's input needs, found on images, and what is lost.

Calibration runs the torch network on LR images made from the calibration images and watches
what enters and leaves each convolution. The loss is measured on the same images with the
finished file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgekeeper.data.degrade import crop_to_multiple, make_lr
from edgekeeper.errors import InputError
from edgekeeper.export.graph import Range, Rounding, Signed
from edgekeeper.export.weights import all_rounded
from edgekeeper.image import list_images, read_image, to_rgb_tensor
from edgekeeper.inference.network import infer
from edgekeeper.metrics.psnr import psnr
from edgekeeper.metrics.structure import gv_gap
from edgekeeper.models import SRModel
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.ops.color import rgb_to_ycbcr

Method = Literal["minmax", "percentile", "error"]
Keep = Literal["none", "first", "ends"]

IMAGES = 32
"""At most so many images of a folder are used, evenly spread over its names."""

SIDE = 256
"""The middle of an image that is used, in HR pixels a side."""

BINS = 2048
PERCENTILE = 0.9999
STRIDE = 5  # every fifth value is counted: enough for a histogram, and coprime to most widths


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Means over the calibration images, on luma with the protocol "y_matlab".

    psnr_float, psnr_int8: against the original image, in dB.
    psnr_between: of the int8 result against the float one, in dB.
    gv_gap_float, gv_gap_int8: gradient-variance gap against the original image.
    """

    images: int
    psnr_float: float
    psnr_int8: float
    psnr_between: float
    gv_gap_float: float
    gv_gap_int8: float

    @property
    def db(self) -> float:
        """What int8 costs, in dB; negative when it gains."""
        return self.psnr_float - self.psnr_int8

    def to_json(self) -> dict[str, float]:
        """Return the fields and the loss, rounded."""
        numbers = {key: round(value, 5) for key, value in asdict(self).items()}
        return {**numbers, "loss_db": round(self.db, 5)}


def calibration_images(folder: Path, *, scale: int) -> list[Tensor]:
    """HR images (1, 3, H, W): the middles of at most ``IMAGES`` images of the folder.

    Raises:
        InputError: no such folder, or no image of at least 64 pixels a side in it.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}' with images to calibrate on.")
    files = list_images(folder)
    step = max(1, -(-len(files) // IMAGES))
    found = []
    for file in files[::step]:
        image = to_rgb_tensor(read_image(file))
        top, left = (max(0, (side - SIDE) // 2) for side in image.shape[-2:])
        middle = image[..., top : top + SIDE, left : left + SIDE]
        middle = crop_to_multiple(middle, scale)
        if min(middle.shape[-2:]) >= 64:
            found.append(middle)
    if not found:
        raise InputError(
            f"The folder '{folder}' holds no image of at least 64 x 64 pixels to calibrate on."
        )
    return found


def calibrate(
    model: SRModel,
    images: Sequence[Tensor],
    *,
    method: Method,
    keep: Keep,
    signed: Signed,
    outputs: Literal["float", "rounded"],
) -> Rounding:
    """Ranges and weights for the convolutions of ``model``, from what enters them on the images.

    method: "minmax" covers everything seen; "percentile" leaves the outermost 1 in 10,000 on each
        side out; "error" takes the range with the smallest squared error of rounding.
    keep: which layers stay in float: none, the first, or the first and the last.
    outputs: whether what leaves the layers is rounded too, which ONNX Runtime needs to be fast.
    """
    names = layers(model)
    kept = {"none": [], "first": names[:1], "ends": [names[0], names[-1]]}[keep]
    chosen = [name for name in names if name not in kept]
    if not chosen:
        raise InputError(f"With keep '{keep}' no layer of the network is left to round.")
    small = [make_lr(hr, scale=model.scale, kernel="matlab_uint8") for hr in images]
    if COLOUR_COUNT[model.channels] == 1:
        small = [rgb_to_ycbcr(lr)[:, :1] for lr in small]
    ranges = _ranges(model, small, method=method)
    return Rounding(
        inputs={name: ranges[name] for name in chosen},
        outputs={name: ranges[_out(name)] for name in chosen} if outputs == "rounded" else {},
        weights=all_rounded(model, small, layers=chosen),
        signed=signed,
    )


@torch.inference_mode()
def layers(model: SRModel) -> list[str]:
    """Return the names of the convolutions that the image passes, in their order."""
    found: dict[str, None] = {}  # a set that knows its order
    with _watched(model, lambda name, _: found.setdefault(name)):
        model(torch.zeros(1, COLOUR_COUNT[model.channels], 8, 8))
    return [name for name in found if not name.endswith(_out(""))]


def _out(name: str) -> str:
    return f"{name} out"


Watch = Callable[[str, Tensor], None]


@torch.inference_mode()
def _ranges(model: SRModel, small: Sequence[Tensor], *, method: Method) -> dict[str, Range]:
    """Return the range of each convolution's input, and of its output under ``_out(name)``."""
    limits: dict[str, Range] = {}

    def widen(name: str, values: Tensor) -> None:
        known = limits.get(name, Range(0.0, 0.0))
        low, high = (float(value) for value in values.aminmax())
        limits[name] = Range(min(known.low, low), max(known.high, high))

    with _watched(model, widen):
        for lr in small:
            model(lr)
    if method == "minmax":
        return limits
    counts = {name: torch.zeros(BINS, dtype=torch.float64) for name in limits}

    def count(name: str, values: Tensor) -> None:
        at = limits[name]
        found = torch.histc(
            values.flatten()[::STRIDE], bins=BINS, min=at.low, max=max(at.high, at.low + 1e-8)
        )
        counts[name] += found.double()

    with _watched(model, count):
        for lr in small:
            model(lr)
    narrow = _percentile if method == "percentile" else _least_error
    return {name: narrow(counts[name], limits[name]) for name in limits}


@contextmanager
def _watched(model: nn.Module, watch: Watch) -> Iterator[None]:
    """While it lasts, ``watch`` sees what enters and leaves each convolution."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def see(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            watch(name, given[0])
            watch(_out(name), out)

        return see

    handles = [
        layer.register_forward_hook(hook(name))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _edges(limits: Range) -> Tensor:
    return torch.linspace(limits.low, limits.high, BINS + 1, dtype=torch.float64)


def _percentile(counts: Tensor, limits: Range) -> Range:
    """Return the range without the outermost parts."""
    share = counts.cumsum(0) / counts.sum()
    edges = _edges(limits)
    low = int((share < 1 - PERCENTILE).sum())
    high = int((share < PERCENTILE).sum()) + 1
    return Range(min(float(edges[low]), 0.0), max(float(edges[min(high, BINS)]), 0.0))


def _least_error(counts: Tensor, limits: Range) -> Range:
    """Of 60 shrunken ranges the one whose rounding has the smallest squared error."""
    edges = _edges(limits)
    centres = (edges[:-1] + edges[1:]) / 2
    best, least = limits, float("inf")
    for part in torch.linspace(1.0, 0.2, 60).tolist():
        low, high = limits.low * part, limits.high * part
        step = (high - low) / 255 if low < 0 or high > 0 else 1.0
        cut = (centres - centres.clamp(low, high)).square()
        inside = (centres >= low) & (centres <= high)
        error = float((counts * (cut + inside * step**2 / 12)).sum())
        if error < least:
            best, least = Range(low, high), error
    return best


@torch.inference_mode()
def measure_loss(exported: SRModel, original: SRModel, *, images: Sequence[Tensor]) -> Loss:
    """Return what the 8-bit network loses against the float one on HR images."""
    rows: list[dict[str, float]] = []
    scale = original.scale
    for hr in images:
        lr = make_lr(hr, scale=scale, kernel="matlab_uint8")
        ours, theirs = infer(exported, lr), infer(original, lr)
        rows.append(
            {
                "psnr_float": psnr(theirs, hr, scale=scale).item(),
                "psnr_int8": psnr(ours, hr, scale=scale).item(),
                "psnr_between": min(psnr(ours, theirs, scale=scale).item(), 100.0),
                "gv_gap_float": gv_gap(theirs, hr, scale=scale).item(),
                "gv_gap_int8": gv_gap(ours, hr, scale=scale).item(),
            }
        )
    return Loss(images=len(rows), **_means(rows))


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
