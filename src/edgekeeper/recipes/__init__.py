"""Recipes by name: the networks that ship, the demo, and the rows of the papers' tables."""

from edgekeeper.recipes.branch import BRANCH
from edgekeeper.recipes.comparators import COMPARATORS
from edgekeeper.recipes.demo import DEMO
from edgekeeper.recipes.dgggan import DGGGAN_LIGHT, DGGGAN_TABLES
from edgekeeper.recipes.gv_tables import GV_TABLES
from edgekeeper.recipes.ladder import LADDER
from edgekeeper.recipes.shipped import SHIPPED, TRUNKS
from edgekeeper.recipes.spsr import SPSR_TABLE2
from edgekeeper.recipes.texture import TEXTURE
from edgekeeper.training.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    **TRUNKS,
    **SHIPPED,
    **LADDER,
    **DEMO,
    **GV_TABLES,
    **SPSR_TABLE2,
    **TEXTURE,
    **BRANCH,
    **DGGGAN_TABLES,
    **DGGGAN_LIGHT,
    **COMPARATORS,
}

__all__ = ["RECIPES"]
