"""A video file as it is read: what it says of itself, and its frames."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from edgekeeper.errors import ImageError, import_extra
from edgekeeper.image import Image
from edgekeeper.image.unusual import CURE
from edgekeeper.pretrained.exported import UsedPrecision
from edgekeeper.video.codecs import Layout, layout_to_read
from edgekeeper.video.colour import BT601_525, BT601_625, BT709, MATRICES, Coding, Range, to_image

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

# What opens no other file or address, as playlists, image sequences and the like do.
_FORMATS = (
    "apng asf av1 avi dv flv gif gxf h264 hevc ivf m4v matroska mov mpeg mpegts mpegvideo mxf "
    "nut obu ogg rm vc1 vob webp wtv yuv4mpegpipe"
)
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of H.273
_LARGEST_PAUSE_SECONDS = 1.0
_FASTEST = 300  # frames a second


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a video before it is made larger."""

    path: Path
    size: tuple[int, int]  # (height, width) of the frames as they are stored
    frames: int
    rate: Fraction  # frames a second in the mean
    time_base: Fraction  # the unit of the timestamps, in seconds
    layout: Layout
    coding: Coding
    primaries: int  # of its colours, as codes of H.273
    transfer: int
    aspect: Fraction | None  # width of a sample over its height; None where nothing says it
    display: tuple[int, ...] | None  # the nine numbers of the display matrix (rotation, mirroring)
    notes: tuple[str, ...]  # for the user
    announced: int  # how many frames there should be, as far as the file says
    tolerant: bool  # frames that cannot be decoded are left out


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame as an image; time and duration are in units of the time base."""

    number: int
    time: int
    duration: int
    image: Image
    precision: UsedPrecision | None = None  # of the networks that enlarged it


def address(path: Path) -> str:
    """Return how FFmpeg is told of a file, whatever its name: never a protocol of its own."""
    return f"file:{path.absolute()}"


@contextmanager
def open_video(path: Path) -> Iterator["InputContainer"]:
    """Yield the file, open for reading; what FFmpeg says against it becomes an ImageError."""
    av = import_extra("av", extra="video", what="A video")
    if not path.is_file():
        raise ImageError(f"There is no file '{path}'.")
    try:
        only = {"protocol_whitelist": "file", "format_whitelist": _FORMATS.replace(" ", ",")}
        with av.open(address(path), "r", options=only, metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise ImageError(
            f"'{path}' is damaged or no video: {str(error.strerror).lower()}."
        ) from error


def main_stream(container: "InputContainer", path: Path) -> "VideoStream":
    """Return the first stream of moving images; ImageError where none can be decoded."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise ImageError(f"'{path}' has a video stream of a codec that is not known.")
            return stream
    raise ImageError(f"'{path}' has no video stream.")


def survey(path: Path, *, tolerant: bool = False) -> Facts:
    """Return what the file is, found by reading it once without decoding more than the first frame.

    ``tolerant``: what is missing of the file is a note, else an ImageError.
    """
    missing: tuple[str, ...] = ()
    with open_video(path) as container:
        frames, announced, damage = _count(container, path)
    if damage is not None:
        if not tolerant:
            raise damage
        missing = (f"It is damaged: {frames} of {announced} frames are there.",)
    with open_video(path) as container:
        stream = main_stream(container, path)
        first = next(container.decode(stream), None)
        if first is None or stream.time_base is None:
            raise ImageError(f"'{path}' holds no frame that can be decoded.")
        layout = layout_to_read(first.format.name)
        if layout is None:
            raise ImageError(
                f"'{path}' has frames of the pixel format '{first.format.name}', which cannot be "
                "read. Convert it first, for example to yuv420p10le."
            )
        coding, notes = _coding(first, layout, codec=stream.codec_context.name)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return Facts(
            path=path,
            size=(first.height, first.width),
            frames=frames,
            rate=rate,
            time_base=stream.time_base,
            layout=layout,
            coding=coding,
            primaries=int(first.color_primaries),
            transfer=int(first.color_trc),
            aspect=stream.sample_aspect_ratio or None,
            display=_display(first),
            notes=(*missing, *notes, *_peculiarities(first, layout)),
            announced=announced,
            tolerant=tolerant,
        )


def read_frames(facts: Facts, *, wanted: Callable[[int], bool]) -> Generator[Frame, None, None]:
    """Yield the frames whose numbers are ``wanted``, with times that always grow.

    Decoding is quick, so that the rest is read over. Raises ImageError.
    """
    from av.codec.context import ThreadType

    path, number, last, fields = facts.path, 0, None, False
    usual = max(1, round(1 / (facts.rate * facts.time_base)))
    with open_video(path) as container:
        stream = main_stream(container, path)
        stream.thread_type = ThreadType.AUTO
        decoded = _Decoded(container, stream)
        for frame in decoded:
            if (frame.height, frame.width) != facts.size:
                raise ImageError(
                    f"'{path}' changes the size of its frames, from {facts.size[1]} x "
                    f"{facts.size[0]} to {frame.width} x {frame.height}; cut it there first."
                )
            fields = fields or frame.interlaced_frame  # perhaps a packet each
            time = frame.pts
            if time is None or (last is not None and time <= last):
                time = 0 if last is None else last + (usual if time is None else 1)
            if wanted(number):
                image = to_image(frame, facts.coding)
                duration = frame.duration or usual
                yield Frame(number=number, time=time, duration=duration, image=image)
            number, last = number + 1, time
    if number == 0:
        raise ImageError(f"'{path}' holds no frame that can be decoded.")
    # VP8 has packets that are not shown; streams of broadcasts begin before they can be decoded.
    sure = stream.codec_context.name != "vp8" and "mpeg" not in container.format.name
    lost = decoded.failed or (sure and not fields and number < facts.frames)
    if lost and not facts.tolerant:
        raise ImageError(
            f"'{path}' is damaged: {number} of its {facts.announced} frames can be decoded.{CURE}"
        )


