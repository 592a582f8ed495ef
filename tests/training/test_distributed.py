"""Several ranks give what one gives: processes over gloo, forked, on a processor."""

import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # once here, not by the first step of each forked rank
from PIL import Image
from safetensors.torch import load_file

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.remote import open_store
from edgekeeper.data.store import Batch, Store
from edgekeeper.losses import L1, Gradient, RelativisticGAN
from edgekeeper.models import EDSR, GradientBranch, SRResNet, VGGDiscriminator
from edgekeeper.spec import spec
from edgekeeper.training.logging import RunReport
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.recipe import Data, Discriminator, Optim, Recipe, Stage, Term
from edgekeeper.training.state import State

# Biases before a normalisation have no gradient but rounding, which a small epsilon would blow up.
ADAM = Optim(learning_rate=1e-2, epsilon=0.1)
SMALL = spec(EDSR, scale=2, width=4, blocks=1)
FIDELITY = Recipe(
    "fidelity",
    SMALL,
    data=Data(patch=24, batch=5),  # of which two ranks have 3 and 2, three ranks 2, 2 and 1
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
NORMALISED = replace(
    FIDELITY,
    name="normalised",
    model=spec(SRResNet, scale=2, width=4, blocks=1),
    stages=(replace(FIDELITY.stages[0], optim=replace(ADAM, epsilon=1.0)),),
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
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(200)  # the end of one that hangs
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
    recipe: Recipe,
    store: Store,
    out: Path,
    *,
    ranks: int,
    accumulate: int = 1,
    last_rank_gets: dict[int, signal.Signals] | None = None,
    statuses: tuple[int, ...] | None = None,
) -> dict[str, torch.Tensor]:
    """The state of a run on so many ranks; the last one gets signals after some updates."""

    def work(rank: int) -> None:
        after = RunReport.after_update

        def hit(self: RunReport, state: State, values: Mapping[str, torch.Tensor]) -> None:
            after(self, state, values)
            if last_rank_gets and rank == ranks - 1 and state.step in last_rank_gets:
                os.kill(os.getpid(), last_rank_gets[state.step])

        RunReport.after_update = hit  # type: ignore[method-assign]  # in this fork alone
        options = RunOptions(
            out=out, workers=0, log_every=1, accumulate=accumulate, checkpoint_every=2
        )
        train(recipe, store, options=options)

    assert on_ranks(ranks, work) == list(statuses or [0] * ranks)
    return load_file(out / "last.safetensors")


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=5e-6, msg=name)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("recipe", [FIDELITY, ADVERSARIAL], ids=lambda recipe: recipe.name)
def test_ranks_and_parts_are_one_to_rounding_and_a_run_may_change_their_number(
    recipe: Recipe, store: Store, tmp_path: Path
) -> None:
    alone = trained(recipe, store, tmp_path / "alone", ranks=1)
    start = replace(recipe, stages=(replace(recipe.stages[0], steps=1),))
    moved = trained(start, store, tmp_path / "start", ranks=1)
    assert any(not torch.equal(alone[name], moved[name]) for name in moved)
    close(alone, trained(recipe, store, tmp_path / "parts", ranks=1, accumulate=3))
    close(alone, trained(recipe, store, tmp_path / "both", ranks=2, accumulate=2))
    close(alone, trained(recipe, store, tmp_path / "three", ranks=3))
    log, other = ((tmp_path / run / "log.jsonl").read_text() for run in ("alone", "three"))
    assert len(log.splitlines()) == len(other.splitlines())  # one rank writes
    # One rank has to stop: all do, after the same update, and another number goes on.
    stop = {1: signal.SIGTERM}
    stopped = trained(recipe, store, tmp_path / "stopped", ranks=3, last_rank_gets=stop)
    close(moved, stopped)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    close(alone, trained(recipe, store, tmp_path / "stopped", ranks=2))


