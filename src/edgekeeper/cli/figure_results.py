"""Figures of results: crops, comparison, gradients, variances."""

from pathlib import Path
from typing import Literal

import click

from edgekeeper.cli.figure_options import (
    Chosen,
    Whole,
    chosen_numbers,
    numbers_options,
    of_pictures,
    whole_option,
)


@click.command(
    "crops",
    short_help="The same part of many results, with numbers.",
    epilog="Example: edgekeeper figure crops bicubic results/RCAN edsr_light_x4 "
    "--hr set5/butterfly --hr set5/woman --original first -o crops.pdf",
)
@of_pictures()
@numbers_options()
@click.option(
    "--original", type=click.Choice(["first", "last"]), default="last", show_default=True,
    help="Where the original stands.",
)  # fmt: skip
@click.option("--per-line", type=click.IntRange(1), help="Pictures in a line. Default: all.")
@whole_option()
def crops(
    chosen: Chosen, *, output: Path, numbers: str, protocol: str, whole: Whole,
    original: Literal["first", "last"], per_line: int | None,
) -> None:  # fmt: skip
    """Show the same part of many results (SPSR 1 and 4, DGGGAN 6, gradient variance 3).

    A subject is a network (name or file), `bicubic`, a picture file, or a folder of result
    pictures. Each --hr is a row.
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
@of_pictures()
def comparison(chosen: Chosen, *, output: Path) -> None:
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
@of_pictures()
@click.option(
    "--kind", type=click.Choice(["directions", "length"]), default="directions",
    show_default=True,
    help="|Gx| and |Gy| of grey (Sobel), or the length M of the central differences, the mean "
    "over R, G and B.",
)  # fmt: skip
@whole_option()
def gradients(
    chosen: Chosen, *, output: Path, kind: Literal["directions", "length"], whole: Whole
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
@of_pictures()
@click.option(
    "--patch", type=click.IntRange(2), default=8, show_default=True, help="Side of a patch."
)
def variances(chosen: Chosen, *, output: Path, patch: int) -> None:
    """Draw the gradient variance of every patch (gradient variance 2); the arrays go to JSON."""
    from edgekeeper import figures

    row = chosen.only_row("variances")
    curves = figures.variance_curves(row.hr, row.panels, path=output, patch=patch, box=row.box)
    for label, mean in curves.means().items():
        click.echo(f"{label:24} mean gradient variance {mean:.5f}")
