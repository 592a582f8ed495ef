"""The ladder: three sizes of ChainSR for each scale, the networks to use by default.

A run is a constant learning rate in stages of 10,000 updates, so that it may be ended after any of
them, and a last stage in which the rate falls to 0. SOAP, mean absolute error, 8 patches of 24 LR
pixels; of three patches drawn the one with the strongest edges is kept (docs/diary.md). Beside it
``restore``: the balanced size, for photographs that were blurred, noisy and compressed.
"""

from dataclasses import dataclass, replace
from typing import Literal

from edgekeeper.data.degradations import PHOTO
from edgekeeper.losses import L1
from edgekeeper.models import ChainSR
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Start, Term, Validation

Size = Literal["fast", "balanced", "best"]


@dataclass(frozen=True)
class Shape:
    """The arguments of ChainSR for one size of the ladder, and how long it is trained."""

    width: int
    blocks: int
    depth: int
    constant_stages: int
    falling_steps: int


SHAPES: dict[Size, Shape] = {
    "fast": Shape(width=16, blocks=8, depth=3, constant_stages=4, falling_steps=20_000),
    "balanced": Shape(width=32, blocks=6, depth=3, constant_stages=5, falling_steps=20_000),
    "best": Shape(width=48, blocks=6, depth=3, constant_stages=8, falling_steps=20_000),
}

SOAP = Optim(learning_rate=4e-3, kind="soap", betas=(0.95, 0.95), epsilon=1e-12, warmup=100)
FALLING = Optim(
    learning_rate=4e-3, kind="soap", betas=(0.95, 0.95), epsilon=1e-12, schedule="cosine"
)
CONSTANT_STEPS = 10_000


def ladder(*, size: Size, scale: int, constant_stages: int | None = None) -> Recipe:
    """Return the recipe of one rung; ``constant_stages`` where it is to be trained for longer."""
    shape = SHAPES[size]
    terms = (Term("pixel", spec(L1)),)
    count = shape.constant_stages if constant_stages is None else constant_stages
    constant = tuple(
        Stage(f"constant {n}", CONSTANT_STEPS, SOAP, terms, candidates=3)
        for n in range(1, count + 1)
    )
    falling = Stage("falling", shape.falling_steps, FALLING, terms, candidates=3)
    return Recipe(
        name=f"{size}_x{scale}",
        model=spec(ChainSR, scale=scale, width=shape.width, blocks=shape.blocks, depth=shape.depth),
        data=Data(patch=24 * scale, batch=8),
        stages=(*constant, falling),
        validation=Validation(every=5_000),
        ema_decay=0.999,
        precision="bfloat16",
        layout="channels_last",
    )


def restore(*, scale: int, constant_stages: int = 2) -> Recipe:
    """Return the recipe of the network for photographs as they are: blurred, noisy, compressed.

    It begins from the balanced network of its scale, so that both can be blended.
    """
    faithful = ladder(size="balanced", scale=scale, constant_stages=constant_stages)
    return replace(
        faithful,
        name=f"restore_x{scale}",
        data=replace(faithful.data, patch=32 * scale, degradations=PHOTO),
        start=Start(f"balanced_x{scale}"),
    )


LADDER: dict[str, Recipe] = {
    recipe.name: recipe
    for size in SHAPES
    for scale in (2, 3, 4)
    for recipe in (ladder(size=size, scale=scale),)
} | {recipe.name: recipe for scale in (2, 4) for recipe in (restore(scale=scale),)}
