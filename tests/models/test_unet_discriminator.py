"""Real-ESRGAN's U-Net discriminator: its count, its map of logits, its norms, what it refuses."""

import pytest
import torch
from torch import nn

from edgekeeper.errors import InputError
from edgekeeper.models import UNetDiscriminator, parameter_count


def test_parameters_and_layout() -> None:
    network = UNetDiscriminator()
    assert parameter_count(network) == 4_376_897
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 512, 256, 128, 64, 64, 64, 1]
    assert [c.stride[0] for c in convolutions] == [1, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert [c.bias is not None for c in convolutions] == [True, *[False] * 8, True]


def test_every_pixel_has_a_logit_and_every_parameter_a_gradient() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(width=4, colours=1).double()
    logits = network(torch.rand(2, 1, 16, 40, dtype=torch.float64))
    assert logits.shape == (2, 1, 16, 40)
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_spectral_norms_become_one_and_rest_in_evaluation() -> None:
    torch.manual_seed(1)
    network, images = UNetDiscriminator(width=4), torch.rand(1, 3, 16, 16)
    for _ in range(60):
        network(images)
    for layer in [*network.down, *network.up, *network.body]:
        matrix = layer.weight.detach().flatten(1)  # type: ignore[union-attr]
        assert torch.linalg.matrix_norm(matrix, 2) == pytest.approx(1, abs=0.02)
    before = {name: value.clone() for name, value in network.eval().state_dict().items()}
    network(images)
    assert all(torch.equal(before[name], v) for name, v in network.state_dict().items())


@pytest.mark.parametrize("shape", [(1, 3, 20, 16), (1, 1, 16, 16), (3, 16, 16), (1, 3, 0, 16)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="multiples of 8"):
        UNetDiscriminator(width=4)(torch.rand(shape))
