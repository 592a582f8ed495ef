"""ChainSR: what its header promises."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows

import edgekeeper
from edgekeeper.data.synthetic import synthetic_image
from edgekeeper.inference.network import infer
from edgekeeper.models import ChainSR, parameter_count
from edgekeeper.ops.resize import imresize


@pytest.mark.parametrize(("scale", "expected"), [(2, 184_204), (3, 188_539), (4, 194_608)])
def test_it_has_the_parameters_of_its_header(scale: int, expected: int) -> None:
    assert parameter_count(ChainSR(scale=scale)) == expected


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_begins_as_interpolation(scale: int) -> None:
    lr = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ChainSR(scale=scale, width=4)(lr), imresize(lr, scale=scale))


def test_it_joins_head_first_block_last_but_one_and_last_convolution() -> None:
    torch.manual_seed(0)
    network = ChainSR(scale=2, width=4, blocks=3, depth=2).double()
    lr = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    state = network.state_dict()

    def conv(x: torch.Tensor, name: str, padding: int = 1) -> torch.Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    after = [conv(lr, "head")]
    for k in range(3):
        inner = F.leaky_relu(conv(after[-1], f"blocks.{k}.convolutions.0"), 0.1)
        after.append(after[-1] + conv(inner, f"blocks.{k}.convolutions.1"))
    last = conv(after[3], "after_blocks")
    joined = conv(torch.cat([after[0], after[1], after[2], last], dim=1), "join", padding=0)
    torch.testing.assert_close(network.features(lr), joined, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["fast_x4", "balanced_x4", "best_x4", "best_x2"])
def test_flat_images_stay_flat_up_to_the_rim_in_networks_that_ship(name: str) -> None:
    network = edgekeeper.load(name)
    random = torch.Generator().manual_seed(0)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3)  # (27, 3)
    colours = torch.cat([corners, torch.rand(23, 3, generator=random)])
    for k, colour in enumerate(colours):
        size = (8 + 3 * (k % 10), 40 - 2 * (k % 9))
        sr = infer(network, colour[None, :, None, None].expand(1, 3, *size).contiguous())
        levels = (sr - colour[None, :, None, None]).abs().max() * 255
        assert levels <= 2, f"{colour.tolist()} at {size} moves by {levels:.1f} levels"


@pytest.mark.parametrize("name", ["balanced_x4", "restore_x2", "restore_x4"])
def test_no_pattern_grows_from_block_to_block(name: str) -> None:
    hr = synthetic_image(size=512, seed=1, number=136)[..., :384, :384]  # fine lines
    lr = imresize(hr, scale=1 / 4).clamp(0, 1)
    sr = infer(edgekeeper.load(name), lr, clamp="none")
    assert sr.min() > -2.5 and sr.max() < 3
