"""``edgekeeper upscale``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import chosen_device, device_option
from edgekeeper.errors import InputError

if TYPE_CHECKING:
    from edgekeeper.models import SRModel


@click.command("upscale", epilog="Example: edgekeeper upscale photos/ -o large/ --scale 4")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File or folder to write. Default: beside the source, named _x2, _x3 or _x4.",
)
@click.option("--scale", type=int, help="Factor: 2, 3 or 4. Default: the network's, or 4.")
@click.option("--model", help="A network: name (see `edgekeeper models`) or file.")
@click.option(
    "--structure",
    type=click.Choice(["faithful", "sharp"]),
    default="faithful",
    show_default=True,
    help="Smallest error, or more truthful gradient variance.",
)
@click.option(
    "--tile",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Side of a tile of the source. Default: chosen for you.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="bfloat16 is faster where the processor has it.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="For JPEG and WebP.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@device_option()
def command(
    source: Path, output: Path | None, scale: int | None, model: str | None, structure: str,
    tile: int | None, precision: str, quality: int, force: bool, device: str,
) -> None:  # fmt: skip
    """Enlarge the picture SOURCE, or every picture in and below the folder SOURCE.

    Alpha, grey, 16 bits, colour profile and metadata are kept. Nothing is overwritten without
    --force, and no half-written file is ever left.
    """
    if not source.exists():
        raise InputError(f"There is no file or folder '{source}'.")
    network = _network(model, scale=scale, structure=structure, device=chosen_device(device))
    target = output if output is not None else _beside(source, network.scale)
    if source.is_dir():
        _folder(
            source, target, network, tile=tile, precision=precision, quality=quality, force=force
        )
    else:
        _file(source, target, network, tile=tile, precision=precision, quality=quality, force=force)


def _network(model: str | None, *, scale: int | None, structure: str, device: str) -> "SRModel":
    from edgekeeper.networks import default_name, load

    if model is None:
        assert structure in ("faithful", "sharp")
        model = default_name(4 if scale is None else scale, structure=structure)  # type: ignore[arg-type]
    network = load(model)
    if scale is not None and network.scale != scale:
        raise InputError(
            f"The network '{model}' enlarges by {network.scale}, not by {scale}; "
            f"leave --scale away or choose another --model."
        )
    return network.to(device)


def _beside(source: Path, scale: int) -> Path:
    if source.is_dir():
        return source.with_name(f"{source.resolve().name}_x{scale}")
    return source.with_name(f"{source.stem}_x{scale}{source.suffix}")


def _file(
    source: Path, target: Path, network: "SRModel", *, tile: int | None, precision: str,
    quality: int, force: bool,
) -> None:  # fmt: skip
    from edgekeeper.logs import ProgressLine
    from edgekeeper.upscaling import upscale_file

    if target.is_dir():
        target = target / source.name
    with ProgressLine(source.name, total=0, unit="tiles") as line:
        result = upscale_file(
            source,
            target,
            model=network,
            tile="auto" if tile is None else tile,
            precision=precision,  # type: ignore[arg-type]
            overwrite="replace" if force else "refuse",
            quality=quality,
            on_tile=lambda done, total: line.update(done, total=total),
        )
    click.echo(f"{result.target}  ({result.seconds:.1f} s)")


def _folder(
    source: Path, target: Path, network: "SRModel", *, tile: int | None, precision: str,
    quality: int, force: bool,
) -> None:  # fmt: skip
    from edgekeeper.logs import ProgressLine
    from edgekeeper.upscaling import upscale_folder

    counts = {"done": 0, "skipped": 0, "failed": 0}
    with ProgressLine(str(source), total=0, unit="pictures") as line:
        for result in upscale_folder(
            source,
            target,
            model=network,
            tile="auto" if tile is None else tile,
            precision=precision,  # type: ignore[arg-type]
            overwrite="replace" if force else "refuse",
            quality=quality,
            on_step=lambda step: line.update(step.file - 1, total=step.files, text=step.path.name),
        ):
            counts[result.status] += 1
            if result.status != "done":
                click.echo(f"{result.status}: {result.message}", err=True)
    click.echo(
        f"{target}: {counts['done']} done, {counts['skipped']} skipped, {counts['failed']} failed"
    )
    if counts["failed"]:
        raise SystemExit(1)
