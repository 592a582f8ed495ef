"""Networks to count: shapes without weights."""

import torch

from edgekeeper.models import SRModel
from edgekeeper.spec import Spec


def shapes_of(description: Spec[SRModel]) -> SRModel:
    """The network on the meta device: it has shapes and no weights, so it can only be counted."""
    with torch.device("meta"):
        return description.build()
