import math

import pytest
import torch
from torch import Tensor

from edgekeeper.errors import DataError
from edgekeeper.metrics import psnr
from edgekeeper.metrics.canary import CANARIES, Canary, End, check_canary, check_mean
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.resize import imresize, pillow_resize


def waves(phase: float) -> Tensor:
    """An image of waves, an edge and some noise, (1, 3, 64, 72) on the grid of 1/255."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(72.0), indexing="ij")
    edge = torch.sign(torch.sin(0.2 * (x + y) + phase))
    planes = [torch.sin(x * 0.3 + phase), torch.cos(y * 0.5 - phase) * edge, edge]
    noise = torch.randn(3, 64, 72, generator=torch.Generator().manual_seed(int(phase)))
    return round_uint8(0.5 + 0.3 * torch.stack(planes) + 0.04 * noise)[None]


def stored_lr(hr: Tensor) -> Tensor:
    return imresize(hr, scale=1 / 2, boundary="replicate", quantise="uint8")


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> tuple[End, End]:
    found = tuple(End(n, waves(p), stored_lr(waves(p))) for n, p in (("one", 0.0), ("two", 1.0)))
    first, last = (
        psnr(imresize(end.lr, scale=2), end.hr, protocol="y_matlab", scale=2).item()
        for end in found
    )
    monkeypatch.setitem(CANARIES, "waves", Canary(images=2, first={2: first}, last={2: last}))
    return found[0], found[1]


def check(first: End, last: End, *, images: int = 2, scale: int = 2) -> None:
    check_canary("Waves", scale=scale, images=images, ends=(first, last))


def test_the_right_set_passes_and_others_are_not_judged(ends: tuple[End, End]) -> None:
    check(*ends)
    check_canary("my own", scale=2, images=7, ends=(ends[1], ends[0]))


def test_both_ways_of_matlab_pass(ends: tuple[End, End]) -> None:
    first, last = (End(e.name, e.hr, round_uint8(imresize(e.hr, scale=1 / 2))) for e in ends)
    assert not torch.equal(first.lr, ends[0].lr)  # mirrored border, one rounding: another way
    check(first, last)


def test_a_wrong_lr_is_told(ends: tuple[End, End]) -> None:
    hr = ends[0].hr
    wrong = {
        "Pillow's bilinear filter": pillow_resize(hr, size=(32, 36), method="bilinear"),
        "means of blocks": torch.nn.functional.avg_pool2d(hr, 2),
        "single pixels": hr[..., ::2, ::2],
        "a shift": stored_lr(hr.roll(1, dims=-1)),
        "another image": stored_lr(waves(1.0)),
    }
    said = r"Waves ×2 is not the public set: .*'one'.*`edgekeeper data check waves --scale 2`"
    for lr in wrong.values():
        with pytest.raises(DataError, match=said):
            check(End("one", hr, lr), ends[1])


def test_the_last_image_counts_too(ends: tuple[End, End]) -> None:
    with pytest.raises(DataError, match="bicubic on 'two'"):
        check(ends[0], End("two", ends[1].hr, ends[0].lr))


def test_another_hr_is_told(ends: tuple[End, End]) -> None:
    hr = round_uint8(ends[0].hr * 0.9)
    with pytest.raises(DataError, match="Waves ×2 is not the public set"):
        check(End("one", hr, stored_lr(hr)), ends[1])


def test_sizes_and_numbers_are_told(ends: tuple[End, End]) -> None:
    with pytest.raises(DataError, match="Waves has 2 images; 3 were found"):
        check(*ends, images=3)
    with pytest.raises(DataError, match=r"'one': HR is 71x64 and LR 36x32"):
        check(End("one", ends[0].hr[..., :-1], ends[0].lr), ends[1])


def test_every_stored_value_is_a_number() -> None:
    for canary in CANARIES.values():
        for values in (canary.first, canary.last):
            assert set(values) == (set() if canary.mean or canary.images == 109 else {2, 3, 4})
            assert all(math.isfinite(v) and 20 < v < 40 for v in values.values())


def test_a_set_known_by_its_mean(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(end.hr, end.lr) for end in ends]
    values = [psnr(imresize(end.lr, scale=2), end.hr, scale=2).item() for end in ends]
    mean = sum(values) / 2
    monkeypatch.setitem(CANARIES, "waves", Canary(images=2, mean={2: mean + 0.01}))
    assert check_mean("Waves", scale=2, pairs=pairs) == (mean, mean + 0.01)
    assert check_mean("Waves", scale=4, pairs=pairs) is None
    assert check_mean("my own", scale=2, pairs=pairs) is None
    check(*ends)  # the ends themselves are not known
    for wrong in (pairs[:1], [(hr, lr.roll(1, dims=-1)) for hr, lr in pairs]):
        with pytest.raises(DataError, match="is not the public set: bicubic scores"):
            check_mean("Waves", scale=2, pairs=wrong)
    with pytest.raises(DataError, match="urban100 has 100 images; 2 were found"):
        check_canary("urban100", scale=4, images=2, ends=ends)


def test_the_printed_means_are_those_of_the_papers() -> None:
    from edgekeeper.papers.printed import PRINTED

    table = PRINTED["spsr-table1"]
    for name in ("urban100", "general100"):
        printed = table.value("Bicubic", set_name=name, measure="psnr")
        assert CANARIES[name].mean == {4: printed}
    assert CANARIES["manga109"].mean == {}  # none of the papers has it
