"""Networks to count: shapes without weights."""

import torch
from torch import Tensor

from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.spec import Spec


def shapes_of(description: Spec[SRModel]) -> SRModel:
    """The network on the meta device: it has shapes and no weights, so it can only be counted.

    SFTGAN is given a map in which all categories are equally probable; what it costs does not
    depend on the map.
    """
    with torch.device("meta"):
        network = description.build()
    return _EvenMap(network) if isinstance(network, SFTGAN) else network


class _EvenMap(SRModel):
    """SFTGAN with a map, so that it has nothing to warn of."""

    def __init__(self, network: SFTGAN) -> None:
        super().__init__()
        self.network = network
        self.scale, self.channels = network.scale, network.channels
        self.receptive_field = network.receptive_field

    def forward(self, lr: Tensor) -> Tensor:
        """The SR batch (B, 3, scale·H, scale·W)."""
        return self.network.with_conditions(lr, self.network.constant_map(lr))
