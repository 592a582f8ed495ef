import json
from dataclasses import FrozenInstanceError, replace

import pytest

from edgekeeper.errors import InputError
from edgekeeper.metrics import PROTOCOLS, Protocol, find_protocol


@pytest.mark.parametrize("name", PROTOCOLS)
def test_json_and_back(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert protocol.name == name
    assert Protocol.from_json(json.loads(json.dumps(protocol.to_json()))) == protocol
    assert find_protocol(name) is find_protocol(protocol) is protocol


def test_unlike_conditions_are_unlike_protocols() -> None:
    protocol = PROTOCOLS["y_matlab"]
    assert replace(protocol, border=4) != protocol
    with pytest.raises(FrozenInstanceError):
        protocol.border = 4  # type: ignore[misc]


def test_stored_fields_must_be_the_known_ones() -> None:
    stored = PROTOCOLS["gv_repo"].to_json()
    with pytest.raises(InputError, match=r"no protocol field 'boarder'. Did you mean 'border'"):
        Protocol.from_json({**stored, "boarder": 4})
    del stored["lr"]
    with pytest.raises(InputError, match="lacks the fields lr"):
        Protocol.from_json(stored)


def test_wrong_values_name_the_allowed_ones() -> None:
    with pytest.raises(InputError, match="Did you mean 'y_matlab'"):
        find_protocol("y-matlab")
    with pytest.raises(InputError, match=r"no Protocol.rounding 'uint8'. .*Known: none, rgb"):
        replace(PROTOCOLS["y_matlab"], rounding="uint8")  # type: ignore[arg-type]
    for border in (-1, 1.0, True, "size"):
        with pytest.raises(InputError, match="number of pixels or 'scale'"):
            replace(PROTOCOLS["y_matlab"], border=border)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no luma to round"):
        replace(PROTOCOLS["rgb_matlab"], rounding="rgb_and_y")
