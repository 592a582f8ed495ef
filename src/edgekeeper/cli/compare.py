"""``edgekeeper compare``."""

from pathlib import Path

import click

from edgekeeper.cli.options import new_file_option, split_names, subject_names
from edgekeeper.cli.scoring import (
    Scoring,
    TableForm,
    counted_scores,
    form_option,
    json_option,
    say_written,
    scoring_options,
    show_tables,
)
from edgekeeper.errors import InputError


@click.command(
    "compare",
    epilog="Example: edgekeeper compare edsr_light_x4 edsr_light_x4_gv --on set5,set14 "
    "--crops worse.png --json difference.json",
)
@click.argument("a")
@click.argument("b")
@scoring_options
@click.option("--labels", metavar="A,B", help="What to call the two. Default: their file names.")
@click.option(
    "--worst", type=click.IntRange(1), default=6, help="How many images to list and places to draw."
)
@new_file_option(
    ("--crops",),
    text="Draw the places where B is worst against A into this file: .svg, .pdf or .png.",
    drawn=True,
    force=False,
)
@json_option("Write everything, image by image, to this file.")
@form_option
@click.option("--fail-if-worse", is_flag=True, help="Exit with status 1 when B is worse anywhere.")
def compare_command(
    a: str,
    b: str,
    labels: str | None,
    worst: int,
    crops: Path | None,
    json_file: Path | None,
    fail_if_worse: bool,
    form: TableForm | None,
    scoring: Scoring,
) -> None:
    """Compare B with A, image by image: what differs, is it real, where is B worse.

    Each is a network (name or file), a folder of result images, or `bicubic`. The verdict on
    each metric goes by the 95 % interval of the mean difference.
    """
    from edgekeeper.evaluation import compare
    from edgekeeper.evaluation.evaluate import interpolation_name
    from edgekeeper.figures.images import worst_places

    bicubic = interpolation_name(scoring.protocol)
    paths = [bicubic if subject == "bicubic" else subject for subject in (a, b)]
    called = _names(*paths, labels=labels)
    first, second = scoring.open(a), scoring.open(b)
    with counted_scores("comparing") as count:
        found = compare.compare(
            first,
            second,
            sets=scoring.sets,
            scale=scoring.scale_of((first, second)),
            data_root=scoring.root,
            protocol=scoring.protocol,
            metrics=scoring.metrics,
            weights=scoring.weights,
            names=called,
            places=worst,
            on_image=lambda score, _: count(score),
        )
    tables = compare.comparison_table(found), compare.worst_table(found, images=worst)
    show_tables(tables, form)
    if json_file is not None:
        compare.write_comparison(found, json_file)
        say_written(json_file, form=form)
    if crops is not None and not found.places:
        text = f"B is nowhere worse than A, so '{crops}' is not written."
        click.echo(text, err=form is not None)
    elif crops is not None:
        worst_places(found, path=crops)
        say_written(crops, form=form)
    if fail_if_worse and any(row.verdict == "worse" for row in found.rows):
        raise SystemExit(1)


def _names(a: str, b: str, *, labels: str | None) -> tuple[str, str]:
    """What the two are called: by --labels, else the shortest part of their paths that differs."""
    if labels is not None:
        names = split_names(labels)
        if len(names) != 2:
            raise InputError(f"--labels is '{labels}'; give two names with a comma between.")
        return names[0], names[1]
    if a == b:
        return f"{Path(a).stem} (A)", f"{Path(b).stem} (B)"
    first, second = subject_names((a, b))
    return first, second
