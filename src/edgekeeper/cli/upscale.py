"""``edgekeeper upscale``."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edgekeeper.cli.options import device_option
from edgekeeper.cli.upscale_output import OutputLostError, shown
from edgekeeper.errors import CheckpointError, InputError, UnavailableError

if TYPE_CHECKING:
    from edgekeeper.inference import Choice, Networks
    from edgekeeper.models import SRModel
    from edgekeeper.pretrained.zoo import Style

# ---- The networks that ``edgekeeper upscale`` runs, of what was given for them ------------------

EXPORTED = (".onnx", ".xml")

Runtime = Literal["torch", "onnx", "openvino"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for: a network or a kind of those that ship, and how to run it.

    Attributes:
        model: a name that ships or a file; None: those that ship with ``style``.
        factor: the enlargement asked for, where a file does not say what it is for.
        runtime: None: what the file needs.
    """

    model: str | None
    style: "Style" = "faithful"
    factor: float | None = None
    runtime: Runtime | None = None
    precision: "Choice" = "auto"
    threads: int | None = None
    device: str = "cpu"

    @property
    def is_exported(self) -> bool:
        """Whether the model is a file of ONNX Runtime or OpenVINO."""
        return self.model is not None and Path(self.model).suffix.lower() in EXPORTED

    @property
    def runs_in_torch(self) -> bool:
        """Whether PyTorch computes, so that its device and precision can be chosen."""
        return not self.is_exported and self.runtime in (None, "torch")

    @property
    def precision_of_runtime(self) -> Literal["float32", "bfloat16"] | None:
        """The precision of what runs outside PyTorch, by default its own; None inside."""
        if self.runs_in_torch:
            return None
        return "bfloat16" if self.precision == "bfloat16" else "float32"


def networks_for(wanted: Wanted) -> "Networks":
    """Return the networks to choose from, on their device.

    Raises:
        InputError: no such network, or it cannot be run as asked.
        CheckpointError: a file holds no network that is known.
        UnavailableError: an extra is needed; it is named.
    """
    from edgekeeper.inference import remembered
    from edgekeeper.pretrained.zoo import FACTORS, default_name

    if wanted.threads is not None:
        import torch

        torch.set_num_threads(wanted.threads)
    if not wanted.runs_in_torch and wanted.device not in ("auto", "cpu"):
        raise InputError(f"ONNX Runtime and OpenVINO compute on the CPU, not on {wanted.device}.")
    if wanted.model is not None:
        model = _run_as_asked(wanted.model, wanted)
        return remembered(lambda factor: model, factors=(model.scale,))
    return remembered(
        lambda factor: _run_as_asked(default_name(factor, style=wanted.style), wanted),
        factors=FACTORS[wanted.style],
    )


def load_network(name_or_file: str, *, factor: float | None = None) -> "SRModel":
    """The network of a name that ships, or of a file of any kind that ``networks.load`` takes.

    ``factor`` is the enlargement asked for, tried where a file does not say its own.

    Raises:
        InputError: no such name or file. CheckpointError: it holds no network that is known.
        UnavailableError: an extra is needed; it is named.
    """
    from edgekeeper.pretrained.zoo import load

    # A file that says its scale is right about it; the one asked for is for those that do not.
    nearest = None if factor is None else min(4, max(2, math.ceil(factor)))
    first, second = (nearest, None) if nearest == factor else (None, nearest)
    try:
        return load(name_or_file, scale=first)
    except (CheckpointError, UnavailableError) as error:
        try:
            return load(name_or_file, scale=second)
        except (CheckpointError, UnavailableError):
            raise error from None


