import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from edgekeeper.errors import DataError, InputError
from edgekeeper.evaluation.compare import (
    PairedComparison,
    compare,
    comparison_table,
    paired,
    worst_table,
    write_comparison,
)
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.figures.images import worst_places
from edgekeeper.metrics.statistics import Difference, paired_difference
from edgekeeper.models.base import SRModel
from edgekeeper.ops.resize import imresize

NAMES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")


class Network(SRModel):
    """The interpolation, changed."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = 2, "rgb", 2
        self.change = change

    def forward(self, lr: Tensor) -> Tensor:
        return self.change(imresize(lr, scale=2))


def blurred(x: Tensor) -> Tensor:
    return imresize(imresize(x, scale=0.5), scale=2)


def spoilt(x: Tensor) -> Tensor:
    """The same but for a dark square from (row 32, column 64)."""
    x = x.clone()
    x[..., 32:96, 64:128] *= 0.5
    return x


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    y, x = np.mgrid[:128, :160]
    for k, name in enumerate(NAMES):
        planes = [128 + 90 * np.sin(0.1 * (k + c + 1) * x + 0.3 * y) for c in range(3)]
        Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def compared(a: object, b: object, images: Path, **settings: object) -> PairedComparison:
    return compare(a, b, sets=[images], scale=2, data_root=".", **settings)  # type: ignore[arg-type]


def test_rows_are_the_statistics_of_both_evaluations(images: Path) -> None:
    better, worse = Network(lambda x: x), Network(blurred)
    found = compared(worse, better, images, metrics=("psnr", "gmsd", "gv_ratio"))
    a = evaluate(worse, sets=[images], scale=2, data_root=".")
    b = evaluate(better, sets=[images], scale=2, data_root=".")
    psnr, gmsd, ratio = found.rows
    assert [(one.image, other.image) for one, other in found.scores] == [(n, n) for n in NAMES]
    expected = paired_difference([s.psnr for s in b], [s.psnr for s in a])
    assert psnr.difference == expected
    assert psnr.p == pytest.approx(stats.wilcoxon([s.psnr for s in b], [s.psnr for s in a]).pvalue)
    assert psnr.a == pytest.approx(np.mean([s.psnr for s in a]))
    assert (psnr.verdict, psnr.better, psnr.worse, psnr.images) == ("better", 7, 0, 7)
    # GMSD is good when low, a ratio when near 1.
    assert gmsd.difference is not None and gmsd.difference.mean < 0
    assert (gmsd.verdict, gmsd.better, gmsd.worse) == ("better", 7, 0)
    assert ratio.metric == "gv_ratio_error"
    assert ratio.b == pytest.approx(np.mean([abs(s.gv_ratio - 1) for s in b]))


def test_the_other_way_round_is_worse(images: Path) -> None:
    better, worse = Network(lambda x: x), Network(blurred)
    forward = compared(worse, better, images).rows[0]
    backward = compared(better, worse, images).rows[0]
    assert (forward.verdict, backward.verdict) == ("better", "worse")
    assert forward.difference is not None and backward.difference is not None
    assert backward.difference.mean == pytest.approx(-forward.difference.mean)
    assert backward.p == forward.p
    assert (backward.better, backward.worse) == (0, 7)


def test_equal_subjects_differ_in_nothing(images: Path) -> None:
    model = Network(lambda x: x)
    found = compared(model, model, images)
    assert (found.a, found.b) == ("Network (A)", "Network (B)")
    assert found.places == ()
    for row in found.rows:
        assert row.difference == Difference(0, 0, 0, "not distinguishable")
        assert row.p == 1
        assert row.verdict == "not distinguishable"
        assert (row.better, row.worse) == (0, 0)
    with pytest.raises(InputError, match="nowhere worse"):
        worst_places(found, path="never.png")


def test_the_worst_place_is_where_it_was_spoilt(images: Path, tmp_path: Path) -> None:
    found = compared(Network(lambda x: x), Network(spoilt), images, places=3)
    assert len(found.places) == 3
    assert [place.excess for place in found.places] == sorted(
        (place.excess for place in found.places), reverse=True
    )
    for place in found.places:
        # The squares lie on every fourth pixel inside the border of 2.
        assert abs(place.box.top - 32) <= 2
        assert abs(place.box.left - 64) <= 2
        assert place.psnr_b < place.psnr_a - 3
        a, b, original = place.crops
        assert a.shape == b.shape == original.shape == (1, 3, 64, 64)
        assert b.mean() < 0.6 * a.mean()
    file = worst_places(found, path=tmp_path / "worse.png")
    with Image.open(file) as image:
        assert image.width > 500
    assert compared(Network(lambda x: x), Network(spoilt), images, places=0).places == ()


def test_images_without_a_number_are_left_out_and_named(images: Path, tmp_path: Path) -> None:
    exact = tmp_path / "exact"
    exact.mkdir()
    for number, name in enumerate(NAMES):
        with Image.open(images / f"{name}.png") as image:
            level = 1.0 if name == "bee" else 0.9 - 0.01 * number
            image.point(lambda v, level=level: v * level).save(exact / f"{name}.png")
    found = compared("bicubic", exact, images, metrics=("psnr", "lpips"), weights=tmp_path)
    psnr, lpips = found.rows
    assert psnr.images == 6
    assert any("PSNR leaves out 'bee', where a result equals" in note for note in found.notes)
    assert (lpips.images, lpips.difference, lpips.p) == (0, None, None)
    assert lpips.verdict == "too few images"
    assert any("LPIPS is unavailable for every image" in note for note in found.notes)


def test_few_images_come_with_a_warning(images: Path) -> None:
    for name in NAMES[2:]:
        (images / f"{name}.png").unlink()
    found = compared("bicubic", Network(blurred), images)
    assert any("with 2 images p cannot be below 0.5" in note for note in found.notes)
    (images / "ant.png").unlink()
    row = compared("bicubic", Network(blurred), images).rows[0]
    assert (row.images, row.p, row.verdict) == (1, None, "too few images")
    assert row.difference is not None and row.difference.low is None and row.difference.mean < 0


def test_what_prints_as_zero_is_not_distinguishable() -> None:
    before = np.array([30.0, 31.0, 32.0])
    assert (
        paired_difference(before + 1e-3, before).verdict == "better"
    )  # in a digit that is not printed
    assert paired(before + 1e-3, before, metric="psnr").verdict == "not distinguishable"
    assert paired(before + 1e-3, before, metric="psnr", digits=3).verdict == "better"
    assert paired(before + 6e-3, before, metric="psnr").verdict == "better"
    assert paired(before + 6e-3, before, metric="gmsd").verdict == "worse"


def test_several_sets_have_rows_of_their_own(images: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in NAMES[:3]:
        (other / f"{name}.png").write_bytes((images / f"{name}.png").read_bytes())
    found = compare(
        "bicubic",
        Network(blurred),
        sets=[images, other],
        scale=2,
        data_root=".",
        metrics=("psnr", "ssim"),
        names=("old", "new"),
    )
    assert [(row.set, row.metric, row.images) for row in found.rows] == [
        ("mine", "psnr", 7),
        ("mine", "ssim", 7),
        ("other", "psnr", 3),
        ("other", "ssim", 3),
    ]
    assert (found.a, found.b) == ("old", "new")


def test_wrong_arguments(images: Path) -> None:
    with pytest.raises(InputError, match="'places' is -1"):
        compared("bicubic", "bicubic", images, places=-1)
    with pytest.raises(InputError, match="Did you mean 'psnr'"):
        compared("bicubic", "bicubic", images, metrics=("psrn",))
    with pytest.raises(InputError, match="no network 'bicubik'"):
        compared("bicubic", "bicubik", images)


class TestReport:
    @pytest.fixture
    def found(self, images: Path) -> PairedComparison:
        return compared(
            Network(lambda x: x),
            Network(spoilt),
            images,
            metrics=("gv_ratio", "psnr"),
            names=("plain", "spoilt"),
        )

    def test_table(self, found: PairedComparison) -> None:
        table = comparison_table(found)
        assert table.title == "A: plain   B: spoilt"
        ratio, psnr = table.cells
        assert (ratio[1], psnr[1]) == ("|GV ratio - 1| ↓", "PSNR ↑")
        of = found.rows[1].difference
        assert of is not None
        assert psnr[4] == f"{of.mean:+.2f} [{of.low:+.2f}, {of.high:+.2f}]"
        assert psnr[5:] == ("0.016", "0, 7 of 7", "worse")  # 2 / 2^7
        assert "'y_matlab'" in table.notes[0]

    def test_an_open_verdict_and_a_missing_number(self, found: PairedComparison) -> None:
        row = replace(found.rows[1], a=None, b=None, difference=None, p=None)
        cells = comparison_table(replace(found, rows=(row,))).cells[0]
        assert cells[2:6] == ("–", "–", "–", "–")
        assert cells[-1] == "too few images"
        open_ = Difference(0.1, -0.2, 0.3, "not distinguishable")
        row = replace(found.rows[1], difference=open_)
        assert comparison_table(replace(found, rows=(row,))).cells[0][-1] == "undecided"

    def test_worst_images_come_first(self, found: PairedComparison) -> None:
        by_psnr = replace(found, metrics=("psnr", "gv_ratio"))
        table = worst_table(by_psnr, images=3)
        losses = [float(cells[2]) for cells in table.cells]
        every = [b.psnr - a.psnr for a, b in found.scores]
        assert losses == pytest.approx(sorted(every)[:3], abs=0.005)
        # What is good when low is worst when it grew most.
        table = worst_table(found, images=7)
        growth = [float(cells[2].removeprefix("±")) for cells in table.cells]
        assert growth == sorted(growth, reverse=True)

    def test_json_has_every_image(self, found: PairedComparison, tmp_path: Path) -> None:
        path = tmp_path / "difference.json"
        write_comparison(found, path)
        record = json.loads(path.read_text(encoding="utf-8"))
        assert (record["a"], record["b"], record["scale"]) == ("plain", "spoilt", 2)
        assert record["protocol"]["name"] == "y_matlab"
        assert [row["metric"] for row in record["rows"]] == ["gv_ratio_error", "psnr"]
        assert [one["image"] for one in record["images"]] == list(NAMES)
        for one, (a, b) in zip(record["images"], found.scores, strict=True):
            assert one["psnr"] == pytest.approx(
                {"a": a.psnr, "b": b.psnr, "difference": b.psnr - a.psnr}
            )
        assert record["places"][0].keys() >= {"set", "image", "top", "left", "psnr_a"}
        assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["difference.json"]
        with pytest.raises(DataError, match="cannot be written"):
            write_comparison(found, tmp_path / "no" / "difference.json")


@pytest.mark.data
def test_rcan_is_better_than_bicubic_on_set5(data_root: Path) -> None:
    found = compare(
        "bicubic",
        data_root / "results" / "RCAN",
        sets=["set5"],
        scale=4,
        data_root=data_root,
        protocol="y_float",
        metrics=("psnr", "lpips"),
        weights=data_root / "weights",
    )
    psnr, lpips = found.rows
    assert psnr.b == pytest.approx(32.63, abs=0.005)
    assert psnr.difference is not None and lpips.difference is not None
    assert psnr.difference.mean == pytest.approx(4.2, abs=0.1)
    assert (psnr.verdict, psnr.p) == ("better", 0.0625)
    assert lpips.verdict == "better"
    assert not math.isnan(lpips.difference.mean)


def test_no_image_is_kept(images: Path) -> None:
    found = compared(Network(lambda x: x), Network(spoilt), images)
    kept = [crop for place in found.places for crop in place.crops]
    # Crops of their own, not views that hold whole images.
    assert all(crop.untyped_storage().nbytes() == 4 * crop.numel() for crop in kept)
    assert torch.stack([crop.max() for crop in kept]).max() <= 1
