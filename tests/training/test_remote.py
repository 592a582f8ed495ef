"""Stores and runs at addresses of fsspec, in memory and in files; who holds a run."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edgekeeper.data import remote
from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.remote import RemoteFolder, StreamedStore, open_store
from edgekeeper.data.store import Store
from edgekeeper.errors import CheckpointError, DataError, InputError, UnavailableError
from edgekeeper.losses import L1
from edgekeeper.models import ESPCN
from edgekeeper.spec import spec
from edgekeeper.training import process
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.process import held
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term

RUN = "memory://bucket/run"
RECIPE = Recipe(
    "small",
    spec(ESPCN, scale=2),
    data=Data(patch=16, batch=2),
    stages=(Stage("all", 6, Optim(learning_rate=1e-3), (Term("pixel", spec(L1)),)),),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("EDGEKEEPER_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    memory = fsspec.filesystem("memory")
    memory.store.clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder, numbers = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    image = numbers.integers(0, 256, (60, 48, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / "noise.png")
    return prepare_store(sources_in(folder), folder / "store", scales=(2,))


def copy(folder: Path, address: str) -> RemoteFolder:
    there = RemoteFolder(address)
    for file in folder.iterdir():
        there.write(file.name, file)
    return there


@pytest.mark.parametrize("address", ["memory://bucket/photos.store", "file://{}/photos.store"])
def test_a_store_is_copied_once_by_ranges_and_checked(
    address: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PIECE", 1000)
    there = copy(store.path, address.format(tmp_path))
    copied = open_store(there.address, on="auto")
    folder = copied.path
    copied.verify()
    assert copied.index == store.index
    asked = {"seed": 0, "step": 3, "size": 2, "patch": 16, "scale": 2}
    assert torch.equal(copied.batch(**asked).hr, store.batch(**asked).hr)  # type: ignore[arg-type]
    there.remove("pixels.bin")
    assert open_store(there.address, on="host").path == folder  # not read again

    pixels = bytearray((store.path / "pixels.bin").read_bytes())
    pixels[-1] ^= 1
    there.write("pixels.bin", bytes(pixels))
    (folder / "pixels.bin").unlink()
    with pytest.raises(DataError, match="is damaged: SHA-256 is"):
        open_store(there.address, on="auto")
    assert not (folder / "pixels.bin").exists()
    there.remove("index.json")
    with pytest.raises(DataError, match="is not a packed store"):
        open_store(there.address, on="auto")


Asked = list[tuple[int, int]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The ranges that are read, in the order of the requests."""
    found: Asked = []
    ranges = RemoteFolder.ranges

    def read(self: RemoteFolder, name: str, *, starts: Any, ends: Any, **others: Any) -> Any:
        found.extend(zip(starts.tolist(), ends.tolist(), strict=True))
        return ranges(self, name, starts=starts, ends=ends, **others)

    monkeypatch.setattr(RemoteFolder, "ranges", read)
    return found


@pytest.mark.parametrize("address", ["memory://bucket/photos.store", "file://{}/photos.store"])
@pytest.mark.parametrize("crop", ["random", "centre"])
@pytest.mark.parametrize("augment", ["none", "flips", "eight"])
def test_a_streamed_store_gives_the_same_batches_and_reads_the_rows_of_its_patches(
    address: str, crop: Any, augment: Any, store: Store, tmp_path: Path, cache: Path, asked: Asked
) -> None:
    there = copy(store.path, address.format(tmp_path))
    streamed = open_store(there.address, on="remote")
    assert isinstance(streamed, StreamedStore) and not list(cache.rglob("pixels.bin"))
    given: Any = {"seed": 2, "size": 9, "patch": 16, "scale": 2, "crop": crop, "augment": augment}
    for step in range(3):
        ours, theirs = (s.batch(step=step, **given) for s in (streamed, store))
        assert torch.equal(ours.lr, theirs.lr) and torch.equal(ours.hr, theirs.hr)
    # Of images 48 and 24 wide: from the first pixel to the last of 16 and 8 rows, of three planes.
    lengths = {end - start for start, end in asked}
    assert lengths == {15 * 48 + 16, 7 * 24 + 8}
    assert len(asked) == 3 * 9 * 2 * 3  # batches, patches, LR and HR, planes
    assert sum(end - start for start, end in asked) == 81 * (736 + 176)
    read = streamed.batches(start=0, workers=3, **given)
    for step in range(6):
        assert torch.equal(next(read).hr, store.batch(step=step, **given).hr)
    read.close()  # type: ignore[attr-defined]


