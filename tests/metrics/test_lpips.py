from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.metrics import lpips

LAYERS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AlexNet and heads with random values."""
    path, generator = tmp_path_factory.mktemp("weights"), torch.Generator().manual_seed(1)
    layers, heads = {}, {}
    for k, (number, (maps, before, size)) in enumerate(LAYERS.items()):
        weight = torch.randn(maps, before, size, size, generator=generator)
        layers[f"features.{number}.weight"] = weight / (size * before**0.5)
        layers[f"features.{number}.bias"] = torch.randn(maps, generator=generator) / 10
        heads[f"lin{k}.model.1.weight"] = torch.rand(1, maps, 1, 1, generator=generator)
    save_file(layers, path / "alexnet_conv.safetensors")
    save_file(heads, path / "lpips_alex_v0.1.safetensors")
    return path


def test_properties(folder: Path, generator: torch.Generator) -> None:
    sr, hr = torch.rand(2, 2, 3, 40, 48, generator=generator)
    both = lpips(sr, hr, folder=folder)
    assert both.shape == (2,)
    assert both.dtype == torch.float64
    assert both.min().item() > 0
    assert lpips(hr, hr, folder=folder).tolist() == [0.0, 0.0]
    assert lpips(hr, sr, folder=folder).tolist() == pytest.approx(both.tolist(), rel=1e-5)
    alone = [lpips(sr[k : k + 1], hr[k : k + 1], folder=folder).item() for k in range(2)]
    assert both.tolist() == pytest.approx(alone, rel=1e-5)


def test_images_are_rounded_to_uint8(folder: Path, generator: torch.Generator) -> None:
    hr = torch.rand(1, 3, 40, 40, generator=generator).mul(255).round().div(255)
    assert lpips(hr + 0.4 / 255, hr, folder=folder).item() == 0.0
    assert lpips(hr + 0.6 / 255, hr, folder=folder).item() > 0.0


def test_refused_arguments(folder: Path, tmp_path: Path) -> None:
    x = torch.rand(1, 3, 40, 40)
    with pytest.raises(UnavailableError, match="LPIPS needs the file 'alexnet"):
        lpips(x, x, folder=tmp_path)
    (tmp_path / "alexnet_conv.safetensors").symlink_to(folder / "alexnet_conv.safetensors")
    with pytest.raises(UnavailableError, match="LPIPS needs the file 'lpips_alex"):
        lpips(x, x, folder=tmp_path)
    save_file({"lin0.model.1.weight": x}, tmp_path / "lpips_alex_v0.1.safetensors")
    with pytest.raises(CheckpointError, match="heads"):
        lpips(x, x, folder=tmp_path)
    with pytest.raises(InputError, match="differ in size"):
        lpips(x, x[..., 1:], folder=folder)
    with pytest.raises(InputError, match="at least 31 pixels"):
        lpips(x[..., :30], x[..., :30], folder=folder)


def image(path: Path) -> Tensor:
    return to_rgb_tensor(read_image(path))


@pytest.mark.data
@pytest.mark.parametrize(("name", "expected"), [("ex_p0", 0.7219), ("ex_p1", 0.1376)])
def test_the_authors_examples(data_root: Path, name: str, expected: float) -> None:
    # Printed by the authors' package (lpips 0.1.4) for its own images.
    cases = data_root / "metric_cases"
    value = lpips(
        image(cases / f"{name}.png"), image(cases / "ex_ref.png"), folder=data_root / "weights"
    )
    assert value.item() == pytest.approx(expected, abs=5e-5)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "number", "expected"), [("comic", 5, 0.1371), ("baboon", 1, 0.2031)]
)
def test_esrgan_s_published_images(
    data_root: Path, name: str, number: int, expected: float
) -> None:
    # lpips 0.1.4 on the same images.
    sr = image(data_root / "results" / "ESRGAN_Set14_x4" / f"{name}.png")
    folder = data_root / "benchmarks" / "Set14" / "image_SRF_4"
    hr = image(folder / f"img_{number:03d}_SRF_4_HR.png")
    value = lpips(sr, hr, folder=data_root / "weights")
    assert value.item() == pytest.approx(expected, abs=5e-5)
