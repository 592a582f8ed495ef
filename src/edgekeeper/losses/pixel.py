"""Losses that compare pixel with pixel."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.losses.check import as_float32_or_more, check_pair, check_positive


class L1(nn.Module):
    """Mean of |sr - hr| over batch, channels and pixels, in the units of the input.

    ``loss(sr, hr)``: both (B, C, H, W) float of one shape, any C. Half precision is
    computed in float32. Errors: InputError for other dtypes, dimensions or unequal shapes.
    """

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        return functional.l1_loss(as_float32_or_more(sr), as_float32_or_more(hr))  # scalar


class L2(nn.Module):
    """Mean of (sr - hr)² over batch, channels and pixels (the mean square error, no root).

    ``loss(sr, hr)``: both (B, C, H, W) float of one shape, any C. Half precision is
    computed in float32. Errors: InputError for other dtypes, dimensions or unequal shapes.
    """

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        return functional.mse_loss(as_float32_or_more(sr), as_float32_or_more(hr))  # scalar


class Charbonnier(nn.Module):
    """Mean of sqrt((sr - hr)² + epsilon²): L1 whose corner at zero is rounded.

    ``epsilon`` is in the units of the input (1e-3 is a quarter of a grey level in [0, 1]);
    equal images give ``epsilon``, not 0. ``loss(sr, hr)``: both (B, C, H, W) float of
    one shape, any C. Half precision is computed in float32. Errors: InputError.
    Source: Lai et al., "Deep Laplacian Pyramid Networks", CVPR 2017, section 3.3.
    """

    def __init__(self, *, epsilon: float = 1e-3) -> None:
        super().__init__()
        check_positive("epsilon", epsilon)
        self.epsilon = epsilon

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        difference = as_float32_or_more(sr) - as_float32_or_more(hr)  # (B, C, H, W)
        return torch.sqrt(difference.square() + self.epsilon**2).mean()  # scalar

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"epsilon={self.epsilon}"
