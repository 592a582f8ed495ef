"""``edgekeeper report``."""

from pathlib import Path

import click

from edgekeeper.cli.options import new_file_option, subject_names
from edgekeeper.cli.scoring import (
    Scoring,
    TableForm,
    counted_scores,
    form_option,
    say_written,
    scoring_options,
    show_tables,
)
from edgekeeper.errors import InputError


@click.command("report", epilog="Example: edgekeeper report edsr_light_x4_gv -o report.html")
@click.argument("subjects", nargs=-1, required=True, metavar="SUBJECT...")
@scoring_options
@new_file_option(("-o", "--output"), text="HTML file to write. Not needed with --format.")
@click.option(
    "--compare/--alone",
    "compared",
    default=True,
    help="Whether the first SUBJECT is held against bicubic where no other is given.",
)
@form_option
def report_command(
    subjects: tuple[str, ...],
    output: Path | None,
    compared: bool,
    form: TableForm | None,
    scoring: Scoring,
) -> None:
    """Say on one page what the last SUBJECT does to structure, beside those before it.

    Each is a network (name or file), a folder of result images, or `bicubic`. The page needs no
    other file: scores with intervals, structure by region, spectra, the worst and typical places
    under sliders, cost and cards. --format prints its tables.
    """
    from edgekeeper.evaluation.network_report import ReportSubject, network_report
    from edgekeeper.files import write_text
    from edgekeeper.models import SRModel
    from edgekeeper.pretrained.zoo import describe, find

    if output is None and form is None:
        raise InputError("Say where the page goes, -o report.html, or print tables with --format.")
    if len(subjects) == 1 and compared and subjects != ("bicubic",):
        subjects = ("bicubic", *subjects)
    called = subject_names(subjects)
    opened = [scoring.open(subject) for subject in subjects]
    scale = scoring.scale_of(opened)
    asked = []
    for name, given, subject in zip(called, subjects, opened, strict=True):
        card: dict[str, object] = {}
        if isinstance(subject, SRModel) and (file := find(given)).suffix == ".safetensors":
            card = describe(file).card
        asked.append(ReportSubject(name=name, subject=subject, card=card))
    with counted_scores("scoring") as count:
        page, tables = network_report(
            asked,
            sets=scoring.sets,
            scale=scale,
            data_root=scoring.root,
            protocol=scoring.protocol,
            metrics=scoring.metrics,
            weights=scoring.weights,
            on_image=count,
        )
    if form is not None:
        show_tables(tables, form)
    if output is not None:
        write_text(output, page)
        say_written(f"{output} ({len(page) / 1e6:.1f} MB)", form=form)
