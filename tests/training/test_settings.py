"""Tests of recipes as plain values: fields set by name, TOML files."""

import dataclasses
from pathlib import Path

import pytest

from edgekeeper.errors import InputError
from edgekeeper.models import EDSR
from edgekeeper.models.own import import_file
from edgekeeper.recipes import FAMILIES, RECIPES
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Recipe, Start
from edgekeeper.training.settings import read_toml, to_toml, with_settings


def test_every_recipe_is_the_same_after_toml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for name, recipe in RECIPES.items():
        path.write_text(to_toml(recipe))
        assert read_toml(path) == recipe, name
    assert sum(map(len, FAMILIES.values())) == len(RECIPES)


def test_a_network_of_one_s_own_is_the_same_after_toml(tmp_path: Path) -> None:
    file, path = tmp_path / "inner_net.py", tmp_path / "recipe.toml"
    file.write_text(
        "from torch import nn\n\n\nclass InnerOfMine(nn.Module):\n"
        "    def __init__(self, width: int = 4):\n        super().__init__()\n"
    )
    path.write_text(to_toml(with_settings(RECIPES["espcn_x2"], ["model=EDSR"])))
    path.write_text(path.read_text().replace('"EDSR"', '"InnerOfMine"'))
    with pytest.raises(InputError, match=r"no class 'InnerOfMine'.*--import FILE"):
        read_toml(path)
    import_file(file)
    recipe = read_toml(path)
    assert recipe.model.name == "InnerOfMine"
    path.write_text(to_toml(recipe))
    assert read_toml(path) == recipe


def test_fields_are_set_by_number_or_name_and_have_their_types() -> None:
    base = RECIPES["spsr_small"]
    for setting, found in {
        "stages.0.optimizer.learning_rate=1e-4": lambda r: r.stages[0].optim.learning_rate == 1e-4,
        "stages.0.optim.learning_rate=1": lambda r: type(r.stages[0].optim.learning_rate) is float,
        "stages.warm-up.steps=1e3": lambda r: r.stages[1].steps == 1000,
        "stages.adversarial.terms.gradient.weight=2": lambda r: r.stages[2].terms[2].weight == 2.0,
        "stages.2.discriminators.gan.network.width=16": lambda r: (
            ("width", 16) in r.stages[2].discriminators[0].network.arguments
        ),
        "model=EDSR": lambda r: r.model == spec(EDSR),
        "model.blocks=8": lambda r: ("blocks", 8) in r.model.arguments,
        "validation=none": lambda r: r.validation is None,
        "start.fresh=last.": lambda r: r.start == Start(fresh=("last.",)),
        "stages.0.optim.betas=[0.5, 0.9]": lambda r: r.stages[0].optim.betas == (0.5, 0.9),
        "stages.0.trains=fusion.": lambda r: r.stages[0].trains == ("fusion.",),
        "name=another": lambda r: r.name == "another",
    }.items():
        changed = with_settings(base, [setting])
        assert isinstance(changed, Recipe) and found(changed), setting
    both = with_settings(base, ["data.batch=3", "seed=5"])
    assert both == dataclasses.replace(base, seed=5, data=dataclasses.replace(base.data, batch=3))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.batch", "give a field and its value"),
        ("data.bach=3", "no field of recipe.data 'bach'. Did you mean 'batch'"),
        ("stages.0.optim.learning_rat=1", "Did you mean 'learning_rate'"),
        ("stages.9.steps=1", "no part of recipe.stages '9'"),
        ("stages.pixle.steps=1", "Did you mean 'pixel'"),
        ("data.batch=many", "recipe.data.batch is 'many'; give a whole number"),
        ("data.batch=2.5", "give a whole number"),
        ("data.batch=0", "give 1 or more"),
        ("seed=true", "give a whole number"),
        ("stages.0.optim.schedule=Cosine", "Did you mean 'cosine'"),
        ("model.blokcs=3", "no argument 'blokcs'. Did you mean 'blocks'"),
        ("model=EDRS", "no class 'EDRS'. Did you mean 'EDSR'"),
        ("seed.x=3", "has no part 'x'"),
        ("stages.0.optim.betas=[1.0]", "give 2 values"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest_name(setting: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        with_settings(RECIPES["spsr_small"], [setting])
    assert words in str(raised.value)


def test_a_file_that_is_no_recipe_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for text, words in {
        "a = ": "is not TOML",
        "seed = 1": "recipe needs the field 'model'",
        'model = "EDSR"\ndata = { patch = 8, batch = 2 }\nstages = []': "give at least one",
        "model = 3\ndata = { patch = 8, batch = 2 }\nstages = []": "recipe.model is 3",
        "model = { name = 3 }\n": "needs the field 'data'",
    }.items():
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_toml(path)
    with pytest.raises(InputError, match=r"recipe file .*nowhere\.toml' cannot be read: no such"):
        read_toml(tmp_path / "nowhere.toml")
