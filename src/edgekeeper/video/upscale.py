"""A video made larger: decoded ahead, enlarged frame by frame, encoded behind, joined."""

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from edgekeeper.errors import EdgekeeperError, ImageError, InputError
from edgekeeper.files import Overwrite, check_target, deliver, make_folder
from edgekeeper.inference import Progress, Request, Result, Step, networks_for, upscale_image
from edgekeeper.inference.files import ReadAhead, WriteBehind, unexpected
from edgekeeper.inference.network import TileError, infer
from edgekeeper.inference.request import VIDEO_SUFFIXES, refusal
from edgekeeper.models import SRModel
from edgekeeper.video.codecs import check_options, encoder_options, usual_codec
from edgekeeper.video.joining import check_streams, join
from edgekeeper.video.segments import Encoding, SegmentFolder, SegmentWriter, plan_encoding
from edgekeeper.video.source import read_frames, survey

# Frames that may wait: decoded ones are small, enlarged ones are not.
_READ_AHEAD = 3
_WRITTEN_BEHIND = 2


def upscale_videos(
    request: Request, *, pairs: Sequence[tuple[Path, Path]], on_step: Progress | None = None
) -> Iterator[Result]:
    """Yield one result after another for ``pairs`` of a video and the file to write.

    A video that fails is reported and the rest goes on; see ``upscale_video``.
    """
    request = _for_frames(request)
    for number, (source, target) in enumerate(pairs, start=1):
        of_caller: list[Exception] = []

        def tell(step: Step, number: int = number, of_caller: list[Exception] = of_caller) -> None:
            try:
                if on_step is not None:
                    on_step(replace(step, file=number, files=len(pairs)))
            except Exception as error:
                of_caller.append(error)
                raise

        if (refused := refusal(source, target, existing=request.on_existing)) is not None:
            yield refused
            continue
        try:
            make_folder(target.parent, error=ImageError)
            result = upscale_video(source, target, request=request, on_step=tell)
        except Exception as error:
            known = isinstance(error, EdgekeeperError)
            if error in of_caller or (known and not isinstance(error, ImageError)):
                raise  # not of this video
            reason = str(error if known else unexpected(source, error))
            result = Result(source=source, target=target, status="failed", reason=reason)
        yield result


def upscale_video(
    source: str | Path,
    target: str | Path,
    *,
    request: Request | None = None,
    on_step: Progress | None = None,
) -> Result:
    """Return the result of writing the video ``source``, enlarged, to the file ``target``.

    Frames go the way of images, in 16 bits; sound, subtitles and attachments are copied bit for
    bit; times, rotation, shape of the samples, chapters and colour tags stay. Sides that the layout
    of the chroma cannot have lose their last pixel.

    What is finished lies in a hidden folder beside the target. Stopped and started again with the
    same arguments it goes on there, with the frames of a run that was not stopped.
    Raises ImageError.
    """
    source, target, request = Path(source), Path(target), request or Request()
    request = _for_frames(request)
    started = time.perf_counter()
    codec = request.codec or usual_codec(target)
    request = replace(request, codec=codec)
    check_options(codec, request.crf)
    check_video_target(source, target, overwrite=request.overwrite)
    facts = survey(source, tolerant=request.tolerant)
    encoding = plan_encoding(facts, request)
    folder = SegmentFolder(target, _about(encoding, request))
    try:
        notes = (*facts.notes, *encoding.notes, *check_streams(folder, encoding))
    except ImageError:
        if not folder.segments:
            folder.clear()
        raise
    segments = folder.segments.values()
    found = sum(len(segment.times) for segment in segments)
    result = Result(
        source=source,
        target=target,
        source_size=facts.size,
        size=encoding.size,
        precision=next((s.precision for s in segments if s.precision is not None), None),
        notes=notes,
        frames=found,
        found=found,
        codec=codec,
        pixels=encoding.layout.name,
    )
    try:
        # Closed at once, whatever stops the loop, so that nothing is left half-written.
        with closing(_make_segments(result, encoding, folder, request=request)) as states:
            for result in states:
                if on_step is not None:
                    done, total = result.frames, max(facts.frames, result.frames)
                    step = Step(path=source, file=1, files=1, done=done, total=total)
                    on_step(replace(step, unit="frames", found=found))
    except TileError as error:
        raise ImageError(f"'{source}' cannot be upscaled: {error}") from error
    join(folder, encoding)
    try:
        deliver(folder.joined, target, overwrite=request.overwrite, error=ImageError)
    except ImageError as error:
        raise ImageError(f"{error} The finished video is '{folder.joined}'.") from error
    folder.clear()
    return replace(result, seconds=time.perf_counter() - started)


