"""Which term of an objective moves which part of the network, and how the terms agree.

A term that is written down but reaches nothing (a discriminator whose loss never comes back to the
generator, a branch that no loss looks at) goes unnoticed in a log of losses. Here each term's own
gradient is taken, so that a dead one is an error before the first update.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekeeper.data.store import Batch
from edgekeeper.errors import NotFiniteError, TrainingError
from edgekeeper.training.objective import Objective
from edgekeeper.training.recipe import Recipe
from edgekeeper.training.state import State, trained
from edgekeeper.training.update import frozen, numbers_of, pairs, produce


@dataclass(frozen=True)
class Flow:
    """The weighted terms' gradients with respect to what learns, on one batch.

    Attributes:
        norms: for each term of the generator with a weight, its length in each part (direct
            child) of the network that it reaches, and over all under ``"all"``.
        cosines: between the gradients of two terms, under both names with " and " between.
        discriminators: for each discriminator the length of the gradient of its own loss.
        unreached: modules with parameters that learn but that no term reaches.
    """

    norms: dict[str, dict[str, float]]
    cosines: dict[str, float]
    discriminators: dict[str, float]
    unreached: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the measured numbers with four digits."""
        return {
            "norms": {term: _rounded(parts) for term, parts in self.norms.items()},
            "cosines": _rounded(self.cosines),
            "discriminators": _rounded(self.discriminators),
        }


def measure(state: State, batch: Batch, *, objective: Objective, recipe: Recipe, step: int) -> Flow:
    """The flow of ``objective`` at update ``step`` of its stage; the state is left as it was."""
    learning = trained(state.model)
    discriminators = [adversarial.discriminator for adversarial in objective.adversarial_terms]
    kept = [(b, b.clone()) for network in (state.model, *discriminators) for b in network.buffers()]
    lr, hr = pairs(batch, recipe=recipe, model=state.model)[0]
    with frozen(discriminators):
        sr, gradient = produce(state.model, lr, recipe=recipe, guided=objective.guided)
        values = objective.values(sr, hr, gradient=gradient)
        found = [_gradients(value, learning.values()) for value in values]
        sr = sr.detach()
        del values, gradient  # and with them the generator's graph
    own: dict[str, float] = {}
    for adversarial in objective.adversarial_terms:
        numbers = numbers_of(seed=recipe.seed, step=state.step, turn=0)
        loss, _ = objective.judge(adversarial, sr=sr, hr=hr, numbers=numbers)
        own[adversarial.adversary.name] = _length(
            _gradients(loss, trained(adversarial.discriminator).values())
        )
    with torch.no_grad():
        for buffer, value in kept:
            buffer.copy_(value)
    weights = objective.weights(step)
    counted = {  # a weight of 0 is for what is only measured or taught
        part: (gradients, weight)
        for part, gradients, weight in zip(objective.parts, found, weights, strict=True)
        if weight != 0.0
    }
    return Flow(
        norms={
            part: _by_part(learning, gradients, weight=weight)
            for part, (gradients, weight) in counted.items()
        },
        cosines=_cosines({part: gradients for part, (gradients, _) in counted.items()}),
        discriminators=own,
        unreached=_unreached(learning, found),
    )


def check(flow: Flow, *, stage: str) -> None:
    """Check that every term, discriminator and part that learns takes part.

    Raises:
        TrainingError: names what is dead.
        NotFiniteError: a gradient is infinite or NaN.
    """
    lengths = {term: parts["all"] for term, parts in flow.norms.items()} | flow.discriminators
    for term, length in lengths.items():
        if not math.isfinite(length):
            raise NotFiniteError(
                f"The gradient of '{term}' in stage '{stage}' is {length} on the first batch. "
                "Start from other weights, or look at the loss."
            )
    for term, parts in flow.norms.items():
        if parts["all"] == 0.0:
            raise TrainingError(
                f"The term '{term}' of stage '{stage}' is dead: its gradient reaches nothing that "
                "the stage trains. Leave it out, or train what it is meant for."
            )
    for name, length in flow.discriminators.items():
        if length == 0.0:
            raise TrainingError(
                f"The discriminator of '{name}' in stage '{stage}' is dead: its own loss has no "
                "gradient."
            )
    if flow.unreached:
        raise TrainingError(
            f"No term of stage '{stage}' reaches {', '.join(flow.unreached)}, which it is to "
            "train. Add a term for it, or name what is to be trained (Stage.trains)."
        )


Gradients = Sequence[Tensor | None]


def _gradients(value: Tensor, parameters: Iterable[nn.Parameter]) -> Gradients:
    """Return the gradient of ``value`` for each parameter, None where the graph does not lead."""
    wanted = list(parameters)
    if not value.requires_grad:
        return [None] * len(wanted)
    found = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
    return [None if g is None else g.detach().float() for g in found]


def _length(gradients: Gradients) -> float:
    squares = [g.double().square().sum() for g in gradients if g is not None]
    return math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0


def _by_part(
    learning: Mapping[str, nn.Parameter], gradients: Gradients, *, weight: float
) -> dict[str, float]:
    """Return the weighted lengths by part and in all; parts that are not reached are left out."""
    parts: dict[str, list[Tensor | None]] = {}
    for name, gradient in zip(learning, gradients, strict=True):
        parts.setdefault(_part(name), []).append(gradient)
    lengths = {part: abs(weight) * _length(found) for part, found in parts.items()}
    reached = {part: length for part, length in lengths.items() if length > 0.0}
    return {**reached, "all": abs(weight) * _length(gradients)}


def _part(name: str) -> str:
    return name.partition(".")[0]


def _unreached(learning: Mapping[str, nn.Parameter], found: Sequence[Gradients]) -> tuple[str, ...]:
    """Return the modules with a parameter that is in the graph of no term."""
    reached = {
        name
        for gradients in found
        for name, gradient in zip(learning, gradients, strict=True)
        if gradient is not None
    }
    return tuple(sorted({name.rpartition(".")[0] for name in learning.keys() - reached}))


def _cosines(found: Mapping[str, Gradients]) -> dict[str, float]:
    names = list(found)
    lengths = {name: _length(found[name]) for name in names}
    cosines = {}
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            product = sum(
                float((a * b).sum())
                for a, b in zip(found[one], found[other], strict=True)
                if a is not None and b is not None
            )
            both = lengths[one] * lengths[other]
            cosines[f"{one} and {other}"] = product / both if both else 0.0
    return cosines


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}
