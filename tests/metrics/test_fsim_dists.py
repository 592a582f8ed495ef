"""FSIM against another program, DISTS against loops on random weights of the published shapes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.metrics import dists, fsim
from edgekeeper.metrics.dists import DISTS_FILE, VGG16_FILE
from edgekeeper.metrics.fsim import phase_congruency
from edgekeeper.metrics.perceptual import measure_perceptual


def pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return waves and a chequered pattern, and the same blurred and with a ripple; 8 bits."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes = (
        0.5 + 0.3 * torch.sin(x / 5) * torch.cos(y / 7),
        0.4 + 0.3 * ((x // 9 + y // 6) % 2),
        0.5 + 0.2 * torch.sin(y / 3),
    )
    hr = torch.stack(planes)[None]
    around = torch.nn.functional.pad(hr, (1, 1, 1, 1), mode="reflect")
    sr = torch.nn.functional.avg_pool2d(around, 3, 1) + 0.05 * torch.sin(x * 1.7 + y * 0.9)
    sr, hr = ((image.clamp(0, 1) * 255).round() / 255 for image in (sr, hr))
    return sr, hr


def test_fsim() -> None:
    # piq 0.8.0, fsim(..., chromatic=False) and True, in float64.
    for size, grey, colour in (
        ((64, 48), 0.7797572078606079, 0.7723921230592546),
        ((61, 75), 0.7713161267647809, 0.7623229599226886),
    ):
        sr, hr = pair(*size)
        assert fsim(sr, hr).item() == pytest.approx(grey, abs=5e-5)
        assert fsim(sr, hr, colour=True).item() == pytest.approx(colour, abs=5e-5)
        assert fsim(hr, hr).item() == pytest.approx(1)
        torch.testing.assert_close(fsim(sr, hr), fsim(hr, sr))
        both = fsim(torch.cat([sr, hr]), torch.cat([hr, hr]))
        torch.testing.assert_close(both, torch.tensor([fsim(sr, hr).item(), 1.0]).double())
    flat = torch.full((1, 3, 20, 20), 0.5)
    assert fsim(flat, flat).item() == pytest.approx(1)
    with pytest.raises(InputError, match="16 pixels"):
        fsim(flat[..., :15], flat[..., :15])
    large = pair(400, 410)  # shrunk by 2 first
    assert 0.5 < fsim(*large).item() < 1


def test_phase_congruency_is_high_on_an_edge_and_does_not_see_its_contrast() -> None:
    step = torch.zeros(1, 1, 64, 64)
    step[..., 32:] = 100
    strong, weak = phase_congruency(step), phase_congruency(step / 4)
    assert strong[0, 0, 32, 31:33].min() > 0.75 and strong[0, 0, 32, 40] < 0.25
    torch.testing.assert_close(strong, weak, rtol=0.02, atol=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, generator = tmp_path_factory.mktemp("dists"), torch.Generator().manual_seed(0)
    tensors, previous = {}, 3
    for maps, block in (
        (64, (0, 2)),
        (128, (5, 7)),
        (256, (10, 12, 14)),
        (512, (17, 19, 21)),
        (512, (24, 26, 28)),
    ):
        for number in block:
            scale = (2 / (9 * previous)) ** 0.5
            shape = (maps, previous, 3, 3)
            tensors[f"features.{number}.weight"] = scale * torch.randn(shape, generator=generator)
            tensors[f"features.{number}.bias"] = torch.zeros(maps)
            previous = maps
    torch.save(tensors, place / VGG16_FILE)
    heads = {n: torch.rand(1, 1475, 1, 1, generator=generator) for n in ("alpha", "beta")}
    torch.save(heads, place / DISTS_FILE)
    return place


def test_dists(folder: Path) -> None:
    sr, hr = pair(20, 24)
    vgg, heads = (torch.load(folder / name) for name in (VGG16_FILE, DISTS_FILE))

    def maps_of(image: Tensor) -> list[np.ndarray]:
        """By another way: the pooling as an explicit sum over shifted, padded squares."""
        found, x = [image[0].numpy()], image.clone()
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (x - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            if block[0]:
                padded = np.pad(x[0].numpy() ** 2, ((0, 0), (1, 1), (1, 1)))
                height, width = x.shape[-2:]
                window = np.hanning(5)[1:-1]
                total = sum(
                    window[i] * window[j] / 4 * padded[:, i : i + height : 2, j : j + width : 2]
                    for i in range(3)
                    for j in range(3)
                )
                x = torch.from_numpy(np.sqrt(total + 1e-12)).float()[None]
            for number in block:
                weight = vgg[f"features.{number}.weight"]
                x = torch.nn.functional.conv2d(x, weight, padding="same").clamp_min(0)
            found.append(x[0].numpy())
        return found

    alpha, beta = (heads[name].flatten().double().numpy() for name in ("alpha", "beta"))
    score, place = 0.0, 0
    for a, b in zip(maps_of(sr), maps_of(hr), strict=True):
        for x, y in zip(a.astype(float), b.astype(float), strict=True):
            texture = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            together = ((x - x.mean()) * (y - y.mean())).mean()
            structure = (2 * together + 1e-6) / (x.var() + y.var() + 1e-6)
            score += alpha[place] * texture + beta[place] * structure
            place += 1
    expected = 1 - score / (alpha.sum() + beta.sum())
    assert dists(sr, hr, folder=folder).item() == pytest.approx(expected, abs=2e-5)
    assert dists(hr, hr, folder=folder).item() == pytest.approx(0, abs=1e-6)


def test_files_that_are_missing_or_damaged(folder: Path, tmp_path: Path) -> None:
    sr, hr = pair(20, 24)
    with pytest.raises(UnavailableError, match=r"DISTS needs the file 'vgg16.*torchvision"):
        dists(sr, hr, folder=tmp_path)
    (tmp_path / VGG16_FILE).write_bytes((folder / VGG16_FILE).read_bytes())
    torch.save({"alpha": torch.ones(1, 1475, 1, 1)}, tmp_path / DISTS_FILE)
    with pytest.raises(CheckpointError, match="'beta'"):
        dists(sr, hr, folder=tmp_path)
    found = measure_perceptual(sr, hr, metrics=("fsim", "dists"), folder=tmp_path / "no")
    assert found.values.keys() == {"fsim"} and "DISTS needs" in found.unavailable["dists"]
    small = measure_perceptual(sr[..., :9], hr[..., :9], metrics=("fsim",))
    assert "16 pixels" in small.unavailable["fsim"]
