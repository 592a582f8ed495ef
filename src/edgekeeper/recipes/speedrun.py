"""Runs against the clock: how long until Set5 x2 is at a stated PSNR.

    fast   ChainSR 16 x 8, SOAP       36.5 dB   what two cores reach in minutes
    vdsr   VDSR, Adam                 37.5 dB   as its paper (37.53)
    edsr   EDSR-baseline, Adam        37.8 dB   on the way to its published 37.99

Settings are those of the networks' own recipes, in bfloat16 with channels last; the rate falls to
zero over the longest run that is thought of.
"""

from dataclasses import replace
from typing import Literal

from edgekeeper.losses import L2
from edgekeeper.models import EDSR, VDSR
from edgekeeper.recipes.ladder import FALLING, PIXEL, trunk
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term, Validation

SpeedrunNetwork = Literal["fast", "vdsr", "edsr"]
GOALS: dict[SpeedrunNetwork, float] = {"fast": 36.5, "vdsr": 37.5, "edsr": 37.8}


def speedrun_recipe(network: SpeedrunNetwork) -> Recipe:
    """Return the recipe of a run against the clock."""
    falling = Stage("falling", 6_000, replace(FALLING, warmup=100), PIXEL, candidates=3)
    fast = replace(
        trunk(size="fast", scale=2),
        name=f"speedrun_{network}",
        stages=(falling,),
        validation=Validation(every=250),
        ema_decay=0.99,
    )
    if network == "fast":
        return fast
    optim = Optim(learning_rate=5e-4, schedule="cosine", warmup=500, clip="norm", clip_limit=0.4)
    if network == "vdsr":
        return replace(
            fast,
            model=spec(VDSR, scale=2),
            data=Data(patch=96, batch=32),
            stages=(Stage("falling", 60_000, optim, (Term("pixel", spec(L2)),)),),
            validation=Validation(every=1_000),
            ema_decay=0.999,
        )
    return replace(
        fast,
        model=spec(EDSR, scale=2),
        data=Data(patch=96, batch=16),
        stages=(Stage("falling", 150_000, replace(optim, clip_limit=1.0), PIXEL),),
        validation=Validation(every=1_000),
        ema_decay=0.999,
    )
