"""``edgekeeper figure NAME``: one command for each figure."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgekeeper.cli.cost import Record, threads
from edgekeeper.cli.figure_options import (
    Chosen,
    numbers_option,
    of_images,
    output_option,
    whole_option,
)
from edgekeeper.cli.options import PATH, Subcommands, split_names
from edgekeeper.cli.scoring import protocol_option
from edgekeeper.errors import DataError, InputError
from edgekeeper.files import parse_json, read_text

if TYPE_CHECKING:
    from edgekeeper.figures.points import CostPoint

QUOTED_SCALE = 4

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
@click.option("--length", type=click.IntRange(3), help="Pixels of the line; by default 24.")
def edge_command(chosen: Chosen, *, output: Path, length: int | None) -> None:
    """Draw values along a line and their differences (SPSR 3).

    Without SUBJECTS it is the explanation: a step, blurry and sharp. With them, and --hr, it is a
    line across the original's strongest edge (in --box), and what each subject makes of it.
    """
    from edgekeeper.figures import curves

    if not chosen.subjects and not chosen.samples and length is None and not chosen.asked_boxes:
        curves.edge(curves.STEP, path=output)
        return
    if not (chosen.subjects and chosen.samples):
        raise InputError("A line through real images needs both: subjects, and --hr.")
    row = chosen.only_row("edge")
    line = curves.strongest_line(row.hr, length=length or 24, part=row.box)
    curves.edge(curves.profiles_along(row.hr, row.panels, line=line), path=output)
    click.echo(f"The line runs {line.direction} through row {line.row}, column {line.column}.")


# ---- What a gradient branch sees, and what the image is without it ------------------------------


@of_images(
    "branch",
    short="What a gradient branch predicts.",
    example="spsr.safetensors --hr set14/comic -o branch.pdf",
)
@whole_option
def branch_command(chosen: Chosen, *, output: Path, whole: bool) -> None:
    """Show the map that a gradient branch predicts (SPSR 6, DGGGAN 5).

    SUBJECTS are networks with a gradient branch, such as SPSR or any in a GradientBranch.
    """
    from edgekeeper.figures import images
    from edgekeeper.figures.rows import Row
    from edgekeeper.figures.subjects import gradient_output

    rows = [
        Row(s.hr, [gradient_output(each, s) for each in chosen.subjects], s.name, box)
        for s, box in zip(chosen.samples, chosen.boxes, strict=True)
    ]
    bicubic = [sample.bicubic() for sample in chosen.samples]
    images.branch_maps(rows, bicubic=bicubic, path=output, whole=whole)


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


# ---- Networks as points -------------------------------------------------------------------------


@click.command(
    "frontier",
    short_help="Fidelity against sharpness, a point for each network.",
    epilog="Example: edgekeeper figure frontier results/frontier.json -o frontier.svg",
)
@click.argument("files", nargs=-1, required=True, type=PATH)
@output_option
def frontier_command(files: tuple[Path, ...], output: Path) -> None:
    """Draw PSNR against gradient variance ratio from the JSON of benchmarks/frontier.py."""
    from edgekeeper.figures.points import Point, frontier

    points = []
    for file in files:
        try:
            rows = parse_json(read_text(file))["points"]
            points += [Point(f"{r['weight']:g}", r["psnr"], r["gv_ratio"], r["form"]) for r in rows]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"'{file}' is not a file of benchmarks/frontier.py: {error}."
            ) from error
    frontier(points, path=output)
    click.echo(f"Wrote {output}")


@click.command("quality-cost", epilog="Example: edgekeeper figure quality-cost cost.json -o c.svg")
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option(
    "--quoted/--not-quoted", default=True, help="Whether to add the papers' networks, at x4."
)
@output_option
def quality_cost_command(files: tuple[Path, ...], quoted: bool, output: Path) -> None:
    """Draw PSNR and LPIPS against MACs per LR pixel and against seconds.

    FILES are JSON of `edgekeeper cost --on SET --json`, or of benchmarks/ladder.py, whose times are
    relative to one network's. The papers give no seconds: their networks are in the panels with
    MACs only.
    """
    from edgekeeper.figures.points import quality_cost

    placed = [each for file in files for each in read_points(file)]
    shared = {(each.set_name, each.scale) for each in placed}
    clocks = {each.clock for each in placed if each.clock}  # "" of those without seconds
    if len(shared) != 1 or len(clocks) > 1:
        found = [*(f"{name} ×{scale}" for name, scale in sorted(shared)), *sorted(clocks)]
        raise InputError(
            "All networks of the figure must be scored on one set at one scale, and timed on one "
            f"size, device and number of threads; these are {found or 'not scored'}."
        )
    [(scored_on, scale)] = shared
    points = [each.point for each in placed]
    points += quoted_points(scored_on) if quoted and scale == QUOTED_SCALE else []
    notes = dict.fromkeys(each.note for each in placed if each.note)
    title = "; ".join([f"{scored_on} ×{scale}, y_matlab", *notes])
    quality_cost(points, path=output, title=title, clock="".join(clocks))
    click.echo(f"Wrote {output}")


@dataclass(frozen=True)
class Placed:
    """A scored network of the figure, and the conditions that all must share."""

    point: "CostPoint"
    scale: int
    set_name: str
    clock: str = ""  # on what seconds were taken
    note: str = ""  # for the title


def read_points(file: Path) -> list[Placed]:
    """Return the scored networks in a file of ``cost --json``; DataError for what is wrong."""
    try:
        content = parse_json(read_text(file))
        if "points" in content:  # of benchmarks/ladder.py
            return [_relative(point, content) for point in content["points"]]
        return [_placed(one) for one in content["networks"] if one["quality"] is not None]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"'{file}' is not a file of `edgekeeper cost --json`: {error}. Write it anew."
        ) from error


def _relative(point: dict[str, Any], content: dict[str, Any]) -> Placed:
    from edgekeeper.figures.points import CostPoint

    found = CostPoint(
        str(point["network"]),
        psnr=_above_0(point["psnr"]),
        origin="others" if point.get("by") == "others" else "measured",
        time=_above_0(point["time"]),
    )
    note = str(content.get("note", ""))
    return Placed(found, int(content["scale"]), str(content["set"]), note=note)


def _placed(record: Record) -> Placed:
    from edgekeeper.figures.points import CostPoint

    measured, quality = record["measured"], record["quality"]
    clock = ""
    if measured is not None:
        height, width = measured["size"]
        clock = f"LR {height}x{width}, {measured['device']}, {threads(measured)}"
    point = CostPoint(
        str(record["network"]),
        macs=_above_0(record["macs_per_lr_pixel"]),
        seconds=None if measured is None else _above_0(measured["seconds"]),
        psnr=_above_0(quality["psnr"]),
        lpips=_above_0(quality["lpips"]),
    )
    return Placed(point, int(record["scale"]), str(quality["set"]), clock)


def _above_0(value: Any) -> float | None:
    """Return a number above 0, or None as it is; TypeError or ValueError for anything else."""
    if value is None:
        return None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{value!r} is no number above 0")
    return float(value)


def quoted_points(set_name: str) -> list["CostPoint"]:
    """Return the papers' networks: printed quality on the set, MACs of our count."""
    from edgekeeper.evaluation.cost import count
    from edgekeeper.figures.points import CostPoint
    from edgekeeper.papers.costs import shapes_of
    from edgekeeper.papers.printed import quoted_networks

    return [
        CostPoint(
            each.method,
            macs=count(shapes_of(each.model)).macs_per_pixel,
            psnr=each.psnr,
            lpips=each.lpips,
            origin="quoted",
        )
        for each in quoted_networks(set_name)
    ]


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
