"""Many files: in order, side by side with reading and writing, and cleanly ended."""

import shutil
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from torch import Tensor

from edgekeeper.errors import CheckpointError, ImageError, InputError
from edgekeeper.image import Image, SaveOptions, read_image, write_image
from edgekeeper.image.quality import Condition
from edgekeeper.inference import Request, upscale_file, upscale_files
from edgekeeper.inference import files as module
from edgekeeper.pretrained.zoo import Networks


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if "edgekeeper" in thread.name]


@pytest.fixture
def folder(tmp_path: Path, image) -> Path:
    """Three images: a.png, b.png, c.png."""
    source = tmp_path / "in"
    source.mkdir()
    for number, name in enumerate("abc"):
        pixels = image(size=(20, 30)).pixels // 4 + 40 * number
        write_image(Image(pixels=pixels), source / f"{name}.png")
    return source


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def folder_results(source: Path, target: Path, *, on_step=None, **asked):
    return upscale_files(Request(sources=(source,), output=target, **asked), on_step=on_step)


def is_repeated(source: Path, target: Path) -> bool:
    small, large = read_image(source).pixels, read_image(target).pixels
    return np.array_equal(large, small.repeat(2, axis=0).repeat(2, axis=1))


def test_a_result_says_how_it_was_made(folder, tmp_path, wavy):
    result = upscale_file(
        folder / "a.png",
        tmp_path / "out.png",
        request=Request(model=wavy(scale=3), width=80, consistent=True),
    )
    assert (result.source_size, result.size) == ((20, 30), (53, 80))
    assert result.precision == "float32"
    assert 0 < result.network_seconds < result.seconds
    assert result.drift is not None
    assert result.notes == ()
    assert read_image(tmp_path / "out.png").pixels.shape == (53, 80, 3)


