"""What the figures of images share: their options, and the images these name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import (
    SCALES,
    data_option,
    new_file_option,
    split_names,
    split_numbers,
    subject_names,
)
from edgekeeper.errors import DataError, InputError

if TYPE_CHECKING:
    from edgekeeper.figures.rows import Row
    from edgekeeper.figures.subjects import Sample, Subject
    from edgekeeper.ops.box import Box


output_option = new_file_option(
    ("-o", "--output"), text="File to write: .svg, .pdf or .png.", required=True, drawn=True
)


@dataclass(frozen=True)
class Chosen:
    """What the options of a figure of images say, read and opened."""

    scale: int
    samples: "list[Sample]"
    subjects: "list[Subject]"
    boxes: "list[Box | None]"
    asked_boxes: bool

    def rows(self) -> "list[Row]":
        """Return each original with what every subject makes of it; say which are missing."""
        from edgekeeper.figures.rows import Row
        from edgekeeper.figures.subjects import result

        found = [[result(subject, sample) for sample in self.samples] for subject in self.subjects]
        for subject, panels in zip(self.subjects, found, strict=True):
            pairs = zip(self.samples, panels, strict=True)
            lacking = [f"'{sample.name}'" for sample, panel in pairs if panel is None]
            what = f"holds no result for {', '.join(lacking)}"
            if len(lacking) == len(self.samples):
                raise DataError(f"The folder '{subject.label}' {what}.")
            if lacking:
                click.echo(f"'{subject.label}' {what}: left empty.")
        return [
            Row(sample.hr, [p for panels in found if (p := panels[k])], sample.name, box)
            for k, (sample, box) in enumerate(zip(self.samples, self.boxes, strict=True))
        ]

    def only_row(self, figure: str) -> "Row":
        """Return the row of a figure that shows one image; InputError when there are several."""
        if len(self.samples) != 1:
            raise InputError(f"The figure '{figure}' shows one image; give --hr once.")
        return self.rows()[0]


def of_images(
    name: str, *, short: str, example: str, needs: bool = True
) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator that makes a function a figure of images.

    It gives the command the argument SUBJECTS and the options that say which images to show, and
    where; the function gets them read and opened, as ``chosen``, beside ``output`` and its own.
    """
    options = (
        click.argument("subjects", nargs=-1, required=needs),
        click.option(
            "--hr",
            "images",
            multiple=True,
            required=needs,
            metavar="IMAGE",
            help="The original: a file, which is shrunk by --scale for the networks, or an image "
            "of a set, such as set14/comic. Repeat it for more rows, where the figure has rows.",
        ),
        click.option("--scale", type=SCALES, default=4, help="2, 3 or 4."),
        click.option("--labels", help="Names of the subjects, with commas between."),
        click.option(
            "--box",
            "boxes",
            multiple=True,
            metavar="TOP,LEFT,HEIGHT,WIDTH",
            help="The part to show, in pixels; or SIDE for the square of that side with the most "
            "structure; or `auto`, the default, which chooses the side too; or `whole`. Once, or "
            "once for each image.",
        ),
        data_option("Folder with the benchmark sets, for images such as set14/comic."),
        output_option,
    )

    def decorate(function: Callable[..., None]) -> click.Command:
        @wraps(function)
        def run(
            subjects: tuple[str, ...],
            images: tuple[str, ...],
            scale: int,
            labels: str | None,
            boxes: tuple[str, ...],
            data: Path | None,
            output: Path,
            **own: object,
        ) -> None:
            from edgekeeper.figures.subjects import open_subject, read_sample

            names = _checked_labels(labels, subjects)
            if len(boxes) not in (0, 1, len(images)):
                raise InputError(
                    f"{len(images)} images but {len(boxes)} --box; give one for all, or one each."
                )
            samples = [read_sample(image, scale=scale, data=data) for image in images]
            texts = boxes if len(boxes) > 1 else (boxes or ("auto",)) * len(samples)
            parts = [_box(text, sample) for text, sample in zip(texts, samples, strict=True)]
            opened = [open_subject(s, label=n) for s, n in zip(subjects, names, strict=True)]
            function(Chosen(scale, samples, opened, parts, bool(boxes)), output=output, **own)
            click.echo(f"Wrote {output}")

        command: Callable[..., None] = run
        for option in reversed(options):
            command = option(command)
        epilog = f"Example: edgekeeper figure {name} {example}"
        return click.command(name, short_help=short, epilog=epilog)(command)

    return decorate


def _checked_labels(labels: str | None, subjects: tuple[str, ...]) -> list[str]:
    names = split_names(labels) if labels else subject_names(subjects)
    if len(names) != len(subjects):
        raise InputError(f"{len(subjects)} subjects but {len(names)} --labels; give one each.")
    if len(set(names)) < len(names):
        raise InputError(f"The labels are {', '.join(names)}; each must differ: give --labels.")
    return names


def _box(text: str, sample: "Sample") -> "Box | None":
    from edgekeeper.figures.rows import structured_box
    from edgekeeper.ops.box import Box

    if text == "auto":
        return None
    if text == "whole":
        return Box(0, 0, *sample.hr.shape[-2:])
    numbers = split_numbers("--box", text)
    if len(numbers) == 1 and numbers[0] > 0:
        return structured_box(sample.hr, side=numbers[0])
    if len(numbers) != 4:
        raise InputError(
            f"--box is '{text}'; give four numbers TOP,LEFT,HEIGHT,WIDTH, or the side of a "
            "square, `auto` or `whole`."
        )
    box = Box(*numbers)
    box.cut(sample.hr)  # before any network runs
    return box


whole_option = click.option(
    "--whole",
    is_flag=True,
    help="Show the whole original with a frame around the part, left of each row.",
)
numbers_option = click.option(
    "--numbers",
    default="auto",
    help="Below each image: of psnr, ssim, lpips, gradient_psnr, gv_gap, with commas "
    "between; `none`; `auto` is PSNR, and LPIPS where its weights are at hand.",
)
