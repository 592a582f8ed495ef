"""fetch: a file arrives whole and right, or nothing arrives."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edgekeeper.data.fetch import fetch, sha256_of
from edgekeeper.errors import DataError, InputError

CONTENT = bytes(range(256)) * 40
# SHA-256 of "abc": FIPS 180-2, appendix B.1.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
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
def server() -> Iterator[HTTPServer]:
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


def test_digest_of_known_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == ABC


def test_file_arrives_with_progress_and_without_leftovers(
    server: HTTPServer, tmp_path: Path
) -> None:
    told: list[tuple[int, int | None]] = []
    digest = hashlib.sha256(CONTENT).hexdigest()
    path = fetch(
        address(server),
        tmp_path / "deep" / "file.bin",
        size=len(CONTENT),
        sha256=digest.upper(),
        progress=lambda done, total: told.append((done, total)),
    )
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_right_file_is_not_fetched_again_and_a_wrong_one_is_kept_and_refused(
    server: HTTPServer, tmp_path: Path
) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert fetch(address(server), path, size=3, sha256=ABC) == path
    with pytest.raises(DataError, match="has 3 bytes, not 4"):
        fetch(address(server), path, size=4)
    with pytest.raises(DataError, match="SHA-256 is ba78"):
        fetch(address(server), path, sha256="0" * 64)
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
        ("/missing", None, None, "answers 404"),
    ],
)
def test_what_is_wrong_leaves_nothing(
    server: HTTPServer, tmp_path: Path, path: str, size: int | None, sha256: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fetch(address(server, path), tmp_path / "x", size=size, sha256=sha256)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server_is_left_after_the_timeout(server: HTTPServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(address(server, "/stuck"), tmp_path / "x", timeout=0.1)
    assert list(tmp_path.iterdir()) == []


def test_unreachable_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x", timeout=2)
    with pytest.raises(DataError, match="cannot be reached"):
        fetch((tmp_path / "none").as_uri(), tmp_path / "x")
    with pytest.raises(InputError, match="must begin with"):
        fetch("ftp://example.org/x", tmp_path / "x")
    (tmp_path / "source").write_bytes(b"abc")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        fetch((tmp_path / "source").as_uri(), tmp_path / "file" / "x")
    with pytest.raises(DataError, match="is not a file"):
        fetch((tmp_path / "source").as_uri(), tmp_path)


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with pytest.raises(DataError, match="cannot be written"):
        fetch((tmp_path / "source").as_uri(), tmp_path / ("x" * 300))


def test_a_file_address(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    assert (
        fetch((tmp_path / "source").as_uri(), tmp_path / "copy", sha256=ABC).read_bytes() == b"abc"
    )
