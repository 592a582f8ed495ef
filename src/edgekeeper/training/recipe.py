"""Recipes: everything that decides what a training run computes, as typed, frozen values.

A variant of a recipe is ``dataclasses.replace(recipe, ...)``. What is not here (paths, device,
workers, time limit) does not change the result. Values are checked as soon as they are made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Literal

from torch import Tensor, nn

from edgekeeper.data.degradations import Degradations
from edgekeeper.errors import InputError
from edgekeeper.losses import AdversarialLoss
from edgekeeper.models import SRModel
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.spec import Allowed, AtLeastOne, AtLeastZero, Checked, Finite, Spec
from edgekeeper.training.optimizer import Optim as Optim

Loss = Callable[..., Tensor]  # (sr, hr) -> scalar; one that needs_ema is also given sr_ema=
Negatives = Callable[..., Tensor]  # (hr, generator=...) -> images that are to be told from HR


@dataclass(frozen=True)
class Data(Checked):
    """How batches are cut from the packed store. ``patch`` is in HR pixels.

    ``crop``: anywhere, each place equally likely; or the centre of each image once an epoch.
    ``degradations``: LR is made of HR in this way instead of being read from the store.
    """

    patch: AtLeastOne  # HR pixels a side
    batch: AtLeastOne  # patches of one update
    augment: Literal["none", "flips", "eight"] = "eight"  # the square's symmetries
    crop: Literal["random", "centre"] = "random"
    degradations: Degradations | None = None


@dataclass(frozen=True)
class Term(Checked):
    """One weighted loss of the generator. ``ramp`` steps raise the weight linearly from 0.

    ``on``: the loss compares the images, or the gradient map that the network's gradient branch
    predicts with that of the HR image.
    """

    name: str
    loss: Spec[Loss]
    weight: Finite = 1.0
    ramp: AtLeastZero = 0
    on: Literal["image", "branch"] = "image"

    def weight_at(self, step: int) -> float:
        """Return the weight at update ``step`` of the stage, counted from 0."""
        return self.weight * min(1.0, (step + 1) / self.ramp) if self.ramp else self.weight


@dataclass(frozen=True)
class Discriminator(Checked):
    """A discriminator that learns to tell SR from HR; its weight in the generator's loss.

    ``input``: it looks at images, at their gradient maps, or at those with a ring around them.
    With ``negatives`` it learns to tell from HR what they make of HR, and sees SR only when the
    generator asks for its opinion (``losses.Unnatural``). With a weight of 0 it just learns.
    One of the same name and network as in the stage before goes on learning; else it is new,
    made from the recipe's seed and its name.
    """

    name: str
    network: Spec[nn.Module]
    loss: Spec[AdversarialLoss]
    optim: Optim
    weight: Finite
    input: Literal["image", "gradient", "gradient_ring"] = "image"
    negatives: Spec[Negatives] | None = None

    def input_of(self, images: Tensor) -> Tensor:
        """Return what the network is given of images (B, C, H, W)."""
        if self.input == "image":
            return images
        # (B, C, H, W), or (B, C, H + 2, W + 2) with the ring that SPSR's code has
        return gradient_map(images, padding=1 if self.input == "gradient" else 2)


@dataclass(frozen=True)
class Stage(Checked):
    """A part of a run: so many updates with this optimizer on these terms.

    ``candidates`` times the batch is drawn for each update, and the patches with the strongest
    edges are kept: photographs are mostly sky and blur, from which little is learned.
    ``trains``: beginnings of the names of the generator's parameters that learn, () for all.
    Each update of the generator is followed by ``discriminator_updates`` of every discriminator,
    the first on the same images, each further one on a batch of its own. Raises InputError.
    """

    name: str
    steps: AtLeastOne
    optim: Optim
    terms: tuple[Term, ...]
    candidates: AtLeastOne = 1
    discriminators: tuple[Discriminator, ...] = ()
    trains: tuple[str, ...] = ()
    discriminator_updates: AtLeastOne = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [*(t.name for t in self.terms), *(d.name for d in self.discriminators)]
        if not names:
            raise InputError(f"Stage '{self.name}' has no terms.")
        if len(set(names)) < len(names):
            raise InputError(f"Stage '{self.name}' names a term twice: {', '.join(names)}.")

    @property
    def batches(self) -> int:
        """How many batches one update takes."""
        return self.discriminator_updates if self.discriminators else 1

    def weights_at(self, step: int) -> dict[str, float]:
        """Return the weight of each loss of the generator at update ``step`` of the stage."""
        terms = {term.name: term.weight_at(step) for term in self.terms}
        return terms | {d.name: d.weight for d in self.discriminators}


@dataclass(frozen=True)
class Validation(Checked):
    """Which set is scored during the run, under which protocol, every how many steps."""

    set_name: str = "set5"
    protocol: str = "y_matlab"
    every: AtLeastOne = 1000  # updates


@dataclass(frozen=True)
class Start(Checked):
    """Begin from a trained network, by default that of another recipe; `training.start` puts it in.

    With ``into`` it becomes the part of that name (``"backbone."``); what is outside it is new, and
    so is, in the file and here, what begins with one of ``fresh``, for example ``("conv3.",)``.
    """

    recipe: str = ""
    fresh: tuple[str, ...] = ()
    into: str = ""


@dataclass(frozen=True)
class Recipe(Checked):
    """A whole training run. ``ema_decay`` is that of the weights' EMA, 0 for none.

    ``retries``: how often a loss or a weight may become infinite or NaN; the run then goes on from
    its last checkpoint with half the learning rate.
    """

    name: str
    model: Spec[SRModel]
    data: Data
    stages: Annotated[tuple[Stage, ...], Allowed("at least one", bool)]
    validation: Validation | None = None
    start: Start | None = None
    seed: Annotated[int, Allowed("a number from 0 to 2^64 - 1", lambda v: 0 <= v < 2**64)] = 0
    ema_decay: Annotated[float, Allowed("a decay in [0, 1)", lambda v: 0.0 <= v < 1.0)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"  # losses stay in float32
    layout: Literal["contiguous", "channels_last"] = "contiguous"  # NHWC is faster on CPUs
    retries: AtLeastZero = 0

    @property
    def steps(self) -> int:
        """The number of updates of all stages together."""
        return sum(stage.steps for stage in self.stages)

    @property
    def stage_ends(self) -> tuple[int, ...]:
        """After how many updates each stage ends."""
        return tuple(accumulate(stage.steps for stage in self.stages))

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """Return the stage of ``step`` (from 0) and the number within. Raises InputError."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise InputError(f"Recipe '{self.name}' has {self.steps} steps; no stage for a later one.")
