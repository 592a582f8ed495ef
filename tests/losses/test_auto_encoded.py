"""Tests of AESOP's pixel loss, against its formula written with PyTorch's own layers."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.losses import AutoEncoded
from edgekeeper.models import EDSR, ESPCN
from edgekeeper.ops.resize import imresize


class Means(nn.Module):
    """An encoder whose result can be written down: the mean of each 2 x 2 pixels, doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * functional.avg_pool2d(x, 2)


class Nearest(nn.Module):
    scale = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, scale_factor=2)


def images() -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    sr, hr = torch.rand(2, 2, 3, 8, 6, generator=numbers, dtype=torch.float64)
    return sr, hr


def test_it_is_the_distance_of_what_is_kept() -> None:
    sr, hr = images()
    loss = AutoEncoded(decoder=Nearest(), encoder=Means())
    means = (sr - hr).view(2, 3, 4, 2, 3, 2).mean(dim=(3, 5))
    assert float(loss(sr, hr)) == pytest.approx(float(2 * means.abs().mean()), rel=1e-12)
    torch.manual_seed(0)
    network = EDSR(scale=2, width=4, blocks=1).double()
    small = [imresize(x, scale=0.5) for x in (sr, hr)]
    expected = (network(small[0]) - network(small[1])).abs().mean().detach()
    found = AutoEncoded(decoder=network)(sr, hr)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_texture_that_the_encoder_does_not_keep_costs_nothing() -> None:
    _, hr = images()
    texture = torch.tensor([[0.1, -0.1], [-0.1, 0.1]], dtype=torch.float64).repeat(4, 3)
    loss = AutoEncoded(decoder=Nearest(), encoder=Means())
    assert float(loss(hr + texture, hr)) == pytest.approx(0.0, abs=1e-15)
    assert float((texture).abs().mean()) == pytest.approx(0.1)  # as L1 has it


def test_both_parts_are_frozen_and_the_derivative_is_that_of_sr() -> None:
    sr, hr = images()
    loss = AutoEncoded(decoder=ESPCN(scale=2).double()).train()
    assert not loss.training and not any(p.requires_grad for p in loss.parameters())
    luma = sr[:, :1].clone().requires_grad_(), hr[:, :1].clone().requires_grad_()
    loss(*luma).backward()
    assert float(luma[0].grad.abs().sum()) > 0 and luma[1].grad is None  # type: ignore[union-attr]
    point = sr[:1, :1, :4, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, hr[:1, :1, :4, :4]), point)


def test_what_does_not_fit_is_refused() -> None:
    sr, hr = images()
    with pytest.raises(InputError, match="must be a network with a 'scale'"):
        AutoEncoded(decoder=nn.Identity())
    with pytest.raises(InputError, match="multiples of it"):
        AutoEncoded(decoder=Nearest())(sr[..., :5], hr[..., :5])
