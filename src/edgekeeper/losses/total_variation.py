"""Total variation: a prior on our image alone."""

from typing import Literal, get_args

from torch import Tensor

from edgekeeper.errors import check_choice
from edgekeeper.losses.check import PairLoss, as_float32_or_more, check_pair

Reduction = Literal["sum", "mean"]


class TV(PairLoss):
    """Sum of squared differences of neighbouring pixels of ``sr``, across and down.

    sum (x[i, j+1] - x[i, j])² + sum (x[i+1, j] - x[i, j])², over batch, channels and pixels.
    ``reduction`` "sum" is the published form, whose weight is 1e-8; "mean" divides by the
    number of values B·C·H·W, so that a weight holds for any patch and batch size.
    ``hr`` takes no part; it is an argument so that all losses are called alike.
    ``loss(sr, hr)``: both (B, C, H, W) float of one shape, any C. Half precision is
    computed in float32. Errors: InputError.
    Source: Abrahamyan et al., "Gradient Variance Loss", ICASSP 2022, table 2, and its code.
    """

    def __init__(self, *, reduction: Reduction = "sum") -> None:
        super().__init__()
        check_choice("TV reduction", reduction, known=get_args(Reduction))
        self.reduction: Reduction = reduction

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        x = as_float32_or_more(sr)  # sums overflow in half
        across = (x[..., 1:] - x[..., :-1]).square().sum()  # (B, C, H, W - 1) -> scalar
        down = (x[..., 1:, :] - x[..., :-1, :]).square().sum()  # (B, C, H - 1, W) -> scalar
        total = across + down
        return total / x.numel() if self.reduction == "mean" else total
