"""All that changes during a training run: made, saved, restored."""

import copy
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn

from edgekeeper.data.store import Store
from edgekeeper.errors import CheckpointError, NotFiniteError
from edgekeeper.losses import AdversarialLoss
from edgekeeper.models import SRModel
from edgekeeper.models.own import class_files
from edgekeeper.pretrained.checkpoint import (
    agrees,
    code_version,
    load_exactly,
    optimizer_tensors,
    read_tensors,
    restore_optimizer,
    write_tensors,
)
from edgekeeper.spec import Spec, to_plain
from edgekeeper.training.batches import step_generator
from edgekeeper.training.distributed import all_reduce_max, convert_sync_batchnorm, is_rank_zero
from edgekeeper.training.optimizer import Optim, make_optimizer
from edgekeeper.training.process import RunOptions
from edgekeeper.training.recipe import Discriminator, Loss, Negatives, Recipe, Stage
from edgekeeper.training.start import start

N = TypeVar("N", bound=nn.Module)


@dataclass
class DiscriminatorState:
    """A discriminator at work: what the recipe says of it, its network, and what is built of it."""

    spec: Discriminator
    network: nn.Module
    optimizer: torch.optim.Optimizer
    loss: AdversarialLoss
    negatives: Negatives | None
    generators: dict[int, Generator] = field(default_factory=dict)  # by turn
    recording: bool = False  # a graph, before each replay of which they are seeded

    def generator(self, turn: int, *, seed: int, step: int) -> Generator:
        """Return what is random in a turn of update ``step``, by the same object each time.

        On CUDA it draws there, and a graph that knows it reads the seed of the moment.
        """
        if turn not in self.generators:
            device = next(self.network.parameters()).device
            self.generators[turn] = Generator(device if device.type == "cuda" else "cpu")
        rng = self.generators[turn]
        return rng if self.recording else step_generator(seed=seed, step=step, turn=turn, into=rng)


@dataclass
class State:
    """All that changes during a run. ``rollbacks``: how often it went back to a checkpoint.

    ``enter_stage`` makes the optimizer and the discriminators.
    """

    model: SRModel  # what learns
    ema: SRModel | None  # what is scored and shipped
    optimizer: torch.optim.Optimizer = field(init=False)
    discriminators: dict[str, DiscriminatorState] = field(default_factory=dict)
    step: int = 0  # updates done, over all stages
    seconds: float = 0.0  # of training, resumed runs included
    rollbacks: int = 0  # each halves the learning rate
    origin: dict[str, object] = field(default_factory=dict)
    # what a graph finds in place of numbers: the new weights' share in the EMA, and of losses
    ema_share: Tensor | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def result(self) -> SRModel:
        """The network to score and to ship: the EMA of the weights where there is one."""
        return self.ema if self.ema is not None else self.model

    def learning_rate(self, optim: Optim, *, recipe: Recipe) -> float:
        """Return the rate of the next update under ``optim``, halved by each rollback."""
        stage, step = recipe.stage_at(self.step)
        return optim.learning_rate_at(step, steps=stage.steps) * 0.5**self.rollbacks

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks by the names that their tensors have in a checkpoint."""
        found: dict[str, nn.Module] = {"model": self.model}
        found |= {f"discriminator {name}": d.network for name, d in self.discriminators.items()}
        return found if self.ema is None else {**found, "ema": self.ema}

    def optimizers(self) -> dict[str, tuple[torch.optim.Optimizer, nn.Module]]:
        """Return the optimizers, with their networks, by their names in a checkpoint."""
        found: dict[str, tuple[torch.optim.Optimizer, nn.Module]] = {}
        found["optimizer"] = self.optimizer, self.model
        for name, d in self.discriminators.items():
            found[f"optimizer of discriminator {name}"] = d.optimizer, d.network
        return found


def begin(recipe: Recipe, store: Store, *, options: RunOptions) -> State:
    """Return the state of the run's last checkpoint, else of that to resume from, or a new one."""
    last = options.out / "last.safetensors"  # wins over --resume-from: the same command goes on
    checkpoint = last if last.is_file() else options.resume_from
    model = _build(recipe.model, seed=recipe.seed, recipe=recipe, device=options.device)
    convert_sync_batchnorm(model)
    origin = {} if checkpoint else start(recipe, model, file=options.start_from)
    ema = copy.deepcopy(model).requires_grad_(False) if recipe.ema_decay else None
    if options.compile:
        model.compile()  # in place: the EMA, which is scored at other sizes, stays as it is
    state = State(model, ema, origin=origin)
    if checkpoint is not None:
        _restore(state, recipe, store, path=checkpoint)
    return state


