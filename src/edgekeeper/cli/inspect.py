"""``edgekeeper inspect``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import PATH, new_file_option

if TYPE_CHECKING:
    from edgekeeper.evaluation.inspect import Inspection

VERDICTS = {
    "supported": "the edges are those of the input",
    "undecided": "the edges do not contradict the input, but some are finer than it can show",
    "doubtful": "some edges are not those of the input",
    "invented": "structure that the input does not show",
}


@click.command(
    "inspect", epilog="Example: edgekeeper inspect photo.jpg photo_large.png --overlay risk.png"
)
@click.argument("lr", type=PATH)
@click.argument("sr", type=PATH)
@new_file_option(
    ("--overlay",),
    text="Write an image here: the result in grey, edges against the input in orange, those that "
    "it cannot decide in green.",
)
@click.option(
    "--artifacts",
    is_flag=True,
    help="Enlarge LR faithfully too and mark where the texture of SR is another (DeSRA).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect_command(
    lr: Path, sr: Path, overlay: Path | None, artifacts: bool, as_json: bool
) -> None:
    """Measure SR, an enlarged image, against LR, the image it was made from.

    No original is needed: the result is shrunk again and compared with the input, and edges that
    contradict the input, or are finer than it can show, are counted. docs/inspect.md explains.
    """
    from edgekeeper.evaluation.inspect import inspect_files

    report = inspect_files(lr, sr, overlay_path=overlay, artifacts=artifacts, overwrite="replace")
    if as_json:
        click.echo(json.dumps(report.as_json()))
        return
    for line in inspection_lines(report):
        click.echo(line)
    if overlay is not None:
        click.echo(f"Wrote {overlay}")


def inspection_lines(report: "Inspection") -> list[str]:
    """Return the report as lines for people."""
    from edgekeeper.evaluation.inspect import DOUBTFUL, ORIGINALS

    limit, rate = report.false_alarms
    ends = f"{100 * (rate.low or 0):.2f} to {100 * (rate.high or 0):.2f}"
    shift = ", ".join(
        f"{name} {value:+.2f}"
        for name, value in zip(("red", "green", "blue"), report.colour_shift, strict=True)
    )
    lines = [
        f"Shrunk by {report.scale}, the result differs from the input by "
        f"{report.difference_mean:.2f} grey levels on average, {report.difference_max:.1f} at most "
        f"(PSNR {report.psnr:.1f} dB).",
        f"Mean colour error: {report.colour_error:.2f} (CIEDE2000); shift: {shift} grey levels.",
        f"Structure risk: {100 * report.risk:.2f} % of the edge strength contradicts the input: "
        f"{VERDICTS[report.verdict]}.",
        f"Originals shrunk by bicubic reach {100 * limit:g} % in {100 * rate.mean:.2f} % of cases "
        f"(95 % interval {ends}; {ORIGINALS} images).",
    ]
    if report.damaged:
        lines.append(
            "The input is compressed or noisy, so even its original would contradict it: the "
            "number says how far the result departs from it, not how much is invented."
        )
    if report.undecided >= DOUBTFUL:
        lines.append(
            f"{100 * report.undecided:.2f} % of the edge strength is finer than the input's pixels "
            "can show: the input cannot decide whether it is right or invented."
        )
    place = report.worst
    # Below a twentieth even the worst place is no cause for doubt.
    if place is not None and place.share >= 0.05:
        lines.append(
            f"Look at the {place.width}x{place.height} pixels from x={place.left}, y={place.top}: "
            f"{100 * place.share:.0f} % is not supported there."
        )
    if report.artifact_share is not None:
        lines.append(
            f"Artifacts: {100 * report.artifact_share:.2f} % of the result has another texture "
            "than a faithful one."
        )
    return lines
