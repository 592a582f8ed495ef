"""What the page needs is in the package, and what Docker is told is there."""

import re
from pathlib import Path

from edgekeeper.cli.serve import serve_command
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
    by_name |= {f"{style}_hint" for style in by_name} | {"supported", "doubtful", "invented"}
    by_name |= {"queued", "running", "done", "failed", "cancelled"}
    buttons = set(re.findall(r'button\("(\w+)"', sources))
    assert not known - used - by_name - buttons, known - used - by_name - buttons


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
