"""The packed store: what goes in comes out, aligned, the same for any number of workers."""

import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from edgekeeper.data.degrade import make_lr, to_bytes
from edgekeeper.data.prepare import SourceImage, Teacher, prepare_store, sources_in
from edgekeeper.data.store import Batch, Store
from edgekeeper.errors import DataError, ImageError, InputError
from edgekeeper.ops.resize import imresize


def save(path: Path, *, height: int, width: int, seed: int, grey: bool = False) -> Path:
    rng = np.random.default_rng(seed)
    shape = (height // 4 + 2, width // 4 + 2, *(() if grey else (3,)))
    small = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    small.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    save(folder / "a.png", height=50, width=61, seed=0)
    save(folder / "b.png", height=75, width=38, seed=1)
    save(folder / "grey.png", height=40, width=40, seed=2, grey=True)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    target = tmp_path_factory.mktemp("stores") / "store"
    return prepare_store(sources_in(folder, licence="CC0-1.0"), target, shrink=(1, 2))


def test_what_the_store_holds(store: Store, folder: Path) -> None:
    assert store.scales == (2, 3, 4)
    assert store.lr_kernel == "matlab_uint8"
    names = [entry.name for entry in store.images]
    assert names == ["a", "a_shrunk2", "b", "b_shrunk2", "grey", "grey_shrunk2"]
    assert {entry.licence for entry in store.images} == {"CC0-1.0"}
    # 50x61 cropped to multiples of 12; shrunk to 25x31 and cropped.
    assert store.hr(0).shape == (3, 48, 60)
    assert store.hr(1).shape == (3, 24, 24)
    assert store.lr(0, scale=3).shape == (3, 16, 20)
    stored = torch.from_numpy(np.array(Image.open(folder / "a.png"))).permute(2, 0, 1)
    assert torch.equal(store.hr(0), stored[:, :48, :60])
    shrunk = to_bytes(imresize(stored[None] / 255, scale=0.5))[0]
    assert torch.equal(store.hr(1), shrunk[:, :24, :24])
    assert torch.equal(store.hr(4)[0], store.hr(4)[2])
    for number in range(6):
        for scale in store.scales:
            lr = make_lr(store.hr(number) / 255, scale=scale, kernel="matlab_uint8")
            assert torch.equal(store.lr(number, scale=scale), to_bytes(lr))
    store.verify()
    assert not store.pixels.flags.writeable


def test_patches_are_aligned_parts_of_the_images(store: Store) -> None:
    batch = store.batch(seed=0, step=0, size=40, patch=12, scale=3, augment="none")
    assert batch.lr.shape == (40, 3, 4, 4) and batch.hr.shape == (40, 3, 12, 12)
    assert batch.lr.dtype == batch.hr.dtype == torch.uint8
    for lr, hr in zip(batch.lr, batch.hr, strict=True):
        assert any(
            torch.equal(hr, store.hr(n)[:, 3 * y : 3 * y + 12, 3 * x : 3 * x + 12])
            for n in range(6)
            for y, x in places(store.lr(n, scale=3), lr)
        )


def places(image: torch.Tensor, part: torch.Tensor) -> list[tuple[int, int]]:
    side = part.shape[-1]
    cuts = image.unfold(1, side, 1).unfold(2, side, 1)  # (3, rows, columns, side, side)
    same = (cuts == part[:, None, None]).all(dim=-1).all(dim=-1).all(dim=0)
    return [(int(y), int(x)) for y, x in same.nonzero()]


def test_turned_lr_is_the_lr_of_turned_hr(store: Store) -> None:
    # With a patch as large as the image, LR is what the kernel makes of HR, however turned.
    # (Rounding after each pass makes the transposed ones differ by two levels here and there.)
    batch = store.batch(seed=5, step=0, size=64, patch=24, scale=2)
    lr = to_bytes(make_lr(batch.hr / 255, scale=2, kernel="matlab_uint8")).int()
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    levels = (batch.lr.int() - lr)[inner].abs()
    assert levels.max() <= 2 and levels.float().mean() < 0.1


def test_a_batch_is_a_pure_function_of_seed_step_and_index(store: Store) -> None:
    def read(
        *, seed: int = 1, step: int = 7, size: int = 6, rank: int = 0, ranks: int = 1
    ) -> Batch:
        return store.batch(
            seed=seed, step=step, size=size, patch=16, scale=4, rank=rank, ranks=ranks
        )

    whole = read()
    assert torch.equal(read().hr, whole.hr)
    assert torch.equal(read(size=2).hr, whole.hr[:2])
    for ranks in (3, 4):  # of which four have 2, 2, 1 and 1
        parts = [read(rank=rank, ranks=ranks) for rank in range(ranks)]
        assert torch.equal(torch.cat([part.lr for part in parts]), whole.lr)
        assert [len(part.hr) for part in parts] == [len(p) for p in whole.hr.tensor_split(ranks)]
    assert not torch.equal(read(seed=2).hr, whole.hr)
    assert not torch.equal(read(step=8).hr, whole.hr)


def test_centre_crops_over_ranks_make_one_sequence(store: Store) -> None:
    def read(step: int, size: int, rank: int = 0, ranks: int = 1) -> torch.Tensor:
        return store.batch(
            seed=0,
            step=step,
            size=size,
            patch=12,
            scale=2,
            crop="centre",
            augment="none",
            rank=rank,
            ranks=ranks,
        ).hr

    whole = torch.cat([read(0, 4), read(1, 4), read(2, 4)])
    parts = [read(step, 4, rank, 2) for step in range(3) for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole)
    seen = {bytes(hr.numpy().tobytes()) for hr in whole[:6]}
    assert len(seen) == 6


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers_and_a_later_start_give_the_same_batches(
    store: Store, workers: int
) -> None:
    batches = store.batches(seed=4, size=3, patch=8, scale=2, start=5, workers=workers)
    for step in range(5, 17):
        want = store.batch(seed=4, step=step, size=3, patch=8, scale=2)
        got = next(batches)
        assert torch.equal(got.lr, want.lr) and torch.equal(got.hr, want.hr)
    batches.close()  # type: ignore[attr-defined]


def test_an_error_in_a_worker_reaches_the_caller(store: Store) -> None:
    batches = store.batches(seed=0, size=3, patch=1000, scale=2, workers=2)
    with pytest.raises(DataError, match="No image of the store holds"):
        next(batches)


def test_a_store_on_a_device_gives_the_same_batches(store: Store) -> None:
    there = store.to("cpu")
    assert there.resident is not None
    for scale in store.scales:
        ours = store.batch(seed=0, step=1, size=20, patch=12, scale=scale)
        theirs = there.batch(seed=0, step=1, size=20, patch=12, scale=scale)
        assert torch.equal(ours.lr, theirs.lr) and torch.equal(ours.hr, theirs.hr)


def test_as_float_is_the_stored_level_over_255(store: Store) -> None:
    batch = store.batch(seed=0, step=0, size=2, patch=8, scale=2)
    moved = batch.to("cpu").as_float()
    assert moved.lr.dtype == torch.float32
    assert torch.equal(moved.hr, (batch.hr.double() / 255).float())
    assert torch.equal(moved.lr, (batch.lr.double() / 255).float())


def test_wrong_arguments(store: Store) -> None:
    for wrong in ({"patch": 9}, {"patch": 0}, {"size": 0}, {"rank": 1}, {"scale": 5}):
        given = {"seed": 0, "step": 0, "size": 1, "patch": 8, "scale": 2} | wrong
        with pytest.raises(InputError):
            store.batch(**given)
    with pytest.raises(InputError, match="no crop 'left'"):
        store.batch(seed=0, step=0, size=1, patch=8, scale=2, crop="left")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="needs a CUDA device"):
            store.batch(seed=0, step=0, size=1, patch=8, scale=2, memory="pinned")
    with pytest.raises(InputError, match="workers is -1"):
        store.batches(seed=0, size=1, patch=8, scale=2, workers=-1)


