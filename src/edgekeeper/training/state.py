"""All that changes during a training run: made, saved, restored."""

import copy
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekeeper.checkpoint import (
    load_exactly,
    optimiser_tensors,
    read_tensors,
    restore_optimiser,
    write_tensors,
)
from edgekeeper.data.store import Store
from edgekeeper.errors import CheckpointError, InputError, NotFiniteError
from edgekeeper.models import SRModel
from edgekeeper.training.recipe import Adversary, Optim, Recipe, Stage
from edgekeeper.training.soap import SOAP


@dataclass
class Rival:
    """The critic of an adversary and its optimiser."""

    adversary: Adversary
    critic: nn.Module
    optimiser: torch.optim.Optimizer


@dataclass
class State:
    """All that changes during a run. ``rollbacks``: how often it went back to a checkpoint."""

    model: SRModel
    average: SRModel | None
    optimiser: torch.optim.Optimizer
    rivals: dict[str, Rival] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    origin: dict[str, object] = field(default_factory=dict)

    @property
    def result(self) -> SRModel:
        """The network to score and to ship: the weight average where there is one."""
        return self.average if self.average is not None else self.model


def begin(
    recipe: Recipe,
    store: Store,
    *,
    checkpoint: Path | None,
    start_from: Path | None,
    device: torch.device,
) -> State:
    """The state to go on from: that of ``checkpoint``, or a new one.

    ``start_from`` is the network file that the recipe's ``start`` asks for.

    Raises:
        CheckpointError: the checkpoint belongs to another recipe or store, or is damaged.
        InputError: the recipe starts from another network than the one given.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = recipe.model.build()
    origin = {} if checkpoint is not None else _start(recipe, model, start_from=start_from)
    if recipe.layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = model.to(device).train()
    average = copy.deepcopy(model).requires_grad_(False) if recipe.average else None
    first = recipe.stages[0]
    state = State(model, average, make_optimiser(first.optim, model.parameters()), origin=origin)
    if checkpoint is None:
        enter(state, first, recipe=recipe)
    else:
        _restore(state, recipe, store, path=checkpoint)
    return state


def enter(state: State, stage: Stage, *, recipe: Recipe) -> None:
    """Make ``state`` ready for the first update of ``stage``.

    What the stage trains gets a new optimiser; the rest is frozen, running averages included.
    Critics that go on from the stage before keep their weights and get a new optimiser too.

    Raises:
        InputError: the stage trains parameters that the network does not have.
    """
    check_trains(stage, state.model)
    state.model.zero_grad(set_to_none=True)  # what is frozen must not count when norms are limited
    for name, parameter in state.model.named_parameters():
        parameter.requires_grad_(not stage.trains or name.startswith(stage.trains))
    training_mode(state.model)
    state.optimiser = make_optimiser(stage.optim, trained(state.model).values())
    state.rivals = {a.name: _rival(state, a, recipe=recipe) for a in stage.adversaries}


def check_trains(stage: Stage, model: nn.Module) -> None:
    """Raise InputError if the stage trains parameters that the network does not have."""
    for beginning in stage.trains:
        if not any(name.startswith(beginning) for name, _ in model.named_parameters()):
            parts = ", ".join(name for name, _ in model.named_children())
            raise InputError(
                f"Stage '{stage.name}' trains '{beginning}', but {type(model).__name__} has "
                f"no such parameters; its parts are {parts}."
            )


def training_mode(model: nn.Module) -> None:
    """None: what learns is put in training mode; frozen normalisations keep their averages."""
    for module in model.modules():  # from the outside in; what has no parameters follows
        parameters = list(module.parameters())
        if parameters:
            module.train(any(parameter.requires_grad for parameter in parameters))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of ``model`` that learn, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _rival(state: State, adversary: Adversary, *, recipe: Recipe) -> Rival:
    before = state.rivals.get(adversary.name)
    if before is not None and before.adversary.critic == adversary.critic:
        critic = before.critic
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed ^ zlib.crc32(adversary.name.encode()))
            critic = adversary.critic.build()
        if recipe.layout == "channels_last":
            critic = critic.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        critic = critic.to(next(state.model.parameters()).device).train()
    return Rival(adversary, critic, make_optimiser(adversary.optim, critic.parameters()))


def _start(recipe: Recipe, model: SRModel, *, start_from: Path | None) -> dict[str, object]:
    """Load the weights that ``recipe.start`` asks for; returns where they came from."""
    if recipe.start is None:
        if start_from is not None:
            raise InputError(f"Recipe '{recipe.name}' starts from scratch; leave --start away.")
        return {}
    if start_from is None:
        raise InputError(
            f"Recipe '{recipe.name}' starts from the network of recipe '{recipe.start.recipe}': "
            "give its file with --start."
        )
    file = read_tensors(start_from)
    card = file.facts.get("card")
    origin = card.get("recipe") if isinstance(card, dict) else None
    trained_by = origin.get("name") if isinstance(origin, dict) else "unknown"
    if trained_by != recipe.start.recipe:
        raise InputError(
            f"'{start_from}' was trained by recipe '{trained_by}', "
            f"but '{recipe.name}' starts from '{recipe.start.recipe}'."
        )
    fresh, into = recipe.start.fresh, recipe.start.into
    kept = {into + k: v.float() for k, v in file.tensors.items() if not k.startswith(fresh)}
    new = {
        k: v
        for k, v in model.state_dict().items()
        if not k.startswith(into) or k.removeprefix(into).startswith(fresh)
    }
    load_exactly(model, {**kept, **new}, origin=str(start_from))
    return {"recipe": trained_by, "card": card}


def _restore(state: State, recipe: Recipe, store: Store, *, path: Path) -> None:
    """Put the state of checkpoint ``path`` into ``state``."""
    file = read_tensors(path)
    step = file.facts.get("step")
    if not isinstance(step, int) or not recipe.continues(file.facts.get("prefix"), step=step):
        raise CheckpointError(
            f"'{path}' belongs to another recipe than '{recipe.name}', or the recipe has changed "
            "since. Choose another --out folder to start anew."
        )
    if file.facts.get("store") != store.fingerprint:
        raise CheckpointError(f"'{path}' was trained on another picture store than this one.")

    def part(name: str) -> dict[str, Tensor]:
        prefix = name + "."
        return {k.removeprefix(prefix): v for k, v in file.tensors.items() if k.startswith(prefix)}

    state.step = step
    state.seconds = float(str(file.facts["seconds"]))
    state.rollbacks = int(str(file.facts.get("rollbacks", 0)))
    state.origin = dict(file.facts["origin"])  # type: ignore[call-overload]
    load_exactly(state.model, part("model"), origin=str(path))
    if state.average is not None:
        load_exactly(state.average, part("average"), origin=str(path))
    stage, _ = recipe.stage_at(max(step - 1, 0))
    enter(state, stage, recipe=recipe)
    restore_optimiser(state.optimiser, state.model, tensors=part("optimiser"))
    for name, rival in state.rivals.items():
        load_exactly(rival.critic, part(f"critic {name}"), origin=str(path))
        restore_optimiser(
            rival.optimiser, rival.critic, tensors=part(f"optimiser of critic {name}")
        )


def make_optimiser(optim: Optim, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """A new optimiser for ``parameters``."""
    if optim.kind == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=optim.rate,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )
    if optim.kind == "soap":
        return SOAP(
            parameters,
            rate=optim.rate,
            betas=optim.betas,
            epsilon=optim.epsilon,
            weight_decay=optim.weight_decay,
        )
    return torch.optim.Adam(
        parameters,
        lr=optim.rate,
        betas=optim.betas,
        eps=optim.epsilon,
        weight_decay=optim.weight_decay,
    )


def save(state: State, path: Path, *, recipe: Recipe, store: Store) -> None:
    """Write the whole state to ``path``, once it is known to be finite.

    Raises:
        NotFiniteError: a weight is not finite; nothing is written.
        CheckpointError: the file cannot be written; an earlier one is unchanged.
    """
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    for name, rival in state.rivals.items():
        tensors |= {f"critic {name}.{k}": v for k, v in rival.critic.state_dict().items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise NotFiniteError(
                f"The weights '{name.removeprefix('model.')}' are not finite after step "
                f"{state.step}. The last good checkpoint is kept in '{path.parent}'; lower the "
                "learning rate or clip."
            )
    if state.average is not None:
        tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    optimiser = optimiser_tensors(state.optimiser, state.model)
    tensors |= {f"optimiser.{k}": v for k, v in optimiser.items()}
    for name, rival in state.rivals.items():
        optimiser = optimiser_tensors(rival.optimiser, rival.critic)
        tensors |= {f"optimiser of critic {name}.{k}": v for k, v in optimiser.items()}
    facts = {
        "recipe": recipe.to_json(),
        "prefix": recipe.prefix_json(state.step),
        "store": store.fingerprint,
        "step": state.step,
        "seconds": state.seconds,
        "rollbacks": state.rollbacks,
        "origin": state.origin,
    }
    write_tensors(path, tensors, facts=facts)
