"""The runtime that computes a network: the fastest that is there and near enough to PyTorch."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image as PILImage

import edgekeeper
from edgekeeper.cli.upscale import upscale_command
from edgekeeper.data.synthetic import synthetic_image
from edgekeeper.errors import InputError
from edgekeeper.files import sha256_of
from edgekeeper.inference import Request, choose, flow, networks_for
from edgekeeper.inference.network import TileRunner
from edgekeeper.inference.pairs import Mixture
from edgekeeper.models import SRModel
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained import zoo as files
from edgekeeper.pretrained.zoo import DEFAULTS, EXPORTS, Accelerated, cached_export, find, load

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
openvino = pytest.importorskip("openvino", reason="needs the extra fast")
NAME = "fast_x2"


def photo(height: int = 150, width: int = 140) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rgb = [0.5 + 0.4 * torch.sin(rows / a + columns / b) for a, b in ((9, 7), (5, 11), (13, 6))]
    return torch.stack(rgb)[None]


@pytest.fixture
def slow_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "bfloat16_is_fast", lambda device: False)


def runner_after(lr: torch.Tensor, precision: str = "auto", *, switches: bool = True) -> TileRunner:
    file = find(NAME)
    runner = TileRunner(Accelerated(load(NAME), file=file, threads=1), precision=precision)  # type: ignore[arg-type]
    choose.probe_runtime(runner, lr.shape[-2:], switches=switches)
    runner.result = runner(lr)  # type: ignore[attr-defined]
    return runner


def test_the_files_that_ship_are_of_the_networks_that_ship() -> None:
    names = {path.name.partition(".")[0] for path in EXPORTS.glob("*.onnx")}
    assert {*DEFAULTS["auto"].values(), *DEFAULTS["restore"].values()} <= names
    advice = "run python benchmarks/ship_exported.py once more"
    onnx = pytest.importorskip("onnx")
    for name in names:
        for kind in ("", ".int8"):
            model = onnx.load(EXPORTS / f"{name}{kind}.onnx")
            facts = json.loads({p.key: p.value for p in model.metadata_props}["edgekeeper"])
            assert facts["source"]["sha256"] == sha256_of(find(name)), f"{name}: {advice}"
            assert facts["format"] == files.EXPORT_FORMAT, f"{name}: {advice}"
            if kind:
                assert facts["int8"]["images"] >= 20  # that did not calibrate
                assert facts["int8"]["loss_db"] <= 0.2


@torch.inference_mode()
def test_the_files_that_ship_are_torch_on_patterns_that_grew() -> None:
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    stripes = (torch.sin(torch.pi * (0.851 * columns + 0.129 * rows)) > 0).float()
    drawing = imresize(synthetic_image(size=512, seed=1, number=3), scale=1 / 4).clamp(0, 1)
    noise = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)).round()
    patterns = [torch.stack([stripes, 1 - stripes, torch.ones(40, 40)])[None], drawing, noise]
    for path in sorted(EXPORTS.glob("*_x?.onnx")):
        for runtime in ("onnx", "openvino"):
            exported = files.load_exported(path, runtime=runtime, threads=1)  # type: ignore[arg-type]
            for lr in patterns:
                torch.testing.assert_close(exported(lr), load(path.stem)(lr), atol=1e-3, rtol=0)


def test_openvino_in_float32_is_torch(slow_processor: None) -> None:
    lr = photo()
    runner = runner_after(lr)
    assert (runner.runtime, runner.precision) == ("openvino", "float32")
    assert list(runner.notes) == ["OpenVINO ran the network in float32."]
    torch.testing.assert_close(runner.result, TileRunner(load(NAME))(lr), atol=2e-5, rtol=0)  # type: ignore[attr-defined]


def test_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "bfloat16_is_fast", lambda device: True)
    runner = runner_after(photo())
    assert (runner.runtime, runner.precision) == ("openvino", "bfloat16")
    levels = (runner.result - TileRunner(load(NAME))(photo())).abs().mean() * 255  # type: ignore[attr-defined]
    assert levels < 0.5


def test_one_that_differs_is_not_taken(
    slow_processor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Accelerated.in_runtime

    def wrong(self: Accelerated, runtime: str, *, precision: str) -> SRModel | None:
        found = opened(self, runtime, precision=precision)  # type: ignore[arg-type]
        if found is not None and runtime == "openvino":
            run = found._run
            found._run = lambda lr: run(lr) + np.float32(2e-3)
        return found

    monkeypatch.setattr(Accelerated, "in_runtime", wrong)
    monkeypatch.setattr(choose.time, "perf_counter", iter(range(100)).__next__)  # no one is faster
    runner = runner_after(photo())
    assert (runner.runtime, runner.precision, list(runner.notes)) == ("torch", "float32", [])


def test_without_openvino_onnx_runtime_where_it_is_faster(
    slow_processor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = files.importlib.util.find_spec
    monkeypatch.setattr(
        files.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "openvino" else there(name, *rest),
    )
    for times, runtime in (([0, 5, 5, 6], "onnx"), ([0, 1, 1, 6], "torch")):
        clock = iter([0, *times, *range(6, 100)])
        monkeypatch.setattr(choose.time, "perf_counter", clock.__next__)
        runner = runner_after(photo())
        assert (runner.runtime, runner.precision) == (runtime, "float32"), times


def test_small_images_do_not_wait_for_a_runtime(slow_processor: None) -> None:
    runner = runner_after(photo(40, 40), switches=False)
    assert (runner.runtime, runner.notes) == ("torch", {})


def test_which_images_are_small(slow_processor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert flow.SMALL == 800 * 800
    monkeypatch.setattr(flow, "SMALL", 128 * 128)
    for side, many, runtime in (
        (127, False, "torch"),
        (128, False, "openvino"),
        (40, True, "openvino"),
    ):
        request = Request(model=NAME, precision="auto", many=many)
        image = edgekeeper.Image.from_numpy(photo(side, side)[0].permute(1, 2, 0).numpy())
        assert edgekeeper.inference.upscale_image(image, request).runtime == runtime, (side, many)


def test_a_runtime_is_started_once(slow_processor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    load_exported = files.load_exported

    def counted(path: Path, **how: object) -> SRModel:
        opened.append(path.name)
        return load_exported(path, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "load_exported", counted)
    request = Request(model=NAME, many=True)
    request = replace(request, model=networks_for(request))
    image = edgekeeper.Image.from_numpy(photo(20, 20)[0].permute(1, 2, 0).numpy())
    for _ in range(3):
        edgekeeper.inference.upscale_image(image, request)
    assert opened == [f"{NAME}.onnx"]


def test_cut_and_stale_files_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "EXPORTS", tmp_path)
    monkeypatch.setenv("EDGEKEEPER_CACHE", str(tmp_path))
    file = find(NAME)

    def found() -> SRModel | None:
        return Accelerated(load(NAME), file=file).in_runtime("openvino", precision="float32")

    assert found() is None
    place = tmp_path / f"{NAME}.onnx"
    place.write_bytes((EXPORTS / place.name).read_bytes()[:-1000])
    assert found() is None
    shutil.copy(EXPORTS / "fast_x4.onnx", place)  # of another network
    assert found() is None
    cached = cached_export(sha256_of(file), runtime="onnx")
    cached.parent.mkdir()
    shutil.copy(EXPORTS / f"{NAME}.onnx", cached)
    assert Accelerated(load(NAME), file=file).in_runtime("onnx", precision="float32") is not None


def test_int8_tells_its_loss() -> None:
    runner = runner_after(photo(), "int8", switches=False)
    assert (runner.runtime, runner.precision) == ("openvino", "int8")
    (note,) = runner.notes
    assert "fast_x2 loses 0.0" in note
    assert "images that did not calibrate" in note
    power = (runner.result - TileRunner(load(NAME))(photo())).double().square().mean()  # type: ignore[attr-defined]
    assert -10 * power.log10() > 35


def test_int8_where_there_is_none() -> None:
    with pytest.raises(InputError, match="in eight bits"):
        edgekeeper.upscale(photo(8, 8), model="espcn_x2", precision="int8")
    with pytest.raises(InputError, match="leave the runtime at 'auto'"):
        edgekeeper.upscale(photo(8, 8), model=NAME, precision="int8", runtime="openvino")


def test_a_mixture_runs_where_both_run() -> None:
    networks = networks_for(Request(style="restore"))
    assert networks.restore is not None
    plain, other = networks.load(4), networks.restore.load(4)
    mixture = Mixture(plain=plain, other=other, strength=0.5)
    made = mixture.in_runtime("openvino", precision="float32")
    lr = photo(20, 24)
    assert made is not None
    with torch.inference_mode():
        torch.testing.assert_close(made(lr), mixture(lr), atol=2e-5, rtol=0)
    assert (
        Mixture(plain=load("fast_x4"), other=other, strength=0.5).in_runtime(
            "openvino", precision="float32"
        )
        is None
    )


def test_the_command_says_what_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "SMALL", 0)
    source = tmp_path / "a.png"
    PILImage.fromarray((photo()[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(source)
    for given, runtime in (([], "openvino"), (["--runtime", "torch"], "torch")):
        asked = [str(source), "--model", NAME, "--json", "--force", *given]
        ran = CliRunner().invoke(upscale_command, asked)
        assert ran.exit_code == 0, ran.output
        told = json.loads(ran.stdout)
        assert told["runtime"] == runtime
        assert any("OpenVINO ran" in note for note in told["notes"]) == (runtime == "openvino")


@pytest.mark.parametrize("ended", ["first", "last", "in a thread"])
def test_a_signal_comes_through_after_openvino_has_ended(ended: str) -> None:
    """OpenVINO moves the stack of signals and, with two of it, left it in freed memory."""
    work = f"""
import gc, os, signal, threading
from edgekeeper.pretrained.exported import load_exported
from edgekeeper.pretrained.zoo import EXPORTS

opened = [load_exported(str(EXPORTS / "{NAME}.onnx"), runtime="openvino") for _ in range(2)]

def end():
    while opened:
        del opened[0 if {ended == "first"} else -1]
        gc.collect()

if {ended == "in a thread"}:
    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
else:
    end()
kept = [bytearray(20_000) for _ in range(500)]  # what was freed is used again
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
"""
    run = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "heard\n"), run.stderr
