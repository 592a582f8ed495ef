"""Discriminators: the counts of the official modules, their layout, what sizes they take."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import VGGDiscriminator, parameter_count


# Counted on the official modules; "96 without" is "96 with" less 2 numbers for each of its 2,880
# normalised maps.
@pytest.mark.parametrize(
    ("size", "norm", "parameters"),
    [
        (96, "batch", 14_143_881),
        (96, "none", 14_143_881 - 2 * 2880),
        (128, "batch", 14_502_281),
        (128, "none", 14_496_521),
        (192, "batch", 20_700_553),
        (192, "none", 20_692_745),
    ],
)
def test_parameters(size: int, norm: str, parameters: int) -> None:
    with torch.device("meta"):
        network = VGGDiscriminator(size=size, norm=norm)  # type: ignore[arg-type]
        assert parameter_count(network) == parameters
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 1)


@pytest.mark.parametrize(("size", "macs"), [(128, 2_226_946_148), (192, 5_131_929_700)])
def test_multiply_accumulates(size: int, macs: int) -> None:
    with torch.device("meta"):
        network, images = VGGDiscriminator(size=size, norm="none"), torch.zeros(1, 3, size, size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(images)
    assert counter.get_total_flops() / 2 == macs


def test_the_layout_of_the_one_for_128() -> None:
    with torch.device("meta"):
        layers = list(VGGDiscriminator().layers)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    maps = [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]
    assert [conv.out_channels for conv in convolutions] == maps
    assert [conv.kernel_size[0] for conv in convolutions] == [3, 4] * 5
    assert [conv.stride[0] for conv in convolutions] == [1, 2] * 5
    assert all(conv.bias is not None for conv in convolutions)
    kinds = [type(layer) for layer in layers]
    assert kinds[:2] == [nn.Conv2d, nn.LeakyReLU]  # the first is not normalised
    assert kinds[2:] == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 9
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("size", [24, 32, 48])
def test_a_gradient_reaches_every_parameter(size: int, norm: str) -> None:
    torch.manual_seed(size)
    network = VGGDiscriminator(size=size, width=4, colours=1, norm=norm).double()  # type: ignore[arg-type]
    images = torch.rand(3, 1, size, size, dtype=torch.float64)
    logits = network(images)
    assert logits.shape == (3, 1)
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        before_batch_norm = norm == "batch" and name.endswith("bias") and parameter.grad.ndim == 1
        assert before_batch_norm or parameter.grad.abs().max() > 0, name


def test_without_normalisation_each_image_is_judged_alone() -> None:
    network = VGGDiscriminator(size=24, width=4, norm="none").double()
    images = torch.rand(3, 3, 24, 24, dtype=torch.float64)
    alone = torch.cat([network(one[None]) for one in images])
    torch.testing.assert_close(network(images), alone)
    normalised = VGGDiscriminator(size=24, width=4).double()
    alone = torch.cat([normalised(one[None]) for one in images])
    assert not torch.allclose(normalised(images), alone)


def test_a_ring_around_the_image_is_taken() -> None:
    network = VGGDiscriminator(size=32, width=4)
    assert network(torch.rand(2, 3, 34, 34)).shape == (2, 1)


@pytest.mark.parametrize("shape", [(1, 3, 32, 24), (1, 1, 32, 32), (1, 3, 64, 64), (3, 32, 32)])
def test_other_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"takes images \(B, 3, 32, 32\), got"):
        VGGDiscriminator(size=32, width=4)(torch.rand(shape))


@pytest.mark.parametrize("size", [0, 8, 12, 16, 100, 130, 36])
def test_sizes_without_a_discriminator_are_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"for images of {size} pixels; the size is 3 or 4"):
        VGGDiscriminator(size=size)
