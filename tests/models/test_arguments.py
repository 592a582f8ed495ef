"""What the networks' arguments may be: anything else is a sentence, never a wrong network."""

import math

import pytest

from edgekeeper.errors import InputError
from edgekeeper.models import EDSR, MODELS, RRDB, NatSR
from edgekeeper.models.base import MOST, check_choice, check_counts, check_factor, check_scale

CHOICES: dict[str, dict[str, tuple[object, ...]]] = {
    "srcnn": {"channels": ("rgb", "y"), "middle": (1, 5)},
    "vdsr": {
        "variant": ("y", "gv", "rgb"),
        "interpolation": ("bicubic", "bilinear"),
        "bias": ("none", "all"),
    },
    "espcn": {"channels": ("rgb", "y")},
    "edsr": {"upsampler": ("steps", "direct"), "skip": ("none", "bicubic")},
    "fsrcnn": {"channels": ("rgb", "y")},
    "srresnet": {
        "norm": ("batch", "none"),
        "bias": (True, False),
        "slopes": ("shared", "maps"),
        "output": ("linear", "tanh"),
    },
    "sftgan": {"variant": ("pytorch", "torch")},
    "dgggan": {
        "body": ("half", "lr"),
        "image_skip": ("none", "bilinear", "bicubic"),
        "gradient_branch": (True, False),
        "se": (True, False),
    },
}
COUNTS: dict[str, tuple[str, ...]] = {
    "edsr": ("width", "blocks"),
    "rrdb": ("width", "growth", "blocks"),
    "spsr": ("width", "blocks", "growth"),
    "sftgan": ("width", "blocks", "condition", "hidden"),
    "natsr": ("width", "levels", "layers"),
    "srresnet": ("width", "blocks"),
    "msrresnet": ("width", "blocks"),
    "fsrcnn": ("width", "narrow", "mapping"),
    "imdn": ("width", "blocks"),
    "rcan": ("width", "groups", "blocks", "reduction"),
    "rdn": ("width", "blocks", "layers", "growth"),
    "dbpn": ("width", "stages", "first"),
    "dgggan": ("width", "blocks", "grad_every"),
    "chainsr": ("width", "blocks", "depth"),
    "srvggnetcompact": ("width", "convolutions"),
    "dggganlight": ("width", "blocks", "grad_every", "gradient_width"),
}
MAY_BE_ZERO = {
    ("rrdb", "blocks"),
    ("natsr", "levels"),
    ("fsrcnn", "mapping"),
    ("dggganlight", "gradient_width"),
}
OWN_SENTENCE = {("dgggan", "width"), ("dgggan", "grad_every")}  # for whole numbers that do not fit

EACH_CHOICE = [(name, argument) for name, given in CHOICES.items() for argument in given]
EACH_COUNT = [(name, argument) for name, given in COUNTS.items() for argument in given]
EACH_FACTOR = [
    ("edsr", "residual_scale"),
    ("natsr", "residual_scale"),
    ("srresnet", "epsilon"),
]


def refused(name: str, argument: str, value: object) -> str:
    """The sentence that a network refuses an argument with."""
    with pytest.raises(InputError) as caught:
        MODELS[name](**{argument: value})
    return str(caught.value)


@pytest.mark.parametrize(("name", "argument"), EACH_CHOICE)
@pytest.mark.parametrize("value", ["bogus", 2, None, 1.0, ["y"], {}])
def test_an_unknown_word_is_refused(name: str, argument: str, value: object) -> None:
    allowed = ", ".join(map(str, CHOICES[name][argument]))
    title = MODELS[name].__name__
    assert refused(name, argument, value) == f"{title}'s {argument} is one of {allowed}; got " + (
        f"{value!r}."
    )


