"""``edgekeeper figure quality-cost``."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekeeper.cli.cost import Record, cost_records, image_size, shipped
from edgekeeper.cli.figure_options import output_option
from edgekeeper.cli.options import SCALES, chosen_device, data_option, device_option
from edgekeeper.cli.scoring import weights_option
from edgekeeper.errors import DataError, InputError

if TYPE_CHECKING:
    from edgekeeper.figures import CostPoint

QUOTED_SCALE = 4

# What is needed of a record, and what it must be.
FIELDS = {
    "network": "text",
    "scale": "a whole number",
    "macs_per_lr_pixel": "a number above 0 or null",
    "measured.seconds": "a number above 0",
    "measured.size": "two whole numbers",
    "measured.device": "text",
    "measured.threads": "a whole number",
    "quality.set": "text",
    "quality.psnr": "a number or null",
    "quality.lpips": "a number or null",
}
KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda x: isinstance(x, str),
    "a whole number": lambda x: type(x) is int and x > 0,
    "two whole numbers": lambda x: isinstance(x, list) and [type(y) for y in x] == [int, int],
    "a number": lambda x: type(x) in (int, float) and math.isfinite(x),
    "a number above 0": lambda x: type(x) in (int, float) and math.isfinite(x) and x > 0,
}


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
@click.option(
    "--on", "set_name", default="set5", show_default=True, metavar="SET", help="Benchmark set."
)
@click.option(
    "--size",
    default="50x50",
    show_default=True,
    metavar="HEIGHTxWIDTH",
    help="The LR image that seconds are measured on.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Passes of which the median is taken.",
)
@click.option(
    "--quoted/--not-quoted",
    default=True,
    show_default=True,
    help="Whether to add the papers' networks, at x4.",
)
@output_option()
@data_option()
@weights_option()
@device_option()
def quality_cost(
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
    """
    from edgekeeper.figures import quality_cost as draw
    from edgekeeper.figures.canvas import checked_target

    checked_target(output)  # before any network runs
    files = [Path(subject) for subject in subjects if subject.endswith(".json")]
    models = tuple(subject for subject in subjects if not subject.endswith(".json"))
    records = [record for file in files for record in _read(file)]
    of_files = [record["scale"] for record in records if record["quality"]]
    factor = scale or next(iter(of_files), QUOTED_SCALE)
    _check_scales(records, scale=factor)
    _check_models(models, scale=factor)
    if models or not subjects:
        records += cost_records(
            models or shipped(factor),
            scale=factor,
            size=image_size(size),
            repeats=repeats,
            device=chosen_device(device),
            set_name=set_name,
            data=data,
            weights=weights,
        )
    points, kind = _points(records)
    set_title, found_scale, clock = kind
    if quoted and found_scale == QUOTED_SCALE:
        points += _quoted(set_title)
    draw(points, path=output, title=f"{set_title} ×{found_scale}, y_matlab", clock=clock)
    click.echo(f"Wrote {output}")


def _read(file: Path) -> list[Record]:
    """The records of a file; DataError for what is missing in them, or is not what it must be."""
    try:
        records = json.loads(file.read_text(encoding="utf-8"))["networks"]
        if not isinstance(records, list):
            raise ValueError("'networks' is not a list")
        for number, record in enumerate(records, start=1):
            _check(record, name=f"network {number}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"'{file}' is not a file of `edgekeeper cost --json`: {error}. Write it anew."
        ) from error
    return records


def _check(record: object, *, name: str) -> None:
    """Raise ValueError when ``FIELDS`` are not in the record as they must be."""
    if not isinstance(record, dict):
        raise ValueError(f"{name} is no object of values")
    for field, kind in FIELDS.items():
        group, dot, key = field.rpartition(".")
        if dot and group not in record:
            raise ValueError(f"{name} has no '{group}'")
        values = record[group] if dot else record
        if values is None:  # not measured, not scored
            continue
        if not isinstance(values, dict) or key not in values:
            raise ValueError(f"{name} has no '{field}'")
        plain, null, _ = kind.partition(" or null")
        if not (KINDS[plain](values[key]) or (null and values[key] is None)):
            raise ValueError(f"'{field}' of {name} is {values[key]!r}, not {kind}")


def _check_scales(records: list[Record], *, scale: int) -> None:
    """Raise InputError for a scored record of another scale."""
    for record in records:
        if record["quality"] and record["scale"] != scale:
            raise InputError(
                f"'{record['network']}' enlarges by {record['scale']}, not {scale}; all networks "
                "of the figure must have one scale."
            )


def _check_models(models: tuple[str, ...], *, scale: int) -> None:
    """Raise InputError for a class without trained weights, or a network of another scale."""
    from edgekeeper.evaluation.cost import find_network, has_trained_weights

    for text in models:
        found = find_network(text, scale=scale).scale
        if not has_trained_weights(text):
            raise InputError(
                f"'{text}' is a class of networks and has no trained weights, so no quality; give "
                "a network that ships or a network file. `edgekeeper cost` takes classes."
            )
        if found != scale:
            raise InputError(
                f"'{text}' enlarges by {found}, not {scale}; give --scale {found}, or networks of "
                f"×{scale}."
            )


def _points(records: list[Record]) -> tuple[list["CostPoint"], tuple[str, int, str]]:
    """Return the points of all scored networks; their set, scale and how seconds were taken.

    Raises InputError when these differ: the numbers cannot be compared.
    """
    from edgekeeper.figures import CostPoint

    scored = [record for record in records if record["quality"]]
    kinds = {
        (record["quality"]["set"], record["scale"], _clock(record["measured"])) for record in scored
    }
    if len(kinds) != 1:
        raise InputError(
            "All networks of the figure must be scored on one set at one scale, and timed on one "
            f"size, device and number of threads; these are {sorted(kinds) or 'not scored'}."
        )
    points = [
        CostPoint(
            label=record["network"],
            macs=record["macs_per_lr_pixel"],
            seconds=record["measured"]["seconds"] if record["measured"] else None,
            psnr=record["quality"]["psnr"],
            lpips=record["quality"]["lpips"],
        )
        for record in scored
    ]
    return points, kinds.pop()


def _clock(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return ""
    height, width = measured["size"]
    threads = f"{measured['threads']} thread{'s' * (measured['threads'] != 1)}"
    return f"LR {height}x{width}, {measured['device']}, {threads}"


def _quoted(set_name: str) -> list["CostPoint"]:
    """Return the papers' networks: printed quality on the set, MACs of our count."""
    from edgekeeper.evaluation.cost import count
    from edgekeeper.figures import CostPoint
    from edgekeeper.papers import quoted_networks, shapes_of

    return [
        CostPoint(
            label=each.method,
            macs=count(shapes_of(each.model)).macs_per_pixel,
            seconds=None,
            psnr=each.psnr,
            lpips=each.lpips,
            origin="quoted",
        )
        for each in quoted_networks(set_name)
    ]