def test_a_rank_reads_its_part_of_a_streamed_store(store: Store, asked: Asked) -> None:
    streamed = open_store(copy(store.path, RUN).address, on="remote")
    given: Any = {"seed": 2, "step": 1, "size": 5, "patch": 16, "scale": 2}
    sizes, parts = [], []
    for rank in range(2):
        asked.clear()
        parts.append(streamed.batch(rank=rank, ranks=2, **given).hr)
        sizes.append(sum(end - start for start, end in asked))
    assert torch.equal(torch.cat(parts), store.batch(**given).hr)
    assert sizes == [3 * 3 * (736 + 176), 2 * 3 * (736 + 176)]


def test_a_store_without_room_is_streamed_and_trains_to_the_same_bits(
    store: Store, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = copy(store.path, "memory://bucket/photos.store")
    free = SimpleNamespace(free=store.index.pixels_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
    streamed = open_store(there.address, on="auto")
    assert streamed.streamed and not list(cache.rglob("pixels.bin"))
    streamed.verify()
    assert torch.equal(streamed.hr(0), store.hr(0))
    assert torch.equal(streamed.lr(0, scale=2), store.lr(0, scale=2))
    resident = streamed.to("cpu")
    resident.verify(images=16)
    given: Any = {"seed": 2, "step": 1, "size": 5, "patch": 16, "scale": 2}
    assert not resident.streamed and torch.equal(
        resident.batch(**given).hr, store.batch(**given).hr
    )
    local = load_file(run(store, tmp_path / "local", address=None) / "last.safetensors")
    run(streamed, tmp_path / "run", address=None, steps=3)
    # It goes on from a copy: the store is the same.
    free.free += 1
    copied = open_store(there.address, on="auto")
    assert not copied.streamed
    found = load_file(run(copied, tmp_path / "run", address=None) / "last.safetensors")
    assert all(torch.equal(found[name], local[name]) for name in local)
    free.free = 0
    assert not open_store(there.address, on="auto").streamed  # the copy is there

    there.write("pixels.bin", (store.path / "pixels.bin").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"pixels\.bin' gave \d+ of \d+ bytes"):
        streamed.verify()
    there.write("pixels.bin", bytes(store.index.pixels_bytes))
    with pytest.raises(DataError, match=r"of .memory://bucket/photos\.store. have changed"):
        streamed.verify(images=16)
    there.remove("pixels.bin")
    with pytest.raises(DataError, match="cannot be read"):
        streamed.batch(**given)
    index = json.loads((store.path / "index.json").read_bytes())
    for image in index["images"]:
        del image["sha256"]
    there.write("index.json", json.dumps(index).encode())
    with pytest.raises(DataError, match="has no digests of its images"):
        open_store(there.address, on="remote")
    with pytest.raises(InputError, match="is no address"):
        open_store(store.path, on="remote")


def run(store: Store, folder: Path, *, steps: int = 6, address: str | None = RUN) -> Path:
    recipe = replace(RECIPE, stages=(replace(RECIPE.stages[0], steps=steps),))
    train(recipe, store, options=RunOptions(out=folder, workers=0, log_every=1, remote=address))
    return folder


def test_a_run_at_an_address_goes_on_on_another_machine_in_the_same_bits(
    store: Store, tmp_path: Path
) -> None:
    straight = load_file(run(store, tmp_path / "straight", address=None) / "last.safetensors")
    run(store, tmp_path / "one", steps=3)
    there = RemoteFolder(RUN)
    marker = json.loads(there.read("checkpoint.json") or b"")
    assert marker["step"] == 3 and there.read("process.json") is None
    # A state whose marker was not written any more does not count.
    there.write("state-00.safetensors", b"half a state")
    other = run(store, tmp_path / "other")
    found = load_file(other / "last.safetensors")
    assert all(torch.equal(found[name], straight[name]) for name in straight)
    steps = [json.loads(line)["step"] for line in (there.read("log.jsonl") or b"").splitlines()]
    assert steps == [1, 1, 2, 3, 4, 5, 6]  # the first also has its gradients
    assert there.read("model.safetensors") == (other / "model.safetensors").read_bytes()
    assert there.read(marker["file"]) is None  # the state before is gone

    # What is there is what counts, not what was left here.
    now = json.loads(there.read("checkpoint.json") or b"")
    there.write(now["file"], b"another content")
    (other / "last.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is damaged: SHA-256"):
        run(store, other)
    there.write("checkpoint.json", b"{")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json' is damaged"):
        run(store, other)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the server's libraries
def test_a_store_and_a_run_on_an_s3_server(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    s3fs = pytest.importorskip("s3fs")
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem().mkdir("bucket")
        monkeypatch.setattr(remote, "PIECE", 1000)
        there = copy(store.path, "s3://bucket/photos.store")
        fetched = open_store(there.address, on="auto")
        fetched.verify()
        streamed = open_store(there.address, on="remote")
        given: Any = {"seed": 2, "size": 5, "patch": 16, "scale": 2}
        read = streamed.batches(start=1, workers=2, **given)
        assert torch.equal(next(read).hr, store.batch(step=1, **given).hr)
        read.close()  # type: ignore[attr-defined]
        straight = load_file(run(store, tmp_path / "straight", address=None) / "last.safetensors")
        address = "s3://bucket/runs/one"
        run(fetched, tmp_path / "one", steps=3, address=address)
        run(fetched, tmp_path / "two", address=address)
        found = load_file(tmp_path / "two" / "last.safetensors")
        assert all(torch.equal(found[name], straight[name]) for name in straight)
        folder = RemoteFolder(address)
        state = json.loads(folder.read("checkpoint.json") or b"")
        assert state["step"] == 6 and folder.read("process.json") is None
        with pytest.raises(DataError, match="is not a packed store"):
            open_store("s3://bucket/nothing.store", on="auto")
    finally:
        server.stop()


def test_a_second_run_says_who_holds_the_first_and_one_without_life_is_taken_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "BEAT", 0.05)
    there, other = RemoteFolder(RUN), {"host": "elsewhere", "process": 7, "token": "t"}
    done = threading.Event()

    def live() -> None:
        count = 0
        while not done.wait(0.02):
            count += 1
            there.write("process.json", json.dumps({**other, "beat": count}).encode())

    there.write("process.json", json.dumps(other).encode())
    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(InputError, match="under way in process 7 on elsewhere; wait"):
            run(store, tmp_path / "second")
    finally:
        done.set()
        thread.join()
    run(store, tmp_path / "second", steps=1)  # its sign of life stands still
    assert there.read("process.json") is None

    # One that was taken for dead and lives stops.
    def read() -> bytes | None:
        return there.read("process.json")

    def write(content: bytes) -> None:
        there.write("process.json", content)

    with held(RUN, read=read, write=write) as check:
        check()
        write(json.dumps(other).encode())
        threading.Event().wait(0.5)
        with pytest.raises(InputError, match="was taken over by process 7 on elsewhere"):
            check()


def test_addresses_that_cannot_be_used_say_why() -> None:
    with pytest.raises(InputError, match="'nowhere://a' is no address that is known"):
        RemoteFolder("nowhere://a")
    with pytest.raises(UnavailableError, match=r"pip install 'edgekeeper\[remote\]'"):
        RemoteFolder("adl://a/b")
