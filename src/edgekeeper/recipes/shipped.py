"""The networks that come with the package: ESPCN and a light EDSR for ×2, ×3 and ×4.

ESPCN is trained from scratch. A light EDSR begins from the trunk of its family, which is ×2
(only the last layer is new where the scale differs, as in section 4.2 of the EDSR paper) and is
trained twice, to the same number of steps on the same batches: without and with the gradient
variance loss (Abrahamyan et al., ICASSP 2022; weight 0.01, patch 8 at ×2 and 16 at ×3 and ×4).

ESPCN learns from photographs as they are and shrunk by 2, 3 and 4. The trunk learned from the same
photographs shrunk by 3, 4 and 6, where edges are crisper than in most images, which did harm
(docs/diary.md); what begins from it from those shrunk by 2, 3 and 4.
"""

from dataclasses import replace
from typing import Literal

from edgekeeper.losses import L1, L2, GradientVariance
from edgekeeper.models import EDSR, ESPCN, SRModel
from edgekeeper.spec import Spec, spec
from edgekeeper.training.recipe import Data, Loss, Optim, Recipe, Stage, Start, Term, Validation

ShippedKind = Literal["plain", "gv"]
_KINDS: tuple[ShippedKind, ...] = ("plain", "gv")

# For small networks SOAP needs far fewer updates than Adam (docs/diary.md).
SOAP_OPTIM = Optim(learning_rate=5e-3, kind="soap", betas=(0.95, 0.95), epsilon=1e-12)

GV_WEIGHT = 0.01  # of the code published with the loss
GV_PATCH: dict[int, int] = {2: 8, 3: 16, 4: 16}  # section 4.1 of its paper


def _terms(base: Spec[Loss], *, scale: int, kind: ShippedKind) -> tuple[Term, ...]:
    pixel = Term("pixel", base)
    if kind == "plain":
        return (pixel,)
    return (pixel, Term("gv", spec(GradientVariance, patch=GV_PATCH[scale]), weight=GV_WEIGHT))


def _recipe(
    name: str,
    model: Spec[SRModel],
    *,
    data: Data,
    stages: tuple[Stage, ...],
    ema_decay: float,
    start: Start | None = None,
) -> Recipe:
    return Recipe(
        name=name,
        model=model,
        data=data,
        stages=stages,
        start=start,
        ema_decay=ema_decay,
        validation=Validation(every=1_000),
        precision="bfloat16",
        layout="channels_last",
    )


def _name(family: str, *, scale: int, kind: ShippedKind) -> str:
    return f"{family}_x{scale}" + ("_gv" if kind == "gv" else "")


def espcn(*, scale: int, kind: ShippedKind) -> Recipe:
    """ESPCN on luma for one scale, mean squared error, from scratch, with one restart.

    After the restart, of three patches drawn only the one with the strongest edges is kept.
    """
    terms = _terms(spec(L2), scale=scale, kind=kind)
    first = replace(SOAP_OPTIM, warmup=100, schedule="cosine")
    again = replace(first, learning_rate=3e-3)
    steps, more = {2: (8_000, 2_000), 3: (20_000, 5_000), 4: (8_000, 2_000)}[scale]
    return _recipe(
        _name("espcn", scale=scale, kind=kind),
        spec(ESPCN, scale=scale),
        data=Data(patch=32 * scale, batch=32),
        stages=(
            Stage("whole", steps, first, terms),
            Stage("polish", more, again, terms, candidates=3),
        ),
        ema_decay=0.999,
    )


def _edsr_light(scale: int) -> Spec[SRModel]:
    """A light EDSR: 10 blocks of 48 maps, all at LR size, on top of bicubic; about 0.45 M."""
    return spec(EDSR, scale=scale, width=48, blocks=10, upsampler="direct", skip="bicubic")


def edsr_light_trunk() -> Recipe:
    """Return the light EDSR ×2, mean absolute error."""
    optim = Optim(learning_rate=5e-4, warmup=300, clip="norm", clip_limit=1.0)
    return _recipe(
        "edsr_light_trunk",
        _edsr_light(2),
        data=Data(patch=64, batch=16),
        stages=(Stage("trunk", 8_000, optim, (Term("pixel", spec(L1)),)),),
        ema_decay=0.998,
    )


def edsr_light(*, scale: int, kind: ShippedKind) -> Recipe:
    """Return the light EDSR for one scale, from the trunk, the rate falling to 0."""
    optim = Optim(learning_rate=4e-4, warmup=100, schedule="cosine", clip="norm", clip_limit=1.0)
    steps = {2: 2_500, 3: 1_500, 4: 3_000}[scale]
    stage = Stage("finish", steps, optim, _terms(spec(L1), scale=scale, kind=kind))
    return _recipe(
        _name("edsr_light", scale=scale, kind=kind),
        _edsr_light(scale),
        data=Data(patch=32 * scale, batch=16),
        stages=(stage,),
        ema_decay=0.998,
        start=Start("edsr_light_trunk", fresh=() if scale == 2 else ("upsampler.",)),
    )


TRUNKS: dict[str, Recipe] = {recipe.name: recipe for recipe in (edsr_light_trunk(),)}

SHIPPED: dict[str, Recipe] = {
    recipe.name: recipe
    for family in (espcn, edsr_light)
    for scale in (2, 3, 4)
    for kind in _KINDS
    for recipe in (family(scale=scale, kind=kind),)
}
