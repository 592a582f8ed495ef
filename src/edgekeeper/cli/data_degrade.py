"""``edgekeeper data degrade``: what training and measuring do to images, to look at."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edgekeeper.cli.options import PATH, SCALES, force_option
from edgekeeper.cli.upscale import shown
from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import make_folder

if TYPE_CHECKING:
    from torch import Tensor

    from edgekeeper.data.degradations import Drawn

MIXTURES = ("light", "photo", "twice", "known")

_SIDE = 768  # of the part that is shown, of the original


@click.command("degrade", epilog="Example: edgekeeper data degrade photo.jpg -o degraded/")
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder to write to.")
@click.option(
    "--mixture",
    type=click.Choice(MIXTURES),
    default="photo",
    help="Drawn at random as in training (like a phone's, like an old photograph, two rounds), or "
    "the degradations of known strength that networks are measured with.",
)
@click.option("--count", type=click.IntRange(1), default=6, help="Per image.")
@click.option("--scale", type=SCALES, default=4, help="Factor.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Chance.")
@force_option("Replace files that exist.")
def degrade_command(
    images: tuple[Path, ...],
    output: Path,
    mixture: str,
    count: int,
    scale: int,
    seed: int,
    force: bool,
) -> None:
    """Write the middle of each of IMAGES as degraded LR images, and say what was done to each.

    Files and folders. The middle itself is written too, at most 768 pixels a side, so that
    `edgekeeper upscale` and `evaluate` can be tried on the pairs.
    """
    from edgekeeper import image as files
    from edgekeeper.image import Image, from_tensor

    paths = [p for path in images for p in (files.list_images(path) if path.is_dir() else [path])]
    if not paths:
        raise InputError(f"'{images[0]}' holds no images.")
    make_folder(output)
    unread = 0
    for path in paths:
        try:
            hr = _middle(files.to_rgb_tensor(files.read_image(path)), multiple=scale)
        except ImageError as error:
            unread += 1
            click.echo(f"failed: {shown(error)}", err=True)
            continue
        for name, image, done in _examples(hr, mixture, count=count, scale=scale, seed=seed):
            target, pixels = output / f"{path.stem}_{name}.png", from_tensor(image)
            existing: Literal["replace", "refuse"] = "replace" if force else "refuse"
            files.write_image(Image(pixels=pixels), target, overwrite=existing)
            click.echo(f"{target}  {done}")
    if unread:
        raise SystemExit(1)


Example = tuple[str, "Tensor", str]  # the end of a file's name, the LR image, what was done


def _examples(
    hr: "Tensor", mixture: str, *, count: int, scale: int, seed: int
) -> Iterator[Example]:
    """Yield the part of an image that is degraded, and what becomes of it."""
    yield "original", hr, "the part that is degraded"
    if mixture == "known":
        yield from _known(hr, scale=scale)
    else:
        yield from _drawn(hr, mixture=mixture, count=count, scale=scale, seed=seed)


def _middle(hr: "Tensor", *, multiple: int) -> "Tensor":
    slices = []
    for length in hr.shape[-2:]:
        side = min(length, _SIDE) // multiple * multiple
        slices.append(slice((length - side) // 2, (length - side) // 2 + side))
    return hr[..., slices[0], slices[1]]


def _known(hr: "Tensor", *, scale: int) -> Iterator[Example]:
    from edgekeeper.data.degrade import KNOWN, degrade_known

    for known in KNOWN:
        steps = (f"blur {known.blur:g}", known.blur), (f"noise {known.noise:g}", known.noise)
        done = [text for text, used in (*steps, (f"JPEG {known.quality}", known.quality)) if used]
        yield known.name, degrade_known(hr, known, scale=scale), ", ".join(done) or "made smaller"


def _drawn(hr: "Tensor", *, mixture: str, count: int, scale: int, seed: int) -> Iterator[Example]:
    from edgekeeper.data.degradations import LIGHT, PHOTO, TWICE, degrade, draw_round

    settings = replace({"light": LIGHT, "photo": PHOTO, "twice": TWICE}[mixture], clean=0)
    for number in range(count):
        lr = degrade(hr, scale=scale, seed=seed, step=0, first_index=number, settings=settings)
        rounds = []
        for position, one in enumerate(settings.rounds):
            drawn = draw_round(one, number=position, seed=seed, step=0, first=number, count=1)
            rounds.append(_said(drawn))
        yield f"{mixture}_{number}", lr, "; then ".join(rounds)


def _said(drawn: "Drawn") -> str:
    sigma, (noise, photon) = drawn.sigma[0], (drawn.gaussian[0], drawn.photon[0])
    steps = [
        (sigma[0], f"blur {sigma[0]:.2f} × {sigma[1]:.2f}"),
        (drawn.cutoff[0], "sinc blur"),
        (drawn.lens[0], f"lens {drawn.lens[0]:.2f}"),
        (noise, f"{'grey ' if drawn.grey[0] else ''}noise {255 * noise:.1f}"),
        (photon, "photon noise"),
        (drawn.amount[0], f"sharpened {drawn.amount[0]:.1f}"),
        (drawn.ring[0], "ringing"),
        (drawn.quality[0], f"JPEG {drawn.quality[0]} {'4:2:0' if drawn.halved[0] else '4:4:4'}"),
    ]
    return ", ".join(text for used, text in steps if used) or "made smaller"
