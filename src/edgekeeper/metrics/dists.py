"""DISTS: similarity of two images in the means and the covariances of VGG16's maps.

Ding, Ma, Wang, Simoncelli, "Image Quality Assessment: Unifying Structure and Texture Similarity",
IEEE TPAMI 44 (5), 2022. Its weights and VGG16's are files of others; without them there is none.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.metrics.protocol import find_protocol, images
from edgekeeper.models.backbones import (
    VGG16_MAPS,
    Frozen,
    read_weights_file,
    vgg_layers,
    weights_file,
)

DISTS_FILE = "dists_weights.pt"  # "alpha" and "beta", as the authors published them
VGG16_FILE = "vgg16-397923af.pth"  # torchvision's name
SMALLEST_DISTS = 16

_C = 1e-6


def dists(sr: Tensor, hr: Tensor, *, folder: str | Path | None = None) -> Tensor:
    """Return the DISTS of each image, (B,) float64; 0 for equal images, lower is better.

    Both are clipped and rounded to the uint8 grid; nothing is cut off or resized. sr, hr: RGB (B,
    3, H, W) in [0, 1], 16 pixels a side or more. ``folder`` holds ``dists_weights.pt`` and
    ``vgg16-397923af.pth``; by default it is the folder ``weights`` of EDGEKEEPER_DATA.
    Raises InputError, UnavailableError.
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
        found: Tensor = network.distance(pair.sr.float(), pair.hr.float())
    return found.double()


class _Pooling(nn.Module):
    """L2 pooling (Hénaff and Simoncelli): root of the smoothed squares, every second."""

    def forward(self, x: Tensor) -> Tensor:
        hann = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)  # sum 1
        kernel = torch.outer(hann, hann).expand(x.shape[1], 1, 3, 3)
        squares = functional.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1])
        return torch.sqrt(squares + 1e-12)


class _Similarity(Frozen):
    def __init__(self, backbone: Path, heads: Path) -> None:
        layers, places = vgg_layers(VGG16_MAPS, pool=_Pooling)
        ends = [f"conv{block}_{count}" for block, (_, count) in enumerate(VGG16_MAPS, start=1)]
        super().__init__(layers, taps=[places[end] + 1 for end in ends])  # after the ReLUs
        self.load(read_weights_file(backbone), origin=backbone)
        self.maps = (3, *(maps for maps, _ in VGG16_MAPS))  # the image itself first
        weights, shape = read_weights_file(heads), (1, sum(self.maps), 1, 1)
        for name in ("alpha", "beta"):
            if name not in weights or weights[name].shape != shape:
                raise CheckpointError(f"'{heads}' is not what DISTS needs: '{name}' of {shape}.")
            self.register_buffer(name, weights[name].detach().float())

    @property
    def smallest(self) -> int:
        return SMALLEST_DISTS

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        alpha, beta = self.get_buffer("alpha"), self.get_buffer("beta")
        total = alpha.sum() + beta.sum()
        parts = (x.split_with_sizes(self.maps, 1) for x in (alpha, beta))
        found = torch.zeros(len(prediction), device=prediction.device)
        # the raw image makes it a metric: equal only for equal images
        pairs = zip((prediction, *self(prediction)), (target, *self(target)), strict=True)
        for (x, y), a, b in zip(pairs, *parts, strict=True):
            mean_x, mean_y = (z.mean(dim=(2, 3), keepdim=True) for z in (x, y))  # (B, C, 1, 1)
            variances = ((x - mean_x).square() + (y - mean_y).square()).mean((2, 3), keepdim=True)
            covariance = ((x - mean_x) * (y - mean_y)).mean((2, 3), keepdim=True)
            texture = (2 * mean_x * mean_y + _C) / (mean_x.square() + mean_y.square() + _C)  # l
            structure = (2 * covariance + _C) / (variances + _C)  # s
            found += (a * texture + b * structure).sum(dim=(1, 2, 3))
        return 1 - found / total


@lru_cache(maxsize=2)
def _network(backbone: Path, heads: Path, device: torch.device) -> _Similarity:
    return _Similarity(backbone, heads).to(device).eval()
