"""``edgekeeper figure``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import SCALES, network_or_folder, split_names, split_numbers
from edgekeeper.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from edgekeeper.figures import Box, Panel

KINDS = ("gradients", "variances", "crops", "comparison", "frontier")


@click.command(
    "figure",
    epilog="Example: edgekeeper figure gradients edsr_light_x4 edsr_light_x4_gv "
    "--hr examples/test/canyon-wren.png --scale 4 -o gradients.svg",
)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("subjects", nargs=-1, required=True)
@click.option(
    "--hr",
    type=click.Path(path_type=Path),
    help="The original picture; it is shrunk by --scale for the networks.",
)
@click.option("--scale", type=SCALES, default=4, show_default=True, help="Factor: 2, 3 or 4.")
@click.option("--labels", help="Names of the subjects, with commas between.")
@click.option(
    "--box",
    metavar="TOP,LEFT,HEIGHT,WIDTH",
    help="The part to show, in pixels. Default: the one with the most structure.",
)
@click.option(
    "--patch",
    type=click.IntRange(2),
    default=8,
    show_default=True,
    help="Side of a patch, for variances.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write: .svg, .pdf or .png.",
)
def command(
    kind: str, subjects: tuple[str, ...], hr: Path | None, scale: int, labels: str | None,
    box: str | None, patch: int, output: Path,
) -> None:  # fmt: skip
    """Draw a figure of the gradient variance paper for any SUBJECTS.

    gradients, variances and crops are the paper's figures 1 to 3; comparison adds numbers and edge
    maps. A subject is a network (name or file), `bicubic`, a picture file, or a folder of result
    pictures. frontier takes the JSON files of benchmarks/frontier.py instead.
    """
    from edgekeeper import figures

    if kind == "frontier":
        _frontier([Path(subject) for subject in subjects], output)
    else:
        if hr is None:
            raise InputError(f"The figure '{kind}' needs the original picture: give it with --hr.")
        names = split_names(labels) if labels else [Path(subject).stem for subject in subjects]
        if len(names) != len(subjects):
            raise InputError(f"{len(subjects)} subjects but {len(names)} --labels; give one each.")
        original, panels = _panels(hr, subjects, names=names, scale=scale)
        part = _box(box)
        if kind == "gradients":
            figures.gradient_maps(original, panels, path=output, box=part)
        elif kind == "crops":
            figures.crops(original, panels, path=output, box=part)
        elif kind == "comparison":
            figures.comparison(original, panels, path=output, scale=scale, box=part)
        else:
            curves = figures.variance_curves(original, panels, path=output, patch=patch, box=part)
            for label, mean in curves.means().items():
                click.echo(f"{label:24} mean gradient variance {mean:.5f}")
    click.echo(f"Wrote {output}")


def _panels(
    hr: Path, subjects: tuple[str, ...], *, names: list[str], scale: int
) -> tuple["Tensor", list["Panel"]]:
    """The original, cropped to a multiple of the scale, and each subject's picture of it."""
    from edgekeeper.data.degrade import crop_to_multiple, make_lr
    from edgekeeper.figures import Panel
    from edgekeeper.io import read_picture, to_rgb_tensor

    original = crop_to_multiple(to_rgb_tensor(read_picture(hr)), scale)
    lr = make_lr(original, scale=scale, kernel="matlab_uint8")
    panels = [
        Panel(name, _picture(subject, hr=hr, lr=lr, scale=scale))
        for name, subject in zip(names, subjects, strict=True)
    ]
    return original, panels


def _picture(subject: str, *, hr: Path, lr: "Tensor", scale: int) -> "Tensor":
    """What ``subject`` makes of the small picture, or its result file for the original ``hr``."""
    from edgekeeper.errors import PictureError
    from edgekeeper.evaluate import match_results
    from edgekeeper.infer import infer
    from edgekeeper.io import SUFFIXES, list_pictures, read_picture, to_rgb_tensor
    from edgekeeper.models import SRModel
    from edgekeeper.ops.resize import imresize

    if Path(subject).suffix.lower() in SUFFIXES:
        return to_rgb_tensor(read_picture(subject))
    source = network_or_folder(subject)
    if isinstance(source, SRModel):
        if source.scale != scale:
            raise InputError(f"The network '{subject}' enlarges by {source.scale}, not {scale}.")
        return infer(source, lr)
    if source == "bicubic":
        return imresize(lr, scale=scale).clamp(0, 1)
    folder = Path(source)
    files = match_results(list_pictures(folder), set_name="", names=[hr.stem], scale=scale)
    if hr.stem not in files:
        raise PictureError(f"The folder '{folder}' holds no result for '{hr.stem}'.")
    return to_rgb_tensor(read_picture(files[hr.stem]))


def _box(text: str | None) -> "Box | None":
    from edgekeeper.figures import Box

    if text is None:
        return None
    numbers = split_numbers("--box", text)
    if len(numbers) != 4:
        raise InputError(f"--box is '{text}'; give four numbers: TOP,LEFT,HEIGHT,WIDTH.")
    return Box(*numbers)


def _frontier(files: list[Path], output: Path) -> None:
    from edgekeeper import figures
    from edgekeeper.errors import DataError

    points = []
    for file in files:
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))["points"]
            points += [
                figures.Point(f"{r['weight']:g}", r["psnr"], r["gv_ratio"], r["form"]) for r in rows
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"'{file}' is not a file of benchmarks/frontier.py: {error}."
            ) from error
    figures.frontier(points, path=output)
