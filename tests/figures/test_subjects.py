"""Tests of what figures show: images of files and sets, networks, results, branches."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from edgekeeper.data.degrade import make_lr
from edgekeeper.errors import DataError, ImageError, InputError
from edgekeeper.figures.subjects import (
    Sample,
    Subject,
    gradient_output,
    open_subject,
    read_sample,
    result,
    without_branch,
)
from edgekeeper.inference.network import infer
from edgekeeper.models import (
    DGGGAN,
    EDSR,
    ESPCN,
    SPSR,
    DGGGANLight,
    GradientBranch,
    GradientGuided,
    SRModel,
)
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.spec import spec


def save(image: Tensor, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def sample(hr: Tensor) -> Sample:
    return Sample("leaf", "", 2, hr, make_lr(hr, scale=2, kernel="matlab_uint8"))


def branched(backbone: SRModel) -> GradientBranch:
    """A network with a branch that changes its images."""
    torch.manual_seed(1)
    model = GradientBranch(backbone=backbone, width=4)
    for parameter in model.fusion[-1].parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    return model


class TestSamples:
    def test_a_file_is_cropped_and_shrunk(self, hr: Tensor, tmp_path: Path) -> None:
        path = save(hr[..., :63, :79], tmp_path / "leaf.png")
        found = read_sample(str(path), scale=4)
        assert (found.name, found.set_name) == ("leaf", "")
        assert found.hr.shape == (1, 3, 60, 76) and found.lr.shape == (1, 3, 15, 19)
        assert torch.equal(found.lr, make_lr(found.hr, scale=4, kernel="matlab_uint8"))

    def test_a_image_of_a_set_brings_its_lr(self, hr: Tensor, tmp_path: Path) -> None:
        folder = tmp_path / "Set5" / "image_SRF_2"
        for number in range(1, 6):
            save(hr * number / 5, folder / f"img_00{number}_SRF_2_HR.png")
            save(hr[..., ::2, ::2] * number / 5, folder / f"img_00{number}_SRF_2_LR.png")
        found = read_sample("set5/butterfly", scale=2, data=tmp_path)
        assert (found.name, found.set_name) == ("butterfly", "set5")
        assert (found.hr - hr * 3 / 5).abs().max() < 0.003
        assert (found.lr - hr[..., ::2, ::2] * 3 / 5).abs().max() < 0.003
        with pytest.raises(InputError, match=r"no image 'butterfl' .*Did you mean 'butterfly'"):
            read_sample("set5/butterfl", scale=2, data=tmp_path)
        with pytest.raises(InputError, match="--data"):
            read_sample("set5/butterfly", scale=2)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="no such file"):
            read_sample(str(tmp_path / "none.png"), scale=2)


class TestResults:
    def test_of_a_network(self, sample: Sample) -> None:
        model = EDSR(scale=2, width=4, blocks=1)
        found = result(Subject("net", model), sample)
        assert found is not None and found.label == "net"
        assert torch.equal(found.image, infer(model, sample.lr))

    def test_of_a_network_of_another_scale(self, sample: Sample) -> None:
        with pytest.raises(InputError, match="'net' enlarges by 3, not 2; give --scale 3"):
            result(Subject("net", ESPCN(scale=3)), sample)

    def test_of_files_and_folders(self, sample: Sample, tmp_path: Path) -> None:
        file = save(sample.hr, tmp_path / "a" / "leaf_x2.png")
        for source in (file, file.parent):
            found = result(open_subject(str(source), label="a"), sample)
            assert found is not None and (found.image - sample.hr).abs().max() < 0.003

    def test_a_folder_may_hold_one_for_each_set(self, sample: Sample, tmp_path: Path) -> None:
        save(sample.hr, tmp_path / "Set5_x2" / "img_001.png")
        save(sample.hr * 0, tmp_path / "Set14_x2" / "baby.png")
        of_set = Sample("baby", "set5", 2, sample.hr, sample.lr)
        found = result(Subject("a", tmp_path), of_set)
        assert found is not None and (found.image - sample.hr).abs().max() < 0.003

    def test_a_folder_without_the_image_gives_none(self, sample: Sample, tmp_path: Path) -> None:
        save(sample.hr, tmp_path / "twig.png")
        assert result(Subject("a", tmp_path), sample) is None

    def test_a_folder_with_two_files_for_it_is_an_error(
        self, sample: Sample, tmp_path: Path
    ) -> None:
        save(sample.hr, tmp_path / "leaf.png")
        save(sample.hr, tmp_path / "leaf_new.png")
        with pytest.raises(DataError, match="has 2 files"):
            result(Subject("a", tmp_path), sample)

    def test_bicubic(self, sample: Sample) -> None:
        found = result(open_subject("bicubic", label="b"), sample)
        assert found is not None and torch.equal(found.image, sample.bicubic())
        levels = found.image * 255
        assert (levels - levels.round()).abs().max() < 1e-4  # rounded, as in the tables

    def test_a_file_of_a_network(self, sample: Sample, tmp_path: Path) -> None:
        description = spec(EDSR, scale=2, width=4, blocks=1)
        model = description.build()
        save_model(tmp_path / "net.safetensors", model, spec=description, card={})
        found = result(open_subject(str(tmp_path / "net.safetensors"), label="n"), sample)
        assert found is not None and torch.equal(found.image, infer(model.eval(), sample.lr))


class TestBranches:
    @pytest.mark.parametrize(
        "build",
        [
            lambda: SPSR(scale=2, width=8, blocks=1, growth=4, taps=(1,)),
            lambda: branched(EDSR(scale=2, width=4, blocks=1)),
            lambda: DGGGAN(scale=2, width=4, blocks=3),
        ],
        ids=["spsr", "gradient_branch", "dgggan"],
    )
    def test_output_and_image_without_it(self, build: object, sample: Sample) -> None:
        assert callable(build)
        model = build().train()
        subject = Subject("net", model)
        found = gradient_output(subject, sample)
        assert found.label == "net: branch" and model.training
        with torch.no_grad():
            assert torch.equal(found.image, model.with_gradient(sample.lr).gradient)
            alone = model.sr_branch_only(sample.lr).clamp(0, 1)
        panel = result(without_branch(subject), sample)
        assert panel is not None and torch.equal(panel.image, alone)

    def test_luma_networks(self, sample: Sample) -> None:
        model = branched(ESPCN(scale=2))
        found = gradient_output(Subject("net", model), sample)
        with torch.no_grad():
            expected = model.with_gradient(rgb_to_y(sample.lr)).gradient
        assert found.image.shape == (1, 1, 64, 80) and torch.equal(found.image, expected)
        panel = result(without_branch(Subject("net", model)), sample)
        assert panel is not None
        assert torch.equal(panel.image, infer(model.backbone, sample.lr))

    def test_networks_without_a_branch_say_so(self, sample: Sample) -> None:
        plain = Subject("plain", EDSR(scale=2, width=4, blocks=1))
        with pytest.raises(InputError, match=r"'plain' \(EDSR\) has no gradient branch"):
            gradient_output(plain, sample)
        with pytest.raises(InputError, match="a method sr_branch_only"):
            without_branch(plain)
        with pytest.raises(InputError, match="not a network"):
            gradient_output(Subject("bicubic", "bicubic"), sample)

    def test_branches_that_cannot_be_left_out_say_so(self, sample: Sample) -> None:
        light = Subject("light", DGGGANLight(scale=2, width=4, blocks=3))
        with pytest.raises(InputError, match=r"'light' \(DGGGANLight\) has no gradient branch"):
            without_branch(light)

        class Predicting(EDSR):
            def with_gradient(self, lr: Tensor) -> GradientGuided:
                return GradientGuided(self(lr), self(lr))

        bound = Subject("bound", Predicting(scale=2, width=4, blocks=1))
        assert gradient_output(bound, sample).label == "bound: branch"
        with pytest.raises(InputError, match=r"'bound' \(Predicting\) has no gradient branch that"):
            without_branch(bound)

    def test_another_scale(self, sample: Sample) -> None:
        with pytest.raises(InputError, match="enlarges by 3, not 2"):
            gradient_output(Subject("net", branched(ESPCN(scale=3))), sample)