def enter_stage(state: State, stage: Stage, *, recipe: Recipe) -> None:
    """Make ``state`` ready for the first update of ``stage``.

    What the stage trains gets a new optimizer; the rest is frozen, running averages included.
    Discriminators that go on from the stage before keep their weights and get a new optimizer too.
    """
    # what does not learn takes no gradient, so a warm-up of the fusion costs little
    for name, parameter in state.model.named_parameters():
        parameter.requires_grad_(not stage.trains or name.startswith(stage.trains))
    training_mode(state.model)
    learning = [p for p in state.model.parameters() if p.requires_grad]  # what the optimizer holds
    state.optimizer = make_optimizer(stage.optim, learning)
    device = str(learning[0].device)
    before, state.discriminators = state.discriminators, {}
    for spec in stage.discriminators:
        earlier = before.get(spec.name)
        if earlier is not None and earlier.spec.network == spec.network:
            network = earlier.network
        else:
            seed = recipe.seed ^ zlib.crc32(spec.name.encode())  # two discriminators begin apart
            network = _build(spec.network, seed=seed, recipe=recipe, device=device)
        optimizer = make_optimizer(spec.optim, network.parameters())
        negatives = spec.negatives.build() if spec.negatives else None
        state.discriminators[spec.name] = DiscriminatorState(
            spec, network, optimizer, spec.loss.build(), negatives
        )


def training_mode(model: nn.Module) -> None:
    """Put what learns in training mode; frozen normalisations keep their averages."""
    for module in model.modules():  # from the outside in; what has no parameters follows
        parameters = list(module.parameters())
        if parameters:
            module.train(any(parameter.requires_grad for parameter in parameters))


@torch.no_grad()
def ema_update(state: State, *, decay: float) -> None:
    """Move the EMA's weights towards the model's, fast at the beginning; buffers are taken over."""
    if state.ema is None:
        return
    # e <- e + (1 - decay) (w - e), all tensors in one call
    weights: list[Tensor] = list(state.ema.parameters())
    if state.ema_share is None:
        share = 1 - ema_decay_at(state.step, decay=decay)
        torch._foreach_lerp_(weights, list(state.model.parameters()), share)
    else:
        change = torch._foreach_sub(list(state.model.parameters()), weights)
        torch._foreach_mul_(change, state.ema_share)
        torch._foreach_add_(weights, change)
    for kept, new in zip(state.ema.buffers(), state.model.buffers(), strict=True):
        kept.copy_(new)


