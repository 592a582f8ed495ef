"""The structural similarity index as a loss."""

from typing import Literal, get_args

from torch import Tensor

from edgekeeper.errors import check_choice
from edgekeeper.losses.check import PairLoss, as_float32_or_more, check_pair, check_positive
from edgekeeper.ops.structure import ssim_map

SSIMBorder = Literal["valid", "zero", "symmetric"]


class SSIM(PairLoss):
    """One minus the mean of the SSIM map over batch, channels and pixels: 0 for equal images.

    Each channel on its own; Gaussian window 11×11, sigma 1.5; constants (0.01 ``data_range``)²
    and (0.03 ``data_range``)². ``border`` "zero" is the training form of the gradient variance
    code (window reaches into zeros), "valid" the form of the metric (needs 11 pixels a side).
    ``loss(sr, hr)``: both (B, C, H, W) float of one shape in [0, ``data_range``]. Half
    precision is computed in float32. Errors: InputError.
    Source: Wang et al., IEEE TIP 13(4), 2004, eq. 13; as base loss in Abrahamyan et al.,
    "Gradient Variance Loss", ICASSP 2022, table 2.
    """

    def __init__(self, *, data_range: float = 1.0, border: SSIMBorder = "zero") -> None:
        super().__init__()
        check_positive("data_range", data_range)
        check_choice("SSIM border", border, known=get_args(SSIMBorder))
        self.data_range = data_range
        self.border: SSIMBorder = border

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr, data_range=self.data_range)  # (B, C, H, W) both
        similarity = ssim_map(  # (B, C, H, W), or 10 less a side with "valid"
            as_float32_or_more(sr),
            as_float32_or_more(hr),
            data_range=self.data_range,
            border=self.border,  # of the window
        )
        return 1 - similarity.mean()  # scalar
