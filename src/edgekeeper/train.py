"""The only training loop.

The state after update n is a function of recipe, store and seed: batches come from (seed, step),
the learning rate from the step, so a run that was killed and resumed ends in the same bits as one
that was not. On an accelerator nothing waits: losses stay on the device and are read back only
when a log line is written.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from edgekeeper.checkpoint import code_version, save_model
from edgekeeper.data.store import Batch, Store
from edgekeeper.errors import InputError, TrainingError
from edgekeeper.evaluate import evaluate, mean_scores
from edgekeeper.logs import JsonLines, ProgressLine, Scalars, tensorboard_writer
from edgekeeper.models import SRModel
from edgekeeper.objective import Objective
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.recipe import Optim, Recipe
from edgekeeper.state import State, begin, make_optimiser, save

Status = Literal["finished", "time limit", "interrupted"]


@dataclass(frozen=True)
class RunOptions:
    """Where and how a recipe is run; nothing here changes the result.

    ``out`` is the run's folder; a run found there is resumed. ``resume_from`` continues from
    another run's checkpoint, allowed when both recipes agree up to that step. ``start_from`` is
    the network file that the recipe's ``start`` asks for. ``time_limit`` is in seconds.
    """

    out: Path
    device: str = "cpu"
    workers: int = 1
    time_limit: float | None = None
    checkpoint_every: int = 500
    log_every: int = 50
    resume_from: Path | None = None
    start_from: Path | None = None
    data_root: Path | None = None
    tensorboard: Literal["on", "off"] = "off"


@dataclass(frozen=True)
class Outcome:
    """How a run ended, after how many updates, and the network file if it finished."""

    status: Status
    step: int
    model_path: Path | None


def train(recipe: Recipe, store: Store, *, options: RunOptions) -> Outcome:
    """How the run of ``recipe`` on ``store`` ended; files go to ``options.out``.

    ``last.safetensors`` is the whole state, ``stage-N.safetensors`` the state at the end of each
    stage, ``log.jsonl`` the log, ``model.safetensors`` the network once the run has finished.

    Raises:
        TrainingError: a loss or a weight is not finite; the last good checkpoint is kept.
        CheckpointError: a checkpoint does not belong to this recipe or store, or cannot be saved.
        InputError: the recipe does not fit the store or the options.
    """
    _check(recipe, options)
    device = torch.device(options.device)
    _clear_halves(options.out)
    last = options.out / "last.safetensors"
    state = begin(
        recipe,
        store,
        checkpoint=last if last.is_file() else options.resume_from,
        start_from=options.start_from,
        device=device,
    )
    with (
        _stop_signal() as stop,
        ProgressLine(recipe.name, total=recipe.steps, start=state.step) as line,
    ):
        report = Report(recipe, options, line=line, store=store, resumed_at=state.step)
        status = _run(state, recipe, store, options=options, report=report, stop=stop)
        report.checkpoint(state, "last")
        report.close()
    if state.step < recipe.steps:
        return Outcome(status, state.step, None)
    return Outcome("finished", state.step, report.finish(state))


def _check(recipe: Recipe, options: RunOptions) -> None:
    """Refuse what could only fail later."""
    with torch.random.fork_rng(devices=[]):
        scale = recipe.model.build().scale
    if recipe.data.patch % scale:
        raise InputError(
            f"The patch of {recipe.data.patch} HR pixels is no multiple of the scale {scale}."
        )
    if recipe.validation is not None and options.data_root is None:
        raise InputError(
            f"Recipe '{recipe.name}' validates on '{recipe.validation.set_name}': give the folder "
            "of the benchmark sets (--data), or switch validation off (--no-validation)."
        )


def _clear_halves(out: Path) -> None:
    """Remove the temporary files, ours and safetensors', that a kill during a write left behind."""
    for pattern in (".*.safetensors.*.tmp", ".tmp??????"):
        for half in out.glob(pattern):
            half.unlink(missing_ok=True)


