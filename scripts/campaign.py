"""Damage thousands of files at random and count what the readers make of each.

    nice python scripts/campaign.py --files 10000 [--seed 0] [--workers 2] [--keep FOLDER]

Every file is one of some thirty sound ones, mutated from (seed, number): bits, numbers, pieces cut
out, doubled, exchanged or taken of another file, the end cut off; of PNG and of edgekeeper's own
weights half are sealed anew, so that damage is not found by a checksum alone. Processes with 2 GiB
of memory read them one after the other; one that dies, or says nothing for a minute, is counted
and started again after that file. Exit status 1 unless every file was read or refused by a
sentence. How to read the counts: docs/reliability.md.
"""

import argparse
import io
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

MEMORY = 2 * 2**30
SILENCE = 60.0  # seconds of the clock on the wall after which a process hangs
SLOW = 10.0  # seconds of the processor for one small file that count as a hang too
GOOD = ("read", "refused")
BAD = ("traceback", "crash", "hang", "memory", "garbage")

Sound = dict[str, bytes]


def sound_images() -> Sound:
    """Images of 40 x 28: PNG, JPEG, WebP, TIFF, GIF, AVIF, BMP, TGA, PPM, DDS, JPEG 2000."""
    from PIL import Image

    y, x = np.mgrid[:28, :40]
    noise = np.random.default_rng(0).integers(0, 32, (28, 40, 3))
    colour = (np.stack([x * 5, y * 7, x * y % 200], axis=2) + noise).astype(np.uint8)
    rgb = Image.fromarray(colour)
    rgba = Image.fromarray(np.dstack([colour, (x * 6).astype(np.uint8)]))
    deep = Image.fromarray((x * 1600 + y).astype(np.uint16))
    frames = [Image.fromarray(np.roll(colour, 4 * n, axis=1)) for n in range(1, 4)]
    exif = Image.Exif()
    exif.update({0x010E: "a picture", 0x0112: 6, 0x0132: "2020:01:01 00:00:00"})
    about = {"exif": exif.tobytes(), "xmp": b"<x:xmpmeta tiff:Orientation='6'/>"}
    animated = {"save_all": True, "append_images": frames, "duration": 40}
    found: Sound = {}

    def add(name: str, image: "Image.Image", form: str, **options: object) -> None:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        found[name] = buffer.getvalue()

    add("rgb.png", rgb, "PNG", exif=about["exif"])
    add("alpha.png", rgba, "PNG")
    add("deep.png", deep, "PNG")
    add("palette.png", rgb.quantize(16), "PNG", transparency=3)
    add("animated.png", rgb, "PNG", **animated)
    add("plain.jpg", rgb, "JPEG", quality=90, **about)
    add("progressive.jpg", rgb, "JPEG", progressive=True)
    add("cmyk.jpg", rgb.convert("CMYK"), "JPEG")
    add("grey.jpg", rgb.convert("L"), "JPEG")
    add("lossy.webp", rgba, "WEBP", **about)
    add("lossless.webp", rgb, "WEBP", lossless=True)
    add("animated.webp", rgb, "WEBP", **animated)
    add("lzw.tif", rgb, "TIFF", compression="tiff_lzw", exif=exif)
    add("deflate.tif", rgba, "TIFF", compression="tiff_adobe_deflate")
    add("jpeg.tif", rgb, "TIFF", compression="jpeg")
    add("raw.tif", deep, "TIFF")
    add("still.gif", rgb.quantize(32), "GIF")
    add("animated.gif", rgb, "GIF", **animated)
    for suffix, form in {"bmp": "BMP", "tga": "TGA", "ppm": "PPM", "dds": "DDS"}.items():
        add(f"plain.{suffix}", rgb, form)
    add("plain.jp2", rgb, "JPEG2000")
    add("image.avif", rgba, "AVIF", exif=about["exif"])
    return found


