"""``edgekeeper evaluate``."""

from pathlib import Path

import click

from edgekeeper.cli.options import check_new_file, data_option, device_option, split_names
from edgekeeper.cli.scoring import (
    counted_scores,
    json_option,
    known_scale,
    metrics_option,
    protocol_option,
    scale_option,
    sets_option,
    sets_root,
    show_table,
    subject_on,
    weights_folder,
    weights_option,
)


@click.command(
    "evaluate",
    epilog="Example: edgekeeper evaluate edsr_light_x4 --on set5,set14 "
    "--metrics psnr,ssim,lpips,niqe --json out.jsonl",
)
@click.argument("subjects", nargs=-1, required=True, metavar="SUBJECT...")
@sets_option()
@scale_option()
@protocol_option()
@metrics_option()
@json_option("Write one JSON object per image to this file.")
@data_option()
@weights_option()
@device_option()
def evaluate_command(
    subjects: tuple[str, ...],
    sets: str,
    scale: int | None,
    protocol: str,
    metrics: str,
    json_file: Path | None,
    force: bool,
    data: Path | None,
    weights: Path | None,
    device: str,
) -> None:
    """Score each SUBJECT: a network (name or file), a folder of result images, or `bicubic`.

    A metric that is unavailable, because its weights are missing or an image is too small, is a
    dash with the reason below the table.
    """
    names = split_names(sets)
    root = sets_root(data, sets=names)
    from edgekeeper.evaluation.evaluate import evaluate
    from edgekeeper.evaluation.tables import score_table
    from edgekeeper.metrics.score import Score, find_metrics, summarise, write_scores

    asked = find_metrics(split_names(metrics))
    check_new_file(json_file, option="--json", force=force)
    opened = [subject_on(device, subject=subject, scale=scale) for subject in subjects]
    factor = known_scale(scale, subjects=opened)
    folder = weights_folder(weights, data=root)
    scores: list[Score] = []
    with counted_scores("scoring") as count:
        for given, subject in zip(subjects, opened, strict=True):
            scores += evaluate(
                subject,
                sets=names,
                scale=factor,
                data_root=root,
                protocol=protocol,
                metrics=asked,
                weights=folder,
                model_name=None if subject == "bicubic" else Path(given).stem,
                on_image=lambda score, _: count(score),
            )
    if json_file is not None:
        write_scores(scores, json_file)
    models = ", ".join(dict.fromkeys(score.model for score in scores))
    means = summarise(scores)
    show_table(score_table(means, title=f"{models} ×{factor}", metrics=asked))
    if json_file is not None:
        click.echo(f"Wrote {len(scores)} lines to {json_file}")
