"""The ladder: three sizes for each scale, the networks to use by default, and restoration.

    size       network                        begins from
    fast       ChainSR, 16 maps, 8 blocks     nothing (``fast_x4_trunk``)
    balanced   ChainSR, 32 maps, 6 blocks     nothing (``balanced_x4_trunk``)
    best       EDSR, 48 maps, 10 blocks       the light EDSR of its scale

All are taught by the largest at last (``distilled``), at ×4 with a block less: what
goes on from a network of ×4 has a new last block.

Chains learn by SOAP on 8 patches of 24 LR pixels, of three drawn the one with the strongest edges,
and end on patches of 64, at last by Adam; ×2 and ×3 go on from ×4 with a new last layer. The
largest size learns by Adam on patches of 64. For photographs that were blurred, noisy and
compressed there are ``restore`` and ``restore_texture``, of the largest size. What was tried:
docs/diary.md.
"""

from dataclasses import dataclass, replace
from typing import Literal

from edgekeeper.data.degradations import PHOTO
from edgekeeper.losses import L1, L2, LDL, Gradient, Perceptual, PhasePattern, VanillaGAN
from edgekeeper.models import EDSR, ChainSR, SRModel, UNetDiscriminator
from edgekeeper.recipes.shipped import SOAP_OPTIM
from edgekeeper.spec import Spec, spec
from edgekeeper.training.recipe import (
    Data,
    Discriminator,
    Optim,
    Recipe,
    Stage,
    Start,
    Term,
    Validation,
)

LadderSize = Literal["fast", "balanced", "best"]


@dataclass(frozen=True)
class Shape:
    """The arguments of a size's network, and how long it is trained at ×4."""

    kind: Literal["chain", "edsr"]
    width: int
    blocks: int
    constant_steps: int
    falling_steps: int

    def network(self, *, scale: int, border: int = 2) -> Spec[SRModel]:
        """Return how the network of one scale is built; ``border`` is that of an EDSR."""
        if self.kind == "chain":
            return spec(ChainSR, scale=scale, width=self.width, blocks=self.blocks, depth=3)
        return spec(
            EDSR,
            scale=scale,
            width=self.width,
            blocks=self.blocks,
            upsampler="direct",
            skip="bicubic",
            border=border,
        )

    @property
    def in_time(self) -> "Shape":
        """The same with a block less: what the time of the size allows at ×4."""
        return replace(self, blocks=self.blocks - 1)

    @property
    def last_block(self) -> str:
        """How the names of the block begin that a network `in_time` lacks."""
        return f"blocks.{self.blocks - 1}."

    @property
    def last(self) -> str:
        """How the names of the last layer begin, which is new at another scale."""
        return "last." if self.kind == "chain" else "upsampler."


SHAPES: dict[LadderSize, Shape] = {
    "fast": Shape("chain", width=16, blocks=8, constant_steps=10_000, falling_steps=12_000),
    "balanced": Shape("chain", width=32, blocks=6, constant_steps=20_000, falling_steps=16_000),
    "best": Shape("edsr", width=48, blocks=10, constant_steps=6_000, falling_steps=7_000),
}

_SOAP = replace(SOAP_OPTIM, learning_rate=4e-3, warmup=100)
FALLING = replace(_SOAP, schedule="cosine", warmup=0)
_ADAM = Optim(learning_rate=8e-4, warmup=50, schedule="cosine", clip="norm", clip_limit=1.0)
PIXEL = (Term("pixel", spec(L1)),)
# Against a teacher: its results differ little, and L1 would count rounding in skies like edges.
_TAUGHT = (Term("pixel", spec(L2), 30.0),)

# PHOTO with less of everything: what is hardly damaged is to stay as it is.
_LESS = replace(
    PHOTO.rounds[0],
    blur=0.6,
    noise=0.7,
    gaussian=(0.0, 12.0),
    sharpen=0.2,
    jpeg=0.9,
    quality=(30, 98),
)
MILD = replace(PHOTO, rounds=(_LESS,), clean=0.15)


