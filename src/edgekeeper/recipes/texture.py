"""The network that ships as style "texture": ESRGAN's light training, and further."""

from dataclasses import replace

from edgekeeper.losses import Gradient
from edgekeeper.recipes.spsr import LIVELY, spsr
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Recipe, Term


def texture(*, gradient: float = 0.0, steps: int = 600) -> Recipe:
    """Return its recipe.

    With a weight ``gradient`` the further updates have the loss between gradient maps too; 2.0 is
    a weight that is felt. It brought more contrast and a higher structure risk (docs/diary.md).
    """
    base = spsr(variant="esrgan", form="light")
    last = base.stages[-1]
    added = (Term("gradient", spec(Gradient), weight=gradient),) if gradient else ()
    optim = replace(LIVELY, schedule="cosine", final_learning_rate=4e-5)
    further = replace(last, name="texture", steps=steps, optim=optim, terms=(*last.terms, *added))
    name = "edsr_light_x4_texture" + ("_gradient" if gradient else "")
    return replace(base, name=name, stages=(*base.stages, further))


TEXTURE: dict[str, Recipe] = {recipe.name: recipe for recipe in (texture(), texture(gradient=2.0))}
