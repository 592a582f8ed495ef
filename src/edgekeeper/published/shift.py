"""The mean-shift layers of EDSR's code, which RCAN's is built on: they must hold DIV2K's mean."""

from pathlib import Path

import torch

from edgekeeper.errors import CheckpointError
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.published.filling import PARTS, Tensors

SHIFTS = frozenset(f"{name}.{part}" for name in ("sub_mean", "add_mean") for part in PARTS)


def check_shifts(tensors: Tensors, *, network: str, origin: Path) -> None:
    """Raise CheckpointError unless the layers in SHIFTS are DIV2K's mean colour on 0..255."""
    mean = 255 * torch.tensor(DIV2K_MEAN)
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        weight, bias = tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()
        if not (
            torch.equal(weight.reshape(-1), torch.eye(3).reshape(-1))
            and bias.shape == mean.shape
            and torch.allclose(bias, sign * mean, atol=1e-2)
        ):
            raise CheckpointError(
                f"'{origin}': {name} is not the official {network}'s shift by DIV2K's mean colour "
                f"on 0..255 (bias {bias.tolist()}); edgekeeper's {network} subtracts that mean."
            )
