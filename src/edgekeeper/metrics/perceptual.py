"""LPIPS; and the perceptual metrics of one image, each a number or the reason why there is none.

Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", CVPR 2018; version 0.1 of its weights.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, UnavailableError
from edgekeeper.metrics.dists import SMALLEST_DISTS, dists
from edgekeeper.metrics.fsim import SMALLEST_FSIM, fsim
from edgekeeper.metrics.ma import ma, perceptual_index
from edgekeeper.metrics.niqe import Grey, niqe
from edgekeeper.metrics.protocol import find_protocol, images
from edgekeeper.models.backbones import ALEXNET_FILE, AlexNet, read_weights_file, weights_file

HEADS_FILE = "lpips_alex_v0.1.safetensors"

_EPSILON = 1e-10  # added to the length of a feature vector


def lpips(sr: Tensor, hr: Tensor, *, folder: str | Path | None = None) -> Tensor:
    """LPIPS 0.1 with AlexNet of each image, (B,) float64; 0 for equal images, lower is better.

    Both images are clipped and rounded to the uint8 grid; nothing is cut off or resized. sr, hr:
    RGB (B, 3, H, W) in [0, 1], 31 pixels a side or more. folder: where ``alexnet_conv.safetensors``
    and ``lpips_alex_v0.1.safetensors`` lie; by default the folder ``weights`` of EDGEKEEPER_DATA.
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
    def __init__(self, backbone: Path, heads: Path) -> None:
        super().__init__()
        self.network = AlexNet(folder=backbone.parent)
        tensors = read_weights_file(heads)
        for number, maps in enumerate((64, 192, 384, 256, 256)):
            head = tensors.get(f"lin{number}.model.1.weight")
            if head is None or head.shape != (1, maps, 1, 1):
                raise CheckpointError(f"'{heads}' does not hold the heads of LPIPS for AlexNet.")
            self.register_buffer(f"head{number}", head.float())

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
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


PERCEPTUAL: dict[str, Literal["highest", "lowest"]] = {
    "lpips": "lowest",
    "niqe": "lowest",
    "niqe_rgb2gray": "lowest",
    "niqe_stored": "lowest",
    "ma": "highest",
    "pi": "lowest",
    "dists": "lowest",
    "fsim": "highest",
}
"""The numbers that take files and seconds, measured when they are asked for; which are good."""

_NIQE_GREYS: dict[str, Grey] = {"niqe": "y", "niqe_rgb2gray": "rgb2gray", "niqe_stored": "stored"}

SMALLEST_LPIPS = 31  # pixels a side that AlexNet's layers need


@dataclass(frozen=True)
class PerceptualNumbers:
    """The numbers by metric, and the reason, a sentence, for each metric without a number."""

    values: dict[str, float]
    unavailable: dict[str, str]


def measure_perceptual(
    sr: Tensor, hr: Tensor, *, metrics: Collection[str], folder: str | Path | None = None
) -> PerceptualNumbers:
    """Those of ``PERCEPTUAL`` that ``metrics`` names, of one result (1, 3, H, W) in [0, 1].

    Each under its own rule, whatever the protocol; see the metrics. ``folder`` holds their weights.
    Without a weight file, or for an image that is too small, the reason stands in the number's
    place.
    """
    values: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    asked = {metric for metric in PERCEPTUAL if metric in metrics}
    # Ma comes before NIQE: without its forests, PI need not wait for NIQE.
    for metric in ("lpips", "dists", "fsim", "ma", "niqe", "niqe_rgb2gray", "niqe_stored"):
        for_index = "pi" in asked and metric in ("ma", "niqe") and "ma" not in unavailable
        if metric in asked or for_index:
            try:
                values[metric] = _measure(metric, sr, hr, folder=folder).item()
            except UnavailableError as error:
                unavailable[metric] = str(error)
    if "pi" in asked and {"ma", "niqe"} <= values.keys():
        values["pi"] = perceptual_index(ma=values["ma"], niqe=values["niqe"])
    elif "pi" in asked:
        reasons = " ".join(unavailable[m] for m in ("ma", "niqe") if m in unavailable)
        unavailable["pi"] = f"PI is made of Ma and NIQE. {reasons}"
    return PerceptualNumbers(
        {metric: values[metric] for metric in PERCEPTUAL if metric in asked & values.keys()},
        {
            metric: unavailable[metric]
            for metric in PERCEPTUAL
            if metric in asked & unavailable.keys()
        },
    )


def _measure(metric: str, sr: Tensor, hr: Tensor, *, folder: str | Path | None) -> Tensor:
    if metric == "ma":
        return ma(sr, folder=folder)
    if metric in _NIQE_GREYS:
        return niqe(sr, folder=folder, grey=_NIQE_GREYS[metric])
    height, width = sr.shape[-2:]
    side = {"lpips": SMALLEST_LPIPS, "dists": SMALLEST_DISTS, "fsim": SMALLEST_FSIM}[metric]
    if min(height, width) < side:
        raise UnavailableError(
            f"{metric.upper()} needs {side} pixels a side; this image has {height}x{width}."
        )
    if metric == "fsim":
        return fsim(sr, hr)
    return (lpips if metric == "lpips" else dists)(sr, hr, folder=folder)
