"""``edgekeeper upscale``."""

import gc
import glob
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgekeeper.cli.options import device_option
from edgekeeper.errors import InputError
from edgekeeper.files import is_standard_output, shown

if TYPE_CHECKING:
    from edgekeeper.cli.upscale_run import OutputStyle
    from edgekeeper.inference import Request

STREAM = "-"

SIDE = click.IntRange(1, 9_999_999)


def _box(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Return the (width, height) that a text such as 3840x2160 says."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,6})[xX×]([1-9]\d{0,6})", value)
    if found is None:
        raise click.BadParameter(f"'{value}' is no width and height; write them as 3840x2160.")
    return int(found[1]), int(found[2])


@click.command("upscale", epilog="Example: edgekeeper upscale photos/ -o large/ --scale 4")
@click.argument("source", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="File or folder to write, or - for standard output. Default: beside the source, "
    "named _x4, _3840x2160, _w1920 or _h1080.",
)
@click.option(
    "-s", "--scale", type=float, help="Any factor, 2.7 too. Default: the network's, or 4."
)
@click.option("--width", type=SIDE, metavar="PIXELS", help="Width to reach.")
@click.option("--height", type=SIDE, metavar="PIXELS", help="Height to reach.")
@click.option("--fit", callback=_box, metavar="WxH", help="Box to fit into, such as 3840x2160.")
@click.option("--model", help="A network: name (see `edgekeeper models`) or file.")
@click.option(
    "--style",
    type=click.Choice(["auto", "faithful", "sharp", "texture", "restore"]),
    default="auto",
    help="auto: faithful (least error), but restored where the image is noisy or a JPEG. sharp: "
    "truer gradient variance. texture: looks real, is invented, restored too.",
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    metavar="0..1",
    help="How strongly auto, texture and restore restore. Default: as far as the image looks "
    "damaged; restore: 1.",
)
@click.option(
    "--sharpness",
    type=click.FloatRange(0, 1),
    metavar="0..1",
    help="Sharpen the result of any network. Default: 0; 0.25 for --style sharp.",
)
@click.option(
    "--guard",
    is_flag=True,
    help="With texture, or your own network: the faithful result where its texture is an artifact.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
    default="auto",
    help="auto takes bfloat16 where it is faster and good enough. int8: the loss is told.",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "torch", "onnx", "openvino"]),
    default="auto",
    help="What runs the network. auto: the fastest that is there and gives the same.",
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
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="ray: a folder by the workers of a Ray cluster, or of this machine; see docs/scale.md.",
)
@click.option("--workers", type=click.IntRange(1), help="Of ray. Default: one a processor.")
@click.option("--resume", is_flag=True, help="With ray, go on by the manifest of a stopped run.")
@click.option("--ensemble", is_flag=True, help="Mean over 8 flips and turns; 8 times the time.")
@click.option("--consistent", is_flag=True, help="Shrunk, the result is to give the source back.")
@click.option("--verify-seams", is_flag=True, help="Measure whether tiles show, on a part.")
@click.option("--report", is_flag=True, help="Measure invented structure; image of it beside.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "jpeg", "webp", "tiff", "avif", "gif"]),
    help="Format to write. Default: as the name says.",
)
@click.option("--quality", type=click.IntRange(1, 100), default=95, help="For JPEG, WebP and AVIF.")
@click.option("--codec", help="For videos; see docs/video.md. Default: libx264; .webm: libvpx-vp9.")
@click.option("--crf", type=click.IntRange(0, 63), help="For videos; less is better, larger.")
@click.option("--tolerant", is_flag=True, help="Use what is there of a damaged image or video.")
@click.option(
    "--keep-hidden-colour",
    is_flag=True,
    help="Keep what is stored under transparent pixels, as for masks and game textures.",
)
@click.option("--strip", is_flag=True, help="Write no EXIF, XMP and IPTC; colours stay right.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--skip-existing/--no-skip-existing",
    default=None,
    help="Whether files that exist skip their image or fail it. Default: skip in folders.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what failed.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of unexpected failures.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Default: chosen by the runtime.")
