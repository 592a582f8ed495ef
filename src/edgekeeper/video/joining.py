"""The finished file: the encoded video and, bit for bit, the other streams of its source."""

import heapq
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgekeeper.errors import ImageError
from edgekeeper.video.codecs import CODECS
from edgekeeper.video.segments import Encoding, Segment, SegmentFolder, set_encoder
from edgekeeper.video.source import address, main_stream, open_video

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

# What a muxer writes by itself.
_WEBM_SOUND = ("opus", "vorbis")
_OPUS_BITS = 80_000  # a second and channel: no difference is heard from what is usual in videos
_OWN = ("major_brand", "minor_version", "compatible_brands", "encoder", "DURATION")


def check_streams(folder: SegmentFolder, encoding: Encoding) -> tuple[str, ...]:
    """Return notes on what cannot be kept, found before the work by a file without frames."""
    with (
        open_video(encoding.facts.path) as source,
        _output(folder.joined, source, encoding) as (_, _, _, notes),
    ):
        pass
    folder.joined.unlink(missing_ok=True)
    return notes


def join(folder: SegmentFolder, encoding: Encoding) -> None:
    """Write the segments and the source's other streams to ``folder.joined``. Raises ImageError."""
    with (
        open_video(encoding.facts.path) as source,
        _output(folder.joined, source, encoding) as (output, video, copies, _),
    ):
        headers = {one.header for one in folder.segments.values()}
        if headers != {(video.codec_context.extradata or b"").hex()}:
            raise ImageError(
                f"The unfinished video in '{folder.path}' was begun with another encoder; "
                "remove that folder and begin again."
            )
        encoded = _video_packets(folder, video, unit=encoding.facts.time_base)
        copied = _copied_packets(source, copies)
        for _, _, packet in heapq.merge(encoded, copied, key=lambda item: item[:2]):
            output.mux_one(packet)


def decoding_times(times: Sequence[int]) -> list[int]:
    """Return when packets with ``times`` to be shown, in that order, are to be decoded.

    The times to be shown, sorted, moved back by as many frames as the encoder reorders: they grow
    and none is later than its packet's own; what lies before the first is extrapolated.
    """
    shown = sorted(times)
    place = {time: index for index, time in enumerate(shown)}
    delay = max((index - place[time] for index, time in enumerate(times)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    early = [shown[0] - step * back for back in range(delay, 0, -1)]
    return early + shown[: len(shown) - delay]


@contextmanager
def _output(
    path: Path, source: "InputContainer", encoding: Encoding
) -> "Iterator[tuple[OutputContainer, VideoStream, dict[int, Stream], tuple[str, ...]]]":
    """Yield the file to write with its header, its video stream, and those to copy by index."""
    import av

    try:
        with av.open(address(path), "w", container_options=_exact_start(source, path)) as output:
            video = output.add_stream(CODECS[encoding.codec].encoder)
            assert isinstance(video, av.VideoStream)
            set_encoder(video.codec_context, encoding)
            main = main_stream(source, encoding.facts.path)
            video.time_base = encoding.facts.time_base
            _describe(video, main)
            if encoding.facts.display is not None:
                video.set_display_matrix(encoding.facts.display)
            copies, notes = _add_copies(output, source, main, path=path)
            output.metadata.update(_kept(source.metadata))
            output.set_chapters(source.chapters())
            output.start_encoding()
            yield output, video, copies, notes
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, av.error.FFmpegError) and error.filename == address(
            encoding.facts.path
        ):
            raise
        why = getattr(error, "strerror", None) or str(error)
        raise ImageError(
            f"A {path.suffix} file cannot be written with what is to be in it: {why.lower()}. "
            "Choose a name that ends in .mkv, or another codec."
        ) from error


def _exact_start(source: "InputContainer", path: Path) -> dict[str, str]:
    """Return an option for a movie's unit of time, to which the first times are rounded."""
    if path.suffix.lower() not in (".mp4", ".m4v", ".mov"):
        return {}
    units = [one.time_base.denominator for one in source.streams if one.time_base]
    unit = math.lcm(*units)
    return {"movie_timescale": str(unit)} if 0 < unit < 2**31 else {}


def _add_copies(
    output: "OutputContainer", source: "InputContainer", main: "Stream", *, path: Path
) -> tuple[dict[int, "Stream"], tuple[str, ...]]:
    copies: dict[int, Stream] = {}
    notes = []
    for stream in source.streams:
        if stream.index == main.index:
            continue
        if stream.type not in ("audio", "subtitle", "video", "attachment"):
            if not (stream.name == "bin_data" and source.chapters()):  # the titles of chapters
                notes.append(f"Its stream {stream.index} of other data is not copied.")
            continue
        webm = path.suffix.lower() == ".webm"
        if webm and stream.type == "audio" and stream.name not in _WEBM_SOUND:
            copies[stream.index] = _add_opus(output, stream)
            _describe(copies[stream.index], stream)
            notes.append(f"Its sound ({stream.name}) is encoded anew as Opus, which .webm takes.")
            continue
        if webm and stream.type in ("subtitle", "attachment") and stream.name != "webvtt":
            notes.append(f"Its {stream.type} ({stream.name}) is left out, which .webm cannot hold.")
            continue
        try:
            copy = output.add_stream_from_template(stream, opaque=True)
        except ValueError as error:
            raise ImageError(
                f"A {path.suffix} file cannot hold its {stream.type} ({stream.name}). Choose a "
                "name that ends in .mkv, or in what the source ends."
            ) from error
        _describe(copy, stream)
        copies[stream.index] = copy
    return copies, tuple(notes)


def _add_opus(output: "OutputContainer", source: "Stream") -> "Stream":
    import av

    assert isinstance(source, av.AudioStream)
    made = output.add_stream("libopus", rate=48000, layout=source.layout.name)
    assert isinstance(made, av.AudioStream)
    made.bit_rate = _OPUS_BITS * source.channels
    return made


def _describe(ours: "Stream", theirs: "Stream") -> None:
    ours.metadata.update(_kept(theirs.metadata))
    ours.disposition = theirs.disposition


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key not in _OWN}


