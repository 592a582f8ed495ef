import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import edgekeeper
from edgekeeper.cli import group as cli
from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.evaluation.pack import pack
from edgekeeper.inference.network import infer
from edgekeeper.models import (
    EDSR,
    ESPCN,
    RRDB,
    DGGGANLight,
    GradientBranch,
    SRModel,
    parameter_count,
)
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.pretrained.zoo import DEFAULTS, describe, find, load, networks
from edgekeeper.spec import Spec, spec


def test_every_shipped_network_loads_and_enlarges() -> None:
    assert networks()
    for network in networks():
        model = load(network.name)
        assert isinstance(model, SRModel)
        assert not model.training
        assert model.scale == network.scale
        sr = edgekeeper.upscale(torch.rand(1, 3, 5, 7), scale=model.scale, model=model)
        assert sr.shape == (1, 3, 5 * model.scale, 7 * model.scale)


FREE = ("CC0", "public domain", "BSD-2-Clause", "MIT", "CC-BY-3.0", "CC-BY-4.0")


def test_every_shipped_network_was_trained_on_free_images_only() -> None:
    for network in networks():
        images = network.card.get("images", network.card.get("pictures"))
        assert isinstance(images, list)
        assert images
        for image in images:
            assert image["licence"].startswith(FREE), f"{network.name}: {image}"
            if image["licence"].startswith("CC-BY"):  # which asks for a name
                assert len(image["licence"].partition(", ")[2]) > 3


def test_defaults_ship_for_each_style_and_its_scales() -> None:
    names = {network.name for network in networks()}
    assert all(set(of_style.values()) <= names for of_style in DEFAULTS.values())


def test_an_unknown_name_and_a_missing_file() -> None:
    with pytest.raises(InputError, match="Did you mean 'espcn_x3'"):
        find("espcnx3")
    with pytest.raises(InputError, match="no network file"):
        find("folder/mine.safetensors")


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a network file"):
        describe(tmp_path / "x.safetensors")


class TestNetworkAroundAnother:
    """A file of a gradient branch, which holds the network it is put on."""

    BRANCH = spec(
        GradientBranch, backbone=spec(EDSR, scale=3, width=4, blocks=2), width=4, taps=("blocks.0",)
    )

    @pytest.fixture
    def trained(self, tmp_path: Path) -> SRModel:
        """The network of the file ``trained.safetensors``; every weight matters."""
        torch.manual_seed(1)
        model = self.BRANCH.build().eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        save_model(tmp_path / "trained.safetensors", model, spec=self.BRANCH, card={"steps": 3})
        return model

    def test_it_is_loaded_and_described(self, tmp_path: Path, trained: SRModel) -> None:
        path = tmp_path / "trained.safetensors"
        again, lr = load(path), torch.rand(1, 3, 5, 7)
        assert isinstance(again, GradientBranch) and again.taps == ("blocks.0",)
        assert torch.equal(infer(again, lr), infer(trained, lr))
        found = describe(path)
        assert (found.model, found.scale, found.card) == ("GradientBranch", 3, {"steps": 3})

    def test_commands_take_it(self, tmp_path: Path, trained: SRModel) -> None:
        path = tmp_path / "trained.safetensors"
        shown = CliRunner().invoke(cli, ["models", "card", str(path), "--json"])
        assert json.loads(shown.output)["scale"] == 3
        image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "small.png")
        given = [str(tmp_path / "small.png"), "-o", str(tmp_path / "large.png")]
        shown = CliRunner().invoke(cli, ["upscale", *given, "--model", str(path)])
        assert shown.exit_code == 0, shown.output
        lr = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        expected = (255 * infer(trained, lr).clamp(0, 1)).round()[0].permute(1, 2, 0)
        large = torch.from_numpy(np.asarray(Image.open(tmp_path / "large.png")).astype(np.float32))
        assert (large - expected).abs().max() <= 1
        shown = CliRunner().invoke(
            cli, ["inspect", str(tmp_path / "small.png"), str(tmp_path / "large.png")]
        )
        assert shown.exit_code == 0, shown.output

    @pytest.mark.data
    def test_it_is_packed_and_scored(
        self, tmp_path: Path, trained: SRModel, data_root: Path
    ) -> None:
        packed = tmp_path / "packed.safetensors"
        source = tmp_path / "trained.safetensors"
        found = pack(source, packed, data_root=data_root, sets=["set5"])
        assert found.scale == 3 and found.card["parameters"] == parameter_count(self.BRANCH.build())
        assert type(load(packed)) is GradientBranch
        given = ["evaluate", str(packed), "--scale", "3", "--data", str(data_root)]
        shown = CliRunner().invoke(cli, given)
        assert shown.exit_code == 0, shown.output
        assert f"{found.card['results'][0]['psnr']:.2f}" in shown.output  # type: ignore[index]

    @pytest.mark.data
    def test_what_only_training_needs_is_not_packed(self, tmp_path: Path, data_root: Path) -> None:
        light = spec(DGGGANLight, scale=3, width=4, blocks=3, gradient_width=4)
        trained = light.build()
        source, packed = tmp_path / "trained.safetensors", tmp_path / "packed.safetensors"
        save_model(source, trained, spec=light, card={"steps": 3})
        found = pack(source, packed, data_root=data_root, sets=["set5"])
        again = load(packed)
        assert isinstance(again, DGGGANLight) and again.gradient is None
        assert found.card["parameters"] == parameter_count(trained.without_gradient_branch())
        lr = torch.rand(1, 3, 5, 6)
        torch.testing.assert_close(again(lr), trained.half().float()(lr))


class TestScale:
    @pytest.mark.parametrize(
        ("description", "scale"),
        [(spec(RRDB, width=4, blocks=1, growth=2), 4), (spec(EDSR, scale=3, width=4), 3)],
    )
    def test_of_a_file_that_says_it_or_leaves_it_at_its_default(
        self, tmp_path: Path, description: Spec[SRModel], scale: int
    ) -> None:
        path = tmp_path / "m.safetensors"
        save_model(path, description.build(), spec=description, card={})
        assert describe(path).scale == scale == load(path).scale


class TestUpscaleFunction:
    def test_a_path_gives_a_image(self, tmp_path: Path) -> None:
        grey = np.full((6, 8), 128, np.uint8)
        Image.fromarray(grey).save(tmp_path / "grey.png")
        image = edgekeeper.upscale(tmp_path / "grey.png", scale=3, model="espcn_x3")
        assert image.pixels.shape == (18, 24, 1)
        assert image.pixels.dtype == np.uint8

    def test_a_network_of_another_scale_is_run_until_it_is_large_enough(self) -> None:
        network, lr = ESPCN(scale=2).eval(), torch.rand(1, 3, 6, 5)
        twice = infer(network, infer(network, lr))
        ours = edgekeeper.upscale(lr, scale=4, model=network, precision="float32")
        torch.testing.assert_close(ours, twice)
        thrice = edgekeeper.upscale(lr, scale=3, model=network, precision="float32")
        torch.testing.assert_close(thrice, imresize(twice, size=(18, 15)).clamp(0, 1))