class _Decoded:
    """The frames of a stream; packets that the decoder refuses are counted and passed over."""

    def __init__(self, container: "InputContainer", stream: "VideoStream") -> None:
        self.container, self.stream, self.failed = container, stream, 0

    def __iter__(self) -> "Iterator[VideoFrame]":
        from av.error import InvalidDataError

        for packet in self.container.demux(self.stream):
            try:
                frames = packet.decode()
            except InvalidDataError:
                self.failed += 1
            else:
                yield from frames


def _count(container: "InputContainer", path: Path) -> tuple[int, int, ImageError | None]:
    """Return how many frames there are, by the packets, those there should be, and any damage."""
    stream = main_stream(container, path)
    packets = shown = corrupt = 0
    end = 0.0
    for packet in container.demux():
        if packet.size == 0:  # after the end of a stream
            continue
        end = max(end, _end(packet))
        if packet.stream_index != stream.index:
            continue
        corrupt += packet.is_corrupt
        packets += 1
        shown += not packet.is_discard
    kinds, rate = set(container.format.name.split(",")), stream.average_rate or Fraction(25)
    # Not stream.frames of MP4, which counts what an edit list cuts off; AVI's counts empty places.
    announced = len(stream.index_entries) if "mp4" in kinds else 0
    places = stream.frames if "avi" in kinds else 0
    damage = None
    if corrupt:
        damage = _damaged(path, "a part of it is missing or cannot be read")
    elif packets < announced or places - packets > _LARGEST_PAUSE_SECONDS * rate:
        announced = max(announced, places)
        damage = _damaged(path, f"{packets} of its {announced} frames are there")
    elif container.duration and {"matroska", "mp4"} & kinds:
        if rate <= _FASTEST:  # else it is the unit of time, not known
            announced = max(announced, round(container.duration / 10**6 * rate))
        start = (container.start_time or 0) / 1e6
        missing = container.duration / 1e6 - (end - start)
        if missing > _LARGEST_PAUSE_SECONDS:
            damage = _damaged(path, f"the last {missing:.1f} seconds are missing")
    return shown, max(shown, announced), damage


def _end(packet: "Packet[Stream]") -> float:
    time = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if time is None else float((time + (packet.duration or 0)) * packet.time_base)


def _damaged(path: Path, why: str) -> ImageError:
    return ImageError(f"'{path}' is cut off or damaged: {why}.{CURE}")


def _coding(frame: "VideoFrame", layout: Layout, *, codec: str) -> tuple[Coding, list[str]]:
    notes = []
    matrix, tagged = int(frame.colorspace), int(frame.color_range)
    guessed = _usual_matrix(frame.height, frame.width)
    if layout.family != "yuv":
        matrix = guessed
    elif matrix in (0, 2, 3):
        matrix = guessed
        name = "BT.709" if guessed == BT709 else "BT.601"
        notes.append(
            f"The file does not say how its colours are coded; {name} was taken, as is usual for "
            f"{frame.width} x {frame.height}, and the result says so."
        )
    elif matrix not in MATRICES:
        notes.append(
            f"The colour matrix with the code {matrix} is not known here; BT.2020 was taken for "
            "the networks, and the result is tagged with it."
        )
        matrix = 9
    span: Range = "full" if tagged == 2 else "limited"
    if tagged == 0 and (layout.family != "yuv" or "yuvj" in frame.format.name):
        span = "full"
    chroma: Literal["left", "centre"] = "centre" if codec == "mjpeg" else "left"
    return Coding(
        family=layout.family,
        depth=layout.depth,
        matrix=matrix,
        span=span,
        across=layout.across,
        down=layout.down,
        chroma=chroma,
    ), notes


def _usual_matrix(height: int, width: int) -> int:
    """Return what players take where a file does not say: BT.709 above the old television."""
    if height > 576 or width >= 1280:
        return BT709
    return BT601_525 if height <= 480 else BT601_625


def _display(frame: "VideoFrame") -> tuple[int, ...] | None:
    from av.sidedata.sidedata import SideData, Type

    for data in cast(Iterable[SideData], frame.side_data):
        if data.type == Type.DISPLAYMATRIX:
            return tuple(int(number) for number in np.frombuffer(bytes(data), np.int32)[:9])
    return None


def _peculiarities(frame: "VideoFrame", layout: Layout) -> list[str]:
    notes = []
    if frame.interlaced_frame:
        notes.append(
            "The video is interlaced; its frames are enlarged with both fields in them. "
            "Deinterlace it first."
        )
    if layout.alpha:
        notes.append("Its transparency is left out.")
    if frame.color_trc in _HDR:
        notes.append(
            f"It is HDR ({_HDR[frame.color_trc]}): the networks see the coded values, and what "
            "the file says of the mastering display is not kept."
        )
    return notes
