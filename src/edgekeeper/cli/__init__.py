"""The command line: ``edgekeeper COMMAND``. Each command's module is imported only when it runs."""

import atexit
import gc
import importlib
import io
import os
import sys
from pathlib import Path

import click

from edgekeeper import __version__
from edgekeeper.errors import EdgekeeperError, did_you_mean
from edgekeeper.files import is_full, reason, shown

COMMANDS = {
    "upscale": "Enlarge an image, or all images of a folder.",
    "serve": "Open a page to enlarge images on, with an HTTP API.",
    "train": "Train a network from a recipe; resumes by itself.",
    "recipes": "List the recipes by paper, show one, write it as TOML.",
    "inspect": "Measure an enlarged image against its input.",
    "evaluate": "Score a network or a folder of results on benchmark sets.",
    "compare": "Compare two networks or result folders image by image.",
    "study": "Make and analyse a blind preference study.",
    "report": "Write one HTML page about networks or folders of results.",
    "blend": "Mix two trained networks of one kind, weight by weight.",
    "cost": "Count what networks cost: parameters, operations, seconds, memory.",
    "reproduce": "Put ours beside the numbers that a paper's table prints.",
    "figure": "Draw a paper's figure for any networks, folders of results and images.",
    "data": "List, download, check and prepare image sets.",
    "models": "List networks, show a card, get public ones, pack or push your own.",
    "export": "Write a network as an ONNX or OpenVINO file, checked, in float32 or int8.",
    "demo": "Upscale an example, draw the comparison, train two small networks.",
}

TAKES_NETWORKS = (
    *("upscale", "train", "evaluate", "compare", "blend", "cost", "reproduce"),
    *("figure", "models", "export", "recipes", "data"),
)


# What other programs call options, and the field of a recipe that it is here.
_FIELDS = {
    "--lr": "stages.0.optim.learning_rate",
    "--learning-rate": "stages.0.optim.learning_rate",
    "--batch-size": "data.batch",
    "--batch": "data.batch",
    "--patch-size": "data.patch",
    "--patch": "data.patch",
    "--steps": "stages.0.steps",
    "--iterations": "stages.0.steps",
}

atexit.register(gc.freeze)  # the end of a process need not look through all of torch for garbage


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order they are meant to be met."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, imported now; an unknown name is an error with the nearest one."""
        if cmd_name not in COMMANDS:
            if os.path.lexists(cmd_name) or "." in cmd_name:  # a file, perhaps of another folder
                raise click.UsageError(
                    f"'{cmd_name}' is no command. Did you mean: edgekeeper upscale {cmd_name}", ctx
                )
            hint = did_you_mean(cmd_name, COMMANDS)
            raise click.UsageError(f"There is no command '{cmd_name}'.{hint}", ctx)
        if cmd_name in ("upscale", "serve"):  # PyTorch's threads wait asleep; see performance.md
            os.environ.setdefault("GOMP_SPINCOUNT", "0")
        module = importlib.import_module(f"edgekeeper.cli.{cmd_name}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        if cmd_name in TAKES_NETWORKS:
            _add_import_option(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _add_import_option(command: click.Command) -> None:
    """Give a command, or each of a group's, the option --import."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _add_import_option(inner)
        return
    if not any(parameter.name == "imports" for parameter in command.params):
        option = click.Option(
            ["--import", "imports"],
            multiple=True,
            metavar="FILE",
            expose_value=False,
            is_eager=True,
            callback=_import,
            help="Python file with networks of your own, which is run; again for more.",
        )
        command.params.append(option)


def _import(ctx: click.Context, parameter: click.Parameter, files: tuple[str, ...]) -> None:
    if files:
        from edgekeeper.models.own import import_file

        for file in files:
            import_file(file)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="Example: edgekeeper upscale photo.jpg -o photo_large.png --scale 4",
)
@click.version_option(__version__, prog_name="edgekeeper")
def group() -> None:
    """Super-resolution that keeps structure: train, measure and run networks."""


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit status 2."""
    _fill_streams()
    try:
        group(standalone_mode=False)
    except click.exceptions.Abort:
        _stop("Stopped.", status=130)
    except click.NoSuchOption as error:
        field = _FIELDS.get(error.option_name)
        if field and error.ctx is not None and error.ctx.command.name == "train":
            hint = f"No such option '{error.option_name}'. Did you mean --set {field}=...?"
            click.UsageError(hint, error.ctx).show()
        else:
            error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EdgekeeperError as error:
        _stop(f"Error: {error}", status=2)
    except KeyboardInterrupt:
        _stop("Stopped.", status=130)
    except BrokenPipeError:  # the reader of our output has gone, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if is_full(error) and error.filename is None:  # of a stream: likely our output
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _stop(f"Error: Standard output or a file cannot be written: {reason(error)}.", status=2)
        _stop(f"Error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), status=2)


def _fill_streams() -> None:
    """Put the null device in the place of closed streams; escape what an encoding has not."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - to the end
    for stream in (sys.stdout, sys.stderr):  # in files on Windows cp1252, which has no arrows
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stop(message: str, *, status: int) -> None:
    click.echo(shown(message), err=True)
    sys.exit(status)
