"""SPSR and the ablations of its Table 2: ESRGAN, and SPSR without one of its two ideas.

Ma et al., "Structure-Preserving Super Resolution with Gradient Guidance", CVPR 2020,
https://arxiv.org/abs/2003.13081; Wang et al., "ESRGAN", ECCV workshops 2018.

    variant    gradient branch   gradient loss and discriminator
    esrgan     -                 -
    no_branch  -                 yes            "w/o GB"
    no_loss    yes               -              "w/o GL"
    spsr       yes               yes

One function gives every variant in three forms, with the same stages: ``pixel`` (fidelity alone),
``warm-up`` (what fuses the branch, alone), ``adversarial``. Variants without a branch stay in the
first stage for as long as the second lasts, so that all make equally many updates. Each stage has
new optimizers and counts its own updates, so the paper's rate is halved after so many adversarial
updates, not after so many with the warm-up.

    form    generator                            HR patch, batch
    paper   RRDB or SPSR, 23 blocks of 64        128, 15          the paper's settings
    small   RRDB or SPSR, 4 blocks of 48         96, 8
    light   the light EDSR, with GradientBranch  64, 8            begins from edsr_light_x4

SPSR fuses its branches at HR size, which costs seven times as much as the rest of a small network;
``GradientBranch`` fuses at LR size, so that ``light`` trains on a processor.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from edgekeeper.losses import L1, Gradient, Perceptual, RelativisticGAN
from edgekeeper.models import RRDB, SPSR, GradientBranch, SRModel
from edgekeeper.models.discriminators import VGGDiscriminator
from edgekeeper.recipes.shipped import edsr_light
from edgekeeper.spec import Spec, spec
from edgekeeper.training.recipe import (
    Adversary,
    Data,
    DiscriminatorInput,
    Optim,
    Recipe,
    Stage,
    Start,
    Term,
    Validation,
)

Variant = Literal["esrgan", "no_branch", "no_loss", "spsr"]
Form = Literal["paper", "small", "light"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

# Equation 10 of the paper; the perceptual weight is the form's.
PIXEL, GAN, GRADIENT, GRADIENT_GAN, BRANCH = 0.01, 0.005, 0.01, 0.005, 0.5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What differs between the forms."""

    plain: Spec[SRModel]
    guided: Spec[SRModel]
    patch: int
    batch: int
    discriminator_width: int
    steps: tuple[int, int, int]
    pixel: Optim
    adversarial: Optim
    discriminator: Optim
    perceptual: Term
    fused: tuple[str, ...]
    start: str | None = None
    ema_decay: float = 0.0


_HALVED = (50_000, 100_000, 200_000, 300_000)
_PAPER = Optim(learning_rate=1e-4, schedule="steps", milestones=_HALVED)
_FAST = Optim(learning_rate=2e-4, warmup=20)
_LIVELY = replace(_FAST, learning_rate=4e-4)
_LIGHT = edsr_light(scale=4, kind="plain").model
# The features of Oxford's VGG19 are larger than those of torchvision's, to which the paper's weight
# of 1 belongs. The weights here are chosen, and so is the layer of ``light`` (docs/diary.md).
_OXFORD = Term("perceptual", spec(Perceptual, weights="oxford"), weight=0.1)

FORMS: dict[Form, Settings] = {
    "paper": Settings(
        plain=spec(RRDB, scale=4),
        guided=spec(SPSR, scale=4),
        patch=128,
        batch=15,
        discriminator_width=64,
        steps=(1_000_000, 5_000, 500_000),
        pixel=Optim(
            learning_rate=2e-4, schedule="steps", milestones=(200_000, 400_000, 600_000, 800_000)
        ),
        adversarial=_PAPER,
        discriminator=_PAPER,
        perceptual=Term("perceptual", spec(Perceptual, weights="torchvision")),
        fused=("fusion.",),
    ),
    "small": Settings(
        plain=spec(RRDB, scale=4, width=48, blocks=4, growth=24),
        guided=spec(SPSR, scale=4, width=48, blocks=4, growth=24, taps=(1, 2, 3)),
        patch=96,
        batch=8,
        discriminator_width=32,
        steps=(10_000, 200, 5_000),
        pixel=Optim(learning_rate=4e-4, warmup=100, schedule="cosine"),
        adversarial=_FAST,
        discriminator=_FAST,
        perceptual=_OXFORD,
        fused=("fusion.",),
        ema_decay=0.995,
    ),
    "light": Settings(
        plain=_LIGHT,
        guided=spec(GradientBranch, backbone=_LIGHT, width=32, taps=("blocks.2", "blocks.6")),
        patch=64,
        batch=8,
        discriminator_width=32,
        steps=(50, 20, 400),
        pixel=_LIVELY,
        adversarial=_LIVELY,
        discriminator=_FAST,
        perceptual=Term(
            "perceptual", spec(Perceptual, weights="oxford", layer="conv3_4"), weight=0.1
        ),
        fused=("fusion.",),
        start="edsr_light_x4",
        ema_decay=0.99,
    ),
}


