from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.signal import correlate2d
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.models.backbones import (
    ALEXNET_FILE,
    VGG19,
    AlexNet,
    read_weights_file,
    weights_file,
)

# torchvision's numbers of VGG19's convolutions, and where it pools (ICLR 2015, table 1, column E)
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
POOLINGS = (4, 9, 18, 27)


def first_layers(generator: torch.Generator) -> dict[str, Tensor]:
    """The first three convolutions of VGG19, small random values."""
    sizes = {0: (64, 3), 2: (64, 64), 5: (128, 64)}
    found = {}
    for number, (maps, before) in sizes.items():
        found[f"features.{number}.weight"] = torch.randn(maps, before, 3, 3, generator=generator)
        found[f"features.{number}.bias"] = torch.randn(maps, generator=generator)
    return found


@pytest.fixture
def folder(tmp_path: Path, generator: torch.Generator) -> Path:
    """Both kinds of VGG19 files, as far as conv2_1."""
    layers = first_layers(generator)
    torch.save({**layers, "classifier.0.bias": torch.zeros(2)}, tmp_path / "vgg19-dcbb9e9d.pth")
    inputs = {
        "input.weight": torch.eye(3).flip(0).mul(255).reshape(3, 3, 1, 1).contiguous(),
        "input.bias": torch.tensor([-104.0, -117.0, -124.0]),
        "conv5_4_factor": torch.ones(512),
    }
    half = {k: v.half() if k.endswith("weight") else v for k, v in layers.items()}
    save_file({**half, **inputs}, tmp_path / "vgg19_conv.safetensors")
    return tmp_path


class TestWeights:
    def test_without_a_folder_the_message_says_where_to_put_which_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
        with pytest.raises(UnavailableError, match=r"'vgg19_conv\.safetensors'.*data get weights"):
            VGG19()
        with pytest.raises(UnavailableError, match=ALEXNET_FILE):
            AlexNet()
        with pytest.raises(UnavailableError, match=str(tmp_path)):
            AlexNet(folder=tmp_path)

    def test_the_folder_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("EDGEKEEPER_DATA", str(tmp_path))
        with pytest.raises(UnavailableError, match="does not hold it"):
            weights_file("a.mat", purpose="This")
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "a.mat").touch()
        assert weights_file("a.mat", purpose="This") == tmp_path / "weights" / "a.mat"

    def test_a_file_that_lacks_layers_is_refused(self, folder: Path) -> None:
        with pytest.raises(CheckpointError, match=r"features\.7\.weight"):
            VGG19(layers=("conv2_2",), folder=folder)
        (folder / "vgg19_conv.safetensors").write_bytes(b"no weights")
        with pytest.raises(CheckpointError, match="readable"):
            VGG19(folder=folder)
        (folder / "vgg19-dcbb9e9d.pth").write_bytes(b"no weights")
        with pytest.raises(CheckpointError, match="readable"):
            VGG19(folder=folder, weights="torchvision")

    def test_a_file_without_its_scales_is_refused(
        self, folder: Path, generator: torch.Generator
    ) -> None:
        save_file(first_layers(generator), folder / "vgg19_conv.safetensors")
        with pytest.raises(CheckpointError, match="conv5_4_factor"):
            VGG19(layers=("conv1_1",), folder=folder)

    def test_building_one_takes_no_random_numbers(self, folder: Path) -> None:
        before = torch.get_rng_state()
        VGG19(layers=("conv1_1",), folder=folder)
        assert torch.equal(before, torch.get_rng_state())


def by_hand(normalised: np.ndarray, tensors: dict[str, Tensor], *, maps: int) -> np.ndarray:
    """The first maps of conv1_1 by SciPy's correlation."""
    weight = tensors["features.0.weight"].double().numpy()
    bias = tensors["features.0.bias"].double().numpy()
    return np.stack(
        [
            sum(correlate2d(normalised[c], weight[m, c], mode="same") for c in range(3)) + bias[m]
            for m in range(maps)
        ]
    )


