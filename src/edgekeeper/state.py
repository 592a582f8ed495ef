"""All that changes during a training run: made, saved, restored."""

import copy
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
from edgekeeper.errors import CheckpointError, InputError, TrainingError
from edgekeeper.models import SRModel
from edgekeeper.recipe import Optim, Recipe
from edgekeeper.soap import SOAP


@dataclass
class State:
    """All that changes during a run."""

    model: SRModel
    average: SRModel | None
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
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
    state = State(model, average, make_optimiser(recipe.stages[0].optim, model), origin=origin)
    if checkpoint is not None:
        _restore(state, recipe, store, path=checkpoint)
    return state


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
    fresh = recipe.start.fresh
    kept = {k: v.float() for k, v in file.tensors.items() if not k.startswith(fresh)}
    new = {k: v for k, v in model.state_dict().items() if k.startswith(fresh)}
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
    state.origin = dict(file.facts["origin"])  # type: ignore[call-overload]
    load_exactly(state.model, part("model"), origin=str(path))
    if state.average is not None:
        load_exactly(state.average, part("average"), origin=str(path))
    if step:
        stage, _ = recipe.stage_at(step - 1)
        state.optimiser = make_optimiser(stage.optim, state.model)
        restore_optimiser(state.optimiser, state.model, tensors=part("optimiser"))


def make_optimiser(optim: Optim, model: nn.Module) -> torch.optim.Optimizer:
    """A new optimiser for all parameters of ``model``."""
    if optim.kind == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=optim.rate,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )
    if optim.kind == "soap":
        return SOAP(
            model.parameters(),
            rate=optim.rate,
            betas=optim.betas,
            epsilon=optim.epsilon,
            weight_decay=optim.weight_decay,
        )
    return torch.optim.Adam(
        model.parameters(),
        lr=optim.rate,
        betas=optim.betas,
        eps=optim.epsilon,
        weight_decay=optim.weight_decay,
    )


def save(state: State, path: Path, *, recipe: Recipe, store: Store) -> None:
    """Write the whole state to ``path``, once it is known to be finite.

    Raises:
        TrainingError: a weight is not finite; nothing is written.
        CheckpointError: the file cannot be written; an earlier one is unchanged.
    """
    for name, parameter in state.model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise TrainingError(
                f"The weights '{name}' are not finite after step {state.step}. The last good "
                f"checkpoint is kept in '{path.parent}'; lower the learning rate or clip."
            )
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    optimiser = optimiser_tensors(state.optimiser, state.model)
    tensors |= {f"optimiser.{k}": v for k, v in optimiser.items()}
    facts = {
        "recipe": recipe.to_json(),
        "prefix": recipe.prefix_json(state.step),
        "store": store.fingerprint,
        "step": state.step,
        "seconds": state.seconds,
        "origin": state.origin,
    }
    write_tensors(path, tensors, facts=facts)
