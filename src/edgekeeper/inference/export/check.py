"""Whether an exported file gives the images of the torch network, at several sizes."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.models import SRModel
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.ops.resize import imresize

# Height and width of the LR images that are compared: odd and even, upright and lying
SIZES = ((33, 47), (24, 64), (61, 18))
BOUND = 1e-3  # largest difference of a pixel, and of a gradient's length, of images in [0, 1]
BOUND_INT8_DB = 30.0  # smallest PSNR in dB between the 8-bit network and the float one at each size


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far an exported network is from the torch one.

    pixels, gradients: the largest absolute differences over all sizes.
    psnr: the smallest PSNR in dB over the sizes; inf when the images are equal.
    """

    pixels: float
    gradients: float
    psnr: float


def probe(channels: int, *, height: int, width: int) -> Tensor:
    """Return an image (1, channels, height, width) in [0, 1] with smooth areas, edges and noise."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    coarse = torch.rand((1, channels, 6, 6), generator=generator)
    smooth = imresize(coarse, size=(height, width))
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    edges = ((rows // 5 + columns // 7) % 2) * 0.4 - 0.2
    noise = 0.1 * torch.rand((1, channels, height, width), generator=generator)
    return (smooth + edges + noise).clamp(0, 1)


@torch.inference_mode()
def _compare(exported: SRModel, original: SRModel) -> Agreement:
    """Return how far the two networks' images are apart at the sizes of ``SIZES``."""
    pixels = gradients = worst = 0.0
    original.eval()
    for height, width in SIZES:
        lr = probe(COLOUR_COUNT[original.channels], height=height, width=width)
        ours, theirs = exported(lr), original(lr)
        if ours.shape != theirs.shape:
            raise CheckpointError(
                f"The exported network makes {tuple(ours.shape)} of an image {tuple(lr.shape)}, "
                f"the original {tuple(theirs.shape)}. No file was left."
            )
        if not bool(torch.isfinite(ours).all()):
            raise CheckpointError("The exported network gives infinite values. No file was left.")
        difference = (ours - theirs).abs()
        pixels = max(pixels, float(difference.max()))
        worst = max(worst, float(difference.double().square().mean()))
        maps = (gradient_map(ours) - gradient_map(theirs)).abs()
        gradients = max(gradients, float(maps.max()))
    psnr = float(-10 * torch.tensor(worst, dtype=torch.float64).log10())
    return Agreement(pixels=pixels, gradients=gradients, psnr=psnr)


def check(
    exported: SRModel, original: SRModel, *, kind: Literal["float", "int8"] = "float"
) -> Agreement:
    """Return how far the two are apart, which is near enough."""
    found = _compare(exported, original)
    if kind == "float" and max(found.pixels, found.gradients) > BOUND:
        raise CheckpointError(
            f"The exported network differs from the original by {found.pixels:.2g} in a pixel and "
            f"{found.gradients:.2g} in a gradient; {BOUND:g} is allowed. No file was left."
        )
    if kind == "int8" and found.psnr < BOUND_INT8_DB:
        raise CheckpointError(
            f"The 8-bit network is {found.psnr:.1f} dB from the original on test images; at "
            f"least {BOUND_INT8_DB:g} dB are needed. No file was left: calibrate with more varied "
            "images, or export without --int8."
        )
    return found