def _run_as_asked(name_or_file: str, wanted: Wanted) -> "SRModel":
    """Return the network on its device or in its runtime."""
    from edgekeeper.cli.options import chosen_device
    from edgekeeper.pretrained.zoo import find, is_own

    if wanted.runs_in_torch:
        model = load_network(name_or_file, factor=wanted.factor)
        return model.to(chosen_device(wanted.device))
    precision = wanted.precision_of_runtime or "float32"
    path = find(name_or_file)
    if wanted.is_exported:
        from edgekeeper.pretrained.exported import SUFFIXES, load_exported

        needs = SUFFIXES[path.suffix.lower()]
        if wanted.runtime not in (None, needs):
            raise InputError(f"'{path}' is a file for {needs}; leave --runtime away.")
        return load_exported(path, threads=wanted.threads, precision=precision)
    from edgekeeper.export import with_runtime

    assert wanted.runtime in ("onnx", "openvino")
    source = path if is_own(path) else load_network(name_or_file, factor=wanted.factor)
    return with_runtime(source, runtime=wanted.runtime, precision=precision, threads=wanted.threads)


STREAM = "-"

DEFAULT_FACTOR = 4


def _box(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Return the (width, height) that a text such as 3840x2160 says."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,6})[xX×]([1-9]\d{0,6})", value)
    if found is None:
        raise click.BadParameter(f"'{value}' is no width and height; write them as 3840x2160.")
    return int(found[1]), int(found[2])


SIDE = click.IntRange(1, 9_999_999)


@click.command("upscale", epilog="Example: edgekeeper upscale photos/ -o large/ --scale 4")
@click.argument("source", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="File or folder to write, or - for standard output. Default: beside the source, "
    "named _x4, _3840x2160, _w1920 or _h1080.",
)
@click.option("--scale", type=float, help="Any factor, 2.7 too. Default: the network's, or 4.")
@click.option("--width", type=SIDE, metavar="PIXELS", help="Width to reach.")
@click.option("--height", type=SIDE, metavar="PIXELS", help="Height to reach.")
@click.option("--fit", callback=_box, metavar="WxH", help="Box to fit into, such as 3840x2160.")
@click.option("--model", help="A network: name (see `edgekeeper models`) or file.")
@click.option(
    "--style",
    type=click.Choice(["faithful", "sharp", "texture"]),
    default="faithful",
    show_default=True,
    help="Smallest error, more truthful gradient variance, or texture that looks real.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="auto takes bfloat16 where it is faster and good enough.",
)
@click.option(
    "--runtime",
    type=click.Choice(["torch", "onnx", "openvino"]),
    help="What runs the network. Default: what its file is for, else torch.",
)
@click.option(
    "--tile",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Side of a tile of the source. Default: chosen for you.",
)
@click.option(
    "--categories",
    metavar="MAP",
    help="For SFTGAN, what can be seen: a category such as water, or a map, or a folder of maps.",
)
@click.option("--ensemble", is_flag=True, help="Mean over 8 flips and turns; 8 times the time.")
@click.option("--consistent", is_flag=True, help="Shrunk, the result is to give the source back.")
@click.option("--verify-seams", is_flag=True, help="Measure whether tiles show, on a part.")
@click.option("--report", is_flag=True, help="Measure invented structure; image of it beside.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "jpeg", "webp", "tiff", "avif"]),
    help="Format to write. Default: as the name says.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="For JPEG, WebP and AVIF.",
)
@click.option("--codec", help="For videos; see docs/video.md. Default: libx264.")
@click.option("--crf", type=click.IntRange(0, 63), help="For videos; less is better, larger.")
@click.option("--strip", is_flag=True, help="Write no EXIF, XMP and IPTC; colours stay right.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--skip-existing/--no-skip-existing",
    default=None,
    help="Whether files that exist skip their image or fail it. Default: skip in folders.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image on stdout.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Default: chosen by the runtime.")