def recipe_name(variant: Variant, *, form: Form) -> str:
    """``spsr``, ``spsr_light``, ``spsr_no_loss``, ``spsr_no_loss_light``, ``esrgan`` and so on."""
    base = variant if variant in ("esrgan", "spsr") else f"spsr_{variant}"
    return base if form == "paper" else f"{base}_{form}"


def spsr(*, variant: Variant = "spsr", form: Form = "light", seed: int = 0) -> Recipe:
    """One of the four trainings of Table 2 in one of the three forms."""
    settings = FORMS[form]
    branch, losses = variant in ("no_loss", "spsr"), variant in ("no_branch", "spsr")
    guide = (Term("branch", spec(L1), weight=BRANCH, on="branch"),) if branch else ()
    terms = [settings.perceptual, Term("pixel", spec(L1), weight=PIXEL)]
    adversaries = [_adversary("gan", "image", weight=GAN, settings=settings)]
    if losses:
        terms.append(Term("gradient", spec(Gradient), weight=GRADIENT))
        adversaries.append(
            _adversary("gradient gan", "gradient", weight=GRADIENT_GAN, settings=settings)
        )
    pixel, warmup, adversarial = settings.steps
    first = Stage("pixel", pixel, settings.pixel, (Term("pixel", spec(L1)), *guide))
    # The branch's own loss does not reach what the second stage trains.
    second = Stage(
        "warm-up",
        warmup,
        settings.adversarial,
        tuple(terms),
        adversaries=tuple(adversaries),
        trains=settings.fused,
    )
    third = Stage(
        "adversarial",
        adversarial,
        settings.adversarial,
        (*terms, *guide),
        adversaries=tuple(adversaries),
    )
    stages: tuple[Stage, ...] = (first, second, third)
    if not branch:
        stages = (replace(first, steps=pixel + warmup), third)
    start = None
    if settings.start is not None:
        start = Start(settings.start, into="backbone." if branch else "")
    return Recipe(
        name=recipe_name(variant, form=form),
        model=settings.guided if branch else settings.plain,
        data=Data(patch=settings.patch, batch=settings.batch),
        stages=stages,
        validation=Validation(every=5_000 if form == "paper" else 500),
        start=start,
        seed=seed,
        ema_decay=settings.ema_decay,
        retries=3,
    )


def _adversary(
    name: str, sees: DiscriminatorInput, *, weight: float, settings: Settings
) -> Adversary:
    return Adversary(
        name=name,
        discriminator=spec(
            VGGDiscriminator, size=settings.patch, width=settings.discriminator_width
        ),
        loss=spec(RelativisticGAN),
        optim=settings.discriminator,
        weight=weight,
        sees=sees,
    )


def texture(*, gradient: float = 0.0, steps: int = 600) -> Recipe:
    """Return the network that ships as style "texture": ESRGAN's light training, and further.

    With a weight ``gradient`` the further updates have the loss between gradient maps too; 2.0 is
    a weight that is felt. It brought more contrast and a higher structure risk (docs/diary.md).
    """
    base = spsr(variant="esrgan", form="light")
    last = base.stages[-1]
    terms = last.terms
    if gradient:
        terms += (Term("gradient", spec(Gradient), weight=gradient),)
    optim = replace(_LIVELY, schedule="cosine", final_learning_rate=4e-5)
    further = replace(last, name="texture", steps=steps, optim=optim, terms=terms)
    return replace(
        base,
        name="edsr_light_x4_texture" + ("_gradient" if gradient else ""),
        stages=(*base.stages, further),
    )


SPSR_TABLE2: dict[str, Recipe] = {
    recipe.name: recipe
    for form in get_args(Form)
    for variant in VARIANTS
    for recipe in (spsr(variant=variant, form=form),)
}

TEXTURE: dict[str, Recipe] = {recipe.name: recipe for recipe in (texture(), texture(gradient=2.0))}
