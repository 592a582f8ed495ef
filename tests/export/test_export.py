"""Exported files: the same images as the torch network, at any size, or no file."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper import export
from edgekeeper.checkpoint import save_model
from edgekeeper.cli.export import command
from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.export import export_network, int8, networks, weights, with_runtime, writers
from edgekeeper.export.graph import (
    Graph,
    Range,
    phase_weights,
    step_and_zero,
)
from edgekeeper.export.weights import rounded_weights
from edgekeeper.image import Image, Metadata
from edgekeeper.inference import Request, upscale_image
from edgekeeper.inference.network import infer
from edgekeeper.metrics.score import mean_scores
from edgekeeper.models import (
    EDSR,
    ESPCN,
    FSRCNN,
    RRDB,
    SPSR,
    SRCNN,
    VDSR,
    DGGGANLight,
    GradientBranch,
    MSRResNet,
    SRModel,
    SRResNet,
)
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.exported import KEY, RUNTIMES, ExportedNetwork, load_exported
from edgekeeper.pretrained.luma import YCbCrESPCN
from edgekeeper.pretrained.zoo import find
from edgekeeper.spec import spec

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

NO_OPENVINO = importlib.util.find_spec("openvino") is None
ENDINGS = [
    ".onnx",
    pytest.param(".xml", marks=pytest.mark.skipif(NO_OPENVINO, reason="needs the extra openvino")),
]


def branched(backbone: SRModel, *taps: str) -> SRModel:
    return GradientBranch(backbone=backbone, width=4, taps=taps)


NETWORKS: dict[str, Callable[[], SRModel]] = {
    "espcn": lambda: ESPCN(scale=3),
    "espcn rgb": lambda: ESPCN(scale=4, channels="rgb"),
    "espcn ycbcr": lambda: YCbCrESPCN(scale=2),
    "edsr": lambda: EDSR(scale=4, width=4, blocks=1, residual_scale=0.1),
    "edsr direct": lambda: EDSR(scale=3, width=4, blocks=1, upsampler="direct"),
    "edsr light": lambda: EDSR(scale=2, width=4, blocks=2, upsampler="direct", skip="bicubic"),
    "edsr skip": lambda: EDSR(scale=3, width=4, blocks=1, skip="bicubic"),
    "vdsr": lambda: VDSR(scale=2),
    "vdsr gv": lambda: VDSR(scale=3, variant="gv", interpolation="bilinear"),
    "rrdb": lambda: RRDB(scale=2, width=4, blocks=1, growth=2, unshuffle=2),
    "rrdb x3": lambda: RRDB(scale=3, width=4, blocks=2, growth=2),
    "rrdb x4": lambda: RRDB(scale=4, width=4, blocks=1, growth=2),
    "srresnet": lambda: SRResNet(scale=4, width=4, blocks=1, slopes="maps"),
    "srresnet tanh": lambda: SRResNet(scale=3, width=4, blocks=2, output="tanh", bias=True),
    "srresnet plain": lambda: SRResNet(scale=2, width=4, blocks=1, norm="none"),
    "msrresnet": lambda: MSRResNet(scale=3, width=4, blocks=1),
    "dgggan light": lambda: DGGGANLight(scale=2, width=4, blocks=3, gradient_width=4),
    "branch on edsr": lambda: branched(
        EDSR(scale=2, width=4, blocks=2, upsampler="direct", skip="bicubic"),
        "blocks.0",
        "blocks.1.conv1",
        "blocks.1.conv2",
    ),
    "branch on rrdb": lambda: branched(
        RRDB(scale=4, width=4, blocks=1, growth=2), "blocks.0", "blocks.0.dense.1"
    ),
    "branch on srresnet": lambda: branched(
        SRResNet(scale=2, width=4, blocks=2),
        "activation",
        "blocks.0",
        "blocks.1.conv1",
        "blocks.1.norm1",
        "blocks.1.activation",
    ),
    "branch on vdsr": lambda: branched(VDSR(scale=2), "hidden.1"),
    "branch on dgggan light": lambda: branched(
        DGGGANLight(scale=3, width=4, blocks=3, gradient_width=0), "blocks.0.chain.1"
    ),
    "spsr": lambda: SPSR(scale=3, width=4, blocks=1, growth=2, taps=(1,)),
    "srcnn": lambda: SRCNN(scale=3, middle=1),
    "srcnn rgb": lambda: SRCNN(scale=2, channels="rgb", middle=1),
}


@pytest.fixture(autouse=True)
def small_vdsr(monkeypatch: pytest.MonkeyPatch) -> None:
    """VDSR with 4 layers of 8 maps instead of 20 of 64."""
    monkeypatch.setattr("edgekeeper.models.vdsr.DEPTH", 4)
    monkeypatch.setattr("edgekeeper.models.vdsr.WIDTH", 8)


SEED = 0


def filled(name: str) -> SRModel:
    """A network whose every weight matters, the same one each time."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = NETWORKS[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None and layer.running_var is not None
                layer.running_mean.normal_(0, 0.2, generator=generator)
                layer.running_var.uniform_(0.3, 2, generator=generator)
    return model.eval()


