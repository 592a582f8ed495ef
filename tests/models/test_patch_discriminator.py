"""The discriminator of patches: what it sees, its count, how fast it learns, what it refuses."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows

from edgekeeper.errors import InputError
from edgekeeper.models import PatchDiscriminator, parameter_count


def test_parameters_and_one_logit_for_eight_by_eight_pixels() -> None:
    network = PatchDiscriminator().double()
    assert parameter_count(network) == 575_937
    images = torch.rand(2, 3, 96, 104, dtype=torch.float64, requires_grad=True)
    logits = network(images)
    assert logits.shape == (2, 1, 12, 13)
    logits[0, 0, 6, 8].backward()
    assert images.grad is not None
    rows, columns = images.grad[0].abs().sum(dim=0).nonzero().T
    # 56 pixels, and eight more on each side for the mean that is taken off
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == 72
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_it_sees_detail_and_not_the_colour() -> None:
    network = PatchDiscriminator(width=4).double()
    detail = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    assert torch.allclose(network(detail), network(detail + 0.3), atol=1e-9)


def test_a_hundred_updates_tell_weaker_noise() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(width=8)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(100):
        hr = 0.5 + 0.02 * torch.randn(2, 3, 32, 32)
        sr = 0.5 + 0.6 * (0.02 * torch.randn(2, 3, 32, 32))
        loss = F.softplus(-network(hr)).mean() + F.softplus(network(sr)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7  # chance: 1.386


@pytest.mark.parametrize("shape", [(1, 3, 20, 16), (1, 1, 16, 16), (3, 16, 16), (1, 3, 8, 16)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="multiples of 8 from 16 on"):
        PatchDiscriminator(width=4)(torch.rand(shape))
