"""The loss between the features of a classification network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import check_choice
from edgekeeper.losses.check import as_float32_or_more, check_pair
from edgekeeper.models.backbones import VGG19, VGG19Weights

FeatureNorm = Literal["l1", "mse", "unit"]
Activation = Literal["before_relu", "after_relu"]


class Perceptual(nn.Module):
    """Mean difference of the VGG19 maps of both images at ``layer``, or the sum over several.

    - ``norm`` "l1" before the ReLU of conv5_4 (the defaults): ESRGAN and SPSR. "mse" with
      ``activation`` "after_relu": SRGAN. "unit": the maps' vectors are brought to unit length at
      each place, and their squared differences summed over the maps (Zhang et al., "The
      Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, equation 1
      without learned weights).
    - ``weights``, ``folder``: which file of VGG19 and where, see ``models.backbones.VGG19``.
      Features of "oxford" and "torchvision" differ in scale, so the loss needs another weight.

    The network is frozen: its parameters require no gradient, ``train()`` changes nothing, and
    ``hr`` goes through without a graph. ``loss(sr, hr)``: both (B, 3, H, W) float RGB
    of one shape in [0, 1], 16 pixels a side or more for conv5; values beyond [0, 1] are taken as
    they are. Inside autocast the convolutions follow it; the difference is in float32.
    Errors: InputError; UnavailableError when the weights are not there.
    Sources: Johnson et al., "Perceptual Losses for Real-Time Style Transfer and
    Super-Resolution", ECCV 2016; Wang et al., "ESRGAN", ECCV workshops 2018, section 3.3.
    """

    def __init__(
        self,
        *,
        layer: str | Sequence[str] = "conv5_4",
        activation: Activation = "before_relu",
        norm: FeatureNorm = "l1",
        weights: VGG19Weights = "oxford",
        folder: str | Path | None = None,
    ) -> None:
        super().__init__()
        check_choice("norm of the perceptual loss", norm, known=get_args(FeatureNorm))
        self.norm: FeatureNorm = norm
        layers = (layer,) if isinstance(layer, str) else tuple(layer)
        self.network = VGG19(layers=layers, activation=activation, weights=weights, folder=folder)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, 3, H, W) both
        with torch.no_grad():
            targets = self._features(hr)  # (B, maps, H / 2^k, W / 2^k) of each layer
        distance = functional.l1_loss if self.norm == "l1" else functional.mse_loss  # ESRGAN; SRGAN
        values = [
            distance(found, target) * (found.shape[1] if self.norm == "unit" else 1)
            for found, target in zip(self._features(sr), targets, strict=True)
        ]
        return torch.stack(values).sum()  # scalar

    def _features(self, x: Tensor) -> list[Tensor]:
        found = [as_float32_or_more(maps) for maps in self.network(x)]  # differences need digits
        if self.norm != "unit":
            return found
        return [maps / (maps.square().sum(1, keepdim=True) + 1e-6).sqrt() for maps in found]

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        network = self.network
        return (
            f"layer={', '.join(network.layers)!r}, activation={network.activation!r}, "
            f"norm={self.norm!r}, weights={network.weights!r}"
        )
