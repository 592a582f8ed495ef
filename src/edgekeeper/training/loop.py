"""The only training loop: what one update computes, and the run around it.

The state after update n is a function of recipe, store and seed: batches come from (seed, step),
the learning rate from the step, so a run that was killed and resumed ends in the same bits. On an
accelerator nothing waits: losses stay on the device and are read back when a line is logged.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.utils.checkpoint import checkpoint

from edgekeeper.data.store import Batch, Store
from edgekeeper.errors import NotFiniteError
from edgekeeper.models import GradientGuided
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.spec import Spec
from edgekeeper.training.batches import image_pairs, stage_batches
from edgekeeper.training.checks import GradientCheck, check_recipe
from edgekeeper.training.distributed import all_gather, all_reduce_max, shard
from edgekeeper.training.graph import RecordedUpdate, Update, check_recordable
from edgekeeper.training.logging import RunReport
from edgekeeper.training.optimizer import Optim, optimizer_step
from edgekeeper.training.process import RunOptions as RunOptions
from edgekeeper.training.process import Stopped, is_resident, running
from edgekeeper.training.recipe import Loss, Recipe
from edgekeeper.training.state import (
    DiscriminatorState,
    State,
    begin,
    build_losses,
    ema_of,
    ema_update,
    enter_stage,
    frozen,
)


def update(
    state: State,
    batch: Batch,
    *,
    recipe: Recipe,
    criteria: Mapping[Spec[Loss], Loss],
    accumulate: int = 1,
    gradient_check: GradientCheck | None = None,
) -> dict[str, Tensor]:
    """Update the generator once and then each discriminator; return all losses by name.

    ``criteria`` are the losses of the recipe's terms, built; ``accumulate`` is that of RunOptions.
    What is returned stays on the device.
    """
    stage, step = recipe.stage_at(state.step)
    discriminators = list(state.discriminators.values())  # spec, network, optimizer, loss of each
    images = image_pairs(batch, recipe=recipe, model=state.model)  # one pair, or one per turn
    lr, hr = images[0]  # (B, C, H, W) and (B, C, rH, rW), in [0, 1]

    def lr_at(optim: Optim) -> float:
        return state.learning_rate(optim, recipe=recipe)  # a rollback has halved it

    # The generator: every loss by its name, and one step against their weighted sum.
    with frozen(d.network for d in discriminators):
        guided = any(term.on == "branch" for term in stage.terms)
        sr, gradient = forward(state, lr, recipe=recipe, guided=guided, accumulate=accumulate)
        compared = {"image": (sr, hr)}  # (B, C, rH, rW) each
        if gradient is not None:
            compared["branch"] = (gradient, gradient_map(hr))
        losses: dict[str, Tensor] = {}
        for term in stage.terms:
            criterion = criteria[term.loss]
            with precision(criterion, recipe=recipe):
                more = ema_of(state, lr, loss=criterion)
                losses[term.name] = criterion(*compared[term.on], **more)  # scalar
        for d in discriminators:
            losses[d.spec.name] = generator_loss(d, recipe=recipe, sr=sr, hr=hr)
        weights = stage.weights_at(step)  # SPSR, equation 10
        placed: dict[str, float | Tensor] = {
            **weights,
            **state.weights,
        }  # where a graph finds those that ramp up
        total = sum((placed[k] * loss for k, loss in losses.items()), start=sr.new_zeros(()))
        if gradient_check is not None:
            gradient_check.generator(losses, weights=weights, network=state.model)
        optimizer_step(state.optimizer, total, optim=stage.optim, learning_rate=lr_at(stage.optim))
    ema_update(state, decay=recipe.ema_decay)  # the discriminators below never move the generator

    # The discriminators: first on the same images, then on new ones of the updated generator.
    for turn, (lr, hr) in enumerate(images):
        if turn > 0:
            with torch.no_grad():  # a new batch is for the discriminators alone
                sr, _ = forward(state, lr, recipe=recipe, guided=False, accumulate=accumulate)
        for d in discriminators:
            rng = d.generator(turn, seed=recipe.seed, step=state.step)
            loss, measured = discriminator_loss(d, recipe=recipe, sr=sr.detach(), hr=hr, rng=rng)
            if gradient_check is not None and turn == 0:
                gradient_check.discriminator(d.spec.name, loss, network=d.network)
            optimizer_step(d.optimizer, loss, optim=d.spec.optim, learning_rate=lr_at(d.spec.optim))
            losses |= {f"{d.spec.name}.{key}": value for key, value in measured.items()}
    return {name: loss.detach().float() for name, loss in (losses | {"total": total}).items()}


def forward(
    state: State, lr: Tensor, *, recipe: Recipe, guided: bool, accumulate: int = 1
) -> tuple[Tensor, Tensor | None]:
    """Return SR and, if ``guided``, the gradient map that the branch predicts, in float32.

    In parts nothing but SR is kept of each; going back, the network is asked once more, part by
    part. So the losses see the whole batch, whatever they mean over.
    """
    network = state.model.with_gradient if guided else state.model

    def result(part: Tensor) -> tuple[Tensor, ...]:  # (B / accumulate, C, rH, rW) each
        found: Tensor | GradientGuided = network(part)  # type: ignore[operator]
        return (found,) if isinstance(found, Tensor) else (found.sr, found.gradient)

    with precision(state.model, recipe=recipe):
        parts = [
            result(piece) if accumulate == 1 else checkpoint(result, piece, use_reentrant=False)
            for piece in shard(lr).tensor_split(accumulate)
        ]
    images = [all_gather(torch.cat(each).float(), like=lr) for each in zip(*parts, strict=True)]
    return images[0], images[1] if guided else None


def generator_loss(d: DiscriminatorState, *, recipe: Recipe, sr: Tensor, hr: Tensor) -> Tensor:
    """Return how little the discriminator takes SR for HR; the graph goes through SR alone."""
    with precision(d.network, recipe=recipe):
        fake = d.spec.input_of(sr if d.spec.weight else sr.detach())  # (B, C, rH, rW)
        return d.loss.generator_loss(d.network, real=d.spec.input_of(hr), fake=fake)


def discriminator_loss(
    d: DiscriminatorState, *, recipe: Recipe, sr: Tensor, hr: Tensor, rng: Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the discriminator's own loss, of HR against SR or its negatives, and what to log."""
    fake = sr if d.negatives is None else d.negatives(hr, generator=rng)
    with precision(d.network, recipe=recipe):
        real, fake = d.spec.input_of(hr), d.spec.input_of(fake)  # (B, C, rH, rW)
        return d.loss.discriminator_loss(d.network, real=real, fake=fake, rng=rng)


