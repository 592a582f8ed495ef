"""One update of a training run: of the generator, and then of each discriminator."""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgekeeper.data.degradations import degrade
from edgekeeper.data.store import Batch
from edgekeeper.errors import InputError
from edgekeeper.models import SRModel
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.training.objective import Objective
from edgekeeper.training.recipe import Optim, Recipe
from edgekeeper.training.state import State


def structured(batch: Batch, *, keep: int, groups: int = 1) -> Batch:
    """Return the patches of ``batch`` with the largest mean squared difference of neighbours.

    Of each of ``groups`` equal parts of the batch ``keep`` are taken.
    """
    if len(batch.hr) == keep * groups:
        return batch
    green = batch.hr[:, 1].float()  # (B, P, P); stands for luma, at a third of the cost
    across = (green[:, :, 1:] - green[:, :, :-1]).square().mean((1, 2))
    down = (green[:, 1:] - green[:, :-1]).square().mean((1, 2))
    strength = (across + down).view(groups, -1)
    first = torch.arange(groups, device=strength.device)[:, None] * strength.shape[1]
    chosen = (strength.topk(keep).indices + first).flatten()
    return Batch(batch.lr[chosen], batch.hr[chosen])


def degraded(batch: Batch, *, recipe: Recipe, scale: int, step: int) -> Batch:
    """Return ``batch`` with LR made of HR as the recipe says, for update ``step`` of the run."""
    settings = recipe.data.degradations
    if settings is None:
        return batch
    key = {"seed": recipe.seed, "step": step, "first_index": 0}
    lr = degrade(batch.as_float().hr, scale=scale, settings=settings, **key)
    return Batch((lr * 255).round().to(torch.uint8), batch.hr)


def pairs(batch: Batch, *, recipe: Recipe, model: SRModel) -> list[tuple[Tensor, Tensor]]:
    """Return the LR and HR images of ``batch`` as floats, in parts of the recipe's batch size."""
    found = []
    size = recipe.data.batch
    for start in range(0, len(batch.hr), size):
        part = slice(start, start + size)
        small, large = as_input(batch.lr[part], model), as_input(batch.hr[part], model)
        if recipe.layout == "channels_last":
            small = small.contiguous(memory_format=torch.channels_last)
        found.append((small, large))
    return found


def as_input(pixels: Tensor, model: SRModel) -> Tensor:
    """Stored RGB bytes (B, 3, H, W) as what the network takes: RGB or luma in [0, 1]."""
    rgb = pixels.float().div_(255)
    return rgb_to_y(rgb) if model.channels == "y" else rgb


def produce(
    model: SRModel, lr: Tensor, *, recipe: Recipe, guided: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the SR batch in float32, and what the gradient branch predicts if ``guided``.

    Raises:
        InputError: the network has no gradient branch.
    """
    bfloat16 = recipe.precision == "bfloat16"
    with torch.autocast(lr.device.type, torch.bfloat16, enabled=bfloat16):
        if not guided:
            return model(lr).float(), None
        with_gradient = getattr(model, "with_gradient", None)
        if with_gradient is None:
            raise InputError(
                f"A term of recipe '{recipe.name}' is on the gradient branch, but "
                f"{type(model).__name__} has none; wrap it in GradientBranch or leave the term out."
            )
        found = with_gradient(lr)
    return found.sr.float(), found.gradient.float()


def update(
    state: State, batch: Batch, *, objective: Objective, step: int, recipe: Recipe
) -> Tensor:
    """Return the values of ``objective.names`` and then the total, after one update of the weights.

    ``step`` counts within the stage of ``objective``. The values stay on the device.
    """
    (lr, hr), *further = pairs(batch, recipe=recipe, model=state.model)
    stage = objective.stage
    with frozen(adversarial.discriminator for adversarial in objective.adversarial_terms):
        sr, gradient = produce(state.model, lr, recipe=recipe, guided=objective.guided)
        total, values = objective(sr, hr, step=step, gradient=gradient)
        learning_rate = learning_rate_of(stage.optim, state=state, step=step, steps=stage.steps)
        _descend(
            state.optimizer, state.model, total, optim=stage.optim, learning_rate=learning_rate
        )
    if state.ema is not None:
        _follow(state.ema, state.model, decay=min(recipe.ema_decay, _quick(state.step)))
    if not objective.adversarial_terms:
        return torch.cat([values, total.detach().float().reshape(1)])
    measured = _teach(state, objective, sr=sr.detach(), hr=hr, recipe=recipe, turn=0)
    for turn, (lr, hr) in enumerate(further, start=1):
        with torch.no_grad():
            sr, _ = produce(state.model, lr, recipe=recipe, guided=False)
        measured = _teach(state, objective, sr=sr, hr=hr, recipe=recipe, turn=turn)
    return torch.cat([values, measured, total.detach().float().reshape(1)])


def learning_rate_of(optim: Optim, *, state: State, step: int, steps: int) -> float:
    """The learning rate of update ``step`` of a stage of ``steps``; each rollback halves it."""
    return optim.learning_rate_at(step, steps=steps) * 0.5**state.rollbacks


@contextmanager
def frozen(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block no parameter of ``networks`` collects a gradient."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _teach(
    state: State, objective: Objective, *, sr: Tensor, hr: Tensor, recipe: Recipe, turn: int
) -> Tensor:
    """Return what the discriminators measured on these images, in one update of each.

    Called after the generator's update; ``turn`` counts the discriminators' updates since.
    """
    _, step = recipe.stage_at(state.step)
    measured = []
    for adversarial in objective.adversarial_terms:
        numbers = numbers_of(seed=recipe.seed, step=state.step, turn=turn)
        loss, values = objective.judge(adversarial, sr=sr, hr=hr, numbers=numbers)
        adversary_state, optim = (
            state.adversary_states[adversarial.adversary.name],
            adversarial.adversary.optim,
        )
        learning_rate = learning_rate_of(optim, state=state, step=step, steps=objective.stage.steps)
        _descend(
            adversary_state.optimizer,
            adversary_state.discriminator,
            loss,
            optim=optim,
            learning_rate=learning_rate,
        )
        measured.append(values)
    return torch.cat(measured)


def numbers_of(*, seed: int, step: int, turn: int) -> torch.Generator:
    """Random numbers, made on the CPU, that depend on the arguments alone."""
    # A generator of the CPU takes no more than 32 bits of its seed.
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {step} {turn}".encode()))


def _descend(
    optimizer: torch.optim.Optimizer,
    network: nn.Module,
    loss: Tensor,
    *,
    optim: Optim,
    learning_rate: float,
) -> None:
    """One update of ``network`` against the gradient of ``loss``."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if optim.clip == "norm":
        nn.utils.clip_grad_norm_(network.parameters(), optim.clip_limit)
    elif optim.clip == "value_over_rate":
        nn.utils.clip_grad_value_(network.parameters(), optim.clip_limit / learning_rate)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()


def _quick(step: int) -> float:
    """Return the decay of the EMA at the beginning of a run, which forgets fast."""
    return (1 + step) / (10 + step)


@torch.no_grad()
def _follow(ema: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Move the weights of ``ema`` towards those of ``model``; buffers are taken over."""
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
    for kept, new in zip(ema.buffers(), model.buffers(), strict=True):
        kept.copy_(new)
