"""What happens between updates: log lines, curves, validation, checkpoints."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekeeper.data.store import Store
from edgekeeper.errors import NotFiniteError, import_extra
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.files import not_written, parse_json, write_text
from edgekeeper.metrics.score import mean_scores
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.spec import to_plain
from edgekeeper.training.checks import GradientCheck
from edgekeeper.training.distributed import all_reduce_max, is_rank_zero
from edgekeeper.training.process import Mirror, RunOptions
from edgekeeper.training.progress import ProgressLine
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.start import describe_start
from edgekeeper.training.state import State, card_of, save, training_mode


class RunReport:
    """What a run tells and keeps: a progress line, a log, scores, checkpoints."""

    def __init__(self, recipe: Recipe, options: RunOptions, *, store: Store, state: State) -> None:
        self.recipe, self.options, self.store = recipe, options, store
        step = state.step
        self.log = JsonLines(options.out / "log.jsonl", keep_until=step or -1)
        writes = options.remote is not None and is_rank_zero()
        self.mirror = Mirror(str(options.remote), folder=options.out) if writes else None
        self.curves: list[Any] = []  # besides the log; each as TensorBoard's writer
        if options.tensorboard and is_rank_zero():
            self.curves.append(tensorboard_writer(options.out / "tensorboard"))
        if options.wandb is not None and is_rank_zero():
            self.curves.append(WandbCurves(options.wandb, recipe=recipe))
        self.line = ProgressLine(recipe.name, total=recipe.steps, start=step)
        if is_rank_zero():
            self.line.__enter__()
        self.reached = False  # what the run is to end at
        self._names: list[str] = []
        self._values: list[Tensor] = []  # of the updates since the last line
        self._saved_at = time.monotonic()  # the clock of the day may be set
        if step == 0 and state.origin and is_rank_zero():
            self.line.say(describe_start(state.origin))
            facts = {key: value for key, value in state.origin.items() if key != "card"}
            self.log.write({"step": 0, "start": facts})

    def close(self) -> None:
        """Close what is open."""
        self.line.__exit__(None, None, None)
        for curves in self.curves:
            curves.close()

    def after_update(self, state: State, values: Mapping[str, Tensor]) -> None:
        """Add up the losses; log, validate and save where the step says so."""
        self._names = list(values)
        self._values.append(torch.stack(list(values.values())))  # (losses,)
        ends_stage = state.step in self.recipe.stage_ends
        if state.step % self.options.log_every == 0 or ends_stage:
            self._flush(state)  # the losses are read back and checked before a state is called good
        validation = self.recipe.validation
        if validation is not None and (state.step % validation.every == 0 or ends_stage):
            self._validate(state)
        if ends_stage:  # first, so that it exists wherever the last state lies behind it
            self.checkpoint(state, f"stage-{self.recipe.stage_ends.index(state.step) + 1}")
        # slow updates: at most so many seconds of work are lost
        due = time.monotonic() - self._saved_at > self.options.checkpoint_seconds
        # clocks differ: all save or none
        late = all_reduce_max(int(due), device=self.options.device)
        if state.step % self.options.checkpoint_every == 0 or ends_stage or late:
            self.checkpoint(state, "last")

    def gradients(self, check: GradientCheck, state: State) -> None:
        """Log how the losses reached the network in the last update."""
        stage, _ = self.recipe.stage_at(state.step - 1)
        record = {"step": state.step, "stage": stage.name, "gradient_check": check.to_json()}
        self.log.write(record)

    def rollback(self, state: State, error: NotFiniteError) -> None:
        """Go back to the log of ``state``, and say why."""
        self.log = JsonLines(self.log.path, keep_until=state.step)
        self._values = []
        self.log.write({"step": state.step, "rollback": state.rollbacks, "because": str(error)})
        self.line.update(state.step, text="went back to the last good state")

    def checkpoint(self, state: State, name: str) -> None:
        """Save the whole state under ``name``, once the losses are known to be finite."""
        self._flush(state)
        path = self.options.out / f"{name}.safetensors"
        save(state, path, recipe=self.recipe, store=self.store)
        if self.mirror is not None:
            self.mirror.push(path.name, step=state.step)
        self._saved_at = time.monotonic()

    def finish(self, state: State) -> Path:
        """Write the finished network with where it comes from; return the file."""
        path = self.options.out / "model.safetensors"
        card = card_of(state, recipe=self.recipe, store=self.store)
        if is_rank_zero():
            save_model(path, state.result, spec=self.recipe.model, card=card)
            if self.mirror is not None:
                self.mirror.push(path.name, step=state.step)
        return path

    def _flush(self, state: State) -> None:
        """Read the mean losses back, check that they are finite, log them."""
        if not self._values:
            return
        values = torch.stack(self._values)  # (updates, losses)
        self._values = []
        # the only wait for the device
        means = dict(zip(self._names, values.mean(0).tolist(), strict=True))
        first = self._names[int(torch.isfinite(values).sum(0).argmin())]  # that went wrong first
        if not math.isfinite(means[first]):
            raise NotFiniteError(
                f"The loss term '{first}' became {means[first]} near step {state.step}. A "
                f"good checkpoint, if one was saved, is in '{self.options.out}'; lower the "
                "learning rate or clip."
            )
        stage, _ = self.recipe.stage_at(state.step - 1)
        learning_rate = float(state.optimizer.param_groups[0]["lr"])  # as the last update had it
        record = {"step": state.step, "stage": stage.name, "learning_rate": learning_rate}
        self.log.write({**record, "seconds": state.seconds, **means})
        self.line.update(state.step, text=f"loss {means['total']:.5f}")
        self._draw("train", {**means, "learning_rate": learning_rate}, step=state.step)

    def _validate(self, state: State) -> None:
        validation = self.recipe.validation
        assert validation is not None and self.options.data_root is not None
        if not is_rank_zero():
            return
        state.result.eval()  # the EMA, where there is one
        scores = evaluate(
            state.result,
            sets=[validation.set_name],
            scale=state.model.scale,
            protocol=validation.protocol,
            data_root=self.options.data_root,
            model_name=self.recipe.name,
        )
        training_mode(state.model)  # frozen normalisations stay in evaluation mode
        means = mean_scores(scores)
        self.reached = self.options.until is not None and means["psnr"] >= self.options.until
        record = {"set": validation.set_name, "protocol": validation.protocol, **means}
        self.log.write({"step": state.step, "validation": record})
        self.line.update(state.step, text=f"{validation.set_name} {means['psnr']:.2f} dB")
        self._draw(validation.set_name, means, step=state.step)

    def _draw(self, group: str, values: Mapping[str, float], *, step: int) -> None:
        for curves in self.curves:
            for name, value in values.items():
                curves.add_scalar(f"{group}/{name}", value, global_step=step)


class JsonLines:
    """A log of one JSON object a line, each with its ``step``.

    Opened for a run that resumes after ``keep_until`` updates it drops later lines.
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        if not is_rank_zero():  # of several ranks one writes
            return
        lines: list[str] = []
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        # later lines are of updates that will be made again
        kept = [line for line in lines if _step(line) <= keep_until]
        write_text(path, "".join(line + "\n" for line in kept))

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record; the line is on disk when this returns."""
        if not is_rank_zero():
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise not_written(self.path, error) from error


def _step(line: str) -> float:
    """Return the step of a line; a line cut off by a kill counts as never written."""
    try:
        return float(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # later than any step that is kept


class WandbCurves:
    """Curves in that project of Weights & Biases; the recipe is the run's config."""

    def __init__(self, project: str, *, recipe: Recipe) -> None:
        wandb = import_extra("wandb", extra="wandb", what="--wandb")
        self.run = wandb.init(project=project, name=recipe.name, config=to_plain(recipe))

    def add_scalar(self, tag: str, scalar_value: float, *, global_step: int) -> None:
        """Add a point to the curve ``tag``."""
        self.run.log({tag: scalar_value}, step=global_step)

    def close(self) -> None:
        """End the run there."""
        self.run.finish()


def tensorboard_writer(folder: Path) -> Any:
    """Return a writer of curves into ``folder`` that TensorBoard shows."""
    made = import_extra("tensorboardX", extra="tensorboard", what="--tensorboard")
    return made.SummaryWriter(str(folder))
