"""The loss between gradient maps of SPSR and DGGGAN."""

from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError, check_choice
from edgekeeper.losses.check import PairLoss, as_float32_or_more, check_pair
from edgekeeper.ops.gradient import Operator, gradient_map

MapNorm = Literal["l1", "mse"]


class Gradient(PairLoss):
    """Mean difference of the gradient maps, M(x) = sqrt(gx² + gy² + 1e-6) of each channel.

    - ``norm`` "l1": mean |M(sr) - M(hr)| (SPSR, eq. 7; DGGGAN); "mse": mean of its square
      (published code of SPSR).
    - ``operator`` "central" ([-1, 0, 1], not halved: SPSR and, up to signs, DGGGAN) or "sobel".
    - ``padding`` 1: maps as large as the image; 2: a ring wider, as in the code of SPSR.

    Zeros stand around the image. ``loss(sr, hr)``: both (B, C, H, W) float of one shape,
    any C, in [0, 1]. Half precision is computed in float32. Errors: InputError.
    Source: Ma et al., "Structure-Preserving Super Resolution with Gradient Guidance", CVPR 2020.
    """

    def __init__(
        self, *, norm: MapNorm = "l1", operator: Operator = "central", padding: int = 1
    ) -> None:
        super().__init__()
        check_choice("norm of the gradient loss", norm, known=get_args(MapNorm))
        check_choice("gradient operator", operator, known=get_args(Operator))
        if padding not in (1, 2):
            raise InputError(f"'padding' is {padding!r}; it is 1 (same size) or 2 (a ring wider).")
        self.norm: MapNorm = norm
        self.operator: Operator = operator
        self.padding = padding

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        distance = functional.l1_loss if self.norm == "l1" else functional.mse_loss  # eq. 7
        return distance(self._map(sr), self._map(hr))  # scalar

    def _map(self, x: Tensor) -> Tensor:
        x = as_float32_or_more(x)  # 1e-6 under the root is lost in half
        return gradient_map(x, operator=self.operator, padding=self.padding)  # M, (B, C, H, W)
