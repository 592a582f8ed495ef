from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.metrics import ma, niqe, pi
from edgekeeper.metrics.ma import Forest, ma_features
from edgekeeper.metrics.ma_features import (
    band_features,
    frequency_features,
    generalised_shape,
    pyramid,
    singular_values,
    steerable_pyramid,
)
from edgekeeper.metrics.niqe import shaved_luma


def noise(seed: int, count: int) -> np.ndarray:
    """Bytes of the generator s = (1664525 s + 1013904223) mod 2^32, the byte is s >> 24."""
    powers = np.cumprod(np.full(count, 1664525), dtype=np.uint32)
    sums = np.cumsum(np.concatenate([np.ones(1, np.uint32), powers[:-1]]), dtype=np.uint32)
    return (powers * np.uint32(seed) + np.uint32(1013904223) * sums) >> np.uint32(24)


def synthetic(height: int, width: int) -> torch.Tensor:
    """Waves and noise in 0..255, whole numbers."""
    y, x = np.mgrid[:height, :width]
    waves = 120 + 50 * np.sin(x / 5) + 40 * np.cos(y / 7 + x / 9)
    values = np.floor(waves + noise(9, x.size).reshape(x.shape) % 25 - 12)
    return torch.from_numpy(np.clip(values, 0, 255))


class TestFeatures:
    # An independent numpy script that follows the MATLAB release; the pyramid and the singular
    # values agree with pyiqa to 3e-7.
    FREQUENCY = (
        (
            0.30561363636363637,
            0.5195204545454546,
            2.630027683598699,
            1.7867696050550002,
            0.9224416284151995,
            0.3571540950613349,
        ),
        (
            0.2671818181818182,
            0.35700000000000004,
            3.2510796687693575,
            2.386665425370997,
            1.1397905261975163,
            0.3560140132025575,
        ),
        (
            0.2976666666666667,
            0.4224333333333334,
            2.5651709151515645,
            2.037149931624201,
            0.5158001202336384,
            0.18591497072264943,
        ),
    )
    SINGULAR = (
        (31.262476598493205, 4.363045905176463, 1.8537024352274403),
        (15.242442287268084, 3.3561629955275953, 1.354237387620674),
        (7.069201544539773, 2.383717934177147, 1.2433508656213343),
    )
    LAST = (0.23104059498826987, 0.035804149017126245, 0.0460086177773835)
    COUNT = (25, 25, 12)  # 15 x 16 pixels have only 12 patches

    def test_published_values(self) -> None:
        scales = pyramid(synthetic(60, 66) / 255)
        assert [tuple(scale.shape) for scale in scales] == [(60, 66), (30, 33), (15, 16)]
        for k, scale in enumerate(scales):
            assert frequency_features(scale).tolist() == pytest.approx(self.FREQUENCY[k], abs=1e-12)
            values = singular_values(scale).tolist()
            assert len(values) == 25
            assert values[:3] == pytest.approx(self.SINGULAR[k], abs=1e-12)
            assert values[self.COUNT[k] - 1] == pytest.approx(self.LAST[k], abs=1e-12)
            assert values[self.COUNT[k] :] == [0.0] * (25 - self.COUNT[k])

    def test_the_shape_of_a_generalised_gaussian(self) -> None:
        values = torch.tensor([[-3, -1, -0.5, 0, 0.25, 1, 2.5]], dtype=torch.float64)
        assert generalised_shape(values).item() == pytest.approx(0.958, abs=1e-12)

    def test_the_groups_of_all_features(self) -> None:
        groups = ma_features(synthetic(100, 104))
        assert [tuple(group.shape) for group in groups] == [(18,), (45,), (75,)]
        assert all(group.isfinite().all() for group in groups)


