"""SPSR as its published code trains it, where that differs from the paper (``spsr.py``).

                        paper (equation, section)       code
    gradient loss       mean |M(sr) - M(hr)| (7)        mean (M(sr) - M(hr))²
    gradient maps       as large as the image           a ring of one pixel wider, in this loss and
                                                        before its discriminator
    batch               15 (4.1)                        30, on two GPUs, which normalise 15 each
    rates               halved after 50,000, 100,000,   the same, counted from the beginning of the
                        200,000 and 300,000             5,000 updates of the warm-up

The maps of the gradient branch's own loss are as large as the image in both.
"""

from dataclasses import replace

from edgekeeper.losses import Gradient
from edgekeeper.recipes.spsr import spsr
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Data, Recipe, Stage

FUSION_STEPS = 5_000


def spsr_code() -> Recipe:
    """Return the training of SPSR as in its published code."""
    paper = spsr(form="paper")
    return replace(
        paper,
        name="spsr_code",
        data=Data(patch=128, batch=30),
        stages=tuple(map(_as_in_the_code, paper.stages)),
    )


def _as_in_the_code(stage: Stage) -> Stage:
    gradient = spec(Gradient, norm="mse", padding=2)
    optim, steps = stage.optim, stage.steps
    if stage.name == "adversarial":
        milestones = tuple(step - FUSION_STEPS for step in optim.milestones)
        optim, steps = replace(optim, milestones=milestones), steps - FUSION_STEPS
    return replace(
        stage,
        steps=steps,
        optim=optim,
        terms=tuple(
            replace(term, loss=gradient) if term.name == "gradient" else term
            for term in stage.terms
        ),
        discriminators=tuple(
            replace(d, optim=optim, input="gradient_ring" if d.input == "gradient" else d.input)
            for d in stage.discriminators
        ),
    )


SPSR_CODE: dict[str, Recipe] = {"spsr_code": spsr_code()}
