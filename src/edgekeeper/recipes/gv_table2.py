"""Table 2 of the gradient variance paper: VDSR x2 with three base losses and two additions.

Abrahamyan, Truong, Philips, Deligiannis, "Gradient Variance Loss for Structure-Enhanced Image
Super-Resolution", ICASSP 2022, https://arxiv.org/abs/2202.00997

Base losses L2, L1 and SSIM; nothing added, total variation (weight 1e-8 on sums, published code)
or gradient variance (0.01). The table names neither set nor scale; its L2 rows equal DIV2K x2 of
Table 1. The network and its schedules are those of Table 1.
"""

from collections.abc import Sequence
from typing import Literal

from edgekeeper.losses import L1, L2, SSIM, TV, GradientVariance
from edgekeeper.recipes.gv_table1 import (
    GV_PATCH,
    GV_WEIGHT,
    SCHEDULES,
    Budget,
    Comparison,
    Degradation,
    Network,
    Printed,
    Scale,
    cell_name,
    check_choice,
    model,
    patch_of,
)
from edgekeeper.spec import Spec, spec
from edgekeeper.training.recipe import Data, Loss, Recipe, Stage, Term

Base = Literal["l2", "l1", "ssim"]
Addition = Literal["plain", "tv", "gv"]
Added = Literal["tv", "gv"]

NETWORK: Network = "vdsr"
SCALE: Scale = 2
TV_WEIGHT = 1e-8
BASES: tuple[Base, ...] = ("l2", "l1", "ssim")
ADDITIONS: tuple[Addition, ...] = ("plain", "tv", "gv")
ADDED: tuple[Added, ...] = ("tv", "gv")

_BASE: dict[Base, Spec[Loss]] = {"l2": spec(L2), "l1": spec(L1), "ssim": spec(SSIM)}
_ADDED: dict[Addition, tuple[Term, ...]] = {
    "plain": (),
    "tv": (Term("tv", spec(TV), weight=TV_WEIGHT),),
    "gv": (Term("gv", spec(GradientVariance, patch=GV_PATCH[SCALE]), weight=GV_WEIGHT),),
}


def cell(
    *,
    base: Base,
    addition: Addition = "plain",
    budget: Budget = "standard",
    seed: int = 0,
    degradation: Degradation = "bilinear",
) -> Recipe:
    """Return the training of one row of the table; the arguments are those of Table 1."""
    schedule = SCHEDULES[NETWORK, budget]
    return Recipe(
        name=cell_name(
            f"gv_table2_{base}",
            addition,
            budget=budget,
            seed=seed,
            degradation=degradation,
        ),
        model=model(NETWORK, scale=SCALE, degradation=degradation),
        data=Data(
            patch=patch_of(NETWORK, scale=SCALE, budget=budget),
            batch=schedule.batch,
            augment=schedule.augment,
        ),
        stages=(
            Stage(
                "train",
                steps=schedule.steps,
                optim=schedule.optim,
                terms=(Term("base", _BASE[base]), *_ADDED[addition]),
            ),
        ),
        seed=seed,
    )


def comparisons(
    *,
    budget: Budget = "standard",
    networks: Sequence[Network] | None = None,
    scales: Sequence[Scale] | None = None,
    seeds: Sequence[int] = (0,),
    degradation: Degradation = "bilinear",
) -> list[Comparison]:
    """Return the pairs of rows of the table: each addition against its base loss alone.

    Raises InputError for a network or scale that the table does not have.
    """
    check_choice("network", networks or (NETWORK,), known=(NETWORK,))
    check_choice("scale", scales or (SCALE,), known=(SCALE,))

    def trained(base: Base, addition: Addition) -> tuple[Recipe, ...]:
        return tuple(
            cell(base=base, addition=addition, budget=budget, seed=seed, degradation=degradation)
            for seed in seeds
        )

    return [
        Comparison(
            network=NETWORK.upper(),
            scale=SCALE,
            base=_BASE[base].name,
            term=addition.upper(),
            without=trained(base, "plain"),
            added=trained(base, addition),
            printed={
                key[0]: printed for key, printed in PAPER.items() if key[1:] == (base, addition)
            },
        )
        for base in BASES
        for addition in ADDED
    ]


GV_TABLE2: dict[str, Recipe] = {
    recipe.name: recipe
    for base in BASES
    for addition in ADDITIONS
    for recipe in (cell(base=base, addition=addition),)
}
"""The cells with the budget "standard", by name."""

_SAME = "equals DIV2K x2, VDSR, of Table 1"
_LOWER = "total variation lowers SSIM here"

# Table 2, by base loss and addition: PSNR in dB and SSIM, (without, with) the addition.
PAPER: dict[tuple[str, Base, Added], Printed] = {
    ("div2k_valid", "l2", "tv"): Printed((30.13, 30.39), (0.887736, 0.893212)),
    ("div2k_valid", "l2", "gv"): Printed((30.13, 30.82), (0.887736, 0.903685), _SAME),
    ("div2k_valid", "l1", "tv"): Printed((31.00, 31.03), (0.904594, 0.905105)),
    ("div2k_valid", "l1", "gv"): Printed((31.00, 31.12), (0.904594, 0.907823)),
    ("div2k_valid", "ssim", "tv"): Printed((31.77, 31.79), (0.924859, 0.922874), _LOWER),
    ("div2k_valid", "ssim", "gv"): Printed((31.77, 31.88), (0.924859, 0.925011)),
}
