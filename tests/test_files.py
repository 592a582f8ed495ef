"""Files whole or not at all, through links, into devices and pipes, whatever the name's length."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgekeeper.errors import DataError, InputError
from edgekeeper.files import (
    check_target,
    deliver,
    draft_of,
    is_full,
    is_standard_output,
    make_folder,
    new_file,
    open_plain,
    read_bytes,
    read_text,
    remove_leftovers,
    sha256_of,
    staging,
    write_bytes,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWhole:
    def test_a_file_appears_when_it_is_complete(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        with new_file(path) as draft:
            assert draft.name == "a.json"  # libraries tell the format by it
            draft.write_text("new", encoding="utf-8")
            assert not path.exists()
        assert path.read_text(encoding="utf-8") == "new"
        assert names(tmp_path) == ["a.json"]

    @pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OSError(28, "No space")])
    def test_a_failure_leaves_the_old_file(self, tmp_path: Path, failure: BaseException) -> None:
        path = tmp_path / "a"
        path.write_text("old", encoding="utf-8")
        expected = DataError if isinstance(failure, OSError) else failure
        with pytest.raises(expected), new_file(path, error=DataError) as draft:  # type: ignore[arg-type]
            draft.write_text("half", encoding="utf-8")
            raise failure
        assert path.read_text(encoding="utf-8") == "old"
        assert names(tmp_path) == ["a"]

    def test_files_have_the_rights_that_the_umask_leaves(self, tmp_path: Path) -> None:
        with new_file(tmp_path / "a") as draft:
            draft.unlink()
            draft.touch(mode=0o600)  # as a library does that replaces the file
        (tmp_path / "b").touch()
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode

    def test_names_may_be_as_long_as_the_file_system_has_them(self, tmp_path: Path) -> None:
        for name in ("n" * 255, "é" * 127, "n" * 251 + ".png"):
            write_text(tmp_path / name, name)
            assert (tmp_path / name).read_text(encoding="utf-8") == name
        with pytest.raises(InputError, match="cannot be written: file name too long"):
            write_text(tmp_path / ("n" * 256), "")

    def test_what_is_in_the_way_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x", encoding="utf-8")
        (tmp_path / "loop").symlink_to("loop")
        for path, why in (
            (tmp_path, "it is a folder"),
            (tmp_path / "none" / "a", "there is no folder"),
            (tmp_path / "file" / "a", "there is no folder"),
            (tmp_path / "loop", "too many levels"),
        ):
            with pytest.raises(DataError, match=f"cannot be written: {why}"):
                write_text(path, "", error=DataError)
        with pytest.raises(DataError, match="cannot be made"):
            make_folder(tmp_path / "file" / "folder", error=DataError)

    def test_a_file_that_appeared_meanwhile_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        with draft_of(path, overwrite="refuse") as draft:
            path.write_text("precious", encoding="utf-8")
            with pytest.raises(InputError, match="exists already"):
                deliver(draft, path, overwrite="refuse")
        assert path.read_text(encoding="utf-8") == "precious"


class TestWhatIsNoPlainFile:
    def test_links_are_followed_and_stay(self, tmp_path: Path) -> None:
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        (tmp_path / "link").symlink_to("second")
        (tmp_path / "second").symlink_to(Path("elsewhere", "file"))
        check_target(tmp_path / "link")  # a name that is free
        write_text(tmp_path / "link", "one")
        assert (folder / "file").read_text(encoding="utf-8") == "one"
        with pytest.raises(InputError, match="exists already"):
            check_target(tmp_path / "link")
        assert not is_standard_output(tmp_path / "link")
        write_text(tmp_path / "link", "two")
        assert (tmp_path / "link").is_symlink()
        assert not (folder / "file").is_symlink()
        assert (folder / "file").read_text(encoding="utf-8") == "two"
        assert names(tmp_path) == ["elsewhere", "link", "second"]

    def test_a_device_stays_one(self, tmp_path: Path) -> None:
        node = tmp_path / "null"
        try:
            os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            node.write_bytes(b"")
        except OSError:
            node = Path(os.devnull)
        write_bytes(node, b"gone")
        assert stat.S_ISCHR(node.stat().st_mode)

    def test_a_fifo_hands_over_what_is_written(self, tmp_path: Path) -> None:
        fifo, read = tmp_path / "fifo", list[bytes]()
        os.mkfifo(fifo)
        reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
        reader.start()
        write_bytes(fifo, b"x" * 200_000)  # more than a pipe holds
        reader.join()
        assert read == [b"x" * 200_000]
        assert stat.S_ISFIFO(fifo.stat().st_mode)

    def test_sockets_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import socket

        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
            with pytest.raises(InputError, match="a disk or a socket"):
                write_text("s", "")

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
    @pytest.mark.parametrize("way", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
    def test_standard_output_is_written_to_where_it_stands(self, tmp_path: Path, way: str) -> None:
        (tmp_path / "link").symlink_to("/proc/self/fd/1")
        assert is_standard_output(tmp_path / way)
        program = (
            "from edgekeeper.files import write_text; print('before');"
            f"write_text({way!r}, 'text\\n'); print('after')"
        )
        command = [sys.executable, "-c", program]
        options: dict[str, Any] = {"cwd": tmp_path, "check": True, "timeout": 200}
        piped = subprocess.run(command, capture_output=True, text=True, **options)
        assert piped.stdout == "before\ntext\nafter\n"
        log = tmp_path / "log"
        log.write_text("old\n", encoding="utf-8")
        with log.open("a") as file:
            subprocess.run(command, stdout=file, **options)
        assert log.read_text(encoding="utf-8") == "old\nbefore\ntext\nafter\n"


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    for number, full in ((28, True), (13, False)):
        with pytest.raises(DataError) as raised, new_file(tmp_path / "a", error=DataError):
            raise OSError(number, "why")
        assert is_full(raised.value) == full


class TestLeftovers:
    def test_only_what_a_kill_left_is_removed(self, tmp_path: Path) -> None:
        program = (
            "import os, signal; from pathlib import Path; from edgekeeper.files import staging\n"
            "with staging(Path('.')) as folder:\n"
            "    (folder / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, check=False, timeout=200
        )
        assert done.returncode < 0
        assert len(names(tmp_path)) == 1
        (tmp_path / ".edgekeeper-mine").mkdir()
        with staging(tmp_path) as held:  # the first in this process
            assert names(tmp_path) == sorted([".edgekeeper-mine", held.name])
            remove_leftovers(tmp_path)
            assert held.is_dir()
        assert names(tmp_path) == [".edgekeeper-mine"]


@contextmanager
def no_files(folder: Path) -> Iterator[list[Path]]:
    """What is no file although it has a name: a pipe, a socket, a device, a folder."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(folder / "socket"))
        yield [*(folder / name for name in ("pipe", "folder", "link", "socket")), Path("/dev/zero")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such things")
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    with no_files(tmp_path) as paths:
        for path in paths:
            for read in (open_plain, read_bytes, read_text):
                with pytest.raises(OSError, match=r"(?i)is a (pipe, a socket|directory)"):
                    read(path)
            with pytest.raises(DataError, match=f"'{path}' cannot be read: (it )?is a "):
                sha256_of(path, error=DataError)


def test_text_is_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("ü".encode())
    assert read_text(path) == "ü"
    path.write_bytes(b"\xff")
    with pytest.raises(OSError, match="no text in UTF-8"):
        read_text(path)
