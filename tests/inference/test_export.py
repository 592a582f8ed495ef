"""Exported files: the same images as the torch network, at any size, or no file."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image as PILImage
from safetensors.torch import save_file
from tests.models.test_all import CASES
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.cli.export import export_command
from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.image import Image, Metadata
from edgekeeper.inference import Request, export, upscale_image
from edgekeeper.inference.export import export_network, int8, with_runtime
from edgekeeper.inference.export.convert import onnx_model
from edgekeeper.inference.network import infer
from edgekeeper.metrics.score import mean_scores
from edgekeeper.models import (
    DBPN,
    DGGGAN,
    EDSR,
    ESPCN,
    FSRCNN,
    IMDN,
    MODELS,
    RCAN,
    RDN,
    RRDB,
    SFTGAN,
    SPSR,
    SRCNN,
    VDSR,
    ChainSR,
    DGGGANLight,
    GradientBranch,
    MSRResNet,
    NatSR,
    SRModel,
    SRResNet,
    SRVGGNetCompact,
)
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.pretrained.exported import (
    EXPORTED_KEY,
    RUNTIMES,
    ExportedNetwork,
    load_exported,
    openvino_core,
)
from edgekeeper.pretrained.luma import YCbCrESPCN
from edgekeeper.pretrained.zoo import find
from edgekeeper.spec import spec

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
for package in ("onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason="needs the extra onnx")

OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not OPENVINO, reason="needs the extra openvino")
SUFFIXES = [".onnx", pytest.param(".xml", marks=needs_openvino)]


def branched(backbone: SRModel, *taps: str) -> SRModel:
    return GradientBranch(backbone=backbone, width=4, taps=taps)


def calm(model: DBPN) -> DBPN:
    """The network with weights that keep its image near [0, 1]; those it starts with do not."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.6)
    return model


def light() -> EDSR:
    return EDSR(scale=2, width=4, blocks=2, upsampler="direct", skip="bicubic")


