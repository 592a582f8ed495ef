"""The light network: counts, a training-only gradient branch, exact tiles, its file."""

from pathlib import Path

import pytest
import torch
from tests.tiling import run_tiled
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import DGGGANLight, parameter_count
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained import zoo
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.spec import spec


def tiny(scale: int = 4, *, blocks: int = 4, gradient_width: int = 4) -> DGGGANLight:
    """A small network in float64 whose weights are all far from zero."""
    torch.manual_seed(scale)
    network = DGGGANLight(
        scale=scale, width=6, blocks=blocks, grad_every=2, gradient_width=gradient_width
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.15)
    return network.double().eval()


# scale -> parameters and multiply-accumulates per LR pixel: with the branch, without
COUNTS = {
    2: ((197_240, 196_432), (180_076, 179_424)),
    3: ((203_750, 202_912), (184_411, 183_744)),
    4: ((212_864, 211_984), (190_480, 189_792)),
}


@pytest.mark.parametrize("scale", COUNTS)
def test_it_is_light(scale: int) -> None:
    network = DGGGANLight(scale=scale)
    lr = torch.zeros(1, 3, 4, 4)
    alone = network.without_gradient_branch()
    for run, counted, expected in (
        (network.with_gradient, network, COUNTS[scale][0]),
        (alone, alone, COUNTS[scale][1]),
        (network, alone, COUNTS[scale][1]),  # forward makes no gradient image
    ):
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            run(lr)
        flops = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
        assert (parameter_count(counted), flops / 2 / 16) == expected
    assert parameter_count(network) < 500_000
    # head; six blocks of three 3 x 3 and the one after; 3 scale² maps
    conv = 9 * 32 * 32 + 32
    ends = 27 * 32 + 32 + 9 * 32 * 3 * scale**2 + 3 * scale**2
    assert parameter_count(alone) == 19 * conv + ends


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_starts_as_interpolation(scale: int) -> None:
    lr = torch.rand(1, 3, 5, 6)
    assert torch.equal(DGGGANLight(scale=scale)(lr), imresize(lr, scale=scale))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 7)])
def test_shapes_and_halves(scale: int, size: tuple[int, int]) -> None:
    network = tiny(scale)
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    found = network.with_gradient(lr)
    assert found.sr.shape == found.gradient.shape == (2, 3, scale * size[0], scale * size[1])
    assert torch.equal(network(lr), found.sr)
    assert torch.equal(network.reconstruct(network.features(lr), lr), found.sr)
    torch.testing.assert_close(found.sr, torch.cat([network(one[None]) for one in lr]))


def test_a_block_is_a_chain_of_three_convolutions_of_which_the_last_sees_both_others() -> None:
    block = tiny().blocks[0]
    x = torch.rand(1, 6, 5, 4, dtype=torch.float64)
    one, two, three = (m for m in block.modules() if isinstance(m, nn.Conv2d))
    first = one(x)
    first = torch.where(first < 0, 0.1 * first, first)
    second = two(first)
    second = torch.where(second < 0, 0.1 * second, second)
    torch.testing.assert_close(
        block(x), x + three(first) + three(second) - three.bias.view(-1, 1, 1)
    )


def test_the_branch_reads_the_gradients_of_every_second_block() -> None:
    network = tiny()
    lr = torch.rand(1, 3, 6, 5, dtype=torch.float64)
    branch = network.gradient
    assert branch is not None and len(branch.blocks) == 2
    image, guide, shallow = network.head(lr), branch.head(gradient_map(lr)), network.head(lr)
    for k in range(4):
        image = network.blocks[k](image)
        if k in (1, 3):
            taken = branch.take[k // 2](gradient_map(image))
            guide = branch.blocks[k // 2](guide + taken)
    gradient = torch.nn.functional.pixel_shuffle(branch.last(guide), 4)
    torch.testing.assert_close(network.with_gradient(lr).gradient, gradient)
    torch.testing.assert_close(network.features(lr), shallow + network.after_blocks(image))


def reached(network: DGGGANLight, loss: Tensor) -> set[str]:
    network.zero_grad()
    loss.backward()
    return {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}


def test_the_branch_s_loss_reaches_the_features_and_the_image_not_the_branch() -> None:
    network = tiny()
    names = {name for name, _ in network.named_parameters()}
    branch = {name for name in names if name.startswith("gradient.")}
    lr = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    assert reached(network, network(lr).square().sum()) == names - branch
    by_gradient = reached(network, network.with_gradient(lr).gradient.square().sum())
    assert by_gradient == names - {
        f"{layer}.{kind}" for layer in ("after_blocks", "last") for kind in ("weight", "bias")
    }


def test_without_the_branch_the_image_is_the_same_and_nothing_of_it_is_left() -> None:
    network = tiny().train()
    light = network.without_gradient_branch()
    lr = torch.rand(1, 3, 5, 7, dtype=torch.float64)
    assert torch.equal(light(lr), network(lr))
    assert light.training and light.gradient is None
    assert not [name for name in light.state_dict() if "gradient" in name]
    with pytest.raises(InputError, match="no gradient map: it has no gradient branch"):
        light.with_gradient(lr)
    with torch.no_grad():  # a copy, whose weights are its own
        light.head.weight.zero_()
    assert network.head.weight.any()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_give_exactly_the_whole_image(scale: int) -> None:
    network = tiny(scale, blocks=2)
    lr = torch.rand(1, 3, 37, 41, dtype=torch.float64)
    assert network.overlap == network.receptive_field == 9
    with torch.no_grad():
        tiled = run_tiled(network, lr, tile=24, overlap=network.overlap, scale=scale)
        torch.testing.assert_close(tiled, network(lr), rtol=0, atol=1e-12)
        less = run_tiled(network, lr, tile=24, overlap=network.overlap - 1, scale=scale)
    assert (less - tiled).abs().max() > 1e-9


@pytest.mark.parametrize("gradient_width", [0, 4])
def test_a_file_gives_it_back(tmp_path: Path, gradient_width: int) -> None:
    arguments = {"width": 6, "blocks": 4, "grad_every": 2, "gradient_width": gradient_width}
    network = tiny(gradient_width=gradient_width).float()
    path = tmp_path / "light.safetensors"
    save_model(path, network, spec=spec(DGGGANLight, **arguments), card={})
    again = zoo.load(path)
    lr = torch.rand(1, 3, 5, 7)
    assert isinstance(again, DGGGANLight)
    assert (again.gradient is not None) == bool(gradient_width)
    assert torch.equal(again(lr), network(lr))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"grad_every": 7}, "after every 7 of its 6 blocks; grad_every must be from 1"),
        ({"scale": 1}, "DGGGANLight has no scale 1; choose one of 2, 3, 4"),
    ],
)
def test_an_argument_that_cannot_be_is_a_sentence(arguments: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        DGGGANLight(**arguments)
