"""LPIPS: how different two images look, by the features of AlexNet.

Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", CVPR 2018; version 0.1 of its weights.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError
from edgekeeper.metrics.protocol import find_protocol, images
from edgekeeper.models.backbones import ALEXNET_FILE, AlexNet, read_tensors, weights_file

HEADS_FILE = "lpips_alex_v0.1.safetensors"

_EPSILON = 1e-10  # added to the length of a feature vector


def lpips(sr: Tensor, hr: Tensor, *, folder: str | Path | None = None) -> Tensor:
    """LPIPS 0.1 with AlexNet of each image, (B,) float64; 0 for equal images, lower is better.

    Both images are clipped and rounded to the uint8 grid; nothing is cut off or resized. The
    maps after the five ReLUs are normalised over channels, the squared differences weighted by
    the learned heads, averaged over the image and summed. The networks compute in float32.

    sr, hr: RGB (B, 3, H, W) in [0, 1], 31 pixels a side or more. folder: where
    ``alexnet_conv.safetensors`` and ``lpips_alex_v0.1.safetensors`` lie; by default the folder
    ``weights`` of EDGEKEEPER_DATA. Raises UnavailableError without them, InputError for unlike
    shapes or images that are too small.
    """
    pair = images(sr, hr, protocol=find_protocol("rgb_matlab"))
    # Looked up at each call, so that a file that went away is not answered from memory.
    backbone = weights_file(ALEXNET_FILE, folder=folder, purpose="LPIPS")
    heads = weights_file(HEADS_FILE, folder=folder, purpose="LPIPS")
    network = _network(backbone.resolve(), heads.resolve(), sr.device)
    with torch.no_grad(), torch.autocast(sr.device.type, enabled=False):
        distance: Tensor = network(pair.sr.float(), pair.hr.float())
    return distance.double()


class _Distance(nn.Module):
    """AlexNet and the five heads."""

    def __init__(self, backbone: Path, heads: Path) -> None:
        super().__init__()
        self.network = AlexNet(folder=backbone.parent)
        tensors = read_tensors(heads)
        for number, maps in enumerate((64, 192, 384, 256, 256)):
            head = tensors.get(f"lin{number}.model.1.weight")
            if head is None or head.shape != (1, maps, 1, 1):
                raise CheckpointError(f"'{heads}' does not hold the heads of LPIPS for AlexNet.")
            self.register_buffer(f"head{number}", head.float())

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the distances, (B,)."""
        total = torch.zeros(len(prediction), device=prediction.device)
        for number, (a, b) in enumerate(
            zip(self.network(prediction), self.network(target), strict=True)
        ):
            difference = (_unit(a) - _unit(b)).square_()
            head = self.get_buffer(f"head{number}")
            total += (difference * head).sum(dim=1).mean(dim=(1, 2))
        return total


def _unit(maps: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    return maps / (length + _EPSILON)


@lru_cache(maxsize=2)
def _network(backbone: Path, heads: Path, device: torch.device) -> _Distance:
    return _Distance(backbone, heads).to(device)
