"""The list at the head of the models: it names every network and file, and what it says is so."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import torch

from edgekeeper import models, recipes
from edgekeeper.errors import InputError
from edgekeeper.models import MODELS
from edgekeeper.training.recipe import Recipe

ROW = re.compile(r" {4}(?P<network>\w+) +(?P<file>\w+) +(?P<scales>any|\d[ \d]*\d) +(?P<rest>\S.*)")
COLUMN = "recipes in"


def rows() -> dict[str, tuple[str, str, str, set[str]]]:
    """File, scales, origin and recipe modules by network; a row may run on in the last column."""
    lines = (models.__doc__ or "").splitlines()
    heading = next(line for line in lines if COLUMN in line)
    begin, origin = heading.index(COLUMN), heading.index("from")
    found: dict[str, tuple[str, str, str, set[str]]] = {}
    network = ""
    for line in lines[lines.index(heading) + 1 :]:
        if not line.strip():
            break
        if row := ROW.match(line):
            network = row["network"]
            found[network] = (row["file"], row["scales"].strip(), line[origin:begin].strip(), set())
        found[network][3].update(line[begin:].split())
    return found


ROWS = rows()


def test_it_names_every_network_in_the_order_of_the_table() -> None:
    assert list(ROWS) == [model.__name__ for model in MODELS.values()]


def test_it_names_every_file() -> None:
    folder = Path(models.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    beside = set(re.findall(r"``(\w+)``", models.__doc__ or ""))
    assert files == {row[0] for row in ROWS.values()} | beside


@pytest.mark.parametrize("network", ROWS)
def test_file_scales_and_origin_are_as_listed(network: str) -> None:
    file, scales, origin, _ = ROWS[network]
    model = MODELS[network.lower()]
    assert model.__module__ == f"edgekeeper.models.{file}"
    said = " ".join((inspect.getdoc(inspect.getmodule(model)) or "").split())
    authors, _, where = origin.partition(", ")
    assert authors in said and all(word in said for word in where.split())
    assert scales == ("any" if network == "GradientBranch" else " ".join(scales_of(network)))


def scales_of(network: str) -> list[str]:
    found = []
    for scale in range(1, 17):
        try:
            with torch.device("meta"):
                MODELS[network.lower()](scale=scale)
        except InputError:
            continue
        found.append(str(scale))
    return found


def test_the_recipes_are_as_listed() -> None:
    found: dict[str, set[str]] = {network: set() for network in ROWS}
    for module in pkgutil.iter_modules(recipes.__path__):
        for value in vars(importlib.import_module(f"edgekeeper.recipes.{module.name}")).values():
            for entry in value.values() if isinstance(value, dict) else ():
                if isinstance(entry, Recipe):
                    found[entry.model.name].add(module.name)
    assert {network: row[3] - {"none"} for network, row in ROWS.items()} == found
