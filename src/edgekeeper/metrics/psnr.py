"""Peak signal-to-noise ratio of images under a named protocol."""

from torch import Tensor

from edgekeeper.metrics.protocol import Protocol, compared, find_protocol


def psnr(
    sr: Tensor, hr: Tensor, *, protocol: str | Protocol = "y_matlab", scale: int | None = None
) -> Tensor:
    """PSNR in dB of each image, (B,) float64; inf where the compared pixels are equal.

    10 log10(1 / MSE) over the channels and pixels that the protocol compares, peak 1. The score of
    a set is the mean of its images' values. sr, hr: RGB (B, 3, H, W) in [0, 1]. scale: needed where
    the border is as wide as the scale.
    """
    pair = compared(sr, hr, protocol=find_protocol(protocol), scale=scale, metric="psnr")
    return mean_square_psnr(pair.sr, pair.hr)


def mean_square_psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """10 log10(1 / mean square difference) of each image, (B,), for a peak of 1."""
    return -10 * (prediction - target).square().mean(dim=(1, 2, 3)).log10()
