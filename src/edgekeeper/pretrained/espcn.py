"""An ESPCN that works on JPEG's YCbCr: github.com/Nhat-Thanh/ESPCN-Pytorch (MIT)."""

from pathlib import Path

import torch
from torch import Tensor

from edgekeeper.models import ESPCN, SRModel
from edgekeeper.pretrained.layers import PARTS, Tensors, check_names, choose_scale, fill

# JPEG's full-range Y, Cb, Cr (JFIF 1.02) of R, G, B in [0, 1]; Cb and Cr are moved up by 128/255.
_JPEG = (
    (0.299, 0.587, 0.114),
    (-0.16874, -0.33126, 0.5),
    (0.5, -0.41869, -0.08131),
)
_JPEG_OFFSET = (0.0, 128 / 255, 128 / 255)


class YCbCrESPCN(SRModel):
    """An ESPCN on the three channels of JPEG's YCbCr, which takes and gives RGB.

    The colour conversion stays a step of its own: folded into the first convolution it would
    pad the border with another colour than the published network does.
    """

    matrix: Tensor
    inverse: Tensor
    offset: Tensor

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.network = ESPCN(scale=scale, channels="rgb")
        self.scale, self.channels = scale, "rgb"
        self.receptive_field = self.network.receptive_field
        matrix = torch.tensor(_JPEG, dtype=torch.float64).view(3, 3, 1, 1)
        inverse = torch.linalg.inv(matrix.squeeze()).view_as(matrix)
        offset = torch.tensor(_JPEG_OFFSET).view(1, 3, 1, 1)
        self.register_buffer("matrix", matrix.float(), persistent=False)
        self.register_buffer("inverse", inverse.float(), persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def features(self, lr: Tensor) -> Tensor:
        """Return the 32 feature maps (B, 32, H, W) of the RGB batch (B, 3, H, W)."""
        return self.network.features(_mix(lr, self.matrix) + self.offset)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        """Return the RGB batch (B, 3, scale·H, scale·W)."""
        return _mix(self.network.reconstruct(features, lr) - self.offset, self.inverse)


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Return the colours (B, 3, H, W) times ``matrix`` (3, 3, 1, 1), in the precision of ``x``."""
    return (x.unsqueeze(1) * matrix).sum(dim=2)


def recognises(tensors: Tensors) -> bool:
    """Return whether these are tensors of that ESPCN."""
    return "conv_1.weight" in tensors


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the network with these weights; raises CheckpointError that says what does not fit."""
    names = {f"conv_{i}.{part}": f"network.conv{i}.{part}" for i in (1, 2, 3) for part in PARTS}
    check_names(tensors, names, origin=origin)
    found = (tensors["conv_3.weight"].shape[0] / 3) ** 0.5
    model = YCbCrESPCN(scale=choose_scale(scale, found=found, origin=origin))
    fill(model, tensors, names=names, origin=origin)
    return model
