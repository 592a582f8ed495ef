"""The only training loop.

The state after update n is a function of recipe, store and seed: batches come from (seed, step),
the learning rate from the step, so a run that was killed and resumed ends in the same bits as one
that was not. On an accelerator nothing waits: losses stay on the device and are read back only
when a log line is written.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch

from edgekeeper.data.store import Batch, Store
from edgekeeper.errors import InputError, NotFiniteError
from edgekeeper.files import remove_leftovers
from edgekeeper.progress import ProgressLine
from edgekeeper.training.gradient_check import check, measure
from edgekeeper.training.objective import Objective
from edgekeeper.training.recipe import Recipe, Stage
from edgekeeper.training.report import Report, RunOptions
from edgekeeper.training.state import State, begin, check_trains, enter
from edgekeeper.training.update import degraded, structured, update

__all__ = ["Outcome", "RunOptions", "train"]

Status = Literal["finished", "time limit", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended, after how many updates, and the network file if it finished."""

    status: Status
    step: int
    model_path: Path | None


def train(recipe: Recipe, store: Store, *, options: RunOptions) -> Outcome:
    """Return how the run of ``recipe`` on ``store`` ended; files go to ``options.out``.

    ``last.safetensors`` is the whole state, ``stage-N.safetensors`` the state at the end of each
    stage, ``log.jsonl`` the log, ``model.safetensors`` the network once the run has finished.

    Raises:
        NotFiniteError: a loss or a weight is not finite, once more than the recipe retries; the
            last good checkpoint is kept.
        TrainingError: a term, a discriminator or a part that is to learn is dead (``flow.check``).
        CheckpointError: a checkpoint does not belong to this recipe or store, or cannot be saved.
        InputError: the recipe does not fit the store or the options.
    """
    _check(recipe, options)
    remove_leftovers(options.out)
    state = _begin(recipe, store, options=options)
    with (
        _without_denormals(),
        _stop_signal() as stop,
        ProgressLine(recipe.name, total=recipe.steps, start=state.step) as line,
    ):
        failure: NotFiniteError | None = None
        began = time.monotonic()
        while True:
            report = Report(recipe, options, line=line, store=store, resumed_at=state.step)
            try:
                if failure is not None:
                    report.rollback(state, failure)
                status = _run(
                    state, recipe, store, options=options, report=report, stop=stop, began=began
                )
                report.checkpoint(state, "last")
                break
            except NotFiniteError as error:
                # Without the frames of the failed run, which hold its networks.
                failure, rollbacks = error.with_traceback(None), state.rollbacks + 1
            finally:
                report.close()
            if rollbacks > recipe.retries:
                raise failure
            state = _begin(recipe, store, options=options)
            state.rollbacks = rollbacks
    if state.step < recipe.steps:
        return Outcome(status, state.step, None)
    return Outcome("finished", state.step, report.finish(state))


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Numbers below 1.2e-38 are taken as zero on the processor, which is slow with them.

    Running means of what no longer changes, such as the weights of a dead ReLU, decay to such
    numbers and stay: without this updates of a network with many of them took 1.8
    times as long (docs/diary.md).
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _begin(recipe: Recipe, store: Store, *, options: RunOptions) -> State:
    """Return the state of the run's last checkpoint, else that to resume from, else a new one."""
    last = options.out / "last.safetensors"
    return begin(
        recipe,
        store,
        checkpoint=last if last.is_file() else options.resume_from,
        start_from=options.start_from,
        device=torch.device(options.device),
    )


def _check(recipe: Recipe, options: RunOptions) -> None:
    """Refuse what could only fail later, in the last stage too."""
    with torch.random.fork_rng(devices=[]):
        model = recipe.model.build()
        scale = model.scale
        for stage in recipe.stages:
            check_trains(stage, model)
            Objective(
                stage, discriminators={a.name: a.discriminator.build() for a in stage.adversaries}
            )
    if recipe.data.patch % scale:
        raise InputError(
            f"The patch of {recipe.data.patch} HR pixels is no multiple of the scale {scale}."
        )
    if recipe.validation is not None and options.data_root is None:
        raise InputError(
            f"Recipe '{recipe.name}' validates on '{recipe.validation.set_name}': give the folder "
            "of the benchmark sets (--data), or switch validation off (--no-validation)."
        )


def _run(
    state: State,
    recipe: Recipe,
    store: Store,
    *,
    options: RunOptions,
    report: Report,
    stop: "StopFlag",
    began: float,
) -> Status:
    """Update ``state`` until the recipe, the time or the user's patience ends; returns which."""
    device = next(state.model.parameters()).device
    source = store if device.type == "cpu" else store.to(device)
    before = state.seconds
    started = time.monotonic()
    objective: Objective | None = None
    for batch in _batches(state, recipe, source, workers=options.workers):
        stage, step = recipe.stage_at(state.step)
        if step == 0:
            enter(state, stage, recipe=recipe)
        if objective is None or objective.stage != stage:
            objective = _objective(state, stage, recipe=recipe)
        again = options.flow_every > 0 and len(objective.parts) > 1
        if step == 0 or (again and state.step % options.flow_every == 0):
            flow = measure(state, batch, objective=objective, recipe=recipe, step=step)
            if step == 0:  # later a term may rightly have become still
                check(flow, stage=stage.name)
            report.flow(flow, state=state)
        values = update(state, batch, objective=objective, step=step, recipe=recipe)
        state.step += 1
        elapsed = time.monotonic() - started
        state.seconds = before + elapsed
        report.after_update(state, values, objective=objective)
        if stop.is_set:
            return "interrupted"
        if options.time_limit is not None and time.monotonic() - began > options.time_limit:
            return "time limit"
    return "finished"


def _objective(state: State, stage: Stage, *, recipe: Recipe) -> Objective:
    return Objective(
        stage,
        discriminators={
            name: adversary_state.discriminator
            for name, adversary_state in state.adversary_states.items()
        },
        device=next(state.model.parameters()).device,
        bfloat16=recipe.precision == "bfloat16",
    )


def _batches(state: State, recipe: Recipe, store: Store, *, workers: int) -> Iterator[Batch]:
    """Yield the batches of the updates still to be made, stage by stage."""
    for stage, end in zip(recipe.stages, recipe.stage_ends, strict=True):
        if state.step >= end:
            continue
        drawn = store.batches(
            seed=recipe.seed,
            start=state.step,
            size=recipe.data.batch * stage.drawn * stage.candidates,
            patch=recipe.data.patch,
            scale=state.model.scale,
            augment=recipe.data.augment,
            crop=recipe.data.crop,
            workers=workers if store.device.type == "cpu" else 0,
        )
        for step, batch in enumerate(islice(drawn, end - state.step), start=state.step):
            chosen = structured(batch, keep=recipe.data.batch, groups=stage.drawn)
            yield degraded(chosen, recipe=recipe, scale=state.model.scale, step=step)


class StopFlag:
    """Whether the user asked to stop."""

    is_set = False


@contextmanager
def _stop_signal() -> Iterator[StopFlag]:
    """Within the block Ctrl-C and SIGTERM ask for a stop after the current update."""
    flag = StopFlag()

    def ask(number: int, frame: object) -> None:
        flag.is_set = True

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: the caller stops the run in its own way
        before = {}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