# The first of each class is exported in every run, the others with "slow".
NETWORKS: dict[str, Callable[[], SRModel]] = {
    "srcnn": lambda: SRCNN(scale=3, middle=1),
    "vdsr": lambda: VDSR(scale=2),
    "espcn": lambda: ESPCN(scale=3),
    "edsr": light,
    "rrdb": lambda: RRDB(scale=2, width=4, blocks=1, growth=2, unshuffle=2),
    "spsr": lambda: SPSR(scale=3, width=4, blocks=1, growth=2, taps=(1,)),
    "sftgan": lambda: SFTGAN(scale=4, width=4, blocks=1, condition=4, hidden=4),
    "natsr": lambda: NatSR(scale=2, width=4, levels=1, layers=2),
    "srresnet": lambda: SRResNet(scale=4, width=4, blocks=1, slopes="maps"),
    "msrresnet": lambda: MSRResNet(scale=3, width=4, blocks=1),
    "fsrcnn": lambda: FSRCNN(scale=2, width=6, narrow=4, mapping=1),
    "imdn": lambda: IMDN(scale=4, width=16, blocks=1),
    "rcan": lambda: RCAN(scale=3, width=4, groups=1, blocks=1, reduction=2),
    "rdn": lambda: RDN(scale=2, width=4, blocks=2, layers=2, growth=2),
    "dbpn": lambda: calm(DBPN(scale=2, width=4, stages=2, first=4)),
    "dgggan": lambda: DGGGAN(scale=2, width=4, blocks=1, grad_every=1, body="lr"),
    "dgggan light": lambda: DGGGANLight(scale=3, width=4, blocks=3, gradient_width=4),
    "chainsr": lambda: ChainSR(scale=3, width=4, blocks=2, depth=2),
    "srvgg": lambda: SRVGGNetCompact(scale=4, width=4, convolutions=2),
    "gradientbranch on srresnet": lambda: branched(
        SRResNet(scale=2, width=4, blocks=1), "activation", "blocks.0.conv1", "blocks.0.norm1"
    ),
    "branch on dbpn": lambda: branched(calm(DBPN(scale=4, width=4, stages=2, first=4))),
    "espcn ycbcr": lambda: YCbCrESPCN(scale=2),
    "espcn rgb": lambda: ESPCN(scale=4, channels="rgb"),
    "edsr scaled": lambda: EDSR(scale=4, width=4, blocks=1, residual_scale=0.1),
    "edsr steps": lambda: EDSR(scale=3, width=4, blocks=1, skip="bicubic"),
    "vdsr gv": lambda: VDSR(scale=3, variant="gv", interpolation="bilinear"),
    "rrdb x3": lambda: RRDB(scale=3, width=4, blocks=2, growth=2),
    "srcnn rgb": lambda: SRCNN(scale=2, channels="rgb", middle=1),
    "srresnet tanh": lambda: SRResNet(scale=3, width=4, blocks=2, output="tanh", bias=True),
    "srresnet plain": lambda: SRResNet(scale=2, width=4, blocks=1, norm="none"),
    "dgggan half": lambda: DGGGAN(scale=4, width=4, blocks=3, image_skip="bicubic"),
    "branch on edsr": lambda: branched(light(), "blocks.0", "blocks.1.conv1", "blocks.1.conv2"),
    "branch on rrdb": lambda: branched(
        RRDB(scale=4, width=4, blocks=1, growth=2), "blocks.0", "blocks.0.dense.1"
    ),
    "branch on vdsr": lambda: branched(VDSR(scale=2), "hidden.1"),
    "branch on fsrcnn": lambda: branched(FSRCNN(scale=2, width=6, narrow=4, mapping=1)),
    "branch on dgggan light": lambda: branched(
        DGGGANLight(scale=3, width=4, blocks=3, gradient_width=0), "blocks.0.chain.1"
    ),
}
# A network without a row above is exported as the cases that begin with its name have it.
_ROWS = {name.partition(" ")[0] for name in NETWORKS}
_FURTHER = [case for case in CASES if case.partition("_")[0] in MODELS.keys() - _ROWS]
NETWORKS = {case: CASES[case] for case in _FURTHER} | NETWORKS
EVERY_RUN = list(NETWORKS).index("branch on dbpn")
ALL = [
    pytest.param(name, marks=pytest.mark.slow) if number >= EVERY_RUN else name
    for number, name in enumerate(NETWORKS)
]


@pytest.fixture(autouse=True)
def small_vdsr(monkeypatch: pytest.MonkeyPatch) -> None:
    """VDSR with 4 layers of 8 maps instead of 20 of 64."""
    monkeypatch.setattr("edgekeeper.models.vdsr.DEPTH", 4)
    monkeypatch.setattr("edgekeeper.models.vdsr.WIDTH", 8)


def filled(name: str) -> SRModel:
    """A network whose every weight matters, the same one each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
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


def images(folder: Path, *sizes: tuple[int, int]) -> Path:
    """A folder of smooth images with edges, of height and width ``sizes``."""
    folder.mkdir()
    for index, size in enumerate(sizes or [(72, 72), (72, 72)]):
        coarse = torch.rand((3, 9, 9), generator=torch.Generator().manual_seed(index))
        image = imresize(coarse, size=size).clamp(0, 1)
        array = (255 * image).round().byte().permute(1, 2, 0).numpy()
        PILImage.fromarray(array).save(folder / f"{index}.png")
    return folder


def colours(model: SRModel) -> int:
    return COLOUR_COUNT[model.channels]


@torch.inference_mode()
def apart(exported: SRModel, model: SRModel, *shape: int) -> float:
    lr = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    first, second = exported(lr), model(lr)
    assert first.shape == second.shape
    return float((first - second).abs().max())


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """The ONNX models that PyTorch's exporter, which takes seconds, made so far."""
    return {}


