"""``edgekeeper data``."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edgekeeper.cli.options import (
    PATH,
    SCALES,
    Subcommands,
    data_option,
    force_option,
    needed_data,
    split_names,
    split_numbers,
)
from edgekeeper.cli.scoring import show_table
from edgekeeper.cli.upscale import not_read_line
from edgekeeper.errors import ImageError, InputError, did_you_mean
from edgekeeper.files import make_folder, shown

if TYPE_CHECKING:
    from torch import Tensor

    from edgekeeper.data.prepare import SourceImage, Teacher

KERNELS = ("matlab_uint8", "matlab_float", "pillow_bilinear")
MIXTURES = ("light", "photo", "twice", "known")
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group(
    "data",
    cls=Subcommands,
    invoke_without_command=True,
    epilog="Example: edgekeeper data prepare photos/ -o photos.store --shrink 2,3",
)
@click.pass_context
def data_command(ctx: click.Context) -> None:
    """List the known image sets, and weights that metrics need; get, check and prepare images."""
    if ctx.invoked_subcommand is not None:
        return
    from edgekeeper.data.catalogue import SETS
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.pretrained.reference import REFERENCE

    rows: list[tuple[str, ...]] = [
        (one.name, one.kind, str(one.count), one.licence, one.origin) for one in SETS
    ]
    rows += [
        (name, "weights", "1", weights.licence, weights.remote.address)
        for name, weights in REFERENCE.items()
    ]
    show_table(Table("", ("name", "kind", ">files", "licence", "origin"), tuple(rows)))


@data_command.command("get", epilog="Example: edgekeeper data get set5 --data images")
@click.argument("name")
@data_option("Folder to put the set in; weights lie in the user's cache without it.")
def get_set(name: str, data: Path | None) -> None:
    """Download the set NAME, or weights, from its public address; every file is checked.

    NAME `weights` stands for all that LPIPS, NIQE and the perceptual loss need; alexnet, lpips,
    niqe, vgg19 and vgg19_torchvision are one each.
    """
    from edgekeeper.data.fetch import fetch_set
    from edgekeeper.files import user_cache
    from edgekeeper.pretrained.reference import REFERENCE, fetch_reference
    from edgekeeper.training.progress import ProgressLine

    weights = name == "weights" or name in REFERENCE
    if data is None and not weights:
        raise InputError("Say where to put the set with --data FOLDER.")
    with ProgressLine(name, total=None, unit="files") as line:

        def progress(done: int, total: int, file: str) -> None:
            line.update(done, total=total, text=file)

        if weights:
            folder = (data if data is not None else user_cache()) / "weights"
            names = () if name == "weights" else (name,)
            told = fetch_reference(folder, names=names, progress=progress)
        else:
            assert data is not None
            folder, told = fetch_set(name, data, progress=progress), []
    for text in told:
        click.echo(text)
    click.echo(f"Wrote {folder}")


@data_command.command(
    "check", epilog="Example: edgekeeper data check set14 --scale 4 --train photos/"
)
@click.argument("name")
@click.option("--scale", type=click.IntRange(2), default=4, help="Factor.")
@click.option(
    "--train",
    type=PATH,
    multiple=True,
    help="Folder of training images to search for copies of the test images; may be repeated.",
)
@data_option()
def check_set_command(name: str, scale: int, train: tuple[Path, ...], data: Path | None) -> None:
    """Say what is wrong with the set NAME, a folder of images of your own, or a packed store.

    Of a store all pixels are compared with their digest. Of a set it finds unaligned pairs, wrong
    sizes, LR made by another kernel, unreadable files and copies of test images among training
    images. Exit status 1 when something was found.
    """
    from edgekeeper.data.check import check_set
    from edgekeeper.data.pairs import load_pairs
    from edgekeeper.data.store import INDEX, Store
    from edgekeeper.image import list_images
    from edgekeeper.metrics.canary import check_mean

    if (Path(name) / INDEX).is_file():
        store = Store.open(name)
        store.verify()
        click.echo(f"{len(store.images)} images are as they were packed.")
        return
    subject: str | Path = Path(name) if Path(name).is_dir() else name
    root = Path() if isinstance(subject, Path) else needed_data(data)
    trained = [path for folder in train for path in list_images(folder)]
    pairs = load_pairs(subject, scale=scale, root=root)
    report = check_set(pairs, train=trained)
    for line in report.lines():
        click.echo(line)
    if report.findings:
        raise SystemExit(1)
    found = check_mean(name, scale=scale, pairs=((pair.hr(), pair.lr()) for pair in pairs))
    if found is not None:
        click.echo(f"Bicubic: {found[0]:.3f} dB over the set; {found[1]:.3f} dB are printed.")


@data_command.command(
    "generate", epilog="Example: edgekeeper data generate -o generated/ --count 40"
)
@click.option("-o", "--output", type=PATH, required=True, help="Folder to write to.")
@click.option("--count", type=click.IntRange(1), default=40, help="How many images.")
@click.option("--size", type=click.IntRange(32), default=512, help="Their side in pixels.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Chance.")
@click.option(
    "--drawings",
    type=_FOLDER,
    help="Folder of SVG drawings: write collages of them instead, under their licence.",
)
@click.option(
    "--photos",
    type=_FOLDER,
    help="Folder of photographs: write parts of them instead, turned and recoloured, of any size.",
)
@click.option("--flat", is_flag=True, help="Write flat colours instead, four an image.")
def generate(
    output: Path,
    count: int,
    size: int,
    seed: int,
    drawings: Path | None,
    photos: Path | None,
    flat: bool,
) -> None:
    """Write generated training images (CC0): leaves, shapes, lines, patterns, letters."""
    from edgekeeper.data.prepare import ORIGIN, sources_in, write_licences
    from edgekeeper.data.synthetic import collage, find_drawings, flat_image, synthetic_image
    from edgekeeper.data.turned import turned_photograph
    from edgekeeper.image import Image, from_tensor, write_image
    from edgekeeper.training.progress import ProgressLine

    if (drawings is not None) + (photos is not None) + flat > 1:
        raise InputError("Give one of --drawings, --photos and --flat, not several.")
    found = find_drawings(drawings) if drawings else None
    sources = sources_in(photos, licence="") if photos else []
    make_folder(output)
    licences: dict[str, str] = {}
    with ProgressLine("generating", total=count, unit="images") as line:
        for number in range(count):
            turn, which = divmod(number, len(sources) or 1)
            if sources:
                image = turned_photograph(sources[which].path, seed=seed, number=turn)
                name = f"{sources[which].path.stem}_turned_{seed}_{turn:04d}.png"
                licences[name] = sources[which].licence
            elif found:
                image = collage(drawings=found, size=size, seed=seed, number=number)
                name = f"collage_{seed}_{number:04d}.png"
            elif flat:
                image = flat_image(size=size, seed=seed, number=number)
                name = f"flat_{seed}_{number:04d}.png"
            else:
                image = synthetic_image(size=size, seed=seed, number=number)
                name = f"generated_{seed}_{number:04d}.png"
            write_image(Image(pixels=from_tensor(image)), output / name, overwrite="replace")
            line.update(number + 1, text=name)
    if any(licences.values()):
        write_licences(output / ORIGIN, licences)
    click.echo(f"Wrote {count} images to {output}")


@data_command.command(
    "prepare", epilog="Example: edgekeeper data prepare photos/ -o photos.store --shrink 3,4,6"
)
@click.argument("folders", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The store to write.")
@click.option(
    "--scales", help="Factors to make LR images for [default: 2,3,4; with --teacher its own]."
)
@click.option(
    "--shrink", default="1", help="Shrink by each of these first, to take the JPEG marks off."
)
@click.option(
    "--long-side", default="", metavar="PIXELS", help="Shrink to each of these long sides instead."
)
@click.option("--kernel", type=click.Choice(KERNELS), default=KERNELS[0], help="How LR is made.")
@click.option(
    "--min-side", type=click.IntRange(1), default=100, help="Leave out images with a smaller side."
)
@click.option(
    "--exclude", multiple=True, metavar="NAMES", help="File names to leave out; again for more."
)
@click.option(
    "--licence",
    multiple=True,
    help="Licence of each folder's images, in order, or one for all; written into every card.",
)
@click.option(
    "--teacher",
    metavar="NETWORK",
    help="Store what this network makes of LR, in eight flips and turns, instead of most of HR. "
    "Stopped, the same command goes on.",
)
@click.option("--share", type=float, help="With --teacher: how much of its result [default: 0.8].")
@click.option("--strict", is_flag=True, help="End with status 1 if a file was left out as broken.")
@force_option("Replace a store that exists.")
def prepare(
    folders: tuple[Path, ...],
    output: Path,
    scales: str | None,
    shrink: str,
    long_side: str,
    kernel: str,
    min_side: int,
    exclude: tuple[str, ...],
    licence: tuple[str, ...],
    teacher: str | None,
    share: float | None,
    strict: bool,
    force: bool,
) -> None:
    """Pack the images in and below FOLDERS, decoded once, with their LR images, to train on.

    A file that cannot be read is left out and named.
    """
    if len(licence) == 1:
        licence *= len(folders)
    if licence and len(licence) != len(folders):
        raise InputError(f"{len(folders)} folders but {len(licence)} --licence; give one for each.")
    from edgekeeper.data.prepare import ORIGIN, prepare_store, sources_in
    from edgekeeper.image import list_others
    from edgekeeper.training.progress import ProgressLine

    if output.exists() and not force:
        raise InputError(f"'{output}' exists; give another name, or --force to replace it.")
    left_out: list[str] = []
    asked, others = split_names(",".join(exclude)), []
    sources = []
    for folder, terms in zip(folders, licence or ("unknown",) * len(folders), strict=True):
        sources += sources_in(folder, licence=terms, on_left_out=lambda _, y: left_out.append(y))
        others += [path for path in list_others(folder) if path.name not in {ORIGIN, *asked}]
    sources = _without(sources, asked)
    taught_by = _teacher(teacher, share)
    own = "2,3,4" if taught_by is None else str(taught_by.scale)
    try:
        with ProgressLine("packing", total=len(sources), unit="images") as line:
            store = prepare_store(
                sources,
                output,
                scales=split_numbers("--scales", scales or own),
                lr_kernel=kernel,  # type: ignore[arg-type]
                shrink=split_numbers("--shrink", shrink),
                long_sides=split_numbers("--long-side", long_side) if long_side else (),
                min_side=min_side,
                teacher=taught_by,
                overwrite="replace" if force else "refuse",
                progress=lambda done, total, name: line.update(done, total=total, text=name),
                on_left_out=lambda _, why: left_out.append(why),
            )
    except BaseException:
        _say_what_is_kept(taught_by, Path(f"{output}.taught"))
        raise
    finally:
        if others:
            click.echo(not_read_line(others), err=True)
        for why in left_out:
            click.echo(f"left out: {shown(why)}", err=True)
    size = store.index.pixels_bytes / 1e6
    click.echo(f"Wrote {output}: {len(store.images)} images, {size:.0f} MB")
    if left_out:
        click.echo(f"Left out since it could not be read: {len(left_out)}, see above.", err=True)
        raise SystemExit(1 if strict else 0)


def _without(sources: "list[SourceImage]", asked: list[str]) -> "list[SourceImage]":
    names = {source.path.name for source in sources}
    for name in asked:  # what is meant to stay out, such as validation images, must not slip in
        if name not in names:
            hint = did_you_mean(name, sorted(names))
            raise InputError(f"--exclude: there is no image '{name}' in these folders.{hint}")
    return [source for source in sources if source.path.name not in asked]


def _say_what_is_kept(teacher: "Teacher | None", folder: Path) -> None:
    if teacher is not None and folder.is_dir():
        text = f"What {teacher.name} made is in '{folder}': the same command goes on from it."
        click.echo(text, err=True)


def _teacher(name: str | None, share: float | None) -> "Teacher | None":
    if name is None:
        if share is not None:
            raise InputError("--share is of a teacher's result: name a network with --teacher.")
        return None
    share = 0.8 if share is None else share
    if not 0 < share <= 1:
        raise InputError(f"--share is {share:g}; give a number above 0, at most 1.")
    from edgekeeper.data.prepare import Teacher
    from edgekeeper.inference.api import upscale
    from edgekeeper.inference.network import mean_of_eight
    from edgekeeper.pretrained.cards import ancestor
    from edgekeeper.pretrained.zoo import find, load

    path = find(name)
    network, origin = load(path), ancestor(path)

    def teach(lr: "Tensor") -> "Tensor":
        return mean_of_eight(lambda turned: upscale(turned, model=network), lr)

    return Teacher(path.stem, network.scale, share, teach, origin)


# ---- What training and measuring do to images, to look at ----------------------------------------


@data_command.command("degrade", epilog="Example: edgekeeper data degrade photo.jpg -o degraded/")
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
    from edgekeeper.data.examples import drawn_examples, known_examples, middle
    from edgekeeper.image import Image, from_tensor

    paths = [p for path in images for p in (files.list_images(path) if path.is_dir() else [path])]
    if not paths:
        raise InputError(f"'{images[0]}' holds no images.")
    make_folder(output)
    unread = 0
    for path in paths:
        try:
            hr = middle(files.to_rgb_tensor(files.read_image(path)), multiple=scale)
        except ImageError as error:
            unread += 1
            click.echo(f"failed: {shown(error)}", err=True)
            continue
        if mixture == "known":
            made = known_examples(hr, scale=scale)
        else:
            made = drawn_examples(hr, mixture=mixture, count=count, scale=scale, seed=seed)
        for name, image, done in chain([("original", hr, "the part that is degraded")], made):
            target, pixels = output / f"{path.stem}_{name}.png", from_tensor(image)
            existing: Literal["replace", "refuse"] = "replace" if force else "refuse"
            files.write_image(Image(pixels=pixels), target, overwrite=existing)
            click.echo(f"{target}  {done}")
    if unread:
        raise SystemExit(1)
