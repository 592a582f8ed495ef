"""Recipes by name: the networks that ship, the demo, and the rows of the papers' tables."""

from edgekeeper.recipe import Recipe
from edgekeeper.recipes.demo import DEMO
from edgekeeper.recipes.shipped import SHIPPED

RECIPES: dict[str, Recipe] = {**SHIPPED, **DEMO}

__all__ = ["RECIPES"]
