"""The networks that the papers are compared with, at x4, each trained as far as is known of it.

    recipe      HR patch  batch  rate, Adam                     updates        loss
    srcnn       128       16     1e-4 (1)                       1,000,000 (1)  L2
    fsrcnn      40        16     1e-3 (1)                       1,000,000 (1)  L2
    edsr_large  192       16     1e-4, halved each 200,000      300,000 (2)    L1
    rcan        192       16     1e-4, halved each 200,000      1,000,000 (6)  L1
    rdn         128       16     1e-4, halved each 200,000 (6)  1,000,000 (6)  L1
    dbpn        128       20     1e-4, a tenth after 500,000    1,000,000      L2, decay 1e-4
    imdn        192       16     2e-4, halved each 200,000      1,000,000 (6)  L1
    rrdb_psnr   128       16     2e-4, halved each 200,000      1,000,000      L1, for spsr
    srresnet    96        16     1e-4                           1,000,000      L2
    srgan       96        16     1e-4, a tenth after 100,000    200,000        (3), after srresnet's
    srgan_5     96        16     the same, with 5 blocks instead of 16
    sftgan      96        16     1e-4, halved after 50,000,     600,000        (4), after srresnet's
                                 100,000, 150,000, 200,000
    natsr       192       32     1e-4, a tenth each 100,000     300,000        (5), after 100,000

The values were taken from published code and from other accounts of these networks, and were not
compared with their papers; what is known to be chosen here is said.

(1) The papers take gradient descent with other rates in the last layer, for sums over the pixels;
    patches, batch and updates are chosen here for the mean, padding and Adam.
(2) The paper begins from its network for x2; here from scratch.
(3) 0.006 x L2 of VGG19's maps after the ReLU of conv5_4, and 0.001 x the first GAN.
(4) L1 of the maps before that ReLU, and 0.005 x the first GAN. The published training begins from
    an SRGAN without normalisation and gives the network maps of what can be seen, and a
    discriminator that tells categories too; here the same layers learn for fidelity first, all
    categories are equally probable, and the discriminator is ESRGAN's.
(5) L1, 0.001 x naturalness, 0.001 x the relativistic GAN; first L1 alone, while the discriminator
    of naturalness learns from images that are harder and harder to tell from natural ones, and
    then it is frozen. Numbers of https://github.com/kozistr/NatSR-pytorch (MIT); chosen here:
    how many updates, that each step of the images takes 20,000, and ESRGAN's discriminator.
(6) Chosen here: how many updates, and that an epoch of RDN, whose rate is halved each 200 epochs,
    is 1,000 of them.

``form="tiny"`` is the same recipe with a network that is small enough for a test: see ``TINY``.
The other networks of the tables have recipes of their own: VDSR, ESPCN and EDSR-baseline in
``gv_tables``, ESRGAN and SPSR in ``spsr``, DGGGAN in ``dgggan``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from edgekeeper.errors import check_choice
from edgekeeper.losses import L1, L2, NaturalManifold, Perceptual, RelativisticGAN, Unnatural
from edgekeeper.losses.adversarial import VanillaGAN
from edgekeeper.models import (
    DBPN,
    EDSR,
    FSRCNN,
    IMDN,
    RCAN,
    RDN,
    RRDB,
    SFTGAN,
    SRCNN,
    NatSR,
    NaturalManifoldDiscriminator,
    SRGANDiscriminator,
    SRModel,
    SRResNet,
    VGGDiscriminator,
)
from edgekeeper.spec import Spec, spec
from edgekeeper.training.recipe import (
    Data,
    Discriminator,
    Loss,
    Optim,
    Recipe,
    Stage,
    Term,
    Validation,
)

ComparatorForm = Literal["paper", "tiny"]
TINY_STEPS = 20  # of each stage
# Unnatural's ``harder``, four times: the share of the image that stays, the noise's deviation.
HARDER = ((0.5, 0.1), (0.6, 0.08), (0.7, 0.064), (0.8, 0.0512), (0.9, 0.04096))
# Oxford's maps are larger than torchvision's, to which the weights belong; chosen, not measured.
OXFORD = 0.02


@dataclass(frozen=True, kw_only=True)
class StageSizes:
    """What the stages of a recipe take from its form."""

    patch: int
    batch: int
    discriminator_width: int = 64
    published: bool = True


@dataclass(frozen=True)
class Comparator:
    """The network and its training: published, but for what is chosen.

    ``tiny``: the arguments that make the network small.
    """

    model: Spec[SRModel]
    tiny: dict[str, object]
    patch: int
    stages: Callable[[StageSizes], tuple[Stage, ...]]
    batch: int = 16


TINY = StageSizes(patch=32, batch=2, discriminator_width=4, published=False)


def comparator(network: str, *, form: ComparatorForm = "paper") -> Recipe:
    """Return the recipe of one of ``NETWORKS``, as in the table or tiny. Raises InputError."""
    check_choice("network in this table", network, known=NETWORKS)
    published = NETWORKS[network]
    recipe = Recipe(
        name=network,
        model=published.model,
        data=Data(patch=published.patch, batch=published.batch),
        stages=published.stages(StageSizes(patch=published.patch, batch=published.batch)),
        validation=Validation(every=5_000),
        retries=3,
    )
    if form == "paper":
        return recipe
    arguments = {**dict(published.model.arguments), **published.tiny}
    return replace(
        recipe,
        name=f"{network}_tiny",
        model=Spec(published.model.target, tuple(sorted(arguments.items()))),
        data=Data(patch=TINY.patch, batch=TINY.batch),
        stages=tuple(replace(stage, steps=TINY_STEPS) for stage in published.stages(TINY)),
        validation=None,
    )


def _adam(learning_rate: float, *milestones: int, gamma: float = 0.5, decay: float = 0.0) -> Optim:
    return Optim(
        learning_rate=learning_rate,
        schedule="steps" if milestones else "constant",
        milestones=milestones,
        gamma=gamma,
        weight_decay=decay,
    )


_HALVED = (200_000, 400_000, 600_000, 800_000)
_RESNET = Stage("pixel", 1_000_000, _adam(1e-4), (Term("pixel", spec(L2)),))
FROZEN = _adam(1e-4, 0, gamma=0.0)  # the rate is 0 from the first update on


def _fidelity(
    loss: Callable[[], Loss], optim: Optim, *, steps: int = 1_000_000
) -> Callable[[StageSizes], tuple[Stage, ...]]:
    """One stage, the same in every form."""
    return lambda _: (Stage("pixel", steps, optim, (Term("pixel", spec(loss)),)),)


def _perceptual(size: StageSizes, *, weight: float, srgan: bool) -> Term:
    """SRGAN's loss of VGG19's maps, or ESRGAN's; ``weight`` belongs to torchvision's maps."""
    features = spec(
        Perceptual,
        activation="after_relu" if srgan else "before_relu",
        norm="mse" if srgan else "l1",
        weights="torchvision" if size.published else "oxford",
    )
    if not size.published:
        weight *= OXFORD**2 if srgan else OXFORD
    return Term("perceptual", features, weight=weight)


def _srgan(size: StageSizes) -> tuple[Stage, ...]:
    optim = _adam(1e-4, 100_000, gamma=0.1)
    discriminator = spec(SRGANDiscriminator, size=size.patch, width=size.discriminator_width)
    gan = Discriminator("gan", discriminator, spec(VanillaGAN), optim=optim, weight=1e-3)
    terms = (_perceptual(size, weight=0.006, srgan=True),)
    return (_RESNET, Stage("adversarial", 200_000, optim, terms, discriminators=(gan,)))


def _sftgan(size: StageSizes) -> tuple[Stage, ...]:
    optim = _adam(1e-4, 50_000, 100_000, 150_000, 200_000)
    discriminator = spec(VGGDiscriminator, size=size.patch, width=size.discriminator_width)
    gan = Discriminator("gan", discriminator, spec(VanillaGAN), optim=optim, weight=5e-3)
    terms = (_perceptual(size, weight=1.0, srgan=False),)
    return (_RESNET, Stage("adversarial", 600_000, optim, terms, discriminators=(gan,)))


def _natsr(size: StageSizes) -> tuple[Stage, ...]:
    """NatSR: its discriminator of naturalness learns beside L1, and is then frozen."""
    pixel, optim = Term("pixel", spec(L1)), _adam(1e-4, 100_000, 200_000, gamma=0.1)
    natural = Discriminator(
        "naturalness",
        spec(NaturalManifoldDiscriminator, width=size.discriminator_width),
        spec(NaturalManifold),
        optim=_adam(1e-4),
        weight=0.0,
    )
    steps = tuple(
        spec(Unnatural, scale=4, share=share, deviation=deviation) for share, deviation in HARDER
    )
    learners = [replace(natural, negatives=negatives) for negatives in steps]
    learning = tuple(
        Stage(f"natural {k}", 20_000, _adam(1e-4), (pixel,), discriminators=(learner,))
        for k, learner in enumerate(learners, start=1)
    )
    gan = Discriminator(
        "gan",
        spec(VGGDiscriminator, size=size.patch, width=size.discriminator_width),
        spec(RelativisticGAN, total="whole"),
        optim=optim,
        weight=1e-3,
    )
    frozen = replace(natural, optim=FROZEN, weight=1e-3, negatives=steps[-1])
    last = Stage("adversarial", 300_000, optim, (pixel,), discriminators=(frozen, gan))
    return (*learning, last)


_SRRESNET = spec(SRResNet, scale=4)
_RESNET_5 = spec(SRResNet, scale=4, blocks=5)
_EDSR = spec(EDSR, scale=4, width=256, blocks=32, residual_scale=0.1)
_SMALL: dict[str, object] = {"width": 8, "blocks": 2}
_SMALL_RCAN: dict[str, object] = {"width": 8, "groups": 2, "blocks": 1, "reduction": 4}
_SMALL_FSRCNN: dict[str, object] = {"width": 8, "narrow": 4, "mapping": 1}
_SMALL_NATSR: dict[str, object] = {"width": 8, "levels": 1, "layers": 2}
_L1_HALVED = _fidelity(L1, _adam(1e-4, *_HALVED))
_DBPN = _fidelity(L2, _adam(1e-4, 500_000, gamma=0.1, decay=1e-4))

# The network, what makes it small, HR patch, stages, batch.
NETWORKS: dict[str, Comparator] = {
    "srcnn": Comparator(spec(SRCNN, scale=4), {"middle": 1}, 128, _fidelity(L2, _adam(1e-4))),
    "fsrcnn": Comparator(spec(FSRCNN, scale=4), _SMALL_FSRCNN, 40, _fidelity(L2, _adam(1e-3))),
    "edsr_large": Comparator(
        _EDSR, _SMALL, 192, _fidelity(L1, _adam(1e-4, *_HALVED), steps=300_000)
    ),
    "rcan": Comparator(spec(RCAN, scale=4), _SMALL_RCAN, 192, _L1_HALVED),
    "rdn": Comparator(spec(RDN, scale=4), _SMALL | {"layers": 2, "growth": 8}, 128, _L1_HALVED),
    "dbpn": Comparator(spec(DBPN, scale=4), {"width": 4, "stages": 3, "first": 8}, 128, _DBPN, 20),
    "imdn": Comparator(
        spec(IMDN, scale=4), _SMALL | {"width": 16}, 192, _fidelity(L1, _adam(2e-4, *_HALVED))
    ),
    "rrdb_psnr": Comparator(
        spec(RRDB, scale=4), _SMALL | {"growth": 4}, 128, _fidelity(L1, _adam(2e-4, *_HALVED))
    ),
    "srresnet": Comparator(_SRRESNET, _SMALL, 96, lambda _: (_RESNET,)),
    "srgan": Comparator(_SRRESNET, _SMALL, 96, _srgan),
    "srgan_5": Comparator(_RESNET_5, _SMALL | {"blocks": 1}, 96, _srgan),
    "sftgan": Comparator(
        spec(SFTGAN, scale=4), _SMALL | {"condition": 4, "hidden": 8}, 96, _sftgan
    ),
    "natsr": Comparator(spec(NatSR, scale=4), _SMALL_NATSR, 192, _natsr, 32),
}

COMPARATORS: dict[str, Recipe] = {
    recipe.name: recipe
    for form in get_args(ComparatorForm)
    for network in NETWORKS
    for recipe in (comparator(network, form=form),)
}
