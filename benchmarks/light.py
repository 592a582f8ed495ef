"""Times the light network beside ESPCN, IMDN, the light EDSR and EDSR-baseline, with their quality.

Run: python benchmarks/light.py --data FOLDER --calibration FOLDER [--threads 2] [--repeats 9]

All upscale the same 160 x 160 image by 4, in turn, in one process: as PyTorch runs them, and as
OpenVINO does in float32 and in eight bits. "x baseline" is the median over the rounds of the time
of EDSR-baseline in PyTorch over the way's in the same round. A network without trained weights is
timed with those that training starts from, and has no quality; nor is it made in eight bits, whose
steps come from what trained layers give. dB are those of the set under protocol y_matlab.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.inference.export import export_network
from edgekeeper.metrics.score import mean_scores
from edgekeeper.models import EDSR, IMDN, SRModel, parameter_count
from edgekeeper.pretrained.exported import load_exported
from edgekeeper.pretrained.zoo import load
from export import Way, image, seconds

SIDE = 160
TRAINED = ("espcn_x4", "dgggan_light_x4", "edsr_light_x4")


def ways(folder: Path, *, calibration: Path, threads: int) -> list[tuple[Way, int]]:
    """Every network every way, the baseline first, with its number of parameters."""
    torch.manual_seed(0)
    networks: dict[str, SRModel] = {
        "EDSR-baseline": EDSR(scale=4).eval(),
        **{name: load(name) for name in TRAINED},
        "IMDN": IMDN(scale=4).eval(),
    }
    found = []
    for name, network in networks.items():
        count = parameter_count(network)
        found.append((Way(f"{name}, PyTorch", network, network), count))
        plain = folder / f"{name}.xml"
        export_network(name if name in TRAINED else network, plain)
        model = load_exported(plain, threads=threads)
        found.append((Way(f"{name}, OpenVINO", model, model), count))
        if name in TRAINED:
            small = folder / f"{name}_int8.xml"
            export_network(name, small, calibration=calibration, allowed_loss_db=99.0)
            model = load_exported(small, threads=threads)
            found.append((Way(f"{name}, OpenVINO int8", model, model), count))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Times and quality of light networks.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="set5")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = ways(Path(folder), calibration=options.calibration, threads=options.threads)
        rgb, luma = image(3)[..., :SIDE, :SIDE], image(1)[..., :SIDE, :SIDE]
        # ESPCN is on luma; what it is given must have one channel.
        times = seconds(
            [way for way, _ in found],
            [luma if way.model.channels == "y" else rgb for way, _ in found],
            repeats=options.repeats,
            threads=options.threads,
        )
        print(
            f"x4 of {SIDE} x {SIDE}, {options.threads} thread(s), torch {torch.__version__}; "
            f"median of {options.repeats} rounds"
        )
        print(f"{'':34}{'parameters':>11}{'ms':>8}{'x baseline':>12}{options.set + ' dB':>11}")
        for (way, count), own in zip(found, times, strict=True):
            ratio = statistics.median(a / b for a, b in zip(times[0], own, strict=True))
            line = f"{way.name:34}{count:11,}{1000 * statistics.median(own):8.1f}{ratio:12.2f}"
            if way.name.startswith(TRAINED):
                scores = evaluate(
                    way.model, sets=[options.set], scale=4, data_root=options.data, model_name="m"
                )
                line += f"{mean_scores(scores)['psnr']:11.3f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
