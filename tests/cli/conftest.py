"""A process of its own for each command, all forked from one that has imported what takes long."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FORKS = """
import json, os, resource, signal, sys
import edgekeeper.cli.upscale_run
from edgekeeper.cli import main

for line in sys.stdin:
    case = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm(200)  # the end of one that hangs
        for number, name in enumerate(case["streams"]):
            if name == "closed pipe":
                reading, opened = os.pipe()
                os.close(reading)
            else:
                opened = os.open(name, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY)
            os.dup2(opened, number)
        if case["most"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case["most"], case["most"]))
        sys.argv = ["edgekeeper", *case["arguments"]]
        main()
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="session")
def forks() -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", FORKS], text=True, **pipes) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def run_process(
    forks: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[int, bytes, str]]:
    """A command in its own process: its exit status and what came on stdout and stderr.

    ``stdout`` may be a file or "closed pipe", ``most`` is the size of files that the disk takes.
    """

    def run(
        *arguments: str | Path,
        stdin: str | Path = "/dev/null",
        stdout: str | None = None,
        most: int = 0,
    ) -> tuple[int, bytes, str]:
        folder = tmp_path_factory.mktemp("streams")
        out, err = folder / "out", folder / "err"
        case = {
            "arguments": list(map(str, arguments)),
            "streams": [str(stdin), stdout or str(out), str(err)],
            "most": most,
        }
        assert forks.stdin is not None and forks.stdout is not None
        forks.stdin.write(json.dumps(case) + "\n")
        forks.stdin.flush()
        status = int(forks.stdout.readline())
        return status, out.read_bytes() if stdout is None else b"", err.read_text()

    return run