class TestBands:
    def test_the_pyramid_keeps_the_energy(self, generator: torch.Generator) -> None:
        # Squares of all masks sum to 1 wherever nothing is left for a third scale.
        noise = torch.randn(64, 96, generator=generator, dtype=torch.float64)
        spectrum = torch.fft.fft2(noise)
        y = torch.fft.fftfreq(64, dtype=torch.float64)[:, None]
        x = torch.fft.fftfreq(96, dtype=torch.float64)
        kept = (torch.hypot(y, x) > 1 / 8) & (y.abs() < 0.5) & (x.abs() < 0.5)
        image = torch.fft.ifft2(spectrum * kept).real
        pyramid = steerable_pyramid(image)
        assert [tuple(bands.shape) for bands in pyramid.bands] == [(6, 64, 96), (6, 32, 48)]
        energy = pyramid.residual.square().sum() + sum(
            bands.square().sum() / 4**k for k, bands in enumerate(pyramid.bands)
        )
        assert float(energy) == pytest.approx(image.square().sum().item(), rel=1e-12)

    def test_a_wave_is_in_the_band_of_its_direction(self) -> None:
        x = torch.arange(64, dtype=torch.float64)
        wave = torch.sin(2 * torch.pi * x * 16 / 64).expand(64, 64)
        for k, image in ((0, wave), (3, wave.T)):
            first = steerable_pyramid(image).bands[0].square().mean(dim=(1, 2))
            assert int(first.argmax()) == k

    def test_what_another_port_gives(self) -> None:
        # pyiqa 0.1.14.1 on the same image. It fits and normalises slightly otherwise and
        # cuts off negative structure terms, so the two agree roughly, not to the digit.
        theirs = [
            2.301,
            2.388,
            2.466,
            2.349,
            2.483,
            2.489,
            2.246,
            2.177,
            2.512,
            2.442,
            2.376,
            2.672,
            1.147,
            1.294,
            1.342,
            1.302,
            1.445,
            1.294,
            0.633217,
            0.633187,
            0.632756,
            0.632593,
            0.632182,
            0.632043,
            0.586253,
            0.593745,
            0.597701,
            0.591968,
            0.601375,
            0.597259,
            0.97858,
            0.949062,
            0.934695,
            0.921981,
            0.893025,
            0.97994,
            0.948054,
            0.935592,
            0.924019,
            0.97854,
            0.948543,
            0.936548,
            0.978754,
            0.948255,
            0.979341,
        ]
        ours = band_features(synthetic(96, 128)).tolist()
        assert ours[:12] == pytest.approx(theirs[:12], abs=0.05)
        assert ours[12:18] == pytest.approx(theirs[12:18], abs=0.005)
        assert ours[18:30] == pytest.approx(theirs[18:30], abs=2e-6)
        assert ours[30:] == pytest.approx(theirs[30:], abs=6e-4)

    def test_odd_sizes(self) -> None:
        assert band_features(synthetic(97, 75)).isfinite().all()


def tree(generator: np.random.Generator, *, features: int, trees: int = 3) -> dict[str, np.ndarray]:
    """A forest of full trees of depth 2 as MATLAB stores it, with a place no tree uses."""
    shape = (8, trees)
    left, right = np.zeros(shape), np.zeros(shape)
    left[:3], right[:3] = np.array([2, 4, 6])[:, None], np.array([3, 5, 7])[:, None]
    status = np.full(shape, -1)
    status[:3], status[7] = -3, 0
    best = np.zeros(shape)
    best[:3] = generator.integers(1, features + 1, (3, trees))
    return {
        "lDau": left,
        "rDau": right,
        "nodestatus": status,
        "mbest": best,
        "upper": generator.uniform(0, 1, shape),
        "avnode": generator.uniform(0, 10, shape),
    }


def answer(stored: dict[str, np.ndarray], features: list[float]) -> float:
    """The mean of all trees, one node after the other, counted from 1."""
    values = []
    for t in range(stored["lDau"].shape[1]):
        node = 1
        while stored["nodestatus"][node - 1, t] != -1:
            feature = features[int(stored["mbest"][node - 1, t]) - 1]
            side = "lDau" if feature <= stored["upper"][node - 1, t] else "rDau"
            node = int(stored[side][node - 1, t])
        values.append(stored["avnode"][node - 1, t])
    return float(np.mean(values))


