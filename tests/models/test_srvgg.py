"""SRVGGNetCompact: the published counts, and the network against its formula."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.models import SRVGGNetCompact, parameter_count


@pytest.mark.parametrize(
    ("scale", "convolutions", "expected"),
    [
        (2, 32, 1_192_524),
        (3, 32, 1_201_179),
        (4, 32, 1_213_296),  # of realesr-general-x4v3's file
        (2, 16, 600_652),
        (3, 16, 609_307),
        (4, 16, 621_424),
    ],
)
def test_it_has_the_parameters_of_its_header(scale: int, convolutions: int, expected: int) -> None:
    with torch.device("meta"):
        network = SRVGGNetCompact(scale=scale, convolutions=convolutions)
        lr = torch.zeros(1, 3, 8, 8)
    assert parameter_count(network) == expected
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(lr)
    layers = 3 * 64 + convolutions * 64**2 + 64 * 3 * scale**2  # all at LR size
    assert counter.get_total_flops() / 2 == 9 * 8 * 8 * layers


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_is_the_formula_of_its_header(scale: int) -> None:
    torch.manual_seed(scale)
    network = SRVGGNetCompact(scale=scale, width=4, convolutions=2).double()
    state = network.state_dict()
    with torch.no_grad():
        for name in ("body.1.weight", "body.3.weight", "body.5.weight"):
            state[name].uniform_(-0.5, 0.5)  # a slope for each map
    lr = torch.rand(2, 3, 5, 6, dtype=torch.float64)

    def conv(maps: Tensor, n: int) -> Tensor:
        return F.conv2d(maps, state[f"body.{n}.weight"], state[f"body.{n}.bias"], padding=1)

    maps = lr
    for n in (0, 2, 4):
        maps = conv(maps, n)
        maps = torch.where(maps < 0, state[f"body.{n + 1}.weight"][:, None, None] * maps, maps)
    torch.testing.assert_close(network.features(lr), maps)
    nearest = lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    torch.testing.assert_close(network(lr), F.pixel_shuffle(conv(maps, 6), scale) + nearest)
