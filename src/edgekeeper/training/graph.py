"""An update recorded once as a CUDA graph and replayed, for networks whose updates are short.

A small network's update is a thousand small operations, and a GPU waits for the processor that
names them one by one. Recorded, it is one call, discriminators included. What changes between
updates lies in tensors at fixed places: the batch, the learning rates, the share of the new weights
in the EMA, weights that ramp up, the seeds of what is drawn at random. SOAP's bases turn between
two replays.

On a device without graphs everything is the same but the recording.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from edgekeeper.data.store import Batch
from edgekeeper.errors import InputError
from edgekeeper.training.checks import GradientCheck
from edgekeeper.training.distributed import world_size
from edgekeeper.training.optimizer import Optim
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.soap import SETTLING, SOAP, StackedSOAP
from edgekeeper.training.state import DiscriminatorState, State, ema_decay_at

# ``update(state, batch, gradient_check=...)`` of the training loop; returns losses by name
Update = Callable[..., dict[str, Tensor]]
# Updates in the form that is recorded, before the recording: libraries choose their kernels
WARM_UP = 3
GRAPH_DEVICES = ("cuda",)  # kinds of devices with graphs


def check_recordable(recipe: Recipe, *, accumulate: int = 1) -> None:
    """Raise InputError when an update of ``recipe`` is more than operations on tensors."""
    for stage in recipe.stages:
        optims = [stage.optim, *(d.optim for d in stage.discriminators)]
        losses = [d.loss.build() for d in stage.discriminators]
        reasons = {
            "its batches come in parts": accumulate > 1,
            "there are several ranks": world_size() > 1,  # their messages are not recorded
            "an optimizer is 'sgd', not 'adam' or 'soap'": any(o.kind == "sgd" for o in optims),
            "it clips by the learning rate": any(o.clip == "value_over_rate" for o in optims),
            "a discriminator's loss draws numbers": not all(loss.recordable for loss in losses),
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
        self.prepared = False  # what changes lies in tensors
        self.warmed = 0  # updates made on the stream
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(
        self, state: State, batch: Batch, *, gradient_check: GradientCheck | None = None
    ) -> dict[str, Tensor]:
        """Update ``state`` once; return the losses by name, overwritten by the next update.

        Raises InputError: the update cannot be recorded.
        """
        if not self.prepared and (gradient_check is not None or not _settled(state)):
            state.ema_share, state.weights = None, {}  # taken as numbers
            return self.update(state, batch, gradient_check=gradient_check)
        device = batch.hr.device
        if not self.prepared:
            self._prepare(state, device=device)
        self._place(state)  # before: the graph reads it
        if gradient_check is not None or device.type not in GRAPH_DEVICES:
            losses = self.update(state, batch, gradient_check=gradient_check)
        else:
            losses = self._replay(state, batch)
        for optimizer, _ in self._optimizers(state):
            if isinstance(optimizer, StackedSOAP):
                optimizer.renew()  # after: QR is not recorded
        return losses

    def _optimizers(self, state: State) -> list[tuple[torch.optim.Optimizer, Optim]]:
        """Return all optimizers with what the recipe says of them."""
        stage, _ = self.recipe.stage_at(state.step)
        others = [(d.optimizer, d.spec.optim) for d in state.discriminators.values()]
        return [(state.optimizer, stage.optim), *others]

    def _prepare(self, state: State, *, device: torch.device) -> None:
        """Give the optimizers the form that is recorded, and a place to what changes."""
        holders: list[State | DiscriminatorState] = [state, *state.discriminators.values()]
        for holder in holders:
            if isinstance(holder.optimizer, SOAP):
                holder.optimizer = StackedSOAP(holder.optimizer)  # same state, seen as stacks
        for optimizer, _ in self._optimizers(state):
            for group in optimizer.param_groups if not isinstance(optimizer, SOAP) else ():
                on = device.type in GRAPH_DEVICES  # Adam counts there
                kind = torch.float32 if on else torch.float64  # as its kernels read it
                group |= {"capturable": on, "lr": torch.zeros((), dtype=kind, device=device)}
                for entry in (optimizer.state.get(p) for p in group["params"] if on):
                    if entry:
                        entry["step"] = entry["step"].to(device)
        state.ema_share = torch.zeros((), device=device)
        stage, _ = self.recipe.stage_at(state.step)
        ramps = (term.name for term in stage.terms if term.ramp)
        state.weights = {name: torch.zeros((), device=device) for name in ramps}
        self.prepared = True

    def _place(self, state: State) -> None:
        """Put what is true of the next update alone where a graph finds it."""
        stage, step = self.recipe.stage_at(state.step)
        for optimizer, optim in self._optimizers(state):
            rate = state.learning_rate(optim, recipe=self.recipe)
            if isinstance(optimizer, StackedSOAP):
                optimizer.advance(learning_rate=rate)
            else:
                for group in optimizer.param_groups:
                    group["lr"].fill_(rate)
        assert state.ema_share is not None
        state.ema_share.fill_(1 - ema_decay_at(state.step, decay=self.recipe.ema_decay))
        for name, weight in state.weights.items():
            weight.fill_(stage.weights_at(step)[name])
        for d in state.discriminators.values():
            for turn in d.generators:
                d.generator(turn, seed=self.recipe.seed, step=state.step)

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
            self._record(state, batch)
            assert self.graph is not None
        self.batch.lr.copy_(batch.lr)
        self.batch.hr.copy_(batch.hr)
        self.graph.replay()  # one call for a thousand kernels
        return self.losses

    def _record(self, state: State, batch: Batch) -> None:
        # the place from which every replay reads
        self.batch = Batch(batch.lr.clone(), batch.hr.clone())
        graph, discriminators = torch.cuda.CUDAGraph(), state.discriminators.values()
        for d in discriminators:
            d.recording = True
            for rng in d.generators.values():
                graph.register_generator_state(rng)
        try:
            # computes nothing yet; threads that read ahead may go on
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.losses = self.update(state, self.batch)
        except RuntimeError as error:
            raise InputError(
                f"An update of recipe '{self.recipe.name}' cannot be recorded as a graph "
                f"({error}). Train it without --graph."
            ) from error
        finally:
            for d in discriminators:
                d.recording = False
        self.graph = graph


def _settled(state: State) -> bool:
    """Return whether all bases of SOAP have been made and no longer turn after each update."""
    return all(
        (entry := optimizer.state.get(p)) is not None and int(entry["step"]) >= SETTLING
        for optimizer in (state.optimizer, *(d.optimizer for d in state.discriminators.values()))
        if isinstance(optimizer, SOAP)
        for group in optimizer.param_groups
        for p in group["params"]
    )