@pytest.fixture
def stored() -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(3)
    return [tree(generator, features=count) for count in (18, 45, 75)]


def save(folder: Path, forests: list[dict[str, np.ndarray]], linear: list[float]) -> Path:
    cell = np.empty(len(forests), dtype=object)
    cell[:] = forests
    savemat(folder / "model.mat", {"model": {"rf": cell, "linear": np.array(linear)[:, None]}})
    model = {"mu_prisparam": np.zeros((1, 36)), "cov_prisparam": np.eye(36)}
    savemat(folder / "niqe_modelparameters.mat", model)
    return folder


class TestScore:
    LINEAR = (-2.0, 0.5, 0.25, 0.75)

    def test_it_is_the_forests_answer(
        self, tmp_path: Path, stored: list[dict[str, np.ndarray]], generator: torch.Generator
    ) -> None:
        folder = save(tmp_path, stored, list(self.LINEAR))
        x = torch.rand(2, 3, 112, 200, generator=generator)
        groups = ma_features(shaved_luma(x[1:], shave=4)[0])
        answers = [
            answer(forest, group.tolist()) for forest, group in zip(stored, groups, strict=True)
        ]
        expected = -2 + 0.5 * answers[0] + 0.25 * answers[1] + 0.75 * answers[2]
        found = ma(x, folder=folder)
        assert found.shape == (2,)
        assert found[1].item() == pytest.approx(expected, abs=1e-12)
        index = pi(x, folder=folder)
        assert torch.allclose(index, (10 - found + niqe(x, folder=folder)) / 2, atol=1e-12)

    def test_a_forest_goes_every_way(self, stored: list[dict[str, np.ndarray]]) -> None:
        raw = stored[0]
        tensors = {name: torch.from_numpy(array) for name, array in raw.items()}
        forest = Forest(
            left=tensors["lDau"].long() - 1,
            right=tensors["rDau"].long() - 1,
            leaf=tensors["nodestatus"] == -1,
            feature=(tensors["mbest"].long() - 1).clamp(min=0),
            threshold=tensors["upper"],
            value=tensors["avnode"],
        )
        rows = np.random.default_rng(4).uniform(0, 1, (50, 18))
        found = [forest.predict(torch.from_numpy(row)).item() for row in rows]
        assert found == pytest.approx([answer(raw, row.tolist()) for row in rows], abs=1e-12)
        assert len(set(found)) > 5

    def test_without_the_forests_there_is_no_score(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
        for metric in (ma, pi):
            with pytest.raises(UnavailableError, match=r"'model\.mat'"):
                metric(torch.rand(1, 3, 200, 200))
            with pytest.raises(UnavailableError, match=str(tmp_path)):
                metric(torch.rand(1, 3, 200, 200), folder=tmp_path)

    def test_refused_images(self, tmp_path: Path, stored: list[dict[str, np.ndarray]]) -> None:
        folder = save(tmp_path, stored, list(self.LINEAR))
        with pytest.raises(UnavailableError, match="100 pixels a side"):
            ma(torch.rand(1, 3, 107, 200), folder=folder)
        with pytest.raises(InputError, match="three times"):
            ma(torch.rand(1, 1, 200, 200), folder=folder)

    def test_refused_files(self, tmp_path: Path, stored: list[dict[str, np.ndarray]]) -> None:
        x = torch.rand(1, 3, 120, 120)
        cases = {
            "three forests": (stored[:2], list(self.LINEAR)),
            "not 4": (stored, [1.0, 2.0]),
            "lacks the array 'upper'": (
                [*stored[:2], {k: v for k, v in stored[2].items() if k != "upper"}],
                list(self.LINEAR),
            ),
            r"beyond 1\.\.8": (
                [*stored[:2], {**stored[2], "lDau": stored[2]["lDau"] + 7}],
                list(self.LINEAR),
            ),
        }
        for number, (message, (forests, linear)) in enumerate(cases.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            with pytest.raises(CheckpointError, match=message):
                ma(x, folder=save(folder, forests, linear))
