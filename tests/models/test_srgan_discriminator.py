"""SRGAN's discriminator: the counts of a reference module, its layout, what sizes it takes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import SRGANDiscriminator, parameter_count

# Biases of seven convolutions in place of the factors and shifts of seven normalisations.
WITHOUT = 23_563_649 - (64 + 2 * 128 + 2 * 256 + 2 * 512)
# The first fully connected layer has 1024 weights more for each of 512 maps of 8 x 8 pixels.
LARGER = 23_563_649 + 1024 * 512 * (8**2 - 6**2)


@pytest.mark.parametrize(
    ("size", "norm", "parameters"),
    [(96, "batch", 23_563_649), (96, "none", WITHOUT), (128, "batch", LARGER)],
)
def test_parameters(size: int, norm: str, parameters: int) -> None:
    with torch.device("meta"):
        network = SRGANDiscriminator(size=size, norm=norm)  # type: ignore[arg-type]
        assert parameter_count(network) == parameters
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 1)


def test_multiply_accumulates() -> None:
    with torch.device("meta"):
        network, images = SRGANDiscriminator(), torch.zeros(1, 3, 96, 96)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(images)
    assert counter.get_total_flops() / 2 == 884_147_200


def test_the_layout() -> None:
    with torch.device("meta"):
        network = SRGANDiscriminator()
    layers = list(network.layers)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [conv.stride[0] for conv in convolutions] == [1, 2] * 4
    assert {conv.kernel_size for conv in convolutions} == {(3, 3)}
    assert [conv.bias is not None for conv in convolutions] == [True] + [False] * 7
    kinds = [type(layer) for layer in layers]
    assert kinds[:2] == [nn.Conv2d, nn.LeakyReLU]  # the first is not normalised
    assert kinds[2:] == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 7
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert (network.hidden.in_features, network.hidden.out_features) == (512 * 6 * 6, 1024)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("size", [16, 32, 48])
def test_a_gradient_reaches_every_parameter(size: int, norm: str) -> None:
    torch.manual_seed(size)
    network = SRGANDiscriminator(size=size, width=4, colours=1, norm=norm).double()  # type: ignore[arg-type]
    logits = network(torch.rand(3, 1, size, size, dtype=torch.float64))
    assert logits.shape == (3, 1)
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_without_normalisation_each_image_is_judged_alone() -> None:
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    network = SRGANDiscriminator(size=32, width=4, norm="none").double()
    alone = torch.cat([network(one[None]) for one in images])
    torch.testing.assert_close(network(images), alone)
    normalised = SRGANDiscriminator(size=32, width=4).double()
    alone = torch.cat([normalised(one[None]) for one in images])
    assert not torch.allclose(normalised(images), alone)


@pytest.mark.parametrize("shape", [(1, 3, 32, 24), (1, 1, 32, 32), (1, 3, 34, 34), (3, 32, 32)])
def test_other_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"takes images \(B, 3, 32, 32\), got"):
        SRGANDiscriminator(size=32, width=4)(torch.rand(shape))


@pytest.mark.parametrize("size", [0, 8, 100, -16])
def test_sizes_without_a_discriminator_are_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"for images of {size} pixels; the size is a multiple"):
        SRGANDiscriminator(size=size)
