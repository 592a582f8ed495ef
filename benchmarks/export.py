"""Times exported networks against PyTorch, beside what each loses: the frontier of eight bits.

Run: python benchmarks/export.py --data FOLDER --calibration FOLDER [--threads 1] [--repeats 9]

Every way upscales the same 256 x 256 image in turn, in one process; "x eager" is the median over
the rounds of PyTorch's time (eager, float32, contiguous) over the way's time in the same round.
With one thread the clock is the processor time of the process, which other programs do not slow;
with more it is the wall clock. Losses are against the float32 network on a benchmark set
(protocol y_matlab) and on those images of the folder that did not calibrate.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.inference.export import Keep, QuantisationLoss, export_network
from edgekeeper.inference.network import infer
from edgekeeper.metrics.score import mean_scores
from edgekeeper.models import SRModel
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.exported import load_exported
from edgekeeper.pretrained.zoo import load

SIDE = 256
FORMS: tuple[Keep, ...] = ("ends", "first", "none")


@dataclass(frozen=True)
class Way:
    """One way to run the network."""

    name: str
    model: SRModel
    run: Callable[[Tensor], Tensor]
    loss: QuantisationLoss | None = None


def ways(network: str, *, calibration: Path, folder: Path, threads: int, forms: int) -> list[Way]:
    """PyTorch in both precisions, and every exported form; the first ``forms`` of FORMS."""
    eager = load(network)
    found = [
        Way("PyTorch float32 (eager)", eager, eager),
        Way("PyTorch bfloat16", eager, lambda lr: infer(eager, lr, precision="bfloat16")),
    ]
    for suffix, runtime in ((".onnx", "ONNX Runtime"), (".xml", "OpenVINO")):
        plain = export_network(network, folder / f"float{suffix}").path
        model = load_exported(plain, threads=threads)
        found.append(Way(f"{runtime} float32", model, model))
        if suffix == ".xml":
            model = load_exported(plain, threads=threads, precision="bfloat16")
            found.append(Way(f"{runtime} bfloat16", model, model))
        for keep in FORMS[:forms]:
            target = folder / f"{keep}{suffix}"
            exported = export_network(
                network, target, calibration=calibration, keep=keep, allowed_loss_db=99.0
            )
            model = load_exported(target, threads=threads)
            found.append(Way(f"{runtime} int8, float: {keep}", model, model, exported.loss))
    return found


def image(channels: int) -> Tensor:
    """A smooth image (1, channels, SIDE, SIDE) with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, channels, SIDE // 8, SIDE // 8), generator=generator)
    return imresize(coarse, scale=8).clamp(0, 1).contiguous()


@torch.inference_mode()
def seconds(
    found: list[Way], images: list[Tensor], *, repeats: int, threads: int
) -> list[list[float]]:
    """The times of each way on its image, round by round, after two rounds to warm up."""
    clock = time.process_time if threads == 1 else time.perf_counter
    times: list[list[float]] = [[] for _ in found]
    for turn in range(repeats + 2):
        for way, lr, own in zip(found, images, times, strict=True):
            start = clock()
            way.run(lr)
            if turn > 1:
                own.append(clock() - start)
    return times


def scores(way: Way, *, set_name: str, data: Path) -> dict[str, float]:
    """The means on the benchmark set."""
    model = _As(way) if way.name == "PyTorch bfloat16" else way.model
    found = evaluate(model, sets=[set_name], scale=way.model.scale, data_root=data, model_name="m")
    return mean_scores(found)


class _As(SRModel):
    """A network that always runs as the way does."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.scale, self.channels = way.model.scale, way.model.channels
        self.receptive_field, self._way = way.model.receptive_field, way

    def forward(self, lr: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self._way.model(lr.contiguous(memory_format=torch.channels_last)).float()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Times and losses of exported networks.")
    parser.add_argument("--network", default="edsr_light_x2")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="set5")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--forms", type=int, default=len(FORMS), help="eight-bit forms, at most")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = ways(
            options.network,
            calibration=options.calibration,
            folder=Path(folder),
            threads=options.threads,
            forms=options.forms,
        )
        lr = image(1 if found[0].model.channels == "y" else 3)
        times = seconds(found, [lr] * len(found), repeats=options.repeats, threads=options.threads)
        print(
            f"{options.network}, {SIDE} x {SIDE}, {options.threads} thread(s), torch "
            f"{torch.__version__}; median of {options.repeats} rounds"
        )
        print(f"{'':55}{'ms':>8}{'x eager':>9}{'dB lost':>9}{'gv_gap':>8}{'other dB':>10}")
        reference = None
        for way, own in zip(found, times, strict=True):
            means = scores(way, set_name=options.set, data=options.data)
            reference = reference or means
            ratio = statistics.median(a / b for a, b in zip(times[0], own, strict=True))
            line = f"{way.name:55}{1000 * statistics.median(own):8.1f}{ratio:9.2f}"
            line += f"{reference['psnr'] - means['psnr']:9.4f}"
            line += f"{means['gv_gap'] - reference['gv_gap']:+8.4f}"
            print(line + (f"{way.loss.db:10.4f}" if way.loss else ""), flush=True)


if __name__ == "__main__":
    main()