@device_option()
def upscale_command(source: tuple[str, ...], output: str | None, **options: Any) -> None:
    """Enlarge each SOURCE: an image, every image in and below a folder, or - for stdin.

    Alpha, grey, 16 bits, colour profile and metadata are kept. Nothing is overwritten without
    --force, no half-written file is ever left, and a run that was stopped goes on where it ended.
    The exit status is 1 if an image failed, 2 for a wrong command, 130 after Ctrl-C.
    """
    if output is not None and is_standard_output(Path(output)):
        output = STREAM
    source = _expanded(source)
    _check_sources(source, output)
    if output == STREAM:
        _check_standard_output(source, options)
    force, skip = options["force"], options["skip_existing"]
    if force and skip:
        raise InputError("--force replaces files that exist, --skip-existing keeps them; give one.")

    with quick_imports():
        from edgekeeper.cli.upscale_run import OutputLostError, run_request
        from edgekeeper.image import SaveOptions
        from edgekeeper.inference import Request, networks_for
        from edgekeeper.inference.bulk import Cluster

    click.get_current_context().with_resource(_tracebacks(options["verbose"]))
    threads = options["threads"]
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    metadata: Literal["keep", "strip"] = "strip" if options["strip"] else "keep"
    asked = {f.name for f in fields(Request)} & {k for k, v in options.items() if v is not None}
    request = Request(
        sources=source,
        output=output,
        save=SaveOptions(format=options["form"], quality=options["quality"], metadata=metadata),
        existing="replace" if force else {True: "skip", False: "fail", None: None}[skip],
        **{name: options[name] for name in asked},
    )
    measured = options["report"] or options["verify_seams"]
    _check_videos(request, measured=measured)
    cluster = None
    if options["engine"] == "ray":
        _check_cluster(request, measured=measured)
        cluster = Cluster(
            workers=options["workers"] or 0, threads=threads or 1, resume=options["resume"]
        )
    elif options["workers"] or options["resume"]:
        raise InputError("--workers and --resume are for --engine ray.")
    else:
        request = replace(request, model=networks_for(request))
    silent = options["quiet"] or output == STREAM
    style: OutputStyle = "json" if options["as_json"] else "quiet" if silent else "lines"
    report, seams = options["report"], options["verify_seams"]
    try:
        status = run_request(
            request, output_style=style, report=report, seams=seams, cluster=cluster
        )
    except OutputLostError as error:
        click.echo(f"Error: {error}", err=True)
        status = 1
    if status:
        raise SystemExit(status)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Search for no garbage while modules are imported, nor ever again in what they brought."""
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _tracebacks(verbose: bool) -> Iterator[None]:
    """Print to stderr what the library logs of unexpected failures, if that is asked for."""
    log, handler = logging.getLogger("edgekeeper"), logging.StreamHandler()
    in_notes = logging.getLogger("edgekeeper.models.sftgan")  # what it says of a missing map
    before, in_notes.disabled = log.level, True
    if verbose:
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        in_notes.disabled = False


# ---- What does not go together -------------------------------------------------------------------


def _check_videos(request: "Request", *, measured: bool) -> None:
    from edgekeeper.inference.request import is_video

    if not any(map(is_video, request.sources)):
        if request.codec is not None or request.crf is not None:
            raise InputError("--codec and --crf are for videos, and none was given.")
        return
    if request.output == STREAM:
        raise InputError("A video cannot go to standard output; name a file with -o.")
    if request.categories is not None:
        raise InputError("--categories is for images; a video was given.")
    if measured:
        raise InputError("--report and --verify-seams are for images; a video was given.")


def _check_cluster(request: "Request", *, measured: bool) -> None:
    from edgekeeper.inference.request import is_video

    if request.output in (None, STREAM) or Path(str(request.output)).suffix:
        raise InputError("--engine ray writes into a folder; name it with -o.")
    if STREAM in request.sources or any(map(is_video, request.sources)):
        raise InputError("--engine ray takes files and folders of images.")
    if measured or request.categories is not None:
        raise InputError("--report, --verify-seams and --categories are not for --engine ray.")


def _expanded(sources: tuple[str, ...]) -> tuple[str, ...]:
    """Return the sources, with the files of a pattern that the shell has left as it is."""
    found: list[str] = []
    for source in sources:
        pattern = glob.has_magic(source) and not os.path.lexists(source)
        files = sorted(glob.glob(source)) if pattern else []  # noqa: PTH207 (absolute ones too)
        found += files or [source]
    return tuple(found)


def _check_sources(sources: tuple[str, ...], output: str | None) -> None:
    for source in sources:
        if source != STREAM and not os.path.lexists(source):
            hint = ""
            if source == sources[-1] and len(sources) > 1 and output is None:
                hint = f" If it is to be written, say so with -o {source}"
            raise InputError(f"There is no file or folder '{source}'.{hint}")
    if STREAM not in sources:
        return
    if len(sources) > 1:
        raise InputError("'-' (standard input) is one image; give it alone.")
    if output is None:
        raise InputError("For '-' (standard input) say where the result goes: -o FILE, or -o -")
    if output != STREAM and Path(output).is_dir():
        raise InputError(f"'{output}' is a folder; give a name for the file with -o.")


def _check_standard_output(sources: tuple[str, ...], options: Mapping[str, Any]) -> None:
    if len(sources) > 1 or Path(sources[0]).is_dir():
        raise InputError("'-o -' (standard output) takes one image.")
    if options["form"] is None:
        raise InputError("'-o -' (standard output) has no name to tell a format; give --format.")
    if options["report"] or options["as_json"]:
        raise InputError("--report and --json need a file for the image; give one with -o.")


def shortened(name: str, *, length: int = 28) -> str:
    """Return a name that takes at most ``length`` characters."""
    name = shown(name)
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def not_read_line(paths: Sequence[Path]) -> str:
    """Return a line on files in folders that are not read, three of them by name."""
    names = ", ".join(shown(path.name) for path in paths[:3])
    names += ", ..." if len(paths) > 3 else ""
    count = "1 file is" if len(paths) == 1 else f"{len(paths)} files are"
    return f"Not read: by their names {count} no images that can be read ({names})."
