"""Every command of the pages: the command line takes it, and it is run on tiny images.

Those in SKIPPED are not run, for the reasons beside them.
"""

import ast
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import click
import numpy as np
import pytest
import torch
import uvicorn
from click.testing import CliRunner, Result

from edgekeeper.cli import group
from edgekeeper.data import pairs
from edgekeeper.data.catalogue import find_set
from edgekeeper.image import Image, write_image
from edgekeeper.metrics import canary
from edgekeeper.models import SFTGAN, SPSR, SRModel
from edgekeeper.pretrained import zoo
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.spec import Spec, spec

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

# What is not run, by how a command begins or what it holds, and why; the command line still has to
# take it. All others run in a folder of tiny images, their benchmark sets among them.
SKIPPED = {
    "data get ": "downloads",
    "models get ": "downloads",
    "hf://": "the hub",
    " s3://": "a bucket",
    "realesr-general": "a network that is downloaded",
    "spsrp_light": "VGG-19, which is downloaded",
    "aesop_trained_light": "VGG-19, which is downloaded",
    "reproduce spsr-table2 --store": "VGG-19, which is downloaded",
    "RRDB_PSNR_x4.pth": "hours: a published network, and one of the papers' sizes trained from it",
    "--engine ray": "starts a cluster of processes; tests/inference/test_bulk.py has small ones",
    "--to openvino": "an extra; tests/inference/test_export.py has it where it is installed",
    "cost --on set5": "minutes: it measures every network that ships",
}
# What makes a command short, by its words: given after them, as the last of an option counts.
SHORT = {
    r"serve": "--no-browser --port 0 --folder served",
    r"study serve": "--port 0",
    r"train|reproduce (gv-|structure-|speedrun|.* --store)": "--time-limit 0.001",
    r"train .*_distilled": "--set data.patch=128",
    r"data generate": "--count 2 --size 224",
    r"data prepare .*--long-side": "--long-side 216 --min-side 100",
    r"data prepare .*--shrink": "--shrink 2 --min-side 100",
    r".*--fit": "--fit 300x200",
}


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
    build = (sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path))
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=600)
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


