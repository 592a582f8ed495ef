"""What becomes of results: sharpened as asked; what is flat, and alpha, stays so to the level."""

import numpy as np
import pytest
import torch

import edgekeeper
from edgekeeper.image import Image
from edgekeeper.inference import Request, upscale_image
from edgekeeper.inference.network import Finish, keep_flat
from edgekeeper.inference.seams import verify_seams
from edgekeeper.ops.gradient import sobel
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.sharpen import back_project, sharpen
from edgekeeper.pretrained.zoo import DEFAULTS, networks


def image_of(pixels, alpha=None):
    return Image(pixels=np.ascontiguousarray(pixels, np.uint8), alpha=alpha)


def flat_colours(count=100):
    random = np.random.default_rng(11)
    corners = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    return np.array([*corners, *random.integers(0, 256, (count - 8, 3))], np.uint8)


SIZES = [(1, 1), (1, 40), (3, 3), (4, 17), (9, 5), (16, 16), (23, 8), (31, 31), (40, 2), (33, 47)]


def test_flat_colours_stay_flat_in_every_network_that_ships():
    colours = flat_colours()
    assert len(SIZES) == 10
    for name in [network.name for network in networks()]:
        model = edgekeeper.load(name)
        for number, (height, width) in enumerate(SIZES):
            some = colours[number::10]
            flat = np.broadcast_to(some[:, None, None], (10, height, width, 3))
            lr = torch.from_numpy(flat / np.float32(255)).permute(0, 3, 1, 2)
            sr = edgekeeper.upscale(lr, model=name, scale=model.scale)
            apart = (sr - lr[..., :1, :1]).abs().amax() * 255
            assert apart <= 0.01, (name, height, width)
    for style in DEFAULTS:
        for colour in colours[:10]:
            flat = image_of(np.broadcast_to(colour, (20, 30, 3)))
            made = upscale_image(flat, Request(style=style)).image.pixels
            assert (made == colour).all(), (style, colour)


def test_a_vertical_edge_stays_straight_to_the_border():
    """Half way between its two colours it lies in one column, within a pixel of the result."""
    for style, factors in DEFAULTS.items():
        for scale in factors:
            for left, right in ((40, 210), (255, 0), (90, 130)):
                pixels = np.full((26, 30, 3), left, np.uint8)
                pixels[:, 15:] = right
                made = upscale_image(image_of(pixels), Request(style=style, scale=scale)).image
                luma = made.pixels.astype(float).mean(axis=2)
                middle = (left + right) / 2
                place = ((luma > middle) == (left > right)).sum(axis=1)
                assert np.ptp(place) <= 1, (style, scale, left, right)
                assert abs(place - 15 * scale).max() <= 1, (style, scale, left, right)


def test_what_is_flat_is_kept_and_the_rest_is_the_networks():
    lr = torch.zeros(1, 3, 12, 20)
    lr[..., 10:] = torch.tensor([0.2, 0.5, 0.9])[:, None, None]
    sr = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    kept = keep_flat(sr, lr, radius=2)
    for columns, source in ((slice(0, 16), lr[..., :1, :1]), (slice(24, 40), lr[..., :1, -1:])):
        assert (kept[..., columns] == source).all()
    assert torch.equal(kept[..., 16:24], sr[..., 16:24])
    noisy = torch.rand(1, 3, 12, 20)
    assert torch.equal(keep_flat(sr, noisy, radius=1), sr)
    assert Finish(scale=2, flat=1).keeps(torch.ones(1, 3, 4, 4))
    assert not Finish(scale=2).keeps(torch.ones(1, 3, 4, 4))
    assert not Finish(scale=2, flat=1).keeps(lr)


def test_sharpness_is_the_linear_sharpening_of_any_network(wavy):
    lr = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0)) / 2 + 0.2
    # with a step of back-projection where a faithful network that ships made it of a clean image
    for model, scale, style, back in (
        *((wavy(), 2, "faithful", False), ("fast_x2", 2, "faithful", True)),
        *((None, 4, "faithful", True), (None, 4, "restore", False)),
        *((None, 4, "texture", False), ("restore_x4", 4, "faithful", False)),
    ):
        asked = {"scale": scale} | ({"style": style} if model is None else {"model": model})
        plain = edgekeeper.upscale(lr, **asked)
        sharp = edgekeeper.upscale(lr, sharpness=0.6, **asked)
        expected = sharpen(plain, 0.6 * scale**2 / 2000).clamp(0, 1)
        expected = back_project(expected, lr).clamp(0, 1) if back else expected
        torch.testing.assert_close(sharp, expected)
        energy, before = (sobel(x, border="valid") for x in (sharp, plain))
        assert (energy.x.square() + energy.y.square()).mean() > (
            before.x.square() + before.y.square()
        ).mean()
    torch.testing.assert_close(
        edgekeeper.upscale(lr, style="sharp"),
        edgekeeper.upscale(lr, style="faithful", sharpness=0.25),
    )
    plain = edgekeeper.upscale(lr, style="sharp", sharpness=0)
    torch.testing.assert_close(plain, edgekeeper.upscale(lr, style="faithful"))


def test_tiles_do_not_show_when_sharpened(wavy):
    lr = torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(0))
    request = Request(tile=40, sharpness=1.0)  # a faithful network's: with back-projection
    assert verify_seams(wavy(), lr, request=request).levels < 0.001


@pytest.mark.parametrize("scale", [2, 4])
def test_alpha_goes_through_the_network_and_stays_opaque(scale):
    side = 48 * scale
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    disc = np.clip(side / 3 - np.hypot(x, y) + 0.5, 0, 1)
    large = torch.from_numpy(disc)[None, None].float()
    small = imresize(large, scale=1 / scale).clamp(0, 1)
    alpha = (small[0, 0].numpy() * 255).round().astype(np.uint8)
    image = image_of(np.full((48, 48, 3), (200, 30, 30)), alpha)
    made = upscale_image(image, Request(scale=scale, tile=80)).image

    def error(result):
        return float(np.square(result / 255 - disc).mean())

    bicubic = imresize(torch.from_numpy(alpha / 255.0)[None, None], scale=scale).clamp(0, 1)
    assert error(made.alpha.astype(float)) < 0.7 * error(bicubic[0, 0].numpy() * 255)
    inside = slice(side // 2 - 8, side // 2 + 8)
    assert (made.alpha[inside, inside] == 255).all() and (made.alpha[:4, :4] == 0).all()
    assert (made.pixels == (200, 30, 30)).all()
