"""``edgekeeper compare``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import (
    SCALES,
    check_new_file,
    console,
    data_option,
    device_option,
    force_option,
    needed_data,
    split_names,
)
from edgekeeper.cli.scoring import (
    metrics_option,
    subject_on,
    weights_folder,
    weights_option,
)
from edgekeeper.errors import InputError

if TYPE_CHECKING:
    from edgekeeper.evaluation.compare import Subject


@click.command(
    "compare",
    epilog="Example: edgekeeper compare edsr_light_x4 edsr_light_x4_gv --on set5,set14 "
    "--crops worse.png --json difference.json",
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--on",
    "sets",
    default="set5",
    show_default=True,
    metavar="SETS",
    help="Benchmark sets, or folders of originals, with commas between.",
)
@click.option("--scale", type=SCALES, help="Factor: 2, 3 or 4. Default: that of the networks.")
@click.option(
    "--protocol",
    default="y_matlab",
    show_default=True,
    help="How numbers are computed; see docs/protocols.md.",
)
@metrics_option()
@click.option("--labels", metavar="A,B", help="What to call the two. Default: their file names.")
@click.option(
    "--worst",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="How many images to list and places to draw.",
)
@click.option(
    "--crops",
    type=click.Path(path_type=Path),
    help="Draw the places where B is worst against A into this file: .svg, .pdf or .png.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Write everything, image by image, to this file.",
)
@click.option("--fail-if-worse", is_flag=True, help="Exit with status 1 when B is worse anywhere.")
@force_option()
@data_option()
@weights_option()
@device_option()
def command(
    a: str,
    b: str,
    sets: str,
    scale: int | None,
    protocol: str,
    metrics: str,
    labels: str | None,
    worst: int,
    crops: Path | None,
    json_file: Path | None,
    fail_if_worse: bool,
    force: bool,
    data: Path | None,
    weights: Path | None,
    device: str,
) -> None:
    """Compare B with A, image by image: what differs, is it real, where is B worse.

    Each is a network (name or file), a folder of result images, or `bicubic`. The verdict on
    each metric goes by the 95 % interval of the mean difference.
    """
    root = needed_data(data)
    from edgekeeper.evaluation import compare, report
    from edgekeeper.evaluation.evaluate import Score, find_metrics
    from edgekeeper.evaluation.tables import as_rich
    from edgekeeper.figures.canvas import FORMATS
    from edgekeeper.figures.places import draw_places
    from edgekeeper.progress import ProgressLine

    asked = find_metrics(split_names(metrics))
    check_new_file(json_file, option="--json", force=force)
    check_new_file(crops, option="--crops", force=force)
    if crops is not None and crops.suffix.lower() not in FORMATS:
        raise InputError(f"--crops: '{crops}' must end in {', '.join(FORMATS)}.")
    names = _names(a, b, labels=labels)
    subjects = (subject_on(device, subject=a), subject_on(device, subject=b))
    with ProgressLine("comparing", total=0, unit="images") as line:
        done: list[Score] = []

        def show(score: Score, other: Score) -> None:
            done.append(score)
            line.update(len(done), text=f"{score.set} {score.image}")

        found = compare.compare(
            *subjects,
            sets=split_names(sets),
            scale=scale or _scale(*subjects),
            data_root=root,
            protocol=protocol,
            metrics=asked,
            weights=weights_folder(weights, data=root),
            names=names,
            places=worst,
            on_image=show,
        )
    console().print(as_rich(report.comparison_table(found)))
    console().print(as_rich(report.worst_table(found, images=worst)))
    if json_file is not None:
        report.write_comparison(found, json_file)
        click.echo(f"Wrote {json_file}")
    if crops is not None and not found.places:
        click.echo(f"B is nowhere worse than A, so '{crops}' is not written.")
    elif crops is not None:
        draw_places(found, path=crops)
        click.echo(f"Wrote {crops}")
    if fail_if_worse and any(row.verdict == "worse" for row in found.rows):
        raise SystemExit(1)


def _names(a: str, b: str, *, labels: str | None) -> tuple[str, str]:
    """What the two are called: by --labels, else the shortest part of their paths that differs."""
    if labels is not None:
        given = split_names(labels)
        if len(given) != 2:
            raise InputError(f"--labels is '{labels}'; give two names with a comma between.")
        return given[0], given[1]
    paths = Path(a), Path(b)
    for parts in ([p.stem for p in paths], [f"{p.parent.name}/{p.stem}" for p in paths], [a, b]):
        if parts[0] != parts[1]:
            return parts[0], parts[1]
    return f"{paths[0].stem} (A)", f"{paths[1].stem} (B)"


def _scale(*subjects: "Subject") -> int:
    """The scale of the networks among the subjects; InputError when none or several are told."""
    from edgekeeper.models import SRModel

    scales = sorted({subject.scale for subject in subjects if isinstance(subject, SRModel)})
    if not scales:
        raise InputError("Neither A nor B is a network: say the scale with --scale 2, 3 or 4.")
    if len(scales) > 1:
        raise InputError(
            f"One network enlarges by {scales[0]}, the other by {scales[1]}; compare networks of "
            "one scale."
        )
    return scales[0]
