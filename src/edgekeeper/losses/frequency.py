"""Losses between spectra and wavelet bands."""

from torch import Tensor, fft, nn

from edgekeeper.errors import InputError
from edgekeeper.losses.check import PairLoss, as_float32_or_more, as_grey, check_pair
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.wavelet import wavelet_bands


class FocalFrequency(PairLoss):
    """Mean of w |F(sr) - F(hr)|², F the orthonormal Fourier transform of each channel.

    w = |F(sr) - F(hr)|^alpha, divided by its largest value in the spectrum of that channel and
    held constant: a frequency counts the more, the farther off it still is. With ``alpha`` 0 all
    count alike and the loss is ``L2`` (Parseval).

    ``loss(sr, hr)``: both (B, C, H, W) float of one shape, any C. Half precision is computed in
    float32. Errors: InputError.
    Source: Jiang et al., "Focal Frequency Loss for Image Reconstruction and Synthesis", ICCV 2021,
    arXiv 2012.12821.
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
        weight = squares.detach() ** (self.alpha / 2)  # |F(sr) - F(hr)|^alpha
        largest = weight.amax(dim=(2, 3), keepdim=True)  # (B, C, 1, 1), of each spectrum
        return (weight / largest.clamp_min(1e-30) * squares).mean()


class Wavelet(nn.Module):
    """Sum over bands of weight × mean |band of sr - band of hr|, of luma; the paper's weights.

    One level of the stationary wavelet transform with sym7, four bands as large as the image (see
    ``ops.wavelet.wavelet_bands``): smooth, horizontal, vertical and diagonal detail.

    ``loss(sr, hr)``: both float of one shape (B, 3, H, W), RGB in [0, 1], whose luma is that of
    BT.601 in [16/255, 235/255], or (B, 1, H, W), taken as it is; sides of at least 14 pixels.
    Half precision is computed in float32. Errors: InputError.

    The paper's discriminator, relativistic, sees ``lh``, ``hl`` and ``hh`` of luma side by side.
    Source: Korkmaz, Tekalp, Dogan, "Training Generative Image Super-Resolution Models by
    Wavelet-Domain Losses Enables Better Control of Artifacts", CVPR 2024, arXiv 2402.19215.
    """

    def __init__(
        self, *, ll: float = 0.1, lh: float = 0.01, hl: float = 0.01, hh: float = 0.05
    ) -> None:
        super().__init__()
        self.weights = {"ll": ll, "lh": lh, "hl": hl, "hh": hh}  # smooth, two edges, diagonal
        if not all(0 <= weight < float("inf") for weight in self.weights.values()):
            raise InputError(f"The weights {self.weights} must be finite numbers from 0 on.")

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Return the scalar loss; see the class."""
        check_pair(sr, hr)
        sr, hr = as_grey(sr, rgb_to_y), as_grey(hr, rgb_to_y)  # (B, 1, H, W) each
        # The transform is linear: the bands of the difference are the differences of the bands.
        bands = wavelet_bands(sr - hr)  # four of (B, 1, H, W)
        total = sr.new_zeros(())
        for name, weight in self.weights.items():
            total = total + weight * getattr(bands, name).abs().mean()
        return total

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return ", ".join(f"{name}={weight}" for name, weight in self.weights.items())
