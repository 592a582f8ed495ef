"""Tests of the training loop on tiny networks and a tiny store of synthetic images.

Run as a program (``python test_train.py FOLDER``) the file is the process that is killed in
``TestRealProcesses``.
"""

import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

import edgekeeper
import edgekeeper.training.loop
from edgekeeper.data.degradations import PHOTO, degrade
from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Batch, Store
from edgekeeper.errors import CheckpointError, DataError, EdgekeeperError, InputError, TrainingError
from edgekeeper.inference.network import infer
from edgekeeper.losses import L1, GradientVariance
from edgekeeper.models import EDSR, ESPCN, GradientBranch
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.pretrained import checkpoint
from edgekeeper.pretrained.checkpoint import load_model, read_tensors, write_tensors
from edgekeeper.pretrained.zoo import describe
from edgekeeper.spec import spec, to_plain
from edgekeeper.training.batches import degraded
from edgekeeper.training.loop import Outcome, RunOptions, train
from edgekeeper.training.process import running
from edgekeeper.training.progress import StopSignal
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Start, Term, Validation

# ---- what is trained, on what -----------------------------------------------------------------


def make_store(folder: Path, *, seed: int = 0) -> Store:
    """A store of three small images: waves and noise in colour."""
    numbers = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    for k, (height, width) in enumerate([(30, 36), (24, 24), (36, 24)]):
        y, x = np.mgrid[0:height, 0:width, 0:1][:2]
        waves = 128 + 80 * np.sin(x / (3 + k) + y / 5 + np.arange(3))
        noisy = (waves + numbers.normal(0, 15, waves.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / f"{k}.png")
    sources = sources_in(folder / "images", licence="CC0-1.0")
    return prepare_store(sources, folder / "store", scales=(2, 3))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


Straight = Callable[..., Path]


@pytest.fixture(scope="module")
def straight(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """The folder of the uninterrupted run of a recipe; each is run once."""
    done: dict[str, Path] = {}

    def folder(recipe: Recipe, **changes: Any) -> Path:
        key = f"{recipe} {changes}"
        if key not in done:
            done[key] = tmp_path_factory.mktemp("straight")
            run(recipe, store, done[key], **changes)
        return done[key]

    return folder


PIXEL = Term("pixel", spec(L1))
GV = Term("gv", spec(GradientVariance, patch=8), weight=0.5, ramp=3)
FIRST, SECOND = 3, 4
STEPS = FIRST + SECOND


def small(
    *,
    kind: Literal["adam", "sgd", "soap"] = "adam",
    second_terms: tuple[Term, ...] = (PIXEL, GV),
    **changes: Any,
) -> Recipe:
    """Two stages, of three and four updates; everything that can have a state has one."""
    learning_rate = 1e-2 if kind == "sgd" else 1e-3
    first = Optim(
        learning_rate=learning_rate,
        kind=kind,
        weight_decay=1e-4,
        warmup=2,
        clip="norm",
        clip_limit=0.1,
    )
    second = Optim(
        learning_rate=learning_rate,
        kind=kind,
        schedule="cosine",
        clip="value_over_rate",
        clip_limit=1e-3,
    )
    recipe = Recipe(
        name="small",
        model=spec(EDSR, scale=2, width=4, blocks=1),
        data=Data(patch=16, batch=2),
        stages=(
            Stage("first", FIRST, first, (PIXEL,)),
            Stage("second", SECOND, second, second_terms),
        ),
        ema_decay=0.9,
        seed=5,
    )
    return dataclasses.replace(recipe, **changes)


def one_stage(*terms: Term, steps: int, optim: Optim | None = None, **changes: Any) -> Recipe:
    stage = Stage("only", steps, optim or Optim(learning_rate=1e-3), terms)
    return small(stages=(stage,), **changes)


def options(out: Path, **changes: Any) -> RunOptions:
    base = RunOptions(out=out, workers=0, log_every=1, checkpoint_every=1000)
    return dataclasses.replace(base, **changes)


def run(recipe: Recipe, store: Store, out: Path, **changes: Any) -> Outcome:
    return train(recipe, store, options=options(out, **changes))


# ---- looking into a run from outside ----------------------------------------------------------


class StoppingStore:
    """A store that asks for a stop, as Ctrl-C does, just before update ``at`` is computed.

    It calls what the run has installed, so that no signal can reach the process of the tests;
    ``TestRealProcesses`` and the tests of ranks send real ones, to processes of their own.
    """

    def __init__(self, store: Store, *, at: int, number: int = signal.SIGINT) -> None:
        self.store, self.at, self.number = store, at, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def batches(self, *, start: int, **arguments: Any) -> Iterator[Batch]:
        for step, batch in enumerate(self.store.batches(start=start, **arguments), start=start + 1):
            if step == self.at:
                handler = signal.getsignal(self.number)
                assert isinstance(getattr(handler, "__self__", None), StopSignal)
                handler(self.number, None)  # type: ignore[operator]
            yield batch


def stop_at(step: int, recipe: Recipe, store: Store, out: Path, **changes: Any) -> Outcome:
    return run(recipe, StoppingStore(store, at=step), out, **changes)  # type: ignore[arg-type]


@dataclasses.dataclass
class Watched:
    """What the optimizers of a run did: rates, gradients, weights before and after each update."""

    rates: list[float] = dataclasses.field(default_factory=list)
    gradients: list[list[Tensor]] = dataclasses.field(default_factory=list)
    before: list[list[Tensor]] = dataclasses.field(default_factory=list)
    after: list[list[Tensor]] = dataclasses.field(default_factory=list)
    optimizers: list[torch.optim.Optimizer] = dataclasses.field(default_factory=list)

    @property
    def live(self) -> list[Tensor]:
        """The live parameters and optimizer state at the end of the run."""
        optimizer = self.optimizers[-1]
        parameters = _parameters(optimizer)
        state = [value for p in parameters for _, value in sorted(optimizer.state[p].items())]
        return [*parameters, *(value for value in state if isinstance(value, Tensor))]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def watching() -> Iterator[Watched]:
    """Within the block every update of every optimizer is recorded."""
    watched = Watched()

    def before(optimizer: torch.optim.Optimizer, *_: object) -> None:
        watched.rates.append(optimizer.param_groups[0]["lr"])
        watched.gradients.append(
            [p.grad.clone() for p in _parameters(optimizer) if p.grad is not None]
        )
        watched.before.append([p.detach().clone() for p in _parameters(optimizer)])
        if not watched.optimizers or watched.optimizers[-1] is not optimizer:
            watched.optimizers.append(optimizer)

    def after(optimizer: torch.optim.Optimizer, *_: object) -> None:
        watched.after.append([p.detach().clone() for p in _parameters(optimizer)])

    hooks = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    try:
        yield watched
    finally:
        for hook in hooks:
            hook.remove()


def same_file(one: Path, other: Path) -> bool:
    """Whether two files hold the same tensors, names, types and all bits."""
    ours, theirs = load_file(one), load_file(other)
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name])
        for name in ours
    )


def same_run(one: Path, other: Path) -> bool:
    """Whether two finished runs ended in the same bits: weights, average, optimizer."""
    return same_file(one / "last.safetensors", other / "last.safetensors") and same_file(
        one / "model.safetensors", other / "model.safetensors"
    )


def step_in(path: Path) -> object:
    return read_tensors(path).facts["step"]


def log_of(out: Path) -> list[dict[str, Any]]:
    """The lines of a log, without the seconds."""
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for line in lines if "gradient_check" not in (record := json.loads(line))]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


# ---- the tests --------------------------------------------------------------------------------