def _run(
    state: State,
    recipe: Recipe,
    store: Store,
    *,
    options: RunOptions,
    report: "Report",
    stop: "StopFlag",
) -> Status:
    """Update ``state`` until the recipe, the time or the user's patience ends; returns which."""
    device = next(state.model.parameters()).device
    source = store if device.type == "cpu" else store.to(device)
    before = state.seconds
    started = time.monotonic()
    objective: Objective | None = None
    for batch in _batches(state, recipe, source, workers=options.workers):
        stage, step = recipe.stage_at(state.step)
        if objective is None or objective.stage != stage:
            objective = Objective(stage)
        if step == 0:
            state.optimiser = make_optimiser(stage.optim, state.model)
        values = update(state, batch, objective=objective, step=step, recipe=recipe)
        state.step += 1
        elapsed = time.monotonic() - started
        state.seconds = before + elapsed
        report.after_update(state, values, objective=objective)
        if stop.is_set:
            return "interrupted"
        if options.time_limit is not None and elapsed > options.time_limit:
            return "time limit"
    return "finished"


def _batches(state: State, recipe: Recipe, store: Store, *, workers: int) -> Iterator[Batch]:
    """The batches of the updates still to be made, stage by stage."""
    for stage, end in zip(recipe.stages, _stage_ends(recipe), strict=True):
        if state.step >= end:
            continue
        drawn = store.batches(
            seed=recipe.seed,
            start=state.step,
            size=recipe.data.batch * stage.candidates,
            patch=recipe.data.patch,
            scale=state.model.scale,
            augment=recipe.data.augment,
            crop=recipe.data.crop,
            workers=workers if store.device.type == "cpu" else 0,
        )
        for batch in islice(drawn, end - state.step):
            yield structured(batch, keep=recipe.data.batch)


def structured(batch: Batch, *, keep: int) -> Batch:
    """The ``keep`` patches of ``batch`` with the largest mean squared difference of neighbours."""
    if len(batch.hr) == keep:
        return batch
    green = batch.hr[:, 1].float()  # (B, P, P); stands for luma, at a third of the cost
    across = (green[:, :, 1:] - green[:, :, :-1]).square().mean((1, 2))
    down = (green[:, 1:] - green[:, :-1]).square().mean((1, 2))
    chosen = (across + down).topk(keep).indices
    return Batch(batch.lr[chosen], batch.hr[chosen])


def _as_input(pixels: Tensor, model: SRModel) -> Tensor:
    """Stored RGB bytes (B, 3, H, W) as what the network takes: RGB or luma in [0, 1]."""
    rgb = pixels.float().div_(255)
    return rgb_to_y(rgb) if model.channels == "y" else rgb


