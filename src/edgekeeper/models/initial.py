"""The weights that several networks start with."""

import torch
from torch import nn


def kaiming_normal(network: nn.Module, *, factor: float = 1.0) -> None:
    """None: gives every layer ``factor`` times Kaiming's normal weights, and biases of zero.

    He et al., "Delving Deep into Rectifiers", ICCV 2015, https://arxiv.org/abs/1502.01852: a
    deviation of √(2 / inputs of a layer). ESRGAN's code takes a tenth.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            with torch.no_grad():
                module.weight.mul_(factor)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
