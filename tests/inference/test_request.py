"""What is asked for becomes passes of networks and an exact size."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from edgekeeper.errors import InputError
from edgekeeper.inference import Request, Result, networks_for
from edgekeeper.inference.choose import plan_passes
from edgekeeper.models import ESPCN
from edgekeeper.pretrained.zoo import DEFAULTS, choose_passes, load_network

PASSES = {
    (2, 3, 4): {
        0.3: (),
        1: (),
        1.01: (),
        1.02: (2,),
        1.5: (2,),
        2: (2,),
        2.0005: (2,),
        2.5: (3,),
        3: (3,),
        3.7: (4,),
        4: (4,),
        5: (2, 3),
        6: (2, 3),
        7: (2, 4),
        8: (2, 4),
        9: (3, 3),
        10: (3, 4),
        16: (4, 4),
        17: (2, 3, 3),
        64: (4, 4, 4),
    },
    (2,): {6: (2, 2, 2)},
    (4,): {3: (4,), 5: (4, 4)},
    (8, 2): {2: (2,)},
    (2, 8): {9: (2, 8)},
}


def test_passes():
    for factors, wanted in PASSES.items():
        for factor, passes in wanted.items():
            assert choose_passes(factor, factors=factors) == passes, (factor, factors)


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


def test_sizes_of_an_image_of_200_by_100():
    for request, size, passes in [
        (Request(scale=1.5), (150, 300), (2,)),
        (Request(scale=2.005), (201, 401), (2,)),
        (Request(scale=0.001), (1, 1), ()),
        (Request(width=1000), (500, 1000), (2, 3)),
        (Request(height=333), (333, 666), (4,)),
        (Request(fit=(1000, 300)), (300, 600), (3,)),
        (Request(fit=(300, 1000)), (150, 300), (2,)),
        (Request(fit=(100, 100)), (50, 100), ()),
    ]:
        plan = plan_passes((100, 200), request, factors=(2, 3, 4))
        assert (plan.size, plan.passes) == (size, passes), request


def test_the_side_that_is_asked_for_comes_out_exactly():
    for side in (1, 2, 7, 199, 201, 1333, 4001):
        for size in [(3, 7), (100, 200), (1999, 1333), (1, 1000)]:

            def made(size=size, **asked):
                return plan_passes(size, Request(**asked), factors=(2, 3, 4)).size

            assert made(width=side)[1] == side
            assert made(height=side)[0] == side
            assert max(made(fit=(side, side))) == side


def test_without_a_size_it_is_the_largest_factor_of_the_networks():
    plan = plan_passes((5, 7), Request(), factors=(2, 3))
    assert (plan.passes, plan.size) == ((3,), (15, 21))
    assert Request().label((2, 3)) == "_x3"


def test_what_cannot_be_asked_for():
    for name, wrong in [
        ("scale", [0, -1, math.inf, math.nan, 1e308, "4", True, (2, 2)]),
        ("width", [0, 100.5, 10**400, "a"]),
        ("height", [3.2, -1]),
        ("fit", [(0, 4), (100.5, 200), (100,), (1, 2, 3), [4, 4], 100]),
        ("strength", [-0.1, 1.5, math.nan, "0.5", (1,)]),
        ("sharpness", [2, math.nan, "a"]),
        ("tile", [0, 64.0, True, None]),
        ("threads", [0, -3, "a"]),
        ("frames", ["some"]),
    ]:
        for value in wrong:
            with pytest.raises(InputError, match=name):
                Request(**{name: value})
    for asked in [{"scale": 2, "width": 9}, {"fit": (4, 4), "height": 4}]:
        with pytest.raises(InputError, match="Say once"):
            Request(**asked)
    number = np.int64(64)
    assert Request(width=number, tile=number, threads=number).label((4,)) == "_w64"


def test_networks_are_loaded_once_and_only_when_needed(monkeypatch):
    loaded = []

    def watched(name, **rest):
        loaded.append(name)
        return load_network(name, **rest)

    monkeypatch.setattr("edgekeeper.inference.choose.load_network", watched)
    networks = networks_for(Request(style="sharp"))
    assert networks.factors == (2, 3, 4)
    assert loaded == []
    assert networks.load(3) is networks.load(3) is networks.alpha.load(3)
    assert loaded == [DEFAULTS["sharp"][3]]


def test_networks_that_are_given_stay_what_they_are(nearest):
    model = nearest(scale=3)
    networks = networks_for(Request(model=model))
    assert networks.factors == (3,) and networks.load(3) is model
    assert networks_for(Request(model=networks)) is networks
    assert networks_for(Request(model="espcn_x2")).factors == (2,)
    with pytest.raises(InputError, match="Did you mean"):
        networks_for(Request(model="espcn_x22"))
    with pytest.raises(InputError, match="run by onnx, not by openvino"):
        networks_for(Request(model="file.onnx", runtime="openvino"))
    with pytest.raises(InputError, match="OpenVINO not on cuda"):
        networks_for(Request(model="file.xml", device="cuda"))
    with pytest.raises(InputError, match="OpenVINO not on mps"):
        networks_for(Request(model="file.onnx", device="mps"))


def test_networks_are_on_the_device_that_is_asked_for(monkeypatch):
    for there, device in [(False, "cpu"), (True, "cuda")]:
        moved: list[str] = []
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        monkeypatch.setattr(ESPCN, "to", lambda model, name, to=moved: to.append(name) or model)
        networks_for(Request(model="espcn_x2", device="auto"))
        assert moved == [device]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for asked in (Request(device="cuda"), Request(model="espcn_x2", device="cuda")):
        with pytest.raises(InputError, match="no cuda device"):
            networks_for(asked)


def test_a_result_is_what_json_takes():
    result = Result(
        source=Path("a.png"), target=Path("b.png"), source_size=(3, 4), size=(6, 8), seconds=1.23456
    )
    told = json.loads(json.dumps(result.as_json()))
    assert (told["input"], told["output"], told["status"]) == ("a.png", "b.png", "done")
    assert (told["input_size"], told["output_size"]) == ([4, 3], [8, 6])
    assert told["seconds"] == 1.2346
    assert told["drift"] is told["seams"] is told["report"] is None
    assert "frames" not in told