class TestVGG19:
    def test_first_layer_of_torchvision_s_file(
        self, folder: Path, generator: torch.Generator
    ) -> None:
        x = torch.rand(1, 3, 6, 7, generator=generator, dtype=torch.float64)
        mean = np.array([0.485, 0.456, 0.406])[:, None, None]
        deviation = np.array([0.229, 0.224, 0.225])[:, None, None]
        tensors = torch.load(folder / "vgg19-dcbb9e9d.pth", weights_only=True)
        expected = by_hand((x[0].numpy() - mean) / deviation, tensors, maps=3)
        network = VGG19(layers=("conv1_1",), weights="torchvision", folder=folder).double()
        (found,) = network(x)
        assert found.shape == (1, 64, 6, 7)
        np.testing.assert_allclose(found[0, :3].numpy(), expected, atol=1e-5)

    def test_first_layer_of_the_authors_file(
        self, folder: Path, generator: torch.Generator
    ) -> None:
        x = torch.rand(1, 3, 6, 7, generator=generator, dtype=torch.float64)
        blue_first = x[0].numpy()[::-1] * 255 - np.array([104.0, 117.0, 124.0])[:, None, None]
        tensors = load_file(folder / "vgg19_conv.safetensors")
        expected = by_hand(blue_first, tensors, maps=3)
        before, after = (
            VGG19(layers=("conv1_1",), activation=kind, folder=folder).double()(x)[0]
            for kind in ("before_relu", "after_relu")
        )
        np.testing.assert_allclose(before[0, :3].numpy(), expected, atol=1e-9)
        assert torch.equal(after, before.clamp(min=0))

    def test_several_layers_at_once(self, folder: Path, generator: torch.Generator) -> None:
        x = torch.rand(2, 3, 9, 8, generator=generator)
        together = VGG19(layers=("conv1_1", "conv2_1"), folder=folder)(x)
        assert [tuple(maps.shape) for maps in together] == [(2, 64, 9, 8), (2, 128, 4, 4)]
        (alone,) = VGG19(layers=("conv2_1",), folder=folder)(x)
        assert torch.equal(together[1], alone)

    def test_it_is_frozen_and_stays_so(self, folder: Path) -> None:
        network = VGG19(layers=("conv2_1",), folder=folder)
        network.train()
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_refused_arguments(self, folder: Path) -> None:
        with pytest.raises(InputError, match="Did you mean 'conv5_4'"):
            VGG19(layers=("conv5_5",), folder=folder)
        with pytest.raises(InputError, match="order"):
            VGG19(layers=("conv2_1", "conv1_1"), folder=folder)
        with pytest.raises(InputError, match="activation"):
            VGG19(activation="relu", folder=folder)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="weights"):
            VGG19(weights="caffe", folder=folder)  # type: ignore[arg-type]

    def test_refused_images(self, folder: Path) -> None:
        network = VGG19(layers=("conv2_1",), folder=folder)
        with pytest.raises(InputError, match="grey image three times"):
            network(torch.rand(1, 1, 8, 8))
        with pytest.raises(InputError, match="at least 2 pixels"):
            network(torch.rand(1, 3, 8, 1))
        with pytest.raises(InputError, match="meta"):
            network(torch.rand(1, 3, 8, 8, device="meta"))

    @pytest.mark.data
    def test_conv5_4_layer_by_layer(self, data_root: Path, generator: torch.Generator) -> None:
        # The plain list of layers, written once more.
        x = torch.rand(1, 3, 48, 32, generator=generator)
        tensors = load_file(data_root / "weights" / "vgg19_conv.safetensors")
        maps = x.flip(1) * 255 + tensors["input.bias"].view(1, 3, 1, 1)
        for number in CONVOLUTIONS:
            weight, bias = (tensors[f"features.{number}.{p}"].float() for p in ("weight", "bias"))
            maps = functional.conv2d(functional.relu(maps) if number else maps, weight, bias, 1, 1)
            if number + 2 in POOLINGS:
                maps = functional.max_pool2d(functional.relu(maps), 2)
        expected = maps * tensors["conv5_4_factor"].view(1, -1, 1, 1)
        network = VGG19()
        (found,) = network(x)
        assert found.shape == (1, 512, 3, 2)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert sum(p.numel() for p in network.parameters()) == 20_024_384


@pytest.mark.data
def test_the_maps_of_alexnet(data_root: Path) -> None:
    maps = AlexNet(folder=data_root / "weights")(torch.rand(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 15, 15),
        (192, 7, 7),
        (384, 3, 3),
        (256, 3, 3),
        (256, 3, 3),
    ]
    assert min(float(m.min()) for m in maps) == 0.0


def test_weights_are_not_the_file_but_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(9999)}, path)
    read = read_weights_file(path)["a"]
    with path.open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"\xff" * 1000)  # not a number
    assert torch.equal(read, torch.ones(9999))
