"""Colour conversions against published numbers; inverses; rounding."""

import pytest
import torch

from edgekeeper.errors import InputError
from edgekeeper.ops.color import (
    rgb_to_grey_edsr,
    rgb_to_grey_gv,
    rgb_to_y,
    rgb_to_ycbcr,
    round_uint8,
    ycbcr_to_rgb,
)

# RGB in 0..255; MATLAB luma as float and as uint8; GV grey on [0, 1]; EDSR grey on 0..255.
# From an independent script; its uint8 luma equals that of BasicSR.
COLOURS = [
    ((0, 0, 0), 16.0, 16, 0.0, 0.0),
    ((255, 255, 255), 235.0, 235, 0.9999, 219.00017578125),
    ((255, 0, 0), 81.481, 81, 0.2989, 65.4812109375),
    ((0, 255, 0), 144.553, 145, 0.587, 128.552871093750),
    ((0, 0, 255), 40.966, 41, 0.114, 24.96609375),
    ((128, 128, 128), 125.92941176470588, 126, 0.5019105882352941, 109.9295),
    ((37, 200, 121), 138.1736588235294, 138, 0.5578560784313725, 122.1736328125),
]


def pixels():
    colours = torch.tensor([row[0] for row in COLOURS], dtype=torch.float64) / 255
    return colours.T.reshape(1, 3, 1, len(COLOURS))


def column(number):
    return torch.tensor([row[number] for row in COLOURS], dtype=torch.float64)


@pytest.mark.parametrize(
    ("convert", "number", "unit"),
    [(rgb_to_y, 1, 255), (rgb_to_grey_gv, 3, 1), (rgb_to_grey_edsr, 4, 255)],
)
def test_reference_values(convert, number, unit):
    result = convert(pixels())
    assert result.shape == (1, 1, 1, len(COLOURS))
    torch.testing.assert_close(result.flatten() * unit, column(number), rtol=0, atol=1e-9)


def test_rounded_luma():
    assert torch.equal(
        (round_uint8(rgb_to_y(pixels().float())) * 255).round().flatten().double(), column(2)
    )


def test_chroma_of_primaries():
    # By hand from 128 + the BT.601 coefficients that MATLAB prints.
    expected = torch.tensor(
        [[128, 128], [128, 128], [90.203, 240], [53.797, 34.214], [240, 109.786]],
        dtype=torch.float64,
    )
    result = rgb_to_ycbcr(pixels())[0, 1:, 0, :5].T * 255
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)


def test_first_channel_is_luma_and_the_inverse_is_exact(generator):
    x = torch.rand(2, 3, 9, 7, generator=generator, dtype=torch.float64)
    ycbcr = rgb_to_ycbcr(x)
    assert torch.equal(ycbcr[:, :1], rgb_to_y(x))
    torch.testing.assert_close(ycbcr_to_rgb(ycbcr), x, rtol=0, atol=1e-14)
    every = torch.cartesian_prod(*[torch.arange(0, 256, 15.0) / 255] * 3).T[None, :, None]
    assert torch.equal(round_uint8(ycbcr_to_rgb(rgb_to_ycbcr(every))), round_uint8(every))


@pytest.mark.parametrize(
    "convert", [rgb_to_y, rgb_to_ycbcr, ycbcr_to_rgb, rgb_to_grey_gv, rgb_to_grey_edsr]
)
class TestEveryConversion:
    def test_has_a_derivative(self, convert, generator):
        x = torch.rand(1, 3, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(convert, x)

    def test_keeps_dtype_and_treats_each_image_by_itself(self, convert, generator):
        x = torch.rand(3, 3, 4, 5, generator=generator)
        together = convert(x)
        assert together.dtype == torch.float32
        assert torch.equal(torch.cat([convert(one[None]) for one in x]), together)

    def test_refuses_what_is_not_colour(self, convert):
        for wrong in (torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)):
            with pytest.raises(InputError, match=r"floats \(\.\.\., 3, H, W"):
                convert(wrong)


def test_rounding_takes_halves_upwards_and_clips():
    x = torch.tensor([-1.0, 0.0, 0.5, 1.5, 2.5, 2.4999, 254.5, 300.0], dtype=torch.float64) / 255
    levels = torch.tensor([0.0, 0, 1, 2, 3, 2, 255, 255], dtype=torch.float64)
    assert torch.equal(round_uint8(x), levels / 255)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_leaves_the_grid_alone(dtype):
    grid = torch.arange(256, dtype=dtype) / 255
    assert torch.equal(round_uint8(grid), grid)
