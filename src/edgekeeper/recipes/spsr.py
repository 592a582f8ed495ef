"""SPSR and the ablations of its Table 2: ESRGAN, and SPSR without one of its two ideas.

Ma et al., "Structure-Preserving Super Resolution with Gradient Guidance", CVPR 2020,
https://arxiv.org/abs/2003.13081; Wang et al., "ESRGAN", ECCV workshops 2018.

    variant    gradient branch   gradient loss and discriminator
    esrgan     -                 -
    no_branch  -                 yes            "w/o GB"
    no_loss    yes               -              "w/o GL"
    spsr       yes               yes

    form    generator                            HR patch, batch  begins from
    paper   RRDB or SPSR, 23 blocks of 64        128, 15          rrdb_psnr, or any such RRDB
    small   RRDB or SPSR, 4 blocks of 48         96, 8
    light   the light EDSR, with GradientBranch  64, 8            edsr_light_x4

The stages: ``pixel`` (L1 of image and branch; short in ``light``, whose backbone is trained),
``warm-up`` (all losses but the branch's; of the generator only what fuses the branch learns),
``adversarial``. Variants without a branch learn fidelity for as long as the warm-up lasts,
so that all make equally many updates. Each stage has new optimizers and counts its own updates.
``GradientBranch`` fuses at LR size, not at HR size, so that ``light`` trains on a processor.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from edgekeeper.losses import L1, Gradient, Perceptual, RelativisticGAN
from edgekeeper.models import RRDB, SPSR, GradientBranch, SRModel
from edgekeeper.models.discriminators import VGGDiscriminator
from edgekeeper.recipes.shipped import edsr_light
from edgekeeper.spec import Spec, spec
from edgekeeper.training.optimizer import Optim
from edgekeeper.training.recipe import Data, Discriminator, Recipe, Stage, Start, Term, Validation

SPSRVariant = Literal["esrgan", "no_branch", "no_loss", "spsr"]
SPSRForm = Literal["paper", "small", "light"]
SPSR_VARIANTS: tuple[SPSRVariant, ...] = get_args(SPSRVariant)

# Equation 10 of the paper; the perceptual weight is the form's.
_PIXEL, _GAN, _GRADIENT, _GRADIENT_GAN, _BRANCH = 0.01, 0.005, 0.01, 0.005, 0.5


@dataclass(frozen=True, kw_only=True)
class SPSRSettings:
    """What differs between the forms."""

    plain: Spec[SRModel]
    guided: Spec[SRModel]
    data: Data
    steps: tuple[int, int, int]  # of the three stages
    pixel: Optim
    adversarial: Optim
    discriminator: Discriminator  # of images
    perceptual: Term
    start: Start | None = None
    ema_decay: float = 0.0


_PAPER = Optim(learning_rate=1e-4, schedule="steps", milestones=(50_000, 100_000, 200_000, 300_000))
_FAST = Optim(learning_rate=2e-4, warmup=20)
LIGHT_OPTIM = replace(_FAST, learning_rate=4e-4)
_LIGHT = edsr_light(scale=4, kind="plain").model
# The features of Oxford's VGG19 are larger than those of torchvision's, to which the paper's weight
# of 1 belongs. The weights here are chosen, and so is the layer of ``light`` (docs/diary.md).
_OXFORD = Term("perceptual", spec(Perceptual, weights="oxford"), weight=0.1)


def _gan(optim: Optim, *, size: int, width: int) -> Discriminator:
    # Of images: equations 5 and 6, relativistic as in the code.
    network = spec(VGGDiscriminator, size=size, width=width)
    return Discriminator("gan", network, spec(RelativisticGAN), optim, weight=_GAN)


SPSR_FORMS: dict[SPSRForm, SPSRSettings] = {
    "paper": SPSRSettings(
        plain=spec(RRDB, scale=4),
        guided=spec(SPSR, scale=4),
        data=Data(patch=128, batch=15),
        steps=(0, 5_000, 500_000),
        pixel=_PAPER,
        adversarial=_PAPER,
        discriminator=_gan(_PAPER, size=128, width=64),
        perceptual=Term("perceptual", spec(Perceptual, weights="torchvision")),
        # The RRDB ends with a convolution to RGB, the SR branch with one to maps.
        start=Start("rrdb_psnr", fresh=("finish.", "last."), into="sr."),
    ),
    "small": SPSRSettings(
        plain=spec(RRDB, scale=4, width=48, blocks=4, growth=24),
        guided=spec(SPSR, scale=4, width=48, blocks=4, growth=24, taps=(1, 2, 3)),
        data=Data(patch=96, batch=8),
        steps=(10_000, 200, 5_000),
        pixel=Optim(learning_rate=4e-4, warmup=100, schedule="cosine"),
        adversarial=_FAST,
        discriminator=_gan(_FAST, size=96, width=32),
        perceptual=_OXFORD,
        ema_decay=0.995,
    ),
    "light": SPSRSettings(
        plain=_LIGHT,
        guided=spec(GradientBranch, backbone=_LIGHT, width=32, taps=("blocks.2", "blocks.6")),
        data=Data(patch=64, batch=8),
        steps=(50, 20, 400),
        pixel=LIGHT_OPTIM,
        adversarial=LIGHT_OPTIM,
        discriminator=_gan(_FAST, size=64, width=32),
        perceptual=replace(_OXFORD, loss=spec(Perceptual, weights="oxford", layer="conv3_4")),
        start=Start("edsr_light_x4", into="backbone."),
        ema_decay=0.99,
    ),
}


def spsr(*, variant: SPSRVariant = "spsr", form: SPSRForm = "light", seed: int = 0) -> Recipe:
    """Return one of the four trainings of Table 2 in one of the three forms.

    Its name is ``spsr``, ``spsr_light``, ``spsr_no_loss``, ``spsr_no_loss_light``, ``esrgan`` ...
    """
    chosen, has_branch = SPSR_FORMS[form], variant in ("no_loss", "spsr")
    gan, pixel = chosen.discriminator, Term("pixel", spec(L1))
    branch = (Term("branch", spec(L1), weight=_BRANCH, on="branch"),) if has_branch else ()
    terms: tuple[Term, ...] = (chosen.perceptual, replace(pixel, weight=_PIXEL))
    discriminators: tuple[Discriminator, ...] = (gan,)
    if variant in ("no_branch", "spsr"):  # equations 7, 8 and 9, of gradient maps
        terms += (Term("gradient", spec(Gradient), weight=_GRADIENT),)
        on_maps = replace(gan, name="gradient gan", input="gradient", weight=_GRADIENT_GAN)
        discriminators += (on_maps,)
    first, second, third = chosen.steps
    pretrain = Stage("pixel", first or second, chosen.pixel, (pixel, *branch))
    adversarial = Stage(
        "adversarial", third, chosen.adversarial, (*terms, *branch), discriminators=discriminators
    )
    # The branch's own loss does not reach the fusion.
    warm_up = replace(adversarial, name="warm-up", steps=second, terms=terms, trains=("fusion.",))
    stages = (pretrain, warm_up, adversarial) if first else (warm_up, adversarial)
    if not has_branch:
        stages = (replace(pretrain, steps=first + second), adversarial)
    base = variant if variant in ("esrgan", "spsr") else f"spsr_{variant}"
    return Recipe(
        name=base if form == "paper" else f"{base}_{form}",
        model=chosen.guided if has_branch else chosen.plain,
        data=chosen.data,
        stages=stages,
        validation=Validation(every=5_000 if form == "paper" else 500),
        start=chosen.start if has_branch or not chosen.start else Start(chosen.start.recipe),
        seed=seed,
        ema_decay=chosen.ema_decay,
        retries=3,
    )


_ALL = [spsr(variant=v, form=form) for form in get_args(SPSRForm) for v in SPSR_VARIANTS]
SPSR_TABLE2 = {recipe.name: recipe for recipe in _ALL}
