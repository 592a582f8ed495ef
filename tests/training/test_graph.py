"""An update recorded as a CUDA graph; on the processor, the same without the recording."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.data.store import Store
from edgekeeper.errors import InputError
from edgekeeper.losses import L1, L2
from edgekeeper.models import ChainSR
from edgekeeper.pretrained.checkpoint import load_model
from edgekeeper.spec import spec
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term
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


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("images")
    image = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / "noise.png")
    return prepare_store(sources_in(folder), folder / "store", scales=(2,))


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
    adam = dataclasses.replace(STAGES[0], optim=Optim(learning_rate=1e-3))
    ramp = dataclasses.replace(STAGES[0], terms=(Term("pixel", spec(L1), ramp=5),))
    for stage, message in ((adam, "is 'adam', not 'soap'"), (ramp, "a weight ramps up")):
        recipe = dataclasses.replace(RECIPE, stages=(stage,))
        with pytest.raises(InputError, match=message):
            train(recipe, store, options=RunOptions(out=tmp_path / "out", graph=True))
