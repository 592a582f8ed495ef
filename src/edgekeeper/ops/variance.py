"""The variance around each pixel."""

from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError


def local_variance(x: Tensor, *, window: int) -> Tensor:
    """Return the unbiased variance of the ``window`` × ``window`` pixels around each, (B, C, H, W).

    Of each channel of ``x`` by itself, mirrored at the border without repeating the last pixel.
    Raises InputError for a wrong shape, an even window, or an image that cannot be mirrored so far.
    """
    radius = window // 2
    if x.ndim != 4 or not x.is_floating_point() or window < 3 or window % 2 == 0:
        raise InputError(
            f"A local variance takes floating-point images (B, C, H, W) and an odd window from 3 "
            f"on; got {tuple(x.shape)} of {x.dtype} and a window of {window}."
        )
    if min(x.shape[-2:]) <= radius:
        raise InputError(
            f"Images of {x.shape[-2]} × {x.shape[-1]} pixels are too small for a window of "
            f"{window}; both sides must be at least {radius + 1}."
        )
    # E[x²] - E[x]² keeps its digits when the image's own mean is gone.
    x = functional.pad(x - x.mean(dim=(2, 3), keepdim=True), (radius,) * 4, mode="reflect")
    mean = functional.avg_pool2d(x, window, stride=1)
    squares = functional.avg_pool2d(x.square(), window, stride=1)
    return (squares - mean.square()).clamp_min(0) * (window**2 / (window**2 - 1))
