import numpy as np

from edgekeeper.ops.fill import fill_holes


def test_what_is_visible_stays_and_holes_take_the_colour_around_them() -> None:
    colours = np.zeros((9, 7, 3), np.float32)
    visible = np.zeros((9, 7, 1), np.float32)
    colours[4, 3] = (10, 20, 30)
    visible[4, 3] = 1
    filled = fill_holes(colours, visible)
    assert np.array_equal(filled, np.broadcast_to(np.float32([10, 20, 30]), filled.shape))


def test_two_halves_keep_their_own_colour() -> None:
    colours = np.zeros((8, 16, 1), np.float32)
    visible = np.zeros_like(colours)
    colours[:, :2], visible[:, :2] = 100, 1
    colours[:, -2:], visible[:, -2:] = 200, 1
    filled = fill_holes(colours, visible)
    assert (filled[:, :4] == 100).all()
    assert (filled[:, -4:] == 200).all()
    assert filled.min() >= 100
    assert filled.max() <= 200


def test_all_visible_is_returned_as_it_is() -> None:
    colours = np.random.default_rng(0).random((5, 6, 3), dtype=np.float32)
    assert np.array_equal(fill_holes(colours, np.ones((5, 6, 1), np.float32)), colours)
