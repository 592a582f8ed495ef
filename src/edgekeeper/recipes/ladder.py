"""The ladder: three sizes of ChainSR for each scale, the networks to use by default.

A run is a constant learning rate in stages of 10,000 updates, so that it may be ended after any of
them, and a last stage in which the rate falls to 0. SOAP, mean absolute error, 8 patches of 24 LR
pixels; of three patches drawn the one with the strongest edges is kept (docs/diary.md). A second,
short run on patches of 64 LR pixels ends it. Beside it
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
    "fast": Shape(width=16, blocks=8, depth=3, constant_stages=1, falling_steps=12_000),
    "balanced": Shape(width=32, blocks=6, depth=3, constant_stages=2, falling_steps=16_000),
    "best": Shape(width=48, blocks=6, depth=3, constant_stages=8, falling_steps=20_000),
}

SOAP = Optim(learning_rate=4e-3, kind="soap", betas=(0.95, 0.95), epsilon=1e-12, warmup=100)
FALLING = Optim(
    learning_rate=4e-3, kind="soap", betas=(0.95, 0.95), epsilon=1e-12, schedule="cosine"
)
CONSTANT_STEPS = 10_000
PIXEL = (Term("pixel", spec(L1)),)


def trunk(*, size: Size, scale: int, constant_stages: int | None = None) -> Recipe:
    """Return the first, long run of one rung; ``constant_stages`` to train it for longer."""
    shape = SHAPES[size]
    count = shape.constant_stages if constant_stages is None else constant_stages
    constant = tuple(
        Stage(f"constant {n}", CONSTANT_STEPS, SOAP, PIXEL, candidates=3)
        for n in range(1, count + 1)
    )
    falling = Stage("falling", shape.falling_steps, FALLING, PIXEL, candidates=3)
    return Recipe(
        name=f"{size}_x{scale}_trunk",
        model=spec(ChainSR, scale=scale, width=shape.width, blocks=shape.blocks, depth=shape.depth),
        data=Data(patch=24 * scale, batch=8),
        stages=(*constant, falling),
        validation=Validation(every=5_000),
        ema_decay=0.999,
        precision="bfloat16",
        layout="channels_last",
    )


def large_patches(*, size: Size, scale: int) -> Recipe:
    """Return the last run of one rung: few patches, so large that their borders count little."""
    optim = replace(FALLING, learning_rate=2e-3, warmup=50)
    return replace(
        trunk(size=size, scale=scale),
        name=f"{size}_x{scale}",
        data=Data(patch=64 * scale, batch=4),
        stages=(Stage("large patches", 2_500, optim, PIXEL, candidates=2),),
        start=Start(f"{size}_x{scale}_trunk"),
    )


def restore(*, scale: int) -> Recipe:
    """Return the recipe of the network for photographs as they are: blurred, noisy, compressed.

    It begins from the balanced network of its scale, so that both can be blended.
    """
    optim = replace(FALLING, learning_rate=3e-3, warmup=100)
    return replace(
        trunk(size="balanced", scale=scale),
        name=f"restore_x{scale}",
        data=Data(patch=24 * scale, batch=8, degradations=PHOTO),
        stages=(Stage("degraded", 11_000, optim, PIXEL, candidates=3),),
        start=Start(f"balanced_x{scale}"),
    )


LADDER: dict[str, Recipe] = {
    recipe.name: recipe
    for size in SHAPES
    for scale in (2, 3, 4)
    for recipe in (trunk(size=size, scale=scale), large_patches(size=size, scale=scale))
} | {recipe.name: recipe for scale in (2, 4) for recipe in (restore(scale=scale),)}