def test_small_images_are_left_out(folder: Path, tmp_path: Path) -> None:
    sources = sources_in(folder)
    store = prepare_store(sources, tmp_path / "s", scales=(2,), shrink=(1, 2), min_side=40)
    assert [entry.name for entry in store.images] == ["a", "grey"]
    with pytest.raises(DataError, match="No image is large enough"):
        prepare_store(sources, tmp_path / "none", min_side=100)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_long_sides_shrink_to_so_many_pixels_and_never_enlarge(
    folder: Path, tmp_path: Path
) -> None:
    sources = sources_in(folder)
    whole = prepare_store(sources, tmp_path / "whole", scales=(2,))
    store = prepare_store(sources, tmp_path / "store", scales=(2,), long_sides=(24, 30, 9999))
    sides = {max(entry.hr.height, entry.hr.width) for entry in whole.images}
    found: dict[str, list[int]] = {}
    for entry in store.images:
        found.setdefault(entry.source, []).append(max(entry.hr.height, entry.hr.width))
    assert all(lengths[:2] == [24, 30] and lengths[2] in sides for lengths in found.values())
    assert {entry.shrink for entry in store.images if entry.shrink == 1}
    with pytest.raises(InputError, match=r"long_sides is .0,.; give pixels from 1 on"):
        prepare_store(sources, tmp_path / "none", long_sides=(0,))


