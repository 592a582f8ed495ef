"""DGGGAN in both its designs, the ablations of its Tables 1 and 2, and the light network.

"Image Super-Resolution Using Gradient Guidance and Generative Adversarial Networks" (the source of
``edgekeeper.models.dgggan``), sections 2.5 and 3.2, equation 7.

    variant    gradient branch, loss and discriminator   squeeze and excitation
    dgggan     yes                                       yes
    no_branch  -                                         yes                      Table 1
    no_se      yes                                       -                        Table 2

    form   generator             HR patch, batch   updates: pixel, adversarial
    paper  10 blocks of 64       192, 16           0, 500,000      the paper's settings
    small  6 blocks of 32, on    64, 8             2,000, 500      for a processor with two cores
           top of bilinear

Each in ``body`` "half" (design A) and "lr" (design B). The paper does not say whether training for
fidelity comes first: ``pixel_steps`` puts such a stage before the adversarial one. Nor does it say
how often the discriminators learn: here once for each update of the generator, or
``discriminator_updates`` times (WGAN-GP's own algorithm: 5).
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from edgekeeper.losses import L1, Gradient, Perceptual, WassersteinGP
from edgekeeper.models import DGGGAN, DGGGANLight
from edgekeeper.models.dgggan import Body, ImageSkip
from edgekeeper.models.discriminators import VGGDiscriminator
from edgekeeper.recipes.shipped import SOAP_OPTIM
from edgekeeper.recipes.spsr import LIGHT_OPTIM, SPSR_FORMS
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Data, Discriminator, Optim, Recipe, Stage, Term, Validation

DGGGANVariant = Literal["dgggan", "no_branch", "no_se"]
DGGGANForm = Literal["paper", "small"]

# Equation 7 of the paper; the perceptual weight is the form's.
_PIXEL, _GAN, _GRADIENT, _GRADIENT_GAN, _BRANCH = 0.01, 0.005, 0.01, 0.005, 0.5


@dataclass(frozen=True, kw_only=True)
class DGGGANSettings:
    """What differs between the forms."""

    width: int
    blocks: int
    image_skip: ImageSkip
    data: Data
    discriminator_width: int
    steps: tuple[int, int]
    pixel: Optim
    adversarial: Optim
    discriminator: Optim
    perceptual: Term
    ema_decay: float
    validate: int


_PAPER = Optim(learning_rate=1e-4, schedule="steps", milestones=(50_000, 100_000, 200_000, 300_000))
_SOAP = replace(
    SOAP_OPTIM, learning_rate=2e-3, warmup=50, schedule="cosine", clip="norm", clip_limit=1.0
)

DGGGAN_FORMS: dict[DGGGANForm, DGGGANSettings] = {
    "paper": DGGGANSettings(
        width=64,
        blocks=10,
        image_skip="none",
        data=Data(patch=192, batch=16),
        discriminator_width=64,
        steps=(0, 500_000),
        pixel=_PAPER,
        adversarial=_PAPER,
        discriminator=_PAPER,
        perceptual=Term("perceptual", spec(Perceptual, weights="torchvision")),
        ema_decay=0.0,
        validate=5_000,
    ),
    "small": DGGGANSettings(
        width=32,
        blocks=6,
        image_skip="bilinear",
        data=Data(patch=64, batch=8),
        discriminator_width=32,
        steps=(2_000, 500),
        pixel=_SOAP,
        adversarial=LIGHT_OPTIM,
        discriminator=replace(LIGHT_OPTIM, learning_rate=1e-4),
        perceptual=SPSR_FORMS["light"].perceptual,  # that the two can be compared
        ema_decay=0.995,
        validate=500,
    ),
}


def dgggan(
    *,
    variant: DGGGANVariant = "dgggan",
    body: Body = "half",
    form: DGGGANForm = "small",
    pixel_steps: int | None = None,
    discriminator_updates: int = 1,
    seed: int = 0,
) -> Recipe:
    """Return one of the trainings of Tables 1 and 2, of either design, in one of the two forms.

    ``pixel_steps`` are the updates on fidelity alone that come first, if not those of the form.
    ``discriminator_updates`` of each discriminator follow every update of the generator. The paper
    does not say how many; 5 in algorithm 1 of WGAN-GP (Gulrajani et al., NeurIPS 2017).
    The name is ``dgggan``, ``dgggan_lr``, ``dgggan_no_se``, ``dgggan_lr_no_se_small`` and so on.
    """
    of_form = DGGGAN_FORMS[form]
    has_branch = variant != "no_branch"
    pixel = Term("pixel", spec(L1))
    branch = (Term("branch", spec(L1), weight=_BRANCH, on="branch"),) if has_branch else ()
    terms: tuple[Term, ...] = (of_form.perceptual, replace(pixel, weight=_PIXEL))
    patch, width = of_form.data.patch, of_form.discriminator_width
    gan = Discriminator(
        "gan",
        spec(VGGDiscriminator, size=patch, width=width, norm="none"),
        spec(WassersteinGP),  # equation 10
        of_form.discriminator,
        weight=_GAN,
    )
    discriminators: tuple[Discriminator, ...] = (gan,)
    if has_branch:
        terms += (Term("gradient", spec(Gradient), weight=_GRADIENT), *branch)
        on_maps = replace(gan, name="gradient gan", input="gradient", weight=_GRADIENT_GAN)
        discriminators += (on_maps,)
    first, last = of_form.steps
    first = first if pixel_steps is None else pixel_steps
    stages = [Stage("pixel", first, of_form.pixel, (pixel, *branch))] if first else []
    stages += [
        Stage(
            "adversarial",
            last,
            of_form.adversarial,
            terms,
            discriminators=discriminators,
            discriminator_updates=discriminator_updates,
        )
    ]
    of_body, of_variant = "" if body == "half" else body, variant.removeprefix("dgggan")
    parts = [of_body, of_variant, "" if form == "paper" else form]
    return Recipe(
        name="_".join(["dgggan", *filter(None, parts)]),
        model=spec(
            DGGGAN,
            scale=4,
            width=of_form.width,
            blocks=of_form.blocks,
            body=body,
            gradient_branch=has_branch,
            se=variant != "no_se",
            image_skip=of_form.image_skip,
        ),
        data=of_form.data,
        stages=tuple(stages),
        validation=Validation(every=of_form.validate),
        seed=seed,
        ema_decay=of_form.ema_decay,
        retries=3,
    )


def dgggan_light(*, scale: int) -> Recipe:
    """Return the light network of the family for one scale, for fidelity, with its gradient branch.

    ``edgekeeper models pack`` leaves the branch out.
    """
    optim = replace(_SOAP, learning_rate=4e-3, warmup=100)
    terms = (Term("pixel", spec(L1)), Term("branch", spec(L1), weight=_BRANCH, on="branch"))
    return Recipe(
        name=f"dgggan_light_x{scale}",
        model=spec(DGGGANLight, scale=scale),
        data=Data(patch=24 * scale, batch=8),
        stages=(Stage("pixel", 15_000, optim, terms),),
        validation=Validation(every=1_000),
        ema_decay=0.999,
        layout="channels_last",
    )


DGGGAN_TABLES: dict[str, Recipe] = {
    recipe.name: recipe
    for form in get_args(DGGGANForm)
    for body in get_args(Body)
    for variant in get_args(DGGGANVariant)
    for recipe in (dgggan(variant=variant, body=body, form=form),)
}
DGGGAN_LIGHT: dict[str, Recipe] = {
    recipe.name: recipe for scale in (2, 3, 4) for recipe in (dgggan_light(scale=scale),)
}