def images(folder: Path, *, count: int = 2, side: int = 72) -> Path:
    """A folder of smooth images with edges."""
    folder.mkdir()
    for index in range(count):
        coarse = torch.rand((3, 9, 9), generator=torch.Generator().manual_seed(index))
        image = imresize(coarse, size=(side, side)).clamp(0, 1)
        array = (255 * image).round().byte().permute(1, 2, 0).numpy()
        PILImage.fromarray(array).save(folder / f"{index}.png")
    return folder


@torch.inference_mode()
def apart(ours: SRModel, theirs: SRModel, *shape: int) -> float:
    lr = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    first, second = ours(lr), theirs(lr)
    assert first.shape == second.shape
    return float((first - second).abs().max())


class TestGraph:
    def test_bicubic_weights_of_factor_2_are_keys_at_quarters(self) -> None:
        # Keys' kernel (a = -1/2) at 0.25, 0.75, 1.25, 1.75 in 128ths: 111, 29, -9, -3.
        expected = np.array([[-3, 29, 111, -9, 0], [0, -9, 111, 29, -3]]) / 128
        np.testing.assert_allclose(phase_weights(2, kind="bicubic"), expected, atol=1e-15)

    def test_bilinear_weights_of_factor_2(self) -> None:
        expected = np.array([[0, 0.25, 0.75, 0, 0], [0, 0, 0.75, 0.25, 0]])
        np.testing.assert_allclose(phase_weights(2, kind="bilinear"), expected, atol=1e-15)

    @pytest.mark.parametrize("kind", ["bicubic", "bilinear"])
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_interpolation_is_that_of_the_network_at_every_size(
        self, tmp_path: Path, scale: int, kind: str
    ) -> None:
        import onnxruntime

        graph = Graph()
        out = graph.enlarge("lr", scale=scale, channels=3, kind=kind)  # type: ignore[arg-type]
        out = graph.shuffle(out, scale=scale)
        model = graph.model(out, channels=3, scale=scale, facts={})
        session = onnxruntime.InferenceSession(model.SerializeToString())
        for size in ((1, 1), (1, 2), (2, 3), (9, 5)):
            lr = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0))
            ours = torch.from_numpy(session.run(None, {"lr": lr.numpy()})[0])
            if kind == "bicubic":
                theirs = imresize(lr, scale=scale)
            else:
                theirs = functional.interpolate(lr, scale_factor=scale, mode="bilinear")
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)

    def test_eight_bit_steps(self) -> None:
        step, zero = step_and_zero(Range(0.0, 2.55), signed="int8")
        assert (step, zero.dtype, int(zero)) == (pytest.approx(0.01), np.uint8, 0)
        step, zero = step_and_zero(Range(-1.27, 0.5), signed="int8")
        assert (step, zero.dtype, int(zero)) == (pytest.approx(0.01), np.int8, 0)
        step, zero = step_and_zero(Range(-0.55, 2.0), signed="uint8")
        assert (step, zero.dtype, int(zero)) == (pytest.approx(0.01), np.uint8, 55)

    def test_weights_are_rounded_for_each_output_by_itself(self) -> None:
        weight = np.array([[0.64, -0.5], [0.001, 0.0]], np.float32).reshape(2, 2, 1, 1)
        found = rounded_weights(weight, moments=np.eye(2))
        np.testing.assert_allclose(found.steps, [0.01, 0.001 / 64], rtol=1e-6)
        assert found.whole.reshape(2, 2).tolist() == [[64, -50], [64, 0]]

    def test_a_weight_mends_what_the_one_before_it_did_wrong(self) -> None:
        # Both inputs are always the same: only the sum of the weights, 0.644 + 0.324, counts.
        weight = np.array([[0.64, 0.324, 0.324]], np.float32).reshape(1, 3, 1, 1)
        same = np.array([[1e-9, 0, 0], [0, 1, 1], [0, 1, 1]])
        found = rounded_weights(weight, moments=same)
        assert sorted(found.whole.flatten()[1:].tolist()) == [32, 33]  # the nearest are 32 and 32

    def test_rounding_changes_the_output_less_than_to_the_nearest(self) -> None:
        numbers = np.random.default_rng(0)
        weight = numbers.normal(size=(8, 6, 3, 3)).astype(np.float32)
        given = numbers.normal(size=(2000, 54)) @ numbers.normal(size=(54, 54)) + 3
        errors = {}
        for name, moments in (("mending", given.T @ given / len(given)), ("nearest", np.eye(54))):
            found = rounded_weights(weight, moments=moments)
            difference = found.whole * found.steps.reshape(-1, 1, 1, 1) - weight
            errors[name] = np.square(given @ difference.reshape(8, -1).T).mean()
        assert errors["mending"] < 0.7 * errors["nearest"]

    def test_what_the_weights_meet_is_what_they_are_multiplied_with(self) -> None:
        layer = nn.Conv2d(2, 3, (3, 5), padding=(1, 2))
        x = torch.rand((1, 2, 4, 6), generator=torch.Generator().manual_seed(0))
        met = weights._met(layer, x, numbers=torch.Generator().manual_seed(0))
        assert met.shape == (24, 30)
        ours = met @ layer.weight.double().flatten(1).T + layer.bias
        theirs = layer(x)[0].flatten(1).T.double()
        torch.testing.assert_close(ours.sum(0), theirs.sum(0), rtol=1e-5, atol=1e-5)

    def test_second_moments_are_held_a_few_layers_at_a_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, lr = filled("edsr light"), torch.rand(1, 3, 12, 9)
        names = int8.layers(model)
        together = weights.all_rounded(model, [lr], layers=names)
        monkeypatch.setattr(weights, "MOST_NUMBERS", 1)
        assert list(weights._together(dict(model.named_modules()), names)) == [[n] for n in names]
        apart = weights.all_rounded(model, [lr], layers=names)
        assert list(together) == list(apart) == names


