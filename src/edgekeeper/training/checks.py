"""What is checked before the first update of a run, and in the first update of each stage."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError, NotFiniteError, TrainingError
from edgekeeper.evaluation.evaluate import results
from edgekeeper.models import SRModel
from edgekeeper.models.own import check_loadable
from edgekeeper.spec import Spec
from edgekeeper.training.distributed import check_shards
from edgekeeper.training.recipe import Recipe

_Gradients = Sequence[Tensor | None]


def check_recipe(
    recipe: Recipe, model: SRModel, *, data_root: Path | None, accumulate: int = 1
) -> None:
    """Raise InputError for what would fail only in a later stage, at validation or on loading."""
    _check_network(recipe.model, model)
    check_shards(model, batch=recipe.data.batch, accumulate=accumulate)
    for stage in recipe.stages:
        for beginning in stage.trains:
            if not any(name.startswith(beginning) for name, _ in model.named_parameters()):
                parts = ", ".join(name for name, _ in model.named_children())
                raise InputError(
                    f"Stage '{stage.name}' trains '{beginning}', but {type(model).__name__} has "
                    f"no such parameters; its parts are {parts}."
                )
        # the branch is a method, not a class: SPSR, DGGGAN and GradientBranch have it
        if any(term.on == "branch" for term in stage.terms) and not hasattr(model, "with_gradient"):
            raise InputError(
                f"A term of stage '{stage.name}' is on the gradient branch, but "
                f"{type(model).__name__} has none; wrap it in GradientBranch or leave the term out."
            )
        needing = [t.name for t in stage.terms if getattr(t.loss.target, "needs_ema", False)]
        if needing and not recipe.ema_decay:
            raise InputError(
                f"The term '{needing[0]}' of stage '{stage.name}' compares with the result of the "
                "weights' EMA; give the recipe an ema_decay above 0."
            )
        for discriminator in stage.discriminators:
            with torch.device("meta"):  # takes no memory
                discriminator.network.build()
    if recipe.data.patch % model.scale:  # LR patches have whole pixels
        raise InputError(
            f"The patch of {recipe.data.patch} HR pixels is no multiple of the scale {model.scale}."
        )
    if recipe.validation is None:
        return
    sets, protocol = [recipe.validation.set_name], recipe.validation.protocol
    if data_root is None:
        raise InputError(
            f"Recipe '{recipe.name}' validates on '{sets[0]}': give the folder of the benchmark "
            "sets (--data), or switch validation off (--no-validation)."
        )
    # Looks the set and the protocol up; images would be made only when asked for.
    results("bicubic", sets=sets, scale=model.scale, data_root=data_root, protocol=protocol)


def _check_network(spec: Spec[SRModel], model: SRModel) -> None:
    missing = [n for n in ("scale", "channels", "receptive_field") if not hasattr(model, n)]
    if missing:
        raise InputError(
            f"{spec.name} does not say its {' and its '.join(missing)}: derive it from "
            "edgekeeper.models.SRModel and set them in its constructor."
        )
    if not spec.target.__module__.startswith("edgekeeper."):
        check_loadable(type(model))
    try:
        json.dumps(spec.to_json())
    except TypeError as error:
        raise InputError(
            f"The arguments of {spec.name} cannot be written into a file ({error}); give numbers, "
            "texts, lists or the spec of another network."
        ) from error


@dataclass
class GradientCheck:
    """The gradients of one update's weighted losses with respect to what learns.

    A loss that is written down but reaches nothing goes unnoticed in a log of losses. Here the
    gradient of each is taken by itself, so that a dead one ends the run at its first update.
    """

    # Of each loss with a weight: the gradient's length in each part (direct child) of the network
    # that it reaches, and over all under "all".
    norms: dict[str, dict[str, float]] = field(default_factory=dict)
    cosines: dict[str, float] = field(default_factory=dict)  # of two losses, "a and b"
    discriminators: dict[str, float] = field(default_factory=dict)  # length, of its own loss
    unreached: tuple[str, ...] = ()  # modules that learn but that no loss reaches

    def generator(
        self, losses: Mapping[str, Tensor], *, weights: Mapping[str, float], network: nn.Module
    ) -> None:
        """Measure the generator's losses, before their graph is used up."""
        # what the stage trains; the rest was frozen in enter_stage
        learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
        found = {name: _gradients(loss, learning.values()) for name, loss in losses.items()}
        reached = {
            name
            for gradients in found.values()
            for name, gradient in zip(learning, gradients, strict=True)
            if gradient is not None
        }
        modules = {name.rpartition(".")[0] for name in learning.keys() - reached}
        self.unreached = tuple(sorted(modules))
        # A weight of 0 is for what is only measured or taught.
        counted = {name: found[name] for name in found if weights[name] != 0.0}
        lengths = {name: _length(gradients) for name, gradients in counted.items()}
        # a part is a direct child: 'head', 'blocks', 'fusion' ...
        for name, gradients in counted.items():
            parts: dict[str, list[Tensor | None]] = {}
            for parameter, gradient in zip(learning, gradients, strict=True):
                parts.setdefault(parameter.partition(".")[0], []).append(gradient)
            measured = {part: abs(weights[name]) * _length(g) for part, g in parts.items()}
            self.norms[name] = {part: length for part, length in measured.items() if length > 0.0}
            self.norms[name]["all"] = abs(weights[name]) * lengths[name]
        for one, other in combinations(counted, 2):
            # cos = <a, b> / |a| |b|: below 0 the two losses pull apart
            product = sum(
                float((a * b).sum())
                for a, b in zip(counted[one], counted[other], strict=True)
                if a is not None and b is not None
            )
            both = lengths[one] * lengths[other]  # |a| |b|
            self.cosines[f"{one} and {other}"] = product / both if both else 0.0

    def discriminator(self, name: str, loss: Tensor, *, network: nn.Module) -> None:
        """Measure a discriminator's own loss, before its graph is used up."""
        learning = [p for p in network.parameters() if p.requires_grad]
        self.discriminators[name] = _length(_gradients(loss, learning))

    def verify(self, *, stage: str) -> None:
        """Check that all that learns takes part. Raises TrainingError, NotFiniteError."""
        own = {name: parts["all"] for name, parts in self.norms.items()}  # weighted lengths
        for name, length in (own | self.discriminators).items():
            if not math.isfinite(length):
                raise NotFiniteError(
                    f"The gradient of '{name}' in stage '{stage}' is {length} on the first batch. "
                    "Start from other weights, or look at the loss."
                )
        for name, length in own.items():
            if length == 0.0:
                raise TrainingError(
                    f"The term '{name}' of stage '{stage}' is dead: its gradient reaches nothing "
                    "that the stage trains. Leave it out, or train what it is meant for."
                )
        for name, length in self.discriminators.items():
            if length == 0.0:
                raise TrainingError(
                    f"The discriminator of '{name}' in stage '{stage}' is dead: its own loss has "
                    "no gradient."
                )
        if self.unreached:
            raise TrainingError(
                f"No term of stage '{stage}' reaches {', '.join(self.unreached)}, which it is to "
                "train. Add a term for it, or name what is to be trained (Stage.trains)."
            )

    def to_json(self) -> dict[str, object]:
        """Return the measured numbers with four digits."""
        return {
            "norms": {name: _rounded(parts) for name, parts in self.norms.items()},
            "cosines": _rounded(self.cosines),
            "discriminators": _rounded(self.discriminators),
        }


def _gradients(loss: Tensor, parameters: Iterable[nn.Parameter]) -> _Gradients:
    wanted = list(parameters)
    if not loss.requires_grad:
        return [None] * len(wanted)  # a constant: nothing led to it
    found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    return [None if g is None else g.detach().float() for g in found]


def _length(gradients: _Gradients) -> float:
    squares = [g.double().square().sum() for g in gradients if g is not None]  # many small ones
    return math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}
