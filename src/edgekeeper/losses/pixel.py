"""Losses that compare pixel with pixel."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.losses.check import PairLoss, as_float32_or_more, check_pair, check_positive
from edgekeeper.ops.resize import imresize


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


class Charbonnier(PairLoss):
    """Mean of sqrt((sr - hr)² + epsilon²): L1 whose corner at zero is rounded.

    ``epsilon`` is in the units of the input (1e-3 is a quarter of a grey level in [0, 1]);
    equal images give ``epsilon``, not 0. ``loss(sr, hr)``: both (B, C, H, W) float of
    one shape, any C. Half precision is computed in float32. Errors: InputError.
    Source: Lai et al., "Deep Laplacian Pyramid Networks", CVPR 2017, section 3.2.
    """

    def __init__(self, *, epsilon: float = 1e-3) -> None:
        super().__init__()
        check_positive("epsilon", epsilon)
        self.epsilon = epsilon

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        difference = as_float32_or_more(sr) - as_float32_or_more(hr)  # (B, C, H, W)
        return torch.sqrt(difference.square() + self.epsilon**2).mean()  # scalar


class PhasePattern(PairLoss):
    """Mean |pattern| that sr - hr repeats every ``scale`` pixels, of each image and channel.

    The difference is averaged over the places of one phase (row mod scale, column mod scale), less
    its mean over all phases. No image has such a pattern; a network that ends in a pixel shuffle
    makes one where a perceptual loss allows it, seen as fine dots in flat areas.
    ``loss(sr, hr)``: both (B, C, H, W) float of one shape, any C, sides that are multiples of
    ``scale``. Half precision is computed in float32. Errors: InputError.
    Own design, against what Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016,
    describe.
    """

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        check_positive("scale", scale)
        self.scale = scale

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        if any(side % self.scale for side in sr.shape[2:]):
            raise InputError(f"Sides of {tuple(sr.shape[2:])} are no multiples of {self.scale}.")
        difference = as_float32_or_more(sr) - as_float32_or_more(hr)  # (B, C, H, W)
        by_phase = functional.pixel_unshuffle(difference, self.scale)  # (B, C·r², H/r, W/r)
        pattern = by_phase.mean((2, 3)).view(*sr.shape[:2], -1)  # (B, C, r²)
        return (pattern - pattern.mean(2, keepdim=True)).abs().mean()  # scalar


class AutoEncoded(nn.Module):
    """Mean |A(sr) - A(hr)| with A = ``decoder`` after ``encoder``, both frozen: AESOP's pixel loss.

    A keeps what a fidelity network can know of an image; texture, which differs from one draw to
    the next, is not in it, so the loss does not pull it towards its blurry mean as L1 does.

    - ``decoder``: a trained network for fidelity that enlarges by its ``scale``.
    - ``encoder``: images to images smaller by that scale; by default MATLAB's bicubic, where the
      paper trains one.

    ``loss(sr, hr)``: images (B, C, H, W) of one shape in [0, 1], C the decoder's, sides that are
    multiples of the scale. The parameters of both require no gradient and ``train()`` does not
    change them; the derivative goes through both to ``sr``. Errors: InputError.
    Source: Lee et al., "Auto-Encoded Supervision for Perceptual Image Super-Resolution", CVPR 2025.
    """

    def __init__(
        self, *, decoder: nn.Module, encoder: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        scale = getattr(decoder, "scale", None)
        if not isinstance(scale, int):
            raise InputError("The decoder of AutoEncoded must be a network with a 'scale'.")
        self.scale, self.decoder, self.encoder = scale, decoder, encoder
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "AutoEncoded":
        """Return itself, in evaluation mode whatever ``mode``."""
        return super().train(False)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        if any(side % self.scale for side in sr.shape[2:]):
            raise InputError(
                f"Images of {tuple(sr.shape[2:])} pixels cannot be shrunk by {self.scale}; give "
                "sides that are multiples of it."
            )
        with torch.no_grad():
            target = self._kept(as_float32_or_more(hr))  # (B, C, H, W)
        return (self._kept(as_float32_or_more(sr)) - target).abs().mean()

    def _kept(self, x: Tensor) -> Tensor:
        small = imresize(x, scale=1 / self.scale) if self.encoder is None else self.encoder(x)
        return self.decoder(small)  # (B, C, H, W)
