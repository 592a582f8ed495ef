from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgekeeper.errors import InputError, UnavailableError
from edgekeeper.losses import Perceptual
from edgekeeper.models.backbones import VGG19


@pytest.fixture
def folder(tmp_path: Path, generator: torch.Generator) -> Path:
    """A file of VGG19 as far as conv2_1, small random values."""
    tensors = {
        "input.weight": torch.eye(3).flip(0).reshape(3, 3, 1, 1).contiguous(),
        "input.bias": torch.full((3,), -0.5),
        "conv5_4_factor": torch.ones(512),
    }
    for number, (maps, before) in {0: (64, 3), 2: (64, 64), 5: (128, 64)}.items():
        weight = torch.randn(maps, before, 3, 3, generator=generator) / (3 * before**0.5)
        tensors[f"features.{number}.weight"] = weight
        tensors[f"features.{number}.bias"] = torch.randn(maps, generator=generator) / 10
    save_file(tensors, tmp_path / "vgg19_conv.safetensors")
    return tmp_path


@pytest.mark.parametrize("activation", ["before_relu", "after_relu"])
def test_it_is_the_mean_difference_of_the_maps(
    folder: Path, activation: str, generator: torch.Generator
) -> None:
    sr, hr = torch.rand(2, 2, 3, 8, 10, generator=generator)
    kind = {"layer": "conv2_1", "activation": activation, "folder": folder}
    network = VGG19(layers=("conv2_1",), activation=activation, folder=folder)  # type: ignore[arg-type]
    difference = network(sr)[0] - network(hr)[0]
    l1 = Perceptual(**kind)(sr, hr)  # type: ignore[arg-type]
    mse = Perceptual(norm="mse", **kind)(sr, hr)  # type: ignore[arg-type]
    assert l1.item() == pytest.approx(difference.abs().mean().item(), rel=1e-6)
    assert mse.item() == pytest.approx(difference.square().mean().item(), rel=1e-6)
    assert Perceptual(**kind)(sr, sr).item() == 0.0  # type: ignore[arg-type]


def test_unit_vectors_of_several_layers_are_twice_one_less_their_cosine(
    folder: Path, generator: torch.Generator
) -> None:
    sr, hr = torch.rand(2, 2, 3, 8, 10, generator=generator)
    layers = ("conv1_2", "conv2_1")
    network = VGG19(layers=layers, activation="before_relu", folder=folder)
    cosines = [
        torch.nn.functional.cosine_similarity(one, other).mean().item()
        for one, other in zip(network(sr), network(hr), strict=True)
    ]
    loss = Perceptual(layer=layers, norm="unit", folder=folder)
    assert loss(sr, hr).item() == pytest.approx(sum(2 - 2 * c for c in cosines), rel=1e-4)
    assert loss(sr, sr).item() == 0.0
    assert "layer='conv1_2, conv2_1'" in repr(loss)


@pytest.mark.parametrize("norm", ["l1", "mse", "unit"])
def test_gradient_in_float64(folder: Path, norm: str, generator: torch.Generator) -> None:
    loss = Perceptual(layer="conv2_1", norm=norm, folder=folder).double()  # type: ignore[arg-type]
    sr = torch.rand(1, 3, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    hr = torch.rand(1, 3, 4, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, hr), (sr,))


def test_the_gradient_goes_to_ours_only(folder: Path, generator: torch.Generator) -> None:
    loss = Perceptual(layer="conv1_2", folder=folder)
    sr = torch.rand(1, 3, 8, 8, generator=generator, requires_grad=True)
    hr = torch.rand(1, 3, 8, 8, generator=generator, requires_grad=True)
    loss.train()
    loss(sr, hr).backward()
    assert sr.grad is not None
    assert sr.grad.abs().max().item() > 0
    assert hr.grad is None
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())
    assert not loss.network.training


def test_inside_autocast_the_difference_is_in_float32(
    folder: Path, generator: torch.Generator
) -> None:
    loss = Perceptual(layer="conv2_1", folder=folder)
    sr = torch.rand(1, 3, 16, 16, generator=generator, requires_grad=True)
    hr = torch.rand(1, 3, 16, 16, generator=generator)
    plain = loss(sr, hr).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(sr, hr)
    inside.backward()
    assert inside.dtype == torch.float32
    assert inside.item() == pytest.approx(plain, rel=0.02)
    assert inside.item() != plain  # the convolutions did follow autocast
    assert sr.grad is not None
    assert sr.grad.isfinite().all()


def test_refused_arguments(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="norm"):
        Perceptual(norm="l2", folder=folder)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="layer of VGG19"):
        Perceptual(layer="conv9", folder=folder)
    with pytest.raises(UnavailableError, match="vgg19_conv"):
        Perceptual(folder=tmp_path / "nowhere")
    loss = Perceptual(layer="conv1_1", folder=folder)
    with pytest.raises(InputError, match="three times"):
        loss(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8))
    with pytest.raises(InputError, match="must be equal"):
        loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9))
    assert "layer='conv1_1', activation='before_relu', norm='l1'" in repr(loss)


@pytest.mark.data
def test_more_blur_is_a_greater_difference(data_root: Path, generator: torch.Generator) -> None:
    loss = Perceptual(folder=data_root / "weights")
    hr = torch.rand(1, 3, 32, 32, generator=generator)
    values = [
        loss(torch.nn.functional.avg_pool2d(hr, size, 1, size // 2), hr).item()
        for size in (1, 3, 5)
    ]
    assert values[0] == 0.0
    assert 0 < values[1] < values[2]