def test_with_a_teacher_hr_is_its_share_of_what_it_makes_of_lr(
    folder: Path, tmp_path: Path
) -> None:
    sources = sources_in(folder)
    plain = prepare_store(sources, tmp_path / "plain", scales=(2,))

    def sr(lr: Tensor) -> Tensor:
        return lr.repeat_interleave(2, -1).repeat_interleave(2, -2)

    teacher = Teacher("twice", 2, 0.75, sr)
    taught = prepare_store(sources, tmp_path / "taught", scales=(2,), teacher=teacher)
    assert (plain.index.teacher, taught.index.teacher) == ({}, {"name": "twice", "share": 0.75})
    assert Store.open(tmp_path / "taught").index.teacher == taught.index.teacher
    file = tmp_path / "taught" / "index.json"
    whole = file.read_text()
    file.write_text(json.dumps({**json.loads(whole), "teacher": "twice, of, 0.75"}))  # as it was
    said = Store.open(tmp_path / "taught").index.teacher
    assert said == {"name": "twice, of", "share": 0.75}
    file.write_text(whole)
    taught.verify()
    for number in range(len(plain.images)):
        lr = plain.lr(number, scale=2)
        assert torch.equal(taught.lr(number, scale=2), lr)
        result = lr.repeat_interleave(2, -1).repeat_interleave(2, -2)
        wanted = 0.25 * plain.hr(number).double() + 0.75 * result.double()
        assert float((taught.hr(number) - wanted).abs().max()) <= 0.51
    with pytest.raises(InputError, match=r"twice is for ×2, but LR .* at ×2, ×3; ask for ×2 alone"):
        prepare_store(sources, tmp_path / "none", scales=(2, 3), teacher=teacher)
    for share in (0.0, 2.0, float("nan"), "0.8"):
        with pytest.raises(InputError, match=r"Teacher\.share is"):
            Teacher("twice", 2, share, teacher.network)  # type: ignore[arg-type]
    for network, fault in ((lambda lr: lr, r"\(1, 3, "), (lambda lr: sr(lr) / 0, "not finite")):
        with pytest.raises(InputError, match=f"What the teacher odd makes of LR .* is {fault}"):
            odd = Teacher("odd", 2, 1.0, network)
            prepare_store(sources, tmp_path / "none", scales=(2,), teacher=odd)


def test_what_a_teacher_made_before_a_stop_is_not_made_again(folder: Path, tmp_path: Path) -> None:
    sources, made = sources_in(folder), [0]

    def sr(lr: Tensor) -> Tensor:
        made[0] += 1
        if made[0] == 3:
            raise KeyboardInterrupt
        return lr.repeat_interleave(2, -1).repeat_interleave(2, -2)

    kept = tmp_path / "stopped.taught"
    teacher = Teacher("twice", 2, 0.75, sr, {"sha256": "12"})
    with pytest.raises(KeyboardInterrupt):
        prepare_store(sources, tmp_path / "stopped", scales=(2,), teacher=teacher)
    assert len(list(kept.iterdir())) == 2 and not (tmp_path / "stopped").exists()
    next(kept.iterdir()).write_bytes(b"cut short")
    store = prepare_store(sources, tmp_path / "stopped", scales=(2,), teacher=teacher)
    assert made[0] == 3 + len(store.images) - 1 and not kept.exists()
    whole = prepare_store(sources, tmp_path / "whole", scales=(2,), teacher=teacher)
    assert whole.index.pixels_sha256 == store.index.pixels_sha256
    other = Teacher("twice", 2, 0.5, sr, {"sha256": "12"})  # another share is another store
    half = prepare_store(sources, tmp_path / "other", scales=(2,), teacher=other)
    assert half.index.pixels_sha256 != whole.index.pixels_sha256


