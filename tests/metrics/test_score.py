import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekeeper.errors import DataError, InputError
from edgekeeper.metrics import PROTOCOLS, protocol, psnr
from edgekeeper.metrics.score import (
    ALL_METRICS,
    METRICS,
    Score,
    find_metrics,
    mean_scores,
    read_scores,
    score_image,
    summarise,
    write_scores,
)


def score(*, equal: bool = False, protocol: str = "y_matlab", image: str = "baby") -> Score:
    hr = torch.rand(1, 3, 40, 44, generator=torch.Generator().manual_seed(1))
    sr = hr if equal else hr * 0.9
    return score_image(
        sr,
        hr,
        set_name="set5",
        image=image,
        scale=2,
        model="ours",
        protocol=PROTOCOLS[protocol],
        lr_kernel="matlab_uint8",
    )


def test_a_line_of_json_and_back() -> None:
    for one in (score(), score(equal=True), score(protocol="gv_repo")):
        line = one.to_json()
        assert "\n" not in line
        record = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert record["protocol"] == one.protocol.name
        assert record["protocol_in_full"]["border"] == one.protocol.border
        assert set(METRICS) <= record.keys()
        assert Score.from_json(line) == one
    assert json.loads(score(equal=True).to_json())["psnr"] == "inf"


def test_the_numbers_are_those_of_the_metrics() -> None:
    hr = torch.rand(1, 3, 40, 44, generator=torch.Generator().manual_seed(1))
    one = score()
    assert one.psnr == psnr(hr * 0.9, hr, scale=2).item()
    assert one.gv_ratio == pytest.approx((one.gv_ratio_x + one.gv_ratio_y) / 2)
    assert one.gv_gap == pytest.approx((one.gv_gap_x + one.gv_gap_y) / 2)
    equal = score(equal=True)
    assert (equal.psnr, equal.ssim, equal.gradient_psnr) == (math.inf, pytest.approx(1.0), math.inf)
    assert (equal.gv_ratio, equal.gv_gap, equal.gmsd) == (1, 0, 0)


def test_the_images_are_made_ready_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    plain = protocol.check_range

    def counted(name: str, image: torch.Tensor, *, beyond: float) -> None:
        checked.append(name)
        plain(name, image, beyond=beyond)

    monkeypatch.setattr(protocol, "check_range", counted)
    for _ in range(2):  # the second pair by itself
        score()
    assert checked == ["hr", "sr"] * 2


def test_sizes_that_differ_are_both_named() -> None:
    with pytest.raises(DataError, match=r"set5 'baby': the result of RCAN is 44x39.* is 44x40"):
        score_image(
            torch.zeros(1, 3, 39, 44),
            torch.zeros(1, 3, 40, 44),
            set_name="set5",
            image="baby",
            scale=2,
            model="RCAN",
            protocol=PROTOCOLS["y_matlab"],
            lr_kernel="unknown",
        )


def test_means_per_set_model_and_protocol() -> None:
    first, second = replace(score(), psnr=30.0), replace(score(image="bird"), psnr=31.0)
    other = replace(score(protocol="y_float"), psnr=40.0)
    rows = summarise([first, other, second])
    assert [(row.protocol.name, row.images, row.means["psnr"]) for row in rows] == [
        ("y_matlab", 2, 30.5),
        ("y_float", 1, 40.0),
    ]
    assert mean_scores([first, second])["psnr"] == 30.5
    assert mean_scores([first, score(equal=True)])["psnr"] == math.inf
    with pytest.raises(InputError, match="2 combinations"):
        mean_scores([first, other])
    with pytest.raises(InputError, match="0 combinations"):
        mean_scores([])


def test_written_and_read(tmp_path: Path) -> None:
    # Line ends of Unicode, and a byte that is no UTF-8, as Python has it in a name.
    scores = [score(), *(score(equal=True, image=name) for name in ("b\u2028\x85d", "b\udcff"))]
    path = tmp_path / "scores.jsonl"
    write_scores(scores, path)
    assert read_scores(path) == scores
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_scores([score()], tmp_path / "no" / "scores.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path / "scores.jsonl")
    path = tmp_path / "scores.jsonl"
    path.write_text(score().to_json()[:-9])
    with pytest.raises(DataError, match=r"line 1 of '.*scores.jsonl'"):
        read_scores(path)
    record = json.loads(score().to_json())
    del record["gmsd"]
    path.write_text(score().to_json() + "\n" + json.dumps(record))
    with pytest.raises(DataError, match=r"line 2 .*gmsd"):
        read_scores(path)


def test_perceptual_numbers_stand_in_the_line_when_they_were_asked_for() -> None:
    plain = json.loads(score().to_json())
    assert not plain.keys() & {"lpips", "niqe", "ma", "pi", "unavailable"}
    asked = replace(score(), lpips=0.25, unavailable=(("niqe", "too small"),))
    record = json.loads(asked.to_json())
    assert record["lpips"] == 0.25
    assert record["niqe"] is None
    assert record["unavailable"] == {"niqe": "too small"}
    assert not record.keys() & {"ma", "pi"}
    assert Score.from_json(asked.to_json()) == asked
    assert asked.asked == ("lpips", "niqe")
    assert (asked.value("lpips"), asked.value("niqe"), asked.value("psnr")) == (
        0.25,
        None,
        asked.psnr,
    )


def test_a_damaged_list_of_reasons_is_refused() -> None:
    record = json.loads(score().to_json()) | {"unavailable": "niqe"}
    with pytest.raises(DataError, match="'unavailable'"):
        Score.from_json(json.dumps(record))
    with pytest.raises(DataError, match="fields lpis"):
        Score.from_json(json.dumps(json.loads(score().to_json()) | {"lpis": 1.0}))


def test_a_mean_says_how_many_images_entered() -> None:
    there = [replace(score(image=name), niqe=value) for name, value in (("a", 4.0), ("b", 6.0))]
    missing = [
        replace(score(image=name), unavailable=(("niqe", "NIQE needs two blocks."),))
        for name in "cdefgh"
    ]
    none = replace(score(image="i"), unavailable=(("niqe", "It is flat."),))
    (row,) = summarise([*there, *missing, none])
    assert row.means["niqe"] == 5.0
    assert (row.images, row.counted) == (9, {"niqe": 2})
    assert row.notes == (
        "set5: NIQE is unavailable for 6 of 9 images ('c', 'd', 'e', 'f' and others). "
        "NIQE needs two blocks.",
        "set5: NIQE is unavailable for 1 of 9 images ('i'). It is flat.",
    )
    (row,) = summarise([none])
    assert "niqe" not in row.means
    assert row.notes == ("set5: NIQE is unavailable for every image. It is flat.",)
    (row,) = summarise([score()])
    assert (row.counted, row.notes) == ({}, ())


def test_metrics_are_found_by_name() -> None:
    assert find_metrics(["lpips", "psnr", "lpips"]) == ("lpips", "psnr")
    assert find_metrics(ALL_METRICS) == tuple(ALL_METRICS)
    with pytest.raises(InputError, match=r"no metric 'lpisp'\. Did you mean 'lpips'"):
        find_metrics(["lpisp"])
    with pytest.raises(InputError, match="at least one metric"):
        find_metrics([])
