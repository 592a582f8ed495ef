import json
from typing import Literal

import pytest
from torch import nn

from edgekeeper.errors import InputError
from edgekeeper.losses import L1, GradientVariance
from edgekeeper.models import EDSR, ESPCN, MODELS, GradientBranch
from edgekeeper.spec import Spec, from_json, spec

MODEL_CLASSES = {model.__name__: model for model in MODELS.values()}


class Box:
    """Something with one argument that must be given and two that may."""

    def __init__(
        self, *, width: int, colour: Literal["red", "blue"] = "red", depth: int = 1
    ) -> None:
        self.sizes = (width, depth)
        self.colour = colour


class Keeper:
    """Something that keeps what it is given."""

    def __init__(self, *, value: object) -> None:
        self.value = value


class Swallower(nn.Module):
    """A class that takes, and ignores, every keyword."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()


def test_building_calls_the_class_with_the_arguments() -> None:
    box = spec(Box, width=3, colour="blue").build()
    assert isinstance(box, Box)
    assert (box.sizes, box.colour) == ((3, 1), "blue")


def test_each_build_is_a_new_object() -> None:
    description = spec(Box, width=3)
    assert description.build() is not description.build()


def test_a_typo_is_refused_at_once_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"EDSR has no argument 'widht'. Did you mean 'width'\?"):
        spec(EDSR, scale=2, widht=8)  # type: ignore[call-arg]


def test_an_unknown_argument_is_answered_with_the_allowed_ones() -> None:
    with pytest.raises(InputError, match="It takes: width, colour, depth"):
        spec(Box, width=1, zzzz=2)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="It takes: none"):
        spec(L1, weight=2.0)


def test_a_class_that_swallows_keywords_does_not_swallow_a_typo() -> None:
    with pytest.raises(InputError, match="has no argument 'anything'"):
        spec(Swallower, anything=1)


def test_arguments_by_position_are_refused() -> None:
    with pytest.raises(InputError, match="by keyword"):
        spec(Box, 3)  # type: ignore[call-arg, misc]
    with pytest.raises(InputError, match="by keyword"):
        spec(Swallower, 3)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(InputError, match="Box needs the argument 'width'"):
        spec(Box, depth=1)  # type: ignore[call-arg]


def test_equal_specs_are_equal_whatever_the_order_of_the_arguments() -> None:
    one, other = spec(Box, width=1, depth=2), spec(Box, depth=2, width=1)
    assert one == other
    assert hash(one) == hash(other)


def test_specs_differ_in_class_and_in_each_argument() -> None:
    base = spec(EDSR, scale=2, width=4)
    assert base != spec(EDSR, scale=2, width=5)
    assert base != spec(EDSR, scale=2)
    assert spec(ESPCN, scale=2) != spec(EDSR, scale=2)


def test_a_spec_cannot_be_changed() -> None:
    description = spec(Box, width=1)
    with pytest.raises(AttributeError):
        description.target = Box  # type: ignore[misc]


def test_specs_survive_json() -> None:
    models: list[Spec[nn.Module]] = [
        spec(ESPCN),
        spec(EDSR, scale=4, width=48, residual_scale=0.1, upsampler="direct", skip="bicubic"),
    ]
    for description in models:
        text = json.dumps(description.to_json())
        assert from_json(json.loads(text), known=MODEL_CLASSES) == description
    loss = spec(GradientVariance, patch=16, data_range=255.0)
    text = json.dumps(loss.to_json())
    assert from_json(json.loads(text), known={"GradientVariance": GradientVariance}) == loss


BRANCH = spec(
    GradientBranch,
    backbone=spec(EDSR, scale=3, width=8, blocks=1),
    width=4,
    taps=("blocks.0", "head"),
)


def test_a_spec_among_the_arguments_survives_json() -> None:
    plain = BRANCH.to_json()
    assert plain["arguments"] == {
        "backbone": {"name": "EDSR", "arguments": {"scale": 3, "width": 8, "blocks": 1}},
        "taps": ["blocks.0", "head"],
        "width": 4,
    }
    again = from_json(json.loads(json.dumps(plain)), known=MODEL_CLASSES)
    assert again == BRANCH and hash(again) == hash(BRANCH)
    twice = spec(GradientBranch, backbone=BRANCH)
    assert from_json(json.loads(json.dumps(twice.to_json())), known=MODEL_CLASSES) == twice


def test_what_is_wrong_within_a_spec_among_the_arguments_is_named() -> None:
    plain = json.dumps(BRANCH.to_json())
    with pytest.raises(InputError, match="Did you mean 'EDSR'"):
        from_json(json.loads(plain.replace('"EDSR"', '"EDSRR"')), known=MODEL_CLASSES)
    with pytest.raises(InputError, match="EDSR has no argument 'widht'"):
        from_json(json.loads(plain.replace('"width": 8', '"widht": 8')), known=MODEL_CLASSES)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "EDSR"},
        {"name": "EDSR", "arguments": 3},
        {"name": 1, "arguments": {}},
        {"name": "EDSR", "arguments": {}, "more": 1},
        {"deep": {"er": 1}},
        {},
    ],
)
def test_a_dictionary_is_not_mistaken_for_a_spec(value: dict[str, object]) -> None:
    description = spec(Keeper, value=value)
    again = from_json(json.loads(json.dumps(description.to_json())), known={"Keeper": Keeper})
    assert again == description
    assert again.build().value == value


def test_a_dictionary_that_would_be_mistaken_is_refused() -> None:
    with pytest.raises(InputError, match="would be read as a class"):
        spec(Keeper, value={"name": "EDSR", "arguments": {"scale": 2}}).to_json()


def test_json_of_an_unknown_class_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'EDSR'"):
        from_json({"name": "EDSRR", "arguments": {}}, known=MODEL_CLASSES)


def test_json_with_a_wrong_argument_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'width'"):
        from_json({"name": "EDSR", "arguments": {"widths": 4}}, known=MODEL_CLASSES)


@pytest.mark.parametrize(
    "data", [{}, {"name": "EDSR"}, {"name": 3, "arguments": {}}, {"name": "EDSR", "arguments": [1]}]
)
def test_json_of_another_shape_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(InputError, match="'name' and 'arguments'"):
        from_json(data, known=MODEL_CLASSES)