def picture(path: Path, *, side: int = 48, shift: int = 0) -> None:
    y, x = np.mgrid[:side, :side] * 5
    pixels = np.stack([x, y, (x + y) // 2], -1) + 40 * ((x // 60 + y // 45 + shift) % 2)[..., None]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(Image(pixels=(pixels % 256).astype(np.uint8)), path)


def clip(path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for shade in (0, 90, 180):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), shade, np.uint8), "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def network(path: Path, what: Spec[SRModel]) -> None:
    torch.manual_seed(0)
    save_model(path, what.build(), spec=what, card={})


def answers(page: Path) -> None:
    """Two people who always take the left one."""
    found = re.search(r"const STUDY = (.*);\n", page.read_text("utf-8"))
    assert found
    for person in ("participant_001", "participant_002"):
        lines = [
            json.dumps({"participant": person, **trial, "choice": "left"}) + "\n"
            for trial in json.loads(found[1])["trials"]
        ]
        file = page.parent / "study_answers" / f"{person}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(lines))


def run(line: str) -> Result:
    """Run a command here, what it writes to taken away before."""
    for option in ("-o", "--out", "--json", "--crops", "--overlay", "--figure"):
        if (found := re.search(rf" {option} (\S+)", line)) and "--force" not in line:
            shutil.rmtree(found[1], ignore_errors=True)
            Path(found[1]).is_file() and Path(found[1]).unlink()
    for made in Path().glob("photo_x*"):  # where no target is given
        made.unlink()
    short = [more for words, more in SHORT.items() if re.match(f"edgekeeper ({words})", line)]
    words = shlex.split(" ".join([line, *short]))[1:]
    every = [
        w
        for word in words
        for w in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    return CliRunner().invoke(group, every, input=Path("photo.jpg").read_bytes())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages name, as small as they may be."""
    folder = tmp_path_factory.mktemp("pages")
    files = (
        "photo.jpg photo.png lake.jpg lake.png a.png b.tif scans/c.png photos/a.jpg photos/b.png"
    )
    for number, name in enumerate([*files.split(), "images/train/BSDS500_train/a.png"]):
        picture(
            folder / name, shift=number, side=216 if "/" in name and "scans" not in name else 48
        )
    for name in ("photo_large.png", "large.png"):
        picture(folder / name, side=192)
    for name, part in (("Set5", ""), ("Set14", ""), ("BSD100", "HR")):
        for number, image in enumerate(find_set(name.lower()).names or ("x", "y")):
            picture(
                folder / "images/benchmarks" / name / part / f"{image}.png", side=96, shift=number
            )
            for one in (f"theirs/{name}", f"RCAN/{name}_x4"):
                picture(folder / "results" / one / f"{image}.png", side=96, shift=number + 1)
    for name in ("lake_map.png", "maps/a.png", "maps/b.png"):
        side = 216 if "/" in name else 48
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(Image(pixels=np.full((side, side, 1), 3, np.uint8)), folder / name)
    for name in ("clip.mp4", "clip.mov"):
        clip(folder / name)
    network(folder / "network.safetensors", spec(SPSR, width=4, blocks=3, growth=2, taps=(1, 3)))
    network(folder / "sftgan.pth", spec(SFTGAN, scale=2, width=8, blocks=1, condition=4, hidden=6))
    for name in ("mine", "balanced_x4_gpu"):
        (folder / "runs" / name).mkdir(parents=True)
        shutil.copy(zoo.find("balanced_x4"), folder / "runs" / name / "model.safetensors")
    shutil.copy(zoo.find("balanced_x4"), folder / "mine.safetensors")
    for file in (ROOT / "results").glob("*.json"):
        shutil.copy(file, folder / "results")
    shutil.copy(ROOT / "results/cost_x4.json", folder / "cost.json")
    (folder / "docs").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert not run("edgekeeper data prepare photos/ -o photos.store").exit_code
        toml = run("edgekeeper recipes show espcn_x2 --toml").output
        (folder / "mine.toml").write_text(toml, encoding="utf-8")
    return folder


@pytest.mark.docs
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(
    page: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [x for x in commands(page) if not any(words in x for words in SKIPPED)]
    if not lines:
        return
    shutil.copytree(workspace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKEEPER_DATA", "images")
    monkeypatch.setattr(canary, "CANARIES", {})  # the sets are not what they are called
    bsd100 = replace(find_set("bsd100"), count=2)
    monkeypatch.setattr(
        pairs, "find_set", lambda name: bsd100 if name == "bsd100" else find_set(name)
    )
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    for line in dict.fromkeys(lines):
        done = run(line)
        assert not done.exit_code, f"{line}\n{done.output}\n{done.exception!r}"
        if " study make " in line:
            answers(tmp_path / "study.html")


def test_what_builds_the_site_hears_of_broken_links() -> None:
    builds = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text("utf-8"))
    assert builds and all("--strict" in line for line in builds)
    assert not [line for line in builds if re.search(r" -q| --quiet", line)]  # then none counts


def test_what_is_not_run_is_there() -> None:
    shown = {line for page in PAGES for line in commands(page)}
    assert all(any(words in line for line in shown) for words in SKIPPED)


def test_two_images_alone_are_a_slider_of_the_site() -> None:
    pytest.importorskip("mkdocs")
    hooks = runpy.run_path(str(ROOT / "scripts" / "docs_hooks.py"))
    made = hooks["on_page_content"]('<p><img src="a">\n<img src="b"></p>')
    assert all(part in made for part in ('class="slider"', "clip-path", "<script>", ".oninput"))
    assert hooks["on_page_content"]("<p>text</p>") == "<p>text</p>"
