"""DISTS: similarity of two images in the means and the covariances of VGG16's maps.

Ding, Ma, Wang, Simoncelli, "Image Quality Assessment: Unifying Structure and Texture Similarity",
IEEE TPAMI 44 (5), 2022. Its weights and VGG16's are files of others; without them there is none.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.metrics.protocol import find_protocol, images
from edgekeeper.models.backbones import read_weights_file, weights_file

DISTS_FILE = "dists_weights.pt"  # "alpha" and "beta", as the authors published them
VGG16_FILE = "vgg16-397923af.pth"  # torchvision's name
SMALLEST_DISTS = 16

_BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # convolutions, torchvision's
_MAPS = (3, 64, 128, 256, 512, 512)  # the image itself first
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_C = 1e-6


def dists(sr: Tensor, hr: Tensor, *, folder: str | Path | None = None) -> Tensor:
    """Return the DISTS of each image, (B,) float64; 0 for equal images, lower is better.

    Both are clipped and rounded to the uint8 grid; nothing is cut off or resized. sr, hr: RGB (B,
    3, H, W) in [0, 1], 16 pixels a side or more. ``folder`` holds ``dists_weights.pt`` and
    ``vgg16-397923af.pth``; by default it is the folder ``weights`` of EDGEKEEPER_DATA.
    """
    pair = images(sr, hr, protocol=find_protocol("rgb_matlab"))
    if min(sr.shape[-2:]) < SMALLEST_DISTS:
        raise InputError(f"DISTS needs {SMALLEST_DISTS} pixels a side; got {tuple(sr.shape[-2:])}.")
    files = (
        weights_file(name, folder=folder, purpose="DISTS", how=f"get it from {place}")
        for name, place in (
            (VGG16_FILE, "torchvision, whose VGG16 it is"),
            (DISTS_FILE, "the authors of DISTS, whose weights.pt it is"),
        )
    )
    network = _network(*(file.resolve() for file in files), sr.device)
    with torch.no_grad(), torch.autocast(sr.device.type, enabled=False):
        found: Tensor = network(pair.sr.float(), pair.hr.float())
    return found.double()


class _Similarity(nn.Module):
    def __init__(self, backbone: Path, heads: Path) -> None:
        super().__init__()
        tensors, weights = read_weights_file(backbone), read_weights_file(heads)
        previous = 3
        for maps, block in zip(_MAPS[1:], _BLOCKS, strict=True):
            for number in block:
                for kind, shape in (("weight", (maps, previous, 3, 3)), ("bias", (maps,))):
                    self._keep(tensors, f"features.{number}.{kind}", shape, origin=backbone)
                previous = maps
        for name in ("alpha", "beta"):
            self._keep(weights, name, (1, sum(_MAPS), 1, 1), origin=heads)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1))

    def _keep(
        self, tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], *, origin: Path
    ) -> None:
        if name not in tensors or tensors[name].shape != shape:
            raise CheckpointError(f"'{origin}' is not what DISTS needs: '{name}' of {shape}.")
        self.register_buffer(name.replace(".", "_"), tensors[name].detach().float())

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the distances, (B,): 1 minus the weighted similarities, eq. 6."""
        alpha, beta = (
            torch.split_with_sizes(self.get_buffer(name), _MAPS, 1) for name in ("alpha", "beta")
        )
        total = self.get_buffer("alpha").sum() + self.get_buffer("beta").sum()
        found = torch.zeros(len(prediction), device=prediction.device)
        pairs = zip(self._features(prediction), self._features(target), strict=True)
        for number, (x, y) in enumerate(pairs):
            mean_x, mean_y = (z.mean(dim=(2, 3), keepdim=True) for z in (x, y))  # (B, C, 1, 1)
            variances = ((x - mean_x).square() + (y - mean_y).square()).mean((2, 3), keepdim=True)
            covariance = ((x - mean_x) * (y - mean_y)).mean((2, 3), keepdim=True)
            texture = (2 * mean_x * mean_y + _C) / (mean_x.square() + mean_y.square() + _C)  # l
            structure = (2 * covariance + _C) / (variances + _C)  # s
            found += (alpha[number] * texture + beta[number] * structure).sum(dim=(1, 2, 3))
        return 1 - found / total

    def _features(self, x: Tensor) -> list[Tensor]:
        found = [x]  # the raw image makes it a metric: equal only for equal images
        x = (x - self.get_buffer("mean")) / self.get_buffer("deviation")
        for number, block in enumerate(_BLOCKS):
            if number:
                x = _pooled(x)
            for layer in block:
                weight, bias = (
                    self.get_buffer(f"features_{layer}_{kind}") for kind in ("weight", "bias")
                )
                x = functional.relu(functional.conv2d(x, weight, bias, padding=1))
            found.append(x)
        return found


def _pooled(x: Tensor) -> Tensor:
    """Return the L2 pooling (Hénaff and Simoncelli): root of the smoothed squares, every second."""
    hann = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)  # a Hann window, sum 1
    kernel = torch.outer(hann, hann).expand(x.shape[1], 1, 3, 3)
    squares = functional.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1])
    return torch.sqrt(squares + 1e-12)


@lru_cache(maxsize=2)
def _network(backbone: Path, heads: Path, device: torch.device) -> _Similarity:
    return _Similarity(backbone, heads).to(device).eval()
