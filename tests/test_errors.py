import inspect

import pytest

from edgekeeper import errors
from edgekeeper.errors import EdgekeeperError, InputError, nearest_name, unknown_name

OURS = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, Exception)
]


def test_every_error_can_be_caught_by_one_base() -> None:
    assert len(OURS) >= 7
    assert all(issubclass(found, EdgekeeperError) for found in OURS)


def test_the_base_catches_no_error_of_python() -> None:
    assert EdgekeeperError.__bases__ == (Exception,)
    assert not issubclass(KeyError, EdgekeeperError)


def test_a_bad_argument_is_also_a_value_error() -> None:
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("EDRS", "EDSR"),
        ("edsr", "EDSR"),
        ("espcm", "ESPCN"),
        ("GradientVarience", "GradientVariance"),
    ],
)
def test_nearest_name_finds_a_typo_whatever_the_case(given: str, nearest: str) -> None:
    assert nearest_name(given, ["VDSR", "EDSR", "ESPCN", "GradientVariance"]) == nearest


def test_nearest_name_finds_nothing_in_something_else() -> None:
    assert nearest_name("zzzz", ["EDSR", "ESPCN"]) is None
    assert nearest_name("EDSR", []) is None


def test_unknown_name_says_what_was_given_what_is_near_and_what_is_allowed() -> None:
    error = unknown_name("model", "esdr", known=["edsr", "vdsr"])
    assert isinstance(error, InputError)
    assert str(error) == "There is no model 'esdr'. Did you mean 'edsr'? Known: edsr, vdsr."


def test_unknown_name_takes_an_iterator_and_offers_no_far_fetched_name() -> None:
    message = str(unknown_name("model", "qqq", known=iter(["edsr", "vdsr"])))
    assert message == "There is no model 'qqq'. Known: edsr, vdsr."
