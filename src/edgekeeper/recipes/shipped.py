"""The networks that come with the package: ESPCN and a light EDSR for x2, x3 and x4.

Each is trained twice from a common first stage, to the same number of steps: without and with the
gradient variance loss (Abrahamyan et al., ICASSP 2022; weight 0.01, patch 8 at x2 and 16 at x3
and x4). The x3 and x4 light EDSR and the x2 and x4 ESPCN begin from the trunk of a trained
sibling, as the EDSR paper does (its section 4.2); only the last layer is new.
"""

from typing import Literal

from edgekeeper.losses import L1, L2, GradientVariance
from edgekeeper.models import EDSR, ESPCN
from edgekeeper.recipe import Data, Loss, Optim, Recipe, Stage, Start, Term, Validation
from edgekeeper.spec import Spec, spec

Kind = Literal["plain", "gv"]

CANDIDATES = 4  # patches drawn for each one that is kept
GV_WEIGHT = 0.01
GV_PATCH = {2: 8, 3: 16, 4: 16}


def _terms(base: Spec[Loss], *, scale: int, kind: Kind) -> tuple[Term, ...]:
    pixel = Term("pixel", base)
    if kind == "plain":
        return (pixel,)
    return (pixel, Term("gv", spec(GradientVariance, patch=GV_PATCH[scale]), weight=GV_WEIGHT))


def _name(model: str, scale: int, kind: Kind) -> str:
    return f"{model}_x{scale}" + ("_gv" if kind == "gv" else "")


def espcn(*, scale: int, kind: Kind) -> Recipe:
    """ESPCN on luma, mean squared error, large batches of small patches."""
    from_scratch = scale == 3
    rate = 2e-3
    terms = _terms(spec(L2), scale=scale, kind=kind)
    return Recipe(
        name=_name("espcn", scale, kind),
        model=spec(ESPCN, scale=scale),
        data=Data(patch=32 * scale, batch=32),
        start=None if from_scratch else Start("espcn_x3", fresh=("conv3.",)),
        stages=(
            Stage(
                "trunk",
                steps=8_000 if from_scratch else 1_500,
                candidates=CANDIDATES,
                optim=Optim(rate=rate, warmup=500, clip="norm", clip_limit=0.1),
                terms=(Term("pixel", spec(L2)),),
            ),
            Stage(
                "finish",
                steps=4_000 if from_scratch else 2_000,
                candidates=CANDIDATES,
                optim=Optim(rate=rate, schedule="cosine", clip="norm", clip_limit=0.1),
                terms=terms,
            ),
        ),
        validation=Validation(every=2_000),
        average=0.999,
        precision="bfloat16",
        layout="channels_last",
    )


def edsr_light(*, scale: int, kind: Kind) -> Recipe:
    """A light EDSR: 10 blocks of 48 maps, all of it at LR size, on top of bicubic; about 0.45 M."""
    from_scratch = scale == 2
    rate = 5e-4
    return Recipe(
        name=_name("edsr_light", scale, kind),
        model=spec(EDSR, scale=scale, width=48, blocks=10, upsampler="direct", skip="bicubic"),
        data=Data(patch=32 * scale, batch=16),
        start=None if from_scratch else Start("edsr_light_x2", fresh=("upsampler.",)),
        stages=(
            Stage(
                "trunk",
                steps=8_000 if from_scratch else 2_500,
                candidates=1 if from_scratch else CANDIDATES,
                optim=Optim(rate=rate, warmup=300, clip="norm", clip_limit=1.0),
                terms=(Term("pixel", spec(L1)),),
            ),
            Stage(
                "finish",
                steps=4_000 if from_scratch else 2_000,
                candidates=CANDIDATES,
                optim=Optim(rate=rate, schedule="cosine", clip="norm", clip_limit=1.0),
                terms=_terms(spec(L1), scale=scale, kind=kind),
            ),
        ),
        validation=Validation(every=1_000),
        average=0.998,
        precision="bfloat16",
        layout="channels_last",
    )


KINDS: tuple[Kind, ...] = ("plain", "gv")

SHIPPED: dict[str, Recipe] = {
    recipe.name: recipe
    for family in (espcn, edsr_light)
    for scale in (2, 3, 4)
    for kind in KINDS
    for recipe in (family(scale=scale, kind=kind),)
}
