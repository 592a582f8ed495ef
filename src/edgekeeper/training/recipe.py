"""Recipes: everything that decides what a training run computes, as typed, frozen values.

A variant of a recipe is ``dataclasses.replace(recipe, ...)``. What is not here (paths, device,
workers, time limit) does not change the result. The learning rate is a function of the step.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Protocol

from torch import Generator, Tensor, nn

from edgekeeper.data.degradations import Degradations
from edgekeeper.errors import InputError
from edgekeeper.models import SRModel
from edgekeeper.spec import Spec

Loss = Callable[[Tensor, Tensor], Tensor]

DiscriminatorInput = Literal["image", "gradient", "gradient_ring"]
"""What a discriminator looks at: images, their gradient maps, or those with a ring around them."""


class AdversarialLoss(Protocol):
    """The two sides of ``losses.adversarial``: scalars of a discriminator's logits of HR and SR."""

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return what the generator makes small."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return what the discriminator makes small."""


class Negatives(Protocol):
    """What makes images out of HR ones that a discriminator is to tell from them."""

    def __call__(self, hr: Tensor, *, generator: Generator) -> Tensor:
        """Any number of images of the size of ``hr``; chance comes from ``generator`` alone."""


@dataclass(frozen=True)
class Data:
    """How batches are cut from the packed store. ``patch`` is in HR pixels.

    ``crop``: anywhere, each place equally likely; or the centre of each image once an epoch.
    ``degradations``: LR is made of HR in this way instead of being read from the store.
    """

    patch: int
    batch: int
    augment: Literal["none", "flips", "eight"] = "eight"
    crop: Literal["random", "centre"] = "random"
    degradations: Degradations | None = None