def trunk(*, size: LadderSize, scale: int = 4, patch: int = 24, batch: int = 8) -> Recipe:
    """Return the first, long run of one size; ``patch`` in LR pixels."""
    shape = SHAPES[size]
    constant = Stage("constant", shape.constant_steps, _SOAP, PIXEL, candidates=3)
    falling = Stage("falling", shape.falling_steps, FALLING, PIXEL, candidates=3)
    return Recipe(
        name=f"{size}_x{scale}_trunk",
        model=shape.network(scale=scale),
        data=Data(patch=patch * scale, batch=batch),
        stages=(constant, falling),
        validation=Validation(every=5_000),
        ema_decay=0.999,
        precision="bfloat16",
        layout="channels_last",
    )


def large_patches(*, size: LadderSize) -> Recipe:
    """Return the last run at ×4: few patches, so large that their borders count little."""
    optim = replace(FALLING, learning_rate=2e-3, warmup=50)
    return replace(
        trunk(size=size, patch=64, batch=4),
        name=f"{size}_x4",
        stages=(
            Stage("large patches", 2_500, optim, PIXEL, candidates=2),
            Stage("Adam", 3_000, _ADAM, PIXEL, candidates=2),
        ),
        start=Start(f"{size}_x4_trunk"),
    )


def best(*, scale: int) -> Recipe:
    """Return the training of the largest size, on from the light EDSR; see cards for updates."""
    shape, falling = SHAPES["best"], replace(_ADAM, learning_rate=5e-4, warmup=0)
    constant = replace(falling, warmup=50, schedule="constant")
    return replace(
        trunk(size="best", scale=scale, patch=64, batch=4),
        name=f"best_x{scale}",
        stages=(
            Stage("constant", shape.constant_steps, constant, PIXEL, candidates=2),
            Stage("falling", shape.falling_steps, falling, PIXEL, candidates=2),
        ),
        start=Start(f"edsr_light_x{scale}"),
    )


def wide() -> Recipe:
    """Return the training of a teacher at ×4, three times as large as what ships.

    It begins (``--start``) from itself or from a network of `best` that benchmarks/reshape.py grew.
    """
    base = best(scale=4)
    model = replace(SHAPES["best"], width=64, blocks=16).network(scale=4)
    optim = replace(_ADAM, learning_rate=5e-4, warmup=100)
    stages = (Stage("Adam", 5_000, optim, PIXEL, candidates=2),)
    return replace(base, name="wide_x4", model=model, stages=stages, start=Start("wide_x4"))


def longer() -> Recipe:
    """Return what the largest size at ×4 does between two distillations: HR itself, for long."""
    shape, optim = SHAPES["best"].in_time, replace(_ADAM, warmup=100)
    stage = Stage("long", 15_000, optim, PIXEL, candidates=2)
    base = replace(best(scale=4), name="best_x4_long", model=shape.network(scale=4))
    return replace(base, stages=(stage,), start=Start("best_x4"))


def distilled(*, size: LadderSize, steps: int, scale: int = 4) -> Recipe:
    """Return the last run of a size: distillation.

    In its store HR is for the most part a teacher's result (``data prepare --teacher``): that of
    the largest network of the scale before this run, whose mean over eight flips
    and turns is better than what it gives at once (×4, Set5: 0.16 to 0.19 dB). At ×4
    benchmarks/reshape.py leaves out the block that is missed least; at ×2 and ×3 the largest goes
    on from ×4.
    """
    shape = SHAPES[size].in_time if scale == 4 else SHAPES[size]
    optim = replace(_ADAM, learning_rate=5e-4 if size == "best" else 1e-3)
    if size == "balanced" and scale == 4:  # four times as long as the others
        optim = replace(FALLING, learning_rate=2.5e-3, warmup=100)
    start = Start(f"{size}_x{scale}")
    if size == "best" and scale != 4:
        start = Start("best_x4", fresh=(SHAPES[size].last, SHAPES[size].last_block))
    return replace(
        trunk(size=size, scale=scale, patch=64, batch=4),
        name=f"{size}_x{scale}_distilled",
        model=shape.network(scale=scale),
        stages=(Stage("taught", steps, optim, _TAUGHT, candidates=2),),
        validation=None,
        start=start,
    )


