"""``edgekeeper evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import PATH, subject_names
from edgekeeper.cli.scoring import (
    Scoring,
    TableForm,
    counted_scores,
    form_option,
    json_option,
    say_written,
    scoring_options,
    show_table,
)
from edgekeeper.errors import InputError
from edgekeeper.files import make_folder

if TYPE_CHECKING:
    from edgekeeper.evaluation.evaluate import PairResult


@click.command(
    "evaluate",
    epilog="Example: edgekeeper evaluate edsr_light_x4 --on set5,set14 "
    "--metrics psnr,ssim,lpips,niqe --json out.jsonl",
)
@click.argument("subjects", nargs=-1, required=True, metavar="SUBJECT...")
@scoring_options
@click.option(
    "--lr",
    type=PATH,
    metavar="FOLDER",
    help="LR images of the one folder of originals, paired by name. Default: those in its LR, LQ "
    "or LR_bicubic/X4 where there are any, else made from the originals.",
)
@click.option(
    "--save",
    type=PATH,
    metavar="FOLDER",
    help="Write the images for other programs, as 8-bit PNG, to a new folder: LR/SET, HR/SET "
    "(cropped as it is scored) and SR/SUBJECT/SET.",
)
@json_option("Write one JSON object per image to this file.")
@form_option
def evaluate_command(
    subjects: tuple[str, ...],
    lr: Path | None,
    save: Path | None,
    json_file: Path | None,
    form: TableForm | None,
    scoring: Scoring,
) -> None:
    """Score each SUBJECT: a network (name or file), a folder of result images, or `bicubic`.

    A metric that is unavailable, because its weights are missing or an image is too small, is a
    dash with the reason below the table.
    """
    if lr is not None and len(scoring.sets) != 1:
        raise InputError("--lr holds the LR images of one set; name one with --on.")
    from edgekeeper.evaluation.evaluate import results, score_result
    from edgekeeper.evaluation.tables import score_table
    from edgekeeper.metrics.score import Score, summarise, write_scores

    if save is not None and save.exists() and not (save.is_dir() and not any(save.iterdir())):
        raise InputError(f"--save: '{save}' exists and is not an empty folder; name a new one.")
    called = subject_names(subjects)
    opened = [scoring.open(subject) for subject in subjects]
    scale = scoring.scale_of(opened)
    scores: list[Score] = []
    with counted_scores("scoring") as count:
        for name, subject in zip(called, opened, strict=True):
            for result in results(
                subject,
                sets=scoring.sets,
                scale=scale,
                data_root=scoring.root,
                protocol=scoring.protocol,
                lr_folder=lr,
                model_name=None if subject == "bicubic" else name,
            ):
                hr = result.pair.hr()
                score = score_result(result, hr, metrics=scoring.metrics, weights=scoring.weights)
                scores.append(score)
                count(score)
                if save is not None:
                    _save(result, save)
    models = ", ".join(dict.fromkeys(score.model for score in scores))
    means = summarise(scores)
    show_table(score_table(means, title=f"{models} ×{scale}", metrics=scoring.metrics), form)
    if json_file is not None:  # after what a full disk does not take away
        write_scores(scores, json_file)
        say_written(f"{len(scores)} lines to {json_file}", form=form)


def _save(result: "PairResult", folder: Path) -> None:
    """Write LR, SR and HR of a result; LR and HR only once, whatever the subjects."""
    from edgekeeper.image import Image, write_image
    from edgekeeper.image.image import from_tensor

    name = f"{result.pair.name}.png"
    for path, image in (
        (folder / "LR" / result.set / name, result.pair.lr()),
        (folder / "HR" / result.set / name, result.pair.hr()),
        (folder / "SR" / result.model.replace("/", "_") / result.set / name, result.image),
    ):
        if not path.exists():
            make_folder(path.parent)
            write_image(Image(pixels=from_tensor(image.clamp(0, 1))), path)