def test_files_of_others_stay(folder: Path, tmp_path: Path) -> None:
    """What lies under the name of the kept results, or came under the target's name meanwhile."""
    sources = sources_in(folder)

    def sr(lr: Tensor) -> Tensor:
        return lr.repeat_interleave(2, -1).repeat_interleave(2, -2)

    note = tmp_path / "mine.taught" / "note.txt"
    note.parent.mkdir()
    note.write_text("precious")
    prepare_store(sources, tmp_path / "mine", scales=(2,))
    teacher = Teacher("twice", 2, 0.75, sr, {"sha256": "12"})
    prepare_store(sources, tmp_path / "mine", scales=(2,), teacher=teacher, overwrite="replace")
    assert [path.name for path in note.parent.iterdir()] == ["note.txt"]

    late = tmp_path / "late"

    def intrude(lr: Tensor) -> Tensor:
        late.mkdir(exist_ok=True)
        (late / "note.txt").write_text("precious")
        return sr(lr)

    for overwrite, says in (("refuse", "exists already"), ("replace", "is no packed store")):
        shutil.rmtree(late, ignore_errors=True)
        teacher = Teacher("late", 2, 0.75, intrude, {"sha256": overwrite})
        with pytest.raises(DataError, match=says):
            prepare_store(sources, late, scales=(2,), teacher=teacher, overwrite=overwrite)  # type: ignore[arg-type]
        assert (late / "note.txt").read_text() == "precious"
        assert len(list((tmp_path / "late.taught").iterdir())) >= len(sources) - 1


def test_a_table_gives_each_image_its_own_licence(folder: Path, tmp_path: Path) -> None:
    first, *others = sources_in(folder)
    beside = tmp_path / "beside"
    beside.mkdir()
    for source in (first, *others):
        (beside / source.path.name).write_bytes(source.path.read_bytes())
    table = beside / "ORIGIN.csv"
    table.write_text(f'file,licence\n{first.path.name},"CC-BY-4.0, A. Name"\n')
    licences = {s.path.name: s.licence for s in sources_in(beside, licence="CC0-1.0")}
    assert licences.pop(first.path.name) == "CC-BY-4.0, A. Name"
    assert set(licences.values()) == {"CC0-1.0"}
    table.write_text("file,author\na.png,me\n")
    with pytest.raises(DataError, match="must have the columns file and licence"):
        sources_in(beside)


def test_a_failure_leaves_nothing_and_the_old_store(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "store"
    before = prepare_store(sources_in(folder), target, scales=(2,)).fingerprint
    broken = tmp_path / "broken.png"
    broken.write_bytes((folder / "a.png").read_bytes()[:200])
    with pytest.raises(DataError, match="exists already"):
        prepare_store(sources_in(folder), target, scales=(2,))
    with pytest.raises(ImageError):
        prepare_store(
            [*sources_in(folder), SourceImage(broken)], target, scales=(2,), overwrite="replace"
        )
    assert Store.open(target).fingerprint == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "store"]
    done: list[tuple[int, int, str]] = []
    prepare_store(
        sources_in(folder)[:2],
        target,
        scales=(3,),
        overwrite="replace",
        progress=lambda *step: done.append(step),
    )
    assert done == [(1, 2, "a.png"), (2, 2, "b.png")]
    assert sorted(path.name for path in target.iterdir()) == ["index.json", "pixels.bin"]
    assert Store.open(target).scales == (3,)


def test_an_index_of_an_earlier_version_is_read(folder: Path, tmp_path: Path) -> None:
    store = prepare_store(sources_in(folder), tmp_path / "store", scales=(2,))
    path = tmp_path / "store" / "index.json"
    content = json.loads(path.read_text())
    content["pictures"] = content.pop("images")
    for image in content["pictures"]:
        del image["sha256"]
    path.write_text(json.dumps(content))
    earlier = Store.open(tmp_path / "store")
    assert [replace(image, sha256="") for image in store.images] == list(earlier.images)
    earlier.verify(images=1)
    change(tmp_path / "store" / "pixels.bin", at=-1)
    with pytest.raises(DataError, match="have changed"):  # all is read, without their digests
        earlier.verify(images=1)