def other_scale(*, size: LadderSize, scale: int) -> Recipe:
    """Return the training at ×2 or ×3, from ×4 of the same size with a new last layer."""
    optim = replace(FALLING, learning_rate=3e-3, warmup=100)
    steps = {2: 9_000, 3: 7_000}[scale]
    return replace(
        trunk(size=size, scale=scale, patch=48, batch=4),
        name=f"{size}_x{scale}",
        stages=(Stage("from scale 4", steps, optim, PIXEL, candidates=3),),
        start=Start(f"{size}_x4", fresh=("last.", SHAPES[size].last_block)),
    )


def restore_trunk(*, scale: int) -> Recipe:
    """Return the first run of the networks for photographs: blurred, noisy, compressed."""
    base = trunk(size="best", scale=scale, patch=32)
    optim = replace(_ADAM, learning_rate=6e-4, warmup=100)
    return replace(
        base,
        name=f"restore_x{scale}_trunk",
        model=SHAPES["best"].network(scale=scale, border=4),  # at 2 flat colours miss by 4 levels
        data=replace(base.data, degradations=PHOTO),
        stages=(Stage("degraded", 8_000, optim, PIXEL, candidates=3),),
        start=Start(f"best_x{scale}", fresh=(SHAPES["best"].last_block,) if scale == 4 else ()),
    )


def restore_mild(*, scale: int) -> Recipe:
    """Return its second run, on patches that are damaged less and some that are not at all."""
    base = restore_trunk(scale=scale)
    optim = replace(_ADAM, learning_rate=5e-4, warmup=100)
    return replace(
        base,
        name=f"restore_x{scale}_mild",
        data=replace(base.data, degradations=MILD),
        stages=(Stage("degraded", {2: 4_000, 4: 6_000}[scale], optim, PIXEL, candidates=2),),
        start=Start(base.name),
    )


def with_texture(
    *, base: Recipe, name: str, scale: int, steps: int, weights: dict[str, float]
) -> Recipe:
    """Return the recipe of a network that goes on from ``base`` for directions of VGG's maps.

    A discriminator that judges pixels, LDL and the gradient loss keep structure; ``PhasePattern``
    keeps flat areas flat (docs/diary.md). ``weights``: of the terms and of the discriminator,
    "gan"; those that are not named are left out.
    """
    layers = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")
    features = spec(
        Perceptual, layer=layers, activation="after_relu", norm="unit", weights="oxford"
    )
    losses = {
        "perceptual": features,
        "pixel": spec(L1),
        "gradient": spec(Gradient),
        "ldl": spec(LDL),
        "phase": spec(PhasePattern, scale=scale),
    }
    terms = tuple(Term(k, loss, weights[k]) for k, loss in losses.items() if k in weights)
    optim = Optim(learning_rate=2.5e-4, warmup=50, schedule="cosine", final_learning_rate=1e-5)
    judge, fast = spec(UNetDiscriminator, width=32), Optim(learning_rate=5e-4, warmup=20)
    gan = Discriminator("gan", judge, spec(VanillaGAN), fast, weight=weights.get("gan", 0.0))
    adversarial = (gan,) if gan.weight else ()
    return replace(
        base,
        name=name,
        data=replace(base.data, patch=64, batch=8),
        stages=(Stage("texture", steps, optim, terms, discriminators=adversarial),),
        start=Start(base.name),
        ema_decay=0.995,
        retries=3,
    )


