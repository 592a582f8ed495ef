"""Odd files and odd names through ``edgekeeper upscale``: each is done or is one clear line.

A case is one file (or what calls itself an image) that goes through the whole command in this
process. All cases are made here, from seeds.
"""

import io
import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekeeper.image import read_image
from edgekeeper.models import ESPCN
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.spec import spec

SCALE = 2
CASES_WANTED = 500

# What is sent through, by folder and name; the value is what the file holds.
Corpus = dict[str, bytes]


Run = Callable[..., Any]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is small and fast; its weights are random."""
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    torch.manual_seed(0)
    made = spec(ESPCN, scale=SCALE)
    save_model(path, made.build(), spec=made, card={})
    return path


@pytest.fixture
def upscale(command: Run, network: Path) -> Run:
    """``edgekeeper upscale`` with the arguments that are given, as a user runs it."""
    return lambda *arguments: command("upscale", "--model", network, *arguments)


def samples(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(form: str, *, height: int = 13, width: int = 17) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples(height, width)).save(buffer, format=form)
    return buffer.getvalue()


GOOD = {
    form: (suffix, encoded(form))
    for form, suffix in {
        "PNG": "png",
        "JPEG": "jpg",
        "WEBP": "webp",
        "TIFF": "tif",
        "GIF": "gif",
        "AVIF": "avif",
    }.items()
}


def cut_short() -> Corpus:
    """Each format ended at 32 lengths, and with zeros from there on."""
    found = {}
    for suffix, data in GOOD.values():
        for length in np.unique(np.linspace(0, len(data) - 1, 32).astype(int)):
            found[f"cut{length}.{suffix}"] = data[:length]
        for length in np.linspace(8, len(data) - 1, 6).astype(int):
            found[f"zeros{length}.{suffix}"] = data[:length] + bytes(len(data) - length)
    return found


def flipped() -> Corpus:
    """Each format with some bits turned over, most of them near its beginning."""
    found = {}
    for number, (suffix, data) in enumerate(GOOD.values()):
        rng = np.random.default_rng(number)
        for case in range(48):
            damaged = bytearray(data)
            reach = min(len(data), 64) if case % 2 else len(data)
            for place in rng.integers(0, reach, 1 + case % 4):
                damaged[place] ^= 1 << int(rng.integers(8))
            found[f"flip{case}.{suffix}"] = bytes(damaged)
    return found


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG that may declare anything."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checked = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checked

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"IDAT", zlib.compress(data)),
            chunk(b"IEND", b""),
        ]
    )


def odd() -> Corpus:
    """Wrong endings, no images at all, declared sizes that are not there, extreme forms."""
    suffixes = [suffix for suffix, _ in GOOD.values()]
    found = {
        f"really_{form}.{suffix}": data
        for form, (own, data) in GOOD.items()
        for suffix in suffixes
        if suffix != own
    }
    for suffix in suffixes:
        found |= {
            f"empty.{suffix}": b"",
            f"text.{suffix}": b"This is not an image.\n",
            f"nulls.{suffix}": bytes(4096),
            f"ones.{suffix}": b"\xff" * 300,
            f"page.{suffix}": b"<!DOCTYPE html><title>404</title>",
            f"svg.{suffix}": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
            f"pdf.{suffix}": b"%PDF-1.7\n",
        }
    for width, height in [(2**31 - 1, 2**31 - 1), (10**6, 10**6), (10**6, 1), (60000, 60000)]:
        found[f"declares_{width}x{height}.png"] = png(width, height, data=bytes(100))
    found["declares_nothing.png"] = png(0, 0)
    found["depth_3.png"] = png(4, 4, depth=3)
    found["wide.png"] = png(20000, 1, data=bytes(1 + 3 * 20000))
    found["tall.png"] = png(1, 20000, data=bytes(4 * 20000))
    found["one.png"] = png(1, 1, data=b"\0\x10\x80\xf0")
    found["grey16_alpha.png"] = png(2, 2, depth=16, colour=4, data=bytes(2 * 9))
    found["bit.png"] = png(9, 2, depth=1, colour=0, data=bytes(2 * 3))
    return found


def named() -> Corpus:
    """A good image under names that are hard to print, to parse or to store."""
    names = [
        "a b.png",
        " lead.png",
        "trail .png",
        "new\nline.png",
        "tab\there.png",
        "bell\a.png",
        "-o.png",
        "--force.png",
        "-",
        "*.png",
        "?.png",
        "[x].png",
        "{}.png",
        "%s%n.png",
        "$HOME.png",
        "`id`.png",
        "a;b.png",
        "a|b.png",
        "quote'.png",
        'double".png',
        "back\\slash.png",
        "é.png",
        "日本語.png",
        "🙂.png",
        "e\u0301.png",
        "\u202egnp.png",
        "\u200b.png",
        "a.b.c.png",
        "..png",
        "UPPER.PNG",
        "Mixed.JpEg",
        "no_ending",
        "dot.",
        "x.png.png",
        "[bold]red[/bold].png",
        "\x1b[31mred.png",
        "%2e%2e%2f.png",
        "CON.png",
        "n" * 200 + ".png",
        "n" * 245 + ".png",
        "~.png",
        "#1.png",
        "&.png",
        "tail.png~",
        "@file.png",
        "1.png",
        "None.png",
        "\udcff.png",
    ]
    data = GOOD["PNG"][1]
    return dict.fromkeys(names, data) | {f"deep/{'d/' * n}level{n}.png": data for n in range(12)}


GROUPS = {"cut": cut_short, "flipped": flipped, "odd": odd, "named": named}
CORPUS = {group: make() for group, make in GROUPS.items()}


def test_the_corpus_is_large() -> None:
    count = sum(len(cases) for cases in CORPUS.values())
    print(f"{count} cases")
    assert count >= CASES_WANTED


def write(corpus: Corpus, folder: Path) -> list[Path]:
    found = []
    for name, data in corpus.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        found.append(path)
    return found


def files(folder: Path) -> set[Path]:
    """All files below, hidden ones too."""
    return {Path(place, name) for place, _, names in os.walk(folder) for name in names}


def check(ran: Any, given: list[Path], target: Path) -> list[dict[str, object]]:
    """The results, after looking at each, at what was written, and at the exit status."""
    assert ran.err == ""
    results = [json.loads(line) for line in ran.out.splitlines()]
    assert sorted(found["input"] for found in results) == sorted(map(str, given))
    for found in results:
        if found["status"] == "done":
            height, width, _ = read_image(found["output"]).pixels.shape
            assert found["output_size"] == [width, height]
            assert found["output_size"] == [SCALE * side for side in found["input_size"]]
        else:
            assert found["status"] == "failed"
            assert re.fullmatch(r"(?s).{10,600}\.", found["message"]), found["message"]
    assert files(target) == {Path(f["output"]) for f in results if f["status"] == "done"}
    assert ran.status == (1 if any(found["status"] == "failed" for found in results) else 0)
    return results


@pytest.mark.parametrize("group", GROUPS)
def test_each_file_is_done_or_is_one_clear_line(group: str, upscale: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    given = write(CORPUS[group], source)
    check(upscale(*given, "-o", target, "--json"), given, target)
    assert files(source) == set(given)


def test_good_files_are_done_whatever_they_are_called(upscale: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    given = write({**CORPUS["named"], **{f"good.{s}": data for s, data in GOOD.values()}}, source)
    results = check(upscale(*given, "-o", target, "--json"), given, target)
    assert [found for found in results if found["status"] != "done"] == []


def test_a_line_is_a_line_whatever_the_name(upscale: Run, tmp_path: Path) -> None:
    bad = {f"bad {name}.jpg": b"text" for name in CORPUS["named"] if len(name) < 200}
    given = write({**CORPUS["named"], **bad}, tmp_path / "in")
    ran = upscale(*given, "-o", tmp_path / "out")
    done, failed = len(CORPUS["named"]), len(bad)
    lines = ran.out.split("\n")
    assert len(lines) == done + 2  # and the summary, and what follows the last line's end
    assert lines[-2].startswith(f"{done} done, 0 skipped, {failed} failed in ")
    assert all(line.isprintable() for line in (*lines, *ran.err.split("\n")))
    reasons = ran.err.rstrip("\n").split("\n")
    assert len(reasons) == 2 * failed + 1
    assert reasons[failed] == f"{failed} of {len(given)} failed:"
    assert ran.status == 1


def test_a_tree_with_traps(upscale: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    good = GOOD["PNG"][1]
    write({"good.png": good, "x.png/inside.png": good, ".hidden/a.png": good}, source)
    (source / "empty" / "below").mkdir(parents=True)
    (source / "folder.jpg").mkdir()
    (source / "loop.png").symlink_to("loop.png")
    (source / "gone.png").symlink_to("nowhere.png")
    (source / "round").symlink_to(".", target_is_directory=True)
    os.mkfifo(source / "pipe.png")
    ran = upscale(source, "-o", target, "--json")
    given = [source / name for name in ("good.png", "gone.png", "loop.png", "pipe.png")]
    results = check(ran, [*given, source / "x.png" / "inside.png"], target)
    status = {Path(str(found["input"])).name: found["status"] for found in results}
    assert status == {
        "good.png": "done",
        "inside.png": "done",
        "gone.png": "failed",
        "loop.png": "failed",
        "pipe.png": "failed",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["empty"], "no images"),
        (["loop"], "no images"),
        (["good.png", "nowhere.png"], "no file or folder 'nowhere.png'"),
        (["new\nline.png"], r"'new\nline.png'"),
        (["good.png", "-o", "good.png"], "its own target"),
        (["good.png", "-o", "good.png", "--force"], "its own target"),
        (["empty", "-o", "good.png"], "is a file"),
        (["good.png", "empty", "-o", "good.png"], "is a file"),
        (["full", "-o", "full"], "its own target"),
        (["full/good.png", "good.png", "-o", "empty"], "both be written"),
        (["good.png", "--scale", "0"], "from 1e-7 to 1e7"),
        (["good.png", "--scale", "-2"], "from 1e-7 to 1e7"),
        (["good.png", "--scale", "nan"], "from 1e-7 to 1e7"),
        (["good.png", "--scale", "inf"], "from 1e-7 to 1e7"),
        (["good.png", "--scale", "2", "--width", "9"], "once"),
        (["good.png", "--tile", "1"], "too small"),
        (["good.png", "--force", "--skip-existing"], "give one"),
        (["good.png", "-"], "alone"),
        (["-"], "where the result goes"),
        (["-", "-o", "empty"], "is a folder"),
        (["good.png", "-o", "-"], "--format"),
        (["good.png", "full", "-o", "-", "--format", "png"], "one image"),
        (["good.png", "-o", "-", "--format", "png", "--json"], "--json"),
        (["good.png", "--runtime", "onnx", "--device", "cuda"], "on the CPU"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_nothing_is_done(
    arguments: list[str], said: str, upscale: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({"good.png": GOOD["PNG"][1], "full/good.png": GOOD["PNG"][1]}, tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to("..", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    ran = upscale(*arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.startswith("Error: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert files(tmp_path) == before


@pytest.mark.parametrize("text", ["0x5", "5", "x", "3840*2160", "-1x5", "1e3x2", "5x", "٣x٤", ""])
def test_a_box_is_two_numbers(text: str, upscale: Run, tmp_path: Path) -> None:
    (good,) = write({"good.png": GOOD["PNG"][1]}, tmp_path)
    ran = upscale(good, "--fit", text)
    assert ran.status == 2
    assert "3840x2160" in ran.err


@pytest.mark.parametrize("scale", ["1e-9", "0.01", "1", "1.0001", "3.3", "1e4", "1e9", "1e300"])
def test_any_factor_is_done_or_refused_at_once(scale: str, upscale: Run, tmp_path: Path) -> None:
    (good,) = write({"good.png": GOOD["PNG"][1]}, tmp_path)
    ran = upscale(good, "--scale", scale, "-o", tmp_path / "big.png")
    lines = ran.out.count("\n") + ran.err.count("\n")
    assert lines == 1
    beyond = not 1e-7 <= float(scale) <= 1e7
    assert ran.status in ((2,) if beyond else (0, 1))
    assert (tmp_path / "big.png").exists() == (ran.status == 0)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=40
).filter(lambda name: not name.startswith(".") and len(os.fsencode(name)) < 200)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=NAMES,
    suffix=st.sampled_from([suffix for suffix, _ in GOOD.values()]),
    head=st.sampled_from([b"", *(data[:40] for _, data in GOOD.values())]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_under_any_name(
    name: str,
    suffix: str,
    head: bytes,
    rest: bytes,
    upscale: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    given_files = write({f"{name}.{suffix}": head + rest}, folder / "in")
    ran = upscale(folder / "in", "-o", folder / "out", "--json")
    check(ran, given_files, folder / "out")
