"""An update recorded once as a CUDA graph and replayed, for networks whose updates are short.

A small network's update is a thousand small operations, and a GPU waits for the processor that
names them one by one. Recorded, it is one call. What changes between updates lies in tensors at
fixed places: the batch, the learning rate, the share of the new weights in the EMA. SOAP's bases
turn between two replays.

On a device without graphs everything is the same but the recording.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from edgekeeper.data.store import Batch
from edgekeeper.errors import InputError
from edgekeeper.training.checks import GradientCheck
from edgekeeper.training.distributed import world_size
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.soap import SETTLING, SOAP, StackedSOAP
from edgekeeper.training.state import State, ema_decay_at

# ``update(state, batch, gradient_check=...)`` of the training loop; returns losses by name
Update = Callable[..., dict[str, Tensor]]
# Updates in the form that is recorded, before the recording: libraries choose their kernels
WARM_UP = 3


def check_recordable(recipe: Recipe, *, accumulate: int = 1) -> None:
    """Raise InputError when the updates of ``recipe`` are not all alike, or not of SOAP."""
    for stage in recipe.stages:
        reasons = {
            "its batches come in parts": accumulate > 1,
            "it has discriminators": bool(stage.discriminators),
            "there are several ranks": world_size() > 1,  # their messages are not recorded
            "a weight ramps up": any(term.ramp for term in stage.terms),  # it would stand still
            f"its optimizer is '{stage.optim.kind}', not 'soap'": stage.optim.kind != "soap",
            "it clips by the learning rate": stage.optim.clip == "value_over_rate",
        }
        why = [reason for reason, holds in reasons.items() if holds]
        if why:
            raise InputError(
                f"Stage '{stage.name}' of recipe '{recipe.name}' cannot be recorded as a graph: "
                f"{', '.join(why)}. Train it without --graph."
            )


class RecordedUpdate:
    """``update`` of one stage: at first as it is, then recorded and replayed."""

    def __init__(self, update: Update, *, recipe: Recipe) -> None:
        self.update, self.recipe = update, recipe
        self.warmed = 0  # updates made on the stream
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(
        self, state: State, batch: Batch, *, gradient_check: GradientCheck | None = None
    ) -> dict[str, Tensor]:
        """Update ``state`` once; return the losses by name, overwritten by the next update."""
        optimizer = state.optimizer
        if not isinstance(optimizer, StackedSOAP):
            if gradient_check is not None or not _settled(optimizer):
                state.ema_share = None  # taken as a number
                return self.update(state, batch, gradient_check=gradient_check)
            assert isinstance(optimizer, SOAP)
            state.optimizer = optimizer = StackedSOAP(optimizer)  # same state, seen as stacks
            state.ema_share = torch.zeros_like(optimizer.rate)
        stage, _ = self.recipe.stage_at(state.step)
        rate = state.learning_rate(stage.optim, recipe=self.recipe)
        optimizer.advance(learning_rate=rate)  # before: the graph reads it
        assert state.ema_share is not None
        state.ema_share.fill_(1 - ema_decay_at(state.step, decay=self.recipe.ema_decay))
        if gradient_check is not None or batch.hr.device.type != "cuda":
            losses = self.update(state, batch, gradient_check=gradient_check)
        else:
            losses = self._replay(state, batch)
        optimizer.renew()  # after: QR is not recorded
        return losses

    def _replay(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Run the graph on ``batch``; record it after some updates on a stream of its own."""
        if self.warmed == 0:
            # each shape comes thousands of times; what is fastest may differ from run to run
            torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
            self.stream = torch.cuda.Stream(batch.hr.device)  # type: ignore[no-untyped-call]
        if self.warmed < WARM_UP:
            self.warmed += 1
            before = torch.cuda.current_stream(batch.hr.device)
            self.stream.wait_stream(before)
            with torch.cuda.stream(self.stream):
                losses = self.update(state, batch)
            before.wait_stream(self.stream)
            return losses
        if self.graph is None:
            # the place from which every replay reads
            self.batch = Batch(batch.lr.clone(), batch.hr.clone())
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):  # computes nothing yet
                self.losses = self.update(state, self.batch)
        self.batch.lr.copy_(batch.lr)
        self.batch.hr.copy_(batch.hr)
        self.graph.replay()  # one call for a thousand kernels
        return self.losses


def _settled(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether all bases have been made and no longer turn after each update."""
    states = [optimizer.state.get(p) for group in optimizer.param_groups for p in group["params"]]
    return all(state is not None and int(state["step"]) >= SETTLING for state in states)
