"""Changes of ESRGAN's light training (``spsr.py``): what came after SPSR, and style "texture".

    recipe       change of the adversarial stage                      the paper's weights
    ldl_light    + LDL between the images and the EMA's               1
    wgsr_light   pixel term -> L1 of sym7's bands of luma,            0.1, 0.01, 0.01, 0.05
                 discriminator of its three bands of detail           0.005
    ffl_light    + focal frequency loss                               1
    aesop_light  pixel term -> L1 of what an auto-encoder keeps       0.01, as L1 before it
    aesop_trained_light  the same, the auto-encoder trained           0.01
    spsrp_light  + L1 of the maps of a structure extractor, on SPSR   not known

Liang et al., CVPR 2022; Korkmaz et al., CVPR 2024; Jiang et al., ICCV 2021; Lee et al., CVPR 2025.
Chosen here: the light network and its length, the shipped network as AESOP's decoder after a
bicubic encoder, or one trained with it, as in the paper; SPSR-P's weight and extractor; the focal
frequency loss at its paper's weight for images that are compared with a target. All begin from
``edgekeeper``'s light EDSR, as ``esrgan_light``. ``texture`` adds a stage in which the rate
falls; it ships.
"""

from dataclasses import replace

from edgekeeper.losses import LDL, AutoEncoding, FocalFrequency, Gradient, StructureTasks, Wavelet
from edgekeeper.models import StructureExtractor, WaveletDiscriminator
from edgekeeper.pretrained.auto_encoded import auto_encoded, auto_encoder
from edgekeeper.recipes.comparators import FROZEN
from edgekeeper.recipes.spsr import LIGHT_OPTIM, spsr
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Discriminator, Recipe, Term


def _with(name: str, *terms: Term) -> Recipe:
    """Return ESRGAN's light training with more terms, or others of the same name."""
    base = spsr(variant="esrgan", form="light")
    *before, last = base.stages
    known = {term.name: term for term in (*last.terms, *terms)}
    stages = (*before, replace(last, terms=tuple(known.values())))
    return replace(base, name=name, stages=stages)


def wgsr() -> Recipe:
    """Return the training with both of WGSR's changes."""
    recipe = _with("wgsr_light", Term("pixel", spec(Wavelet)))
    *before, last = recipe.stages
    (gan,) = last.discriminators
    bands = replace(gan, network=replace(gan.network, target=WaveletDiscriminator))
    return replace(recipe, stages=(*before, replace(last, discriminators=(bands,))))


def texture(*, gradient: float = 0.0, steps: int = 600) -> Recipe:
    """Return the recipe of the network that ships as style "texture".

    With a weight ``gradient`` the further updates have the loss between gradient maps too; 2.0 is
    a weight that is felt. It brought more contrast and a higher structure risk (docs/diary.md).
    """
    base = spsr(variant="esrgan", form="light")
    last = base.stages[-1]
    added = (Term("gradient", spec(Gradient), weight=gradient),) if gradient else ()
    optim = replace(LIGHT_OPTIM, schedule="cosine", final_learning_rate=4e-5)
    further = replace(last, name="texture", steps=steps, optim=optim, terms=(*last.terms, *added))
    name = "edsr_light_x4_texture" + ("_gradient" if gradient else "")
    return replace(base, name=name, stages=(*base.stages, further))


def taught(base: Recipe, learner: Discriminator, *, name: str, weight: float) -> Recipe:
    """Return ``base`` with a network that learns in its first stage, lengthened, then is frozen.

    From then on its loss is the generator's too; an auto-encoder's takes the pixel term's place.
    """
    frozen = replace(learner, optim=FROZEN, weight=weight)
    dropped = "pixel" if learner.loss.target is AutoEncoding else ""
    first, *later = base.stages
    stages = [
        replace(
            stage,
            terms=tuple(term for term in stage.terms if term.name != dropped),
            discriminators=(*stage.discriminators, frozen),
        )
        for stage in later
    ]
    first = replace(first, steps=TAUGHT, discriminators=(learner,))
    return replace(base, name=name, stages=(first, *stages))


TAUGHT = 400  # updates of a network that is to be frozen
AESOP = spec(auto_encoded, decoder="edsr_light_x4")
BEYOND: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _with("ldl_light", Term("ldl", spec(LDL))),
        wgsr(),
        _with("ffl_light", Term("frequency", spec(FocalFrequency))),
        _with("aesop_light", Term("pixel", AESOP, weight=0.01)),
    )
}
TEXTURE: dict[str, Recipe] = {recipe.name: recipe for recipe in (texture(), texture(gradient=2.0))}
_LEARNERS = (
    Discriminator(
        "auto-encoder",
        spec(auto_encoder, decoder="edsr_light_x4"),
        spec(AutoEncoding),
        LIGHT_OPTIM,
        weight=0.0,
    ),
    Discriminator(
        "structure", spec(StructureExtractor), spec(StructureTasks), LIGHT_OPTIM, weight=0.0
    ),
)
LEARNED: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        taught(spsr(variant="esrgan"), _LEARNERS[0], name="aesop_trained_light", weight=0.01),
        taught(spsr(), _LEARNERS[1], name="spsrp_light", weight=0.1),
    )
}
