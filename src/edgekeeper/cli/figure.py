"""``edgekeeper figure NAME``: one command for each figure."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from edgekeeper.cli.figure_options import (
    Chosen,
    chosen_numbers,
    numbers_options,
    of_images,
    whole_option,
)
from edgekeeper.cli.figure_points import frontier_command, quality_cost_command
from edgekeeper.cli.options import Subcommands, split_names, split_numbers
from edgekeeper.errors import InputError, unknown_name

LINE_OPTIONS = {
    "middle": "--at",
    "length": "--length",
    "direction": "--direction",
    "boxes": "--box",
}


@click.command(
    "crops",
    short_help="The same part of many results, with numbers.",
    epilog="Example: edgekeeper figure crops bicubic results/RCAN edsr_light_x4 "
    "--hr set5/butterfly --hr set5/woman --original first -o crops.pdf",
)
@of_images()
@numbers_options()
@click.option(
    "--original",
    type=click.Choice(["first", "last"]),
    default="last",
    help="Where the original stands.",
)
@click.option("--per-line", type=click.IntRange(1), help="Images in a line. Default: all.")
@whole_option
def crops_command(
    chosen: Chosen,
    *,
    output: Path,
    numbers: str,
    protocol: str,
    whole: bool,
    original: Literal["first", "last"],
    per_line: int | None,
) -> None:
    """Show the same part of many results (SPSR 1 and 4, DGGGAN 6, gradient variance 3).

    A subject is a network (name or file), `bicubic`, an image file, or a folder of result
    images. Each --hr is a row.
    """
    from edgekeeper import figures

    shown = chosen_numbers(numbers, chosen, protocol=protocol)
    figures.crops(
        chosen.rows(),
        path=output,
        numbers=shown,
        scale=chosen.scale,
        protocol=protocol,
        original=original,
        whole=whole,
        per_line=per_line,
    )


@click.command(
    "comparison",
    short_help="A part of each result, its gradients and numbers.",
    epilog="Example: edgekeeper figure comparison bicubic espcn_x3 espcn_x3_gv --hr photo.png "
    "--scale 3 -o comparison.svg",
)
@of_images()
def comparison_command(chosen: Chosen, *, output: Path) -> None:
    """Show a part of each result with its gradients, PSNR, SSIM and gradient variance gap."""
    from edgekeeper import figures

    row = chosen.only_row("comparison")
    figures.comparison(row.hr, row.panels, path=output, scale=chosen.scale, box=row.box)


@click.command(
    "gradients",
    short_help="Maps of gradients on one scale.",
    epilog="Example: edgekeeper figure gradients edsr_light_x4 edsr_light_x4_gv "
    "--hr examples/test/canyon-wren.png --kind length -o gradients.svg",
)
@of_images()
@click.option(
    "--kind",
    type=click.Choice(["directions", "length"]),
    default="directions",
    help="|Gx| and |Gy| of grey (Sobel), or the length M of the central differences, the mean "
    "over R, G and B.",
)
@whole_option
def gradients(
    chosen: Chosen, *, output: Path, kind: Literal["directions", "length"], whole: bool
) -> None:
    """Show maps of gradients on one scale (gradient variance 1; with --kind length SPSR 5)."""
    from edgekeeper import figures

    figures.gradient_maps(chosen.rows(), path=output, kind=kind, whole=whole)


@click.command(
    "variances",
    short_help="Gradient variance of every patch.",
    epilog="Example: edgekeeper figure variances espcn_x3 espcn_x3_gv --hr photo.png --scale 3 "
    "-o variances.svg",
)
@of_images()
@click.option("--patch", type=click.IntRange(2), default=8, help="Side of a patch.")
def variances(chosen: Chosen, *, output: Path, patch: int) -> None:
    """Draw the gradient variance of every patch (gradient variance 2); the arrays go to JSON."""
    from edgekeeper import figures

    row = chosen.only_row("variances")
    curves = figures.variance_curves(row.hr, row.panels, path=output, patch=patch, box=row.box)
    for label, mean in curves.means().items():
        click.echo(f"{label:24} mean gradient variance {mean:.5f}")


# ---- Figures of gradient branches: what a branch sees, and what the image is without it ---------


@click.command(
    "branch",
    short_help="What a gradient branch predicts.",
    epilog="Example: edgekeeper figure branch spsr.safetensors --hr set14/comic "
    "--columns image,original,branch -o branch.pdf",
)
@of_images()
@click.option(
    "--columns",
    default="original,bicubic,branch",
    help="Of image, original, bicubic and branch: the original itself, then the gradient "
    "maps of the original and of the interpolation, and the branch's own.",
)
@whole_option
def branch(chosen: Chosen, *, output: Path, columns: str, whole: bool) -> None:
    """Show the map that a gradient branch predicts (SPSR 6; DGGGAN 5: see the example).

    SUBJECTS are networks with a gradient branch, such as SPSR or any in a GradientBranch.
    """
    from edgekeeper import figures
    from edgekeeper.figures.gradients import check_columns
    from edgekeeper.figures.subjects import gradient_output

    names = split_names(columns)
    check_columns(names)
    rows = [
        figures.BranchRow(
            sample.hr,
            sample.bicubic(),
            [gradient_output(subject, sample) for subject in chosen.subjects],
            sample.name,
            box,
        )
        for sample, box in zip(chosen.samples, chosen.boxes, strict=True)
    ]
    figures.branch_maps(rows, path=output, columns=names, whole=whole)


@click.command(
    "guidance",
    short_help="Images without and with the gradient branch.",
    epilog="Example: edgekeeper figure guidance spsr.safetensors --hr set14/baboon -o guidance.pdf",
)
@of_images()
@numbers_options()
@whole_option
def guidance(chosen: Chosen, *, output: Path, numbers: str, protocol: str, whole: bool) -> None:
    """Show images without and with the gradient branch of the same network (SPSR 7).

    SUBJECTS are networks with a gradient branch that changes the image, such as SPSR, DGGGAN or
    any in a GradientBranch.
    """
    from edgekeeper import figures
    from edgekeeper.figures.subjects import Subject, without_branch

    shown = chosen_numbers(numbers, chosen, protocol=protocol)
    subjects = []
    for subject in chosen.subjects:
        start = f"{subject.label} " if len(chosen.subjects) > 1 else ""
        subjects += [
            Subject(f"{start}without the branch", without_branch(subject).source),
            Subject(f"{start}with the branch", subject.source),
        ]
    figures.crops(
        replace(chosen, subjects=subjects).rows(),
        path=output,
        numbers=shown,
        scale=chosen.scale,
        protocol=protocol,
        whole=whole,
    )


# ---- ``edgekeeper figure edge``: an edge along a line -------------------------------------------


@click.command(
    "edge",
    short_help="An edge along a line, and its differences.",
    epilog="Example: edgekeeper figure edge bicubic edsr_light_x4 edsr_light_x4_gv "
    "--hr set14/comic -o edge.svg",
)
@of_images("optional")
@click.option(
    "--at",
    "middle",
    metavar="ROW,COLUMN",
    help="The middle of the line. Default: the original's strongest edge, in --box if given.",
)
@click.option("--length", type=click.IntRange(3), default=24, help="Pixels of the line.")
@click.option(
    "--direction",
    type=click.Choice(["across", "down"]),
    default="across",
    help="Where the line through --at runs; without --at it crosses the edge.",
)
def edge_command(
    chosen: Chosen,
    *,
    output: Path,
    middle: str | None,
    length: int,
    direction: Literal["across", "down"],
) -> None:
    """Draw values along a line and their differences (SPSR 3).

    Without SUBJECTS it is the explanation: a step, blurry and sharp. With them, and --hr, it is a
    line through the original and what each subject makes of it.
    """
    from edgekeeper import figures

    _check_line(chosen, middle=middle)
    if not chosen.subjects:
        figures.edge(figures.STEP, path=output)
        return
    row = chosen.only_row("edge")
    if middle is None:
        line = figures.strongest_line(row.hr, length=length, part=row.box)
    else:
        numbers = split_numbers("--at", middle)
        if len(numbers) != 2:
            raise InputError(f"--at is '{middle}'; give two numbers: ROW,COLUMN.")
        line = figures.EdgeLine(numbers[0], numbers[1], length, direction)
    figures.edge(figures.profiles_along(row.hr, row.panels, line=line), path=output)
    click.echo(f"The line runs {line.direction} through row {line.row}, column {line.column}.")


def _check_line(chosen: Chosen, *, middle: str | None) -> None:
    context = click.get_current_context()
    sources = {o: context.get_parameter_source(name) for name, o in LINE_OPTIONS.items()}
    given = [o for o, s in sources.items() if s not in (None, click.core.ParameterSource.DEFAULT)]
    if not chosen.subjects and not chosen.samples and given:
        raise InputError(
            "Without subjects and --hr there is no line to choose; leave out "
            f"{', '.join(given)}, or give both."
        )
    if bool(chosen.subjects) != bool(chosen.samples):
        raise InputError("A line through real images needs both: subjects, and --hr.")
    if middle is None and "--direction" in given:
        raise InputError(
            "--direction says where the line through --at runs: give --at ROW,COLUMN, or leave "
            "--direction out, and the line crosses the strongest edge."
        )
    if middle is not None and "--box" in given:
        raise InputError("--box is where to look for an edge, --at the place itself; give one.")


class FigureGroup(Subcommands):
    """The figures in the order they are listed; an unknown one is answered with the nearest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the figures."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the figure; an unknown name is an error with the nearest one."""
        if cmd_name not in self.commands:
            raise click.UsageError(str(unknown_name("figure", cmd_name, known=self.commands)), ctx)
        return self.commands[cmd_name]


FIGURES: tuple[click.Command, ...] = (
    crops_command,
    comparison_command,
    gradients,
    variances,
    edge_command,
    branch,
    guidance,
    frontier_command,
    quality_cost_command,
)


@click.group(
    "figure",
    cls=FigureGroup,
    commands=FIGURES,
    epilog="Example: edgekeeper figure crops bicubic edsr_light_x4 --hr photo.png -o crops.svg",
)
def figure_command() -> None:
    """Draw a paper's figure for any networks, folders of results and images."""
