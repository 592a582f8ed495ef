"""Several ranks give what one gives: two processes over gloo, forked, on a processor."""

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store
from edgekeeper.losses import L1, Gradient, RelativisticGAN
from edgekeeper.models import EDSR, GradientBranch, SRResNet, VGGDiscriminator
from edgekeeper.spec import spec
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.recipe import Data, Discriminator, Optim, Recipe, Stage, Term

# Biases before a normalisation have no gradient but rounding, which a small epsilon would blow up.
ADAM = Optim(learning_rate=1e-2, epsilon=0.1)
SMALL = spec(EDSR, scale=2, width=4, blocks=1)
FIDELITY = Recipe(
    "fidelity",
    SMALL,
    data=Data(patch=24, batch=3),  # of which one rank has two, the other one
    stages=(Stage("all", 4, ADAM, (Term("pixel", spec(L1)),), candidates=2),),
    ema_decay=0.9,
)
ADVERSARIAL = replace(
    FIDELITY,
    name="adversarial",
    model=spec(GradientBranch, backbone=SMALL, width=4),
    stages=(
        Stage(
            "gan",
            4,
            ADAM,
            (
                Term("pixel", spec(L1)),
                Term("gradient", spec(Gradient)),
                Term("branch", spec(L1), on="branch"),
            ),
            discriminators=(
                Discriminator(
                    "gan",
                    spec(VGGDiscriminator, size=24, width=2),  # normalises over the batch
                    spec(RelativisticGAN),
                    ADAM,
                    weight=0.1,
                ),
            ),
            discriminator_updates=2,
        ),
    ),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder, numbers = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for k in range(2):
        image = numbers.integers(0, 256, (60, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{k}.png")
    return prepare_store(sources_in(folder), folder / "store", scales=(2,))


def on_ranks(count: int, work: Callable[[int], None]) -> list[int]:
    """Call ``work(rank)`` in processes as torchrun starts them; return their exit statuses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if not child:
            os.environ |= {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            status = 1
            try:
                work(rank)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def trained(
    recipe: Recipe, store: Store, out: Path, *, ranks: int, stopping: int | None = None
) -> dict[str, torch.Tensor]:
    """The state of a run on so many ranks; rank ``stopping`` has no time."""

    def work(rank: int) -> None:
        limit = 1e-9 if rank == stopping else None
        options = RunOptions(out=out, workers=0, log_every=1, time_limit=limit)
        train(recipe, store, options=options)

    assert on_ranks(ranks, work) == [0] * ranks
    return load_file(out / "last.safetensors")


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=5e-6, msg=name)


@pytest.mark.parametrize("recipe", [FIDELITY, ADVERSARIAL], ids=lambda recipe: recipe.name)
def test_two_ranks_are_one_to_rounding_and_a_run_may_change_their_number(
    recipe: Recipe, store: Store, tmp_path: Path
) -> None:
    alone = trained(recipe, store, tmp_path / "alone", ranks=1)
    start = replace(recipe, stages=(replace(recipe.stages[0], steps=1),))
    moved = trained(start, store, tmp_path / "start", ranks=1)
    assert any(not torch.equal(alone[name], moved[name]) for name in moved)
    together = trained(recipe, store, tmp_path / "together", ranks=2)
    close(alone, together)
    log, other = ((tmp_path / run / "log.jsonl").read_text() for run in ("alone", "together"))
    assert len(log.splitlines()) == len(other.splitlines())  # one rank writes
    # One rank has to stop: both do, after the same update, and one rank alone goes on.
    stopped = trained(recipe, store, tmp_path / "stopped", ranks=2, stopping=1)
    close(moved, stopped)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    close(alone, trained(recipe, store, tmp_path / "stopped", ranks=1))


def test_what_ranks_cannot_share_is_refused(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    normalised = replace(FIDELITY, model=spec(SRResNet, scale=2, width=4, blocks=1))
    few = replace(FIDELITY, data=Data(patch=24, batch=1))
    for recipe, words in ((normalised, "normalises over the batch"), (few, "A batch of 1 cannot")):
        out = tmp_path / words[:7]

        def work(rank: int, recipe: Recipe = recipe, out: Path = out) -> None:
            train(recipe, store, options=RunOptions(out=out, workers=0))

        assert on_ranks(2, work) == [1, 1]
        assert words in capfd.readouterr().err


@pytest.mark.slow
def test_torchrun_starts_the_command(store: Store, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'model = { name = "ESPCN", arguments = { scale = 2 } }\n'
        "data = { patch = 16, batch = 2 }\n"
        '[[stages]]\nname = "all"\nsteps = 3\noptim = { learning_rate = 1e-3 }\n'
        'terms = [{ name = "pixel", loss = "L2" }]\n'
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", "-m", "edgekeeper", "train", str(recipe), "--store", str(store.path)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Finished after 3 steps") == 1
    assert (tmp_path / "out" / "model.safetensors").is_file()