@dataclass(frozen=True)
class Optim:
    """The optimizer and its learning rate over the steps of one stage.

    ``kind``: Adam, plain gradient descent with momentum, or SOAP (`edgekeeper.training.soap`; with
    ``betas=(0.95, 0.95)``), which for small networks needs far fewer updates than Adam.
    ``schedule``: "constant"; "cosine" falls from ``learning_rate`` to ``final_learning_rate`` over
    the stage; "steps" multiplies by ``gamma`` after each of ``milestones`` (counted within the
    stage). ``warmup`` steps rise linearly from 0.
    ``clip``: "norm" limits the global gradient norm to ``clip_limit``; "value_over_rate" limits
    every value to ±clip_limit / learning_rate (VDSR, section 3.2).
    """

    learning_rate: float
    kind: Literal["adam", "sgd", "soap"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    final_learning_rate: float = 0.0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.5
    warmup: int = 0
    clip: Literal["none", "norm", "value_over_rate"] = "none"
    clip_limit: float = 0.0

    def learning_rate_at(self, step: int, *, steps: int) -> float:
        """The learning rate of update ``step`` (counted from 0) in a stage of ``steps`` updates."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "cosine":
            done = (step - self.warmup) / max(1, steps - self.warmup)
            fall = 0.5 * (1 + math.cos(math.pi * done))
            return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * fall
        if self.schedule == "steps":
            return self.learning_rate * self.gamma ** sum(
                step >= milestone for milestone in self.milestones
            )
        return self.learning_rate


@dataclass(frozen=True)
class Term:
    """One weighted term of an objective. ``ramp`` steps raise the weight linearly from 0.

    ``on``: the term compares the images, or the gradient map that the network's gradient branch
    predicts with that of the HR image.
    """

    name: str
    loss: Spec[Loss]
    weight: float = 1.0
    ramp: int = 0
    on: Literal["image", "branch"] = "image"

    def weight_at(self, step: int) -> float:
        """Return the weight at update ``step`` of the stage, counted from 0."""
        return self.weight * min(1.0, (step + 1) / self.ramp) if self.ramp else self.weight


@dataclass(frozen=True)
class Adversary:
    """A discriminator that learns to tell SR from HR, and its weight for the generator.

    With ``negatives`` it learns to tell from HR what they make of HR, and sees SR only when the
    generator asks for its opinion (``losses.Unnatural``). With a weight of 0 it just learns.

    The discriminator that the stage before had under the same name and spec goes on learning;
    otherwise it is made new, from the recipe's seed and its name.
    """

    name: str
    discriminator: Spec[nn.Module]
    loss: Spec[AdversarialLoss]
    optim: Optim
    weight: float
    sees: DiscriminatorInput = "image"
    negatives: Spec[Negatives] | None = None


@dataclass(frozen=True)
class Stage:
    """A part of a run: so many updates with this optimizer on these terms.

    ``candidates`` times the batch is drawn for each update, and the patches with the strongest
    edges are kept: photographs are mostly sky and blur, from which little is learned.
    ``trains``: beginnings of the names of the generator's parameters that learn, () for all.
    Each update of the generator is followed by ``discriminator_updates`` of every adversary's
    discriminator, the first on the same images, each further one on a batch of its own.
    """

    name: str
    steps: int
    optim: Optim
    terms: tuple[Term, ...]
    candidates: int = 1
    adversaries: tuple[Adversary, ...] = ()
    trains: tuple[str, ...] = ()
    discriminator_updates: int = 1

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the terms and then of the adversaries."""
        return (*(term.name for term in self.terms), *(a.name for a in self.adversaries))

    @property
    def drawn(self) -> int:
        """How many batches one update takes."""
        return self.discriminator_updates if self.adversaries else 1


@dataclass(frozen=True)
class Validation:
    """Which set is scored during the run, under which protocol, every how many steps."""

    set_name: str = "set5"
    protocol: str = "y_matlab"
    every: int = 1000


@dataclass(frozen=True)
class Start:
    """Begin from the result of another recipe, except for the layers that are made new.

    ``fresh`` are beginnings of parameter names, for example ``("conv3.",)``. With ``into`` the
    other network becomes the part of that name (``"backbone."``); what is outside it is new.
    """

    recipe: str
    fresh: tuple[str, ...] = ()
    into: str = ""


@dataclass(frozen=True)
class Recipe:
    """A whole training run. ``ema_decay`` is that of the weights' EMA, 0 for none.

    ``retries``: how often a loss or a weight may become infinite or NaN; the run then goes on from
    its last checkpoint with half the learning rate.
    """

    name: str
    model: Spec[SRModel]
    data: Data
    stages: tuple[Stage, ...]
    validation: Validation | None = None
    start: Start | None = None
    seed: int = 0
    ema_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    layout: Literal["contiguous", "channels_last"] = "contiguous"
    retries: int = 0

    def __post_init__(self) -> None:
        """Refuse values that could only fail later, deep in a run."""
        if not self.stages or any(stage.steps < 1 for stage in self.stages):
            raise InputError(f"Recipe '{self.name}' needs stages of at least one step each.")
        if self.data.batch < 1 or self.data.patch < 1:
            raise InputError(
                f"A batch of {self.data.batch} patches of {self.data.patch} pixels is empty; "
                "both must be at least 1."
            )
        for stage in self.stages:
            _check_stage(stage, recipe=self.name)
        if not 0.0 <= self.ema_decay < 1.0:
            raise InputError(f"ema_decay is {self.ema_decay}; it is a decay in [0, 1).")
        if self.retries < 0:
            raise InputError(f"retries is {self.retries}; give 0 or more.")

    @property
    def steps(self) -> int:
        """The number of updates of all stages together."""
        return sum(stage.steps for stage in self.stages)

    @property
    def stage_ends(self) -> tuple[int, ...]:
        """After how many updates each stage ends."""
        return tuple(accumulate(stage.steps for stage in self.stages))

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """Return the stage of update ``step`` (counted from 0) and the step's number within it."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise InputError(f"Recipe '{self.name}' has {self.steps} steps; no stage for a later one.")

    def to_json(self) -> dict[str, object]:
        """Return the recipe as plain values, for checkpoints and cards."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def prefix_json(self, step: int) -> dict[str, object]:
        """What decided the state after ``step`` updates: equal prefixes have equal states."""
        whole = {**self.to_json(), "stages": _plain(self._stages_until(step))}
        return {name: value for name, value in whole.items() if name not in _UNRELATED}

    def continues(self, prefix: object, *, step: int) -> bool:
        """Whether ``prefix``, saved after ``step`` updates, decided the same as this recipe's own.

        A field that did not exist yet when it was saved counts as its default.
        """
        if step > self.steps or not isinstance(prefix, dict):
            return False
        stages = self._stages_until(step)
        others = {name: getattr(self, name) for name in ("stages", *_UNRELATED)}
        return _agrees(stages, prefix.get("stages")) and _agrees(self, {**prefix, **others})

    def _stages_until(self, step: int) -> tuple[Stage, ...]:
        """Return the stages of the first ``step`` updates, the last one whole."""
        starts = accumulate((stage.steps for stage in self.stages), initial=0)
        return tuple(
            stage for stage, start in zip(self.stages, starts, strict=False) if start < step
        )


# What says nothing about the state: two recipes may differ in it and have the same run.
_UNRELATED = ("name", "validation")


# What earlier versions called a field or a choice.
_FORMERLY = {
    "average": "ema_decay",
    "rate": "learning_rate",
    "final_rate": "final_learning_rate",
    "critic": "discriminator",
    "critic_updates": "discriminator_updates",
    "picture": "image",
}


def _agrees(value: object, saved: object) -> bool:
    """Return whether ``saved``, plain values, says what ``value`` says."""
    if value is saved:
        return True
    if isinstance(value, Spec) or not dataclasses.is_dataclass(value):
        if isinstance(value, tuple) and isinstance(saved, list):
            return len(value) == len(saved) and all(map(_agrees, value, saved))
        return _plain(value) in (saved, _FORMERLY.get(str(saved), saved))
    if not isinstance(saved, dict):
        return False
    fields = {field.name: field for field in dataclasses.fields(value)}
    saved = {_FORMERLY.get(name, name): old for name, old in saved.items()}
    return saved.keys() <= fields.keys() and all(
        _agrees(getattr(value, name), saved[name])
        if name in saved
        else getattr(value, name) == field.default
        for name, field in fields.items()
    )


def _check_stage(stage: Stage, *, recipe: str) -> None:
    """Refuse a stage that could not train."""
    for optim in (stage.optim, *(adversary.optim for adversary in stage.adversaries)):
        _check_optim(optim)
    for field in ("candidates", "discriminator_updates"):
        if getattr(stage, field) < 1:
            raise InputError(
                f"Stage '{stage.name}' has {field} = {getattr(stage, field)}; give 1 or more."
            )
    if not stage.terms and not stage.adversaries:
        raise InputError(f"Stage '{stage.name}' of recipe '{recipe}' has no terms.")
    names = stage.parts
    if len(set(names)) < len(names):
        raise InputError(f"Stage '{stage.name}' names a term twice: {', '.join(names)}.")


def _check_optim(optim: Optim) -> None:
    """Refuse an optimizer that could not train."""
    if not 0.0 < optim.learning_rate < math.inf:
        raise InputError(
            f"The learning rate is {optim.learning_rate}; it must be positive and finite."
        )
    if optim.clip != "none" and not optim.clip_limit > 0.0:
        raise InputError(
            f"clip is '{optim.clip}' but clip_limit is {optim.clip_limit}; give a positive limit."
        )


def _plain(value: object) -> object:
    """``value`` with dataclasses and specs turned into dictionaries and tuples into lists."""
    if isinstance(value, Spec):
        return {"name": value.name, "arguments": {k: _plain(v) for k, v in value.arguments}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
