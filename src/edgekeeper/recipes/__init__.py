"""Recipes by name: the networks that ship, and the rows of the papers' tables."""

from edgekeeper.recipe import Recipe
from edgekeeper.recipes.shipped import SHIPPED

RECIPES: dict[str, Recipe] = {**SHIPPED}

__all__ = ["RECIPES"]
