"""The ablations of SPSR (Table 2) and DGGGAN (Tables 1 and 2) as pairs of trainings.

Each pair differs in what the table takes out: ``papers.training.reproduce`` trains and measures
both, and this file says which, for how long and what the papers print for them. All at x4.

    --budget   SPSR (recipes/spsr.py)                   DGGGAN (recipes/dgggan.py)
    quick      light: the light EDSR with               small, 300 updates on fidelity and
               GradientBranch, 470 updates              100 against the discriminators
    standard   small: RRDB and SPSR of 4 blocks         small: 2,000 and 500
    paper      as in the paper, from a trained RRDB     as in the paper

``quick`` takes batches of 4, so that a table of one seed ends within 40 minutes of one core: for
the sign of a difference, not for its size.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from edgekeeper.errors import check_choice
from edgekeeper.papers.printed import PRINTED
from edgekeeper.recipes.dgggan import dgggan
from edgekeeper.recipes.gv_tables import Budget, Comparison, Printed
from edgekeeper.recipes.spsr import SPSRForm, SPSRVariant, spsr
from edgekeeper.training.recipe import Recipe

AblationName = Literal["spsr_table2", "dgggan_table1", "dgggan_table2"]
ABLATIONS: tuple[AblationName, ...] = get_args(AblationName)
ABLATION_MEASURES: tuple[str, ...] = ("psnr", "ssim", "gv_gap", "lpips", "niqe", "pi", "risk")
ABLATION_PROTOCOLS: dict[str, str] = {
    "spsr_table2": "spsr_toolbox",
    "dgggan_table1": "y_matlab",  # these print PI alone, which no protocol touches
    "dgggan_table2": "y_matlab",
}
DESIGNS = {"half": "DGGGAN, design A", "lr": "DGGGAN, design B"}

_SPSR_FORMS: dict[Budget, SPSRForm] = {"quick": "light", "standard": "small", "paper": "paper"}
# The row without, what it lacks, the recipe's variant.
_SPSR_PAIRS: tuple[tuple[str, str, SPSRVariant], ...] = (
    ("ESRGAN", "branch and gradient loss", "esrgan"),
    ("SPSR w/o GB", "gradient branch", "no_branch"),
    ("SPSR w/o GL", "gradient loss", "no_loss"),
)
_QUICK_STEPS = (300, 100)  # of DGGGAN's two stages
_QUICK_BATCH = 4


def ablations(
    table: AblationName,
    *,
    budget: Budget = "quick",
    seeds: Sequence[int] = (0,),
    designs: Sequence[str] | None = None,
) -> list[Comparison]:
    """Return the pairs of the table, each a recipe per seed without and with a part.

    ``designs`` of DGGGAN: "half" (A, the default), "lr" (B). Raises InputError for others.
    """
    if table == "spsr_table2":
        known: tuple[str, ...] = ("spsr",)
    else:
        known = tuple(DESIGNS)
    for design in designs or ():
        check_choice("network in this table", design, known=known)
    pairs = []
    if table == "spsr_table2":
        full = _seeds(_spsr("spsr", budget), seeds)
        for row, part, variant in _SPSR_PAIRS:
            without = _seeds(_spsr(variant, budget), seeds)
            pairs.append(_pair(table, "SPSR", (row, "SPSR"), part, without, full))
        return pairs
    part = "gradient branch" if table == "dgggan_table1" else "SE"
    rows = (f"DGGGAN without {part}", f"DGGGAN with {part}")
    for design in designs or known[:1]:
        full, without = (
            _seeds(_dgggan(variant, design, budget), seeds)
            for variant in ("dgggan", "no_branch" if table == "dgggan_table1" else "no_se")
        )
        pairs.append(_pair(table, DESIGNS[design], rows, part, without, full))
    return pairs


def _dgggan(variant: str, design: str, budget: Budget) -> Recipe:
    recipe = dgggan(
        variant=variant,  # type: ignore[arg-type]
        body=design,  # type: ignore[arg-type]
        form="paper" if budget == "paper" else "small",
    )
    if budget != "quick":
        return recipe
    stages = zip(recipe.stages, _QUICK_STEPS, strict=True)
    return _quick(replace(recipe, stages=tuple(replace(s, steps=steps) for s, steps in stages)))


def _spsr(variant: SPSRVariant, budget: Budget) -> Recipe:
    recipe = spsr(variant=variant, form=_SPSR_FORMS[budget])
    return _quick(recipe) if budget == "quick" else recipe


def _quick(recipe: Recipe) -> Recipe:
    data = replace(recipe.data, batch=_QUICK_BATCH)
    return replace(recipe, name=f"{recipe.name}_quick", data=data)


def _seeds(recipe: Recipe, seeds: Sequence[int]) -> tuple[Recipe, ...]:
    named = ((seed, recipe.name + (f"_seed{seed}" if seed else "")) for seed in seeds)
    # The last state is measured, so nothing is chosen by a validation set.
    return tuple(replace(recipe, name=name, seed=seed, validation=None) for seed, name in named)


def _pair(
    table: AblationName,
    network: str,
    rows: tuple[str, str],
    part: str,
    without: tuple[Recipe, ...],
    added: tuple[Recipe, ...],
) -> Comparison:
    printed = PRINTED[table.replace("_", "-")]

    def both(set_name: str, measure: str) -> tuple[float, float] | None:
        found = [printed.value(row, set_name=set_name, measure=measure) for row in rows]
        return None if found[0] is None or found[1] is None else (found[0], found[1])

    numbers = {
        name: Printed(psnr=both(name, "psnr"), ssim=both(name, "ssim"), pi=both(name, "pi"))
        for name in printed.sets
    }
    return Comparison(network, 4, rows[0], part, without, added, numbers)
