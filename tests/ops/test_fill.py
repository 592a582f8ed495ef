"""Colours under transparent pixels: visible ones stay, near ones are taken, bands do not matter."""

import pytest
import torch

from edgekeeper.ops.bands import BLOCK, fill_bands, fill_hidden


def canvas(height: int, width: int, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(1, channels, height, width), torch.zeros(1, 1, height, width)


def test_what_is_visible_stays_and_holes_take_the_colour_around_them() -> None:
    colours, alpha = canvas(9, 7)
    colours[0, :, 4, 3] = torch.tensor([0.1, 0.2, 0.3])
    alpha[..., 4, 3] = 1
    filled = fill_hidden(colours, alpha)
    torch.testing.assert_close(filled, colours[..., 4:5, 3:4].expand_as(filled), atol=1e-6, rtol=0)


def test_two_halves_keep_their_own_colour() -> None:
    colours, alpha = canvas(8, 16, 1)
    colours[..., :2], alpha[..., :2] = 0.4, 1
    colours[..., -2:], alpha[..., -2:] = 0.8, 1
    filled = fill_hidden(colours, alpha)
    torch.testing.assert_close(filled[..., :6], torch.full((1, 1, 8, 6), 0.4))
    torch.testing.assert_close(filled[..., -6:], torch.full((1, 1, 8, 6), 0.8))


def test_colours_are_weighted_by_their_alpha() -> None:
    colours, alpha = canvas(1, 3, 1)
    colours[0, 0, 0], alpha[0, 0, 0] = torch.tensor([0.2, 0, 1.0]), torch.tensor([0.75, 0, 0.25])
    assert float(fill_hidden(colours, alpha)[0, 0, 0, 1]) == pytest.approx(0.4)  # 0.15 + 0.25


def test_hidden_colours_do_not_count_and_visible_ones_do_not_change(
    generator: torch.Generator,
) -> None:
    colours = torch.rand(1, 3, 150, 90, generator=generator)
    alpha = (torch.rand(1, 1, 150, 90, generator=generator) < 0.01).float() * 0.5
    filled = fill_hidden(colours, alpha)
    visible = alpha.expand_as(colours) > 0
    assert torch.equal(filled[visible], colours[visible])
    other = torch.where(visible, colours, 1 - colours)
    torch.testing.assert_close(fill_hidden(other, alpha), filled)


def test_all_and_nothing_visible_are_returned_as_they_are(generator: torch.Generator) -> None:
    colours = torch.rand(1, 3, 5, 6, generator=generator)
    for alpha in (0.0, 0.01, 1.0):
        assert torch.equal(fill_hidden(colours, torch.full((1, 1, 5, 6), alpha)), colours)


def test_the_reach_ends_where_it_is_said_to() -> None:
    colours, alpha = canvas(1, 6 * BLOCK, 1)
    colours[..., 2 * BLOCK], alpha[..., 2 * BLOCK] = 1, 1
    filled = fill_hidden(colours, alpha)[0, 0, 0]
    assert (filled[BLOCK : 4 * BLOCK] > 0.999).all()
    assert (filled[:BLOCK] == 0).all()
    assert (filled[4 * BLOCK :] == 0).all()


@pytest.mark.parametrize("density", [0.9, 0.01, 0.0001])
@pytest.mark.parametrize("step", [7, 64, 500])
def test_bands_are_filled_as_the_whole_image(
    density: float, step: int, generator: torch.Generator
) -> None:
    colours = torch.rand(1, 3, 330, 140, generator=generator)
    alpha = (torch.rand(1, 1, 330, 140, generator=generator) < density).float()
    alpha[..., :100, :] = 1  # bands with nothing to fill
    both = torch.cat([colours, alpha], dim=1)
    bands = torch.cat(list(fill_bands(iter(both.split(step, -2)), height=330)), dim=-2)
    assert torch.equal(bands[:, 3:], alpha)
    torch.testing.assert_close(bands[:, :3], fill_hidden(colours, alpha), atol=1e-6, rtol=0)
