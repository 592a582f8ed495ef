"""Times the networks that ship at ×4, in turns, on the scale of networks of others.

    python benchmarks/ladder.py [NAMES] [--rounds 15] [--side 160] --json results/ladder_x4.json

One thread, channels last, float32, colours and border included; processor time of the process,
which other programs do not slow much; the median over the rounds of a network's time over
edsr_light_x4's in the same round, after two rounds to warm up. On 2026-11-27 networks of others
were measured as multiples of espcn_x4's time of then, and edsr_light_x4 took 6.2 of it
(results/others_x4.json); so 6.2 is what it counts here. (espcn_x4 has become faster since: its
colours are interpolated faster.) Quality is that of the cards. `edgekeeper figure quality-cost
results/ladder_x4.json results/others_x4.json` draws both.
"""

import argparse
import datetime
import json
import statistics
import time
from pathlib import Path

import torch

from edgekeeper.files import write_text
from edgekeeper.inference.network import infer
from edgekeeper.models import parameter_count
from edgekeeper.pretrained.cards import quality_of, style_of
from edgekeeper.pretrained.zoo import describe, find, load, networks

UNIT, UNIT_TIME = "edsr_light_x4", 6.2


def shipped() -> list[str]:
    """The faithful networks for ×4."""
    return [n.name for n in networks() if n.scale == 4 and style_of(n.name) == "faithful"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = list(dict.fromkeys([UNIT, *(given.names or shipped())]))
    models = {name: load(name).to(memory_format=torch.channels_last) for name in names}
    lr = torch.rand(1, 3, given.side, given.side).to(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {name: [] for name in names}
    with torch.inference_mode():
        for number in range(given.rounds + 2):
            for name, model in models.items():
                started = time.process_time()
                infer(model, lr, precision="float32")  # a luma network's colours count too
                if number > 1:
                    times[name].append(time.process_time() - started)
    points = []
    for name, model in models.items():
        ratios = [UNIT_TIME * a / b for a, b in zip(times[name], times[UNIT], strict=True)]
        quality, ratio = quality_of(describe(find(name))), statistics.median(ratios)
        low, high = statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else (ratio, ratio)
        millis = statistics.median(times[name]) * 1e3
        print(f"{name:20} {millis:7.1f} ms  x {ratio:5.2f} [{low:.2f}, {high:.2f}]", quality)
        points.append(
            {
                "network": name,
                "parameters": parameter_count(model),
                "time": round(ratio, 2),
                "psnr": round(quality["set5"], 2),
                "psnr_set14": round(quality["set14"], 2),
            }
        )
    if given.json is not None:
        source = (
            f"benchmarks/ladder.py on {datetime.date.today()}: one CPU thread, x4, {given.side}x"
            f"{given.side} input, channels last, processor time, median of {given.rounds} rounds; "
            f"{UNIT} counts {UNIT_TIME}"
        )
        content = {"source": source, "scale": 4, "set": "set5", "points": points}
        write_text(given.json, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
