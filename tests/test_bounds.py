"""Small files that ask for much work or memory: each is read, or refused in a sentence, at once."""

import io
import json
import math
import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

Files = dict[str, bytes]

SECONDS, GIGABYTES = 5, 3  # of the processor for a file; of memory for torch and all files

# In a process of its own, where memory ends: what is said of each file, and how long it took.
READ = """
import resource, sys, time
from pathlib import Path
from edgekeeper.errors import EdgekeeperError
from edgekeeper.image import read_image
from edgekeeper.pretrained import zoo
limit = int(sys.argv[2]) << 30
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
for path in sorted(Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    read = read_image if path.suffix in (".tif", ".jpg", ".png", ".webp") else zoo.load
    try:
        said = repr(read(path))
    except EdgekeeperError as error:
        said = f"{type(error).__name__}: {error}"
    print(path.name, f"{time.process_time() - start:.2f}", " ".join(said.split()), sep="|")
"""


def tiff(tags: list[tuple[int, int, int]], extra: bytes) -> bytes:
    """A TIFF of 8 x 8; the further tags (number, kind, count) all name the bytes ``extra``."""
    own = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    count = len(own) + 4 + len(tags)
    pixels = 8 + 2 + 12 * count + 4
    own += [(273, 4, 1, pixels), (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64)]
    own += [(*tag, pixels + 64) for tag in tags]
    entries = b"".join(struct.pack("<HHII", *entry) for entry in sorted(own))
    head = b"II*\0" + struct.pack("<IH", 8, count)
    return head + entries + bytes(4) + bytes(64) + extra


def image_files() -> Files:
    resources = (b"8BIM" + struct.pack(">HHI", 1000, 0, 0)) * (2**24 // 12)
    numbers = range(0x8800, 0x8800 + 4000)
    # EXIF whose 4000 tags name the same 15,000 bytes.
    table = b"".join(struct.pack("<HHII", number, 7, 15000, 14 + 12 * 4000) for number in numbers)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 4000) + table + bytes(4) + bytes(15000)
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    text = b"a\0\0" + zlib.compress(bytes(2**26))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    png = io.BytesIO()
    Image.new("L", (8, 8)).save(png, "PNG")
    return {
        "tags.tif": tiff([(number, 7, 10**6) for number in numbers][:3000], bytes(10**6)),
        "more_tags.tif": tiff([(20000 + n, 7, 10**6) for n in range(9000)], bytes(10**6)),
        "captions.tif": tiff([(33723, 7, len(resources))], resources),
        "photoshop.tif": tiff([(34377, 7, len(resources))], resources),
        "exif.jpg": plain.getvalue()[:2] + segment + plain.getvalue()[2:],
        "text.png": png.getvalue()[:33] + chunk * 100 + png.getvalue()[33:],
    }


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...], parts: bytes) -> bytes:
    dimensions = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(
        14, element(6, struct.pack("<2I", kind, 0)) + dimensions + element(1, b"") + parts
    )


def mat_files() -> Files:
    head = bytes(124) + b"\0\1IM"
    nested = matrix(6, (1, 10**6), element(9, bytes(8 * 10**6)))
    for _ in range(600):
        nested = matrix(1, (1, 1), nested)
    fields = element(5, struct.pack("<i", 4)) + element(1, b"")
    packed = zlib.compress(matrix(6, (1, 10**8), element(2, bytes(10**8))), 9)
    return {
        "nested.mat": head + nested,  # 8 MB at every level
        "cells.mat": head + matrix(1, (1, 1), element(14, b"") * 2 * 10**6),
        "structs.mat": head + matrix(2, (2**30, 2**30), fields),  # without fields
        "packed.mat": head + struct.pack("<2I", 15, len(packed)) + packed,
    }


