"""``edgekeeper upscale --categories``: what is given, what is said, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import edgekeeper
from edgekeeper.inference import Seams, verify_seams
from edgekeeper.inference.network import NO_MAP
from edgekeeper.models import SFTGAN
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.spec import spec

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SFTGAN for x2 on which the map has a large effect."""
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    torch.manual_seed(0)
    made = spec(SFTGAN, scale=2, width=8, blocks=1, condition=4, hidden=6)
    model = made.build()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("condition") or ".scale." in name or ".shift." in name:
                parameter.mul_(3)
    save_model(path, model, spec=made, card={})
    return path


@pytest.fixture
def run(command: Run) -> Run:
    """``edgekeeper upscale`` in this process."""
    return lambda *arguments: command("upscale", *arguments)


@pytest.fixture
def upscale(run: Run, network: Path) -> Run:
    """The command with the small SFTGAN, in float32."""
    return lambda *given: run(*given, "--model", network, "--precision", "float32")


def image(path: Path, *, height: int = 12, width: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(width).integers(60, 200, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def stored_map(path: Path, *, height: int = 12, width: int = 16, top: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(height).integers(0, top, (height, width), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("given", ["water", "map"])
def test_a_category_or_a_map(upscale: Run, network: Path, tmp_path: Path, given: str) -> None:
    source = image(tmp_path / "a.png")
    if given == "map":
        given = str(stored_map(tmp_path / "map.png", height=24, width=32))
    ran = upscale(source, "-o", tmp_path / "b.png", "--categories", given)
    assert ran.status == 0 and "categor" not in ran.err
    expected = edgekeeper.upscale(
        source, model=network, categories=given, precision="float32"
    ).pixels
    assert np.array_equal(pixels(tmp_path / "b.png"), expected)
    assert not np.array_equal(edgekeeper.upscale(source, model=network).pixels, expected)


def test_everything_together(upscale: Run, network: Path, tmp_path: Path) -> None:
    source = image(tmp_path / "a.png", height=70, width=90)
    given = stored_map(tmp_path / "map.png", height=140, width=180)
    options = ("--categories", given, "--ensemble", "--consistent", "--tile", "60", "--json")
    ran = upscale(source, "-o", tmp_path / "b.png", *options, "--verify-seams")
    assert ran.status == 0, ran.err
    told = json.loads(ran.out)
    assert told["notes"] == [] and told["output_size"] == [180, 140]
    assert told["seams"]["tile"] == 60 and told["seams"]["levels"] < 0.01
    assert told["drift"]["after"] < told["drift"]["before"]


def test_seams_are_measured_with_the_map(
    upscale: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = image(tmp_path / "a.png", height=40, width=50)
    given = stored_map(tmp_path / "map.png", height=40, width=50)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spy(model: SFTGAN, lr: torch.Tensor, **rest: Any) -> Seams:
        seen.append((lr, rest["maps"]))
        return verify_seams(model, lr, **rest)

    monkeypatch.setattr("edgekeeper.inference.seams.verify_seams", spy)
    options = ("--categories", given, "--tile", "18", "--verify-seams")
    ran = upscale(source, "-o", tmp_path / "b.png", *options)
    assert ran.status == 0 and "seams 0.000 of 255" in ran.out
    ((lr, maps),) = seen
    assert lr.shape == (1, 3, 36, 36) and maps.shape == (1, 8, 72, 72)
    middle = pixels(given)[2:38, 7:43].repeat(2, 0).repeat(2, 1)
    assert np.array_equal(maps.argmax(dim=1)[0].numpy(), middle)


def test_a_folder_of_maps(upscale: Run, network: Path, tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "sub/c.png"):
        image(tmp_path / "in" / name)
    for name in ("a.png", "sub/b.png"):
        stored_map(tmp_path / "maps" / name, height=12 if name == "a.png" else 24, width=16)
    stored_map(tmp_path / "maps" / "sub" / "b.png", height=24, width=32)
    command = (tmp_path / "in", "-o", tmp_path / "out", "--categories", tmp_path / "maps")
    ran = upscale(*command)
    assert ran.status == 1 and "2 done, 0 skipped, 1 failed" in ran.out
    assert "There is no map of categories for" in ran.err and "maps/sub/c.png'" in ran.err
    for name in ("a.png", "sub/b.png"):
        expected = edgekeeper.upscale(
            tmp_path / "in" / name,
            model=network,
            categories=tmp_path / "maps" / name,
            precision="float32",
        )
        assert np.array_equal(pixels(tmp_path / "out" / name), expected.pixels)
    # What is there stays; the same command goes on where it stopped.
    before = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    stored_map(tmp_path / "maps" / "sub" / "c.png")
    ran = upscale(*command)
    assert ran.status == 0 and "1 done, 2 skipped, 0 failed" in ran.out
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == before


def test_without_a_map_it_is_said_once_in_the_notes(upscale: Run, tmp_path: Path) -> None:
    image(tmp_path / "in" / "a.png", height=40, width=50)
    image(tmp_path / "in" / "b.png")
    ran = upscale(tmp_path / "in", "-o", tmp_path / "out", "--tile", "24")
    assert ran.status == 0
    assert ran.err.count(f"a.png: {NO_MAP}") == 1 and f"b.png: {NO_MAP}" not in ran.err
    assert f"2 images: {NO_MAP}" in ran.err
    assert "with_conditions" not in ran.err
    ran = upscale(tmp_path / "in", "-o", tmp_path / "json", "--json")
    assert [json.loads(line)["notes"] for line in ran.out.splitlines()] == [[NO_MAP], [NO_MAP]]
    assert ran.err == ""


def test_a_process_of_its_own_says_it_once(run_process: Run, network: Path, tmp_path: Path) -> None:
    source = image(tmp_path / "a.png", height=40, width=50)
    status, _, err = run_process("upscale", source, "--model", network, "--tile", "24")
    assert (status, err) == (0, f"a.png: {NO_MAP}\n")


def test_a_map_that_does_not_fit_fails_its_image(upscale: Run, tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        image(tmp_path / "in" / f"{name}.png")
    stored_map(tmp_path / "maps" / "a.png", height=13)
    stored_map(tmp_path / "maps" / "b.png", top=200)
    (tmp_path / "maps" / "c.png").write_bytes(b"no image")
    stored_map(tmp_path / "maps" / "d.png")
    ran = upscale(tmp_path / "in", "-o", tmp_path / "out", "--categories", tmp_path / "maps")
    assert ran.status == 1 and "1 done, 0 skipped, 3 failed" in ran.out
    assert "a.png' has 16 x 13 pixels; for this image it must have 16 x 12" in ran.err
    assert "b.png' holds the value 1" in ran.err and "7 animal" in ran.err
    assert "c.png'" in ran.err and "Traceback" not in ran.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["d.png"]


def test_what_cannot_begin(run: Run, upscale: Run, tmp_path: Path) -> None:
    source, other = image(tmp_path / "in" / "a.png"), image(tmp_path / "in" / "b.png")
    given = stored_map(tmp_path / "map.png")
    ran = upscale(source, "-o", tmp_path / "out.png", "--categories", "watr")
    assert ran.status == 2 and "no category and no file 'watr'. Did you mean 'water'?" in ran.err
    ran = upscale(source, other, "-o", tmp_path / "out", "--categories", given)
    assert ran.status == 2 and "is one map, and there are 2 images" in ran.err
    ran = run(source, "-o", tmp_path / "out.png", "--scale", "2", "--categories", "sky")
    assert ran.status == 2
    assert ran.err.startswith("Error: EDSR takes no map of categories; only SFTGAN does")
    video = tmp_path / "film.mp4"
    video.write_bytes(b"")
    ran = upscale(video, "-o", tmp_path / "film.mkv", "--categories", "sky")
    assert ran.status == 2 and "--categories is for images; a video was given." in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "in", "map.png"]
