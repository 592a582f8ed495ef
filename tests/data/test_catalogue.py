"""The catalogue says the truth about itself; obtaining a set checks each file."""

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from edgekeeper.data.catalogue import SETS, ImageSet, Remote, find_set, names
from edgekeeper.data.fetch import digests, fetch_set, remote_files
from edgekeeper.errors import DataError, InputError
from edgekeeper.files import sha256_of


def test_every_entry_is_complete() -> None:
    assert len(set(names())) == len(SETS)
    for entry in SETS:
        assert entry.name == entry.name.lower()
        assert entry.origin.startswith("http") and entry.licence and entry.count > 0
        assert entry.folder.split("/")[0] == {"test": "benchmarks", "train": "train"}[entry.kind]
        assert remote_files(entry) or entry.how
        assert not entry.names or len(entry.names) == entry.count
        # Only these sources let us publish networks trained on them.
        shipped = entry.name in ("photos_cc0", "photos_public_domain", "photos_more")
        assert entry.may_ship == shipped


def test_files_of_a_set_have_addresses_and_digests() -> None:
    # Per image: HR and LR at three scales; BSD100 has one HR for all scales.
    counts = {"set5": 30, "set14": 84, "bsd100": 400, "bsds500_train": 200}
    counts |= {"photos_cc0": 19, "photos_public_domain": 11}
    assert {name: len(found) for name, found in digests().items()} == counts
    for name in counts:
        files = remote_files(find_set(name))
        assert len({file.path for file in files}) == len({file.address for file in files})
        for file in files:
            assert file.size and re.fullmatch("[0-9a-f]{64}", file.sha256 or "")
            assert file.address.startswith("https://github.com/")
            assert file.address.endswith("/" + file.path.split("/")[-1])
    first = remote_files(find_set("BSD100"))[0]
    assert first.path == "HR/101085.jpg"
    assert first.address.endswith("BIDS/BSDS500/raw/master/BSDS500/data/images/val/101085.jpg")


def test_an_unknown_set_and_one_without_address() -> None:
    with pytest.raises(InputError, match="Did you mean 'urban100'"):
        find_set("urban10")
    with pytest.raises(DataError, match=r"Apply at http://www.manga109.org"):
        fetch_set("manga109", "anywhere")


def example(folder: Path, **changes: str) -> ImageSet:
    remotes = []
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(name.encode())
        digest = hashlib.sha256(name.encode()).hexdigest()
        address = (folder / name).as_uri()
        remotes.append(Remote(f"HR/{name}", address, 5, changes.get(name, digest)))
    return ImageSet(
        "x", "X", "test", 2, "http://x", "benchmarks/X", "CC0-1.0", True, archives=tuple(remotes)
    )


def test_fetching_a_set(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    told: list[tuple[int, int, str]] = []
    folder = fetch_set(
        example(tmp_path / "origin"), tmp_path / "data", progress=lambda *step: told.append(step)
    )
    assert sorted(p.name for p in (folder / "HR").iterdir()) == ["a.png", "b.png"]
    assert told == [(1, 2, "HR/a.png"), (2, 2, "HR/b.png")]
    (folder / "HR" / "a.png").write_bytes(b"wrong")
    with pytest.raises(DataError, match="is there but its SHA-256"):
        fetch_set(example(tmp_path / "origin"), tmp_path / "data")


def test_a_wrong_file_stops_the_set(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    wrong = example(tmp_path / "origin", **{"b.png": "0" * 64})
    with pytest.raises(DataError, match="not the expected file"):
        fetch_set(wrong, tmp_path / "data")
    assert [p.name for p in (tmp_path / "data/benchmarks/X/HR").iterdir()] == ["a.png"]


def test_an_archive_is_unpacked_flat_and_cannot_write_elsewhere(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("X_HR/0001.png", b"one")
        content.writestr("../../evil.png", b"two")
        content.writestr("..\\worse.png", b"three")
        content.writestr("X_HR/readme.txt", b"no image")
    remote = Remote("x.zip", archive.as_uri(), unpack="zip")
    entry = ImageSet("x", "X", "train", 1, "http://x", "train/X", archives=(remote,))
    folder = fetch_set(entry, tmp_path / "data")
    found = sorted(p.relative_to(tmp_path / "data").as_posix() for p in folder.rglob("*"))
    assert found == [f"train/X/{n}" for n in ("0001.png", "evil.png", "worse.png", "x.zip")]
    archive.write_bytes(b"PK not a zip")
    broken = Remote("y.zip", archive.as_uri(), unpack="zip")
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch_set(
            ImageSet("y", "Y", "train", 1, "http://y", "train/Y", archives=(broken,)),
            tmp_path / "data",
        )


@pytest.mark.data
@pytest.mark.parametrize("name", ["set5", "bsd100", "photos_cc0"])
def test_digests_are_those_of_the_images(data_root: Path, name: str) -> None:
    entry = find_set(name)
    files = remote_files(entry)
    for file in files[:: max(1, len(files) // 10)]:
        path = data_root / entry.folder / file.path
        assert (path.stat().st_size, sha256_of(path)) == (file.size, file.sha256)
