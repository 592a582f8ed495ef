"""The gradient variance loss."""

from typing import Literal, get_args

import torch
from torch import Tensor

from edgekeeper.errors import InputError, check_choice
from edgekeeper.losses.check import PairLoss, as_grey, check_pair, check_positive
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.gradient import Operator, central, sobel
from edgekeeper.ops.structure import patch_variances

GVBorder = Literal["zero", "valid"]
GVNorm = Literal["mse", "l2"]
Statistic = Literal["variance", "deviation"]

# Added to a variance before its root: keeps the derivative finite on flat patches. One grey
# level of white noise has a Sobel variance of 2e-4, so only flat patches feel it.
DEVIATION_EPSILON = 1e-6


class GradientVariance(PairLoss):
    """How far the gradients of ``sr`` spread differently from those of ``hr``, per patch.

    Grey, its x and y gradient, cut from the top left into ``patch`` × ``patch`` patches, the
    unbiased variance v of each; then, over both directions d and all patches p,

    - ``norm`` "mse" (published code): sum_d mean over images and p of (v_ours - v_theirs)²;
      the published weight 0.01 belongs to it.
    - ``norm`` "l2" (paper, eq. 2): mean over images of sum_d sqrt(sum_p (v_ours - v_theirs)²).
      Its derivative at equal images is taken as 0.

    The defaults with ``patch`` 8 (×2) or 16 (×3, ×4) are the published loss. Options beyond it:
    ``operator`` "central" ([-1, 0, 1] without smoothing); ``border`` "valid" (no zeros around
    the image, so its frame is no edge; the map is 2 pixels smaller); ``statistic`` "deviation"
    (sqrt(v + 1e-6): differences in the units of a gradient, so that one strong edge outweighs
    less); ``stride`` below ``patch``, a divisor of it (overlapping patches). Pixels at the right
    and bottom that fill no patch are left out.

    ``loss(sr, hr)``: both float of one shape (B, 3, H, W) RGB or (B, 1, H, W) taken as
    grey, in [0, ``data_range``]; values are divided by ``data_range``, since the loss grows with
    its 4th power (mse) or 2nd (l2). Computed in float32 (float64 for float64) also inside
    autocast. The derivative goes to ``sr`` only.
    Errors: InputError for other dtypes, dimensions, channels, unequal shapes, images smaller
    than a patch, and ``hr`` that requires a gradient.
    Source: Abrahamyan et al., "Gradient Variance Loss for Structure-Enhanced Image
    Super-Resolution", ICASSP 2022.
    """

    def __init__(
        self,
        *,
        patch: int = 8,
        operator: Operator = "sobel",
        border: GVBorder = "zero",
        norm: GVNorm = "mse",
        statistic: Statistic = "variance",
        data_range: float = 1.0,
        stride: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("gradient operator", operator, known=get_args(Operator))
        check_choice("border of the gradient", border, known=get_args(GVBorder))
        check_choice("norm of the gradient variance", norm, known=get_args(GVNorm))
        check_choice("statistic of a patch", statistic, known=get_args(Statistic))
        check_positive("data_range", data_range)
        _check_patch(patch, stride)
        self.patch = patch
        self.operator: Operator = operator
        self.border: GVBorder = border
        self.norm: GVNorm = norm
        self.statistic: Statistic = statistic
        self.data_range = data_range
        self.stride = patch if stride is None else stride

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr, data_range=self.data_range)  # (B, 1 or 3, H, W) both
        self._check(sr)
        if hr.requires_grad:
            raise InputError(
                "'hr' requires a gradient, and this loss gives one to 'sr' only: pass hr.detach()."
            )
        with torch.autocast(sr.device.type, enabled=False):
            difference = self._statistics(sr) - self._statistics(hr)  # (2, B, patches)
            if self.norm == "l2":
                per_image = torch.linalg.vector_norm(difference, dim=2)  # (2, B), eq. 2
            else:
                per_image = difference.square().mean(2)  # (2, B)
            return per_image.mean(1).sum()  # over images, then both directions

    def _statistics(self, x: Tensor) -> Tensor:
        """Return variances or deviations (2, B, patches)."""
        grey = as_grey(x, rgb_to_grey_gv)  # (B, 1, H, W); 4th powers underflow in half
        if self.data_range != 1.0:
            grey = grey / self.data_range  # as in [0, 1]
        variances = gradient_variances(
            grey, patch=self.patch, stride=self.stride, operator=self.operator, border=self.border
        )
        if self.statistic == "variance":
            return variances
        return torch.sqrt(variances + DEVIATION_EPSILON)

    def _check(self, x: Tensor) -> None:
        height, width = x.shape[2:]
        lost = 2 if self.border == "valid" else 0  # pixels a side
        map_height, map_width = height - lost, width - lost
        if min(map_height, map_width) < self.patch:
            raise InputError(
                f"The images are {height}×{width} pixels, their gradient map {map_height}×"
                f"{map_width}: no patch of {self.patch} fits. Give larger images or a "
                "smaller patch."
            )


def gradient_variances(
    grey: Tensor, *, patch: int, stride: int, operator: Operator, border: GVBorder
) -> Tensor:
    """Return the variances (2, B, patches) of the x and y gradient of grey images (B, 1, H, W).

    Patches at a ``stride`` that divides ``patch`` are (patch / stride)² grids of touching ones.
    """
    # (B, 1, H', W') each
    gradients = (sobel if operator == "sobel" else central)(grey, border=border)
    maps = torch.cat([gradients.x, gradients.y])  # (2·B, 1, H', W')
    height, width = maps.shape[2:]
    grids = [
        patch_variances(maps[..., top:, left:], patch=patch).flatten(1)  # eq. 1
        for top in range(0, min(patch, height - patch + 1), stride)
        for left in range(0, min(patch, width - patch + 1), stride)
    ]
    return torch.cat(grids, dim=1).view(2, len(grey), -1)  # x first


def _check_patch(patch: int, stride: int | None) -> None:
    if not isinstance(patch, int) or isinstance(patch, bool) or patch < 2:
        raise InputError(
            f"'patch' is {patch!r}; it must be a whole number of pixels, 2 or more, for a "
            "variance needs two values: 8 and 16 are the published ones."
        )
    if stride is None:
        return
    if not isinstance(stride, int) or isinstance(stride, bool) or stride < 1 or patch % stride:
        divisors = [str(number) for number in range(1, patch + 1) if patch % number == 0]
        raise InputError(
            f"'stride' is {stride!r}; it must divide the patch of {patch}: "
            f"one of {', '.join(divisors)}."
        )
