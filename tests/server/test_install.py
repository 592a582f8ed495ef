"""What the page needs is in the package, and what Docker is told is there."""

import ast
import configparser
import json
import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import edgekeeper
from edgekeeper.cli.serve import listen_on, serve_command, write_shortcut
from edgekeeper.server.app import PAGE

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_asks_only_for_what_is_there() -> None:
    named = set(re.findall(r'"/page/([\w.]+)"', (PAGE / "index.html").read_text(encoding="utf-8")))
    for script in PAGE.glob("*.js"):
        named |= set(re.findall(r'from "\./([\w.]+)"', script.read_text(encoding="utf-8")))
    assert named >= {"main.js", "page.css", "icon.svg", "viewer.js"}
    assert not [name for name in named if not (PAGE / name).is_file()]


def test_every_text_is_there_in_both_languages_and_used() -> None:
    texts = (PAGE / "texts.js").read_text(encoding="utf-8")
    table = texts[texts.index("const TEXTS") : texts.index("\n};")]
    known = set(re.findall(r"^  (\w+): \[\"", table, flags=re.MULTILINE))
    assert len(re.findall(r"^  \w+: \[\".*\", \".*\"\],$", table, flags=re.MULTILINE)) == len(known)
    sources = "".join(p.read_text(encoding="utf-8") for p in PAGE.iterdir() if p.suffix != ".json")
    used = set(re.findall(r'\btext\("(\w+)"', sources)) | set(
        re.findall(r'data-text="(\w+)"', sources)
    )
    assert used <= known, used - known
    by_name = {
        "auto",
        "faithful",
        "sharp",
        "texture",
        "restore",
        "becomes",
        "too_large",
        "screen",
        "print",
    }
    by_name |= {f"{style}_hint" for style in by_name} | {"supported", "undecided"}
    by_name |= {"doubtful", "invented"}
    by_name |= {"restore_little", "restore_half", "restore_much"}
    by_name |= {"queued", "running", "done", "failed", "cancelled"}
    buttons = set(re.findall(r'button\("(\w+)"', sources))
    assert not known - used - by_name - buttons, known - used - by_name - buttons


FOR_PROGRAMS = (
    *("'guard' is", "'image' is", "'strength' is", "Another server", "Requests of other pages"),
    *("Say a style", "Say once", "The folder '", "The options are", "The request is too long"),
    *("There is no option", "There is no result", "There is no such tile", "This server does not"),
)


def _sentences(path: Path) -> set[str]:
    """What a file gives to exceptions and adds to notes, each with {} for what is put in."""

    def template(node: ast.expr) -> str:
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            return "".join(map(str, parts))
        return node.value if isinstance(node, ast.Constant) and type(node.value) is str else ""

    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called.endswith(("Error", "Exception", "_refused", "_damaged", "append")):
                found |= {template(given) for given in node.args}
    return {text for text in found if " " in text.strip()}


def test_what_the_server_says_is_there_in_german_and_in_the_words_of_the_page() -> None:
    texts = (PAGE / "texts.js").read_text(encoding="utf-8")
    table = re.findall(r'^  (\[".*"\]),$', texts, flags=re.MULTILINE)
    said = [json.loads(row) for row in table]
    assert len(said) > 80 and len({sentence for sentence, *_ in said}) == len(said)
    for sentence, *shown in said:
        places = set(re.findall(r"{\d}", sentence))
        assert all(set(re.findall(r"{\d}", words)) <= places for words in shown), sentence
        assert sentence not in shown and len(shown) in (1, 2), sentence
        # The page has neither a command line nor Python, and its options have other names.
        english = shown[1] if len(shown) == 2 else sentence
        for words in (english, shown[0]):
            assert not re.search(r"--\w|in Python|`|TMPDIR|style '", words), words
    plain = {re.sub(r"{\d}", "{}", sentence).replace("'", "") for sentence, *_ in said}
    package = Path(edgekeeper.__file__).parent
    library = ("image/read.py", "video/source.py", "video/segments.py", "video/joining.py")
    pages = [p for p in (package / "server").glob("*.py") if p.stem != "study"]  # with its own

    def missing(files: list[Path]) -> set[str]:
        found = {text for file in files for text in _sentences(file)}
        return {text for text in found if text.replace("'", "") not in plain} - {"{}"}

    told = missing(pages)  # to programs, to other pages, or to who starts the server
    assert all(text.startswith(FOR_PROGRAMS) for text in told), told
    of_library = missing([package / name for name in library])
    assert len(of_library) <= 5, of_library  # of 40; what is missing is shown in English


