"""Tests of the inspection of a result without its original."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from edgekeeper.cli import group
from edgekeeper.cli.inspect import inspection_lines
from edgekeeper.errors import ImageError, InputError
from edgekeeper.evaluation.inspect import Inspection, inspect, inspect_files, overlay
from edgekeeper.image import Image, from_tensor, read_image, to_rgb_tensor, write_image
from edgekeeper.metrics.risk import shrink
from edgekeeper.ops.color import rgb_to_grey_gv


@pytest.fixture
def hr() -> Tensor:
    """Slow waves in warm colours, 64 × 96."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    wave = 0.1 * torch.sin(x / 15) * torch.cos(y / 11)
    return torch.stack([0.6 + wave, 0.5 + wave, 0.4 + wave])[None]


@pytest.fixture
def changed(hr: Tensor, generator: torch.Generator) -> Tensor:
    """The same with noise in the 16 × 16 pixels from (32, 64) on."""
    image = hr.clone()
    image[..., 32:48, 64:80] += 0.1 * torch.randn(1, 3, 16, 16, generator=generator)
    return image.clamp(0, 1)


def save(path: Path, image: Tensor, *, alpha: Tensor | None = None) -> Path:
    mask = None if alpha is None else from_tensor(alpha)[..., 0]
    write_image(Image(pixels=from_tensor(image), alpha=mask), path)
    return path


class TestReport:
    def test_of_the_original(self, hr: Tensor) -> None:
        report = inspect(shrink(hr, scale=4), hr, scale=4)
        assert report.difference_max == 0
        assert report.colour_error == 0
        assert report.psnr == math.inf
        assert report.risk < 1e-6
        assert report.verdict == "supported"

    def test_of_a_brighter_result(self, hr: Tensor) -> None:
        brighter = hr + torch.tensor([5.0, 0.0, -1.0]).view(1, 3, 1, 1) / 255
        report = inspect(shrink(hr, scale=2), brighter, scale=2)
        assert report.colour_shift == pytest.approx((5, 0, -1), abs=1e-4)
        assert report.difference_mean == pytest.approx(2, abs=1e-4)
        assert report.difference_max == pytest.approx(5, abs=1e-3)
        assert report.psnr == pytest.approx(10 * math.log10(255**2 * 3 / 26), abs=1e-3)
        assert 0.5 < report.colour_error < 5
        assert report.risk < 1e-6

    def test_colour_error_is_that_of_the_literature(self) -> None:
        # Black against the grey 119 (L* = 50.034): CIEDE2000 on the neutral axis is
        # dL / (1 + 0.015 (Lm - 50)^2 / sqrt(20 + (Lm - 50)^2)), Sharma et al. 2005.
        light = 50.034
        away = (light / 2 - 50) ** 2
        expected = light / (1 + 0.015 * away / math.sqrt(20 + away))
        report = inspect(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 16, 16), 119 / 255), scale=2)
        assert report.colour_error == pytest.approx(expected, abs=0.01)

    def test_the_worst_place_is_where_the_noise_is(self, hr: Tensor, changed: Tensor) -> None:
        large, noisy = (x.repeat(1, 1, 3, 2) for x in (hr, hr))
        noisy[..., 128:192, 96:192] = changed
        report = inspect(shrink(large, scale=4), noisy, scale=4)
        place = report.worst
        assert place is not None
        assert (place.height, place.width) == (64, 64)
        assert place.top <= 128 + 32 <= 128 + 48 <= place.top + place.height
        assert place.left <= 96 + 64 <= 96 + 80 <= place.left + place.width
        assert 0.1 < place.share <= 1
        assert report.verdict == "invented"

    def test_what_vanishes_in_the_input_is_undecided(self) -> None:
        stripes = (torch.arange(96) % 3 < 1).float().mul(0.6).add(0.2).expand(1, 3, 96, 96)
        report = inspect(shrink(stripes, scale=4), stripes, scale=4)
        assert (report.verdict, report.risk) == ("undecided", 0)
        assert report.undecided > 0.5
        green = (lambda x: x[:, 1] - x[:, 0])(overlay(report, stripes))
        assert green.mean() > 0.3
        lines = inspection_lines(report)
        assert "some are finer than it can show" in lines[2]
        assert "cannot decide" in lines[4]

    def test_a_flat_result_has_no_worst_place(self) -> None:
        flat = torch.full((1, 3, 32, 32), 0.4)
        assert inspect(shrink(flat, scale=2), flat, scale=2).worst is None

    def test_as_json(self, hr: Tensor, changed: Tensor) -> None:
        lr = shrink(hr, scale=4)
        equal, other = (inspect(lr, sr, scale=4).as_json() for sr in (hr, changed))
        assert json.loads(json.dumps(equal, allow_nan=False))["psnr"] is None
        found = json.loads(json.dumps(other, allow_nan=False))
        assert found["verdict"] == "invented"
        maps = {"unsupported", "beyond", "artifacts"}
        fields = set(Inspection.__dataclass_fields__) - maps
        assert set(found) == fields | {"artifact_share", "false_alarms"}
        alarms = found["false_alarms"]
        assert alarms["limit"] == 0.02
        assert 0 <= alarms["low"] <= alarms["mean"] < alarms["high"] < 0.01
        assert equal["false_alarms"]["limit"] == 0.005
        assert set(found["worst"]) == {"top", "left", "height", "width", "share"}

    def test_one_image_at_a_time(self, hr: Tensor) -> None:
        with pytest.raises(InputError, match="one input and one result; got 2 and 2"):
            inspect(shrink(hr, scale=4).repeat(2, 1, 1, 1), hr.repeat(2, 1, 1, 1), scale=4)


