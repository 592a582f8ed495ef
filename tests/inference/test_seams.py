"""Tiles do not show."""

import pytest
import torch

from edgekeeper.inference import Manner, verify_seams
from edgekeeper.models import EDSR, ESPCN, RRDB, SRCNN, VDSR


def seeded(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            inputs = weight[0].numel() if weight.dim() == 4 else 100
            weight.copy_(torch.randn(weight.shape, generator=generator) / inputs**0.5)
    return model


NETWORKS = [
    SRCNN(scale=2),
    SRCNN(scale=3, channels="rgb", middle=1),
    VDSR(scale=2),
    ESPCN(scale=4),
    ESPCN(scale=2, channels="rgb"),
    EDSR(scale=2, width=8, blocks=2),
    EDSR(scale=3, width=8, blocks=1, skip="bicubic"),
    EDSR(scale=4, width=8, blocks=1),
]


@pytest.mark.parametrize("model", NETWORKS, ids=lambda m: f"{type(m).__name__}-x{m.scale}")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_in_tiles_are_the_whole(model, precision, generator):
    side = 2 * model.overlap + 12
    lr = torch.rand(1, 3, side + 5, side + 7, generator=generator)
    seams = verify_seams(seeded(model), lr, tile=side, manner=Manner(precision=precision))
    assert (seams.tile, seams.overlap) == (side, model.overlap)
    if precision == "float32":
        assert seams.levels < 0.01  # rounding
    assert seams.is_seamless


@pytest.mark.parametrize(
    "manner",
    [
        Manner(ensemble="eight"),
        Manner(consistent="yes"),
        Manner(ensemble="eight", consistent="yes"),
    ],
    ids=["eight", "consistent", "both"],
)
@pytest.mark.parametrize("colours", [1, 3])
def test_what_is_done_to_a_tile_leaves_no_seams(manner, colours, wavy, generator):
    # So long that a tile with less context would have to do with less.
    lr = torch.rand(1, colours, 20, 90, generator=generator)
    assert verify_seams(wavy(), lr, tile=48, manner=manner).levels < 0.01


def test_too_little_context_is_seen(wavy, generator):
    class Wrong(wavy):
        receptive_field = 0

    lr = torch.rand(1, 3, 36, 36, generator=generator)  # two tiles and no more overlap
    seams = verify_seams(Wrong(strength=1.0), lr, tile=20)
    assert seams.levels > 0.5
    assert not seams.is_seamless


def test_a_network_on_groups_of_pixels_shows_no_seams() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RRDB(scale=2, width=8, blocks=1, growth=4, unshuffle=2).eval()
    lr = torch.rand(1, 3, 141, 127, generator=torch.Generator().manual_seed(1))
    found = verify_seams(model, lr, tile=101)
    assert found.tile == 101
    assert found.levels < 1e-3