@pytest.fixture(autouse=True)
def made_once(made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def remembered(network: SRModel) -> Any:
        digest = export._digest(network)
        if digest not in made:
            made[digest] = onnx_model(network).SerializeToString()
        return onnx.load_from_string(made[digest])

    monkeypatch.setattr(export, "onnx_model", remembered)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Export a network of ``NETWORKS``, or itself, and give the file."""

    def run(model: str | SRModel, suffix: str = ".onnx", **options: Any) -> Path:
        if model in NETWORKS:
            model = filled(model)
        return export_network(model, tmp_path / f"network{suffix}", **options).path

    return run


class TestEveryNetwork:
    def test_the_list_is_whole(self) -> None:
        assert {type(filled(name)) for name in list(NETWORKS)[:EVERY_RUN]} >= set(MODELS.values())

    @pytest.mark.parametrize("name", ALL)
    def test_float_and_int8_give_its_image_at_every_size(
        self, write: Callable[..., Path], tmp_path: Path, name: str
    ) -> None:
        model, folder = filled(name), images(tmp_path / "images")
        for suffix in (".onnx", ".xml") if OPENVINO else (".onnx",):
            exported = load_exported(write(name, suffix), threads=1)
            for size in ((1, 1), (7, 2), (11, 20)):
                assert apart(exported, model, 2, colours(model), *size) < 1e-5, (suffix, size)
            kept = ("scale", "channels", "receptive_field", "overlap", "multiple", "border")
            assert all(getattr(exported, key) == getattr(model, key) for key in kept)
            target = tmp_path / f"int8{suffix}"
            found = export_network(model, target, calibration=folder, allowed_loss_db=1.0)
            assert found.loss is not None
            assert (found.loss.calibrated_on, found.loss.images) == (1, 1)
            assert found.loss.psnr_between > 30
            assert found.loss.db == found.loss.psnr_float - found.loss.psnr_int8
            rounded = load_exported(target)
            facts = rounded.facts["int8"]
            assert isinstance(facts, dict)
            assert rounded.facts["precision"] == "int8"
            assert facts["loss_db"] == pytest.approx(found.loss.db, abs=1e-5)
            names = layers(name)
            assert facts["float_layers"] == [names[0], names[-1]]
            assert len(stored_weights(target)) == len(names) - 2
            assert apart(rounded, model, 1, colours(model), 9, 14) > 1e-6


def layers(name: str) -> list[str]:
    model = filled(name)
    return list(int8.layers(export.onnx_model(model), model).values())


def stored_weights(path: Path) -> list[np.ndarray]:
    """The whole weights of each int8 convolution of an exported file."""
    if path.suffix == ".onnx":
        stored = onnx.load(path).graph.initializer
        found = [onnx.numpy_helper.to_array(tensor) for tensor in stored]
    else:
        operations = openvino_core().read_model(path).get_ops()
        found = [op.data for op in operations if op.get_type_name() == "Constant"]
    return [array for array in found if array.ndim == 4 and array.dtype == np.int8]


class TestLayers:
    def test_only_those_that_the_image_passes_in_their_order(self) -> None:
        assert layers("gradientbranch on srresnet") == [
            *("backbone.head", "backbone.blocks.0.conv1", "backbone.blocks.0.conv2"),
            *("backbone.after_blocks", "head"),
            *(f"steps.{step}.conv{k}" for step in range(4) for k in (1, 2)),
            *("fusion.0", "fusion.2", "backbone.upsampler.0", "backbone.last"),
        ]
        found = layers("dgggan light")
        assert found[0] == "head" and found[-1] == "last"
        assert not [name for name in found if name.startswith("gradient")]

    def test_normalisations_go_into_the_convolutions_before_them(self) -> None:
        kinds = [node.op_type for node in export.onnx_model(filled("srresnet")).graph.node]
        assert "BatchNormalization" not in kinds
        # One whose convolution a branch reads stays, since that reads what comes before it.
        graph = export.onnx_model(filled("gradientbranch on srresnet")).graph
        left = [node.input[1] for node in graph.node if node.op_type == "BatchNormalization"]
        assert left == ["backbone.blocks.0.norm1.weight"]

    def test_nothing_of_this_machine_is_in_the_file(self, write: Callable[..., Path]) -> None:
        assert str(Path(export.__file__).parents[2]).encode() not in write("espcn").read_bytes()


class TestFloat:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_the_file_says_what_it_is(self, write: Callable[..., Path], suffix: str) -> None:
        path = write("espcn_x3", suffix)
        facts = load_exported(path).facts
        assert (facts["scale"], facts["channels"], facts["value_range"]) == (3, "y", [0, 1])
        assert facts["model"] == {"name": "ESPCN", "arguments": {"scale": 3}}
        assert facts["precision"] == "float32"
        assert facts["source"]["name"] == "espcn_x3"  # type: ignore[index]
        assert "pictures" in facts["card"]  # type: ignore[operator]
        names = ["network.bin", "network.xml"] if suffix == ".xml" else ["network.onnx"]
        assert sorted(p.name for p in path.parent.iterdir()) == names

    def test_other_programs_find_the_short_facts(self, write: Callable[..., Path]) -> None:
        model = onnx.load(write("espcn"))
        entries = {entry.key: entry.value for entry in model.metadata_props}
        assert entries[f"{EXPORTED_KEY}.scale"] == "3"
        assert entries[f"{EXPORTED_KEY}.value_range"] == "[0, 1]"
        sides = [
            [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)
        ]
        assert sides == [["batch", 1, "height", "width"], ["batch", 1, "3*height", "3*width"]]

    def test_export_leaves_the_network_as_it_was(self, write: Callable[..., Path]) -> None:
        model = filled("edsr").train()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        write(model)
        assert model.training
        assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_an_image_in_tiles_is_the_same(self, write: Callable[..., Path], suffix: str) -> None:
        model, exported = filled("espcn"), load_exported(write("espcn", suffix))
        numbers = np.random.default_rng(0)
        pixels = numbers.integers(0, 256, (30, 25, 3), dtype=np.uint8)
        image = Image(pixels=pixels, alpha=None, metadata=Metadata())
        requests = (Request(model=exported, tile=16), Request(model=model))
        ours, theirs = (
            upscale_image(image, request).image.pixels.astype(int) for request in requests
        )
        assert ours.shape == (90, 75, 3)
        assert np.abs(ours - theirs).max() <= 1  # a rounding that fell the other way

    def test_infer_adds_colour_to_an_exported_luma_network(
        self, write: Callable[..., Path]
    ) -> None:
        model, exported = filled("espcn"), load_exported(write("espcn"))
        lr = torch.rand((1, 3, 9, 8), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(infer(exported, lr), infer(model, lr), atol=1e-5, rtol=0)
        with pytest.raises(InputError, match="cannot change its precision"):
            infer(exported, lr, precision="bfloat16")

    def test_a_file_of_a_branch_says_what_is_inside(self, tmp_path: Path) -> None:
        description = spec(GradientBranch, backbone=spec(ESPCN, scale=2), width=4, taps=("conv1",))
        source = tmp_path / "network.safetensors"
        save_model(source, description.build(), spec=description, card={"steps": 1})
        facts = load_exported(export_network(source, tmp_path / "network.onnx").path).facts
        assert facts["model"] == description.to_json() and facts["card"] == {"steps": 1}

    def test_weights_that_another_program_published(self, tmp_path: Path) -> None:
        source = tmp_path / "compact.safetensors"
        save_file(SRVGGNetCompact(scale=2, width=4, convolutions=1).state_dict(), source)
        facts = load_exported(export_network(source, tmp_path / "network.onnx").path).facts
        assert facts["model"] == {"name": "SRVGGNetCompact"} and facts["card"] == {}


class Other(SRModel):
    """A network of somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = 2, "rgb", 3
        self.first, self.middle = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        maps = self.middle(functional.leaky_relu(self.first(lr), 0.2))
        maps = functional.interpolate(maps, scale_factor=2, mode="nearest")
        return self.last(maps)


class Slipped(Other):
    """One that is written as ONNX with a small mistake."""

    def forward(self, lr: Tensor) -> Tensor:
        return super().forward(lr) + (0.002 if torch.compiler.is_compiling() else 0.0)


class Undecided(Other):
    """One whose layers depend on what is in the image."""

    def forward(self, lr: Tensor) -> Tensor:
        return super().forward(lr if lr.mean() > 0.5 else 1 - lr)


class TestRefusals:
    def test_a_network_of_somebody_else(self, write: Callable[..., Path], tmp_path: Path) -> None:
        torch.manual_seed(0)
        model, folder = Other().eval(), images(tmp_path / "images")
        assert apart(load_exported(write(model)), model, 2, 3, 5, 11) < 1e-5
        write(model, calibration=folder, allowed_loss_db=1.0, overwrite="replace")

    def test_one_that_pytorch_cannot_follow(
        self, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=r"PyTorch cannot write Undecided as ONNX: \w+: .+"):
            write(Undecided())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_file_that_differs_a_little_is_not_left(
        self, write: Callable[..., Path], tmp_path: Path, suffix: str
    ) -> None:
        with pytest.raises(CheckpointError, match=r"differs from the original by 0\.002"):
            write(Slipped(), suffix)
        assert list(tmp_path.iterdir()) == []

    def test_what_is_exported_already(self, write: Callable[..., Path], tmp_path: Path) -> None:
        path = write("espcn")
        for given in (path, load_exported(path)):
            with pytest.raises(InputError, match="is an exported file already; export the"):
                export_network(given, tmp_path / "again.onnx")
            with pytest.raises(InputError, match="is an exported file already"):
                with_runtime(given, runtime="onnx")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_capitals_in_the_file_extension(self, write: Callable[..., Path], suffix: str) -> None:
        path = write("espcn", suffix.upper())
        assert path.suffix == suffix.upper()
        assert load_exported(path).scale == 3

    def test_what_stands_there_is_kept_unless_it_may_go(
        self, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        target = tmp_path / "network.onnx"
        target.write_text("mine")
        with pytest.raises(InputError, match="exists; choose another name"):
            write("espcn")
        assert target.read_text() == "mine"
        write("espcn", overwrite="replace")
        assert load_exported(target).scale == 3

    def test_names_that_say_no_format(self, write: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"must end in \.onnx or \.xml"):
            write("espcn", ".pt")
        with pytest.raises(InputError, match=r"for openvino does not end in \.onnx"):
            write("espcn", runtime="openvino")
        with pytest.raises(InputError, match="no network"):
            write("nothing_x2")

    @pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_missing_package_is_named(
        self, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name != missing or None)
        with pytest.raises(UnavailableError, match=rf"{missing}: pip install 'edgekeeper\[onnx\]'"):
            write("espcn")

    def test_files_that_are_no_exported_network(
        self, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match="must end in"):
            load_exported(find("espcn_x2"))
        with pytest.raises(InputError, match="There is no file"):
            load_exported(tmp_path / "nothing.onnx")
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(b"\x08no network")
        with pytest.raises(CheckpointError, match="ONNX Runtime cannot read"):
            load_exported(damaged)
        foreign, model = tmp_path / "foreign.onnx", onnx.load(write("espcn"))
        for facts, words in (
            ({"maker": "another"}, "was not exported by edgekeeper"),
            (
                {EXPORTED_KEY: json.dumps({"scale": 3, "channels": "y", "overlap": 4})},
                "does not say its 'receptive_field'",
            ),
        ):
            onnx.helper.set_model_props(model, facts)
            onnx.save(model, foreign)
            with pytest.raises(CheckpointError, match=words):
                load_exported(foreign)
        with pytest.raises(InputError, match="float32 here, not in bfloat16"):
            load_exported(foreign, precision="bfloat16")
        with pytest.raises(InputError, match="at least 1"):
            load_exported(foreign, threads=0)

    @needs_openvino
    def test_openvino_reaches_no_network_and_writes_nothing_at_home(
        self, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        program = (
            "import sys\n"
            "def watch(event, arguments):\n"
            "    if event.startswith('socket.') or event in ('os.fork', 'subprocess.Popen'):\n"
            "        print(event, arguments)\n"
            "sys.addaudithook(watch)\n"
            "from edgekeeper.pretrained.exported import load_exported\n"
            "load_exported(sys.argv[1])\n"
            "assert 'openvino' in sys.modules\n"
        )
        path = write("espcn", ".xml")
        home = {**os.environ, "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
        command = [sys.executable, "-c", program, path]
        done = subprocess.run(command, capture_output=True, text=True, env=home, timeout=120)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert not (tmp_path / "intel").exists()

    @needs_openvino
    def test_openvino_without_its_weights(self, write: Callable[..., Path]) -> None:
        path = write("espcn", ".xml")
        path.with_suffix(".bin").unlink()
        with pytest.raises(CheckpointError, match="OpenVINO cannot read"):
            load_exported(path)

    @needs_openvino
    def test_openvino_on_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import openvino

        def full(*_: object, **__: object) -> None:
            raise RuntimeError("basic_ios::clear: iostream error")  # what it raises then

        monkeypatch.setattr(openvino, "save_model", full)
        with pytest.raises(CheckpointError, match=r"cannot be written: .*disk full"):
            export_network("espcn_x2", target=tmp_path / "e.xml")
        assert not list(tmp_path.iterdir())


class TestInt8:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_no_pair_of_products_leaves_int16(
        self, write: Callable[..., Path], tmp_path: Path, suffix: str
    ) -> None:
        # Without VNNI two products of a uint8 value and a weight are added in int16, which cuts
        # off what is larger. Which two depends on the kernel: the worst are taken.
        folder = images(tmp_path / "images")
        path = write("edsr", suffix, keep="none", allowed_loss_db=1.0, calibration=folder)
        weights = stored_weights(path)
        assert len(weights) == len(layers("edsr"))
        limits = np.iinfo(np.int16)
        for whole in weights:
            ordered = np.sort(whole.astype(int).reshape(len(whole), -1), axis=1)
            assert (255 * ordered[:, -2:].sum(axis=1)).max() <= limits.max
            assert (255 * ordered[:, :2].sum(axis=1)).min() >= limits.min
            assert np.abs(ordered).max() == 64  # and no less than seven bits are used

    def test_a_loss_on_images_that_did_not_calibrate_leaves_no_file(
        self, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        folder = images(tmp_path / "images", (72, 72), (72, 72), (72, 72))
        for name in ("0.png", "2.png"):  # those that calibrate
            PILImage.new("RGB", (72, 72), (90, 90, 90)).save(folder / name)
        with pytest.raises(CheckpointError, match=r"loses \d.* dB on 1 image that did not cal"):
            write("espcn_x2", calibration=folder)
        assert list(tmp_path.iterdir()) == [folder]

    def test_nothing_to_round(self, write: Callable[..., Path], tmp_path: Path) -> None:
        model = Other()
        model.middle = nn.Identity()  # type: ignore[assignment]
        with pytest.raises(InputError, match="no layer of the network is left"):
            write(model, calibration=images(tmp_path / "images"))

    def test_some_images_calibrate_and_others_measure(self, tmp_path: Path) -> None:
        folder = images(tmp_path / "images", *[(66 + 2 * n, 70) for n in range(7)], (40, 90))
        split = int8.split_images(folder, scale=2)
        assert [hr.shape[-2] for hr in split.calibrate] == [66, 70, 72, 76, 78]
        assert [hr.shape[-2] for hr in split.measure] == [68, 74]

    def test_of_one_image_each_half_has_its_use(self, tmp_path: Path) -> None:
        folder = images(tmp_path / "images", (300, 150))
        split = int8.split_images(folder, scale=4)
        whole = int8._read(folder / "0.png")
        assert torch.equal(split.calibrate[0], whole[..., 0:148, 0:148])
        assert torch.equal(split.measure[0], whole[..., 150:298, 0:148])

    def test_folders_without_images(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="There is no folder"):
            int8.split_images(tmp_path / "nothing", scale=2)
        folder = images(tmp_path / "small", (40, 40), (100, 100), (40, 200))
        with pytest.raises(InputError, match=r"two images of at least 64 x 64 .* one of 128 x 64"):
            int8.split_images(folder, scale=2)


class TestCache:
    def test_a_network_is_exported_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDGEKEEPER_CACHE", str(tmp_path))
        first = with_runtime("espcn_x2", runtime="onnx", threads=1)
        assert isinstance(first, ExportedNetwork)
        assert first.path.parent == tmp_path / "exports"
        model = filled("espcn")
        own = with_runtime(model, runtime="onnx")
        assert own.path != first.path
        monkeypatch.setattr(export, "export_network", None)  # would fail if it were called
        assert with_runtime("espcn_x2", runtime="onnx").path == first.path
        assert with_runtime(model, runtime="onnx").path == own.path
        assert apart(own, model, 1, 1, 6, 6) < 1e-5

    def test_one_whose_code_changed_is_exported_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDGEKEEPER_CACHE", str(tmp_path))
        model = Other()
        with_runtime(model, runtime="onnx")
        forward = Other.forward
        monkeypatch.setattr(Other, "forward", lambda self, lr: 1 - forward(self, lr))
        monkeypatch.setattr(export, "onnx_model", onnx_model)
        assert apart(with_runtime(model, runtime="onnx"), model, 1, 3, 6, 6) < 1e-5

    def test_what_cannot_be_had(self) -> None:
        with pytest.raises(InputError, match=r"no runtime 'onxx'\. Did you mean 'onnx'"):
            with_runtime("espcn_x2", runtime="onxx")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="no bfloat16 here"):
            with_runtime("espcn_x2", runtime="onnx", precision="bfloat16")
        assert list(RUNTIMES) == ["onnx", "openvino"]

    @needs_openvino
    def test_bfloat16_is_near(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGEKEEPER_CACHE", str(tmp_path))
        model = filled("edsr")
        exported = with_runtime(model, runtime="openvino", precision="bfloat16")
        assert apart(exported, model, 1, 3, 12, 9) < 0.05


class TestCommand:
    def test_it_writes_and_says_what_it_measured(self, tmp_path: Path) -> None:
        target = tmp_path / "network.onnx"
        shown = CliRunner().invoke(export_command, ["espcn_x2", "--to", "onnx", "-o", str(target)])
        assert shown.exit_code == 0, shown.output
        assert "pixels differ by at most" in shown.output
        assert len(shown.output.splitlines()) == 2  # and nothing of the exporter's own
        assert load_exported(target).scale == 2

    def test_eight_bits_are_never_silent(self, tmp_path: Path) -> None:
        folder, target = images(tmp_path / "images"), tmp_path / "network.onnx"
        given = ["espcn_x2", "--to", "onnx", "-o", str(target), "--int8", str(folder)]
        shown = CliRunner().invoke(export_command, [*given, "--allowed-loss", "5"])
        assert shown.exit_code == 0, shown.output
        assert "Calibrated on 1, measured on 1 other" in shown.output
        assert "dB lost; int8 against float32" in shown.output
        assert "gv_gap  float32" in shown.output


@pytest.mark.data
@pytest.mark.slow
@needs_openvino
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
