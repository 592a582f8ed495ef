"""What many photographs cost on many machines, and what failures add, from measured rates.

    python benchmarks/scale.py cost [--images 1000000] [--megapixels 12]
    python benchmarks/scale.py failures [--workers 10000] [--mtbf-hours 2000]
    python benchmarks/scale.py measure [--network balanced_x4]
    python benchmarks/scale.py ray [--images 200] [--side 256]

`measure` writes results/scale.json, which `cost` reads: the seconds of one processor's thread for
decoding a JPEG, the network, encoding the result, a megapixel of the source, in turns. `cost`
multiplies; a vCPU hour is `--dollars`. `failures` lets workers take batches of files until all are
done, with deaths at random, each of which loses the batch at hand and the time of a restart.
`ray` runs the command in turns locally and by two workers of Ray, and separates the start from
what a file takes.
"""

import argparse
import heapq
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results/scale.json"


def measure(given: argparse.Namespace) -> None:
    """Write the seconds of one thread a megapixel of the source, medians of turns."""
    import numpy as np
    import torch

    from edgekeeper.image import Image, read_image, write_image
    from edgekeeper.inference import Request, networks_for, upscale_image

    torch.set_num_threads(1)
    rows, columns = np.mgrid[0:512, 0:512]
    noise = np.random.default_rng(0).normal(0, 8, (512, 512, 3))
    waves = [128 + 90 * np.sin(rows / a + columns / b) for a, b in ((9, 7), (15, 11), (33, 26))]
    pixels = (np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)
    request = Request(model=given.network, precision=given.precision, threads=1)
    request_known = Request(
        model=networks_for(request), precision=given.precision, threads=1, many=True
    )
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "a.jpg"), Path(name, "b.jpg")
        write_image(Image.from_numpy(pixels), source, quality=92)
        image = read_image(source)
        made = upscale_image(image, request_known)
        assert made.image is not None
        large = made.image
        steps: dict[str, Callable[[], object]] = {
            "decode": lambda: read_image(source),
            "network": lambda: upscale_image(image, request_known),
            "encode": lambda: write_image(large, target, overwrite="replace"),
        }
        seconds: dict[str, list[float]] = {step: [] for step in steps}
        for _ in range(given.repeats):
            for step, run in steps.items():
                started = time.process_time()
                run()
                seconds[step].append(time.process_time() - started)
        sizes = {"read": source.stat().st_size, "written": target.stat().st_size}
    megapixels = 512 * 512 / 1e6
    facts = {
        "network": given.network,
        "runtime": made.runtime,
        "precision": made.precision,
        "scale": large.pixels.shape[0] // 512,
        "seconds_per_megapixel": {
            step: round(statistics.median(times) / megapixels, 4) for step, times in seconds.items()
        },
        "bytes_per_megapixel": {k: round(size / megapixels) for k, size in sizes.items()},
        "clock": f"processor time of one thread, median of {given.repeats} turns",
    }
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(RESULTS.read_text())


def cost(given: argparse.Namespace) -> None:
    """Print hours, dollars and what limits, for machines of several sizes."""
    facts = json.loads(RESULTS.read_text())
    total = given.images * given.megapixels
    rates, sizes = facts["seconds_per_megapixel"], facts["bytes_per_megapixel"]
    whole = sum(rates.values())
    hours = total * whole / 3600
    share = {step: f"{rate / whole:.1%}" for step, rate in rates.items()}
    print(
        f"{given.images:,} photographs of {given.megapixels:g} megapixels x{facts['scale']} by "
        f"{facts['network']} ({facts['runtime']}, {facts['precision']}): {hours:,.0f} vCPU hours, "
        f"{hours * given.dollars:,.0f} dollars at {given.dollars:g} a vCPU hour. "
        f"Of the time: {share}"
    )
    read, written = (total * sizes[k] / 1e12 for k in ("read", "written"))
    print(f"read {read:,.1f} TB, written {written:,.1f} TB")
    print("| vCPUs | hours | GB/s read | GB/s written |\n|---|---|---|---|")
    for processors in (16, 256, 4096, 65536):
        wall = hours / processors
        flow = [1000 * amount / wall / 3600 for amount in (read, written)]
        print(f"| {processors:,} | {wall:,.1f} | {flow[0]:.3f} | {flow[1]:.3f} |")
    limit = given.store_gb_s / (1000 * written / hours / 3600)
    print(f"A store that takes {given.store_gb_s:g} GB/s is the limit from {limit:,.0f} vCPUs on.")


def simulate(
    *, batches: int, workers: int, seconds: float, mtbf: float, restart: float, seed: int
) -> tuple[float, int, float]:
    """Return the wall time, the deaths and the seconds lost of batches taken one by one."""
    draw = random.Random(seed)
    free = [(0.0, worker) for worker in range(workers)]  # when each is free
    dies = [draw.expovariate(1 / mtbf) for _ in range(workers)]
    left, deaths, ends, lost = batches, 0, 0.0, 0.0
    while left:
        now, worker = heapq.heappop(free)
        if now + seconds > dies[worker]:  # the batch is lost and taken again by whoever is free
            deaths += 1
            lost += max(dies[worker] - now, 0.0) + restart
            now = dies[worker] + restart
            dies[worker] = now + draw.expovariate(1 / mtbf)
        else:
            left -= 1
            now += seconds
            ends = max(ends, now)
        heapq.heappush(free, (now, worker))
    return ends, deaths, lost


