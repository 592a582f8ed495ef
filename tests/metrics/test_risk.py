"""Tests of the structure risk: closed forms, properties, where it points, real results."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import edgekeeper
from edgekeeper.data.pairs import Pair, load_pairs
from edgekeeper.data.synthetic import synthetic_image
from edgekeeper.errors import InputError
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.inference.network import infer
from edgekeeper.metrics import risk
from edgekeeper.metrics.risk import CEILING, FLOOR, shrink, structure_risk
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.resize import imresize

Paste = Callable[[Tensor, torch.Generator], Tensor]


def smooth(height: int = 128, width: int = 160) -> Tensor:
    """An image of slow waves, different in each colour, with one straight edge."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [0.45 + 0.12 * torch.sin(x / (19 + 3 * k)) * torch.cos(y / 23) for k in range(3)]
    return (torch.stack(waves) + 0.2 * (x + 0.4 * y > 150))[None]


def sky(height: int = 128, width: int = 160) -> Tensor:
    """An image that changes by less than half a level per pixel."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((100 + 0.3 * x + 0.2 * y) / 255).expand(1, 3, height, width)


def input_of(hr: Tensor, *, scale: int = 4) -> Tensor:
    """The input made of an original, in 8 bits."""
    return round_uint8(shrink(hr, scale=scale))


def noise(part: Tensor, generator: torch.Generator) -> Tensor:
    return part + torch.randn(part.shape, generator=generator) * (15 / 255)


def stripes(part: Tensor, generator: torch.Generator) -> Tensor:
    """Slanted stripes, ten pixels from one to the next."""
    y, x = torch.meshgrid(*map(torch.arange, part.shape[-2:]), indexing="ij")
    angle = float(torch.rand(1, generator=generator)) * math.pi
    return part + 15 / 255 * torch.sin(
        2 * math.pi / 10 * (x * math.cos(angle) + y * math.sin(angle))
    )


def fine_stripes(part: Tensor, generator: torch.Generator) -> Tensor:
    """Stripes four pixels apart, of which nothing is left when shrunk by 4."""
    return part + 15 / 255 * torch.sin(2 * math.pi / 4 * torch.arange(part.shape[-1]))


def pasted(image: Tensor, paste: Paste, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The image with a sixteenth of it changed somewhere, and which LR pixels at ×4 it was.

    LR pixels that the change covers in part are 0.5.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = image.shape[-2:]
    top = int(torch.randint(0, height - height // 4, (1,), generator=generator))
    left = int(torch.randint(0, width - width // 4, (1,), generator=generator))
    inside = (..., slice(top, top + height // 4), slice(left, left + width // 4))
    changed, mask = image.clone(), torch.zeros(1, 1, height, width)
    changed[inside], mask[inside] = paste(image[inside], generator), 1
    share = functional.avg_pool2d(mask, 4)
    return changed.clamp(0, 1), torch.where((share > 0) & (share < 1), 0.5, share)


def area_under_curve(found: Tensor, mask: Tensor) -> float:
    """The chance that a changed place is found worse than an unchanged one, ties half."""
    hit, miss = found[mask == 1].double(), found[mask == 0].double().sort().values
    below, upto = torch.searchsorted(miss, hit), torch.searchsorted(miss, hit, right=True)
    return float((below + upto).double().mean() / 2 / len(miss))


def mass(found: Tensor, mask: Tensor) -> float:
    """The share of what was found that lies on changed places."""
    return float((found * mask).sum() / found.sum())


class TestClosedForms:
    def test_a_ramp_over_a_flat_input_is_all_but_unsupported(self) -> None:
        # Gradient 1 level per pixel, 4 per LR pixel, nothing in the input: (4 - FLOOR) / 4.
        lr = torch.full((1, 3, 24, 24), 0.5)
        sr = (torch.arange(96) / 255 + 0.3).expand(1, 3, 96, 96)
        found = structure_risk(lr, sr, scale=4)
        inside = (..., slice(6, -6), slice(6, -6))
        torch.testing.assert_close(found.edges[inside], torch.ones(1, 1, 12, 12))
        share = (found.unsupported / found.edges)[inside]
        torch.testing.assert_close(share, torch.full((1, 1, 12, 12), 1 - FLOOR / 4))

    def test_stripes_that_vanish_when_shrunk_exceed_what_a_flat_input_allows(self) -> None:
        # A sine of period 4 has central differences of its own amplitude; 1 is the ceiling at U=0.
        lr = torch.full((1, 3, 24, 24), 0.5)
        sr = (0.5 + 15 / 255 * torch.sin(math.pi / 2 * torch.arange(96) + 0.4)).expand(1, 3, 96, 96)
        torch.testing.assert_close(shrink(sr, scale=4)[..., 2:-2], lr[..., 2:-2])
        found = structure_risk(lr, sr, scale=4)
        inside = (..., slice(6, -6), slice(6, -6))
        strength = 15 / math.sqrt(2)
        torch.testing.assert_close(found.edges[inside], torch.full((1, 1, 12, 12), strength))
        assert float(found.score) == 0
        share = (found.beyond / found.edges)[inside]
        expected = 1 - CEILING[1][0] / strength
        torch.testing.assert_close(share, torch.full((1, 1, 12, 12), expected))

    def test_a_flat_result_scores_nothing(self) -> None:
        lr = torch.full((1, 3, 12, 12), 0.3)
        assert float(structure_risk(lr, torch.full((1, 3, 24, 24), 0.3), scale=2).score) == 0


class TestWhatScoresLow:
    @pytest.mark.parametrize("scale", [2, 4])
    def test_the_original(self, scale: int) -> None:
        hr = smooth()
        assert float(structure_risk(input_of(hr, scale=scale), hr, scale=scale).score) < 1e-4

    def test_an_interpolated_or_blurred_result_invents_nothing(self) -> None:
        lr = input_of(smooth())
        bicubic = imresize(lr, scale=4)
        blurred = functional.avg_pool2d(functional.pad(bicubic, (4,) * 4, mode="replicate"), 9, 1)
        assert float(structure_risk(lr, bicubic, scale=4).score) < 1e-4
        assert float(structure_risk(lr, blurred, scale=4).score) < 0.005

    def test_less_contrast_or_some_more_is_no_new_structure(self) -> None:
        hr = smooth()
        for contrast in (0.7, 1.3):
            changed = 0.5 + contrast * (hr - 0.5)
            assert float(structure_risk(input_of(hr), changed, scale=4).score) < 0.001

    def test_clipped_overshoot_of_the_input_s_maker_is_no_contradiction(self) -> None:
        hr = (torch.arange(96) // 24 % 2).float().expand(1, 3, 96, 96)  # black and white bars
        assert float(imresize(hr, scale=0.25).max()) > 1.01
        assert float(structure_risk(input_of(hr), hr, scale=4).score) < 1e-4


def repeating(kind: str, *, period: float, degrees: float, light: float = 0.8) -> Tensor:
    """Gratings, checks and bricks as a lens gives them: each pixel the mean of 4 × 4 points."""
    y, x = torch.meshgrid(*[torch.arange(384) / 4] * 2, indexing="ij")
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u, v = (x * c + y * s) / period, (y * c - x * s) / period
    points = {
        "grating": u % 1 < 0.5,
        "checks": (u % 1 < 0.5) ^ (v % 1 < 0.5),
        "brick": (v % 1 > 0.2) & ((u / 2.5 + 0.5 * (torch.floor(v) % 2)) % 1 > 0.08),
    }[kind]
    mean = functional.avg_pool2d(points.float()[None, None], 4)
    return round_uint8(1 - light + (2 * light - 1) * mean).expand(1, 3, -1, -1)


class TestRepeatingStructure:
    """What vanishes between the pixels of the input is not called invented."""

    def test_an_original_contradicts_nothing_whatever_it_shows(self) -> None:
        beyond = []
        for kind in ("grating", "checks", "brick"):
            for period in (2.6, 4, 5.3, 7, 11):
                for degrees in (0, 22.5, 83):
                    for light in (0.55, 0.8):
                        hr = repeating(kind, period=period, degrees=degrees, light=light)
                        found = structure_risk(input_of(hr), hr, scale=4)
                        assert float(found.score) < 1e-9, (kind, period, degrees, light)
                        beyond.append(float(found.undecided))
        assert sum(share > 0.005 for share in beyond) > len(beyond) / 4  # finer than the LR grid
        assert sum(share == 0 for share in beyond) > len(beyond) / 4

    def test_letters_and_patterns_contradict_nothing(self) -> None:
        for number in range(5, 5 + 7 * 4, 7):
            for kind in (number, number + 1):  # periodic fields, lines of letters
                hr = round_uint8(synthetic_image(size=160, seed=0, number=kind))
                for scale in (2, 4):
                    found = structure_risk(input_of(hr, scale=scale), hr, scale=scale)
                    assert float(found.score) < 1e-9, (kind, scale)

    def test_another_pattern_than_the_input_s_contradicts_it(self) -> None:
        for kind in ("grating", "checks", "brick"):
            hr, other = (repeating(kind, period=11, degrees=d) for d in (20, 70))
            assert float(structure_risk(input_of(hr), other, scale=4).score) > 0.1, kind

    def test_a_rounding_is_no_contradiction_and_a_level_is(self) -> None:
        lr = torch.full((1, 3, 24, 24), 100 / 255)
        checks = (torch.arange(24)[:, None] // 3 + torch.arange(24) // 3) % 2 - 0.5
        waves = imresize(checks.expand(1, 3, 24, 24), scale=4)
        waves = waves / imresize(waves, scale=0.25).abs().max()
        for level, least, most in ((0.49, 0.0, 0.0), (1.5, 0.1, 1.0)):
            score = float(
                structure_risk(lr, lr[:, :1, :1, :1] + level / 255 * waves, scale=4).score
            )
            assert least <= score <= most, level


class TestWhereItPoints:
    @pytest.mark.parametrize("paste", [noise, stripes, fine_stripes])
    def test_texture_in_a_smooth_image_is_marked(self, paste: Paste) -> None:
        hr = sky()
        changed, mask = pasted(hr, paste)
        found = structure_risk(input_of(hr), changed, scale=4)
        vanishes = paste is fine_stripes
        where = found.beyond if vanishes else found.unsupported
        assert area_under_curve(where, mask) > 0.97
        near = functional.max_pool2d(mask, 3, stride=1, padding=1) > 0  # the window's reach
        assert mass(where, near.float()) > 0.97
        assert float(found.undecided if vanishes else found.score) > 0.1
        assert not vanishes or float(found.score) < float(found.undecided) / 5  # its rim

    def test_the_score_grows_with_strength_and_with_area(self) -> None:
        hr = smooth()
        texture = torch.randn(hr.shape, generator=torch.Generator().manual_seed(1)) / 255
        strengths = [hr + texture * level for level in (0, 4, 8, 16)]
        areas = [hr.clone() for _ in range(4)]
        for area, rows in zip(areas, (0, 32, 64, 128), strict=True):
            area[..., :rows, :] += 10 * texture[..., :rows, :]
        for series in (strengths, areas):
            scores = [float(structure_risk(input_of(hr), sr, scale=4).score) for sr in series]
            assert scores == sorted(scores)
            assert scores[-1] > 2 * scores[1] > 1e-3 > 10 * scores[0]

    def test_structure_of_one_colour_counts(self) -> None:
        hr = smooth()
        changed = hr.clone()
        waves = 0.1 * torch.sin(torch.arange(160) * (2 * math.pi / 12))
        changed[:, 0] += waves
        changed[:, 1] -= waves * 0.2989 / 0.5870  # grey stays as it was
        assert float(structure_risk(input_of(hr), changed, scale=4).score) > 0.2


class TestProperties:
    def test_a_batch_is_its_images(self) -> None:
        first, second = smooth(), smooth().flip(-1) ** 2
        changed = pasted(first, noise)[0]
        lr, sr = torch.cat([input_of(first), input_of(second)]), torch.cat([changed, second])
        both = structure_risk(lr, sr, scale=4)
        assert both.score.dtype == torch.float64
        for k in range(2):
            one = structure_risk(lr[k : k + 1], sr[k : k + 1], scale=4)
            torch.testing.assert_close(both.score[k : k + 1], one.score)
            torch.testing.assert_close(both.unsupported[k : k + 1], one.unsupported)

    @pytest.mark.parametrize("turn", [lambda x: x.flip(-1), lambda x: x.rot90(1, (-2, -1))])
    def test_turning_the_image_turns_the_map(self, turn: Callable[[Tensor], Tensor]) -> None:
        hr = smooth()
        lr, sr = input_of(hr), pasted(hr, stripes)[0]
        straight, turned = (
            structure_risk(a, b, scale=4) for a, b in ((lr, sr), (turn(lr), turn(sr)))
        )
        torch.testing.assert_close(
            turn(straight.unsupported), turned.unsupported, atol=1e-3, rtol=0
        )

    def test_bands_give_what_the_whole_gives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hr = smooth(height=320, width=64)  # 80 LR rows: bands of 32, 32 and 16
        lr, sr = input_of(hr), pasted(hr, noise)[0]
        whole = structure_risk(lr, sr, scale=4)
        monkeypatch.setattr(risk, "_BAND_PIXELS", 1)
        banded = structure_risk(lr, sr, scale=4)
        torch.testing.assert_close(banded.unsupported, whole.unsupported, atol=1e-4, rtol=0)
        torch.testing.assert_close(banded.score, whole.score, atol=1e-7, rtol=0)

    def test_what_does_not_fit_is_refused(self) -> None:
        lr, sr = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 64, 64)
        with pytest.raises(InputError, match="Give the input first"):
            structure_risk(sr, lr, scale=4)
        with pytest.raises(InputError, match=r"floats \(B, 3, H, W"):
            structure_risk(lr[:, :1], sr[:, :1], scale=4)
        with pytest.raises(InputError, match="needs 8x8"):
            structure_risk(lr[..., :4], sr[..., :16], scale=4)
        with pytest.raises(InputError, match="scale is 1"):
            structure_risk(lr, lr, scale=1)


def every_pair(root: Path) -> list[Pair]:
    return [p for name in ("set5", "set14", "bsd100") for p in load_pairs(name, scale=4, root=root)]


def percent(lr: Tensor, sr: Tensor) -> float:
    return 100 * float(structure_risk(lr, sr, scale=4).score)


@pytest.mark.data
class TestRealImages:
    def test_originals_score_near_nothing(self, data_root: Path) -> None:
        scores = torch.tensor([percent(p.lr(), p.hr()) for p in every_pair(data_root)])
        assert len(scores) == 119
        assert scores.max() < 0.1
        assert scores.quantile(0.95) < 0.01

    def test_results_of_a_gan_score_above_all_others(self, data_root: Path) -> None:
        network = edgekeeper.load("edsr_light_x4")
        folder = data_root / "results" / "ESRGAN_Set14_x4"
        originals = {p.name: p.hr() for p in load_pairs("set14", scale=4, root=data_root)}
        for name, least in (("comic", 2.5), ("baboon", 5)):
            lr, gan = (
                to_rgb_tensor(read_image(place / f"{name}.png"))
                for place in (folder / "LR", folder)
            )
            others = (imresize(lr, scale=4).clamp(0, 1), infer(network, lr), originals[name])
            assert percent(lr, gan) > least
            assert max(percent(lr, other) for other in others) < 0.5

    def test_results_of_a_faithful_network_score_near_nothing(self, data_root: Path) -> None:
        for pair in load_pairs("set5", scale=4, root=data_root):
            file = data_root / "results" / "RCAN" / "Set5_x4" / f"{pair.name}_RCAN_x4.png"
            assert percent(pair.lr(), to_rgb_tensor(read_image(file))) < 0.1

    @pytest.mark.parametrize(
        ("paste", "curve", "share"), [(noise, 0.99, 0.85), (stripes, 0.9, 0.7), (None, 0.8, 0.6)]
    )
    def test_what_is_pasted_in_is_marked(
        self, data_root: Path, paste: Paste | None, curve: float, share: float
    ) -> None:
        pairs = every_pair(data_root)[::12]
        curves, shares = [], []
        for number, pair in enumerate(pairs):
            stranger = pairs[number - 1].hr()

            def patch(part: Tensor, generator: torch.Generator, other: Tensor = stranger) -> Tensor:
                return functional.interpolate(other, size=tuple(part.shape[-2:]), mode="area")

            sr, mask = pasted(pair.hr(), paste or patch, seed=number)
            found = structure_risk(pair.lr(), sr, scale=4).unsupported
            curves.append(area_under_curve(found, mask))
            shares.append(mass(found, (mask > 0).float()))
        assert sum(curves) / len(curves) > curve
        assert sum(shares) / len(shares) > share
