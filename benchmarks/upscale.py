"""Times `upscale` end to end, files included, beside PyTorch as it comes and beside its peers.

    python benchmarks/upscale.py [--threads 2] [--repeats 7] [--side 256] [--network edsr]

Every way reads the same PNG, enlarges it ×4 with the same network and writes a PNG, in turn, in one
process, until the 95 % interval of each "x eager" is narrower than a tenth of it, or after
`--most` rounds: the median over the rounds of eager PyTorch's time over the way's time in the same
round, and best over best beside it. With one thread the clock is the processor time of
the process, which other programs do not slow; with more it is the wall clock. "network" is the time
without files, and MAC/s are given as a share of what this machine's own matrix product reaches in
the same precision. Peers that are not installed are named and left out.

The network has the size of the EDSR baseline (1,517,571 weights and a bicubic skip) and small
random weights: speed does not depend on training. `--network NAME` takes one that ships, or a file
(Real-ESRGAN's compact network), and shows what `upscale` does by default ("edgekeeper") and in
eight bits.
With `--device cuda` it is PyTorch as it comes and ours alone, on the GPU, and ours by the TensorRT
of ONNX Runtime where that is there.
`--folder 6` enlarges so many photographs of 2 megapixels by default instead, and prints the share
of the time that was spent in the network.
"""

import argparse
import importlib.util
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import UnavailableError
from edgekeeper.inference import Request, networks_for, upscale_file, upscale_files
from edgekeeper.inference.export import with_runtime
from edgekeeper.inference.network import infer
from edgekeeper.models import EDSR, SRModel
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.exported import providers_for
from edgekeeper.pretrained.zoo import EXPORTS, load
from train import interval

EAGER = "PyTorch eager float32"


@dataclass(frozen=True)
class Way:
    """One way from a file to a larger file, and its network alone where it can be timed."""

    name: str
    files: Callable[[Path, Path], object]
    network: Callable[[Tensor], Tensor] | None = None
    dtype: torch.dtype = torch.float32


def edsr_baseline() -> EDSR:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EDSR(scale=4, skip="bicubic").eval()
        nn.init.normal_(model.upsampler[-1].weight, 0.0, 1e-3)  # type: ignore[arg-type]
    return model


def by_pillow(
    network: Callable[[Tensor], Tensor], *, device: str = "cpu"
) -> Callable[[Path, Path], None]:
    """What most scripts do: Pillow, the whole image at once, Pillow."""

    def run(source: Path, target: Path) -> None:
        pixels = np.asarray(Image.open(source).convert("RGB"), dtype=np.float32) / 255
        with torch.inference_mode():
            sr = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device))
        rounded = (sr[0].clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu()
        Image.fromarray(rounded.numpy()).save(target)

    return run


def by_edgekeeper(
    model: SRModel | str, *, threads: int, precision: Any, runtime: Any, device: str = "cpu"
) -> Callable[[Path, Path], object]:
    """What `edgekeeper upscale` does, the network loaded once."""
    request = Request(
        model=model,
        precision=precision,
        runtime=runtime,
        device=device,
        threads=threads,
        existing="replace",
        many=True,
    )
    known = replace(request, model=networks_for(request))
    return lambda source, target: upscale_file(source, target, request=known)


def photograph(path: Path, *, side: int) -> None:
    """Write a square photograph that no network learned from."""
    image = Path(__file__).parent.parent / "examples/test/beacon-street-sunset.png"
    Image.open(image).convert("RGB").resize((side, side)).save(path)


def ncnn_network(model: SRModel, *, threads: int, folder: Path) -> Callable[[Tensor], Tensor]:
    """The network in ncnn, float32, converted by pnnx, with our bicubic skip where it has one."""
    import ncnn
    import pnnx

    module = sys.modules[type(model).__module__]
    has_skip = hasattr(module, "imresize")
    with patch.object(module, "imresize", lambda lr, scale: 0.0) if has_skip else nullcontext():
        pnnx.export(model, str(folder / "net.pt"), (torch.rand(1, 3, 64, 64),), fp16=False)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(folder / "net.ncnn.param"))
    net.load_model(str(folder / "net.ncnn.bin"))

    def run(lr: Tensor) -> Tensor:
        extractor = net.create_extractor()
        pixels = lr[0].contiguous().numpy()  # a Mat does not keep its memory
        extractor.input("in0", ncnn.Mat(pixels))
        _, found = extractor.extract("out0")
        sr = torch.from_numpy(np.array(found))[None]
        return sr + imresize(lr, scale=model.scale) if has_skip else sr

    return run


