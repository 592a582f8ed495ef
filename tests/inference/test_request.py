"""What is asked for becomes passes of networks and an exact size."""

import itertools
import math

import pytest

from edgekeeper.errors import InputError
from edgekeeper.inference import Enlargement, choose_passes, plan_enlargement, remembered


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (0.3, ()),
        (1, ()),
        (1.01, ()),
        (1.02, (2,)),
        (1.5, (2,)),
        (2, (2,)),
        (2.0005, (2,)),
        (2.5, (3,)),
        (3, (3,)),
        (3.7, (4,)),
        (4, (4,)),
        (5, (2, 3)),
        (6, (2, 3)),
        (7, (2, 4)),
        (8, (2, 4)),
        (9, (3, 3)),
        (10, (3, 4)),
        (16, (4, 4)),
        (17, (2, 3, 3)),
        (64, (4, 4, 4)),
    ],
)
def test_passes_of_the_networks_for_2_3_and_4(wanted, passes):
    assert choose_passes(wanted, factors=(2, 3, 4)) == passes


@pytest.mark.parametrize(
    ("wanted", "factors", "passes"),
    [
        (6, (2,), (2, 2, 2)),
        (3, (4,), (4,)),
        (5, (4,), (4, 4)),
        (2, (8, 2), (2,)),
        (9, (2, 8), (2, 8)),
    ],
)
def test_passes_of_other_networks(wanted, factors, passes):
    assert choose_passes(wanted, factors=factors) == passes


def test_no_choice_is_smaller_or_shorter():
    for tenths in range(11, 200):
        wanted = tenths / 10
        passes = choose_passes(wanted, factors=(2, 3, 4))
        assert math.prod(passes) * 1.01 >= wanted
        for length in range(1, len(passes) + 1):
            for other in itertools.product((2, 3, 4), repeat=length):
                if math.prod(other) * 1.01 >= wanted:
                    assert length == len(passes)
                    assert math.prod(other) >= math.prod(passes)


def test_networks_that_do_not_enlarge():
    assert choose_passes(0.5, factors=(1,)) == ()
    with pytest.raises(InputError, match="factor of 2 needs one"):
        choose_passes(2, factors=(1,))


@pytest.mark.parametrize(
    ("request_", "size", "passes"),
    [
        (Enlargement(factor=1.5), (150, 300), (2,)),
        (Enlargement(factor=2.005), (201, 401), (2,)),
        (Enlargement(factor=0.001), (1, 1), ()),
        (Enlargement(width=1000), (500, 1000), (2, 3)),
        (Enlargement(height=333), (333, 666), (4,)),
        (Enlargement(fit=(1000, 300)), (300, 600), (3,)),
        (Enlargement(fit=(300, 1000)), (150, 300), (2,)),
        (Enlargement(fit=(100, 100)), (50, 100), ()),
    ],
)
def test_sizes_of_a_image_of_200_by_100(request_, size, passes):
    plan = plan_enlargement((100, 200), enlargement=request_, factors=(2, 3, 4))
    assert (plan.size, plan.passes) == (size, passes)


@pytest.mark.parametrize("width", [1, 2, 7, 199, 201, 1333, 4001])
def test_the_side_that_is_asked_for_comes_out_exactly(width):
    for size in [(3, 7), (100, 200), (1999, 1333), (1, 1000)]:
        assert Enlargement(width=width).size_for(size)[1] == width
        assert Enlargement(height=width).size_for(size)[0] == width
        fitted = Enlargement(fit=(width, width)).size_for(size)
        assert max(fitted) == width


def test_without_a_request_it_is_the_network_s_factor():
    plan = plan_enlargement((5, 7), enlargement=None, factors=(3,))
    assert (plan.passes, plan.size) == ((3,), (15, 21))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"factor": 2, "width": 9},
        {"factor": 0},
        {"factor": -1},
        {"factor": math.inf},
        {"factor": math.nan},
        {"width": 0},
        {"fit": (0, 4)},
        {"fit": (4, 4), "height": 4},
    ],
)
def test_what_cannot_be_asked_for(arguments):
    with pytest.raises(InputError, match=r"positive number|Say once"):
        Enlargement(**arguments)


def test_networks_are_loaded_once_and_only_when_needed():
    loaded = []
    networks = remembered(lambda factor: loaded.append(factor) or object(), factors=(2, 3))
    assert loaded == []
    assert networks.load(3) is networks.load(3)
    assert loaded == [3]
