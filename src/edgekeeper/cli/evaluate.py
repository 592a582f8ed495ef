"""``edgekeeper evaluate``."""

from pathlib import Path

import click

from edgekeeper.cli.options import SCALES, data_option, needed_data, network_or_folder, split_names


@click.command(
    "evaluate",
    epilog="Example: edgekeeper evaluate edsr_light_x4 --on set5,set14 --scale 4 --json out.jsonl",
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
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Write one JSON object per picture to this file.",
)
@data_option()
def command(
    subject: str, sets: str, scale: int, protocol: str, json_file: Path | None, data: Path | None
) -> None:
    """Score SUBJECT: a network (name or file), a folder of result pictures, or `bicubic`."""
    root = needed_data(data)
    from rich.console import Console
    from rich.table import Table

    from edgekeeper.evaluate import METRICS, Score, evaluate, summarise, write_scores
    from edgekeeper.logs import ProgressLine

    with ProgressLine("scoring", total=0, unit="pictures") as line:
        done: list[Score] = []

        def show(score: Score, result: object) -> None:
            done.append(score)
            line.update(len(done), text=f"{score.set} {score.picture}")

        scores = evaluate(
            network_or_folder(subject),
            sets=split_names(sets),
            scale=scale,
            data_root=root,
            protocol=protocol,
            model_name=Path(subject).stem,
            on_picture=show,
        )
    if json_file is not None:
        write_scores(scores, json_file)
    table = Table(title=f"{Path(subject).stem} ×{scale}, protocol {protocol}")
    table.add_column("set")
    table.add_column("pictures", justify="right")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for row in summarise(scores):
        numbers = [f"{row.means[m]:.2f}" if "psnr" in m else f"{row.means[m]:.4f}" for m in METRICS]
        table.add_row(row.set, str(row.pictures), *numbers)
    Console(width=None).print(table)
    if json_file is not None:
        click.echo(f"Wrote {len(scores)} lines to {json_file}")
