"""``edgekeeper figure NAME``: one command for each figure."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

from edgekeeper.cli.figure_options import Chosen, numbers_option, of_images, whole_option
from edgekeeper.cli.figure_points import frontier_command, quality_cost_command
from edgekeeper.cli.options import Subcommands, split_names, split_numbers
from edgekeeper.cli.scoring import protocol_option
from edgekeeper.errors import InputError

# ---- Rows of images -----------------------------------------------------------------------------


@of_images(
    "crops",
    short="The same part of many results, with numbers.",
    example="bicubic results/RCAN edsr_light_x4 --hr set5/butterfly --hr set5/woman "
    "--original first -o crops.pdf",
)
@numbers_option
@protocol_option
@click.option(
    "--original",
    type=click.Choice(["first", "last"]),
    default="last",
    help="Where the original stands.",
)
@click.option("--per-line", type=click.IntRange(1), help="Images in a line. Default: all.")
@whole_option
def _crops(chosen: Chosen, **options: Any) -> None:
    """Show the same part of many results (SPSR 1 and 4, DGGGAN 6, gradient variance 3).

    A subject is a network (name or file), `bicubic`, an image file, or a folder of result
    images. Each --hr is a row.
    """
    _draw_crops(chosen, **options)


def _draw_crops(
    chosen: Chosen, *, output: Path, numbers: str, protocol: str, **options: Any
) -> None:
    from edgekeeper.figures import images
    from edgekeeper.metrics import find_protocol

    find_protocol(protocol)  # before any network runs
    names = split_names(numbers) if numbers != "none" else []
    if numbers == "auto":
        names = list(images.default_measures([sample.hr for sample in chosen.samples]))
    images.check_measures(names)
    images.crops(
        chosen.rows(), path=output, numbers=names, scale=chosen.scale, protocol=protocol, **options
    )


@of_images(
    "comparison",
    short="A part of each result, its gradients and numbers.",
    example="bicubic espcn_x3 espcn_x3_gv --hr photo.png --scale 3 -o comparison.svg",
)
def comparison_command(chosen: Chosen, *, output: Path) -> None:
    """Show a part of each result with its gradients, PSNR, SSIM and gradient variance gap."""
    from edgekeeper.figures import images

    row = chosen.only_row("comparison")
    images.comparison(row.hr, row.panels, path=output, scale=chosen.scale, box=row.box)


@of_images(
    "gradients",
    short="Maps of gradients on one scale.",
    example="edsr_light_x4 edsr_light_x4_gv --hr examples/test/canyon-wren.png --kind length "
    "-o gradients.svg",
)
@click.option(
    "--kind",
    type=click.Choice(["directions", "length"]),
    default="directions",
    help="|Gx| and |Gy| of grey (Sobel), or the length M of the central differences, the mean "
    "over R, G and B.",
)
@whole_option
def gradients_command(
    chosen: Chosen, *, output: Path, kind: Literal["directions", "length"], whole: bool
) -> None:
    """Show maps of gradients on one scale (gradient variance 1; with --kind length SPSR 5)."""
    from edgekeeper.figures import images

    images.gradient_maps(chosen.rows(), path=output, kind=kind, whole=whole)


# ---- Curves -------------------------------------------------------------------------------------


@of_images(
    "variances",
    short="Gradient variance of every patch.",
    example="espcn_x3 espcn_x3_gv --hr photo.png --scale 3 -o variances.svg",
)
@click.option("--patch", type=click.IntRange(2), default=8, help="Side of a patch.")
def variances_command(chosen: Chosen, *, output: Path, patch: int) -> None:
    """Draw the gradient variance of every patch (gradient variance 2); the arrays go to JSON."""
    from edgekeeper.figures.curves import variance_curves

    row = chosen.only_row("variances")
    found = variance_curves(row.hr, row.panels, path=output, patch=patch, box=row.box)
    for label, mean in found.means().items():
        click.echo(f"{label:24} mean gradient variance {mean:.5f}")


@of_images(
    "edge",
    short="An edge along a line, and its differences.",
    example="bicubic edsr_light_x4 edsr_light_x4_gv --hr set14/comic -o edge.svg",
    needs=False,
)
@click.option(
    "--at",
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
    at: str | None,
    length: int,
    direction: Literal["across", "down"],
) -> None:
    """Draw values along a line and their differences (SPSR 3).

    Without SUBJECTS it is the explanation: a step, blurry and sharp. With them, and --hr, it is a
    line through the original and what each subject makes of it.
    """
    from edgekeeper.figures import curves

    _check_line(chosen)
    if not chosen.subjects:
        curves.edge(curves.STEP, path=output)
        return
    row = chosen.only_row("edge")
    if at is None:
        line = curves.strongest_line(row.hr, length=length, part=row.box)
    else:
        numbers = split_numbers("--at", at)
        if len(numbers) != 2:
            raise InputError(f"--at is '{at}'; give two numbers: ROW,COLUMN.")
        line = curves.EdgeLine(numbers[0], numbers[1], length, direction)
    curves.edge(curves.profiles_along(row.hr, row.panels, line=line), path=output)
    click.echo(f"The line runs {line.direction} through row {line.row}, column {line.column}.")


def _check_line(chosen: Chosen) -> None:
    context = click.get_current_context()
    sources = {o: context.get_parameter_source(o) for o in ("at", "length", "direction", "boxes")}
    default = (None, click.core.ParameterSource.DEFAULT)
    given = [f"--{o}".replace("boxes", "box") for o, s in sources.items() if s not in default]
    if bool(chosen.subjects) != bool(chosen.samples):
        raise InputError("A line through real images needs both: subjects, and --hr.")
    if not chosen.subjects and given:
        raise InputError(
            "Without subjects and --hr there is no line to choose; leave out "
            f"{', '.join(given)}, or give both."
        )
    if "--direction" in given and "--at" not in given:
        raise InputError(
            "--direction says where the line through --at runs: give --at ROW,COLUMN, or leave "
            "--direction out, and the line crosses the strongest edge."
        )
    if "--at" in given and "--box" in given:
        raise InputError("--box is where to look for an edge, --at the place itself; give one.")


# ---- What a gradient branch sees, and what the image is without it ------------------------------


@of_images(
    "branch",
    short="What a gradient branch predicts.",
    example="spsr.safetensors --hr set14/comic --columns image,original,branch -o branch.pdf",
)
@click.option(
    "--columns",
    default="original,bicubic,branch",
    help="Of image, original, bicubic and branch: the original itself, then the gradient "
    "maps of the original and of the interpolation, and the branch's own.",
)
@whole_option
def branch_command(chosen: Chosen, *, output: Path, columns: str, whole: bool) -> None:
    """Show the map that a gradient branch predicts (SPSR 6; DGGGAN 5: see the example).

    SUBJECTS are networks with a gradient branch, such as SPSR or any in a GradientBranch.
    """
    from edgekeeper.figures import images
    from edgekeeper.figures.rows import Row
    from edgekeeper.figures.subjects import gradient_output

    names = split_names(columns)
    images.check_columns(names)  # before any network runs
    rows = [
        Row(s.hr, [gradient_output(each, s) for each in chosen.subjects], s.name, box)
        for s, box in zip(chosen.samples, chosen.boxes, strict=True)
    ]
    bicubic = [sample.bicubic() for sample in chosen.samples]
    images.branch_maps(rows, bicubic=bicubic, path=output, columns=names, whole=whole)


@of_images(
    "guidance",
    short="Images without and with the gradient branch.",
    example="spsr.safetensors --hr set14/baboon -o guidance.pdf",
)
@numbers_option
@protocol_option
@whole_option
def _guidance(chosen: Chosen, **options: Any) -> None:
    """Show images without and with the gradient branch of the same network (SPSR 7).

    SUBJECTS are networks with a gradient branch that changes the image, such as SPSR, DGGGAN or
    any in a GradientBranch.
    """
    from edgekeeper.figures.subjects import without_branch

    subjects = []
    for each in chosen.subjects:
        start = f"{each.label} " if len(chosen.subjects) > 1 else ""
        subjects += [
            replace(without_branch(each), label=f"{start}without the branch"),
            replace(each, label=f"{start}with the branch"),
        ]
    _draw_crops(replace(chosen, subjects=subjects), **options)


FIGURES: tuple[click.Command, ...] = (
    _crops,
    comparison_command,
    gradients_command,
    variances_command,
    edge_command,
    branch_command,
    _guidance,
    frontier_command,
    quality_cost_command,
)


@click.group(
    "figure",
    cls=Subcommands,
    commands=FIGURES,
    epilog="Example: edgekeeper figure crops bicubic edsr_light_x4 --hr photo.png -o crops.svg",
)
def figure_command() -> None:
    """Draw a paper's figure for any networks, folders of results and images."""