@pytest.mark.parametrize(("name", "argument"), EACH_COUNT)
@pytest.mark.parametrize("value", [-1, 2.5, 2.0, "many", True, None, [3], MOST + 1, 10**400])
def test_what_is_no_count_is_refused(name: str, argument: str, value: object) -> None:
    sentence = refused(name, argument, value)
    assert sentence.startswith(f"{MODELS[name].__name__}'s {argument} is a whole number from ")
    assert sentence.endswith(f"; got {value!r}.")


@pytest.mark.parametrize(("name", "argument"), EACH_COUNT)
def test_nothing_of_something_is_refused_where_it_is_needed(name: str, argument: str) -> None:
    if (name, argument) in MAY_BE_ZERO:
        small = {"width": 4} | ({"growth": 2} if name == "rrdb" else {})
        MODELS[name](**small, **{argument: 0})
    elif (name, argument) in OWN_SENTENCE:
        assert argument in refused(name, argument, 0)
    else:
        assert refused(name, argument, 0).endswith(
            f"{argument} is a whole number from 1 to 1024; got 0."
        )


@pytest.mark.parametrize(("name", "argument"), EACH_FACTOR)
@pytest.mark.parametrize("value", ["abc", -0.1, math.nan, math.inf, True, None, [1.0], 10**400])
def test_what_is_no_factor_is_refused(name: str, argument: str, value: object) -> None:
    sentence = refused(name, argument, value)
    assert f"'s {argument} is a finite number, 0 or more; got " in sentence


@pytest.mark.parametrize("taps", [5, "1", ("a",), (1.0,), (True,), None, ([1],)])
def test_taps_that_are_no_numbers_of_blocks_are_refused(taps: object) -> None:
    assert "increasing, at least one; got " in refused("spsr", "taps", taps)


@pytest.mark.parametrize("unshuffle", [1.0, True, "2", None, [2]])
def test_an_unshuffle_of_another_type_is_refused(unshuffle: object) -> None:
    with pytest.raises(InputError, match="RRDB has no unshuffle="):
        RRDB(scale=2, unshuffle=unshuffle)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [2.0, "2", [2], None])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "gradientbranch"])
def test_a_scale_of_another_type_is_refused(name: str, scale: object) -> None:
    assert "has no scale" in refused(name, "scale", scale)


def test_the_fractal_is_bounded() -> None:
    assert refused("natsr", "levels", 40) == (
        "NatSR's levels is a whole number from 0 to 8; got 40."
    )
    assert len(NatSR(width=1, layers=1, levels=8).blocks) == 256


def test_every_argument_with_a_default_is_checked() -> None:
    """Each network that takes a word, a truth, a number or a count is listed above."""
    listed = {*EACH_CHOICE, *EACH_COUNT, *EACH_FACTOR, ("spsr", "taps"), ("rrdb", "unshuffle")}
    for name, network in MODELS.items():
        if name == "gradientbranch":  # has checks, and tests, of its own
            continue
        annotations = set(network.__init__.__annotations__) - {"return", "scale"}
        assert annotations == {argument for owner, argument in listed if owner == name}


class TestChecks:
    def test_what_is_allowed_passes(self) -> None:
        check_scale(2, allowed=(2, 3), model="A")
        check_choice("word", "b", allowed=("a", "b"), model="A")
        check_choice("truth", False, allowed=(True, False), model="A")
        check_counts({"n": 1, "m": MOST}, model="A")
        check_counts({"n": 0}, model="A", least=0)
        for factor in (0, 0.0, 1, 1e-5, 1e300):
            check_factor("f", factor, model="A")

    def test_the_last_count_is_looked_at_too(self) -> None:
        with pytest.raises(InputError, match="A's m is a whole number from 1 to 5; got 6"):
            check_counts({"n": 5, "m": 6}, model="A", most=5)

    def test_one_is_not_true(self) -> None:
        with pytest.raises(InputError, match="one of True, False; got 1"):
            check_choice("truth", 1, allowed=(True, False), model="A")

    def test_whole_factors_are_numbers(self) -> None:
        assert EDSR(scale=2, width=4, blocks=1, residual_scale=1).receptive_field == 6
