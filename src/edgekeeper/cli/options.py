"""Options and checks that several commands share."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekeeper.errors import InputError, check_choice, unknown_name
from edgekeeper.files import check_target, is_plain, make_folder

if TYPE_CHECKING:
    from rich.console import Console

    from edgekeeper.training.recipe import Recipe

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

SCALES = click.IntRange(2, 4)


class Subcommands(click.Group):
    """A group in the order it is written, whose help says the first sentence of each command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command; an unknown name is an error with the nearest one."""
        if cmd_name not in self.commands:
            error = unknown_name("command", cmd_name, known=self.commands)
            raise click.UsageError(str(error), ctx)
        return self.commands[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands."""
        rows = [
            (name, command.get_short_help_str(limit=1000))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


PATH = click.Path(path_type=Path)
_FORCE = "edgekeeper.force"  # in the context: whether --force was given


def data_option(text: str = "Folder with the benchmark sets.") -> Decorator:
    """Return the option ``--data``, by default the environment's EDGEKEEPER_DATA."""
    return click.option(
        "--data",
        envvar="EDGEKEEPER_DATA",
        type=PATH,
        metavar="FOLDER",
        help=f"{text} Default: the environment variable EDGEKEEPER_DATA.",
    )


def device_option() -> Decorator:
    """Return the option ``--device``."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        help="Where to compute; auto takes an accelerator when there is one.",
    )


def force_option(text: str = "Replace files that exist.") -> Decorator:
    """Return the option ``--force``."""
    return click.option("--force", is_flag=True, help=text)


def new_file_option(
    names: Sequence[str],
    *,
    text: str,
    required: bool = False,
    drawn: bool = False,
    force: bool = True,
) -> Decorator:
    """Return the option of a file to write, checked before work is done, with ``--force``.

    ``drawn``: it is a figure. ``force`` False is for the second such option of a command.
    """

    def check(_: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
        check_new_file(path, option=option.opts[-1])
        if drawn and path is not None:
            from edgekeeper.figures.canvas import checked_target

            checked_target(path)
        return path

    def keep(context: click.Context, _: click.Parameter, given: bool) -> None:
        context.meta[_FORCE] = given

    own = click.option(*names, type=PATH, required=required, callback=check, help=text)
    if not force:
        return own
    replace = click.option(
        "--force",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=keep,
        help="Replace files that exist.",
    )
    return lambda function: own(replace(function))


def check_new_file(path: Path | None, *, option: str, force: bool | None = None) -> None:
    """Raise InputError when ``path`` cannot be written, before work is done.

    A file that exists is replaced only with ``force``, by default what ``--force`` says. Where it
    is standard output, what is meant for people goes to standard error.
    """
    if path is None:
        return
    context = click.get_current_context(silent=True)
    if force is None:
        force = context is not None and context.meta[_FORCE]
    with suppress(OSError, ValueError):
        if context and os.path.samestat(path.stat(), os.fstat(1)) and not is_plain(path):
            context.with_resource(redirect_stdout(sys.stderr))
    try:
        check_target(path, overwrite="replace")
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
    if path.is_file() and is_plain(path) and not force:
        raise InputError(f"'{path}' exists; give another name, or --force to replace it.")


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Another value for a field of the recipe, such as stages.0.optim.learning_rate=1e-4; "
    "again for more. `edgekeeper recipes show RECIPE --toml` lists the fields.",
)


def chosen_device(name: str) -> str:
    """Return the device for ``--device``; raises InputError when it is not there."""
    from edgekeeper.pretrained.zoo import find_device

    return find_device(name)


def needed_data(data: Path | None) -> Path:
    """Return the folder of ``--data``; raises InputError when none was given or it is not there."""
    if data is None:
        raise InputError(
            "This needs the benchmark sets: give their folder with --data, or set EDGEKEEPER_DATA."
        )
    if not data.is_dir():
        raise InputError(f"There is no folder '{data}', which --data or EDGEKEEPER_DATA names.")
    return data


def split_names(text: str) -> list[str]:
    """Return the names in a list such as ``set5,set14``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def split_numbers(option: str, text: str) -> list[int]:
    """Return the whole numbers in a list such as ``2,3,4``; raises InputError for anything else."""
    try:
        return [int(part) for part in split_names(text)]
    except ValueError as error:
        raise InputError(f"{option} is '{text}'; give whole numbers such as 2,3,4.") from error


def find_recipe(name_or_file: str) -> "Recipe":
    """Return a recipe by name, of a TOML file, or the value ``recipe`` of a Python file."""
    from edgekeeper.models.own import adopt, run_file
    from edgekeeper.recipes import RECIPES
    from edgekeeper.training.recipe import Recipe
    from edgekeeper.training.settings import read_toml

    path = Path(name_or_file)
    if path.suffix == ".toml":
        return read_toml(path)
    if path.suffix != ".py":
        check_choice("recipe", name_or_file, known=RECIPES)
        return RECIPES[name_or_file]
    module = run_file(path, kind="recipe file")
    adopt(module)
    recipe = getattr(module, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise InputError(f"'{path}' must define `recipe = Recipe(...)`.")
    return recipe


def console() -> "Console":
    """Return where tables go: the terminal, or 120 columns in a pipe or a file."""
    from rich.console import Console

    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=120)


def own_folder(path: Path) -> Path:
    """``path`` as a folder that exists and can be written; raises InputError otherwise."""
    make_folder(path)
    if not os.access(path, os.W_OK):
        raise InputError(f"The folder '{path}' cannot be written.")
    return path


def subject_names(subjects: Sequence[str]) -> list[str]:
    """Return how each network or folder is called: as shortly as tells them all apart."""
    called: list[str] = []
    for number, subject in enumerate(subjects):
        if subject in subjects[:number]:
            raise InputError(f"'{subject}' is given twice; name each network or folder once.")
        path = Path(subject)
        called.append(path.name if path.is_dir() else path.stem)
    longer = [
        f"{Path(subject).parent.name}/{name}" if called.count(name) > 1 else name
        for subject, name in zip(subjects, called, strict=True)
    ]
    return longer if len(set(longer)) == len(longer) else list(subjects)