def change(path: Path, *, at: int) -> None:
    """Turn one bit of a file where it lies."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    with path.open("r+b") as file:
        file.write(content)


def test_changed_images_are_found_by_sampling(folder: Path, tmp_path: Path) -> None:
    store = prepare_store(sources_in(folder), tmp_path / "s", scales=(2, 3))
    pixels = tmp_path / "s" / "pixels.bin"
    for entry in store.images:
        for at in (entry.place.start, entry.place.stop - 1):
            change(pixels, at=at)
            with pytest.raises(DataError, match="have changed since the store was made"):
                store.verify(images=3)
            change(pixels, at=at)
            store.verify(images=3)
    change(pixels, at=store.images[1].hr.offset)
    store.verify(images=1)
    with pytest.raises(DataError, match="have changed"):
        store.verify()


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut there")
def test_a_store_that_becomes_shorter_is_an_error_and_no_bus_error(
    folder: Path, tmp_path: Path
) -> None:
    for kept in (0, 4096, -1):
        store = prepare_store(sources_in(folder), tmp_path / "s", scales=(2,), overwrite="replace")
        begun, ahead = (
            store.batches(seed=0, size=2, patch=8, scale=2, workers=count) for count in (0, 1)
        )
        next(begun)  # not of ``ahead``: a thread in the middle of a read would die of the cut
        os.truncate(tmp_path / "s" / "pixels.bin", kept % store.index.pixels_bytes)
        reads: tuple[Callable[[], object], ...] = (
            partial(deque, begun),
            partial(deque, ahead),
            partial(store.hr, 0),
            partial(store.lr, 0, scale=2),
            partial(store.to, "cpu"),
            store.verify,
            partial(store.verify, images=2),
        )
        for read in reads:
            with pytest.raises(DataError, match=r"pixels.bin' was cut to \d+ bytes"):
                read()


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be replaced there")
def test_a_store_that_is_replaced_is_read_on_as_it_was(folder: Path, tmp_path: Path) -> None:
    sources = sources_in(folder)
    store = prepare_store(sources, tmp_path / "s", scales=(2,))
    before = store.hr(0)
    prepare_store(sources[2:], tmp_path / "s", scales=(2,), overwrite="replace")
    assert torch.equal(store.hr(0), before)
    store.verify()


def test_wrong_preparations(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images to prepare"):
        prepare_store([], tmp_path / "s")
    with pytest.raises(InputError, match="scales is"):
        prepare_store(sources_in(folder), tmp_path / "s", scales=(1, 2))
    with pytest.raises(InputError, match="shrink is"):
        prepare_store(sources_in(folder), tmp_path / "s", shrink=(0,))
    with pytest.raises(DataError, match="holds no images"):
        sources_in(tmp_path)


def damaged(content: dict[str, object], what: str) -> None:
    images = content["images"]
    assert isinstance(images, list)
    if what == "version":
        content["version"] = 99
    elif what == "format":
        content["format"] = "other"
    elif what == "offset":
        images[0]["lr"]["2"]["offset"] += 3
    elif what == "size":
        images[0]["hr"]["width"] += 12
    elif what == "shape":
        hr = images[0]["hr"]
        hr["height"], hr["width"] = hr["width"], hr["height"]
    elif what == "scale":
        del images[0]["lr"]["2"]
    elif what == "unknown key":
        images[0]["colour"] = "red"
    elif what == "no images":
        images.clear()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("version", "version 99"),
        ("format", "not the index"),
        ("offset", "place or size"),
        ("size", "place or size"),
        ("shape", "place or size"),
        ("scale", "lacks LR"),
        ("unknown key", "damaged"),
        ("no images", "describes 0"),
    ],
)
def test_a_damaged_index_is_refused(folder: Path, tmp_path: Path, what: str, message: str) -> None:
    store = prepare_store(sources_in(folder)[:1], tmp_path / "s", scales=(2,))
    content = json.loads((store.path / "index.json").read_text())
    damaged(content, what)
    (store.path / "index.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        Store.open(store.path)


def test_missing_short_and_changed_pixels(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a packed store"):
        Store.open(tmp_path)
    path = prepare_store(sources_in(folder)[:1], tmp_path / "s", scales=(2,)).path
    pixels = (path / "pixels.bin").read_bytes()
    (path / "pixels.bin").write_bytes(pixels[:-1] + bytes([pixels[-1] ^ 1]))
    with pytest.raises(DataError, match="have changed"):
        Store.open(path).verify()
    (path / "pixels.bin").write_bytes(pixels[:-1])
    with pytest.raises(DataError, match="is incomplete"):
        Store.open(path)
    (path / "pixels.bin").unlink()
    with pytest.raises(DataError, match="is missing"):
        Store.open(path)
    (path / "index.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        Store.open(path)
