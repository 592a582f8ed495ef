"""``edgekeeper figure frontier`` and ``quality-cost``: networks as points."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekeeper.cli.cost import Record, cost_records, image_size, shipped, threads
from edgekeeper.cli.figure_options import output_option
from edgekeeper.cli.options import SCALES, chosen_device, data_option, device_option
from edgekeeper.cli.scoring import repeats_option, weights_option
from edgekeeper.errors import DataError, InputError

if TYPE_CHECKING:
    from edgekeeper.figures import CostPoint

QUOTED_SCALE = 4


@click.command(
    "frontier",
    short_help="Fidelity against sharpness, a point for each network.",
    epilog="Example: edgekeeper figure frontier results/frontier.json -o frontier.svg",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option()
def frontier(files: tuple[Path, ...], output: Path) -> None:
    """Draw PSNR against gradient variance ratio from the JSON of benchmarks/frontier.py."""
    from edgekeeper import figures

    points = []
    for file in files:
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))["points"]
            points += [
                figures.Point(f"{r['weight']:g}", r["psnr"], r["gv_ratio"], r["form"]) for r in rows
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"'{file}' is not a file of benchmarks/frontier.py: {error}."
            ) from error
    figures.frontier(points, path=output)
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
@repeats_option()
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
    records = [record for file in files for record in read_records(file)]
    of_files = [record["scale"] for record in records if record["quality"]]
    factor = scale or next(iter(of_files), QUOTED_SCALE)
    for name, found in ((r["network"], r["scale"]) for r in records if r["quality"]):
        _check_scale(name, found, wanted=factor)
    for text in models:
        _check_scale(text, _scale_of(text, scale=factor), wanted=factor)
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
    scored = [record for record in records if record["quality"]]
    title, clock = _condition(scored)
    points = [_point(record) for record in scored]
    if quoted and factor == QUOTED_SCALE:
        points += quoted_points(scored[0]["quality"]["set"])
    draw(points, path=output, title=title, clock=clock)
    click.echo(f"Wrote {output}")


def read_records(file: Path) -> list[Record]:
    """Return the records of a file of ``cost --json``; DataError for what is wrong in them."""
    try:
        records = json.loads(file.read_text(encoding="utf-8"))["networks"]
        for number, record in enumerate(records, start=1):
            try:
                _check(record)
            except KeyError as error:
                raise ValueError(f"network {number} has no {error}") from error
            except (TypeError, ValueError) as error:
                raise ValueError(f"network {number}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"'{file}' is not a file of `edgekeeper cost --json`: {error}. Write it anew."
        ) from error
    return list(records)


def _check(record: Record) -> None:
    """Raise KeyError, TypeError or ValueError where the figure could not use the record."""
    whole, number = (int,), (int, float)
    optional = (*number, type(None))
    needed: list[tuple[str, Record, tuple[type, ...]]] = [
        ("network", record, (str,)),
        ("scale", record, whole),
        ("macs_per_lr_pixel", record, optional),
    ]
    if (measured := record["measured"]) is not None:
        needed += [("seconds", measured, number), ("threads", measured, whole)]
        needed += [("device", measured, (str,)), ("size", measured, (list,))]
    if (quality := record["quality"]) is not None:
        needed += [("set", quality, (str,)), ("psnr", quality, optional)]
        needed += [("lpips", quality, optional)]
    for key, values, kinds in needed:
        if not isinstance(values, dict):
            raise ValueError(f"{values!r} is no object of values")
        value = values[key]
        good = type(value) in kinds
        if type(value) in number:
            good &= math.isfinite(value) and (value > 0 or values is quality)
        if good and key == "size":
            good = [type(side) for side in value] == [int, int]
        if not good:
            raise ValueError(f"'{key}' is {value!r}")


def _scale_of(text: str, *, scale: int) -> int:
    """Return the scale of a network; InputError for a class, which has no trained weights."""
    from edgekeeper.evaluation.cost import find_network, has_trained_weights

    found = find_network(text, scale=scale).scale
    if not has_trained_weights(text):
        raise InputError(
            f"'{text}' is a class of networks and has no trained weights, so no quality; give "
            "a network that ships or a network file. `edgekeeper cost` takes classes."
        )
    return found


def _check_scale(name: str, found: int, *, wanted: int) -> None:
    if found != wanted:
        raise InputError(
            f"'{name}' enlarges by {found}, not {wanted}; all networks of the figure must have one "
            f"scale: give --scale {found}, or networks of ×{wanted}."
        )


def _condition(scored: list[Record]) -> tuple[str, str]:
    """Return the set with its scale, and how seconds were taken; InputError where these differ."""
    kinds = {
        (f"{record['quality']['set']} ×{record['scale']}, y_matlab", _clock(record["measured"]))
        for record in scored
    }
    if len(kinds) != 1:
        raise InputError(
            "All networks of the figure must be scored on one set at one scale, and timed on one "
            f"size, device and number of threads; these are {sorted(kinds) or 'not scored'}."
        )
    return kinds.pop()


def _clock(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return ""
    height, width = measured["size"]
    return f"LR {height}x{width}, {measured['device']}, {threads(measured)}"


def _point(record: Record) -> "CostPoint":
    from edgekeeper.figures import CostPoint

    return CostPoint(
        label=record["network"],
        macs=record["macs_per_lr_pixel"],
        seconds=record["measured"]["seconds"] if record["measured"] else None,
        psnr=record["quality"]["psnr"],
        lpips=record["quality"]["lpips"],
    )


def quoted_points(set_name: str) -> list["CostPoint"]:
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