class TestLayers:
    def test_only_those_that_the_image_passes_in_their_order(self) -> None:
        model = filled("branch on edsr")
        assert int8.layers(model) == [
            "backbone.head",
            "backbone.blocks.0.conv1",
            "backbone.blocks.0.conv2",
            "backbone.blocks.1.conv1",
            "backbone.blocks.1.conv2",
            "backbone.after_blocks",
            "head",
            *(f"steps.{step}.conv{k}" for step in range(4) for k in (1, 2)),
            "fusion.0",
            "fusion.2",
            "backbone.upsampler.0",
        ]
        light = int8.layers(filled("dgggan light"))
        assert light[0] == "head" and light[-1] == "last"
        assert not [name for name in light if name.startswith("gradient")]

    def test_normalisations_go_into_the_convolutions_before_them(self) -> None:
        model = filled("srresnet")
        plain = writers.folded(model)
        assert apart(plain, model, 1, 3, 6, 7) < 1e-5
        assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
        assert isinstance(model.after_norm, nn.BatchNorm2d)  # the network itself is as it was
        other = filled("edsr light")
        assert writers.folded(other) is other

    def test_a_convolution_that_a_branch_reads_keeps_its_normalisation(self) -> None:
        model = filled("branch on srresnet")
        plain = writers.folded(model)
        assert apart(plain, model, 1, 3, 6, 7) < 1e-5
        left = [name for name, m in plain.named_modules() if isinstance(m, nn.BatchNorm2d)]
        assert left == ["backbone.blocks.1.norm1"]