def ways(model: SRModel, *, name: str | None, threads: int, folder: Path, device: str) -> list[Way]:
    def ours(precision: str, runtime: str = "auto") -> Callable[[Path, Path], object]:
        options = {"precision": precision, "runtime": runtime, "device": device}
        return by_edgekeeper(name or model, threads=threads, **options)

    found = [
        Way(EAGER, by_pillow(model, device=device), model),
        Way("edgekeeper float32", ours("float32", "torch")),
        *([Way("edgekeeper", ours("auto"))] if name else []),
        *([Way("edgekeeper int8", ours("int8"))] if name and has_int8(name) else []),
        Way(
            "edgekeeper in torch, auto",
            ours("auto", "torch"),
            lambda lr: infer(model, lr, precision="bfloat16", clamp="none"),
            torch.bfloat16,
        ),
    ]
    if device != "cpu":
        with suppress(UnavailableError):  # where there is no such ONNX Runtime
            found.append(
                Way(f"edgekeeper by {providers_for(device)[0][0]}", ours("float32", "onnx"))
            )
        return found
    for extra, runtime in (("onnxruntime", "onnx"), ("openvino", "openvino")):
        if importlib.util.find_spec(extra) is None:
            print(f"{extra} is not installed: left out")
            continue
        exported = with_runtime(model, runtime=runtime, threads=threads)  # type: ignore[arg-type]
        found.append(Way(f"{extra} float32", by_pillow(exported), exported))
    if None in map(importlib.util.find_spec, ("ncnn", "pnnx")):
        print("ncnn or pnnx is not installed: left out")
    else:
        network = ncnn_network(model, threads=threads, folder=folder)
        found.append(Way("ncnn float32", by_pillow(network), network))
    for peer in ("super_image", "cv2.dnn_superres", "spandrel"):
        if importlib.util.find_spec(peer.split(".")[0]) is None:
            print(f"{peer} is not installed: left out")
    return found


def has_int8(name: str) -> bool:
    installed = importlib.util.find_spec("openvino") is not None
    return installed and (EXPORTS / f"{name}.int8.onnx").is_file()


