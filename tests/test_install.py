"""What `make` asks pip for; the wheel in an empty environment; what Docker's files name."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from edgekeeper.cli import group

ROOT = Path(__file__).resolve().parents[1]
INDEX = "--index-url https://download.pytorch.org/whl/cpu"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("make"), reason="make on Linux")
@pytest.mark.parametrize(("torch", "asks"), [(None, True), ("cpu", True), ("cuda", False)])
def test_the_build_without_cuda_is_the_default_on_linux(torch: str | None, asks: bool) -> None:
    command = ["make", "-n", "-B", ".venv/.installed", *([f"TORCH={torch}"] if torch else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    (line,) = [line for line in done.stdout.splitlines() if line.endswith(" torch")]
    assert (INDEX in line) == asks
    # An index that is out of reach neither fails nor delays the install.
    plain = line.rpartition("||")[2].strip()
    assert plain == ".venv/bin/python -m pip install --quiet -c constraints.txt torch"
    assert ("--retries 0 --timeout 5" in line) == asks


def test_the_extras_have_the_names_of_what_people_want() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {"web", "fast", "video", "export", "hub", "ray", "community", "heif", "docs"}
    assert wanted <= project["optional-dependencies"].keys()
    assert all(address.startswith("https://") for address in project["urls"].values())
    page = (ROOT / "docs" / "install.md").read_text()
    assert all(f"`{name}`" in page for name in wanted)


def test_docker_copies_what_is_there_and_serves_as_the_command_does() -> None:
    lines = (ROOT / "scripts/docker/Dockerfile").read_text().splitlines()
    copied = [w for line in lines if line.startswith("COPY ") for w in line.split()[1:-1]]
    assert copied and all((ROOT / name).exists() for name in copied)
    sent = (ROOT / "scripts/docker/Dockerfile.dockerignore").read_text().split()
    assert sent == ["*", *(f"!{name}" for name in copied)]
    # All that is written while it runs lies in the volume: compose makes the rest read-only.
    kept = re.findall(r"/data\S*", " ".join(lines))
    assert {"/data", "/data/cache"} <= {text.strip('",]') for text in kept}
    (command,) = [json.loads(line[4:]) for line in lines if line.startswith("CMD ")]
    shown = CliRunner().invoke(group, [command[0], "--help"]).output
    assert all(option in shown for option in command if option.startswith("--"))
    compose = yaml.safe_load((ROOT / "scripts/docker/compose.yaml").read_text())
    service = compose["services"]["edgekeeper"]
    assert service["build"] == {"context": "../..", "dockerfile": "scripts/docker/Dockerfile"}
    (port,) = [line.split()[1] for line in lines if line.startswith("EXPOSE ")]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"] and service["read_only"]
    volumes = [volume.split(":") for volume in service["volumes"]]
    assert volumes == [["data", "/data"]] and "data" in compose["volumes"]
    assert service["environment"]["EDGEKEEPER_TOKEN"].startswith("${EDGEKEEPER_TOKEN:?")


@pytest.mark.skipif(os.name == "nt", reason="sh")
def test_a_double_click_installs_once_and_then_only_serves(tmp_path: Path) -> None:
    root, tools = tmp_path / "a folder", tmp_path / "tools"
    (root / "scripts").mkdir(parents=True)
    tools.mkdir()
    shutil.copy(ROOT / "scripts/start.command", root / "scripts")
    said = f'#!/bin/sh\necho "$(basename "$0") $*" >> "{tmp_path}/said"\n'
    for name in ("pip", "edgekeeper"):
        (tools / name).write_text(said)
    (tools / "python3").write_text(
        f'{said}case "$*" in "-m venv ek") mkdir -p ek/bin; cp "{tools}"/* ek/bin;; esac\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    for _ in range(2):
        subprocess.run([root / "scripts/start.command"], env=environment, check=True, timeout=60)
    done = (tmp_path / "said").read_text().splitlines()
    assert done[1] == "python3 -m venv ek"
    # Of the version of the constraints the build without CUDA, and its packages, are found.
    index = f"--extra-{INDEX.removeprefix('--')} " if sys.platform == "linux" else ""
    assert done[-4:] == [
        f"pip install -c constraints.txt {index}.[web,video,heif]",
        "edgekeeper serve --shortcut",
        "edgekeeper serve",
        "edgekeeper serve",
    ]
    page = (ROOT / "docs/install.md").read_text()
    docker = (ROOT / "scripts/docker/Dockerfile").read_text()
    assert index in page and index in docker and f" {INDEX}" not in page + docker
    windows = (ROOT / "scripts/start.bat").read_bytes().decode()
    assert windows.count("\n") == windows.count("\r\n")
    for text in (windows, page):
        assert "install -c constraints.txt" in text and "scripts/start.bat" in page


def fetched(address: str) -> str:
    for _ in range(200):  # until it listens
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return str(answer.read().decode())
        except ConnectionError:
            time.sleep(0.1)
        except urllib.error.URLError as error:
            assert isinstance(error.reason, ConnectionError), error
            time.sleep(0.1)
    raise AssertionError(address)


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    """As a user installs it: wheel, venv, one image enlarged, the page, and what the demo draws."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("edgekeeper-*.whl")
    run(sys.executable, "-m", "venv", "new")
    python = tmp_path / "new" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt")
    try:
        run(*pip, *INDEX.split(), "--retries", "0", "--timeout", "5", "torch")
    except AssertionError:
        run(*pip, "torch")
    run(*pip, f"{wheel}[web,figures]")
    run(
        python, "-m", "edgekeeper", "data", "generate", "-o", "made", "--count", "1", "--size", "64"
    )
    (made,) = (tmp_path / "made").glob("*.png")
    run(python, "-m", "edgekeeper", "upscale", made, "-o", "large.png", "--scale", "2")
    options = ("--no-browser", "--port", "0", "--folder", "served")
    serve = (python, "-m", "edgekeeper", "serve", *options)
    with subprocess.Popen(
        serve, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout
            address = server.stdout.readline().strip().partition("?")[0]
            for path, holds in (("", "<title>"), ("page/main.js", "import"), ("api", "openapi")):
                assert holds in fetched(address + path), path
        finally:
            server.terminate()
    photo = ROOT / "examples/test/beacon-street-sunset.png"
    code = "import sys; from pathlib import Path; from edgekeeper.cli import demo"
    run(python, "-c", f"{code}; demo._upscale(Path(sys.argv[1]), Path())", photo)
    assert (tmp_path / "large.png").stat().st_size > 1000
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