class TestFloat:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_onnx_gives_the_image_of_the_network(self, tmp_path: Path, name: str) -> None:
        model = filled(name)
        found = export_network(model, tmp_path / "network.onnx")
        exported = load_exported(found.path, threads=1)
        assert found.agreement.pixels < 1e-4
        colours = 1 if model.channels == "y" else 3
        for size in ((1, 1), (7, 2)):
            assert apart(exported, model, 2, colours, *size) < 1e-5
        kept = ("scale", "channels", "receptive_field", "overlap")
        assert exported.multiple == (2 if name == "rrdb" else 1)
        assert all(getattr(exported, key) == getattr(model, key) for key in kept)

    @pytest.mark.skipif(NO_OPENVINO, reason="needs the extra openvino")
    @pytest.mark.parametrize(
        "name",
        [
            "espcn",
            "edsr light",
            "vdsr gv",
            "rrdb",
            "srresnet",
            "dgggan light",
            "branch on edsr",
            "branch on srresnet",
        ],
    )
    def test_openvino_gives_the_image_of_the_network(self, tmp_path: Path, name: str) -> None:
        model = filled(name)
        found = export_network(model, tmp_path / "network.xml")
        exported = load_exported(found.path, threads=1)
        assert apart(exported, model, 2, 1 if model.channels == "y" else 3, 5, 9) < 1e-5
        assert sorted(p.name for p in tmp_path.iterdir()) == ["network.bin", "network.xml"]

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_the_file_says_what_it_is(self, tmp_path: Path, ending: str) -> None:
        path = export_network("espcn_x3", tmp_path / f"network{ending}").path
        exported = load_exported(path)
        facts = exported.facts
        assert (facts["scale"], facts["channels"], facts["value_range"]) == (3, "y", [0, 1])
        assert facts["model"] == {"name": "ESPCN", "arguments": {"scale": 3}}
        assert facts["precision"] == "float32"
        assert facts["source"]["name"] == "espcn_x3"  # type: ignore[index]
        assert "pictures" in facts["card"]  # type: ignore[operator]

    def test_other_programs_find_the_short_facts(self, tmp_path: Path) -> None:
        import onnx

        path = export_network(filled("espcn"), tmp_path / "network.onnx").path
        entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert entries[f"{KEY}.scale"] == "3"
        assert entries[f"{KEY}.value_range"] == "[0, 1]"

    def test_export_leaves_the_network_as_it_was(self, tmp_path: Path) -> None:
        model = filled("edsr light").train()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        export_network(model, tmp_path / "network.onnx")
        assert model.training
        assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_a_image_in_tiles_is_the_same(self, tmp_path: Path, ending: str) -> None:
        model = filled("espcn")
        exported = load_exported(export_network(model, tmp_path / f"network{ending}").path)
        numbers = np.random.default_rng(0)
        pixels = numbers.integers(0, 256, (30, 25, 3), dtype=np.uint8)
        image = Image(pixels=pixels, alpha=None, metadata=Metadata())
        requests = (Request(model=exported, tile=16), Request(model=model))
        ours, theirs = (
            upscale_image(image, request).image.pixels.astype(int) for request in requests
        )
        assert ours.shape == (90, 75, 3)
        assert np.abs(ours - theirs).max() <= 1  # a rounding that fell the other way

    def test_infer_adds_colour_to_an_exported_luma_network(self, tmp_path: Path) -> None:
        model = filled("espcn")
        exported = load_exported(export_network(model, tmp_path / "network.onnx").path)
        lr = torch.rand((1, 3, 9, 8), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(infer(exported, lr), infer(model, lr), atol=1e-5, rtol=0)
        with pytest.raises(InputError, match="cannot change its precision"):
            infer(exported, lr, precision="bfloat16")


class Other(SRModel):
    """A network that export has no function for."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = 2, "rgb", 3
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        maps = functional.leaky_relu(self.first(lr), 0.2)
        maps = functional.interpolate(maps, scale_factor=2, mode="nearest")
        return self.last(maps)


class Frozen(Other):
    """One whose result holds a number that tracing takes from the example's size."""

    def forward(self, lr: Tensor) -> Tensor:
        return super().forward(lr) + float(lr.shape[-1])


class TestRefusals:
    def test_another_network_goes_through_pytorch(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        model = Other().eval()
        exported = load_exported(export_network(model, tmp_path / "network.onnx").path)
        assert apart(exported, model, 2, 3, 5, 11) < 1e-5
        with pytest.raises(InputError, match="int8 knows the layers of"):
            folder = images(tmp_path / "images")
            export_network(model, tmp_path / "int8.onnx", calibration=folder)
        assert not (tmp_path / "int8.onnx").exists()

    def test_a_branch_on_a_network_that_is_not_known(self, tmp_path: Path) -> None:
        model = branched(FSRCNN(scale=2)).eval()
        exported = load_exported(export_network(model, tmp_path / "network.onnx").path)
        assert apart(exported, model, 2, COLOUR_COUNT[model.channels], 5, 11) < 1e-5
        with pytest.raises(InputError, match=r"int8 knows .*GradientBranch, not of FSRCNN"):
            folder = images(tmp_path / "images")
            export_network(model, tmp_path / "int8.onnx", calibration=folder)

    def test_a_file_of_a_branch_says_what_is_inside(self, tmp_path: Path) -> None:
        description = spec(
            GradientBranch,
            backbone=spec(EDSR, scale=2, width=4, blocks=1),
            width=4,
            taps=("blocks.0",),
        )
        model = description.build()
        save_model(tmp_path / "network.safetensors", model, spec=description, card={"steps": 1})
        found = export_network(tmp_path / "network.safetensors", tmp_path / "network.onnx")
        facts = load_exported(found.path).facts
        assert facts["model"] == description.to_json() and facts["card"] == {"steps": 1}

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_a_file_that_differs_is_not_left(self, tmp_path: Path, ending: str) -> None:
        with pytest.raises(CheckpointError, match="differs from the original by"):
            export_network(Frozen(), tmp_path / f"network{ending}")
        assert list(tmp_path.iterdir()) == []

    def test_a_small_slip_in_the_graph_is_seen(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = Graph.enlarge

        def slipped(self: Graph, x: str, **arguments: object) -> str:
            return self.multiply(original(self, x, **arguments), np.array(1.002))  # type: ignore[arg-type]

        monkeypatch.setattr(Graph, "enlarge", slipped)
        with pytest.raises(CheckpointError, match=r"0\.00.* in a pixel"):
            export_network(filled("edsr light"), tmp_path / "network.onnx")
        assert list(tmp_path.iterdir()) == []

    def test_a_network_that_interpolates_needs_its_function(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(networks.NETWORKS, SRCNN)
        with pytest.raises(InputError, match="PyTorch cannot write SRCNN as ONNX"):
            export_network(filled("srcnn"), tmp_path / "network.onnx")

    def test_what_stands_there_is_kept_unless_it_may_go(self, tmp_path: Path) -> None:
        target = tmp_path / "network.onnx"
        target.write_text("mine")
        with pytest.raises(InputError, match="exists; choose another name"):
            export_network(filled("espcn"), target)
        assert target.read_text() == "mine"
        export_network(filled("espcn"), target, overwrite="replace")
        assert load_exported(target).scale == 3

    def test_names_that_say_no_format(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"must end in \.onnx or \.xml"):
            export_network(filled("espcn"), tmp_path / "network.pt")
        with pytest.raises(InputError, match=r"for openvino does not end in \.onnx"):
            export_network(filled("espcn"), tmp_path / "network.onnx", runtime="openvino")
        with pytest.raises(InputError, match="no network"):
            export_network("nothing_x2", tmp_path / "network.onnx")

    def test_a_missing_package_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UnavailableError, match=r"pip install 'edgekeeper\[onnx\]'"):
            export_network(filled("espcn"), tmp_path / "network.onnx")

    def test_files_that_are_no_exported_network(self, tmp_path: Path) -> None:
        import onnx

        with pytest.raises(InputError, match="must end in"):
            load_exported(find("espcn_x2"))
        with pytest.raises(InputError, match="There is no file"):
            load_exported(tmp_path / "nothing.onnx")
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(b"\x08no network")
        with pytest.raises(CheckpointError, match="ONNX Runtime cannot read"):
            load_exported(damaged)
        foreign = tmp_path / "foreign.onnx"
        onnx.save(writers.onnx_model(filled("espcn"), facts={"maker": "another"}), foreign)
        with pytest.raises(CheckpointError, match="was not exported by edgekeeper"):
            load_exported(foreign)
        facts = {KEY: json.dumps({"scale": 3, "channels": "y", "overlap": 4})}
        onnx.save(writers.onnx_model(filled("espcn"), facts=facts), foreign)
        with pytest.raises(CheckpointError, match="does not say its 'receptive_field'"):
            load_exported(foreign)
        with pytest.raises(InputError, match="float32 here, not in bfloat16"):
            load_exported(foreign, precision="bfloat16")
        with pytest.raises(InputError, match="at least 1"):
            load_exported(foreign, threads=0)

    @pytest.mark.skipif(NO_OPENVINO, reason="needs the extra openvino")
    def test_openvino_without_its_weights(self, tmp_path: Path) -> None:
        path = export_network(filled("espcn"), tmp_path / "network.xml").path
        path.with_suffix(".bin").unlink()
        with pytest.raises(CheckpointError, match="OpenVINO cannot read"):
            load_exported(path)


def stored_weights(path: Path) -> list[np.ndarray]:
    """The whole weights of each int8 convolution of an exported file."""
    if path.suffix == ".onnx":
        import onnx

        stored = onnx.load(path).graph.initializer
        found = [onnx.numpy_helper.to_array(tensor) for tensor in stored]
    else:
        import openvino

        operations = openvino.Core().read_model(path).get_ops()
        found = [op.data for op in operations if op.get_type_name() == "Constant"]
    return [array for array in found if array.ndim == 4 and array.dtype == np.int8]


class TestInt8:
    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize(
        "name",
        [
            "edsr light",
            "vdsr",
            "espcn rgb",
            "rrdb x3",
            "srresnet",
            "msrresnet",
            "dgggan light",
            "branch on edsr",
            "branch on srresnet",
        ],
    )
    def test_eight_bits_lose_little_and_say_so(
        self, tmp_path: Path, name: str, ending: str
    ) -> None:
        model = filled(name)
        found = export_network(
            model,
            tmp_path / f"network{ending}",
            calibration=images(tmp_path / "images"),
            allowed_loss_db=1.0,
        )
        assert found.loss is not None and found.loss.images == 2
        assert found.loss.psnr_between > 30
        assert found.loss.db == found.loss.psnr_float - found.loss.psnr_int8
        exported = load_exported(found.path)
        facts = exported.facts["int8"]
        assert isinstance(facts, dict)
        assert exported.facts["precision"] == "int8"
        assert facts["loss_db"] == pytest.approx(found.loss.db, abs=1e-5)
        names = int8.layers(model)
        assert facts["float_layers"] == [names[0], names[-1]]
        assert apart(exported, model, 1, 1 if model.channels == "y" else 3, 9, 14) > 1e-6

    def test_layers_really_hold_eight_bits(self, tmp_path: Path) -> None:
        path = export_network(
            filled("edsr light"),
            tmp_path / "network.onnx",
            keep="ends",
            allowed_loss_db=1.0,
            calibration=images(tmp_path / "images"),
        ).path
        assert len(stored_weights(path)) == len(int8.layers(filled("edsr light"))) - 2

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_no_pair_of_products_leaves_int16(self, tmp_path: Path, ending: str) -> None:
        # Without VNNI two products of a uint8 value and a weight are added in int16, which cuts
        # off what is larger. Which two depends on the kernel: the worst are taken.
        model = filled("edsr light")
        path = export_network(
            model,
            tmp_path / f"network{ending}",
            keep="none",
            allowed_loss_db=1.0,
            calibration=images(tmp_path / "images"),
        ).path
        weights = stored_weights(path)
        assert len(weights) == len(int8.layers(model))
        limits = np.iinfo(np.int16)
        for whole in weights:
            ordered = np.sort(whole.astype(int).reshape(len(whole), -1), axis=1)
            assert (255 * ordered[:, -2:].sum(axis=1)).max() <= limits.max
            assert (255 * ordered[:, :2].sum(axis=1)).min() >= limits.min
            assert np.abs(ordered).max() == 64  # and no less than seven bits are used

    def test_too_large_a_loss_leaves_no_file(self, tmp_path: Path) -> None:
        folder = images(tmp_path / "images")
        with pytest.raises(CheckpointError, match=r"loses .* dB on the calibration images"):
            export_network(
                filled("espcn"),
                tmp_path / "network.onnx",
                calibration=folder,
                allowed_loss_db=-50,
            )
        assert list(tmp_path.iterdir()) == [folder]

    def test_nothing_to_round(self) -> None:
        with pytest.raises(InputError, match="no layer of the network is left"):
            int8.calibrate(
                Other(), [], method="minmax", keep="ends", signed="int8", outputs="float"
            )

    def test_folders_without_images(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="There is no folder"):
            int8.calibration_images(tmp_path / "nothing", scale=2)
        folder = images(tmp_path / "small", side=40)
        with pytest.raises(InputError, match="no image of at least 64"):
            int8.calibration_images(folder, scale=2)

    def test_ranges_without_the_outermost_values(self) -> None:
        layer = nn.Conv2d(1, 1, 1)

        class One(SRModel):
            def forward(self, lr: Tensor) -> Tensor:
                return layer(8 * lr - 4)

        model = One()
        model.scale, model.channels, model.receptive_field = 1, "rgb", 0
        model.layer = layer
        values = torch.randn((1, 1, 1500, 1000), generator=torch.Generator().manual_seed(0)) / 8
        values = values + 0.5
        values[0, 0, 0, 0] = 10.0
        found = {
            method: int8._ranges(model, [values], method=method)["layer"]  # type: ignore[arg-type]
            for method in ("minmax", "percentile", "error")
        }
        assert found["minmax"].high == pytest.approx(76.0)
        # 1 in 10,000 of a standard normal lies beyond 3.719; a bin is 0.04 wide
        assert found["percentile"].high == pytest.approx(3.719, abs=0.3)
        assert found["percentile"].low == pytest.approx(-3.719, abs=0.3)
        assert found["error"].high < found["minmax"].high


class TestCache:
    def test_a_network_is_exported_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        first = with_runtime("espcn_x2", runtime="onnx", threads=1)
        assert isinstance(first, ExportedNetwork)
        assert first.path.parent == tmp_path / "edgekeeper" / "exports"
        model = filled("espcn")
        own = with_runtime(model, runtime="onnx")
        assert own.path != first.path
        monkeypatch.setattr(export, "export_network", None)  # would fail if it were called
        assert with_runtime("espcn_x2", runtime="onnx").path == first.path
        assert with_runtime(model, runtime="onnx").path == own.path
        assert apart(own, model, 1, 1, 6, 6) < 1e-5

    def test_what_cannot_be_had(self) -> None:
        with pytest.raises(InputError, match=r"no runtime 'onxx'\. Did you mean 'onnx'"):
            with_runtime("espcn_x2", runtime="onxx")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="no bfloat16 here"):
            with_runtime("espcn_x2", runtime="onnx", precision="bfloat16")
        assert list(RUNTIMES) == ["onnx", "openvino"]

    @pytest.mark.skipif(NO_OPENVINO, reason="needs the extra openvino")
    def test_bfloat16_is_near(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        model = filled("edsr light")
        exported = with_runtime(model, runtime="openvino", precision="bfloat16")
        assert apart(exported, model, 1, 3, 12, 9) < 0.05


class TestCommand:
    def test_it_writes_and_says_what_it_measured(self, tmp_path: Path) -> None:
        target = tmp_path / "network.onnx"
        shown = CliRunner().invoke(command, ["espcn_x2", "--to", "onnx", "-o", str(target)])
        assert shown.exit_code == 0, shown.output
        assert "pixels differ by at most" in shown.output
        assert load_exported(target).scale == 2

    def test_eight_bits_are_never_silent(self, tmp_path: Path) -> None:
        folder, target = images(tmp_path / "images"), tmp_path / "network.onnx"
        given = ["espcn_x2", "--to", "onnx", "-o", str(target), "--int8", str(folder)]
        shown = CliRunner().invoke(command, [*given, "--allowed-loss", "5"])
        assert shown.exit_code == 0, shown.output
        assert "dB lost; int8 against float32" in shown.output
        assert "gv_gap  float32" in shown.output


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(NO_OPENVINO, reason="needs the extra openvino")
def test_the_better_network_loses_at_most_a_tenth_of_a_db_on_set5(
    tmp_path: Path, data_root: Path
) -> None:
    examples = Path(__file__).parents[2] / "examples" / "train"
    found = export_network("edsr_light_x2", tmp_path / "network.xml", calibration=examples)
    means = {}
    for name in ("edsr_light_x2", found.path):
        model = load_exported(name) if isinstance(name, Path) else export.load(name)
        scores = evaluate(model, sets=["set5"], scale=2, data_root=data_root, model_name="m")
        means[str(name)] = mean_scores(scores)["psnr"]
    plain, eight = means.values()
    assert plain - eight <= 0.1
