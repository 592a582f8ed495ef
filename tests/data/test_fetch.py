"""fetch: a file arrives whole and right, or nothing arrives."""

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edgekeeper.data import fetch as module
from edgekeeper.data.catalogue import Remote
from edgekeeper.data.fetch import fetch, unpack_images
from edgekeeper.errors import DataError, InputError
from edgekeeper.files import sha256_of

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()
# SHA-256 of "abc": FIPS 180-2, appendix B.1.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/drip":  # a byte at a time, for ever
            self.send_response(200)
            self.end_headers()
            while not self.server.release.wait(0.01):  # type: ignore[attr-defined]
                self.wfile.write(b"x")
                self.wfile.flush()
            return
        if self.path == "/stuck":
            self.server.release.wait(5)  # type: ignore[attr-defined]
            return
        announced = {"/short": len(CONTENT) + 7, "/long": None}.get(self.path, len(CONTENT))
        self.send_response(200)
        if announced is not None:
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, format: str, *values: object) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    monkeypatch.setattr(module, "SCHEMES", ("https", "http", "file"))
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []  # type: ignore[attr-defined]
    server.release = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def address(server: HTTPServer, path: str = "/file") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def here(address: str, size: int | None = None, sha256: str | None = None) -> Remote:
    return Remote("x", address, size, sha256)


def test_digest_of_known_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == ABC


def test_a_file_arrives_without_leftovers(server: HTTPServer, tmp_path: Path) -> None:
    remote = Remote("deep/file.bin", address(server), len(CONTENT), DIGEST)
    path = fetch(remote, tmp_path)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_right_file_is_not_fetched_again_and_a_wrong_one_is_kept_and_refused(
    server: HTTPServer, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert fetch(here(address(server), 3, ABC), tmp_path) == path
    with pytest.raises(DataError, match="has 3 bytes, not 4"):
        fetch(here(address(server), 4), tmp_path)
    with pytest.raises(DataError, match="SHA-256 is ba78"):
        fetch(here(address(server), None, "0" * 64), tmp_path)
    assert path.read_bytes() == b"abc"
    assert server.requests == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "size", "sha256", "message"),
    [
        ("/file", None, "0" * 64, "not the expected file"),
        ("/file", len(CONTENT) + 1, None, f"has {len(CONTENT)} bytes, expected"),
        ("/short", None, None, "broke off after"),
        ("/long", len(CONTENT) - 1, None, "sends more than"),
        ("/long", len(CONTENT) + 1, None, "broke off after"),
        ("/missing", None, None, r"answers 404 \('Not Found'\)"),
        ("/to?https://example.org/file", None, None, "hands on to 'https://example.org/file'"),
        ("/to?file:///etc/hostname", None, None, "answers 302"),
        ("/to?ftp://127.0.0.1/file", None, None, "hands on to 'ftp:"),
    ],
)
def test_what_is_wrong_leaves_nothing(
    server: HTTPServer, tmp_path: Path, path: str, size: int | None, sha256: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fetch(here(address(server, path), size, sha256), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_redirects_are_followed_on_the_same_host(server: HTTPServer, tmp_path: Path) -> None:
    path = fetch(here(address(server, "/to?/file"), None, DIGEST), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_file_of_unknown_size_has_a_limit_and_so_has_time(
    server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(DataError, match="more than 9 bytes"):
        patch.setattr(module, "_MOST", 9)
        fetch(here(address(server)), tmp_path)
    clock = iter(range(0, 1000, 100))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with pytest.raises(DataError, match="sends too slowly"):
        fetch(here((tmp_path / "source").as_uri()), source(tmp_path))


def test_a_server_that_drips_is_left(
    server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock, 1000))
    timer = threading.Timer(20, server.release.set)  # type: ignore[attr-defined]
    timer.start()
    try:
        with pytest.raises(DataError, match="sends too slowly"):
            fetch(here(address(server, "/drip")), tmp_path)
        assert not server.release.is_set()  # type: ignore[attr-defined]
    finally:
        timer.cancel()
    assert list(tmp_path.iterdir()) == []


def test_members_of_archives_that_cannot_be_unpacked(tmp_path: Path) -> None:
    """Encrypted, packed in an unknown way, damaged at each place: a sentence."""
    path = tmp_path / "x.zip"
    (tmp_path / "out").mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(range(256)) * 9)
    data = path.read_bytes()
    entry = data.index(b"PK\1\2")
    cases = {"encrypted": {6: 1, entry + 8: 1}, "compression": {8: 97, entry + 10: 97}}
    cases |= {f"byte {n}": {n: data[n] ^ 0x55} for n in range(len(data))}
    said = set()
    for title, changes in cases.items():
        damaged = bytearray(data)
        for place, value in changes.items():
            damaged[place] = value
        path.write_bytes(damaged)
        try:
            unpack_images(path, tmp_path / "out")
        except DataError as error:
            said.add(title)
            assert "cannot be unpacked" in str(error) or "an image of" in str(error)
            assert str(error).isprintable()
    assert {"encrypted", "compression"} < said


def source(folder: Path) -> Path:
    (folder / "source").write_bytes(b"abc")
    return folder


def test_a_silent_server_is_left_after_the_timeout(server: HTTPServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(here(address(server, "/stuck")), tmp_path, timeout=0.1)
    assert list(tmp_path.iterdir()) == []


def test_unreachable_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(here("https://127.0.0.1:9/x"), tmp_path, timeout=2)
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(here((tmp_path / "none").as_uri()), tmp_path)
    for wrong in ("http://example.org/x", "ftp://example.org/x"):
        with pytest.raises(InputError, match="must begin with https://"):
            fetch(here(wrong), tmp_path)
    there = (source(tmp_path) / "source").as_uri()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be made"):
        fetch(Remote("file/x", there), tmp_path)
    with pytest.raises(DataError, match="is not a file"):
        fetch(Remote(".", there), tmp_path)


def test_a_file_address(tmp_path: Path) -> None:
    there = (source(tmp_path) / "source").as_uri()
    assert fetch(here(there, None, ABC), tmp_path).read_bytes() == b"abc"
