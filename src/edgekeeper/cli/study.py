"""``edgekeeper study``: blind preference studies."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import PATH, check_new_file, new_file_option, subject_names
from edgekeeper.cli.scoring import (
    Scoring,
    TableForm,
    form_option,
    say_written,
    scoring_options,
    show_tables,
)
from edgekeeper.cli.serve import LOOPBACK, listen_on, need_web, origins, run_server
from edgekeeper.errors import DataError, InputError
from edgekeeper.files import parse_json, read_text, reason

if TYPE_CHECKING:
    from edgekeeper.evaluation.study import Ask, Crops


@click.group("study", epilog="Example: edgekeeper study make a/ b/ -o study.html")
def study_command() -> None:
    """Ask people which result they prefer, without telling them whose it is."""


@study_command.command("make", epilog="Example: edgekeeper study make a/ b/ -o study.html")
@click.argument("subjects", nargs=-1, required=True, metavar="SUBJECT...")
@scoring_options
@new_file_option(("-o", "--output"), text="HTML file for participants.", required=True)
@click.option(
    "--ask",
    type=click.Choice(["pairs", "rankings"]),
    default="pairs",
    help="Whether two at a time are shown, or all to be put in order.",
)
@click.option(
    "--crops",
    type=click.Choice(["random", "worst", "differ"]),
    default="random",
    help="Where an image is shown: drawn by --seed, where each result in its turn is furthest "
    "behind the others, or where they differ most.",
)
@click.option(
    "--inputs",
    type=PATH,
    metavar="FOLDER",
    help="Images to enlarge in place of --on, where there are no originals.",
)
@click.option(
    "--question",
    default="",
    show_default=False,
    help="What they are asked. Default: Which do you prefer?, or that in German.",
)
@click.option(
    "--side", type=click.IntRange(16), default=192, help="Pixels a side of what is shown."
)
@click.option("--seed", type=int, default=0, help="For the places that are shown.")
def make(
    subjects: tuple[str, ...],
    output: Path,
    ask: "Ask",
    crops: "Crops",
    inputs: Path | None,
    question: str,
    side: int,
    seed: int,
    scoring: Scoring,
) -> None:
    """Write one HTML file that asks for pairs or rankings, and the key, which stays with you.

    Each SUBJECT is a network (name or file), a folder of result images, or `bicubic`. The file
    runs offline in any browser, keeps each answer at once, and saves them as JSONL.
    """
    from edgekeeper.evaluation.study import make_study
    from edgekeeper.files import write_text

    key_file = output.with_name(f"{output.stem}_key.json")
    check_new_file(key_file, option="--output")
    names = subject_names(subjects)
    opened = [scoring.open(subject) for subject in subjects]
    alone = inputs is not None and all(isinstance(subject, Path) for subject in opened)
    page, key = make_study(
        dict(zip(names, opened, strict=True)),
        sets=scoring.sets,
        inputs=inputs,
        scale=scoring.scale or 1 if alone else scoring.scale_of(opened),
        data_root=scoring.root,
        question=question,
        ask=ask,
        crops=crops,
        side=side,
        seed=seed,
        weights=scoring.weights,
    )
    write_text(output, page)
    write_text(key_file, json.dumps(key, indent=1) + "\n")
    click.echo(f"Wrote {output} ({len(page) / 1e6:.1f} MB) for participants, {key_file} for you.")


@study_command.command("serve", epilog="Example: edgekeeper study serve study.html")
@click.argument("page", type=PATH)
@click.option(
    "--participants", type=click.IntRange(1, 999), default=20, help="How many links there are."
)
@click.option("--answers", type=PATH, help="Folder for answers. Default: PAGE_answers beside it.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is all there are.")
@click.option("--port", type=click.IntRange(0, 65535), default=8781, help="0 takes a free one.")
@click.option("--address", help="What the links begin with, where another server stands before it.")
def serve(
    page: Path, participants: int, answers: Path | None, host: str, port: int, address: str | None
) -> None:
    """Serve a PAGE of `study make` with a link for each participant; answers are kept here.

    Each answer is on the disk before the next question. The links stay the same when it is
    started again, and whoever opens one goes on where they were, on another device too.
    """
    with need_web("study serve"):
        from edgekeeper.server.study import StudyService, create_study_app
    folder = answers or page.with_name(f"{page.stem}_answers")
    try:
        service = StudyService(page, folder, participants=participants)
    except OSError as error:
        raise DataError(f"'{error.filename}' cannot be used: {reason(error)}.") from error
    with listen_on(host, port) as listening:
        start = (address or origins(listening)[-1]).rstrip("/")
        for link in service.links:
            click.echo(f"{service.name(link)}  {start}/p/{link}")
        click.echo(f"Ctrl-C ends it. Answers: {folder}")
        app = create_study_app(service, everywhere=host not in LOOPBACK or address is not None)
        run_server(app, listening)


@study_command.command("analyse", epilog="Example: edgekeeper study analyse study_key.json *.jsonl")
@click.argument("key", type=PATH)
@click.argument("answers", nargs=-1, required=True, type=PATH)
@new_file_option(("--figure",), text="Draw scores and votes too: .pdf, .svg or .png.", drawn=True)
@form_option
def analyse(
    key: Path, answers: tuple[Path, ...], figure: Path | None, form: TableForm | None
) -> None:
    """Print scores and preference rates with intervals from the participants' ANSWERS.

    And how far PSNR, LPIPS and structure risk go with them.
    """
    from edgekeeper.evaluation.study_answers import analyse_study, read_answers

    try:
        known = parse_json(read_text(key))
        lines = [line for file in answers for line in read_text(file).splitlines()]
        _ = known["methods"], known["tokens"]
    except OSError as error:
        raise DataError(f"'{error.filename}' cannot be read: {reason(error)}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{key}' is no key of a study.") from error
    if not lines:
        raise InputError("The files hold no answers.")
    found = analyse_study(*read_answers(lines, known), key=known)
    show_tables(found.tables, form)
    if figure is not None:
        from edgekeeper.figures.points import votes

        say_written(votes(found, path=figure), form=form)