def peak(dtype: torch.dtype, *, clock: Callable[[], float], device: str) -> float:
    """Multiplications a second of a matrix product in ``dtype``, the best of several."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        started = clock()
        a @ b
        best = max(best, size**3 / (clock() - started))
    return best


def spread(eager: list[float], times: list[float]) -> tuple[float, float, float]:
    """The median of the ratios of the rounds and its 95 % bootstrap interval."""
    return interval([e / t for e, t in zip(eager, times, strict=True)])


def rounds(times: dict[str, list[float]], *, least: int, most: int) -> Iterator[int]:
    """Yield the numbers of the rounds, until the interval of each ratio is below a tenth of it."""
    for number in range(most + 1):
        if number > least:
            found = [spread(times[EAGER], one) for one in times.values()]
            if all(high - low < 0.1 * ratio for ratio, low, high in found):
                return
        yield number


def macs(model: SRModel, lr: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        model(lr)
    return counter.get_total_flops() / 2


def folder_share(count: int, *, threads: int, folder: Path) -> None:
    """Print how much of the time of a folder of photographs is spent in the network."""
    tests = sorted((Path(__file__).parent.parent / "examples/test").glob("*.png"))
    for form in ("jpg", "png"):
        photos = folder / form
        photos.mkdir()
        for k in range(count):
            photo = Image.open(tests[k % len(tests)]).convert("RGB").resize((1632, 1224))
            photo.save(photos / f"{k}.{form}", quality=95)
        request = Request(sources=(photos,), output=folder / "out", precision="auto", many=True)
        request = replace(request, threads=threads, existing="replace")
        request = replace(request, model=networks_for(request))
        first = next(photos.iterdir())
        upscale_file(first, folder / f"warm.{form}", request=request)
        started = time.perf_counter()
        network = sum(result.network_seconds for result in upscale_files(request))
        wall = time.perf_counter() - started
        print(f"{count} photographs, {form}: {wall:.1f} s, {network / wall:.1%} in the network")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--most", type=int, default=40)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--network", default="edsr")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=int, metavar="PHOTOGRAPHS")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not given.folder:
        compare(given)
        return
    with tempfile.TemporaryDirectory() as name:
        folder_share(given.folder, threads=given.threads, folder=Path(name))


def compare(given: argparse.Namespace) -> None:
    """Print the table of all ways."""

    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    clock = time.process_time if given.threads == 1 else time.perf_counter
    clock = synchronised if given.device == "cuda" else clock
    model = edsr_baseline() if given.network == "edsr" else load(given.network)
    model = model.to(given.device)
    known = None if given.network == "edsr" else given.network
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        source, target = folder / "lr.png", folder / "sr.png"
        photograph(source, side=given.side)
        pixels = np.asarray(Image.open(source), dtype=np.float32) / 255
        lr = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous().to(given.device)
        choices = ways(model, name=known, threads=given.threads, folder=folder, device=given.device)
        work, peaks = (
            macs(model, lr),
            {t: peak(t, clock=clock, device=given.device) for t in (torch.float32, torch.bfloat16)},
        )
        for way in choices:
            if way.network is not None:
                reduced = way.dtype != torch.float32  # ours, which sees the border of a network
                right = infer(model, lr, clamp="none") if reduced else model(lr)
                error = float((way.network(lr) - right).abs().max()) * 255
                assert error < (1 if way.dtype == torch.float32 else 16), (way.name, error)
        times: dict[str, list[float]] = {way.name: [] for way in choices}
        alone: dict[str, list[float]] = {way.name: [] for way in choices}
        for number in rounds(times, least=given.repeats, most=given.most):
            for way in choices:
                started = clock()
                way.files(source, target)
                middle = clock()
                if way.network is not None:
                    way.network(lr)
                if number:  # the first round warms up
                    times[way.name].append(middle - started)
                    alone[way.name].append(clock() - middle)
    full, half = (peaks[dtype] / 1e9 for dtype in (torch.float32, torch.bfloat16))
    print(
        f"{given.side} x {given.side} -> x{model.scale}, {given.threads} threads, {given.device}, "
        f"{work / 1e9:.0f} GMAC; matrix product: {full:.0f} GMAC/s float32, {half:.0f} bfloat16"
    )
    eager = times[EAGER]
    print(f"{len(eager)} rounds")
    for way in choices:
        ratio, low, high = spread(eager, times[way.name])
        best = min(eager) / min(times[way.name])
        line = f"{way.name:24} {statistics.median(times[way.name]):7.3f} s"
        line += f"  x eager {ratio:5.2f} [{low:.2f}, {high:.2f}] (best {best:5.2f})"
        if way.network is not None:
            rate = work / statistics.median(alone[way.name])
            line += f"  network {rate / 1e9:5.0f} GMAC/s = {rate / peaks[way.dtype]:.0%} of peak"
        print(line)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process, all ways together: {most:,.0f} MiB")


if __name__ == "__main__":
    main()
