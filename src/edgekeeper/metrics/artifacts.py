"""Artifacts of a texture network found without the original, by a faithful network's result."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.metrics.protocol import OVERSHOOT, check_range
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.structure import local_variance

WINDOW = 11  # pixels a side over which texture is measured, and the mask is smoothed
THRESHOLD = 0.7  # similarity below which a place counts as an artifact
CONSTANT = 0.03**2  # squared level, in [0, 1], below which a difference of texture is not seen


@dataclass(frozen=True)
class TextureDifference:
    """Where two results of one LR image have unlike texture."""

    similarity: Tensor  # (B, 1, H, W) in (0, 1], smoothed; 1 is as much texture in both
    mask: Tensor  # (B, 1, H, W) bool, where it is below the threshold
    share: Tensor  # (B,) float64, of the mask in the image


@torch.no_grad()
def texture_difference(
    sr: Tensor, faithful: Tensor, *, window: int = WINDOW, threshold: float = THRESHOLD
) -> TextureDifference:
    """Return where the texture of ``sr`` is not that of ``faithful``, a squared-error network's.

    With a, b the standard deviations of grey over ``window`` × ``window`` pixels in both, D = (2 a
    b + C) / (a² + b² + C), C = (0.03)², averaged over as many. Both are RGB (B, 3, H, W) in [0, 1].
    Xie et al., "DeSRA: Detect and Delete the Artifacts of GAN-based Real-World Super-Resolution
    Models", ICML 2023, arXiv 2307.02457, section 3, without its thresholds by semantic class; the
    mean stands for its morphology.
    """
    for x in (sr, faithful):
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point() or x.shape != sr.shape:
            raise InputError(
                "Two results of one size are compared, floating-point RGB (B, 3, H, W) in [0, 1]; "
                f"got {tuple(sr.shape)} of {sr.dtype}, {tuple(faithful.shape)} of {faithful.dtype}."
            )
        check_range("A result", x, beyond=OVERSHOOT)
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be above 0 and at most 1.")
    similarity = texture_similarity(sr, faithful, window=window)
    mask = similarity < threshold
    return TextureDifference(similarity, mask, mask.double().mean(dim=(1, 2, 3)))


def texture_similarity(sr: Tensor, faithful: Tensor, *, window: int = WINDOW) -> Tensor:
    """Return the smoothed D (B, 1, H, W) of two RGB batches, unchecked, in float32."""
    own, other = (local_variance(rgb_to_grey_gv(x.float()), window=window) for x in (sr, faithful))
    similarity = (2 * torch.sqrt(own * other) + CONSTANT) / (own + other + CONSTANT)
    around = functional.pad(similarity, (window // 2,) * 4, mode="reflect")
    return functional.avg_pool2d(around, window, stride=1)