_Timed = tuple[Fraction, int, "Packet[Stream]"]


def _video_packets(
    folder: SegmentFolder, video: "VideoStream", *, unit: Fraction
) -> Iterator[_Timed]:
    import av

    segments: list[tuple[int, Segment]] = sorted(folder.segments.items())
    order = [time for _, segment in segments for time, _, _ in segment.packets]
    times = [time for _, segment in segments for time in segment.times]
    ends = [*times[1:], times[-1] + segments[-1][1].duration]
    duration = {time: end - time for time, end in zip(times, ends, strict=True)}
    earliest = iter(decoding_times(order))
    for number, segment in segments:
        for data, (time, _, key) in zip(folder.packets(number), segment.packets, strict=True):
            packet = av.Packet(data)
            packet.stream, packet.time_base = video, unit
            packet.pts, packet.dts, packet.duration = time, next(earliest), duration[time]
            packet.is_keyframe = bool(key)
            yield packet.dts * unit, 0, packet


def _is_pause(packet: "Packet[Stream]") -> bool:
    return packet.size == 2 and packet.stream.name == "mov_text" and bytes(packet) == b"\0\0"


def _copied_packets(source: "InputContainer", copies: dict[int, "Stream"]) -> Iterator[_Timed]:
    if not copies:
        return
    wanted = [stream for stream in source.streams if stream.index in copies]
    latest = Fraction(0)
    for given in source.demux(wanted):
        if given.size == 0 or _is_pause(given):
            continue
        for packet in _as_written(given, copies[given.stream_index]):
            time = packet.dts if packet.dts is not None else packet.pts
            if time is not None:
                latest = max(latest, time * packet.time_base)
            yield latest, 1, packet
    for copy in copies.values():
        if copy.name == "libopus":
            yield from ((latest, 1, packet) for packet in cast("AudioStream", copy).encode(None))


def _as_written(packet: "Packet[Stream]", copy: "Stream") -> "Iterator[Packet[Stream]]":
    """Yield the packet, or what becomes of the sound in it where that is encoded anew."""
    if copy.name == "libopus":
        for frame in packet.decode():
            yield from cast("AudioStream", copy).encode(cast("AudioFrame", frame))
    else:
        packet.stream = copy
        yield packet