class TestStraight:
    def test_a_run_finishes_with_its_files(self, store: Store, tmp_path: Path) -> None:
        outcome = run(small(), store, tmp_path)
        assert outcome == Outcome("finished", STEPS, tmp_path / "model.safetensors")
        assert {path.name for path in tmp_path.iterdir()} == {
            "last.safetensors",
            "stage-1.safetensors",
            "stage-2.safetensors",
            "model.safetensors",
            "log.jsonl",
        }
        assert step_in(tmp_path / "stage-1.safetensors") == FIRST
        assert step_in(tmp_path / "stage-2.safetensors") == STEPS
        assert step_in(tmp_path / "last.safetensors") == STEPS

    def test_the_same_again_is_the_same_and_another_seed_is_not(
        self, store: Store, tmp_path: Path
    ) -> None:
        run(small(), store, tmp_path / "a")
        run(small(), store, tmp_path / "b", workers=3)
        run(small(seed=6), store, tmp_path / "c")
        assert same_run(tmp_path / "a", tmp_path / "b")
        assert not same_run(tmp_path / "a", tmp_path / "c")

    def test_nothing_in_the_options_changes_the_result(
        self, store: Store, tmp_path: Path, straight: Straight
    ) -> None:
        run(small(), store, tmp_path, workers=2, log_every=5, checkpoint_every=1, time_limit=1e6)
        assert same_run(straight(small()), tmp_path)

    def test_the_caller_s_random_numbers_neither_matter_nor_change(
        self, store: Store, tmp_path: Path
    ) -> None:
        for seed in (1, 2):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                before = torch.get_rng_state()
                run(small(), store, tmp_path / str(seed))
                assert torch.equal(torch.get_rng_state(), before)
        assert same_run(tmp_path / "1", tmp_path / "2")

    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    def test_the_weights_lie_in_memory_as_the_recipe_says(
        self, store: Store, tmp_path: Path, layout: str
    ) -> None:
        with watching() as watched:
            stop_at(2, small(layout=layout), store, tmp_path)
            run(small(layout=layout), store, tmp_path)
        for optimizer in watched.optimizers:
            weights = [p for p in _parameters(optimizer) if p.dim() == 4]
            assert {w.is_contiguous() for w in weights} == {layout == "contiguous"}

    def test_every_weight_is_trained(self, store: Store, tmp_path: Path) -> None:
        with watching() as watched:
            run(small(), store, tmp_path)
        for first, last in zip(watched.before[0], watched.after[-1], strict=True):
            assert not torch.equal(first, last)

    def test_the_file_holds_the_live_objects(self, store: Store, tmp_path: Path) -> None:
        with watching() as watched:
            run(small(), store, tmp_path)
        saved = load_file(tmp_path / "last.safetensors")
        kept = [v for k, v in saved.items() if not k.startswith("ema.")]
        assert len(kept) == len(watched.live) == 4 * len(watched.before[0])
        for tensor in watched.live:
            assert any(torch.equal(tensor, other) for other in kept)

    @pytest.mark.parametrize("crop", ["random", "centre"])
    @pytest.mark.parametrize(
        "model", [spec(EDSR, scale=2, width=4, blocks=1), spec(ESPCN, scale=2)]
    )
    def test_update_n_sees_batch_n_of_the_store(
        self, store: Store, tmp_path: Path, model: Any, crop: Literal["random", "centre"]
    ) -> None:
        Recorder.seen.clear()
        data = Data(patch=16, batch=2, crop=crop)
        recipe = one_stage(Term("see", spec(Recorder)), steps=3, model=model, seed=9, data=data)
        run(recipe, store, tmp_path)
        assert len(Recorder.seen) == 3
        for step, (ours, theirs) in enumerate(Recorder.seen):
            batch = store.batch(seed=9, step=step, size=2, patch=16, scale=2, crop=crop)
            hr = batch.hr.float() / 255
            wanted = rgb_to_y(hr) if model.target is ESPCN else hr
            torch.testing.assert_close(theirs, wanted, atol=1e-7, rtol=0)
            assert ours.shape == theirs.shape

    @pytest.mark.parametrize("limit", [0.3, 0.9])  # reached after three updates; never reached
    def test_the_average_is_an_exponential_one_with_a_quick_beginning(
        self, store: Store, tmp_path: Path, limit: float
    ) -> None:
        # The decay after n updates is min(average, (1 + n) / (10 + n)), as in the documentation
        # of TensorFlow's ExponentialMovingAverage with num_updates.
        with watching() as watched:
            run(small(ema_decay=limit), store, tmp_path)
        average = [tensor.double() for tensor in watched.before[0]]
        for n, weights in enumerate(watched.after):
            decay = min(limit, (1 + n) / (10 + n))
            average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
        model = load_model(tmp_path / "model.safetensors")
        for ours, wanted in zip(model.parameters(), average, strict=True):
            torch.testing.assert_close(ours.double(), wanted, atol=1e-7, rtol=1e-6)

    def test_without_an_average_the_weights_themselves_are_the_result(
        self, store: Store, tmp_path: Path
    ) -> None:
        with watching() as watched:
            run(small(ema_decay=0.0), store, tmp_path)
        model = load_model(tmp_path / "model.safetensors")
        for ours, wanted in zip(model.parameters(), watched.after[-1], strict=True):
            assert torch.equal(ours, wanted)
        assert not any(k.startswith("ema.") for k in load_file(tmp_path / "last.safetensors"))

    def test_the_card_tells_what_made_the_network(self, store: Store, tmp_path: Path) -> None:
        run(small(), store, tmp_path)
        card: Any = read_tensors(tmp_path / "model.safetensors").facts["card"]
        assert card["recipe"] == to_plain(small())
        assert card["store"] == store.fingerprint
        assert card["steps"] == STEPS
        assert [p["name"] for p in card["images"]] == ["0.png", "1.png", "2.png"]
        assert {p["licence"] for p in card["images"]} == {"CC0-1.0"}

    def test_a_checkpoint_is_a_network_file_with_the_average(
        self, store: Store, tmp_path: Path
    ) -> None:
        with watching() as watched:
            stop_at(3, small(), store, tmp_path)
        last = tmp_path / "last.safetensors"
        network = edgekeeper.load(str(last))
        saved = read_tensors(last).below("ema")
        assert all(torch.equal(saved[k], v) for k, v in network.state_dict().items())
        assert not torch.equal(saved["head.weight"], watched.after[-1][0])
        assert describe(last).card["unfinished"] == "after 3 of 7 updates"
        run(small(), store, tmp_path)
        for name in ("last", "model"):
            assert "unfinished" not in describe(tmp_path / f"{name}.safetensors").card

    def test_a_run_outside_the_main_thread(self, store: Store, tmp_path: Path) -> None:
        found: list[Outcome] = []
        thread = threading.Thread(target=lambda: found.append(run(small(), store, tmp_path)))
        thread.start()
        thread.join()
        assert found[0].status == "finished"

    def test_the_handlers_of_signals_are_put_back(self, store: Store, tmp_path: Path) -> None:
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        stop_at(2, small(), store, tmp_path)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


class Recorder(nn.Module):
    """L1, which remembers what it was given."""

    seen: list[tuple[Tensor, Tensor]] = []  # noqa: RUF012

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        self.seen.append((sr.detach().clone(), hr.clone()))
        return (sr - hr).abs().mean()


