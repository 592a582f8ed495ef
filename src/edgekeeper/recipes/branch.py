"""What a gradient branch does to a network trained for fidelity: EDSR with and without it.

The branch is ``GradientBranch`` (the idea of Ma et al., SPSR, CVPR 2020), with its own loss at
SPSR's weight 0.5 beside the mean absolute error. Both make equally many updates on equal batches.

    form      network                 stages
    baseline  EDSR-baseline x4        300,000 updates of Adam, 48 LR pixels, as the paper's x4
    light     the light EDSR x4       2,000 updates of SOAP, 24 LR pixels, from scratch
"""

from dataclasses import replace
from typing import Literal, get_args

from edgekeeper.losses import L1
from edgekeeper.models import EDSR, GradientBranch, SRModel
from edgekeeper.recipes.shipped import SOAP_OPTIM, edsr_light
from edgekeeper.spec import Spec, spec
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term, Validation

BranchForm = Literal["baseline", "light"]
BRANCH_WEIGHT = 0.5


def edsr_with_branch(*, branch: bool, form: BranchForm = "light") -> Recipe:
    """EDSR x4 in one of the two forms, with or without its gradient branch."""
    network: Spec[SRModel] = (
        spec(EDSR, scale=4) if form == "baseline" else edsr_light(scale=4, kind="plain").model
    )
    terms: tuple[Term, ...] = (Term("pixel", spec(L1)),)
    if branch:
        taps = ("blocks.3", "blocks.7", "blocks.11") if form == "baseline" else ("blocks.4",)
        network = spec(GradientBranch, backbone=network, width=32, taps=taps)
        terms += (Term("branch", spec(L1), weight=BRANCH_WEIGHT, on="branch"),)
    if form == "baseline":
        optim = Optim(learning_rate=1e-4, schedule="steps", milestones=(200_000,))
        data, steps = Data(patch=192, batch=16), 300_000
    else:
        optim = replace(SOAP_OPTIM, warmup=100, schedule="cosine", clip="norm", clip_limit=1.0)
        data, steps = Data(patch=96, batch=8), 2_000
    return Recipe(
        name=f"edsr_{form}_{'with' if branch else 'without'}_branch",
        model=network,
        data=data,
        stages=(Stage("train", steps, optim, terms),),
        validation=Validation(every=1_000),
        ema_decay=0.99,
    )


BRANCH: dict[str, Recipe] = {
    recipe.name: recipe
    for form in get_args(BranchForm)
    for branch in (False, True)
    for recipe in (edsr_with_branch(branch=branch, form=form),)
}