def update(
    state: State, batch: Batch, *, objective: Objective, step: int, recipe: Recipe
) -> Tensor:
    """The terms' values (T + 1,), the total last, after one update of the weights.

    ``step`` counts within the stage of ``objective``. The values stay on the device.
    """
    lr, hr = (_as_input(pixels, state.model) for pixels in (batch.lr, batch.hr))
    optim = objective.stage.optim
    rate = optim.rate_at(step, steps=objective.stage.steps)
    if recipe.layout == "channels_last":
        lr = lr.contiguous(memory_format=torch.channels_last)
    with torch.autocast(lr.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        sr = state.model(lr)
    total, values = objective(sr.float(), hr, step=step)
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    _clip(state.model, optim, rate=rate)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.step()
    if state.average is not None:
        decay = min(recipe.average, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(state.average.parameters()), list(state.model.parameters()), 1 - decay
            )
    return torch.cat([values, total.detach().float().reshape(1)])


def _clip(model: nn.Module, optim: Optim, *, rate: float) -> None:
    if optim.clip == "norm":
        nn.utils.clip_grad_norm_(model.parameters(), optim.clip_limit)
    elif optim.clip == "value_over_rate":
        nn.utils.clip_grad_value_(model.parameters(), optim.clip_limit / rate)


class Report:
    """Log lines, validation, checkpoints: what happens between updates."""

    def __init__(
        self,
        recipe: Recipe,
        options: RunOptions,
        *,
        line: ProgressLine,
        store: Store,
        resumed_at: int,
    ) -> None:
        self.recipe, self.options, self.store, self.line = recipe, options, store, line
        self.log = JsonLines(options.out / "log.jsonl", keep_until=resumed_at)
        self.curves: Scalars | None = None
        if options.tensorboard == "on":
            self.curves = tensorboard_writer(options.out / "tensorboard")
        self._sum: Tensor | None = None
        self._finite: Tensor | None = None  # for how many updates each value was finite
        self._count = 0
        self._objective: Objective | None = None

    def close(self) -> None:
        """Close what is open."""
        if self.curves is not None:
            self.curves.close()

    def after_update(self, state: State, values: Tensor, *, objective: Objective) -> None:
        """Add up the losses; log, validate and save where the step says so."""
        self._objective = objective
        finite = torch.isfinite(values)
        if self._sum is None or self._finite is None:
            self._sum, self._finite = values, finite.int()
        else:
            self._sum, self._finite = self._sum + values, self._finite + finite
        self._count += 1
        ends_stage = state.step in _stage_ends(self.recipe)
        if state.step % self.options.log_every == 0 or ends_stage:
            self._flush(state)
        validation = self.recipe.validation
        if validation is not None and (state.step % validation.every == 0 or ends_stage):
            self._validate(state)
        if state.step % self.options.checkpoint_every == 0:
            self.checkpoint(state, "last")
        if ends_stage:
            self.checkpoint(state, f"stage-{_stage_ends(self.recipe).index(state.step) + 1}")
            self._sum = None

    def _flush(self, state: State) -> None:
        """Read the mean losses back, check that they are finite, log them."""
        if self._sum is None or self._finite is None or self._objective is None:
            return
        means = (self._sum / self._count).tolist()
        self._sum, self._count = None, 0
        terms = dict(zip((*self._objective.names, "total"), means, strict=True))
        first = int(self._finite.argmin())  # the one that went wrong first
        if not math.isfinite(means[first]):
            name, value = list(terms.items())[first]
            raise TrainingError(
                f"The loss term '{name}' became {value} near step {state.step}. The last good "
                f"checkpoint is kept in '{self.options.out}'; lower the learning rate or clip."
            )
        stage, step = self.recipe.stage_at(state.step - 1)
        rate = stage.optim.rate_at(step, steps=stage.steps)
        self.log.write(
            {
                "step": state.step,
                "stage": stage.name,
                "rate": rate,
                "seconds": state.seconds,
                **terms,
            }
        )
        self.line.update(state.step, text=f"loss {terms['total']:.5f}")
        if self.curves is not None:
            for name, value in {**terms, "rate": rate}.items():
                self.curves.add_scalar(f"train/{name}", value, state.step)

    def _validate(self, state: State) -> None:
        validation = self.recipe.validation
        assert validation is not None and self.options.data_root is not None
        state.result.eval()
        scores = evaluate(
            state.result,
            sets=[validation.set_name],
            scale=state.model.scale,
            protocol=validation.protocol,
            data_root=self.options.data_root,
            model_name=self.recipe.name,
        )
        state.model.train()
        means = mean_scores(scores)
        record = {"set": validation.set_name, "protocol": validation.protocol, **means}
        self.log.write({"step": state.step, "validation": record})
        self.line.update(state.step, text=f"{validation.set_name} {means['psnr']:.2f} dB")
        if self.curves is not None:
            for name, value in means.items():
                self.curves.add_scalar(f"{validation.set_name}/{name}", value, state.step)

    def checkpoint(self, state: State, name: str) -> None:
        """Save the whole state under ``name``, once the losses are known to be finite."""
        self._flush(state)
        save(
            state,
            self.options.out / f"{name}.safetensors",
            recipe=self.recipe,
            store=self.store,
        )

    def finish(self, state: State) -> Path:
        """Write the finished network with its provenance; returns the file."""
        path = self.options.out / "model.safetensors"
        card = {
            "recipe": self.recipe.to_json(),
            "store": self.store.fingerprint,
            "pictures": _provenance(self.store),
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "origin": state.origin,
            "code": code_version(),
        }
        save_model(path, state.result, spec=self.recipe.model, card=card)
        return path


def _provenance(store: Store) -> list[dict[str, str]]:
    """The source pictures of a store: name, SHA-256 and licence, each once."""
    sources = {
        entry.source_sha256: {
            "name": Path(entry.source).name,
            "sha256": entry.source_sha256,
            "licence": entry.licence,
        }
        for entry in store.pictures
    }
    return sorted(sources.values(), key=lambda source: source["name"])


def _stage_ends(recipe: Recipe) -> list[int]:
    ends, total = [], 0
    for stage in recipe.stages:
        total += stage.steps
        ends.append(total)
    return ends


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
