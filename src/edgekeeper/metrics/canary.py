"""Canaries: bicubic scores that tell whether a well-known image set is the well-known one.

A set whose LR files were made by another kernel, shifted by half a pixel or cropped otherwise
gives numbers that look fine and mean nothing. Before such a set is used, bicubic is scored on
its first and last image and compared with the value stored here. Of sets that were not at hand
there is the mean that a paper prints: ``data check`` compares it with that over all images.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from edgekeeper.errors import DataError
from edgekeeper.metrics.psnr import psnr
from edgekeeper.ops.resize import imresize

# MATLAB's two ways of making LR files, and Pillow's bicubic, are within 0.006 dB of each other.
TOLERANCE_DB = 0.02


@dataclass(frozen=True)
class Canary:
    """How many images a set has, and the bicubic Y-PSNR in dB of its first and last, by scale."""

    images: int
    first: dict[int, float] = field(default_factory=dict)
    last: dict[int, float] = field(default_factory=dict)
    mean: dict[int, float] = field(default_factory=dict)  # over the set, as a paper prints it


# Measured on the public files (HR and LR by Huang et al., SelfExSR) under "y_matlab".
CANARIES: dict[str, Canary] = {
    "set5": Canary(5, {2: 37.0369, 3: 33.9018, 4: 31.7722}, {2: 32.1375, 3: 28.5608, 4: 26.4648}),
    "set14": Canary(14, {2: 24.8580, 3: 23.2092, 4: 22.4364}, {2: 30.6446, 3: 26.6265, 4: 24.0633}),
    "bsd100": Canary(
        100, {2: 25.8117, 3: 23.9729, 4: 23.0758}, {2: 27.1299, 3: 24.6324, 4: 23.3606}
    ),
    # SPSR, Table 1, row "Bicubic", from LR that was never rounded: 0.005 dB more than of uint8.
    "urban100": Canary(images=100, mean={4: 23.145}),
    "general100": Canary(images=100, mean={4: 28.018}),
    "manga109": Canary(images=109),
}


@dataclass(frozen=True)
class End:
    """A pair under examination: its name and both images (1, 3, H, W) in [0, 1]."""

    name: str
    hr: Tensor
    lr: Tensor


def check_canary(set_name: str, *, scale: int, images: int, ends: tuple[End, End]) -> None:
    """Raise DataError unless bicubic scores as it must, or the set is none of ``CANARIES``.

    ``images`` is the number of images found, ``ends`` the first and the last pair.
    """
    canary = CANARIES.get(set_name.lower())
    if canary is None:
        return
    if images != canary.images:
        raise DataError(
            f"{set_name} has {canary.images} images; {images} were found. "
            "Complete the folder, or give a part of the set a name of its own."
        )
    for end, stored in zip(ends, (canary.first, canary.last), strict=True):
        if scale in stored:
            _check_end(end, set_name=set_name, scale=scale, expected=stored[scale])


def check_mean(
    set_name: str, *, scale: int, pairs: Iterable[tuple[Tensor, Tensor]]
) -> tuple[float, float] | None:
    """Return the mean bicubic Y-PSNR of ``pairs``, and the known one if any. Raises DataError."""
    canary = CANARIES.get(set_name.lower())
    if canary is None or scale not in canary.mean:
        return None
    found = [float(psnr(imresize(lr, scale=scale), hr, scale=scale)) for hr, lr in pairs]
    mean, known = sum(found) / len(found), canary.mean[scale]
    if len(found) != canary.images or abs(mean - known) > TOLERANCE_DB:
        raise DataError(
            f"{set_name} ×{scale} is not the public set: bicubic scores {mean:.2f} dB over "
            f"{len(found)} images where {known:.2f} dB over {canary.images} are printed."
        )
    return mean, known


def _check_end(end: End, *, set_name: str, scale: int, expected: float) -> None:
    needed = tuple(side * scale for side in end.lr.shape[-2:])
    if tuple(end.hr.shape[-2:]) != needed:
        raise DataError(
            f"{set_name} ×{scale}, '{end.name}': HR is {_size(end.hr)} and LR {_size(end.lr)}; "
            f"HR must be {scale} times LR. Crop HR to a multiple of {scale} from the top left."
        )
    found = float(psnr(imresize(end.lr, scale=scale), end.hr, scale=scale))
    if abs(found - expected) > TOLERANCE_DB:
        raise DataError(
            f"{set_name} ×{scale} is not the public set: bicubic on '{end.name}' scores "
            f"{found:.2f} dB where {expected:.2f} dB are known. Take HR and LR from the set's own "
            f"source; `edgekeeper data check {set_name.lower()} --scale {scale}` says how LR was "
            "made."
        )


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
