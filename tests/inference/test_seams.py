"""Tiles do not show."""

import numpy as np
import pytest
import torch

from edgekeeper.image import Image, from_tensor, to_tensor
from edgekeeper.inference import Request, upscale_image, verify_seams
from edgekeeper.inference.network import infer
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
    seams = verify_seams(seeded(model), lr, request=Request(tile=side, precision=precision))
    assert (seams.tile, seams.overlap) == (side, model.overlap)
    if precision == "float32":
        assert seams.levels < 0.01  # rounding
    assert seams.is_seamless


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize(
    "asked", [("ensemble",), ("consistent",), ("ensemble", "consistent")], ids=" ".join
)
def test_what_is_done_to_a_tile_leaves_no_seams(asked, colours, wavy, generator):
    # So long that a tile with less context would have to do with less.
    lr = torch.rand(1, colours, 20, 90, generator=generator)
    request = Request(tile=48, **dict.fromkeys(asked, True))
    assert verify_seams(wavy(), lr, request=request).levels < 0.01


def test_too_little_context_is_seen(wavy, generator):
    class Wrong(wavy):
        receptive_field = 0

    lr = torch.rand(1, 3, 36, 36, generator=generator)  # two tiles and no more overlap
    seams = verify_seams(Wrong(strength=1.0), lr, request=Request(tile=20))
    assert seams.levels > 0.5
    assert not seams.is_seamless


def test_a_network_on_groups_of_pixels_shows_no_seams() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RRDB(scale=2, width=8, blocks=1, growth=4, unshuffle=2).eval()
    lr = torch.rand(1, 3, 141, 127, generator=torch.Generator().manual_seed(1))
    found = verify_seams(model, lr, request=Request(tile=101))
    assert found.tile == 101
    assert found.levels < 1e-3


def test_a_border_is_seen_around_the_image_and_not_around_its_tiles(wavy, generator):
    class Framed(wavy):
        border = 5

    lr = torch.rand(1, 3, 40, 61, generator=generator)
    for ensemble in (False, True):
        request = Request(tile=20, ensemble=ensemble)
        assert verify_seams(Framed(strength=1.0), lr, request=request).levels < 0.01
    image = Image(pixels=from_tensor(lr))
    whole, tiled = (
        upscale_image(image, Request(model=Framed(strength=1.0), tile=tile)).image.pixels
        for tile in (100, 20)
    )
    expected = from_tensor(infer(Framed(strength=1.0), to_tensor(image)))
    bare = upscale_image(image, Request(model=wavy(strength=1.0))).image.pixels
    for made in (whole, tiled):
        assert np.abs(made.astype(int) - expected).max() <= 1
        assert np.abs(made.astype(int) - bare).max() > 1
        assert np.abs(made.astype(int) - bare)[12:-12, 12:-12].max() <= 1  # far from the border


def test_a_border_and_groups_of_pixels_show_no_seams() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RRDB(scale=2, width=8, blocks=1, growth=4, unshuffle=2).eval()
    model.border = 4
    lr = torch.rand(1, 3, 141, 127, generator=torch.Generator().manual_seed(1))
    assert verify_seams(model, lr, request=Request(tile=101)).levels < 1e-3
