"""AESOP's loss with a network that ships as its decoder."""

from edgekeeper.losses import AutoEncoded
from edgekeeper.pretrained.zoo import load


def auto_encoded(*, decoder: str) -> AutoEncoded:
    """Return the loss; ``decoder`` is the name or the file of a network for fidelity."""
    return AutoEncoded(decoder=load(decoder))