class TestOptimizer:
    def test_each_update_uses_the_rate_of_its_step(self, store: Store, tmp_path: Path) -> None:
        recipe = small()
        wanted = [
            stage.optim.learning_rate_at(step, steps=stage.steps)
            for stage, step in map(recipe.stage_at, range(STEPS))
        ]
        with watching() as watched:
            stop_at(2, recipe, store, tmp_path)
            stop_at(FIRST, recipe, store, tmp_path)
            run(recipe, store, tmp_path)
        assert watched.rates == wanted
        assert len(set(wanted)) > 3

    def test_each_stage_begins_with_a_new_optimizer(self, store: Store, tmp_path: Path) -> None:
        with watching() as watched:
            run(small(), store, tmp_path)
        assert len(watched.optimizers) == 2
        counts = [k for k in load_file(tmp_path / "last.safetensors") if k.endswith("/step")]
        saved = load_file(tmp_path / "last.safetensors")
        assert {float(saved[k]) for k in counts} == {float(SECOND)}

    def test_vdsr_s_clip_limits_each_value_to_theta_over_rate(
        self, store: Store, tmp_path: Path
    ) -> None:
        # VDSR, section 3.2: gradients are clipped to [-theta / rate, theta / rate], so that a
        # plain step never moves a weight by more than theta, whatever the rate.
        theta = 1e-3
        optim = Optim(
            learning_rate=0.1,
            kind="sgd",
            momentum=0.0,
            schedule="steps",
            milestones=(2,),
            gamma=0.1,
            clip="value_over_rate",
            clip_limit=theta,
        )
        huge = one_stage(Term("pixel", spec(L1), weight=1e5), steps=4, optim=optim)
        with watching() as watched:
            run(huge, store, tmp_path)
        assert watched.rates == pytest.approx([0.1, 0.1, 0.01, 0.01])
        for learning_rate, gradients in zip(watched.rates, watched.gradients, strict=True):
            largest = max(float(gradient.abs().max()) for gradient in gradients)
            assert largest == pytest.approx(theta / learning_rate, rel=1e-6)
        for before, after in zip(watched.before, watched.after, strict=True):
            moved = max(float((b - a).abs().max()) for a, b in zip(before, after, strict=True))
            assert moved == pytest.approx(theta, rel=1e-3)

    def test_vdsr_s_clip_leaves_small_values_as_they_are(
        self, store: Store, tmp_path: Path
    ) -> None:
        clips: tuple[Literal["none", "value_over_rate"], ...] = ("none", "value_over_rate")
        found = {}
        for clip in clips:
            optim = Optim(learning_rate=1e-2, kind="sgd", clip=clip, clip_limit=1e-2)
            with watching() as watched:
                run(one_stage(PIXEL, steps=1, optim=optim), store, tmp_path / clip)
            found[clip] = watched.gradients[0]
        for free, clipped in zip(found["none"], found["value_over_rate"], strict=True):
            assert torch.equal(free.clamp(-1.0, 1.0), clipped)

    def test_the_norm_of_all_gradients_together_is_limited(
        self, store: Store, tmp_path: Path
    ) -> None:
        # The gradient variance code: the global norm is limited to 0.4, whatever the rate.
        strong = Term("pixel", spec(L1), weight=10.0)
        found = {}
        for clip in ("none", "norm"):
            optim = Optim(learning_rate=0.1, kind="sgd", clip=clip, clip_limit=0.4)  # type: ignore[arg-type]
            with watching() as watched:
                run(one_stage(strong, steps=1, optim=optim), store, tmp_path / clip)
            found[clip] = torch.cat([g.flatten() for g in watched.gradients[0]])
        assert float(found["none"].norm()) > 0.5
        assert float(found["norm"].norm()) == pytest.approx(0.4, rel=1e-4)
        shrunk = found["none"] * (0.4 / found["none"].norm())
        torch.testing.assert_close(found["norm"], shrunk, atol=1e-6, rtol=1e-4)

    def test_momentum_decay_and_betas_arrive(self, store: Store, tmp_path: Path) -> None:
        sgd = Optim(learning_rate=1e-3, kind="sgd", momentum=0.7, weight_decay=0.02)
        adam = Optim(learning_rate=1e-3, betas=(0.5, 0.6), epsilon=1e-3, weight_decay=0.03)
        with watching() as watched:
            run(one_stage(PIXEL, steps=1, optim=sgd), store, tmp_path / "sgd")
            run(one_stage(PIXEL, steps=1, optim=adam), store, tmp_path / "adam")
        first, second = (optimizer.param_groups[0] for optimizer in watched.optimizers)
        assert (first["momentum"], first["weight_decay"]) == (0.7, 0.02)
        assert (second["betas"], second["eps"], second["weight_decay"]) == ((0.5, 0.6), 1e-3, 0.03)


