"""The artifact loss of LDL, which weighs each pixel by how much it looks like an artifact."""

import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.losses.check import as_float32_or_more, check_pair
from edgekeeper.ops.structure import local_variance

_WINDOW = 7


class LDL(nn.Module):
    """Mean of M |sr - hr| with M the artifact map, held constant: see ``artifact_map``.

    ``loss(sr, hr, sr_ema=...)``: all (B, C, H, W) float of one shape in [0, 1], sides of at least
    4 pixels; ``sr_ema`` is what the averaged (EMA) weights of the network make of the same LR.
    The derivative goes to ``sr`` only. Half precision is computed in float32. Errors: InputError.

    The paper's weights: this loss 1, L1 0.01, perceptual 1, relativistic GAN 0.005. It does not say
    whether a derivative goes through M; here none does, or flattening M would lower the loss.
    Source: Liang, Zeng, Zhang, "Details or Artifacts: A Locally Discriminative Learning Approach
    to Realistic Image Super-Resolution", CVPR 2022, arXiv 2203.09195.
    """

    needs_ema = True  # training passes sr_ema

    def forward(self, sr: Tensor, hr: Tensor, *, sr_ema: Tensor) -> Tensor:
        """Return the scalar loss; see the class."""
        weight = artifact_map(sr, hr, sr_ema=sr_ema)  # (B, 1, H, W)
        return (weight * (as_float32_or_more(sr) - as_float32_or_more(hr.detach())).abs()).mean()


@torch.no_grad()
def artifact_map(sr: Tensor, hr: Tensor, *, sr_ema: Tensor) -> Tensor:
    """Return M (B, 1, H, W): large where the error varies wildly, 0 where the EMA errs more.

    With R = sum over channels of |hr - sr| and R' the same of ``sr_ema``,

        M = var(R)^(1/5) · var7×7(R) where R >= R', else 0

    var(R) is over the image, var7×7 around each pixel, both unbiased; at the border R is mirrored.
    Raises InputError as ``LDL``.
    """
    check_pair(sr, hr)
    if not isinstance(sr_ema, Tensor) or sr_ema.shape != sr.shape:
        given = tuple(sr_ema.shape) if isinstance(sr_ema, Tensor) else type(sr_ema).__name__
        raise InputError(
            f"'sr_ema' is {given}; it must be a tensor of the shape of the others, "
            f"{tuple(sr.shape)}: the output of the network's averaged weights for the same LR."
        )
    target = as_float32_or_more(hr)
    error = (target - as_float32_or_more(sr)).abs().sum(dim=1, keepdim=True)  # R, (B, 1, H, W)
    error_ema = (target - as_float32_or_more(sr_ema)).abs().sum(dim=1, keepdim=True)  # R'
    overall = error.var(dim=(1, 2, 3), keepdim=True) ** 0.2  # (B, 1, 1, 1)
    return (overall * local_variance(error, window=_WINDOW)).masked_fill_(error < error_ema, 0.0)