def failures(given: argparse.Namespace) -> None:
    """Print what deaths of workers add to the wall time, in the mean of some draws."""
    print("| mean time between failures of a worker, h | deaths | work lost | formula | later by |")
    print("|---|---|---|---|---|")
    batch = given.batch * given.seconds_an_image
    batches = -(-given.images // given.batch)
    plain, _, _ = simulate(
        batches=batches, workers=given.workers, seconds=batch, mtbf=1e18, restart=0, seed=0
    )
    for hours in given.mtbf_hours:
        mtbf = 3600 * hours
        runs = [
            simulate(
                batches=batches,
                workers=given.workers,
                seconds=batch,
                mtbf=mtbf,
                restart=given.restart,
                seed=seed,
            )
            for seed in range(given.draws)
        ]
        added = statistics.mean(ends for ends, _, _ in runs) / plain - 1
        deaths = statistics.mean(count for _, count, _ in runs)
        lost = statistics.mean(seconds for _, _, seconds in runs) / (batches * batch)
        formula = (batch / 2 + given.restart) / mtbf
        print(f"| {hours:g} | {deaths:,.0f} | {lost:.3%} | {formula:.3%} | {added:.2%} |")
    ideal = batches * batch / given.workers
    print(
        f"Without deaths {plain / 3600:.2f} h for {batches:,} batches of {batch:.0f} s, "
        f"{plain / ideal - 1:.1%} of it because the last round is not full."
    )


def ray(given: argparse.Namespace) -> None:
    """Print the seconds of the local command and of Ray's on two cores, in turns, and their rates.

    Each runs on a quarter of the images and on all: the difference has no start in it.
    """
    import numpy as np

    from edgekeeper.image import Image, write_image

    draw = np.random.default_rng(0)
    few, many = given.images // 4, given.images
    ways = {"local": ("--threads", "2"), "ray": ("--engine", "ray", "--workers", "2")}
    seconds: dict[tuple[str, int], list[float]] = {}
    made: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as name:
        for count in (few, many):
            folder = Path(name, str(count))
            folder.mkdir()
            for number in range(count):
                pixels = draw.integers(0, 255, (given.side, given.side, 3), dtype=np.uint8)
                write_image(Image.from_numpy(pixels), folder / f"{number}.jpg", quality=92)
        for turn, count, (way, options) in itertools.product(
            range(given.repeats), (few, many), ways.items()
        ):
            output = Path(name, f"{way}-{count}-{turn}")
            command = [sys.executable, "-m", "edgekeeper", "upscale", Path(name, str(count))]
            started = time.perf_counter()
            subprocess.run(
                [*command, "-o", output, "--model", given.network, *options, "-q"], check=True
            )
            seconds.setdefault((way, count), []).append(time.perf_counter() - started)
            made[way] = {file.name: file.read_bytes() for file in output.glob("*.jpg")}
            assert made[way] == made["local"], "the bytes differ"
    rate = {}
    for way in ways:
        small, large = (min(seconds[way, count]) for count in (few, many))
        rate[way] = (many - few) / (large - small)
        start = small - few / rate[way]
        print(f"{way}: {large:.1f} s, start {start:.1f} s, then {rate[way]:.2f} images/s")
    whole = min(seconds["local", many]) / min(seconds["ray", many])
    print(f"ray over local: {rate['ray'] / rate['local']:.2f} after the start, {whole:.2f} in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.add_argument("--network", default="balanced_x4")
    one.add_argument("--precision", default="auto")
    one.add_argument("--repeats", type=int, default=5)
    one.set_defaults(run=measure)
    one = commands.add_parser("ray")
    one.add_argument("--network", default="balanced_x4")
    one.add_argument("--images", type=int, default=200)
    one.add_argument("--side", type=int, default=256)
    one.add_argument("--repeats", type=int, default=3)
    one.set_defaults(run=ray)
    one = commands.add_parser("cost")
    one.add_argument("--images", type=int, default=1_000_000)
    one.add_argument("--megapixels", type=float, default=12)
    one.add_argument("--dollars", type=float, default=0.04)
    one.add_argument("--store-gb-s", type=float, default=100)
    one.set_defaults(run=cost)
    one = commands.add_parser("failures")
    one.add_argument("--images", type=int, default=1_000_000)
    one.add_argument("--workers", type=int, default=10_000)
    one.add_argument("--seconds-an-image", type=float, default=60)
    one.add_argument("--batch", type=int, default=16)
    one.add_argument("--restart", type=float, default=60, help="seconds to begin anew")
    one.add_argument("--mtbf-hours", type=float, nargs="+", default=[10, 100, 1000, 10000])
    one.add_argument("--draws", type=int, default=5)
    one.set_defaults(run=failures)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
