"""The early networks of luma as other programs publish them: VDSR and ESPCN.

VDSR    the official MATLAB file; and PyTorch's input, residual_layer.0.conv, ..., output
ESPCN   conv_1 to conv_3 on JPEG's YCbCr: github.com/Nhat-Thanh/ESPCN-Pytorch (MIT)
"""

from typing import Literal

import torch
from torch import Tensor

from edgekeeper.models import ESPCN, VDSR, SRModel
from edgekeeper.models.vdsr import DEPTH
from edgekeeper.pretrained.layers import Plan, Published, PublishedFormat
from edgekeeper.spec import spec

# JPEG's full-range Y, Cb, Cr (JFIF 1.02) of R, G, B in [0, 1]; Cb and Cr are moved up by 128/255.
_JPEG = ((0.299, 0.587, 0.114), (-0.16874, -0.33126, 0.5), (0.5, -0.41869, -0.08131))
_JPEG_OFFSET = (0.0, 128 / 255, 128 / 255)
_OFFICIAL = {
    "hidden.{i}.weight": "model.weight.{i}",
    "hidden.{i}.bias": "model.bias.{i}",
    "last.weight": f"model.weight.{DEPTH - 1}",
    "last.bias": f"model.bias.{DEPTH - 1}",
}
_PYTORCH = {
    "hidden.0": "input",
    **{f"hidden.{i + 1}": f"residual_layer.{i}.conv" for i in range(DEPTH - 2)},
    "last": "output",
}
_VARIANTS: dict[tuple[int, int], Literal["y", "gv", "rgb"]]
_VARIANTS = {(1, 1): "y", (3, 1): "gv", (3, 3): "rgb"}  # by colours in and out


class YCbCrESPCN(SRModel):
    """An ESPCN on the three channels of JPEG's YCbCr, which takes and gives RGB.

    Folded into the first convolution the conversion would pad the border with another colour.
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


def read_espcn(file: Published) -> Plan:
    """Return the plan of that ESPCN."""
    colours, _ = file.channels("conv_3")  # 3 · scale²
    scale = file.scale((colours / 3) ** 0.5)
    return Plan(spec(YCbCrESPCN, scale=scale), {"network.conv{k}": "conv_{k}"})


def read_official(file: Published) -> Plan:
    """Return the plan of the official VDSR, whose layers have biases; one file for all scales."""
    network = spec(VDSR, scale=file.scale(None), variant="y", bias="all")
    return Plan(network, _OFFICIAL, adapt=_from_matlab)


def _from_matlab(_name: str, tensor: Tensor) -> Tensor:
    kernel = tensor.unsqueeze(-1) if tensor.ndim == 3 else tensor  # MATLAB drops a last 1
    # kernels are (height, width, in, out), biases (out, 1)
    return kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.flatten()


def _read_pytorch(file: Published) -> Plan:
    """Return the plan of a VDSR without biases; its colours say which variant; any scale."""
    scale = file.scale(None)
    colours = file.channels("input")[1], file.channels("output")[0]
    if colours not in _VARIANTS:
        raise file.error(
            f"is a VDSR with {colours[0]} channels in and {colours[1]} out; "
            "edgekeeper has 1 and 1, 3 and 1, 3 and 3."
        )
    variant = _VARIANTS[colours]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear" if variant == "gv" else "bicubic"
    network = spec(VDSR, scale=scale, variant=variant, interpolation=interpolation)
    return Plan(network, _PYTORCH)


OFFICIAL_VDSR = PublishedFormat("VDSR_Official.mat", (r"model\.weight\.0",), read_official)
PYTORCH_VDSR = PublishedFormat("VDSR in PyTorch", (r"input\.weight",), _read_pytorch)
YCBCR_ESPCN = PublishedFormat("ESPCN on YCbCr", (r"conv_1\.weight",), read_espcn)