def precision(module: object, *, recipe: Recipe) -> torch.autocast:
    """Return bfloat16 autocast if the recipe says so and ``module`` has weights, else none."""
    weight = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    enabled = recipe.precision == "bfloat16" and weight is not None
    return torch.autocast("cpu" if weight is None else weight.device.type, torch.bfloat16, enabled)


@dataclass(frozen=True)
class Outcome:
    """How a run ended, after how many updates and seconds, and the network file if it finished."""

    status: Literal["finished"] | Stopped
    step: int
    model_path: Path | None
    seconds: float = field(default=0.0, compare=False)  # of training, and between updates


def train(recipe: Recipe, store: Store, *, options: RunOptions) -> Outcome:
    """Run ``recipe`` on ``store`` from its start or from what is found in ``options.out``.

    There ``log.jsonl`` is the log, ``last.safetensors`` the whole state, ``stage-N.safetensors``
    that at the end of each stage, ``model.safetensors`` the network once the run has finished.
    Raises NotFiniteError: a loss or weight is not finite more often than the recipe retries;
    TrainingError: a loss, a discriminator or a part that is to learn is dead; CheckpointError: a
    checkpoint does not belong to this recipe or store, or cannot be saved; InputError: the recipe
    does not fit the store or the options, or the folder is in use.
    """
    with running(options) as stopped:
        state = begin(recipe, store, options=options)
        parts = options.accumulate
        check_recipe(recipe, state.model, data_root=options.data_root, accumulate=parts)
        if options.graph:
            check_recordable(recipe, accumulate=parts)
        if state.step < recipe.steps:  # before anything is written; again with each stage
            store.verify(images=16)
        criteria = build_losses(recipe, device=options.device)  # VGG19 and the like, once
        source = store.to(options.device) if is_resident(store, options=options) else store
        with closing(RunReport(recipe, options, store=store, state=state)) as report:
            while True:
                try:
                    why = _run(state, source, criteria=criteria, report=report, stopped=stopped)
                    report.checkpoint(state, "last")
                    break
                except NotFiniteError as error:
                    failure, rollbacks = error.with_traceback(None), state.rollbacks + 1
                if rollbacks > recipe.retries:
                    raise failure
                state = begin(recipe, store, options=options)  # the last good state
                state.rollbacks = rollbacks  # each halves the learning rate
                report.rollback(state, failure)
            model_path = report.finish(state) if why is None else None
    return Outcome(why or "finished", state.step, model_path, state.seconds)


def _run(
    state: State,
    store: Store,
    *,
    criteria: Mapping[Spec[Loss], Loss],
    report: RunReport,
    stopped: Callable[[], Stopped | None],
) -> Stopped | None:
    """Update ``state`` until the recipe ends or its score is reached; or return what stopped it."""
    recipe, options, clock = report.recipe, report.options, time.monotonic()
    every, workers, device = options.gradient_check_every, options.workers, options.device
    update_once: Update = partial(
        update, recipe=recipe, criteria=criteria, accumulate=options.accumulate
    )
    for stage, end in zip(recipe.stages, recipe.stage_ends, strict=True):
        begins = end - stage.steps
        if state.step == begins:
            enter_stage(state, stage, recipe=recipe)  # new optimizers; see Discriminator
        one_update = RecordedUpdate(update_once, recipe=recipe) if options.graph else update_once
        steps, scale = range(state.step, end), state.model.scale
        if steps:
            store.verify(images=16)
        for batch in stage_batches(
            recipe, store, steps=steps, scale=scale, workers=workers, device=device
        ):
            first = state.step == begins
            again = every > 0 and state.step % every == 0 and len(stage.weights_at(0)) > 1
            check = GradientCheck() if first or again else None  # costs a backward per loss
            values = one_update(state, batch, gradient_check=check)
            state.step += 1
            if check is not None:
                if first:  # later a loss may rightly have become still
                    check.verify(stage=stage.name)
                report.gradients(check, state)
            before, clock = clock, time.monotonic()
            state.seconds += clock - before
            report.after_update(state, values)
            if (why := stopped()) and state.step < recipe.steps:
                return why
            if options.until is not None and all_reduce_max(int(report.reached), device=device):
                return None
    return None
