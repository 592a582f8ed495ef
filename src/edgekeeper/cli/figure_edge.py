"""``edgekeeper figure edge``: an edge along a line."""

from pathlib import Path
from typing import Literal

import click

from edgekeeper.cli.figure_options import Chosen, of_pictures
from edgekeeper.cli.options import split_numbers
from edgekeeper.errors import InputError

LINE_OPTIONS = {
    "middle": "--at", "length": "--length", "direction": "--direction", "boxes": "--box"
}  # fmt: skip


@click.command(
    "edge",
    short_help="An edge along a line, and its differences.",
    epilog="Example: edgekeeper figure edge bicubic edsr_light_x4 edsr_light_x4_gv "
    "--hr set14/comic -o edge.svg",
)
@of_pictures("optional")
@click.option(
    "--at", "middle", metavar="ROW,COLUMN",
    help="The middle of the line. Default: the original's strongest edge, in --box if given.",
)  # fmt: skip
@click.option(
    "--length", type=click.IntRange(3), default=24, show_default=True, help="Pixels of the line."
)
@click.option(
    "--direction", type=click.Choice(["across", "down"]), default="across", show_default=True,
    help="Where the line through --at runs; without --at it crosses the edge.",
)  # fmt: skip
def edge(
    chosen: Chosen, *, output: Path, middle: str | None, length: int,
    direction: Literal["across", "down"],
) -> None:  # fmt: skip
    """Draw values along a line and their differences (SPSR 3).

    Without SUBJECTS it is the explanation: a step, blurry and sharp. With them, and --hr, it is a
    line through the original and what each subject makes of it.
    """
    from edgekeeper import figures

    given = _given()
    if not chosen.subjects and not chosen.samples:
        if given:
            raise InputError(
                "Without subjects and --hr there is no line to choose; leave out "
                f"{', '.join(given)}, or give both."
            )
        figures.edge(figures.STEP, path=output)
        return
    if not chosen.subjects or not chosen.samples:
        raise InputError("A line through real pictures needs both: subjects, and --hr.")
    if middle is None and "--direction" in given:
        raise InputError(
            "--direction says where the line through --at runs: give --at ROW,COLUMN, or leave "
            "--direction out, and the line crosses the strongest edge."
        )
    if middle is not None and "--box" in given:
        raise InputError("--box is where to look for an edge, --at the place itself; give one.")
    row = chosen.only_row("edge")
    if middle is None:
        line = figures.strongest_line(row.hr, length=length, part=row.box)
    else:
        numbers = split_numbers("--at", middle)
        if len(numbers) != 2:
            raise InputError(f"--at is '{middle}'; give two numbers: ROW,COLUMN.")
        line = figures.Line(numbers[0], numbers[1], length, direction)
    figures.edge(figures.profiles_along(row.hr, row.panels, line=line), path=output)
    click.echo(f"The line runs {line.direction} through row {line.row}, column {line.column}.")


def _given() -> list[str]:
    """The options of the line that the user gave."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return [
        option
        for name, option in LINE_OPTIONS.items()
        if context.get_parameter_source(name) not in (None, default)
    ]
