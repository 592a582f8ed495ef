"""``edgekeeper evaluate``."""

from pathlib import Path

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


@click.command(
    "evaluate",
    epilog="Example: edgekeeper evaluate edsr_light_x4 --on set5,set14 --scale 4 "
    "--metrics psnr,ssim,lpips,niqe --json out.jsonl",
)
@click.argument("subject")
@click.option(
    "--on",
    "sets",
    default="set5",
    show_default=True,
    metavar="SETS",
    help="Benchmark sets, with commas between.",
)
@click.option("--scale", type=SCALES, required=True, help="Factor: 2, 3 or 4.")
@click.option(
    "--protocol",
    default="y_matlab",
    show_default=True,
    help="How numbers are computed; see docs/protocols.md.",
)
@metrics_option()
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Write one JSON object per image to this file.",
)
@force_option()
@data_option()
@weights_option()
@device_option()
def command(
    subject: str,
    sets: str,
    scale: int,
    protocol: str,
    metrics: str,
    json_file: Path | None,
    force: bool,
    data: Path | None,
    weights: Path | None,
    device: str,
) -> None:
    """Score SUBJECT: a network (name or file), a folder of result images, or `bicubic`.

    A metric that is unavailable, because its weights are missing or an image is too small, is a
    dash with the reason below the table.
    """
    root = needed_data(data)
    from edgekeeper.evaluation.evaluate import (
        Score,
        evaluate,
        find_metrics,
        summarise,
        write_scores,
    )
    from edgekeeper.evaluation.tables import as_rich, score_table
    from edgekeeper.progress import ProgressLine

    asked = find_metrics(split_names(metrics))
    check_new_file(json_file, option="--json", force=force)
    with ProgressLine("scoring", total=0, unit="images") as line:
        done: list[Score] = []

        def show(score: Score, result: object) -> None:
            done.append(score)
            line.update(len(done), text=f"{score.set} {score.image}")

        scores = evaluate(
            subject_on(device, subject=subject),
            sets=split_names(sets),
            scale=scale,
            data_root=root,
            protocol=protocol,
            metrics=asked,
            weights=weights_folder(weights, data=root),
            model_name=Path(subject).stem,
            on_image=show,
        )
    if json_file is not None:
        write_scores(scores, json_file)
    title = f"{Path(subject).stem} ×{scale}"
    console().print(as_rich(score_table(summarise(scores), title=title, metrics=asked)))
    if json_file is not None:
        click.echo(f"Wrote {len(scores)} lines to {json_file}")
