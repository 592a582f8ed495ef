"""What happens between updates: log lines, validation, checkpoints, the finished network."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from edgekeeper.checkpoint import code_version, save_model
from edgekeeper.data.store import Store
from edgekeeper.errors import NotFiniteError
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.metrics.score import mean_scores
from edgekeeper.progress import ProgressLine
from edgekeeper.training.gradient_check import Flow
from edgekeeper.training.logging import JsonLines, Scalars, tensorboard_writer
from edgekeeper.training.objective import Objective
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.state import State, save, training_mode
from edgekeeper.training.update import learning_rate_of


@dataclass(frozen=True)
class RunOptions:
    """Where and how a recipe is run; nothing here changes the result.

    ``out`` is the run's folder; a run found there is resumed. ``resume_from`` continues from
    another run's checkpoint, allowed when both recipes agree up to that step. ``start_from`` is
    the network file that the recipe's ``start`` asks for. ``time_limit`` is in seconds.
    ``flow_every`` updates the log tells each term's gradients anew (one more pass; 0: never).
    """

    out: Path
    device: str = "cpu"
    workers: int = 1
    time_limit: float | None = None
    checkpoint_every: int = 500
    log_every: int = 50
    flow_every: int = 500
    resume_from: Path | None = None
    start_from: Path | None = None
    data_root: Path | None = None
    tensorboard: Literal["on", "off"] = "off"


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
        ends_stage = state.step in self.recipe.stage_ends
        if state.step % self.options.log_every == 0 or ends_stage:
            self._flush(state)
        validation = self.recipe.validation
        if validation is not None and (state.step % validation.every == 0 or ends_stage):
            self._validate(state)
        if ends_stage:  # first, so that it exists wherever the last state lies behind it
            self.checkpoint(state, f"stage-{self.recipe.stage_ends.index(state.step) + 1}")
        if state.step % self.options.checkpoint_every == 0 or ends_stage:
            self.checkpoint(state, "last")
        if ends_stage:
            self._sum = None

    def flow(self, flow: Flow, *, state: State) -> None:
        """Log how the terms reach the network just before the next update."""
        stage, _ = self.recipe.stage_at(state.step)
        self.log.write({"step": state.step + 1, "stage": stage.name, "flow": flow.to_json()})

    def rollback(self, state: State, error: NotFiniteError) -> None:
        """Log that the run went back to ``state``, and why."""
        self.log.write({"step": state.step, "rollback": state.rollbacks, "because": str(error)})
        self.line.update(state.step, text="went back to the last good state")

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
            raise NotFiniteError(
                f"The loss term '{name}' became {value} near step {state.step}. The last good "
                f"checkpoint is kept in '{self.options.out}'; lower the learning rate or clip."
            )
        stage, step = self.recipe.stage_at(state.step - 1)
        learning_rate = learning_rate_of(stage.optim, state=state, step=step, steps=stage.steps)
        self.log.write(
            {
                "step": state.step,
                "stage": stage.name,
                "learning_rate": learning_rate,
                "seconds": state.seconds,
                **terms,
            }
        )
        self.line.update(state.step, text=f"loss {terms['total']:.5f}")
        if self.curves is not None:
            for name, value in {**terms, "learning_rate": learning_rate}.items():
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
        training_mode(state.model)
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
            "images": _provenance(self.store),
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "origin": state.origin,
            "code": code_version(),
        }
        save_model(path, state.result, spec=self.recipe.model, card=card)
        return path


def _provenance(store: Store) -> list[dict[str, str]]:
    """Return the source images of a store: name, SHA-256 and licence, each once."""
    sources = {
        entry.source_sha256: {
            "name": Path(entry.source).name,
            "sha256": entry.source_sha256,
            "licence": entry.licence,
        }
        for entry in store.images
    }
    return sorted(sources.values(), key=lambda source: source["name"])
