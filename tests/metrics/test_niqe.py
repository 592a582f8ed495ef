import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.metrics import niqe
from edgekeeper.metrics.niqe import (
    block_features,
    fit_asymmetric,
    fit_features,
    nearest_shape,
    shaved_luma,
)

# All published values here: an independent numpy script in float64 (methods of the NIQE release).


def noise(seed: int, count: int) -> np.ndarray:
    """Bytes of the generator s = (1664525 s + 1013904223) mod 2^32, the byte is s >> 24."""
    powers = np.cumprod(np.full(count, 1664525), dtype=np.uint32)
    sums = np.cumsum(np.concatenate([np.ones(1, np.uint32), powers[:-1]]), dtype=np.uint32)
    return (powers * np.uint32(seed) + np.uint32(1013904223) * sums) >> np.uint32(24)


def synthetic() -> np.ndarray:
    y, x = np.mgrid[:200, :300]
    waves = 120 + 50 * np.sin(x / 11) + 40 * np.cos(y / 7 + x / 19)
    return np.clip(np.floor(waves + noise(5, x.size).reshape(x.shape) % 25 - 12), 0, 255)


def with_luma(luma: np.ndarray) -> Tensor:
    """A grey RGB image (1, 3, H, W) whose rounded luma is ``luma`` (within 16 .. 235)."""
    grey = (torch.from_numpy(luma) - 16) / 219
    return grey.expand(1, 3, *luma.shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with made-up numbers: zero mean and the identity."""
    path = tmp_path_factory.mktemp("weights")
    model = {"mu_prisparam": np.zeros((1, 36)), "cov_prisparam": np.eye(36)}
    savemat(path / "niqe_modelparameters.mat", model)
    return path


def test_the_asymmetric_fit() -> None:
    fit = fit_asymmetric(torch.tensor([[-2, -1, -0.5, 0, 0.5, 1, 3]], dtype=torch.float64))
    assert fit.shape.item() == pytest.approx(1.638, abs=1e-12)
    assert fit.left.item() == pytest.approx(1.6517031384901433, abs=1e-12)
    assert fit.right.item() == pytest.approx(2.3078855873022426, abs=1e-12)


def test_features_of_a_block() -> None:
    block = torch.from_numpy((noise(3, 36).reshape(1, 6, 6).astype(np.float64) - 128) / 64)
    expected = [
        10.0,
        1.9209479131440044,
        1.483,
        0.03973499739921646,
        1.2929631851121273,
        1.352731744470451,
        1.99,
        -0.129479942724171,
        1.7076919155927324,
        1.4786619423029028,
        1.696,
        -0.5682871013282936,
        1.7324633385569097,
        0.801568988081485,
        2.502,
        -0.6496535199655874,
        2.1623933131188715,
        0.9243850947558677,
    ]
    assert fit_features(block)[0].tolist() == pytest.approx(expected, abs=1e-12)
    # Many blocks at once are each block by itself.
    many = torch.cat([block, 2 * block.flip(1), block.transpose(1, 2)])
    alone = torch.cat([fit_features(one[None]) for one in many])
    assert torch.allclose(fit_features(many), alone, rtol=1e-13, atol=0)


def test_features_of_a_synthetic_image() -> None:
    luma = synthetic()
    digest = hashlib.sha256(luma.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "1c752aed48c35100a97d2035ef9fec19971f67bfe02e8c863349c037693e0c1a"
    features = block_features(torch.from_numpy(luma))
    assert features.shape == (6, 36)
    assert features.mean(dim=0)[:6].tolist() == pytest.approx(
        [
            9.524666666666667,
            1.158455389807173,
            1.262,
            -0.05834363365749306,
            0.4467585860054446,
            0.3702372743219951,
        ],
        abs=2e-5,
    )


def test_the_table_finds_what_a_search_of_all_shapes_finds(generator: torch.Generator) -> None:
    grid = np.arange(200, 10001) / 1000
    gamma = np.vectorize(math.gamma)
    table = gamma(2 / grid) ** 2 / (gamma(1 / grid) * gamma(3 / grid))
    wanted = torch.rand(200, generator=generator, dtype=torch.float64)
    nearest = [grid[np.argmin((table - value) ** 2)] for value in wanted.tolist()]
    assert nearest_shape(wanted, of="mean over square").tolist() == pytest.approx(nearest)
    assert nearest_shape(torch.tensor([torch.nan]), of="mean over square").item() == 0.2


def test_the_score_is_the_distance_of_the_means(folder: Path) -> None:
    luma = np.clip(synthetic(), 16, 235)
    features = block_features(torch.from_numpy(luma)).numpy()
    covariance = (np.eye(36) + np.cov(features.T)) / 2
    mean = features.mean(axis=0)
    expected = np.sqrt(mean @ np.linalg.inv(covariance) @ mean)
    score = niqe(with_luma(luma), shave=0, folder=folder)
    assert score.dtype == torch.float64
    assert score.tolist() == pytest.approx([expected], rel=1e-9)
    # A batch, in any precision that holds the grey levels, is each image by itself.
    batch = torch.cat([with_luma(luma), with_luma(luma[::-1].copy())]).float()
    both = niqe(batch, shave=0, folder=folder)
    assert both.tolist() == pytest.approx(
        [expected, niqe(batch[1:], shave=0, folder=folder).item()], rel=1e-9
    )
    # What is left after shaving is what counts.
    framed = torch.nn.functional.pad(with_luma(luma), (4, 4, 4, 4))
    assert niqe(framed, folder=folder).tolist() == pytest.approx([expected], rel=1e-9)


def test_luma_is_rounded_and_shaved() -> None:
    luma = np.clip(synthetic(), 16, 235)
    whole = shaved_luma(with_luma(luma), shave=0)
    np.testing.assert_array_equal(whole[0].numpy(), luma)
    assert torch.equal(shaved_luma(with_luma(luma), shave=7), whole[:, 7:-7, 7:-7])


def test_too_small_or_flat_is_unavailable(folder: Path) -> None:
    with pytest.raises(UnavailableError, match="two blocks of 96x96"):
        niqe(torch.rand(1, 3, 104, 199), folder=folder)
    with pytest.raises(UnavailableError, match="flat"):
        niqe(torch.full((1, 3, 200, 200), 0.5), folder=folder)
    assert niqe(torch.rand(1, 3, 104, 200), folder=folder).isfinite().all()


def test_refused_arguments(tmp_path: Path, folder: Path) -> None:
    x = torch.rand(1, 3, 200, 200)
    with pytest.raises(UnavailableError, match=r"niqe_modelparameters\.mat"):
        niqe(x, folder=tmp_path)
    savemat(tmp_path / "niqe_modelparameters.mat", {"mu_prisparam": np.zeros((1, 36))})
    with pytest.raises(CheckpointError, match="cov_prisparam"):
        niqe(x, folder=tmp_path)
    with pytest.raises(InputError, match="three times"):
        niqe(x[:, :1], folder=folder)
    with pytest.raises(InputError, match="shave"):
        niqe(x, shave=-1, folder=folder)
    with pytest.raises(InputError, match="leaves nothing"):
        niqe(x, shave=100, folder=folder)


@pytest.mark.data
class TestPublished:
    def test_the_synthetic_image(self, data_root: Path) -> None:
        # 29.63898506718638; the rounded luma of RGB holds only 16 .. 235, so straight from luma.
        model = loadmat(data_root / "weights" / "niqe_modelparameters.mat")
        features = block_features(torch.from_numpy(synthetic())).numpy()
        gap = model["mu_prisparam"][0] - features.mean(axis=0)
        covariance = (model["cov_prisparam"] + np.cov(features.T)) / 2
        score = np.sqrt(gap @ np.linalg.pinv(covariance) @ gap)
        assert score == pytest.approx(29.63898506718638, abs=2e-5)

    def test_baboon(self, data_root: Path) -> None:
        # 5.72957338: MATLAB R2021a as reported by BasicSR.
        path = data_root / "benchmarks" / "Set14" / "image_SRF_4" / "img_001_SRF_4_HR.png"
        x = to_rgb_tensor(read_image(path))
        weights = data_root / "weights"
        score = niqe(x, shave=0, folder=weights).item()
        assert score == pytest.approx(5.729573884151673, abs=2e-5)
        assert score == pytest.approx(5.72957338, abs=2e-5)
        assert niqe(x, folder=weights).item() == pytest.approx(5.989248336740896, abs=2e-5)

    def test_set5(self, data_root: Path) -> None:
        expected = [
            3.322401354167404,
            5.283541252653707,
            5.205036384383833,
            8.741161948002866,
            4.635479274108197,
        ]
        folder = data_root / "benchmarks" / "Set5" / "image_SRF_4"
        found = [
            niqe(
                to_rgb_tensor(read_image(folder / f"img_{k:03d}_SRF_4_HR.png")),
                folder=data_root / "weights",
            ).item()
            for k in range(1, 6)
        ]
        assert found == pytest.approx(expected, abs=2e-5)


def test_the_greys_that_niqe_can_look_at() -> None:
    colours = torch.tensor([[200, 100, 50], [255, 255, 255], [77, 77, 77]]) / 255
    image = colours.T.reshape(1, 3, 1, 3)
    wanted = {"y": (123, 235, 82), "rgb2gray": (124, 255, 77), "stored": (200, 255, 77)}
    for grey, values in wanted.items():
        assert shaved_luma(image, shave=0, grey=grey).flatten().tolist() == list(values)