def sound_models() -> Sound:
    """Network files: own, with and without digest, PyTorch's, exported, MATLAB's, HDF5."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    from edgekeeper.inference.export import export_network
    from edgekeeper.models import ESPCN
    from edgekeeper.pretrained.checkpoint import DIGEST, save_model
    from edgekeeper.spec import spec

    torch.manual_seed(0)
    found: Sound = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = folder / "own.safetensors"
        made = spec(ESPCN, scale=2)
        save_model(own, made.build(), spec=made, card={"name": "own"})
        with safe_open(str(own), framework="pt") as file:
            about = {k: v for k, v in (file.metadata() or {}).items() if k != DIGEST}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        save_file(tensors, str(folder / "unsealed.safetensors"), metadata=about)
        # A small compact network of Real-ESRGAN: convolutions and PReLUs by turns.
        widths = {0: (8, 3), 2: (8, 8), 4: (12, 8)}
        names = {f"body.{n}.weight": torch.randn(*shape, 3, 3) for n, shape in widths.items()}
        names |= {f"body.{n}.bias": torch.zeros(shape[0]) for n, shape in widths.items()}
        names |= {f"body.{n}.weight": torch.full((8,), 0.2) for n in (1, 3)}
        torch.save({"params_ema": names}, folder / "wrapped.pth")
        torch.save(dict(names), folder / "old.pth", _use_new_zipfile_serialization=False)
        save_file(names, str(folder / "names.safetensors"))
        export_network(own, folder / "exported.onnx")
        for extra, write in {"file.mat": _write_mat, "file.h5": _write_hdf5}.items():
            write(folder / extra)
        for path in sorted(folder.iterdir()):
            found[path.name] = path.read_bytes()
    return found


def _write_mat(path: Path) -> None:
    from scipy.io import savemat

    cell = np.empty(2, dtype=object)
    cell[:] = [np.ones((3, 3, 1, 4)), np.zeros((1, 4))]
    savemat(path, {"model": {"weight": cell, "name": "net"}, "a": np.eye(5)}, do_compression=True)


def _write_hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for number in range(4):
            group = file.create_group(f"layer{number}")
            group.create_dataset("kernel:0", data=np.ones((3, 3, 4, 4), np.float32))
            group.create_dataset("bias:0", data=np.zeros(4), compression="gzip")


def mutated(sound: Sound, *, seed: int, number: int) -> tuple[str, bytes, str]:
    """Return the name, the bytes and the kind of damage of file ``number``."""
    rng = np.random.default_rng([seed, number])
    names = sorted(sound)
    name = names[number % len(names)]
    data = bytearray(sound[name])
    kinds = ("bits", "numbers", "bytes", "cut out", "doubled", "exchanged", "spliced", "cut off")
    kind = str(rng.choice(kinds))
    for _ in range(1 if kind in ("cut off", "spliced") else int(rng.integers(1, 5))):
        if data:
            other = sound[str(rng.choice(names))] if kind == "spliced" else b""
            _damage(data, kind, rng=rng, other=other)
    whole = bytes(data)
    if name.endswith(".png") and rng.random() < 0.5:
        whole = _sealed_png(whole)
    return name, whole, kind


def _damage(data: bytearray, kind: str, *, rng: np.random.Generator, other: bytes) -> None:
    reach = min(len(data), 512) if rng.random() < 0.5 else len(data)  # headers are small
    at, to = int(rng.integers(0, reach)), int(rng.integers(0, len(data)))
    size = int(rng.integers(1, max(2, len(data) // 8)))
    piece = bytes(data[at : at + size])
    match kind:
        case "bits":
            data[at] ^= 1 << int(rng.integers(8))
        case "numbers":
            form = str(rng.choice(["<H", ">H", "<I", ">I", "<Q"]))
            most = 2 ** (8 * struct.calcsize(form)) - 1
            value = [0, 1, most // 2, most // 2 + 1, most - 1, most][int(rng.integers(6))]
            data[at : at + struct.calcsize(form)] = struct.pack(form, value)
        case "bytes":
            data[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        case "cut out":
            del data[at : at + size]
        case "doubled":
            data[at:at] = piece
        case "exchanged":
            data[at : at + size], data[to : to + size] = data[to : to + size], piece
        case "spliced":
            data[at:] = other[at:]
        case _:
            del data[at:]


def _sealed_png(data: bytes) -> bytes:
    """Return a PNG with the checksums of its chunks made right."""
    found, at = bytearray(data), 8
    while at + 12 <= len(found):
        (size,) = struct.unpack_from(">I", found, at)
        end = at + 8 + size
        if end + 4 > len(found):
            break
        struct.pack_into(">I", found, end, zlib.crc32(bytes(found[at + 4 : end])))
        at = end + 4
    return bytes(found)


# ---- What is done with a file, in a process of its own -------------------------------------------


def _treat_image(path: Path, *, before: bytes, kind: str, tolerant: bool) -> str:
    """Return what is wrong with the image that was read; nothing if all is as it should be."""
    from edgekeeper.image import open_image, read_image, write_image

    frames: Literal["first", "all"] = "all" if "animated" in path.name else "first"
    with open_image(path, tolerant=tolerant, frames=frames) as reader:
        header = reader.header
        for row in range(0, header.rows, 8):  # as large images are read
            end = min(header.rows, row + 8)
            samples = reader.rows(row, end)
            if samples.shape != (end - row, header.width, header.bands):
                return f"{samples.shape} are not of {header}"
    image = read_image(path, tolerant=tolerant)
    copy = path.with_name("copy.png")
    write_image(image, copy, overwrite="replace")
    back = read_image(copy)
    if image.depth != 32 and not np.array_equal(image.to_numpy(), back.to_numpy()):
        return "the PNG written of it holds other samples"
    if kind == "cut off" and not tolerant and not header.notes:
        whole = read_image(before)
        if not np.array_equal(whole.pixels, image.pixels):
            return "the end is cut off, the samples are others, and nothing is said"
    return ""


def _treat_model(path: Path, *, before: bytes) -> str:
    import torch

    from edgekeeper.pretrained import zoo

    model = zoo.load(path, scale=None)
    lr = torch.full((1, 1 if model.channels == "y" else 3, 9, 7), 0.5)
    with torch.inference_mode():
        sr = model(lr)
    if sr.shape[-2:] != (9 * model.scale, 7 * model.scale):
        return f"{tuple(sr.shape)} of {tuple(lr.shape)} at scale {model.scale}"
    if path.stem == "own" and path.read_bytes() != before:
        return "other bytes than were sealed are taken"
    return ""


def work(seed: int, numbers: range, folder: Path) -> None:
    """Read the mutated files of these numbers, a line of JSON for each."""
    import resource

    from edgekeeper.errors import EdgekeeperError

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    sound = {path.name: path.read_bytes() for path in sorted((folder / "sound").iterdir())}
    aside = Path(tempfile.mkdtemp(dir=folder))
    for number in numbers:
        name, data, kind = mutated(sound, seed=seed, number=number)
        path = aside / name
        path.write_bytes(data)
        start, result, said = time.process_time(), "read", ""
        try:
            if path.suffix in (".safetensors", ".pth", ".onnx", ".mat", ".h5"):
                said = _treat_model(path, before=sound[name])
            else:
                tolerant = number // len(sound) % 4 == 0
                said = _treat_image(path, before=sound[name], kind=kind, tolerant=tolerant)
            result = "garbage" if said else "read"
        except EdgekeeperError as error:
            said = str(error)
            result = "refused" if said.endswith(".") else "traceback"  # escaped when printed
        except MemoryError as error:
            result, said = "memory", repr(error)
        except Exception as error:  # is what is counted
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
            result, said = "traceback", f"{where} {error!r}"
        seconds = time.process_time() - start
        if seconds > SLOW:
            result, said = "hang", f"{seconds:.1f} s; {said}"
        about = {"number": number, "name": name, "kind": kind, "result": result}
        print(
            json.dumps({**about, "seconds": seconds, "said": said[:400]}), file=answers, flush=True
        )


# ---- The processes, watched ----------------------------------------------------------------------


def _watched(seed: int, numbers: range, folder: Path) -> Iterator[dict[str, object]]:
    """Yield the result of each file, also of those at which the process died or fell silent."""
    start = numbers.start
    while start < numbers.stop:
        ask = [sys.executable, __file__, "--work", str(folder), "--seed", str(seed)]
        ask += ["--start", str(start), "--files", str(numbers.stop)]
        log = folder / f"errors-{numbers.start}.txt"
        rest, silent, began = b"", False, False
        with (
            log.open("wb") as errors,
            subprocess.Popen(ask, stdout=subprocess.PIPE, stderr=errors) as process,
        ):
            assert process.stdout is not None
            while True:
                # What is imported first may take long on a machine that does much else.
                seconds = SILENCE * (1 if began else 5)
                if not select.select([process.stdout], [], [], seconds)[0]:
                    silent = True
                    process.kill()
                    break
                piece = os.read(process.stdout.fileno(), 2**16)
                if not piece:
                    break
                began = True
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    found = json.loads(line)
                    start = found["number"] + 1
                    yield found
        status = process.returncode
        if start < numbers.stop:
            said = log.read_text(encoding="utf-8", errors="replace")[-400:]
            if not began and status > 0:
                raise SystemExit(f"A process cannot start: {said}")
            full = "alloc" in said or "MemoryError" in said or "memory" in said.lower()
            result = "hang" if silent else "memory" if full else "crash"
            said = f"status {status}; {said}"
            yield {"number": start, "name": "?", "result": result, "seconds": 0.0, "said": said}
            start += 1


def run(files: int, *, seed: int, workers: int, keep: Path | None = None) -> Counter[str]:
    """Run the campaign, print its table, and return how many files had which result."""
    from concurrent.futures import ThreadPoolExecutor

    counts: dict[str, Counter[str]] = {}
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sound").mkdir()
        sound = sound_images() | sound_models()
        for title, data in sound.items():
            (folder / "sound" / title).write_bytes(data)
        edges = [files * n // workers for n in range(workers + 1)]
        parts = [range(a, b) for a, b in pairwise(edges)]

        def part(numbers: range) -> list[dict[str, object]]:
            found = []
            for one in _watched(seed, numbers, folder):
                found.append(one)
                if one["result"] in BAD:
                    print(f"{one['number']}: {one['result']}: {one['said']}", file=sys.stderr)
                if len(found) % 500 == 0:
                    done = Counter(str(each["result"]) for each in found)
                    print(f"{numbers.start} + {len(found)}: {dict(done)}", file=sys.stderr)
            return found

        with ThreadPoolExecutor(workers) as pool:
            results = [found for some in pool.map(part, parts) for found in some]
    for found in results:
        number, result = int(str(found["number"])), str(found["result"])
        title, data, _ = mutated(sound, seed=seed, number=number)
        form = _FORMS.get(title, title.rpartition(".")[2])
        counts.setdefault(form, Counter())[result] += 1
        slowest = max(slowest, float(str(found["seconds"])))
        if result in BAD and keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{number}-{title}").write_bytes(data)
    _print(counts)
    print(f"\n{len(results)} files, seed {seed}; the longest took {slowest:.1f} s.")
    return sum(counts.values(), Counter())


_FORMS = {
    "animated.png": "apng",
    "animated.webp": "webp, animated",
    "animated.gif": "gif, animated",
}


def _print(counts: dict[str, Counter[str]]) -> None:
    columns = ("files", *GOOD, *BAD)
    print(f"| format | {' | '.join(columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    total: Counter[str] = sum(counts.values(), Counter())
    for form, row in [*sorted(counts.items()), ("all", total)]:
        cells = [sum(row.values()), *(row[name] for name in columns[1:])]
        print(f"| {form} | {' | '.join(f'{cell:,}' for cell in cells)} |")


def main() -> int:
    """Run as the module says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work is not None:
        work(given.seed, range(given.start, given.files), given.work)
        return 0
    counts = run(given.files, seed=given.seed, workers=given.workers, keep=given.keep)
    return 1 if any(counts[name] for name in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
