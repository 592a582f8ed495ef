"""Recipes by name: the networks that ship, the demo, and the rows of the papers' tables."""

from edgekeeper.recipes.branch import BRANCH
from edgekeeper.recipes.comparators import COMPARATORS
from edgekeeper.recipes.demo import DEMO
from edgekeeper.recipes.dgggan import DGGGAN_LIGHT, DGGGAN_TABLES
from edgekeeper.recipes.esrgan_light import BEYOND, LEARNED, TEXTURE
from edgekeeper.recipes.gv_tables import GV_TABLES
from edgekeeper.recipes.ladder import LADDER
from edgekeeper.recipes.shipped import SHIPPED, TRUNKS
from edgekeeper.recipes.spsr import SPSR_TABLE2
from edgekeeper.recipes.spsr_code import SPSR_CODE
from edgekeeper.training.recipe import Recipe

FAMILIES: dict[str, dict[str, Recipe]] = {
    "Networks that ship, their trunks and a teacher": TRUNKS | SHIPPED | LADDER | DEMO,
    "Gradient variance loss (Abrahamyan et al., ICASSP 2022), Tables 1 and 2": GV_TABLES,
    "SPSR (Ma et al., CVPR 2020), Table 2, with ESRGAN": SPSR_TABLE2 | SPSR_CODE,
    "Texture, from ESRGAN's light training": TEXTURE,
    "After SPSR: LDL, WGSR, focal frequency, AESOP, SPSR-P, from its light trainings": BEYOND
    | LEARNED,
    "SPSR's gradient branch on EDSR, for fidelity": BRANCH,
    "DGGGAN (Ma and Li), Tables 1 and 2, and a light one": DGGGAN_TABLES | DGGGAN_LIGHT,
    "The networks that the papers are compared with": COMPARATORS,
}
RECIPES: dict[str, Recipe] = {
    name: recipe for family in FAMILIES.values() for name, recipe in family.items()
}

__all__ = ["FAMILIES", "RECIPES"]
