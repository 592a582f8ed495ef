"""An update recorded as a CUDA graph; on the processor, the same without the recording."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store
from edgekeeper.errors import InputError
from edgekeeper.losses import (
    L1,
    L2,
    AdversarialLoss,
    Gradient,
    NaturalManifold,
    RelativisticGAN,
    StructureTasks,
    Unnatural,
    WassersteinGP,
)
from edgekeeper.losses.adversarial import VanillaGAN
from edgekeeper.models import ChainSR, StructureExtractor
from edgekeeper.models.discriminators import UNetDiscriminator, VGGDiscriminator
from edgekeeper.pretrained.checkpoint import load_model
from edgekeeper.spec import Spec, spec
from edgekeeper.training import graph as recording
from edgekeeper.training.graph import WARM_UP
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.recipe import Data, Discriminator, Optim, Recipe, Stage, Term
from edgekeeper.training.soap import SETTLING, SOAP, StackedSOAP

OPTIM = Optim(
    learning_rate=4e-3, kind="soap", betas=(0.95, 0.95), epsilon=1e-8, schedule="cosine", warmup=3
)
STAGES = (
    Stage("one", 16, OPTIM, (Term("pixel", spec(L1)),), candidates=2),
    Stage("two", 14, OPTIM, (Term("pixel", spec(L1)), Term("square", spec(L2)))),
)
RECIPE = Recipe(
    name="small",
    model=spec(ChainSR, scale=2, width=4, blocks=3, depth=2),
    data=Data(patch=24, batch=3),
    stages=STAGES,
    ema_decay=0.9,
    layout="channels_last",
)


class Recorder(TorchDispatchMode):
    """A CUDA graph on the processor: operations on fixed tensors, to be done again."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, ...]] = []
        self.known: list[torch.Generator] = []
        self.before: list[tuple[Tensor, Tensor]] = []  # what was written to, and what it held
        self.replays = 0

    def register_generator_state(self, rng: torch.Generator) -> None:
        """Let the graph draw from ``rng``, as of each replay."""
        self.known.append(rng)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("A graph cannot read a number back.")
        drawn = kwargs.get("generator")  # another object for the same numbers
        assert drawn is None or drawn.initial_seed() in [rng.initial_seed() for rng in self.known]
        for place, given in enumerate(func._schema.arguments):
            running = given.name.startswith("running_")  # written to, which its schema conceals
            if running or (given.alias_info is not None and given.alias_info.is_write):
                written = args[place] if place < len(args) else kwargs.get(given.name)
                self.before += [(x, x.detach().clone()) for x in tree_leaves(written)]
        found = func(*args, **kwargs)
        self.steps.append((func, args, kwargs, found))
        return found

    def replay(self) -> None:
        """Do all again, each result where it was."""
        self.replays += 1
        with torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, found in self.steps:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorder]]:
    """The graphs that are made, on a processor that takes itself for a GPU."""
    made: list[Recorder] = []

    @contextmanager
    def record(graph: Recorder, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        made.append(graph)
        states = [rng.get_state() for rng in graph.known]
        with graph:
            yield
        with torch.no_grad():  # a recording computes nothing
            for tensor, held in reversed(graph.before):
                tensor.copy_(held)
        for rng, state in zip(graph.known, states, strict=True):
            rng.set_state(state)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in (
        ("CUDAGraph", Recorder),
        ("graph", record),
        ("Stream", lambda device: stream),
        ("current_stream", lambda device: stream),
        ("stream", lambda stream: nullcontext()),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(
        sys.modules["torch.optim.adam"], "_get_capturable_supported_devices", lambda: ["cpu"]
    )
    monkeypatch.setattr(recording, "GRAPH_DEVICES", ("cpu",))
    yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("images")
    image = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / "noise.png")
    return prepare_store(sources_in(folder), folder / "store", scales=(2,))


# A large epsilon: the relativistic loss is blind to a constant, whose gradient is but rounding.
ADAM = Optim(
    learning_rate=1e-2,
    epsilon=0.1,
    weight_decay=1e-3,
    schedule="cosine",
    warmup=3,
    clip="norm",
    clip_limit=0.5,
)
CRITIC = spec(VGGDiscriminator, size=24, width=2, norm="none")


def against(
    network: Spec[nn.Module], loss: Spec[AdversarialLoss], *, updates: int = 1, **others: Any
) -> Recipe:
    """A recipe with two discriminators, of images and their gradients, and a weight that ramps."""
    discriminators = tuple(
        Discriminator(sees, network, loss, ADAM, weight=0.05, input=sees, **others)  # type: ignore[arg-type]
        for sees in ("image", "gradient")
    )
    terms = (Term("pixel", spec(L1)), Term("edges", spec(Gradient), weight=0.3, ramp=7))
    stage = Stage("gan", 9, ADAM, terms, 1, discriminators, discriminator_updates=updates)
    return dataclasses.replace(RECIPE, stages=(stage,), ema_decay=0.0)


FIDELITY = dataclasses.replace(
    RECIPE, stages=(dataclasses.replace(STAGES[0], optim=ADAM),), ema_decay=0.0
)
NATURAL = against(
    spec(VGGDiscriminator, size=24, width=2, norm="none"),
    spec(NaturalManifold),
    negatives=spec(Unnatural, scale=2),
)
ADVERSARIAL = {
    "fidelity": FIDELITY,
    "relativistic": against(spec(VGGDiscriminator, size=24, width=2), spec(RelativisticGAN)),
    "Wasserstein": against(CRITIC, spec(WassersteinGP), updates=2),
    "natural": NATURAL,
    "spectral": against(spec(UNetDiscriminator, width=2), spec(VanillaGAN)),
    "half": dataclasses.replace(against(CRITIC, spec(WassersteinGP)), precision="bfloat16"),
}
every_recipe = pytest.mark.parametrize("recipe", ADVERSARIAL.values(), ids=ADVERSARIAL)


class Run(NamedTuple):
    """The whole state after a run, and the losses of each update."""

    tensors: dict[str, Tensor]
    losses: list[dict[str, Any]]


def run(recipe: Recipe, store: Store, out: Path, **options: Any) -> Run:
    given = {"workers": 0, "gradient_check_every": 6, "log_every": 1, **options}
    train(recipe, store, options=RunOptions(out=out, **given))
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [{**line, "seconds": 0, "stage": 0} for line in lines if "total" in line]
    return Run(load_file(out / "last.safetensors"), losses)


@every_recipe
def test_a_run_with_discriminators_has_the_bits_of_a_plain_one(
    recipe: Recipe, store: Store, tmp_path: Path
) -> None:
    plain = run(recipe, store, tmp_path / "plain")
    recorded = run(recipe, store, tmp_path / "recorded", graph=True)
    assert len(plain.losses) == recipe.steps and recorded.losses == plain.losses
    assert recorded.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(recorded.tensors[name], t) for name, t in plain.tensors.items())


