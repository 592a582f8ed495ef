"""``edgekeeper recipes``."""

from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import Subcommands, find_recipe, settings_option
from edgekeeper.cli.scoring import show_table

if TYPE_CHECKING:
    from edgekeeper.training.recipe import Recipe, Stage


@click.group(
    "recipes",
    cls=Subcommands,
    invoke_without_command=True,
    epilog="Example: edgekeeper recipes show spsr --toml > mine.toml",
)
@click.pass_context
def recipes_command(ctx: click.Context) -> None:
    """List the recipes that `edgekeeper train` takes, by paper; docs/train.md says more."""
    if ctx.invoked_subcommand is not None:
        return
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.recipes import FAMILIES

    for title, family in FAMILIES.items():
        rows = tuple((one.name, one.model.name, f"{one.steps:,}") for one in family.values())
        show_table(Table(title, ("recipe", "network", ">updates"), rows))


@recipes_command.command("show", epilog="Example: edgekeeper recipes show spsr --toml > mine.toml")
@click.argument("recipe")
@click.option("--toml", is_flag=True, help="Print it as a TOML file, which `train` takes.")
@settings_option
def show_recipe(recipe: str, toml: bool, settings: tuple[str, ...]) -> None:
    """Show what RECIPE, a name or a file, computes."""
    from edgekeeper.training.settings import to_toml, with_settings

    chosen = with_settings(find_recipe(recipe), settings)
    click.echo(to_toml(chosen) if toml else "\n".join(described(chosen)), nl=not toml)


def described(recipe: "Recipe") -> list[str]:
    """Return a recipe as lines for people."""
    data, start = recipe.data, recipe.start
    arguments = ", ".join(f"{name}={value}" for name, value in recipe.model.arguments)
    lines = [
        f"{recipe.name}: {recipe.model.name}({arguments}), seed {recipe.seed}",
        f"patches of {data.patch} HR pixels, {data.batch} a batch",
    ]
    if start is not None:
        lines.append(f"begins from a network as of recipe '{start.recipe}'")
    return lines + [line for stage in recipe.stages for line in _stage(stage)]


def _stage(stage: "Stage") -> list[str]:
    optim, rest = stage.optim, f", trains {', '.join(stage.trains)}" if stage.trains else ""
    lines = [
        f"{stage.name}: {stage.steps:,} updates, {optim.kind}, learning rate "
        f"{optim.learning_rate:g}, {optim.schedule}{rest}"
    ]
    lines += [f"  {t.weight:g} x {t.name}: {t.loss.name} of the {t.on}" for t in stage.terms]
    return lines + [
        f"  {d.weight:g} x {d.name}: {d.loss.name}, {d.network.name} of the {d.input}"
        for d in stage.discriminators
    ]
