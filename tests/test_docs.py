"""Every command of the pages: the command line takes it, and those that need nothing are run."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from edgekeeper.cli import group
from edgekeeper.image import Image, write_image

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

# Run, in this order, on tiny images. All others need a benchmark set, weights of others, a video, a
# server, an optional package or hours: the command line only has to take them.
RUN = """\
edgekeeper upscale photo.jpg -o large.png --scale 4
edgekeeper inspect photo.jpg large.png --overlay risk.png
edgekeeper models
edgekeeper models card balanced_x4
edgekeeper data prepare photos/ -o photos.store
edgekeeper data degrade photo.jpg -o degraded/ --mixture light
edgekeeper blend edsr_light_x4 edsr_light_x4_gv --alpha 0.5 -o between.safetensors
edgekeeper upscale photos/ -o large/ --scale 2
edgekeeper upscale photo.jpg
edgekeeper upscale a.png b.tif scans/ -o large/
edgekeeper upscale photo.jpg --scale 2.7 --format webp
"""


def defined(tree: ast.Module) -> Iterator[str]:
    """The public names that a file defines: classes, functions, constants and types."""
    for node in tree.body:
        named = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        for one in named:
            name = getattr(one, "id", getattr(one, "name", "_"))
            if isinstance(name, str) and not name.startswith("_"):
                yield name


def commands(page: Path) -> Iterator[str]:
    """The command lines in fenced blocks, continued lines joined."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s(?:\||&&|>)\s|;\s", re.sub(r"\s#.*", "", line)):
                words = re.sub(r"^(\w+=\S+ |\$ |OMP\S+ )*", "", part.strip())
                if words.startswith("edgekeeper ") and not words.endswith(" ..."):
                    yield re.sub(r"\s+", " ", words)


def find(words: list[str]) -> tuple[click.Command, str, list[str]]:
    """Return the command, its name and the rest of the line."""
    command: click.Command = group
    names = []
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command)
        found = command.get_command(context, words[0])
        if found is None:
            break
        names.append(words[0])
        command, words = found, words[1:]
    return command, " ".join(names), words


def test_every_command_of_every_page_is_one() -> None:
    wrong, count = [], 0
    for page in PAGES:
        for line in commands(page):
            words = shlex.split(line)[1:]
            command, name, rest = find(words)
            count += 1
            try:
                if not name and not rest[0].startswith("-"):
                    raise click.UsageError(f"no command {words[0]}")
                command.make_context(name, rest, parent=click.Context(group))
            except click.exceptions.Exit:
                pass  # --help, --version
            except (click.ClickException, IndexError) as error:
                wrong.append(f"{page.name}: {line}: {getattr(error, 'message', error)}")
    assert not wrong, "\n".join(wrong)
    assert count > 60


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    build = (sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(tmp_path))
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Every public name of every package but the command line's, which has its helps.
    ids = set()
    for file in (tmp_path / "reference").rglob("*.html"):
        ids |= set(re.findall(r'id="(edgekeeper\.[^"]*)"', file.read_text("utf-8")))
    package = ROOT / "src" / "edgekeeper"
    missing = []
    for file in package.rglob("*.py"):
        inside = file.relative_to(package).with_suffix("").parts
        module = ".".join(("edgekeeper", *inside)).removesuffix(".__init__")
        tree = ast.parse(file.read_text("utf-8"))
        if inside[0] not in ("cli", "__main__", "__init__"):
            missing += [n for name in defined(tree) if (n := f"{module}.{name}") not in ids]
    assert not missing and len(ids) > 900, missing
    assert "edgekeeper data prepare" in (tmp_path / "commands" / "index.html").read_text("utf-8")
    sliders = {
        page.parent.name: page.read_text("utf-8").count('<div class="slider"')
        for page in tmp_path.rglob("*.html")
    }
    assert {name: count for name, count in sliders.items() if count} == {"gallery": 3}
    if (chromium := shutil.which("chromium")) is None:
        return
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "gallery" / "index.html").as_uri())
        slider = page.locator(".slider").first
        assert slider.locator("img").evaluate_all("all => all.every((one) => one.naturalWidth)")
        whole = slider.screenshot()
        slider.locator("input").press("Home")
        assert slider.screenshot() != whole
        shown = slider.locator("img").nth(1).evaluate("image => getComputedStyle(image).clipPath")
        assert shown == "inset(0px 0px 0px 0%)"
        browser.close()
    assert all(url.startswith("file:") for url in asked), asked  # nothing of other servers


@pytest.mark.slow
def test_those_that_need_nothing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {line for page in PAGES for line in commands(page)}
    (tmp_path / "photos").mkdir()
    (tmp_path / "scans").mkdir()
    y, x = np.mgrid[:216, :240]
    pixels = np.stack([x, y, (x + y) // 2], -1).astype(np.uint8)
    names = ("photo.jpg", "photos/a.jpg", "photos/b.png", "scans/c.png", "a.png", "b.tif")
    for number, name in enumerate(names):
        image = np.roll(pixels, 5 * number, axis=1)
        side = 216 if name == "photos/b.png" else 48  # what a store takes, and what is quick
        write_image(Image(pixels=image[:side, :side].copy()), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for line in RUN.splitlines():
        assert line in shown, line
        done = CliRunner().invoke(group, shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