@every_recipe
def test_replayed_operations_give_what_the_update_gives(
    recipe: Recipe, store: Store, tmp_path: Path, recorder: list[Recorder]
) -> None:
    recipe = dataclasses.replace(recipe, ema_decay=0.9)
    plain = run(recipe, store, tmp_path / "plain")
    assert not recorder
    recorded = run(recipe, store, tmp_path / "recorded", graph=True, gradient_check_every=0)
    (graph,) = recorder
    assert graph.replays == recipe.steps - 1 - WARM_UP  # the first has its gradients looked at
    for ours, theirs in zip(recorded.losses, plain.losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(recorded.tensors[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_soap_is_replayed(
    store: Store, tmp_path: Path, recorder: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(recording, "GRAPH_DEVICES", ())
        plain = run(RECIPE, store, tmp_path / "plain", graph=True, gradient_check_every=0)
    assert not recorder
    recorded = run(RECIPE, store, tmp_path / "recorded", graph=True, gradient_check_every=0)
    assert len(recorder) == 2  # a graph for each stage
    assert all(graph.replays for graph in recorder)
    for name, tensor in plain.tensors.items():
        if name.startswith(("model", "ema")):
            torch.testing.assert_close(recorded.tensors[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_recording_that_fails_says_so(
    store: Store, tmp_path: Path, recorder: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **others: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    with pytest.raises(InputError, match=r"not permitted .*Train it without --graph"):
        run(FIDELITY, store, tmp_path / "run", graph=True)


Weights = Callable[..., dict[str, Tensor]]


@pytest.fixture
def weights(store: Store, tmp_path: Path) -> Weights:
    """The weights at the end of a run of so many stages."""

    def weights(name: str, *, stages: int, **options: Any) -> dict[str, Tensor]:
        given = {"out": tmp_path / name, "workers": 0, "gradient_check_every": 6, **options}
        recipe = dataclasses.replace(RECIPE, stages=STAGES[:stages])
        outcome = train(recipe, store, options=RunOptions(**given))
        assert outcome.model_path is not None
        return load_model(outcome.model_path).state_dict()

    return weights


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float) -> None:
    for name, tensor in expected.items():
        error = torch.linalg.vector_norm(found[name] - tensor)
        assert error <= rtol * torch.linalg.vector_norm(tensor), name


def test_a_recorded_run_equals_a_plain_one(weights: Weights) -> None:
    # Until the bases turn: in directions without any gradient they are as rounding wants them.
    plain = weights("plain", stages=1)
    assert_near(weights("recorded", stages=1, graph=True), plain, 1e-5)


def test_a_recorded_run_is_resumed_in_the_same_bits(weights: Weights) -> None:
    straight = weights("straight", stages=2, graph=True)
    weights("resumed", stages=1, graph=True)
    resumed = weights("resumed", stages=2, graph=True)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_equals_what_it_records(weights: Weights) -> None:
    plain = weights("plain", stages=1, device="cuda")
    assert_near(weights("recorded", stages=1, device="cuda", graph=True), plain, 1e-3)


def test_stacked_soap_is_soap() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 4, 3, 3), (6, 4, 3, 3), (6,), (5, 6), (6,)]
    ours, theirs = ([nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    stacked: SOAP = SOAP(ours, lr=0.01, weight_decay=0.1)
    plain = SOAP(theirs, lr=0.01, weight_decay=0.1)
    for update in range(3 * SETTLING):
        if update == SETTLING + 2:
            stacked = StackedSOAP(stacked)
        rate = 0.01 / (1 + update)
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for optimizer in (stacked, plain):
            optimizer.param_groups[0]["lr"] = rate
            if isinstance(optimizer, StackedSOAP):
                optimizer.advance(learning_rate=rate)
            optimizer.step()
            if isinstance(optimizer, StackedSOAP):
                optimizer.renew()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        for key, value in plain.state[b].items():
            torch.testing.assert_close(
                stacked.state[a][key].abs(), value.abs(), rtol=1e-3, atol=1e-4
            )


def test_stacked_soap_goes_on_from_updates() -> None:
    with pytest.raises(ValueError, match="goes on from updates"):
        StackedSOAP(SOAP([nn.Parameter(torch.ones(2))], lr=0.1))


def test_what_cannot_be_recorded_is_said(store: Store, tmp_path: Path) -> None:
    sgd = Optim(learning_rate=1e-3, kind="sgd")
    clipped = dataclasses.replace(ADAM, clip="value_over_rate")
    taught = Discriminator(
        "taught", spec(StructureExtractor), spec(StructureTasks), ADAM, weight=0.1
    )
    for changes, message in (
        ({"optim": sgd}, "is 'sgd', not 'adam' or 'soap'"),
        ({"optim": clipped}, "clips by the learning rate"),
        ({"discriminators": (dataclasses.replace(taught, optim=sgd),)}, "is 'sgd'"),
        ({"discriminators": (taught,)}, "loss draws numbers"),
    ):
        recipe = dataclasses.replace(RECIPE, stages=(dataclasses.replace(STAGES[0], **changes),))  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message):
            train(recipe, store, options=RunOptions(out=tmp_path / "out", graph=True))