def safetensors(header: object, data: bytes = bytes(4)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weight_files() -> Files:
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    deep = "[" * 10**6 + "]" * 10**6
    found = {
        "deep.safetensors": safetensors(b'{"a":' + deep.encode() + b"}"),
        "deep_facts.safetensors": safetensors({"__metadata__": {"edgekeeper": deep}, "a": one}),
        "long_number.safetensors": safetensors(
            {"__metadata__": {"edgekeeper": '{"model":' + "9" * 10**6 + "}"}, "a": one}
        ),
        "names.safetensors": safetensors(
            {f"a{n}": {**one, "shape": [0], "data_offsets": [0, 0]} for n in range(150_000)}, b""
        ),
    }
    # Networks that say that they are far larger than their tensors.
    large = {"width": 1000, "blocks": 1000, "scale": 2}
    for name, arguments in {"wide": large, "steps": {"scale": 10**6}}.items():
        facts = json.dumps({"model": {"name": "EDSR", "arguments": arguments}, "card": {}})
        header = {"__metadata__": {"edgekeeper": facts}, "a": one}
        found[f"{name}.safetensors"] = safetensors(header)
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, plain)
    found["views.pth"] = plain.getvalue()
    packed = io.BytesIO()
    with zipfile.ZipFile(plain) as before, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as to:
        for item in before.infolist():
            program = b"\x80\x02" + b"(" * 3 * 10**7 + b"."
            to.writestr(item, program if item.filename.endswith("data.pkl") else before.read(item))
            to.getinfo(item.filename).compress_type = zipfile.ZIP_DEFLATED
    found["program.pth"] = packed.getvalue()
    return found


def hdf5_files(folder: Path) -> Files:
    h5py = pytest.importorskip("h5py")
    found = {}

    def one_array(file: "h5py.File") -> None:
        array = file.create_dataset("a", data=np.zeros(10**5, np.float32))
        for number in range(2000):
            file[f"name{number}"] = array

    def groups(file: "h5py.File") -> None:
        for _ in range(1000):
            file = file.create_group("g")

    def empty(file: "h5py.File") -> None:
        file.create_dataset("a", shape=(10**9,), dtype="f4", chunks=(10**6,))

    makers: dict[str, Callable[[h5py.File], None]] = {"one": one_array, "deep": groups, "no": empty}
    for name, make in makers.items():
        with h5py.File(folder / name, "w") as file:
            make(file)
        found[f"{name}.h5"] = (folder / name).read_bytes()
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of this kind")
def test_each_is_done_with_in_little_time_and_memory(tmp_path: Path) -> None:
    folder, aside = tmp_path / "files", tmp_path / "aside"
    folder.mkdir()
    aside.mkdir()
    files = image_files() | mat_files() | weight_files() | hdf5_files(aside)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(folder), str(GIGABYTES)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    said = {}
    for line in ran.stdout.splitlines():
        name, seconds, text = line.split("|", 2)
        assert float(seconds) < SECONDS, line
        said[name] = text
    assert said.keys() == files.keys()
    expected = {
        "tags.tif": "tags name more bytes than it has",
        "more_tags.tif": "tags name more bytes than it has",
        "captions.tif|photoshop.tif|exif.jpg|text.png": "Image 8 x 8",
        r".*\.mat": "is damaged or holds something else",
        "deep.safetensors": "recursion limit",
        "names.safetensors": "its header would be of",
        "(deep_facts|long_number).safetensors": "was not written by edgekeeper",
        "wide.safetensors": "does not fit EDSR",
        "steps.safetensors": "1000000 is more than its 1 tensors have of anything",
        "views.pth": "cannot be read as plain tensors",
        "program.pth": "it unpacks to 30,",
        "one.h5": "no known network",
        "deep.h5": "too many groups and arrays, or too deep",
        "no.h5": "far larger than the file",
    }
    for names, text in expected.items():
        found = [name for name in said if re.fullmatch(names, name)]
        assert found, names
        for name in found:
            assert re.search(text, said[name]), (name, said[name])


def test_json_that_is_too_deep_is_a_value_error() -> None:
    from edgekeeper.files import parse_json

    with pytest.raises(ValueError, match="too deep"):
        parse_json("[" * 10**6)
    assert parse_json('{"a": [1, NaN]}')["a"][0] == 1
    assert math.isnan(parse_json("NaN"))
