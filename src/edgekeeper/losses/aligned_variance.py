"""Gradient variance that is in phase with the original's: the project's own structure loss."""

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.losses.check import PairLoss, as_grey, check_pair, check_positive
from edgekeeper.losses.gradient_variance import gradient_variances
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.resize import imresize


class AlignedVariance(PairLoss):
    """Mean over patches and both directions of the variance that ``sr`` lacks in phase.

    With g the Sobel gradient of grey inside the image, v its variance in a patch of ``patch`` ×
    ``patch`` pixels and cov the covariance of both gradients there,

        loss = mean |cov(g(sr'), g(hr)) - v(g(hr))|,   sr' = sr + U(D(hr) - D(sr))

    Noise and edges in the wrong place raise v, which ``GradientVariance`` asks for, but not cov:
    only what goes along with the original counts. The loss is linear in the error of ``sr`` but for
    the absolute value, which keeps a strong edge from outweighing a hundred weak ones.

    ``scale``: D is MATLAB's bicubic shrinking by it and U the enlarging, so that ``sr`` counts
    after one step of back-projection, and what LR decides is not asked for; None: sr' = sr.

    ``loss(sr, hr)``: both float of one shape (B, 3, H, W) RGB or (B, 1, H, W) taken as grey, in
    [0, 1], sides that hold a patch and are multiples of ``scale``. Half precision is computed in
    float32; the derivative goes to ``sr`` only. Errors: InputError.

    Its place among the others, and the weight of 0.12 to 0.6 beside L1: docs/frontier.md.
    Back-projection: Irani and Peleg, "Improving Resolution by Image Registration", CVGIP 1991.
    """

    def __init__(self, *, scale: int | None = None, patch: int = 8) -> None:
        super().__init__()
        if scale is not None:
            check_positive("scale", scale)
        if patch < 2:
            raise InputError(f"'patch' is {patch}; a variance needs at least 2 pixels a side.")
        self.scale, self.patch = scale, patch

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Return the scalar loss; see the class."""
        check_pair(sr, hr)
        sides, multiple = tuple(sr.shape[2:]), self.scale or 1
        if any(side % multiple for side in sides) or min(sides) < self.patch + 2:
            raise InputError(
                f"Images of {sides} pixels do not suit: sides must be multiples of {multiple} and "
                f"at least {self.patch + 2}."
            )
        with torch.autocast(sr.device.type, enabled=False):
            # (B, 1, H, W) both
            ours, theirs = (as_grey(x, rgb_to_grey_gv) for x in (sr, hr.detach()))
            if self.scale is not None:
                missing = imresize(theirs - ours, scale=1 / self.scale)  # D is linear
                ours = ours + imresize(missing, scale=self.scale)
            own, wanted = self._variances(ours), self._variances(theirs)  # (2, B, patches)
            # var(a + b) = var(a) + var(b) + 2 cov(a, b)
            together = (self._variances(ours + theirs) - own - wanted) / 2
            return (together - wanted).abs().mean()

    def _variances(self, grey: Tensor) -> Tensor:
        return gradient_variances(
            grey, patch=self.patch, stride=self.patch, operator="sobel", border="valid"
        )
