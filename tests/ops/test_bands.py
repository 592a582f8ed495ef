"""What flows in bands is what is made of the whole image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekeeper.errors import InputError
from edgekeeper.ops.bands import resize_bands
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import RowWindow

lengths = st.integers(1, 60)


def random(*size: int) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(sum(size)))


@settings(deadline=None, max_examples=25)
@given(lengths, lengths, lengths, lengths, st.integers(1, 9))
def test_streamed_equals_whole(height, width, rows, columns, step):
    x = random(1, 2, height, width)
    bands = list(resize_bands(iter(x.split(step, -2)), size=(height, width), to=(rows, columns)))
    whole = imresize(x, size=(rows, columns))
    torch.testing.assert_close(torch.cat(bands, -2), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("to", [(700, 20), (300, 50), (13, 31), (1, 1)])
def test_streamed_equals_whole_over_many_bands(to):
    x = random(1, 3, 400, 30)
    bands = list(resize_bands(iter(x.split(32, -2)), size=(400, 30), to=to))
    assert max(band.shape[-2] for band in bands) <= 64
    torch.testing.assert_close(torch.cat(bands, -2), imresize(x, size=to), atol=1e-6, rtol=0)


def test_no_more_is_read_than_is_needed():
    read = 0

    def bands():
        nonlocal read
        for row in range(0, 10_000, 10):
            read = row + 10
            yield torch.zeros(1, 1, 10, 4)

    made = resize_bands(bands(), size=(10_000, 4), to=(15_000, 6))
    for count in range(1, 5):
        next(made)
        assert read <= count * 64 / 1.5 + 12


def test_a_window_moves_down_and_forgets():
    x = random(1, 1, 20, 3)
    window = RowWindow(iter(x.split(3, -2)))
    for start, stop in [(0, 2), (0, 7), (4, 9), (4, 5), (8, 20), (19, 20)]:
        assert torch.equal(window.rows(start, stop), x[..., start:stop, :])
    with pytest.raises(InputError, match="Row 2 was asked for after row 18"):
        window.rows(2, 3)
    with pytest.raises(InputError, match="ended at row 20, before row 21"):
        window.rows(19, 21)


def test_a_window_lets_bands_go_that_were_jumped_over():
    alive: list[int] = []

    def bands():
        for number in range(50):
            alive.append(number)
            yield torch.full((1, 1, 2, 2), float(number))

    window = RowWindow(bands())
    assert float(window.rows(90, 91)[0, 0, 0, 0]) == 45
    assert len(window._held) == 1
    assert alive[-1] == 45
