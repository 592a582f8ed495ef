from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgekeeper.data.pairs import load_pairs
from edgekeeper.errors import UnavailableError
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.metrics import PROTOCOLS, lpips, niqe, perceptual
from edgekeeper.metrics.perceptual import measure_perceptual
from edgekeeper.metrics.score import score_image

OF_FILES = ("lpips", "niqe", "niqe_rgb2gray", "niqe_stored", "ma", "pi")


def constant(value: float, *, calls: list[float] | None = None) -> object:
    """A metric that gives ``value`` for any arguments and notes that it was called."""

    def metric(*_: Tensor, folder: Path | None = None, grey: str = "y") -> Tensor:
        if calls is not None:
            calls.append(value)
        return torch.tensor([value], dtype=torch.float64)

    return metric


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Metrics with known values: LPIPS 0.2, NIQE 5, Ma 8; what was called is in the list."""
    calls: list[float] = []
    for name, value in (("lpips", 0.2), ("niqe", 5.0), ("ma", 8.0)):
        monkeypatch.setattr(perceptual, name, constant(value, calls=calls))
    return calls


X = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def test_only_what_is_asked_for_is_measured(noted: list[float]) -> None:
    assert measure_perceptual(X, X, metrics=("psnr", "ssim")).values == {}
    assert noted == []
    assert measure_perceptual(X, X, metrics=("psnr", "niqe")).values == {"niqe": 5.0}
    assert noted == [5.0]


def test_pi_is_made_of_ma_and_niqe_which_are_measured_once(noted: list[float]) -> None:
    found = measure_perceptual(X, X, metrics=OF_FILES)
    niqes = dict.fromkeys(("niqe", "niqe_rgb2gray", "niqe_stored"), 5.0)
    assert found.values == {"lpips": 0.2, **niqes, "ma": 8.0, "pi": 3.5}
    assert found.unavailable == {}
    assert sorted(noted) == [0.2, 5.0, 5.0, 5.0, 8.0]
    assert measure_perceptual(X, X, metrics=("pi",)).values == {"pi": 3.5}


def test_without_weights_the_reason_names_the_file(tmp_path: Path) -> None:
    found = measure_perceptual(X, X, metrics=OF_FILES, folder=tmp_path)
    assert found.values == {}
    files = {
        "lpips": "alexnet_conv.safetensors",
        **dict.fromkeys(("niqe", "niqe_rgb2gray", "niqe_stored"), "niqe_modelparameters.mat"),
        "ma": "model.mat",
        "pi": "model.mat",
    }
    for metric, file in files.items():
        assert f"'{file}'" in found.unavailable[metric]


def test_without_forests_pi_does_not_wait_for_niqe(
    noted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Tensor, folder: Path | None = None) -> Tensor:
        raise UnavailableError("no forests")

    monkeypatch.setattr(perceptual, "ma", missing)
    found = measure_perceptual(X, X, metrics=("pi",))
    assert found.unavailable == {"pi": "PI is made of Ma and NIQE. no forests"}
    assert noted == []
    assert measure_perceptual(X, X, metrics=("pi", "niqe")).values == {"niqe": 5.0}


def test_a_image_too_small_for_lpips_is_no_error(noted: list[float]) -> None:
    small = X[..., :30]
    found = measure_perceptual(small, small, metrics=("lpips",))
    assert found.unavailable == {"lpips": "LPIPS needs 31 pixels a side; this image has 40x30."}
    assert measure_perceptual(X[..., :31], X[..., :31], metrics=("lpips",)).values


# Images published with ESRGAN: what independent programs measured on them (lpips 0.1.4; PSNR
# of float luma with a border of 4).
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "psnr", "distance"), [("comic", 20.97, 0.1371), ("baboon", 20.32, 0.2031)]
)
def test_esrgan_s_published_images(
    name: str, psnr: float, distance: float, data_root: Path
) -> None:
    weights = data_root / "weights"
    pairs = {pair.name: pair for pair in load_pairs("set14", scale=4, root=data_root)}
    hr = pairs[name].hr()
    sr = to_rgb_tensor(read_image(data_root / "results" / "ESRGAN_Set14_x4" / f"{name}.png"))
    score = score_image(
        sr,
        hr,
        set_name="set14",
        image=name,
        scale=4,
        model="ESRGAN",
        protocol=PROTOCOLS["y_float"],
        lr_kernel="unknown",
        metrics=("lpips", "niqe"),
        weights=weights,
    )
    assert score.psnr == pytest.approx(psnr, abs=0.005)
    # The whole RGB image, no border left out; NIQE on luma without 4 pixels on each side.
    assert score.lpips == pytest.approx(distance, abs=5e-5)
    assert score.lpips == lpips(sr, hr, folder=weights).item()
    assert score.niqe == niqe(sr, shave=4, folder=weights).item()
    for grey in ("rgb2gray", "stored"):
        asked = measure_perceptual(sr, hr, metrics=(f"niqe_{grey}",), folder=weights).values
        assert asked[f"niqe_{grey}"] == niqe(sr, folder=weights, grey=grey).item() != score.niqe
    assert score.niqe != pytest.approx(niqe(sr, shave=0, folder=weights).item(), abs=1e-3)
