"""``edgekeeper study``: blind preference studies."""

import json
from pathlib import Path

import click

from edgekeeper.cli.options import PATH, check_new_file, force_option
from edgekeeper.cli.scoring import Scoring, TableForm, form_option, scoring_options, show_table
from edgekeeper.errors import DataError, InputError
from edgekeeper.files import parse_json, read_text, reason


@click.group("study", epilog="Example: edgekeeper study make a/ b/ -o study.html")
def study_command() -> None:
    """Ask people which result they prefer, without telling them whose it is."""


@study_command.command("make", epilog="Example: edgekeeper study make a/ b/ -o study.html")
@click.argument("subjects", nargs=-1, required=True, metavar="SUBJECT...")
@scoring_options
@click.option("-o", "--output", type=PATH, required=True, help="HTML file for participants.")
@click.option("--question", default="Which do you prefer?", help="What they are asked.")
@click.option(
    "--side", type=click.IntRange(16), default=192, help="Pixels a side of what is shown."
)
@click.option("--seed", type=int, default=0, help="For the places that are shown.")
@force_option()
def make(
    subjects: tuple[str, ...],
    output: Path,
    question: str,
    side: int,
    seed: int,
    force: bool,
    scoring: Scoring,
) -> None:
    """Write one HTML file that asks for all pairs, and the key beside it, which stays with you.

    Each SUBJECT is a network (name or file), a folder of result images, or `bicubic`. The file
    runs offline in any browser, keeps each answer at once, and saves them as JSONL.
    """
    from edgekeeper.evaluation.study import make_study
    from edgekeeper.files import write_text

    key_file = output.with_name(f"{output.stem}_key.json")
    for file in (output, key_file):
        check_new_file(file, option="--output", force=force)
    names = [Path(subject).name for subject in subjects]
    if len(set(names)) < len(names):
        names = list(subjects)
    opened = [scoring.open(subject) for subject in subjects]
    page, key = make_study(
        dict(zip(names, opened, strict=True)),
        sets=scoring.sets,
        scale=scoring.scale_of(opened),
        data_root=scoring.root,
        question=question,
        side=side,
        seed=seed,
    )
    write_text(output, page)
    write_text(key_file, json.dumps(key, indent=1) + "\n")
    click.echo(f"Wrote {output} ({len(page) / 1e6:.1f} MB) for participants, {key_file} for you.")


@study_command.command("analyse", epilog="Example: edgekeeper study analyse study_key.json *.jsonl")
@click.argument("key", type=PATH)
@click.argument("answers", nargs=-1, required=True, type=PATH)
@form_option
def analyse(key: Path, answers: tuple[Path, ...], form: TableForm | None) -> None:
    """Print scores and preference rates with intervals from the participants' ANSWERS."""
    from edgekeeper.evaluation.study import analyse_study, read_answers

    try:
        known = parse_json(read_text(key))
        lines = [line for file in answers for line in read_text(file).splitlines()]
        methods = known["methods"]
    except OSError as error:
        raise DataError(f"'{error.filename}' cannot be read: {reason(error)}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{key}' is no key of a study.") from error
    if not lines:
        raise InputError("The files hold no answers.")
    for table in analyse_study(*read_answers(lines, known), methods=methods):
        show_table(table, form)