def check_video_target(source: Path, target: Path, *, overwrite: Overwrite) -> None:
    """Raise InputError for a target that cannot be written, whatever the video."""
    if source.resolve() == target.resolve():
        raise InputError(f"'{source}' cannot be its own target; choose another name.")
    if target.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(
            f"'{target}' has a file extension that no video is written with; use one of "
            f"{', '.join(VIDEO_SUFFIXES)}."
        )
    check_target(target, overwrite=overwrite, error=ImageError)


def _make_segments(
    result: Result, encoding: Encoding, folder: SegmentFolder, *, request: Request
) -> Generator[Result, None, None]:
    """Yield what became of the video so far, first of all and after each frame that is made.

    The precision is chosen on the first frame, then kept, also by later runs.
    """
    yield result
    kept, notes = set(folder.segments), dict.fromkeys(result.notes)
    wanted = read_frames(
        encoding.facts, wanted=lambda number: number // encoding.length not in kept
    )
    writer = SegmentWriter(folder, encoding)
    with (
        ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-read") as reads,
        ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-write") as writes,
        closing(ReadAhead(wanted, pool=reads, depth=_READ_AHEAD)) as frames,
        WriteBehind(writer, pool=writes, depth=_WRITTEN_BEHIND) as behind,
    ):
        for frame in frames:
            made = upscale_image(
                frame.image, replace(request, precision=result.precision or request.precision)
            )
            assert made.image is not None
            notes |= dict.fromkeys(made.notes)
            result = replace(
                result,
                frames=result.frames + 1,
                network_seconds=result.network_seconds + made.network_seconds,
                precision=result.precision or made.precision,
                notes=tuple(notes),
            )
            behind.write(replace(frame, image=made.image, precision=result.precision))
            yield result
    behind.written.result()


def _about(encoding: Encoding, request: Request) -> dict[str, object]:
    """Return what must be the same for a run that goes on with the segments of another."""
    import av

    networks, path = networks_for(request), encoding.facts.path
    stat = path.stat()
    return {
        "source": [path.name, stat.st_size, stat.st_mtime_ns],
        "size": encoding.size,
        "wanted": encoding.wanted,
        "networks": [[n, _identity(networks.load(n))] for n in encoding.passes],
        "run": [request.precision, request.ensemble, request.consistent, request.tile],
        "codec": [encoding.codec, encoder_options(encoding.codec, encoding.crf)],
        "layout": encoding.layout.name,
        "ffmpeg": [list(version) for version in av.library_versions.values()],
    }


def _identity(model: SRModel) -> str:
    """Return a digest of the weights, or of what a ramp becomes where another program has them."""
    weights = list(model.state_dict().values())
    if not weights:
        ramp = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
        weights = [infer(model, ramp).mul(1000).round()]
    digest = hashlib.sha256(type(model).__name__.encode())
    for weight in weights:
        digest.update(
            weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def _for_frames(request: Request) -> Request:
    """Return the request with its networks; frames are not looked at, each would differ by it."""
    networks = networks_for(request)
    if networks.restore is not None and request.style != "restore" and request.strength is None:
        return replace(request, model=networks, strength=0.0, many=True)
    return replace(request, model=networks, many=True)
