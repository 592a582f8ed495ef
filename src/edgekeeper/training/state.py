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
    optimizer_tensors,
    read_tensors,
    restore_optimizer,
    write_tensors,
)
from edgekeeper.data.store import Store
from edgekeeper.errors import CheckpointError, InputError, NotFiniteError
from edgekeeper.models import SRModel
from edgekeeper.training.recipe import Adversary, Optim, Recipe, Stage
from edgekeeper.training.soap import SOAP


@dataclass
class AdversaryState:
    """The discriminator of an adversary and its optimizer."""

    adversary: Adversary
    discriminator: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass
class State:
    """All that changes during a run. ``rollbacks``: how often it went back to a checkpoint."""

    model: SRModel
    ema: SRModel | None
    optimizer: torch.optim.Optimizer
    adversary_states: dict[str, AdversaryState] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    origin: dict[str, object] = field(default_factory=dict)

    @property
    def result(self) -> SRModel:
        """The network to score and to ship: the EMA of the weights where there is one."""
        return self.ema if self.ema is not None else self.model


def begin(
    recipe: Recipe,
    store: Store,
    *,
    checkpoint: Path | None,
    start_from: Path | None,
    device: torch.device,
) -> State:
    """Return the state to go on from: that of ``checkpoint``, or a new one.

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
    ema = copy.deepcopy(model).requires_grad_(False) if recipe.ema_decay else None
    first = recipe.stages[0]
    state = State(model, ema, make_optimizer(first.optim, model.parameters()), origin=origin)
    if checkpoint is None:
        enter(state, first, recipe=recipe)
    else:
        _restore(state, recipe, store, path=checkpoint)
    return state


def enter(state: State, stage: Stage, *, recipe: Recipe) -> None:
    """Make ``state`` ready for the first update of ``stage``.

    What the stage trains gets a new optimizer; the rest is frozen, running averages included.
    Discriminators that go on from the stage before keep their weights and get a new optimizer too.

    Raises:
        InputError: the stage trains parameters that the network does not have.
    """
    check_trains(stage, state.model)
    state.model.zero_grad(set_to_none=True)  # what is frozen must not count when norms are limited
    for name, parameter in state.model.named_parameters():
        parameter.requires_grad_(not stage.trains or name.startswith(stage.trains))
    training_mode(state.model)
    state.optimizer = make_optimizer(stage.optim, trained(state.model).values())
    state.adversary_states = {
        a.name: _adversary_state(state, a, recipe=recipe) for a in stage.adversaries
    }


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
    """Put what learns in training mode; frozen normalisations keep their averages."""
    for module in model.modules():  # from the outside in; what has no parameters follows
        parameters = list(module.parameters())
        if parameters:
            module.train(any(parameter.requires_grad for parameter in parameters))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of ``model`` that learn, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _adversary_state(state: State, adversary: Adversary, *, recipe: Recipe) -> AdversaryState:
    before = state.adversary_states.get(adversary.name)
    if before is not None and before.adversary.discriminator == adversary.discriminator:
        discriminator = before.discriminator
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed ^ zlib.crc32(adversary.name.encode()))
            discriminator = adversary.discriminator.build()
        if recipe.layout == "channels_last":
            discriminator = discriminator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        discriminator = discriminator.to(next(state.model.parameters()).device).train()
    return AdversaryState(
        adversary, discriminator, make_optimizer(adversary.optim, discriminator.parameters())
    )


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
        raise CheckpointError(f"'{path}' was trained on another image store than this one.")

    def part(*names: str) -> dict[str, Tensor]:
        """Return the tensors below the first name that is there; the second is an earlier one."""
        for prefix in (f"{name}." for name in names):
            found = {
                k.removeprefix(prefix): v for k, v in file.tensors.items() if k.startswith(prefix)
            }
            if found:
                return found
        return {}

    state.step = step
    state.seconds = float(str(file.facts["seconds"]))
    state.rollbacks = int(str(file.facts.get("rollbacks", 0)))
    state.origin = dict(file.facts["origin"])  # type: ignore[call-overload]
    load_exactly(state.model, part("model"), origin=str(path))
    if state.ema is not None:
        load_exactly(state.ema, part("ema", "average"), origin=str(path))
    stage, _ = recipe.stage_at(max(step - 1, 0))
    enter(state, stage, recipe=recipe)
    restore_optimizer(state.optimizer, state.model, tensors=part("optimizer", "optimiser"))
    for name, adversary_state in state.adversary_states.items():
        load_exactly(
            adversary_state.discriminator,
            part(f"discriminator {name}", f"critic {name}"),
            origin=str(path),
        )
        restore_optimizer(
            adversary_state.optimizer,
            adversary_state.discriminator,
            tensors=part(f"optimizer of discriminator {name}", f"optimiser of critic {name}"),
        )


def make_optimizer(optim: Optim, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return a new optimizer for ``parameters``."""
    if optim.kind == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=optim.learning_rate,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )
    if optim.kind == "soap":
        return SOAP(
            parameters,
            lr=optim.learning_rate,
            betas=optim.betas,
            epsilon=optim.epsilon,
            weight_decay=optim.weight_decay,
        )
    return torch.optim.Adam(
        parameters,
        lr=optim.learning_rate,
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
    for name, adversary_state in state.adversary_states.items():
        tensors |= {
            f"discriminator {name}.{k}": v
            for k, v in adversary_state.discriminator.state_dict().items()
        }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise NotFiniteError(
                f"The weights '{name.removeprefix('model.')}' are not finite after step "
                f"{state.step}. The last good checkpoint is kept in '{path.parent}'; lower the "
                "learning rate or clip."
            )
    if state.ema is not None:
        tensors |= {f"ema.{k}": v for k, v in state.ema.state_dict().items()}
    optimizer = optimizer_tensors(state.optimizer, state.model)
    tensors |= {f"optimizer.{k}": v for k, v in optimizer.items()}
    for name, adversary_state in state.adversary_states.items():
        optimizer = optimizer_tensors(adversary_state.optimizer, adversary_state.discriminator)
        tensors |= {f"optimizer of discriminator {name}.{k}": v for k, v in optimizer.items()}
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
