"""Structural similarity as MATLAB's ssim.m prints it, plain or automatically downsampled.

Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to
Structural Similarity", IEEE Transactions on Image Processing 13(4), 2004.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.metrics.protocol import Protocol, compared, find_protocol
from edgekeeper.ops.structure import ssim_map

_WINDOW = 11


def ssim(
    sr: Tensor, hr: Tensor, *, protocol: str | Protocol = "y_matlab", scale: int | None = None
) -> Tensor:
    """SSIM of each image, (B,) float64, 1 for equal images.

    Gaussian window 11x11, sigma 1.5, K1 = 0.01, K2 = 0.03; the mean of the map, for RGB of the
    three channels. The protocol says which colour, border and window, and whether large images are
    shrunk first. sr, hr: RGB (B, 3, H, W) in [0, 1]. scale: needed where the border is as wide.
    Raises InputError: below 11 pixels a side.
    """
    chosen = find_protocol(protocol)
    pair = compared(sr, hr, protocol=chosen, scale=scale, metric="ssim")
    prediction, target = pair.sr, pair.hr
    if chosen.ssim_downsampling == "auto":
        prediction, target = downsampled(prediction), downsampled(target)
    height, width = prediction.shape[-2:]
    if min(height, width) < _WINDOW:
        raise InputError(f"SSIM needs 11x11 pixels after the border is cut; got {height}x{width}.")
    # A map of the same size for every channel, so one mean is the mean of channel means.
    return ssim_map(prediction, target, data_range=1.0, border=chosen.ssim_window).mean(
        dim=(1, 2, 3)
    )


def downsampling_factor(height: int, width: int) -> int:
    """max(1, round(min(height, width) / 256)), a half rounded up: the rule of Wang's ssim.m."""
    return max(1, (2 * min(height, width) + 256) // 512)


def downsampled(x: Tensor) -> Tensor:
    """Return the image shrunk by ``downsampling_factor`` f, (B, C, ceil(H / f), ceil(W / f)).

    An f x f mean with mirrored borders at every f-th pixel from the first on. The window of
    an even f reaches one pixel further to the right and down (MATLAB's imfilter).
    """
    factor = downsampling_factor(x.shape[-2], x.shape[-1])
    if factor == 1:
        return x
    before, after = (factor - 1) // 2, factor // 2
    for dim in (-2, -1):
        x = x.index_select(dim, _mirrored(x.shape[dim], before=before, after=after).to(x.device))
    return F.avg_pool2d(x, kernel_size=factor, stride=factor)


def _mirrored(size: int, *, before: int, after: int) -> Tensor:
    # The sample at the edge is repeated: 1 0 | 0 1 2 ... ; a factor f needs size >= 256 (f - .5),
    # so one reflection always reaches.
    positions = torch.arange(-before, size + after)
    positions = torch.where(positions < 0, -1 - positions, positions)
    return torch.where(positions >= size, 2 * size - 1 - positions, positions)
