from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import edgekeeper
from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.infer import infer
from edgekeeper.models import ESPCN, SRModel
from edgekeeper.networks import default_name, describe, find, load, networks
from edgekeeper.ops.resize import imresize


def test_every_shipped_network_loads_and_enlarges() -> None:
    assert networks()
    for network in networks():
        model = load(network.name)
        assert isinstance(model, SRModel)
        assert not model.training
        assert model.scale == network.scale
        sr = edgekeeper.upscale(torch.rand(1, 3, 5, 7), scale=model.scale, model=model)
        assert sr.shape == (1, 3, 5 * model.scale, 7 * model.scale)


def test_every_shipped_network_was_trained_on_free_pictures_only() -> None:
    for network in networks():
        pictures = network.card["pictures"]
        assert isinstance(pictures, list)
        assert pictures
        for picture in pictures:
            assert picture["licence"].startswith(("CC0", "public domain"))


def test_defaults_ship_for_each_scale_and_structure() -> None:
    names = {network.name for network in networks()}
    for scale in (2, 3, 4):
        for structure in ("faithful", "sharp"):
            assert default_name(scale, structure=structure) in names  # type: ignore[arg-type]


def test_an_unknown_name_and_a_missing_file() -> None:
    with pytest.raises(InputError, match="Did you mean 'espcn_x3'"):
        find("espcnx3")
    with pytest.raises(InputError, match="no network file"):
        find("folder/mine.safetensors")
    with pytest.raises(InputError, match="2, 3 or 4"):
        default_name(8)


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a network file"):
        describe(tmp_path / "x.safetensors")


class TestUpscaleFunction:
    def test_a_path_gives_a_picture(self, tmp_path: Path) -> None:
        grey = np.full((6, 8), 128, np.uint8)
        Image.fromarray(grey).save(tmp_path / "grey.png")
        picture = edgekeeper.upscale(tmp_path / "grey.png", scale=3, model="espcn_x3")
        assert picture.pixels.shape == (18, 24, 1)
        assert picture.pixels.dtype == np.uint8

    def test_a_network_of_another_scale_is_run_until_it_is_large_enough(self) -> None:
        network, lr = ESPCN(scale=2).eval(), torch.rand(1, 3, 6, 5)
        twice = infer(network, infer(network, lr))
        ours = edgekeeper.upscale(lr, scale=4, model=network)
        torch.testing.assert_close(ours, twice)
        thrice = edgekeeper.upscale(lr, scale=3, model=network)
        torch.testing.assert_close(thrice, imresize(twice, size=(18, 15)).clamp(0, 1))