def test_docker_is_told_what_is_there() -> None:
    docker = (ROOT / "scripts" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.*) \S+$", docker, flags=re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    command = re.search(r"^CMD \[(.*)\]$", docker, flags=re.MULTILINE)
    assert command
    options = {
        name for option in serve_command.params for name in (*option.opts, *option.secondary_opts)
    }
    assert set(re.findall(r'"(--[\w-]+)"', command[1])) <= options


def test_a_browser_that_is_opened_now_waits_for_the_server() -> None:
    with listen_on("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        with socket.create_connection(address, timeout=5) as browser:
            assert browser.getpeername() == address


def test_the_icon_starts_the_page_and_clicked_again_opens_the_same(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    beside = command("serve", "--shortcut", "--port", "9000")
    assert beside.status == 2 and "--shortcut stands alone" in beside.err
    ran = command("serve", "--shortcut")
    icon = tmp_path / "data/applications/edgekeeper.desktop"
    assert ran.status == 0 and str(icon) in ran.out
    written = configparser.RawConfigParser()
    written.optionxform = str  # type: ignore[assignment,method-assign]
    written.read(icon)
    entry = written["Desktop Entry"]
    assert entry["Type"] == "Application" and Path(entry["Icon"]).is_file()
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    line = [*shlex.split(entry["Exec"]), "--folder", str(tmp_path / "kept"), "--port", port]
    environment = {**os.environ, "BROWSER": f"{browser} %s"}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout
            address = started.stdout.readline().strip()
            while not opened.exists():
                time.sleep(0.05)
            # What the browser asks as soon as it is opened is answered, not refused.
            assert "<title>edgekeeper" in httpx.get(address, timeout=60).text
            again = subprocess.run(line, env=environment, timeout=60, check=True)
            assert again.returncode == 0 and opened.read_text().split() == [address] * 2
        finally:
            started.terminate()


def test_the_icon_of_each_system_names_the_program_whatever_its_folder(tmp_path: Path) -> None:
    odd = tmp_path / '100% of $HOME `x` "ä" \\ y'
    odd.mkdir()
    python = odd / "python"
    python.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/given"\n')
    python.chmod(0o755)
    mac = write_shortcut(tmp_path, system="darwin", python=str(python))
    subprocess.run([mac], check=True, timeout=60)
    assert (tmp_path / "given").read_text() == "-m edgekeeper serve\n"
    linux = write_shortcut(tmp_path, system="linux", python=str(python))
    (line,) = [one for one in linux.read_text().splitlines() if one.startswith("Exec=")]
    value = line.removeprefix("Exec=").replace("\\\\", "\\").replace("%%", "%")
    # Within its quotes sh takes away the same backslashes as the desktop's rule.
    echoed = subprocess.run(
        ["sh", "-c", f"printf %s {value.partition(' -m')[0]}"], capture_output=True, timeout=60
    )
    assert echoed.stdout.decode() == str(python)
    windows = write_shortcut(tmp_path, system="win32", python=r"C:\100%\ä\python.exe")
    said = windows.read_bytes().decode().split("\r\n")
    assert said[1:3] == ["chcp 65001 >nul", r'"C:\100%%\ä\python.exe" -m edgekeeper serve']
