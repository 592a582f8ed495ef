"""A video made larger: decoded ahead, enlarged frame by frame, encoded behind, joined."""

import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import Overwrite, check_target, deliver
from edgekeeper.inference import Settings, TileError, plan_enlargement
from edgekeeper.inference.network import Precision, infer
from edgekeeper.models import SRModel
from edgekeeper.video.codecs import SUFFIXES, VideoOptions
from edgekeeper.video.joining import Encoding, check_streams, join
from edgekeeper.video.planning import Work
from edgekeeper.video.running import Run, VideoProgress
from edgekeeper.video.segments import Workshop
from edgekeeper.video.source import Facts, survey


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """What became of a video.

    Attributes:
        frames: how many it has; ``found`` of them an earlier run had made.
        seconds: the time it took; ``network_seconds`` of them in the networks.
        source_size, size: (height, width) of the frames read and written.
        pixels: FFmpeg's name of the layout of the written samples.
        notes: sentences on what one might not expect.
    """

    path: Path
    target: Path
    frames: int
    found: int
    seconds: float
    network_seconds: float
    source_size: tuple[int, int]
    size: tuple[int, int]
    codec: str
    pixels: str
    precision: Precision | None
    notes: tuple[str, ...]


def upscale_video(
    source: str | Path,
    target: str | Path,
    *,
    settings: Settings,
    options: VideoOptions | None = None,
    overwrite: Overwrite = "refuse",
    on_step: VideoProgress | None = None,
) -> VideoResult:
    """Return the result of writing the video ``source``, enlarged, to the file ``target``.

    Frames go the way of images, in 16 bits; sound, subtitles and attachments are copied bit for
    bit; times, rotation, shape of the samples, chapters and colour tags stay. Sides that the
    layout of the chroma cannot have lose their last pixel.

    What is finished lies in a hidden folder beside the target. When the run is stopped and
    started again with the same arguments it goes on there, and the frames are those of a run that
    was not stopped. The target appears when all is done.

    Raises:
        InputError: source and target are the same file, or an argument is out of range.
        UnavailableError: PyAV is not installed or lacks the encoder.
        ImageError: the source cannot be read or the target cannot be written.
    """
    source, target = Path(source), Path(target)
    options = VideoOptions() if options is None else options
    started = time.perf_counter()
    check_video_target(source, target, overwrite=overwrite)
    facts = survey(source)
    work = Work.planned(facts, settings=settings, options=options)
    workshop = Workshop(target, _about(facts, work.encoding, settings=settings))
    try:
        notes = (*facts.notes, *work.notes, *check_streams(workshop, work.encoding))
    except ImageError:
        if not workshop.segments:
            workshop.clear()
        raise
    run = Run(work, workshop, settings=settings, on_step=on_step)
    try:
        run.make_segments()
    except TileError as error:
        raise ImageError(f"'{source}' cannot be upscaled: {error}") from error
    join(workshop, work.encoding)
    _place(workshop, target, overwrite=overwrite)
    return VideoResult(
        path=source,
        target=target,
        frames=run.done,
        found=run.found,
        seconds=time.perf_counter() - started,
        network_seconds=run.network_seconds,
        source_size=facts.size,
        size=work.encoding.size,
        codec=options.codec,
        pixels=work.encoding.layout.name,
        precision=run.precision,
        notes=tuple(dict.fromkeys([*notes, *run.notes])),
    )


def check_video_target(source: Path, target: Path, *, overwrite: Overwrite) -> None:
    """Raise the error of a target that cannot be written, whatever the video.

    Raises:
        InputError: it is the source, or its file extension is none of ``SUFFIXES``.
        ImageError: it exists or is a folder, or its folder is not there.
    """
    if source.resolve() == target.resolve():
        raise InputError(f"'{source}' cannot be its own target; choose another name.")
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"'{target}' has a file extension that no video is written with; use one of "
            f"{', '.join(SUFFIXES)}."
        )
    check_target(target, overwrite=overwrite, error=ImageError)


def _about(facts: Facts, encoding: Encoding, *, settings: Settings) -> dict[str, object]:
    """Return what must be the same for a run that goes on with the segments of another."""
    import av

    plan = plan_enlargement(
        facts.size, enlargement=settings.enlargement, factors=settings.networks.factors
    )
    stat = facts.path.stat()
    return {
        "source": [facts.path.name, stat.st_size, stat.st_mtime_ns],
        "size": encoding.size,
        "wanted": plan.size,
        "networks": [[n, _identity(settings.networks.load(n))] for n in plan.passes],
        "manner": asdict(settings.manner),
        "tile": settings.tile,
        "codec": [encoding.options.codec, encoding.options.encoder_options, encoding.layout.name],
        "ffmpeg": [list(version) for version in av.library_versions.values()],
    }


def _identity(model: SRModel) -> str:
    """A digest of the weights; of what it gives for a ramp where another program holds them."""
    weights = list(model.state_dict().values())
    if not weights:
        ramp = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
        weights = [infer(model, ramp).mul(1000).round()]
    digest = hashlib.sha256(type(model).__name__.encode())
    for weight in weights:
        digest.update(
            weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def _place(workshop: Workshop, target: Path, *, overwrite: Overwrite) -> None:
    """Give the finished file its name and remove what it was made of."""
    try:
        deliver(workshop.joined, target, overwrite=overwrite, error=ImageError)
    except ImageError as error:
        raise ImageError(f"{error} The finished video is '{workshop.joined}'.") from error
    workshop.clear()
