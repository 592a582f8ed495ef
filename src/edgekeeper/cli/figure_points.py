"""``edgekeeper figure frontier`` and ``quality-cost``: networks as points."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekeeper.cli.cost import Record, cost_records, image_size, shipped, threads
from edgekeeper.cli.figure_options import output_option
from edgekeeper.cli.options import PATH, SCALES, chosen_device, data_option, device_option
from edgekeeper.cli.scoring import repeats_option, weights_option
from edgekeeper.errors import DataError, InputError
from edgekeeper.files import parse_json, read_text

if TYPE_CHECKING:
    from edgekeeper.figures.points import CostPoint

QUOTED_SCALE = 4


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


@click.command(
    "quality-cost",
    epilog="Example: edgekeeper figure quality-cost espcn_x4 edsr_light_x4 --on set5 -o cost.svg",
)
@click.argument("subjects", nargs=-1, metavar="SUBJECT...")
@click.option(
    "--scale",
    type=SCALES,
    help="Factor that all points must have. Default: that of the files; 4 without files.",
)
@click.option("--on", "set_name", default="set5", metavar="SET", help="Benchmark set.")
@click.option(
    "--size",
    default="50x50",
    metavar="HEIGHTxWIDTH",
    help="The LR image that seconds are measured on.",
)
@repeats_option
@click.option(
    "--quoted/--not-quoted", default=True, help="Whether to add the papers' networks, at x4."
)
@output_option
@data_option()
@weights_option
@device_option()
def quality_cost_command(
    subjects: tuple[str, ...],
    scale: int | None,
    set_name: str,
    size: str,
    repeats: int,
    quoted: bool,
    output: Path,
    data: Path | None,
    weights: Path | None,
    device: str,
) -> None:
    """Draw PSNR and LPIPS against MACs per LR pixel and against seconds.

    A SUBJECT is a network with trained weights, or a JSON file of `edgekeeper cost --on SET`, whose
    numbers are taken as they are; without any, all networks that ship for --scale. The papers give
    no seconds, so their networks are in the panels with MACs only.
    A file of benchmarks/ladder.py has times relative to one network's, which go with one another.
    """
    from edgekeeper.figures.points import quality_cost as draw

    files = [Path(subject) for subject in subjects if subject.endswith(".json")]
    models = tuple(subject for subject in subjects if not subject.endswith(".json"))
    placed = [each for file in files for each in read_points(file)]
    factor = scale or next((each.scale for each in placed), QUOTED_SCALE)
    for name, found in [(each.point.label, each.scale) for each in placed] + [
        (text, _scale_of(text, scale=factor)) for text in models
    ]:
        if found != factor:
            raise InputError(
                f"'{name}' enlarges by {found}, not {factor}; all networks of the figure must have "
                f"one scale: give --scale {found}, or networks of ×{factor}."
            )
    if models or not subjects:
        records = cost_records(
            models or shipped(factor),
            scale=factor,
            size=image_size(size),
            repeats=repeats,
            device=chosen_device(device),
            set_name=set_name,
            data=data,
            weights=weights,
        )
        placed += map(_placed, records)
    scored = {each.set_name for each in placed}
    clocks = {each.clock for each in placed if each.clock}  # "" of those without seconds
    if len(scored) != 1 or len(clocks) > 1:
        raise InputError(
            "All networks of the figure must be scored on one set, and timed on one size, device "
            f"and number of threads; these are {sorted(scored | clocks) or 'not scored'}."
        )
    [scored_on], clock = scored, "".join(clocks)
    points = [each.point for each in placed]
    if quoted and factor == QUOTED_SCALE:
        points += quoted_points(scored_on)
    notes = dict.fromkeys(each.note for each in placed if each.note)
    title = "; ".join([f"{scored_on} ×{factor}, y_matlab", *notes])
    draw(points, path=output, title=title, clock=clock)
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
    placed = []
    try:
        content = parse_json(read_text(file))
        if "points" in content:  # of benchmarks/ladder.py
            return [_relative(point, content) for point in content["points"]]
        for number, record in enumerate(content["networks"], start=1):
            try:
                placed += [_placed(record)] if record["quality"] is not None else []
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"network {number}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"'{file}' is not a file of `edgekeeper cost --json`: {error}. Write it anew."
        ) from error
    return placed


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


def _scale_of(text: str, *, scale: int) -> int:
    from edgekeeper.evaluation.cost import find_network, has_trained_weights

    found = find_network(text, scale=scale).scale
    if not has_trained_weights(text):
        raise InputError(
            f"'{text}' is a class of networks and has no trained weights, so no quality; give "
            "a network that ships or a network file. `edgekeeper cost` takes classes."
        )
    return found


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
