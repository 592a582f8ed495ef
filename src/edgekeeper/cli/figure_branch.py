"""Figures of gradient branches: what a branch sees, and what the picture is without it."""

from dataclasses import replace
from pathlib import Path

import click

from edgekeeper.cli.figure_options import (
    Chosen,
    Whole,
    chosen_numbers,
    numbers_options,
    of_pictures,
    whole_option,
)
from edgekeeper.cli.options import split_names


@click.command(
    "branch",
    short_help="What a gradient branch predicts.",
    epilog="Example: edgekeeper figure branch spsr.safetensors --hr set14/comic "
    "--columns picture,original,branch -o branch.pdf",
)
@of_pictures()
@click.option(
    "--columns", default="original,bicubic,branch", show_default=True,
    help="Of picture, original, bicubic and branch: the original itself, then the gradient "
    "maps of the original and of the interpolation, and the branch's own.",
)  # fmt: skip
@whole_option()
def branch(chosen: Chosen, *, output: Path, columns: str, whole: Whole) -> None:
    """Show the map that a gradient branch predicts (SPSR 6; DGGGAN 5: see the example).

    SUBJECTS are networks with a gradient branch, such as SPSR or any in a GradientBranch.
    """
    from edgekeeper import figures
    from edgekeeper.figures.gradients import check_columns
    from edgekeeper.figures.subjects import gradient_output

    names = split_names(columns)
    check_columns(names)
    rows = [
        figures.BranchRow(
            sample.hr,
            sample.bicubic(),
            [gradient_output(subject, sample) for subject in chosen.subjects],
            sample.name,
            box,
        )
        for sample, box in zip(chosen.samples, chosen.boxes, strict=True)
    ]
    figures.branch_maps(rows, path=output, columns=names, whole=whole)


@click.command(
    "guidance",
    short_help="Pictures without and with the gradient branch.",
    epilog="Example: edgekeeper figure guidance spsr.safetensors --hr set14/baboon -o guidance.pdf",
)
@of_pictures()
@numbers_options()
@whole_option()
def guidance(chosen: Chosen, *, output: Path, numbers: str, protocol: str, whole: Whole) -> None:
    """Show pictures without and with the gradient branch of the same network (SPSR 7).

    SUBJECTS are networks with a gradient branch that changes the picture, such as SPSR, DGGGAN or
    any in a GradientBranch.
    """
    from edgekeeper import figures
    from edgekeeper.figures.subjects import Subject, without_branch

    shown = chosen_numbers(numbers, chosen, protocol=protocol)
    subjects = []
    for subject in chosen.subjects:
        start = f"{subject.label} " if len(chosen.subjects) > 1 else ""
        subjects += [
            Subject(f"{start}without the branch", without_branch(subject).source),
            Subject(f"{start}with the branch", subject.source),
        ]
    figures.crops(
        replace(chosen, subjects=subjects).rows(),
        path=output,
        numbers=shown,
        scale=chosen.scale,
        protocol=protocol,
        whole=whole,
    )
