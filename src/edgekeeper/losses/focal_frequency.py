"""The focal frequency loss."""

from torch import Tensor, fft, nn

from edgekeeper.errors import InputError
from edgekeeper.losses.check import as_float32_or_more, check_pair


class FocalFrequency(nn.Module):
    """Mean of w |F(sr) - F(hr)|², F the orthonormal Fourier transform of each channel.

    w = |F(sr) - F(hr)|^alpha, divided by its largest value in the spectrum of that channel and
    held constant: a frequency counts the more, the farther off it still is. With ``alpha`` 0 all
    count alike and the loss is ``L2`` (Parseval).

    ``loss(sr, hr)``: both (B, C, H, W) float of one shape, any C. Half precision is computed in
    float32. Errors: InputError.
    Source: Jiang et al., "Focal Frequency Loss for Image Reconstruction and Synthesis", ICCV 2021.
    """

    def __init__(self, *, alpha: float = 1.0) -> None:
        super().__init__()
        if not 0 <= alpha < float("inf"):
            raise InputError(f"'alpha' is {alpha!r}; it must be a finite number from 0 on.")
        self.alpha = alpha

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Return the scalar loss; see the class."""
        check_pair(sr, hr)
        # The transform is linear: that of the difference is the difference.
        spectrum = fft.fft2(as_float32_or_more(sr) - as_float32_or_more(hr), norm="ortho")
        squares = spectrum.real.square() + spectrum.imag.square()  # (B, C, H, W)
        weight = squares.detach() ** (self.alpha / 2)
        largest = weight.amax(dim=(2, 3), keepdim=True)
        return (weight / largest.clamp_min(1e-30) * squares).mean()

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"alpha={self.alpha}"
