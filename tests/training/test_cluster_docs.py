"""The examples for clusters: their grammar, and that the options they give exist."""

import re
import subprocess
from pathlib import Path

import yaml

from edgekeeper.cli.train import train_command
from edgekeeper.recipes import RECIPES

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    assert len(found) == 1
    return str(found[0])


def check_command(words: list[str]) -> None:
    """What stands behind ``edgekeeper train`` are a recipe and options that exist."""
    at = words.index("train")
    assert words[at - 2 : at] == ["-m", "edgekeeper"] and words[at + 1] in RECIPES
    given = {word.partition("=")[0] for word in words[at + 2 :] if word.startswith("--")}
    assert given and given <= {name for option in train_command.params for name in option.opts}


def test_the_script_for_slurm_is_bash_and_its_options_exist() -> None:
    script = block("bash")
    done = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    command = script.replace("\\\n", " ").split("srun torchrun ")[1].splitlines()[0]
    check_command(command.split())


def test_the_job_for_kubernetes_fits_together() -> None:
    service, job = yaml.safe_load_all(block("yaml"))
    assert (service["kind"], service["apiVersion"]) == ("Service", "v1")
    assert (job["kind"], job["apiVersion"]) == ("Job", "batch/v1")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    name = job["metadata"]["name"]
    assert spec["completionMode"] == "Indexed"  # gives the pods the names NAME-0, NAME-1, ...
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    words = container["command"]
    assert f"--nnodes={spec['completions']}" in words and spec["parallelism"] == spec["completions"]
    assert f"--rdzv-endpoint={name}-0.{pod['subdomain']}:29500" in words
    assert f"--nproc-per-node={container['resources']['limits']['nvidia.com/gpu']}" in words
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    check_command(words)