@device_option()
def command(
    source: tuple[str, ...],
    output: str | None,
    scale: float | None,
    width: int | None,
    height: int | None,
    fit: tuple[int, int] | None,
    model: str | None,
    style: "Style",
    precision: "Choice",
    runtime: "Runtime | None",
    tile: int | None,
    categories: str | None,
    ensemble: bool,
    consistent: bool,
    verify_seams: bool,
    report: bool,
    form: str | None,
    quality: int,
    codec: str | None,
    crf: int | None,
    strip: bool,
    force: bool,
    skip_existing: bool | None,
    as_json: bool,
    threads: int | None,
    device: str,
) -> None:
    """Enlarge each SOURCE: an image, every image in and below a folder, or - for stdin.

    Alpha, grey, 16 bits, colour profile and metadata are kept. Nothing is overwritten without
    --force, no half-written file is ever left, and a run that was stopped goes on where it ended.
    The exit status is 1 if an image failed, 2 for a wrong command, 130 after Ctrl-C.
    """
    _check_sources(source, output)
    if output == STREAM:
        _check_standard_output(source, form=form, report=report, as_json=as_json)
    if force and skip_existing:
        raise InputError("--force replaces files that exist, --skip-existing keeps them; give one.")

    from edgekeeper.cli.upscale import Wanted, networks_for
    from edgekeeper.cli.upscale_run import Job
    from edgekeeper.cli.upscale_video import run_with_videos
    from edgekeeper.image import SaveOptions
    from edgekeeper.inference import Enlargement, Manner, Settings

    sized = any(value is not None for value in (scale, width, height, fit))
    if model is None and not sized:
        scale = DEFAULT_FACTOR
    enlargement = None
    if scale is not None or sized:
        enlargement = Enlargement(factor=scale, width=width, height=height, fit=fit)
    wanted = Wanted(
        model=model,
        style=style,
        factor=scale,
        runtime=runtime,
        precision=precision,
        threads=threads,
        device=device,
    )
    networks = networks_for(wanted)
    manner = Manner(
        precision=precision if wanted.runs_in_torch else "float32",
        ensemble="eight" if ensemble else "none",
        consistent="yes" if consistent else "no",
    )
    if scale is None and not sized:
        scale = networks.factors[0]
    job = Job(
        sources=source,
        output=output,
        label=_label(scale, width=width, height=height, fit=fit),
        settings=Settings(
            networks=networks, enlargement=enlargement, tile=tile or "auto", manner=manner
        ),
        categories=categories,
        options=SaveOptions(format=form, quality=quality, metadata="strip" if strip else "keep"),
        overwrite="replace" if force else "refuse",
        existing=_EXISTING[skip_existing],
        report="yes" if report else "no",
        seams="yes" if verify_seams else "no",
        precision=wanted.precision_of_runtime,
        style="json" if as_json else "quiet" if output == STREAM else "lines",
    )
    try:
        status = run_with_videos(job, codec=codec, crf=crf)
    except OutputLostError as error:
        click.echo(f"Error: {error}", err=True)
        status = 1
    if status:
        raise SystemExit(status)


_EXISTING: dict[bool | None, Literal["skip", "fail", "by source"]] = {
    True: "skip",
    False: "fail",
    None: "by source",
}


def _label(
    factor: float | None, *, width: int | None, height: int | None, fit: tuple[int, int] | None
) -> str:
    """What is put after the names of results: what was asked for, so that it is known before."""
    if fit is not None:
        return f"_{fit[0]}x{fit[1]}"
    if width is not None:
        return f"_w{width}"
    return f"_h{height}" if height is not None else f"_x{factor:g}"


def _check_sources(sources: tuple[str, ...], output: str | None) -> None:
    """Raise InputError for sources that are not there, or standard input misused."""
    for source in sources:
        if source != STREAM and not os.path.lexists(source):
            raise InputError(f"There is no file or folder '{shown(source)}'.")
    if STREAM not in sources:
        return
    if len(sources) > 1:
        raise InputError("'-' (standard input) is one image; give it alone.")
    if output is None:
        raise InputError("For '-' (standard input) say where the result goes: -o FILE, or -o -")
    if output != STREAM and Path(output).is_dir():
        raise InputError(f"'{shown(output)}' is a folder; give a name for the file with -o.")


def _check_standard_output(
    sources: tuple[str, ...], *, form: str | None, report: bool, as_json: bool
) -> None:
    """Raise InputError for what does not go together with the image on standard output."""
    if len(sources) > 1 or Path(sources[0]).is_dir():
        raise InputError("'-o -' (standard output) takes one image.")
    if form is None:
        raise InputError("'-o -' (standard output) has no name to tell a format; give --format.")
    if report or as_json:
        raise InputError("--report and --json need a file for the image; give one with -o.")