def restore(*, scale: int) -> Recipe:
    """Return its last run, short, which brings LPIPS down at little cost in error."""
    return with_texture(
        base=restore_mild(scale=scale),
        name=f"restore_x{scale}",
        scale=scale,
        steps=500,
        weights={"perceptual": 0.05, "pixel": 1.0, "phase": 6.0},
    )


def clean_texture() -> Recipe:
    """Return the recipe of the network with texture for clean images."""
    weights = {"perceptual": 0.12, "pixel": 0.5, "gradient": 0.1, "ldl": 1.0, "phase": 4.0}
    made = with_texture(
        base=best(scale=4),
        name="best_x4_texture",
        scale=4,
        steps=1_200,
        weights=weights | {"gan": 0.1},
    )
    return replace(
        made,
        stages=(replace(made.stages[0], candidates=2),),
        start=Start("best_x4", fresh=(SHAPES["best"].last_block,)),
    )


def restore_texture(*, scale: int) -> Recipe:
    """Return the recipe of a network that restores with texture, of patches as they are drawn."""
    weights = {"perceptual": 0.15, "pixel": 0.6, "gradient": 0.1, "ldl": 1.0, "phase": 6.0}
    made = with_texture(
        base=restore_trunk(scale=scale),
        name=f"restore_x{scale}_texture",
        scale=scale,
        steps=1_300,
        weights=weights | {"gan": 0.5},
    )
    return replace(made, data=replace(made.data, degradations=MILD))


def gpu_rung(
    *, size: LadderSize, scale: int, steps: int, degraded: bool = False, start: str | None = None
) -> Recipe:
    """Return a rung for a GPU: 32 patches of 64 LR pixels, the rate falling from first to last.

    ``steps`` is what the time allows (docs/gpu.md). ``degraded`` makes it a network for
    photographs as they are. ``start`` names the recipe whose network it goes on from; that of
    another scale gives all but the last layer. Bases of SOAP turn a fifth as often as on a
    processor, where the decompositions cost little beside an update.
    """
    name = f"{'restore' if degraded else size}_x{scale}_gpu"
    optim = replace(FALLING, learning_rate=2e-3 if start else 4e-3, warmup=500, renew_every=50)
    new_scale = start is not None and f"_x{scale}_" not in start
    photo = replace(PHOTO, group=32)  # made together; the same patches as in groups of 8
    return replace(
        trunk(size=size, scale=scale),
        name=name,
        model=SHAPES[size].in_time.network(scale=scale),
        data=Data(patch=64 * scale, batch=32, degradations=photo if degraded else None),
        stages=(Stage("falling", steps, optim, PIXEL, candidates=1 if degraded else 2),),
        validation=None,
        start=Start(start, fresh=(SHAPES[size].last,) if new_scale else ()) if start else None,
    )


LADDER: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *(run(size=size) for size in ("fast", "balanced") for run in (trunk, large_patches)),
        *(other_scale(size=size, scale=n) for size in ("fast", "balanced") for n in (2, 3)),
        *(best(scale=scale) for scale in (2, 3, 4)),
        wide(),
        longer(),
        distilled(size="fast", steps=9_000),
        distilled(size="balanced", steps=46_000),
        distilled(size="best", steps=6_500),
        *(distilled(size="fast", steps=steps, scale=n) for n, steps in ((2, 3_600), (3, 4_500))),
        *(
            distilled(size="balanced", steps=steps, scale=n)
            for n, steps in ((2, 2_600), (3, 3_600))
        ),
        *(distilled(size="best", steps=steps, scale=n) for n, steps in ((2, 3_600), (3, 4_500))),
        *(run(scale=scale) for run in (restore_trunk, restore_mild, restore) for scale in (2, 4)),
        clean_texture(),
        *(restore_texture(scale=scale) for scale in (2, 4)),
    )
}
