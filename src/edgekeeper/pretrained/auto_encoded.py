"""AESOP's loss, and its auto-encoder, with a network that ships as the decoder."""

import torch

from edgekeeper.losses import AutoEncoded
from edgekeeper.models import AutoEncoder
from edgekeeper.pretrained.zoo import load


def auto_encoded(*, decoder: str) -> AutoEncoded:
    """Return the loss; ``decoder`` is the name or the file of a network for fidelity."""
    return AutoEncoded(decoder=load(decoder))


def auto_encoder(*, decoder: str, width: int = 32) -> AutoEncoder:
    """Return an encoder that is yet to learn, before ``decoder``."""
    with torch.device("cpu"):  # what is read from a file has values, whatever else is built on
        network = load(decoder)
    return AutoEncoder(decoder=network, width=width)
