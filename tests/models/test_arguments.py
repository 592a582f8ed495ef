"""What the networks' arguments may be: anything else is a sentence, never a wrong network."""

import math
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from edgekeeper.errors import InputError
from edgekeeper.models import DGGGAN, EDSR, MODELS, RRDB, NatSR, SRModel
from edgekeeper.models.base import MOST, ZeroOrMore, check_arguments

NO_CHOICE = ("bogus", 2.5, None, 7, ["y"], {})
NO_COUNT = (-1, 2.5, 2.0, "many", True, None, [3], MOST + 1, 10**400)
NO_FACTOR = ("abc", -0.1, math.nan, math.inf, True, None, [1.0], 10**400)


def refused(name: str, argument: str, value: object) -> str:
    """The sentence that a network refuses an argument with."""
    with pytest.raises(InputError) as caught:
        MODELS[name](**{argument: value})
    return str(caught.value)


def types(name: str) -> dict[str, Any]:
    found = get_type_hints(MODELS[name].__init__, include_extras=True)
    return {argument: kind for argument, kind in found.items() if argument != "return"}


@pytest.mark.parametrize("name", MODELS)
def test_every_argument_is_checked_by_its_type(name: str) -> None:
    title = MODELS[name].__name__
    for argument, kind in types(name).items():
        if argument == "scale":
            for value in (1, 5, 16, 2.0, True, "2", [2], None):
                assert refused(name, argument, value).startswith(f"{title} has no scale {value}; ")
        elif kind is bool or get_origin(kind) is Literal:
            choices = (True, False) if kind is bool else get_args(kind)
            allowed = ", ".join(map(str, choices))
            for value in NO_CHOICE:
                sentence = f"{title}'s {argument} is one of {allowed}; got {value!r}."
                assert refused(name, argument, value) == sentence
        elif kind is int or get_origin(kind) is Annotated:
            least, most = (1, MOST) if kind is int else kind.__metadata__
            for value in (*NO_COUNT, least - 1, most + 1):
                expected = f"{argument} is a whole number from {least} to {most}; got {value!r}."
                assert refused(name, argument, value) == f"{title}'s {expected}"
        elif kind is float:
            for value in NO_FACTOR:
                expected = f"{argument} is a finite number, 0 or more; got {value!r}."
                assert refused(name, argument, value) == f"{title}'s {expected}"
        else:  # each has a check of its own
            assert (name, argument) in {
                ("spsr", "taps"),
                ("gradientbranch", "taps"),
                ("gradientbranch", "backbone"),
                ("gradientbranch", "enlarge"),
            }


def test_some_arguments_of_each_kind_by_hand() -> None:
    assert types("edsr")["upsampler"] == Literal["steps", "direct"]
    assert types("vdsr")["bias"] == Literal["none", "all"]
    assert types("dgggan")["se"] is bool and types("rcan")["reduction"] is int
    assert types("srresnet")["epsilon"] is float
    assert {(n, a) for n in MODELS for a, kind in types(n).items() if kind == ZeroOrMore} == {
        ("rrdb", "blocks"),
        ("edsr", "border"),
        ("fsrcnn", "mapping"),
        ("dggganlight", "gradient_width"),
    }
    for name, argument in (("rrdb", "blocks"), ("fsrcnn", "mapping"), ("natsr", "levels")):
        small = {"width": 4} | ({"growth": 2} if name == "rrdb" else {})
        MODELS[name](**small, **{argument: 0})


@pytest.mark.parametrize("name", [name for name in MODELS if name != "gradientbranch"])
def test_the_scales_are_those_that_are_built(name: str) -> None:
    assert MODELS[name].scales == ((2, 4, 8) if name == "dbpn" else (2, 3, 4))
    for scale in MODELS[name].scales:
        with torch.device("meta"):
            assert MODELS[name](scale=scale).scale == scale


@pytest.mark.parametrize("taps", [5, "1", ("a",), (1.0,), (True,), None, ([1],)])
def test_taps_that_are_no_numbers_of_blocks_are_refused(taps: object) -> None:
    assert "increasing, at least one; got " in refused("spsr", "taps", taps)


def test_what_belongs_to_another_argument() -> None:
    with pytest.raises(InputError, match="RRDB has no unshuffle=2 at scale 3"):
        RRDB(scale=3, unshuffle=2)
    with pytest.raises(InputError, match="DGGGAN's width is a multiple of 4"):
        DGGGAN(width=6)


def test_the_fractal_is_bounded() -> None:
    assert refused("natsr", "levels", 40) == (
        "NatSR's levels is a whole number from 0 to 8; got 40."
    )
    assert len(NatSR(width=1, layers=1, levels=8).blocks) == 256


class Odd(SRModel):
    def __init__(self, *, truth: bool = False, factor: float = 1.0, own: object = None) -> None:
        super().__init__()


def test_what_is_allowed_passes() -> None:
    for factor in (0, 0.0, 1, 1e-5, 1e300):
        check_arguments(Odd, {"truth": True, "factor": factor, "own": []})
    with pytest.raises(InputError, match="Odd's truth is one of True, False; got 1"):
        Odd(truth=1)  # type: ignore[arg-type]
    assert EDSR(scale=2, width=4, blocks=1, residual_scale=1).receptive_field == 6