def ema_decay_at(step: int, *, decay: float) -> float:
    """Return the EMA's decay in update ``step``, small at the beginning."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def ema_of(state: State, lr: Tensor, *, loss: Loss) -> dict[str, Tensor]:
    """Return the argument ``sr_ema`` of a loss that ``needs_ema``: what the EMA makes of ``lr``."""
    if state.ema is None or not getattr(loss, "needs_ema", False):
        return {}
    return {"sr_ema": state.ema.eval()(lr).float()}  # (B, C, rH, rW)


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


def build_losses(recipe: Recipe, *, device: str) -> Mapping[Spec[Loss], Loss]:
    """Return the losses of all terms, each built once."""
    specs = dict.fromkeys(term.loss for stage in recipe.stages for term in stage.terms)
    with torch.random.fork_rng(devices=[]):
        built = {spec: spec.build() for spec in specs}
    return {k: v.to(device) if isinstance(v, nn.Module) else v for k, v in built.items()}


def save(state: State, path: Path, *, recipe: Recipe, store: Store) -> None:
    """Write the whole state to ``path``, once it is known to be finite; it is a network file too.

    An earlier file is unchanged where it is not, or cannot be written. Raises NotFiniteError.
    """
    # names as "model.head.weight": the prefix says whose they are
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, network in state.networks().items()
        for name, tensor in network.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise NotFiniteError(
                f"The weights '{name.removeprefix('model.')}' are not finite after step "
                f"{state.step}. A good checkpoint, if one was saved, is in '{path.parent}'; lower "
                "the learning rate or clip."
            )
    for prefix, (optimizer, network) in state.optimizers().items():
        found = optimizer_tensors(optimizer, network)
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in found.items()}
    facts = {
        "model": recipe.model.to_json(),
        "card": card_of(state, recipe=recipe, store=store),
        **class_files(state.model),
        "step": state.step,
        "seconds": state.seconds,
        "rollbacks": state.rollbacks,
    }
    if is_rank_zero():
        write_tensors(path, tensors, facts=facts)
    all_reduce_max(0, device=str(next(state.model.parameters()).device))  # all wait for the file


def card_of(state: State, *, recipe: Recipe, store: Store) -> dict[str, object]:
    """Return where the network of a run comes from."""
    images = {
        (digest := e.source_sha256): {
            "name": Path(e.source).name,
            "sha256": digest,
            "licence": e.licence,
        }
        for e in store.images
    }
    whole = state.step == recipe.steps
    return {
        "recipe": to_plain(recipe),
        "store": store.fingerprint,
        **({"teacher": store.index.teacher} if store.index.teacher else {}),
        "images": sorted(images.values(), key=lambda image: image["name"]),
        "steps": state.step,
        **({} if whole else {"unfinished": f"after {state.step} of {recipe.steps} updates"}),
        "seconds": round(state.seconds, 1),
        "origin": state.origin,
        "code": code_version(),
    }


def _build(network: Spec[N], *, seed: int, recipe: Recipe, device: str) -> N:
    """Return a new network, its weights a function of ``seed``, as the recipe lays it out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # inside the fork: the global state is not touched
        built = network.build()
    if recipe.layout == "channels_last":
        built = built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # NHWC
    return built.to(device).train()


def _restore(state: State, recipe: Recipe, store: Store, *, path: Path) -> None:
    """Put the state of checkpoint ``path`` into ``state``."""
    file = read_tensors(path)
    facts: Any = file.facts
    card, step = facts.get("card") or facts, facts.get("step", 0)  # earlier versions had no card
    if not continues(recipe, card.get("recipe"), step=step):
        raise CheckpointError(
            f"'{path}' belongs to another recipe than '{recipe.name}', or the recipe has changed "
            "since. Choose another --out folder to start anew. To train for longer raise the steps "
            "of the last stage, or add a stage where its learning rate is a cosine over its steps."
        )
    if card.get("store") != store.fingerprint:
        raise CheckpointError(f"'{path}' was trained on another image store than this one.")
    # the stage of the last update: at its end the next one has not begun
    stage, _ = recipe.stage_at(max(step - 1, 0))
    enter_stage(state, stage, recipe=recipe)
    for prefix, network in state.networks().items():
        load_exactly(network, file.below(prefix), origin=str(path))
    for prefix, (optimizer, network) in state.optimizers().items():
        restore_optimizer(optimizer, network, tensors=file.below(prefix))
    state.step = step
    state.seconds, state.rollbacks = facts["seconds"], facts.get("rollbacks", 0)
    state.origin = card["origin"]


def continues(recipe: Recipe, saved: object, *, step: int) -> bool:
    """Whether the recipe ``saved`` as JSON decided the same as ``recipe`` up to update ``step``.

    Stages that have not begun, name and validation do not matter, nor how long the last one that
    has begun is, unless a learning rate of it is a cosine over its steps.
    """
    if not isinstance(saved, dict) or not 0 < step <= recipe.steps:
        return False
    stages = saved.get("stages", [])
    starts = (
        end - stage.steps for stage, end in zip(recipe.stages, recipe.stage_ends, strict=True)
    )
    # later stages may have been changed since
    begun = sum(start < step for start in starts)
    unrelated = {"name": recipe.name, "validation": to_plain(recipe.validation)}
    stages, last = stages[:begun], recipe.stages[begun - 1]
    optims = [last.optim, *(d.optim for d in last.discriminators)]
    reached = sum(stage.get("steps", 0) for stage in stages)
    if reached >= step and all(optim.schedule != "cosine" for optim in optims):
        stages[-1] = {**stages[-1], "steps": last.steps}
    ours = replace(recipe, stages=recipe.stages[:begun])
    return agrees(ours, {**saved, **unrelated, "stages": stages})