class TestOverlay:
    def test_is_the_grey_image_where_nothing_is_in_doubt(self, hr: Tensor) -> None:
        image = overlay(inspect(shrink(hr, scale=4), hr, scale=4), hr)
        torch.testing.assert_close(image, rgb_to_grey_gv(hr).expand_as(hr), atol=1e-4, rtol=0)

    def test_is_coloured_where_it_is(self, hr: Tensor, changed: Tensor) -> None:
        image = overlay(inspect(shrink(hr, scale=4), changed, scale=4), changed)
        redness = (image[:, 0] - image[:, 2])[0]
        assert redness[36:44, 68:76].mean() > 0.3
        assert redness[32:48, 64:80].min() > 0.1
        assert redness[:24].abs().max() < 0.02
        assert image.min() >= 0 <= image.max() <= 1

    def test_bands_leave_no_seam(self, changed: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        tall = changed.repeat(1, 1, 2, 1)
        report = inspect(shrink(tall.flip(-1), scale=2), tall, scale=2)
        whole = overlay(report, tall)
        monkeypatch.setattr("edgekeeper.evaluation.inspect._BAND_PIXELS", 1)
        torch.testing.assert_close(overlay(report, tall), whole)

    def test_refuses_another_image(self, hr: Tensor) -> None:
        report = inspect(shrink(hr, scale=4), hr, scale=4)
        with pytest.raises(InputError, match="The report is on a result"):
            overlay(report, hr[..., :32])


class TestFiles:
    def test_say_what_the_tensors_say(self, hr: Tensor, changed: Tensor, tmp_path: Path) -> None:
        lr_file = save(tmp_path / "lr.png", shrink(hr, scale=4))
        sr_file = save(tmp_path / "sr.png", changed)
        report = inspect_files(lr_file, sr_file, overlay_path=tmp_path / "risk.png")
        lr, sr = (to_rgb_tensor(read_image(file)) for file in (lr_file, sr_file))
        assert report == replace(inspect(lr, sr, scale=4), damaged=report.damaged)
        drawn = read_image(tmp_path / "risk.png").pixels
        assert np.array_equal(drawn, from_tensor(overlay(report, sr)))

    def test_what_is_transparent_does_not_count(
        self, hr: Tensor, changed: Tensor, tmp_path: Path
    ) -> None:
        alpha = torch.ones(1, 1, 64, 96)
        alpha[..., 24:, 56:] = 0  # the noise and around it
        lr_file = save(tmp_path / "lr.png", shrink(hr, scale=4), alpha=alpha[..., ::4, ::4])
        seen = inspect_files(lr_file, save(tmp_path / "seen.png", changed, alpha=alpha))
        other = inspect_files(lr_file, save(tmp_path / "other.png", hr, alpha=alpha))
        assert seen == other

    def test_sizes_that_do_not_fit_are_refused(self, hr: Tensor, tmp_path: Path) -> None:
        large = save(tmp_path / "large.png", hr)
        small = save(tmp_path / "small.png", hr[..., :16, :25])
        for first, second in ((small, large), (large, small), (large, large)):
            with pytest.raises(InputError, match="whole number of times as large"):
                inspect_files(first, second)

    def test_an_overlay_that_exists_is_kept(self, hr: Tensor, tmp_path: Path) -> None:
        there = save(tmp_path / "there.png", hr)
        with pytest.raises(ImageError, match="exists"):
            inspect_files(tmp_path / "none.png", there, overlay_path=there)


class TestCommand:
    def test_says_what_was_found(self, hr: Tensor, changed: Tensor, tmp_path: Path) -> None:
        files = [
            str(save(tmp_path / "lr.png", shrink(hr, scale=4))),
            str(save(tmp_path / "sr.png", changed)),
        ]
        drawn = tmp_path / "risk.png"
        done = CliRunner().invoke(group, ["inspect", *files, "--overlay", str(drawn)])
        assert done.exit_code == 0, done.output
        assert "structure that the input does not show" in done.output
        assert "Look at the 64x64 pixels from x=" in done.output
        assert f"Wrote {drawn}" in done.output
        assert drawn.is_file()

    def test_a_compressed_input_is_said_to_be_one(self, hr: Tensor, tmp_path: Path) -> None:
        textured = hr + 0.1 * torch.rand(hr.shape, generator=torch.Generator().manual_seed(0))
        lr = shrink(textured.clamp(0, 1).repeat(1, 1, 4, 4), scale=4)
        sr_file = save(tmp_path / "sr.png", textured.clamp(0, 1).repeat(1, 1, 4, 4))
        for name, damaged in (("lr.png", False), ("lr.jpg", True)):
            write_image(Image(pixels=from_tensor(lr)), tmp_path / name, quality=60)
            report = inspect_files(tmp_path / name, sr_file)
            assert report.damaged == damaged
            said = " ".join(inspection_lines(report))
            assert ("compressed or noisy" in said) == damaged
            assert report.risk > 0.02 if damaged else report.risk == 0

    def test_prints_json(self, hr: Tensor, changed: Tensor, tmp_path: Path) -> None:
        lr_file = save(tmp_path / "lr.png", shrink(hr, scale=4))
        sr_file = save(tmp_path / "sr.png", changed)
        done = CliRunner().invoke(group, ["inspect", str(lr_file), str(sr_file), "--json"])
        assert json.loads(done.output) == inspect_files(lr_file, sr_file).as_json()

    def test_points_nowhere_when_nothing_is_in_doubt(self, hr: Tensor) -> None:
        lines = inspection_lines(inspect(shrink(hr, scale=4), hr, scale=4))
        assert len(lines) == 4
        assert "the edges are those of the input" in lines[2]
        assert "95 % interval" in lines[3]


def test_artifacts_beside_a_faithful_result(
    hr: Tensor, tmp_path: Path, generator: torch.Generator
) -> None:
    lr, invented = shrink(hr, scale=4), hr.clone()
    invented[..., 16:48, 32:72] += 0.2 * torch.randn(1, 3, 32, 40, generator=generator)
    invented = invented.clamp(0, 1)
    plain = inspect(lr, invented, scale=4)
    assert plain.artifacts is None and plain.as_json()["artifact_share"] is None
    found = inspect(lr, invented, scale=4, faithful=hr)
    assert found.artifacts is not None and found.artifacts[..., 24:40, 40:64].all()
    assert not found.artifacts[..., :4, :].any()
    share = found.artifacts.sum().item() / (64 * 96)
    assert found.artifact_share == pytest.approx(share) and 0.1 < share < 0.4
    assert f"{100 * share:.2f} %" in inspection_lines(found)[-1]
    # The tint is blue, half over the grey, where nothing is in doubt besides.
    tint = overlay(found, invented) - overlay(plain, invented)
    outside = ~found.artifacts.expand_as(tint)
    assert not tint[outside].any() and (tint[:, 0][found.artifacts[:, 0]] <= 0).all()
    files = [save(tmp_path / f"{name}.png", x) for name, x in (("lr", lr), ("sr", invented))]
    ran = CliRunner().invoke(group, ["inspect", *map(str, files), "--artifacts", "--json"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.output)["artifact_share"] == pytest.approx(share, abs=0.05)
