"""What the weight and the form of the gradient variance loss do to fidelity and sharpness.

ESPCN ×3 from scratch, as the networks that ship are trained but shorter. All of one seed begin from
the same weights and see the same batches; only the added term differs. Weight 0 is the reference.
"""

import dataclasses

from edgekeeper.losses import GradientVariance
from edgekeeper.recipes.shipped import espcn
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Recipe, Term

STEPS = 1_000
WEIGHTS = (0.001, 0.003, 0.01, 0.03, 0.1)
WEIGHTS_OF_OTHER_FORMS = (0.01,)

FORMS: dict[str, tuple[Term, ...]] = {
    # The loss of the published code: variance, Sobel, patches of 16 side by side.
    "variance": (Term("gv", spec(GradientVariance, patch=16)),),
    "deviation": (Term("gv", spec(GradientVariance, patch=16, statistic="deviation")),),
    "overlapping": (Term("gv", spec(GradientVariance, patch=16, stride=8)),),
    "patches 4, 8, 16": tuple(
        Term(f"gv{patch}", spec(GradientVariance, patch=patch), weight=1 / 3)
        for patch in (4, 8, 16)
    ),
    "central": (Term("gv", spec(GradientVariance, patch=16, operator="central")),),
    "ramp": (Term("gv", spec(GradientVariance, patch=16), ramp=STEPS),),
}
# Where a form counts in other units its weights are multiplied by this: deviations are roots
# of variances; the central difference has a quarter of Sobel's gain, so a 256th of its variance.
WEIGHT_UNITS = {"deviation": 0.1, "central": 100.0}


def variant(form: str, *, weight: float, seed: int = 0) -> Recipe:
    """Return the recipe that trains ESPCN ×3 with ``weight`` times the added terms of ``form``."""
    base = espcn(scale=3, kind="plain")
    whole = base.stages[0]
    factor = weight * WEIGHT_UNITS.get(form, 1.0)
    added = tuple(dataclasses.replace(t, weight=t.weight * factor) for t in FORMS[form])
    stage = dataclasses.replace(whole, steps=STEPS, terms=whole.terms + (added if weight else ()))
    name = f"frontier_{form.replace(', ', '_').replace(' ', '_')}_{weight:g}_seed{seed}"
    return dataclasses.replace(
        base, name=name, stages=(stage,), seed=seed, ema_decay=0.99, validation=None
    )