def test_ranks_that_each_read_their_part_of_a_remote_store_give_the_same_bits(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = open_store(f"file://{store.path}", on="remote")
    parts = Store.batch

    def batch(self: Store, **asked: Any) -> Batch:
        found = parts(self, **asked)  # five patches and twice as many candidates: of 10 three or 4
        assert len(found.hr) == (10 if not self.streamed else [4, 3, 3][int(os.environ["RANK"])])
        return found

    monkeypatch.setattr(Store, "batch", batch)
    for data in (FIDELITY.data, replace(FIDELITY.data, crop="centre")):
        recipe, out = replace(FIDELITY, data=data), tmp_path / data.crop
        copied = trained(recipe, store, out / "copied", ranks=3)
        equal(copied, trained(recipe, streamed, out / "streamed", ranks=3))


def test_generators_normalise_over_the_batch_of_all_ranks(store: Store, tmp_path: Path) -> None:
    alone = trained(NORMALISED, store, tmp_path / "alone", ranks=1)
    assert any("running_var" in name for name in alone)
    for ranks in (2, 3):
        close(alone, trained(NORMALISED, store, tmp_path / f"{ranks}", ranks=ranks))


def test_a_killed_rank_ends_the_others_and_the_run_goes_on_in_the_same_bits(
    store: Store, tmp_path: Path
) -> None:
    whole = trained(ADVERSARIAL, store, tmp_path / "whole", ranks=2)
    out = tmp_path / "killed"  # after update 3; the last state is that of update 2
    kill, ends = {3: signal.SIGKILL}, (1, -signal.SIGKILL)
    trained(ADVERSARIAL, store, out, ranks=2, last_rank_gets=kill, statuses=ends)
    assert not (out / "model.safetensors").exists()
    equal(whole, trained(ADVERSARIAL, store, out, ranks=2))


def test_what_ranks_cannot_share_is_refused(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = replace(FIDELITY, data=Data(patch=24, batch=1))
    for recipe, parts, words in (
        (NORMALISED, 2, "normalises over the batch"),
        (few, 1, "A batch of 1 cannot"),
    ):
        out = tmp_path / words[:7]

        def work(rank: int, recipe: Recipe = recipe, out: Path = out, parts: int = parts) -> None:
            train(recipe, store, options=RunOptions(out=out, workers=0, accumulate=parts))

        assert on_ranks(2, work) == [1, 1]
        assert words in capfd.readouterr().err


# A loss that in update 7 of rank 1 kills its process, or gives torchrun a Ctrl-C, as a file says.
RECIPE = """
import os, pathlib, signal, time
from edgekeeper.losses import L2
from edgekeeper.models import ESPCN
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term

class Deadly(L2):
    updates = 0
    def forward(self, sr, hr):
        Deadly.updates += 1
        file = pathlib.Path(os.environ["FAULT"])
        if os.environ["RANK"] == "1" and Deadly.updates == 7 and file.exists():
            stops = file.read_text() == "stopped"
            file.unlink()
            one, number = (os.getppid(), "SIGINT") if stops else (os.getpid(), "SIGKILL")
            os.kill(one, getattr(signal, number))
            time.sleep(3)  # torchrun hands it on to both
        return super().forward(sr, hr)

recipe = Recipe(
    "deadly", spec(ESPCN, scale=2), data=Data(patch=16, batch=2),
    stages=(Stage("all", 10, Optim(learning_rate=1e-3), (Term("pixel", spec(Deadly)),)),),
)
"""


@pytest.mark.slow
def test_torchrun_starts_anew_after_a_kill_and_stops_all_ranks_at_one_update(
    store: Store, tmp_path: Path
) -> None:
    recipe, fault = tmp_path / "mine.py", tmp_path / "fault"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", "--max-restarts", "1", "-m", "edgekeeper", "train", str(recipe)]
    command += ["--store", str(store.path), "--checkpoint-every", "2"]

    def run(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--out", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={**os.environ, "FAULT": str(fault), "OMP_NUM_THREADS": "1"},
        )

    for name in ("straight", "killed", "stopped"):
        if name != "straight":
            fault.write_text(name)
        done = run(name)
        if name == "killed":
            assert "SIGKILL" in done.stderr or "-9" in done.stderr
        elif name == "stopped":
            assert done.returncode != 0
            assert done.stdout.count("Stopped (on request) after 7 of 10 steps") == 1, done.stdout
            assert not (tmp_path / name / "model.safetensors").exists()
            done = run(name)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Finished after 10 steps") == 1
        assert not fault.exists()
    straight, *others = (
        load_file(tmp_path / name / "last.safetensors")
        for name in ("straight", "killed", "stopped")
    )
    for other in others:
        equal(straight, other)
