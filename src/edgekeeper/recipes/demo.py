"""ESPCN ×3 on a handful of images in half a minute: what `edgekeeper demo` trains."""

from dataclasses import replace

from edgekeeper.losses import L2, GradientVariance
from edgekeeper.models import ESPCN
from edgekeeper.recipes.shipped import SOAP_OPTIM
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Data, Recipe, Stage, Term


def demo(*, gv_weight: float) -> Recipe:
    """ESPCN ×3 on luma; the mean squared error alone, or with the gradient variance loss."""
    terms = [Term("pixel", spec(L2))]
    if gv_weight:
        terms.append(Term("gv", spec(GradientVariance, patch=16), weight=gv_weight))
    optim = replace(SOAP_OPTIM, schedule="cosine", warmup=100)
    return Recipe(
        name="demo_gv" if gv_weight else "demo",
        model=spec(ESPCN, scale=3),
        data=Data(patch=48, batch=32),
        stages=(Stage("all", steps=2_000, optim=optim, terms=tuple(terms)),),
        ema_decay=0.99,
        layout="channels_last",
    )


DEMO = {recipe.name: recipe for recipe in (demo(gv_weight=0.0), demo(gv_weight=0.01))}