class TestInterrupted:
    """The straight run and the interrupted run end in the same bits."""

    @pytest.mark.parametrize(  # every pair of choices
        ("precision", "ema_decay", "layout"),
        [
            ("float32", 0.0, "contiguous"),
            ("float32", 0.9, "channels_last"),
            ("bfloat16", 0.0, "channels_last"),
            ("bfloat16", 0.9, "contiguous"),
        ],
    )
    @pytest.mark.parametrize("kind", ["adam", "sgd", "soap"])
    def test_stopped_three_times_once_at_the_end_of_a_stage(
        self,
        store: Store,
        tmp_path: Path,
        kind: Literal["adam", "sgd", "soap"],
        precision: str,
        ema_decay: float,
        layout: str,
    ) -> None:
        recipe = small(kind=kind, precision=precision, ema_decay=ema_decay, layout=layout)
        whole = tmp_path / "straight"
        with watching() as straight:
            run(recipe, store, whole)
        stopped = tmp_path / "stopped"
        for step, workers in ((2, 1), (FIRST, 3), (5, 2)):
            outcome = stop_at(step, recipe, store, stopped, workers=workers)
            assert outcome == Outcome("interrupted", step, None)
            assert step_in(stopped / "last.safetensors") == step
            assert not (stopped / "model.safetensors").exists()
        with watching() as resumed:
            assert run(recipe, store, stopped, workers=0).status == "finished"
        assert same_run(whole, stopped)
        assert same_file(whole / "stage-2.safetensors", stopped / "stage-2.safetensors")
        for ours, theirs in zip(straight.live, resumed.live, strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.stride() == theirs.stride()
            assert torch.equal(ours, theirs)

    def test_stopped_after_any_update(
        self, store: Store, tmp_path: Path, straight: Straight
    ) -> None:
        recipe = small(model=spec(ESPCN, scale=2))
        whole = straight(recipe)
        for step in range(1, STEPS + 1):
            number = signal.SIGTERM if step == 4 else signal.SIGINT
            out = tmp_path / str(step)
            stopping = StoppingStore(store, at=step, number=number)
            first = run(recipe, stopping, out)  # type: ignore[arg-type]
            assert first.step == step
            assert first.status == ("finished" if step == STEPS else "interrupted")
            assert run(recipe, store, out, workers=2).step == STEPS
            assert same_run(whole, out), step

    @pytest.mark.parametrize("kind", ["adam", "sgd", "soap"])
    def test_a_network_around_another_with_a_part_that_no_term_reaches(
        self, store: Store, tmp_path: Path, kind: Literal["adam", "sgd", "soap"]
    ) -> None:
        backbone = spec(EDSR, scale=2, width=4, blocks=2)
        branch = spec(GradientBranch, backbone=backbone, width=4, taps=("blocks.0",))
        recipe = small(kind=kind, model=branch)
        with pytest.raises(TrainingError, match="reaches gradient_tail"):
            run(recipe, store, tmp_path / "all")
        reached = ("backbone.", "head.", "steps.", "fusion.")
        stages = tuple(dataclasses.replace(stage, trains=reached) for stage in recipe.stages)
        recipe = dataclasses.replace(recipe, stages=stages)
        run(recipe, store, tmp_path / "straight")
        out = tmp_path / "stopped"
        for step in (2, FIRST, 5):
            assert stop_at(step, recipe, store, out).step == step
        assert run(recipe, store, out).status == "finished"
        assert same_run(tmp_path / "straight", out)
        network = load_model(out / "model.safetensors")
        assert isinstance(network, GradientBranch) and network.taps == ("blocks.0",)

    def test_a_time_limit_after_every_update(
        self, store: Store, tmp_path: Path, straight: Straight
    ) -> None:
        whole = straight(small())
        outcomes = []
        while not outcomes or outcomes[-1].status != "finished":
            outcomes.append(
                run(small(), store, tmp_path / "slow", time_limit=1e-6, workers=len(outcomes) % 3)
            )
            assert len(outcomes) <= STEPS
        assert [outcome.step for outcome in outcomes] == list(range(1, STEPS + 1))
        assert {outcome.status for outcome in outcomes[:-1]} == {"time limit"}
        assert same_run(whole, tmp_path / "slow")

    def test_no_time_at_all_is_not_unlimited_time(self, store: Store, tmp_path: Path) -> None:
        assert run(small(), store, tmp_path, time_limit=0.0).step == 1

    def test_a_long_time_limit_does_not_matter(self, store: Store, tmp_path: Path) -> None:
        assert run(small(), store, tmp_path, time_limit=1e6).status == "finished"

    def test_the_time_limit_is_for_each_start_not_for_the_sum(
        self, store: Store, tmp_path: Path
    ) -> None:
        stop_at(2, small(), store, tmp_path)
        file = read_tensors(tmp_path / "last.safetensors")
        facts = {**file.facts, "seconds": 1e5}
        write_tensors(tmp_path / "last.safetensors", file.tensors, facts=facts)
        assert run(small(), store, tmp_path, time_limit=1e4).status == "finished"
        seconds = read_tensors(tmp_path / "last.safetensors").facts["seconds"]
        assert 1e5 < seconds < 1e5 + 100  # type: ignore[operator]

    def test_a_finished_run_is_left_as_it_is(self, store: Store, tmp_path: Path) -> None:
        run(small(), store, tmp_path)
        before = {path.name: load_file(path) for path in tmp_path.glob("*.safetensors")}
        log = log_of(tmp_path)
        with watching() as watched:
            assert run(small(), store, tmp_path).status == "finished"
        assert not watched.rates
        assert log_of(tmp_path) == log
        for name, tensors in before.items():
            again = load_file(tmp_path / name)
            assert all(torch.equal(tensors[key], again[key]) for key in tensors)

    def test_a_stage_that_ended_twice_is_the_same_stage(self, store: Store, tmp_path: Path) -> None:
        stop_at(FIRST, small(), store, tmp_path)
        assert same_file(tmp_path / "last.safetensors", tmp_path / "stage-1.safetensors")

    def test_longer_training_goes_on_from_the_end(
        self, store: Store, tmp_path: Path, straight: Straight
    ) -> None:
        # A stage added behind a finished run: its first stages need not be run again.
        short = dataclasses.replace(small(), stages=small().stages[:1])
        run(short, store, tmp_path / "grown")
        run(small(), store, tmp_path / "grown")
        whole = straight(small())
        assert same_run(tmp_path / "grown", whole)

    def test_a_finished_run_with_more_steps_goes_on_to_the_bits_of_the_longer_one(
        self, store: Store, tmp_path: Path
    ) -> None:
        falling = small().stages[1]
        halved = dataclasses.replace(falling.optim, schedule="steps", milestones=(2, 5))
        steady = dataclasses.replace(falling, optim=halved)

        def of(stage: Stage, steps: int) -> Recipe:
            return small(stages=(small().stages[0], dataclasses.replace(stage, steps=steps)))

        for steps in (4, 5, 8):
            run(of(steady, steps), store, tmp_path / "grown")
        run(of(steady, 8), store, tmp_path / "straight")
        assert same_run(tmp_path / "grown", tmp_path / "straight")
        run(of(falling, 4), store, tmp_path / "fallen")
        with pytest.raises(CheckpointError, match=r"add a stage where .* is a cosine"):
            run(of(falling, 8), store, tmp_path / "fallen")


def test_no_denormal_is_computed_with_while_it_trains(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def product() -> float:
        return float(torch.tensor(1e-30) * torch.tensor(1e-10))

    seen: list[float] = []
    plain = edgekeeper.training.loop.update

    def watched(*given: Any, **named: Any) -> Any:
        seen.append(product())
        return plain(*given, **named)

    monkeypatch.setattr(edgekeeper.training.loop, "update", watched)
    assert product() > 0
    run(one_stage(Term("pixel", spec(L1)), steps=2), store, tmp_path)
    assert seen == [0, 0]
    assert product() > 0  # as before


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def kill_in_write(monkeypatch: pytest.MonkeyPatch, *, number: int) -> None:
    """Write number ``number`` (from 1) of a file breaks off in the middle."""
    real: Callable[..., None] = checkpoint.save_file
    count = 0

    def save_file(tensors: dict[str, Tensor], name: str, **arguments: Any) -> None:
        nonlocal count
        count += 1
        real(tensors, name, **arguments)
        if count == number:
            with Path(name).open("r+b") as file:
                file.truncate(Path(name).stat().st_size // 2)
            raise Killed

    monkeypatch.setattr(checkpoint, "save_file", save_file)


class TestKilled:
    def test_in_the_middle_of_any_write(
        self, store: Store, tmp_path: Path, straight: Straight, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = straight(small(), checkpoint_every=2)
        # Writes in order: last (2), stage-1 (3), last (3), (4), (6), stage-2 (7), last (7), (7).
        for number, survived in enumerate([None, 2, 2, 3, 4, 6, 6, 7], start=1):
            out = tmp_path / str(number)
            with monkeypatch.context() as patch:
                kill_in_write(patch, number=number)
                with pytest.raises(Killed):
                    run(small(), store, out, checkpoint_every=2)
            last = out / "last.safetensors"
            assert (step_in(last) if last.exists() else None) == survived
            assert run(small(), store, out, checkpoint_every=2, workers=2).status == "finished"
            assert same_run(whole, out)
            assert log_of(out) == log_of(whole)

    def test_while_the_finished_network_is_written(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            kill_in_write(patch, number=6)  # stage-1, last, stage-2, last, last, model
            with pytest.raises(Killed):
                run(small(), store, tmp_path)
        assert not (tmp_path / "model.safetensors").exists()
        assert run(small(), store, tmp_path).model_path == tmp_path / "model.safetensors"
        load_model(tmp_path / "model.safetensors")

    def test_what_a_kill_left_half_written_is_cleared_away(
        self, store: Store, tmp_path: Path
    ) -> None:
        run(small(), store, tmp_path)
        names = {path.name for path in tmp_path.iterdir()}
        half = tmp_path / ".edgekeeper-999999-0123abcd"
        half.mkdir()
        (half / "last.safetensors").write_bytes(b"half")
        run(small(), store, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == names


class TestFailedSave:
    def test_a_full_disk_ends_the_run_and_leaves_the_earlier_state(
        self, store: Store, tmp_path: Path, straight: Straight, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = straight(small())
        real: Callable[..., None] = checkpoint.save_file
        count = 0

        def save_file(tensors: dict[str, Tensor], name: str, **arguments: Any) -> None:
            nonlocal count
            count += 1
            if count == 2:
                Path(name).write_bytes(b"\0" * 10)
                raise OSError(28, "No space left on device")
            real(tensors, name, **arguments)

        out = tmp_path / "full"
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save_file", save_file)
            with pytest.raises(CheckpointError, match="no space left"):
                run(small(), store, out, checkpoint_every=1)
        assert count == 2
        assert step_in(out / "last.safetensors") == 1
        run(small(), store, out)
        assert same_run(whole, out)

    def test_a_folder_that_cannot_be_made(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file", encoding="utf-8")
        for out in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
            with pytest.raises(EdgekeeperError, match="taken"):
                run(small(), store, out)


class TestFork:
    """Going on from the checkpoint of another recipe."""

    PLAIN = small(second_terms=(PIXEL,), name="plain")
    STRUCTURE = small(name="structure")

    @pytest.fixture
    def plain(self, store: Store, tmp_path: Path) -> Path:
        run(self.PLAIN, store, tmp_path / "plain")
        return tmp_path / "plain"

    def test_from_a_common_first_stage_gives_the_bits_of_the_straight_run(
        self, store: Store, tmp_path: Path, straight: Straight, plain: Path
    ) -> None:
        whole = straight(self.STRUCTURE)
        out = tmp_path / "forked"
        with watching() as watched:
            run(self.STRUCTURE, store, out, resume_from=plain / "stage-1.safetensors")
        assert len(watched.rates) == SECOND
        assert same_run(whole, out)
        assert not same_run(whole, plain)
        assert [record["step"] for record in log_of(out)] == [4, 5, 6, 7]

    def test_a_fork_that_was_stopped_goes_on_from_itself(
        self, store: Store, tmp_path: Path, straight: Straight, plain: Path
    ) -> None:
        whole = straight(self.STRUCTURE)
        out, start = tmp_path / "forked", plain / "stage-1.safetensors"
        stop_at(5, self.STRUCTURE, store, out, resume_from=start)
        with watching() as watched:
            run(self.STRUCTURE, store, out, resume_from=start)
        assert len(watched.rates) == STEPS - 5
        assert same_run(whole, out)

    def test_the_checkpoint_of_the_other_run_is_not_touched(
        self, store: Store, tmp_path: Path, plain: Path
    ) -> None:
        before = {path.name: path.read_bytes() for path in plain.iterdir()}
        run(self.STRUCTURE, store, tmp_path / "f", resume_from=plain / "stage-1.safetensors")
        assert {path.name: path.read_bytes() for path in plain.iterdir()} == before

    def test_refused_when_anything_before_differs(
        self, store: Store, tmp_path: Path, plain: Path
    ) -> None:
        # What counts is in test_recipe.py, TestContinues.
        first, second = small().stages
        rates = dataclasses.replace(first, optim=Optim(learning_rate=3e-3))
        for changes in ({"seed": 6}, {"stages": (rates, second)}):
            other = small(name="structure", **changes)
            with pytest.raises(CheckpointError, match=r"another recipe than 'structure'.*--out"):
                run(other, store, tmp_path / "f", resume_from=plain / "stage-1.safetensors")
            assert not (tmp_path / "f" / "last.safetensors").exists()

    def test_refused_from_within_a_stage_that_differs(
        self, store: Store, tmp_path: Path, plain: Path
    ) -> None:
        with pytest.raises(CheckpointError, match="another recipe"):
            run(self.STRUCTURE, store, tmp_path / "f", resume_from=plain / "stage-2.safetensors")

    def test_refused_with_another_store(self, store: Store, tmp_path: Path, plain: Path) -> None:
        other = make_store(tmp_path / "other", seed=1)
        with pytest.raises(CheckpointError, match="another image store"):
            run(self.STRUCTURE, other, tmp_path / "f", resume_from=plain / "stage-1.safetensors")
        with pytest.raises(CheckpointError, match="another image store"):
            run(self.PLAIN, other, plain)

    def test_a_run_whose_recipe_was_changed_is_not_overwritten(
        self, store: Store, plain: Path
    ) -> None:
        before = {path.name: path.read_bytes() for path in plain.iterdir()}
        with pytest.raises(CheckpointError, match="another recipe"):
            run(self.STRUCTURE, store, plain)
        assert {path.name: path.read_bytes() for path in plain.iterdir()} == before

    def test_refused_without_a_file_or_with_a_network_file(
        self, store: Store, tmp_path: Path, plain: Path
    ) -> None:
        with pytest.raises(CheckpointError, match="no checkpoint"):
            run(self.PLAIN, store, tmp_path / "f", resume_from=tmp_path / "nowhere")
        with pytest.raises(CheckpointError):
            run(self.PLAIN, store, tmp_path / "f", resume_from=plain / "model.safetensors")

    def test_refused_when_the_state_is_not_whole(self, store: Store, tmp_path: Path) -> None:
        stop_at(2, small(), store, tmp_path)
        file = read_tensors(tmp_path / "last.safetensors")
        for part in ("model.head.bias", "ema.head.bias", "optimizer.head.bias"):
            kept = {k: v for k, v in file.tensors.items() if not k.startswith(part)}
            assert len(kept) < len(file.tensors)
            write_tensors(tmp_path / "last.safetensors", kept, facts=file.facts)
            with pytest.raises(CheckpointError, match=r"head\.bias"):
                run(small(), store, tmp_path)


class TestStart:
    """Beginning from the trunk of another recipe's network."""

    FROM = one_stage(PIXEL, steps=2, model=spec(ESPCN, scale=3), name="from", data=Data(18, 2))
    TO = one_stage(
        PIXEL, steps=2, model=spec(ESPCN, scale=2), name="to", start=Start("from", ("conv3.",))
    )

    @pytest.fixture
    def network(self, store: Store, tmp_path: Path) -> Path:
        run(self.FROM, store, tmp_path / "from")
        return tmp_path / "from" / "model.safetensors"

    def test_the_trunk_is_taken_over_and_the_rest_is_new(
        self, store: Store, tmp_path: Path, network: Path
    ) -> None:
        with watching() as watched:
            run(self.TO, store, tmp_path / "to", start_from=network)
        theirs = list(load_model(network).parameters())
        first = watched.before[0]
        for k in range(4):  # conv1 and conv2, weight and bias
            assert torch.equal(first[k], theirs[k])
        assert first[4].shape == (4, 32, 3, 3)
        assert float(first[4].std()) > 0

    def test_it_is_written_into_the_card_where_the_network_came_from(
        self, store: Store, tmp_path: Path, network: Path
    ) -> None:
        run(self.TO, store, tmp_path / "to", start_from=network)
        card: Any = read_tensors(tmp_path / "to" / "model.safetensors").facts["card"]
        assert card["origin"]["recipe"] == "from"
        assert card["origin"]["card"] == read_tensors(network).facts["card"]

    def test_the_card_names_the_start_of_the_run_not_that_of_its_continuation(
        self, store: Store, tmp_path: Path, network: Path
    ) -> None:
        other = dataclasses.replace(self.FROM, seed=77)
        run(other, store, tmp_path / "other")
        stop_at(1, self.TO, store, tmp_path / "to", start_from=network)
        run(self.TO, store, tmp_path / "to", start_from=tmp_path / "other" / "model.safetensors")
        card: Any = read_tensors(tmp_path / "to" / "model.safetensors").facts["card"]
        assert card["origin"]["card"]["recipe"]["seed"] == self.FROM.seed

    def test_stopped_and_resumed_gives_the_same_bits(
        self, store: Store, tmp_path: Path, network: Path
    ) -> None:
        run(self.TO, store, tmp_path / "straight", start_from=network)
        stop_at(1, self.TO, store, tmp_path / "stopped", start_from=network)
        run(self.TO, store, tmp_path / "stopped", start_from=network)
        assert same_run(tmp_path / "straight", tmp_path / "stopped")

    def test_a_recipe_that_needs_a_start_says_so(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"starts from the network of recipe 'from'.*--start"):
            run(self.TO, store, tmp_path / "to")

    def test_a_recipe_that_asks_for_none_takes_one_that_fits_as_a_whole(
        self, store: Store, tmp_path: Path, network: Path
    ) -> None:
        recipe = dataclasses.replace(self.TO, start=None)
        with pytest.raises(CheckpointError, match=r"conv3.weight is \(9, 32, 3, 3\).*fresh="):
            run(recipe, store, tmp_path / "to", start_from=network)
        recipe = dataclasses.replace(self.FROM, name="again")
        with watching() as watched:
            run(recipe, store, tmp_path / "again", start_from=network)
        theirs = list(load_model(network).parameters())
        assert all(map(torch.equal, watched.before[0], theirs))

    def test_who_made_the_network_does_not_matter_and_what_is_new_is_said(
        self, store: Store, tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = dataclasses.replace(self.TO, start=Start("something", ("conv3.",)))
        for _ in range(2):
            stop_at(1, other, store, tmp_path / "to", start_from=network)
            (tmp_path / "to" / "last.safetensors").unlink()
        told = "Starts from model.safetensors: 4 tensors; new: conv3.; not used: conv3."
        assert told in capsys.readouterr().err
        lines = [line for line in log_of(tmp_path / "to") if "start" in line]
        assert len(lines) == 1 and lines[0]["step"] == 0
        assert lines[0]["start"]["new"] == ["conv3."] and lines[0]["start"]["recipe"] == "from"

    def test_layers_that_do_not_fit_are_named(
        self, store: Store, tmp_path: Path, network: Path
    ) -> None:
        wrong = dataclasses.replace(self.TO, start=Start("from"))
        with pytest.raises(CheckpointError, match="conv3"):
            run(wrong, store, tmp_path / "to", start_from=network)

    def test_other_files_are_refused_in_a_sentence(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "own").write_text("no network")
        for path in (tmp_path / "nowhere", tmp_path / "own"):
            with pytest.raises(EdgekeeperError, match=path.name):
                run(self.TO, store, tmp_path / "to", start_from=path)


class BreaksAt(nn.Module):
    """A loss that becomes ``value`` at call number ``call``; what goes wrong is in its term."""

    def __init__(self, *, call: int, value: float = math.nan) -> None:
        super().__init__()
        self.call, self.value, self.count = call, value, 0

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        self.count += 1
        loss = (sr - hr).square().mean()
        return loss * self.value if self.count == self.call else loss


class InfiniteAt(nn.Module):
    """A loss that is infinite at call number ``call``, with a derivative that is not."""

    def __init__(self, *, call: int) -> None:
        super().__init__()
        self.call, self.count = call, 0

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        self.count += 1
        loss = (sr - hr).square().mean()
        return loss + math.inf if self.count == self.call else loss


class BreaksBackward(nn.Module):
    """A loss of 0 whose derivative is not a number, as that of a root at 0, but for the first."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        self.count += 1  # the first is checked
        return (sr * 0).sqrt().sum() if self.count > 1 else (sr - hr).abs().mean()


class TestNotFinite:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_the_term_is_named_and_the_last_good_state_kept(
        self, store: Store, tmp_path: Path, value: float
    ) -> None:
        bad = Term("bad", spec(BreaksAt, call=4, value=value))
        recipe = one_stage(PIXEL, bad, steps=8)
        with pytest.raises(TrainingError, match=r"'bad' became -?(nan|inf).*step 4"):
            run(recipe, store, tmp_path, checkpoint_every=2)
        tensors = load_file(tmp_path / "last.safetensors")
        assert step_in(tmp_path / "last.safetensors") == 2
        assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
        assert not (tmp_path / "model.safetensors").exists()

    def test_the_last_good_state_can_be_gone_on_from(self, store: Store, tmp_path: Path) -> None:
        # Counted anew after the restart, the fourth call is update 6: the run gets further.
        bad = Term("bad", spec(BreaksAt, call=4))
        recipe = one_stage(PIXEL, bad, steps=5)
        with pytest.raises(TrainingError):
            run(recipe, store, tmp_path, checkpoint_every=2)
        assert run(recipe, store, tmp_path, checkpoint_every=2).status == "finished"

    def test_the_term_is_named_also_when_losses_are_read_rarely(
        self, store: Store, tmp_path: Path
    ) -> None:
        # From update 3 on the weights are spoilt and every term is nan; 'bad' was the first.
        recipe = one_stage(PIXEL, Term("bad", spec(BreaksAt, call=2)), steps=20)
        with pytest.raises(TrainingError, match="'bad'"):
            run(recipe, store, tmp_path, log_every=10)

    def test_a_weight_that_is_not_finite_is_never_saved(self, store: Store, tmp_path: Path) -> None:
        recipe = one_stage(PIXEL, Term("root", spec(BreaksBackward)), steps=2)
        with pytest.raises(TrainingError, match=r"weights '.*' are not finite after step 2"):
            run(recipe, store, tmp_path)
        assert not list(tmp_path.glob("*.safetensors"))

    def test_clipping_does_not_hide_it(self, store: Store, tmp_path: Path) -> None:
        for clip in ("norm", "value_over_rate"):
            optim = Optim(learning_rate=1e-3, clip=clip, clip_limit=0.1)  # type: ignore[arg-type]
            bad = Term("bad", spec(BreaksAt, call=2))
            recipe = one_stage(PIXEL, bad, steps=4, optim=optim)
            with pytest.raises(TrainingError, match="'bad'"):
                run(recipe, store, tmp_path / clip)

    def test_a_stop_saves_nothing_after_an_infinite_loss_with_finite_weights(
        self, store: Store, tmp_path: Path
    ) -> None:
        recipe = one_stage(PIXEL, Term("bad", spec(InfiniteAt, call=3)), steps=20)
        with pytest.raises(TrainingError, match="'bad' became inf"):
            stop_at(3, recipe, store, tmp_path, log_every=10)
        assert not (tmp_path / "last.safetensors").exists()

    def test_it_is_found_before_a_stop_saves_it(self, store: Store, tmp_path: Path) -> None:
        recipe = one_stage(PIXEL, Term("bad", spec(BreaksAt, call=3)), steps=20)
        with pytest.raises(TrainingError):
            stop_at(3, recipe, store, tmp_path, log_every=10)
        assert not (tmp_path / "last.safetensors").exists()


class TestRefused:
    def test_a_folder_in_which_another_run_is_under_way(self, store: Store, tmp_path: Path) -> None:
        with (
            running(options(tmp_path)),
            pytest.raises(InputError, match=rf"under way in process {os.getpid()}; wait"),
        ):
            run(small(), store, tmp_path)
        assert run(small(), store, tmp_path).status == "finished"

    def test_a_store_that_changed_is_noticed_when_the_run_begins_or_goes_on(
        self, tmp_path: Path
    ) -> None:
        store = make_store(tmp_path, seed=3)
        stop_at(2, small(), store, tmp_path / "run")
        pixels = tmp_path / "store" / "pixels.bin"
        whole = pixels.read_bytes()
        pixels.write_bytes(bytes(len(whole)))
        for out in (tmp_path / "run", tmp_path / "new"):
            with pytest.raises(DataError, match="have changed since the store was made"):
                run(small(), Store.open(tmp_path / "store"), out)
        assert step_in(tmp_path / "run" / "last.safetensors") == 2
        assert not (tmp_path / "new" / "last.safetensors").exists()
        pixels.write_bytes(whole)
        run(small(), Store.open(tmp_path / "store"), tmp_path / "run")

    def test_a_checkpoint_with_a_changed_bit_is_not_gone_on_from(
        self, store: Store, tmp_path: Path
    ) -> None:
        stop_at(2, small(), store, tmp_path)
        last = tmp_path / "last.safetensors"
        content = last.read_bytes()
        for at in range(8, len(content), len(content) // 40):
            last.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
            with pytest.raises(CheckpointError):
                run(small(), store, tmp_path)

    def test_a_set_or_a_protocol_that_is_not_there_before_the_first_update(
        self, store: Store, tmp_path: Path
    ) -> None:
        for validation in (Validation("nowhere"), Validation(protocol="nothing")):
            with pytest.raises(EdgekeeperError, match=r"nowhere|nothing"):
                run(small(validation=validation), store, tmp_path, data_root=tmp_path)
        assert not list(tmp_path.glob("*.safetensors"))

    def test_a_patch_that_is_no_multiple_of_the_scale(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"patch of 17 .* scale 2"):
            run(small(data=Data(patch=17, batch=2)), store, tmp_path)

    def test_a_scale_that_the_store_does_not_have(self, store: Store, tmp_path: Path) -> None:
        wrong = small(model=spec(EDSR, scale=4, width=4, blocks=1))
        with pytest.raises(EdgekeeperError, match="scale 4"):
            run(wrong, store, tmp_path)

    def test_a_patch_larger_than_every_image(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(EdgekeeperError):
            run(small(data=Data(patch=64, batch=2)), store, tmp_path)

    def test_validation_without_a_folder_of_sets(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="validates on 'set5'"):
            run(small(validation=Validation()), store, tmp_path)
        assert not (tmp_path / "last.safetensors").exists()


class TestLog:
    def test_a_line_every_so_often_and_at_the_end_of_each_stage(
        self, store: Store, tmp_path: Path
    ) -> None:
        run(small(), store, tmp_path, log_every=2)
        assert [(r["step"], r["stage"]) for r in log_of(tmp_path)] == [
            (2, "first"),
            (3, "first"),
            (4, "second"),
            (6, "second"),
            (7, "second"),
        ]

    def test_a_line_tells_the_mean_of_each_term_since_the_last(
        self, store: Store, tmp_path: Path
    ) -> None:
        run(small(), store, tmp_path / "each")
        run(small(), store, tmp_path / "few", log_every=4)
        each = {record["step"]: record for record in log_of(tmp_path / "each")}
        few = {record["step"]: record for record in log_of(tmp_path / "few")}
        assert few[4] == each[4]
        for name in ("pixel", "gv", "total"):
            mean = sum(each[step][name] for step in (5, 6, 7)) / 3
            assert few[7][name] == pytest.approx(mean, rel=1e-5)
        assert few[7]["learning_rate"] == each[7]["learning_rate"]

    def test_the_total_is_the_weighted_sum_of_its_line(self, store: Store, tmp_path: Path) -> None:
        run(small(), store, tmp_path)
        for record in log_of(tmp_path):
            if record["stage"] == "second":
                weight = 0.5 * min(1, (record["step"] - FIRST) / 3)
                assert record["total"] == pytest.approx(record["pixel"] + weight * record["gv"])
            else:
                assert record["total"] == pytest.approx(record["pixel"])
                assert "gv" not in record

    def test_the_first_line_is_the_loss_of_the_untrained_network(
        self, store: Store, tmp_path: Path
    ) -> None:
        Recorder.seen.clear()
        run(one_stage(Term("see", spec(Recorder)), steps=1), store, tmp_path)
        ours, theirs = Recorder.seen[-1]
        assert log_of(tmp_path)[0]["see"] == pytest.approx(float((ours - theirs).abs().mean()))

    @pytest.mark.parametrize("step", [2, 4, 6])
    def test_stopped_at_a_line_the_log_is_that_of_the_straight_run(
        self, store: Store, tmp_path: Path, straight: Straight, step: int
    ) -> None:
        whole = straight(small(), log_every=2)
        stop_at(step, small(), store, tmp_path / "stopped", log_every=2)
        run(small(), store, tmp_path / "stopped", log_every=2)
        assert log_of(tmp_path / "stopped") == log_of(whole)

    def test_stopped_between_lines_no_line_is_missing_or_twice(
        self, store: Store, tmp_path: Path, straight: Straight
    ) -> None:
        whole = straight(small(), log_every=4)
        stop_at(5, small(), store, tmp_path / "stopped", log_every=4)
        run(small(), store, tmp_path / "stopped", log_every=4)
        wanted = [record["step"] for record in log_of(whole)]
        found = [record["step"] for record in log_of(tmp_path / "stopped")]
        assert wanted == [3, 4, 7]
        assert [step for step in found if step != 5] == wanted

    def test_seconds_go_on_after_a_resume(self, store: Store, tmp_path: Path) -> None:
        stop_at(3, small(), store, tmp_path)
        run(small(), store, tmp_path)
        lines = map(json.loads, (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines())
        seconds = [line["seconds"] for line in lines if "gradient_check" not in line]
        assert seconds == sorted(seconds)
        assert len(seconds) == STEPS

    def test_tensorboard_shows_the_log(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        curve: dict[int, float] = {}

        class Writer:
            def __init__(self, folder: str) -> None:
                assert folder == str(tmp_path / "tensorboard")

            def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
                if tag == "train/pixel":
                    curve[global_step] = scalar_value

            def close(self) -> None:
                pass

        monkeypatch.setattr("tensorboardX.SummaryWriter", Writer)
        run(small(), store, tmp_path, tensorboard=True)
        logged = {record["step"]: record["pixel"] for record in log_of(tmp_path)}
        assert curve == pytest.approx(logged, rel=1e-6)


class TestValidation:
    """With a stand-in for the benchmark: one number that depends on every weight."""

    RECIPE = small(validation=Validation(set_name="a set", protocol="a protocol", every=2))

    @pytest.fixture(autouse=True)
    def benchmark(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def evaluate(model: Any, **arguments: Any) -> list[float]:
            assert arguments["sets"] == ["a set"]
            assert arguments["protocol"] == "a protocol"
            assert not model.training
            return [float(infer(model, torch.full((1, 3, 6, 6), 0.3)).double().mean())]

        def mean_scores(scores: list[float]) -> dict[str, float]:
            return {"psnr": sum(scores)}

        monkeypatch.setattr("edgekeeper.training.logging.evaluate", evaluate)
        monkeypatch.setattr("edgekeeper.training.logging.mean_scores", mean_scores)
        monkeypatch.setattr("edgekeeper.training.checks.results", lambda *_, **_given: iter(()))

    def scores(self, out: Path) -> dict[int, float]:
        found = [record for record in log_of(out) if "validation" in record]
        assert {record["validation"]["set"] for record in found} == {"a set"}
        return {record["step"]: record["validation"]["psnr"] for record in found}

    def test_lines_come_when_asked_for_and_at_the_end_of_each_stage(
        self, store: Store, tmp_path: Path
    ) -> None:
        run(self.RECIPE, store, tmp_path, data_root=tmp_path)
        assert list(self.scores(tmp_path)) == [2, 3, 4, 6, 7]

    def test_the_network_that_ships_is_scored(self, store: Store, tmp_path: Path) -> None:
        run(self.RECIPE, store, tmp_path, data_root=tmp_path)
        model = load_model(tmp_path / "model.safetensors")  # the average
        expected = float(infer(model, torch.full((1, 3, 6, 6), 0.3)).double().mean())
        assert self.scores(tmp_path)[STEPS] == expected

    @pytest.mark.parametrize("ema_decay", [0.0, 0.9])
    def test_scoring_does_not_change_the_run(
        self, store: Store, tmp_path: Path, ema_decay: float
    ) -> None:
        scored = dataclasses.replace(self.RECIPE, ema_decay=ema_decay)
        run(scored, store, tmp_path / "scored", data_root=tmp_path)
        run(small(ema_decay=ema_decay), store, tmp_path / "plain")
        assert same_run(tmp_path / "scored", tmp_path / "plain")

    def test_stopped_and_resumed_each_score_is_there_once_and_the_same(
        self, store: Store, tmp_path: Path, straight: Straight
    ) -> None:
        whole = straight(self.RECIPE, data_root=Path())
        for step in range(1, STEPS):
            out = tmp_path / str(step)
            stop_at(step, self.RECIPE, store, out, data_root=tmp_path)
            run(self.RECIPE, store, out, data_root=tmp_path)
            assert log_of(out) == log_of(whole), step

    def test_a_run_can_be_resumed_without_validation(
        self, store: Store, tmp_path: Path, straight: Straight
    ) -> None:
        whole = straight(self.RECIPE, data_root=Path())
        stop_at(3, self.RECIPE, store, tmp_path / "stopped", data_root=tmp_path)
        run(small(), store, tmp_path / "stopped")
        assert same_run(whole, tmp_path / "stopped")


@pytest.mark.data
def test_validation_on_the_real_set_scores_an_untrained_network_like_interpolation(
    store: Store, tmp_path: Path, data_root: Path
) -> None:
    # EDSR on top of bicubic begins as bicubic: 33.66 dB on Set5 at x2, luma, in every paper.
    recipe = one_stage(
        PIXEL,
        steps=1,
        optim=Optim(learning_rate=1e-9),
        validation=Validation(every=1),
        model=spec(EDSR, scale=2, width=4, blocks=1, skip="bicubic"),
    )
    run(recipe, store, tmp_path, data_root=data_root)
    (record,) = [r["validation"] for r in log_of(tmp_path) if "validation" in r]
    assert (record["set"], record["protocol"]) == ("set5", "y_matlab")
    assert record["psnr"] == pytest.approx(33.66, abs=0.02)


# ---- real processes, really killed ------------------------------------------------------------

KILLS = 8
# Many weights and little to compute: a good part of the time goes into writing.
LONG = small(
    model=spec(EDSR, scale=2, width=64, blocks=1),
    data=Data(patch=8, batch=1),
    stages=(
        Stage("first", 30, Optim(learning_rate=1e-3, warmup=5), (PIXEL,)),
        Stage("second", 30, Optim(learning_rate=1e-3, schedule="cosine"), (PIXEL, GV)),
    ),
)


def start_process(store: Store, out: Path) -> int:
    """The id of a child process that trains into ``out`` and saves after each update."""
    child = os.fork()
    if child:
        return child
    signal.alarm(250)  # the end of one that hangs
    status = 3
    try:
        outcome = run(LONG, store, out, checkpoint_every=1, workers=1)
        (out / "outcome.json").write_text(json.dumps([outcome.status, outcome.step]))
        status = 0
    finally:
        os._exit(status)


def written(path: Path) -> int:
    """When the file was last written, in nanoseconds; 0 when there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for_write(path: Path, *, since: int) -> None:
    """Return once the file has been written again; give up after a minute."""
    limit = time.monotonic() + 60
    while written(path) == since and time.monotonic() < limit:
        time.sleep(0.001)


def signalled(store: Store, out: Path, number: int) -> dict[str, object]:
    """What became of a child that got signal ``number`` after its first checkpoint."""
    child = start_process(store, out)
    wait_for_write(out / "last.safetensors", since=0)
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    name, step = json.loads((out / "outcome.json").read_text())
    saved = step_in(out / "last.safetensors")
    return {"exit": os.waitstatus_to_exitcode(status), "status": name, "step": step, "saved": saved}


def killed(store: Store, out: Path) -> dict[str, object]:
    """What became of children killed at random moments, each resuming the one before."""
    moments = random.Random(0)
    last = out / "last.safetensors"
    steps: list[object] = []
    for _ in range(KILLS):
        since = written(last)
        child = start_process(store, out)
        wait_for_write(last, since=since)
        first, seen = time.monotonic(), written(last)
        wait_for_write(last, since=seen)
        time.sleep(moments.uniform(0, 2 * (time.monotonic() - first)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        steps.append(step_in(last))
    return {"steps": steps, "inside a write": len(list(out.glob(".*")))}


def main(folder: Path) -> None:
    """The process that forks, signals and kills; prints what happened as JSON."""
    torch.set_num_threads(1)
    store = Store.open(folder / "store")
    run(LONG, store, folder / "straight")
    found: dict[str, object] = {
        "SIGINT": signalled(store, folder / "SIGINT", signal.SIGINT),
        "SIGTERM": signalled(store, folder / "SIGTERM", signal.SIGTERM),
        "SIGKILL": killed(store, folder / "SIGKILL"),
    }
    for name in ("SIGINT", "SIGTERM", "SIGKILL"):
        run(LONG, store, folder / name)
    sys.stdout.write(json.dumps(found))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    make_store(folder)
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (folder / "found.json").write_text(done.stdout)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestRealProcesses:
    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_a_stop_on_request_saves_and_ends_well(self, folder: Path, name: str) -> None:
        found = json.loads((folder / "found.json").read_text())[name]
        assert found["exit"] == 0
        assert found["status"] == "interrupted"
        assert 1 <= found["step"] < LONG.steps
        assert found["saved"] == found["step"]
        assert same_run(folder / "straight", folder / name)

    def test_killed_at_any_moment_the_run_goes_on_to_the_same_bits(self, folder: Path) -> None:
        steps = json.loads((folder / "found.json").read_text())["SIGKILL"]["steps"]
        assert steps == sorted(steps)
        assert len(set(steps)) > 3  # some were killed on the way
        assert same_run(folder / "straight", folder / "SIGKILL")
        record = [r["step"] for r in log_of(folder / "SIGKILL")]
        assert record == list(range(1, LONG.steps + 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))


class TestDegradedLR:
    RECIPE = small(data=Data(patch=16, batch=2, degradations=PHOTO))

    def test_lr_is_made_of_hr_by_seed_and_step(self, store: Store) -> None:
        batch = store.batch(seed=5, step=3, size=2, patch=16, scale=2)
        found = degraded(batch, recipe=self.RECIPE, scale=2, step=3)
        lr = degrade(batch.hr.float() / 255, scale=2, seed=5, step=3, first_index=0, settings=PHOTO)
        assert torch.equal(found.hr, batch.hr)
        assert torch.equal(found.as_float().lr, lr)
        assert not torch.equal(found.lr, batch.lr)
        assert degraded(batch, recipe=small(), scale=2, step=3) is batch

    def test_stopped_and_resumed_gives_the_same_bits(self, store: Store, tmp_path: Path) -> None:
        run(self.RECIPE, store, tmp_path / "straight")
        run(small(), store, tmp_path / "clean")
        assert not same_run(tmp_path / "straight", tmp_path / "clean")
        stop_at(5, self.RECIPE, store, tmp_path / "stopped")
        run(self.RECIPE, store, tmp_path / "stopped")
        assert same_run(tmp_path / "straight", tmp_path / "stopped")