def test_notes_of_reading_and_writing_come_along(tmp_path, nearest, image):
    frames = [PILImage.new("RGB", (9, 7), (30 * k, 0, 0)) for k in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    write_image(image(dtype=np.uint16), tmp_path / "wide.png")
    request = Request(model=nearest())
    moving = upscale_file(tmp_path / "moving.gif", tmp_path / "a.jpg", request=request)
    assert any("3 frames" in note for note in moving.notes)
    wide = upscale_file(tmp_path / "wide.png", tmp_path / "b.jpg", request=request)
    assert any("16 bits" in note for note in wide.notes)


def test_results_come_in_order_and_all_is_right(folder, tmp_path, nearest):
    results = list(folder_results(folder, tmp_path / "out", model=nearest(), tile=12))
    assert [result.source.name for result in results] == ["a.png", "b.png", "c.png"]
    assert all(result.status == "done" for result in results)
    assert all(is_repeated(result.source, result.target) for result in results)


def test_what_exists_is_skipped_failed_or_replaced(folder, tmp_path, nearest):
    target = tmp_path / "b.png"
    target.write_bytes(b"precious")
    pairs = [(folder / f"{name}.png", tmp_path / f"{name}.png") for name in "abc"]
    for existing, status in (("skip", "skipped"), ("fail", "failed")):
        (tmp_path / "a.png").unlink(missing_ok=True)
        (tmp_path / "c.png").unlink(missing_ok=True)
        model = nearest()
        request = Request(model=model, existing=existing)
        results = list(upscale_files(request, pairs=pairs))
        assert [result.status for result in results] == ["done", status, "done"]
        assert "exists already" in results[1].reason
        assert len(model.seen) == 2
    assert target.read_bytes() == b"precious"
    results = list(upscale_files(Request(model=nearest(), existing="replace"), pairs=pairs))
    assert all(is_repeated(*pair) for pair in pairs)
    assert {result.status for result in results} == {"done"}


def test_formats_may_change(folder, tmp_path, nearest):
    save = SaveOptions(format="webp", quality=100)
    results = folder_results(folder, tmp_path / "out", model=nearest(), save=save)
    assert {result.status for result in results} == {"done"}
    assert files(tmp_path / "out") == ["a.webp", "b.webp", "c.webp"]
    assert is_repeated(folder / "a.png", tmp_path / "out" / "a.webp")


def test_what_can_only_be_read_becomes_png(folder, tmp_path, nearest):
    for name in ("a.gif", "d.gif"):
        PILImage.new("L", (5, 4)).save(folder / name)
    list(folder_results(folder, tmp_path / "out", model=nearest()))
    assert files(tmp_path / "out") == ["a.gif.png", "a.png", "b.png", "c.png", "d.png"]


def test_two_sources_for_one_target_are_refused(folder, tmp_path, nearest):
    pairs = [(folder / name, tmp_path / "one.png") for name in ("a.png", "b.png")]
    with pytest.raises(InputError, match=r"a\.png' and '.*b\.png' would both be written"):
        upscale_files(Request(model=nearest()), pairs=pairs)


def test_a_file_cut_short_fails_alone_and_leaves_nothing(folder, tmp_path, nearest):
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    results = list(folder_results(folder, tmp_path / "out", model=nearest()))
    assert [result.status for result in results] == ["done", "failed", "done"]
    assert files(tmp_path / "out") == ["a.png", "c.png"]


@pytest.mark.parametrize("error", [ValueError("a tag"), struct.error("4 bytes"), KeyError("x")])
def test_what_nobody_thought_of_fails_one_file_and_its_trace_is_logged(
    error, folder, tmp_path, nearest, monkeypatch, caplog
):
    def breaking(source, **rest):
        if source.name == "b.png":
            raise error
        yield from read_parts(source, **rest)

    read_parts = module.read_parts
    monkeypatch.setattr(module, "read_parts", breaking)
    with caplog.at_level("DEBUG", logger="edgekeeper"):
        results = list(folder_results(folder, tmp_path / "out", model=nearest()))
    assert [result.status for result in results] == ["done", "failed", "done"]
    assert f"unexpected {type(error).__name__}: " in results[1].reason
    assert "Traceback" in caplog.text
    assert files(tmp_path / "out") == ["a.png", "c.png"]


def test_an_error_of_the_callback_is_the_callers(folder, tmp_path, nearest):
    class OwnError(Exception):
        pass

    def on_step(step):
        if step.file == 2 and step.done:
            raise OwnError

    request = Request(sources=[folder], output=tmp_path / "out", model=nearest())
    with pytest.raises(OwnError):
        list(upscale_files(request, on_step=on_step))
    assert files(tmp_path / "out") == ["a.png"]


def test_a_fault_of_the_request_ends_the_batch(folder, tmp_path, nearest, monkeypatch):
    def breaking(*_, **__):
        raise CheckpointError("no weights")

    monkeypatch.setattr(module, "run", breaking)
    with pytest.raises(CheckpointError, match="no weights"):
        list(folder_results(folder, tmp_path / "out", model=nearest()))


NO_SPACE = ImageError("'b.png' cannot be written: no space left on device.")
NO_SPACE.__cause__ = OSError(28, "No space left on device")


class Full:
    """A writer that meets a full disk after ``rows``, or at the end."""

    notes = ()

    def __init__(self, *, rows: int | None) -> None:
        self.rows = rows

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None and self.rows is None:
            raise NO_SPACE

    def write(self, rows) -> None:
        if self.rows is not None:
            raise NO_SPACE


@pytest.mark.parametrize("rows", [0, None], ids=["in the middle", "at the end"])
def test_a_full_disk_ends_the_batch(rows, folder, tmp_path, nearest, monkeypatch):
    for name in ("d.png", "e.png", "f.png"):
        shutil.copy(folder / "c.png", folder / name)
    original = module.create_image

    def create(target, header, *, options, overwrite):
        if target.name == "b.png":
            return Full(rows=rows)
        return original(target, header, options=options, overwrite=overwrite)

    monkeypatch.setattr(module, "create_image", create)
    first, failed, *begun = folder_results(folder, tmp_path / "out", model=nearest())
    assert (first.status, failed.status) == ("done", "failed")
    assert "no space left" in failed.reason
    # What was computed while the end of b.png was written is kept; nothing else is begun.
    assert [result.source.name for result in begun] in ([], ["c.png"] if rows is None else [])
    assert all(is_repeated(result.source, result.target) for result in begun)


def test_memory_running_out_begins_the_file_again(folder, tmp_path, nearest):
    model = nearest(memory=300)
    results = list(folder_results(folder, tmp_path / "out", model=model))
    assert all(is_repeated(result.source, result.target) for result in results)
    assert results[0].notes == ("Memory ran out; the image was made in tiles of 15 pixels.",)
    assert files(tmp_path / "out") == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("file", [1, 2, 3])
@pytest.mark.parametrize("tile", [0, 1, 4])
def test_an_interrupt_keeps_what_is_finished_and_leaves_no_temporary_file(
    file, tile, folder, tmp_path, nearest
):
    model = nearest()

    def on_step(step) -> None:
        if (step.file, step.done) == (file, tile):
            raise KeyboardInterrupt

    results = folder_results(folder, tmp_path / "out", model=model, tile=15, on_step=on_step)
    with pytest.raises(KeyboardInterrupt):
        list(results)
    done = ["a.png", "b.png", "c.png"][: file - 1]
    assert files(tmp_path) == [f"in/{name}.png" for name in "abc"] + [f"out/{x}" for x in done]
    assert all(is_repeated(folder / name, tmp_path / "out" / name) for name in done)
    tiles_of_a_file, being_made = 6, bool(tile)
    assert len(model.seen) == (file - 1) * tiles_of_a_file + tile + being_made


def test_a_closed_generator_ends_the_work(folder, tmp_path, nearest):
    results = folder_results(folder, tmp_path / "out", model=nearest())
    next(results)
    results.close()
    assert not [name for name in files(tmp_path) if ".part" in name]


def test_an_unexpected_error_of_the_network_fails_images_cleanly(folder, tmp_path, nearest):
    class Faulty(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            if len(self.seen) == 3:
                raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            return super().forward(lr)

    results = list(folder_results(folder, tmp_path / "out", model=Faulty(), tile=16))
    assert [result.status for result in results] == ["failed"] * 3
    assert all("unexpected RuntimeError: mat1" in result.reason for result in results)
    assert not [name for name in files(tmp_path) if ".part" in name]


def test_the_next_is_read_and_the_last_written_while_the_network_works(
    folder, tmp_path, nearest, monkeypatch
):
    patience = 10
    opened = {name: threading.Event() for name in ("a.png", "b.png", "c.png")}
    begun = {value: threading.Event() for value in range(3)}
    read_parts, create = module.read_parts, module.create_image

    def watched_open(path, **options):
        for part in read_parts(path, **options):
            opened[path.name].set()
            yield part

    class Waiting:
        """A writer whose end waits for the network to have begun the next image."""

        def __init__(self, writer, number: int) -> None:
            self.writer, self.number, self.notes = writer, number, ()

        def __enter__(self):
            return self.writer.__enter__()

        def __exit__(self, kind, error, trace) -> None:
            if self.number < 2:
                assert begun[self.number + 1].wait(patience)
            self.writer.__exit__(kind, error, trace)

    def watched_create(target, header, *, options, overwrite):
        writer = create(target, header, options=options, overwrite=overwrite)
        return Waiting(writer, "abc".index(target.stem))

    class Patient(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            number = len(self.seen)
            begun[number].set()
            if number < 2:
                assert opened[["b.png", "c.png"][number]].wait(patience)
            return super().forward(lr)

    monkeypatch.setattr(module, "read_parts", watched_open)
    monkeypatch.setattr(module, "create_image", watched_create)
    results = list(folder_results(folder, tmp_path / "out", model=Patient()))
    assert [result.status for result in results] == ["done"] * 3


def test_the_next_is_looked_at_while_the_network_works(folder, tmp_path, nearest, monkeypatch):
    clean = Condition(jpeg_quality=None, noise=0, strength=0)
    looked = {name: threading.Event() for name in ("a.png", "b.png", "c.png")}
    threads = set()

    def look(path, *, tolerant):
        threads.add(threading.current_thread().name.rstrip("_0123456789"))
        looked[path.name].set()
        return clean

    class Patient(nearest):
        def forward(self, lr: Tensor) -> Tensor:
            following = ["b.png", "c.png", "c.png"][len(self.seen)]
            assert threads != {"edgekeeper-read"} or looked[following].wait(10)
            return super().forward(lr)

    monkeypatch.setattr(module, "condition_of", look)
    for size, thread in (({}, "edgekeeper-read"), ({"width": 60}, "MainThread")):
        threads.clear()  # a size may be that of the image, which no network then sees
        model = Patient()
        networks = Networks(factors=(2,), load=lambda factor, model=model: model)
        networks = replace(networks, restore=networks)
        made = folder_results(folder, tmp_path / "out", model=networks, existing="replace", **size)
        assert [result.status for result in made] == ["done"] * 3
        assert threads == {thread}


def test_a_image_larger_than_what_may_wait_flows_through(tmp_path, nearest, monkeypatch):
    monkeypatch.setattr("edgekeeper.inference.files._PART_BYTES", 100)
    monkeypatch.setattr("edgekeeper.inference.flow._ROUNDED", 50)
    pixels = np.random.default_rng(0).integers(0, 255, (300, 20, 3), dtype=np.uint8)
    write_image(Image(pixels=pixels), tmp_path / "in.tif")
    request = Request(model=nearest(), tile=32)
    upscale_file(tmp_path / "in.tif", tmp_path / "out.tif", request=request)
    assert is_repeated(tmp_path / "in.tif", tmp_path / "out.tif")


_MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from edgekeeper.image import Header, create_image
from edgekeeper.models import SRModel
from edgekeeper.inference import Request, files, upscale_file

class Nearest(SRModel):
    scale, channels, receptive_field = 2, "rgb", 8
    def forward(self, lr):
        return lr.repeat_interleave(2, -2).repeat_interleave(2, -1)

files._WRITTEN_PARTS = 4
folder, width = Path(sys.argv[1]), 1000
for height in (2000, 2000, 8000):
    name = folder / f"{height}.tif"
    header = Header(height=height, width=width, colours=3)
    with create_image(name, header, overwrite="replace") as file:
        for _ in range(0, height, 100):
            file.write(np.zeros((100, width, 3), np.uint8))
    request = Request(model=Nearest(), existing="replace")
    upscale_file(name, folder / "large.tif", request=request)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the module resource is for Unix")
def test_memory_does_not_grow_with_the_height(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    _, low, high = map(int, done.stdout.split())
    # Held whole, what is higher would take 72 MB more as bytes and 288 MB more as floats.
    assert high - low < 70


def test_a_target_that_another_process_wrote_meanwhile_is_skipped(folder, tmp_path, nearest):
    out = tmp_path / "out"

    def on_step(step):
        if step.file == 2:
            (out / "b.png").write_bytes(b"of another process")

    request = Request(sources=(folder,), output=out, model=nearest())
    results = list(upscale_files(request, on_step=on_step))
    assert [result.status for result in results] == ["done", "skipped", "done"]
    assert "exists already" in results[1].reason
    assert (out / "b.png").read_bytes() == b"of another process"
