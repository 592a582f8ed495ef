"""How frames are encoded, and the segments of them, from which a stopped run goes on.

Segments lie in a hidden folder. Each is a fixed number of frames, encoded by itself; its file of
packets counts once its description stands beside it. Segments do not depend on each other, so that
a run that was stopped and went on has the same ones as a run that was not.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import follow, parse_json, write_bytes, write_text
from edgekeeper.inference.choose import networks_for, plan_passes
from edgekeeper.inference.request import Request
from edgekeeper.pretrained.exported import UsedPrecision
from edgekeeper.video.codecs import CODECS, Layout, configure, layout_to_write
from edgekeeper.video.colour import BT709, RGB, Coding, to_frame
from edgekeeper.video.source import Facts, Frame

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.codeccontext import VideoCodecContext

# A stopped run loses at most so much of the video; each segment begins with a key frame.
_SEGMENT_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the frames of the result are encoded."""

    facts: Facts
    codec: str
    crf: int | None
    layout: Layout
    size: tuple[int, int]  # (height, width) of what is written
    wanted: tuple[int, int]  # before the layout took its last pixel
    passes: tuple[int, ...]
    coding: Coding  # how the numbers in the planes stand for colours
    matrix: int  # what the file says of them, as a code of H.273
    length: int  # the frames of a segment
    notes: tuple[str, ...]  # sentences on what is not kept


def plan_encoding(facts: Facts, request: Request) -> Encoding:
    """Return how the frames are encoded; InputError where nothing would be left of one."""
    codec = request.codec
    assert codec is not None  # upscale_video has chosen one
    layout = layout_to_write(facts.layout, codec)
    plan = plan_passes(facts.size, request, factors=networks_for(request).factors)
    height, width = (
        side - side % step
        for side, step in zip(plan.size, (layout.down, layout.across), strict=True)
    )
    if not height or not width:
        raise InputError(f"A video of {plan.size[1]} x {plan.size[0]} pixels is too small.")
    notes = []
    if (height, width) != plan.size:
        notes.append(
            f"Frames of {plan.size[1]} x {plan.size[0]} cannot be written as {layout.name}: "
            "the last row or column is left out."
        )
    if layout.depth < facts.layout.depth:
        notes.append(f"{codec} writes {layout.depth} of the {facts.layout.depth} bits here.")
    fewer = layout.across * layout.down > facts.layout.across * facts.layout.down
    if fewer and facts.layout.family != "grey":
        notes.append(f"{codec} stores colour at a lower resolution ({layout.name}).")
    matrix, span = facts.coding.matrix, facts.coding.span
    if layout.family == "gbr":
        matrix, span = RGB, "full"
    elif facts.layout.family == "gbr":
        matrix, span = BT709, "limited"
    coding = Coding(
        family=layout.family,
        depth=layout.depth,
        matrix=matrix or BT709,
        span=span,
        across=layout.across,
        down=layout.down,
    )
    return Encoding(
        facts=facts,
        codec=codec,
        crf=request.crf,
        layout=layout,
        size=(height, width),
        wanted=plan.size,
        passes=plan.passes,
        coding=coding,
        matrix=matrix,
        length=min(max(round(_SEGMENT_SECONDS * facts.rate), 12), 240),
        notes=tuple(notes),
    )


# ---- Segments ------------------------------------------------------------------------------------

_ABOUT = "about.json"
_LONGEST = 240  # bytes of a name that leave room for what the folder's has besides; 255 is the most


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What is known of an encoded segment."""

    times: list[int]  # of its frames, in order, in units of the source's time base
    duration: int  # of its last frame
    packets: list[tuple[int, int, int]]  # time, bytes, 1 for a key frame, in decoding order
    header: str  # what a decoder needs before the packets, in hexadecimal
    digest: str  # SHA-256 of the packets
    precision: UsedPrecision | None  # of the networks


class SegmentFolder:
    """The hidden folder of one video, beside the file that it becomes.

    What is found there is thrown away unless ``about`` (source, networks, codec) is the same.
    Raises ImageError: it cannot be made.
    """

    def __init__(self, target: Path, about: dict[str, object]) -> None:
        place = follow(target)
        name = place.name
        if len(os.fsencode(name)) > _LONGEST:
            name = hashlib.sha256(os.fsencode(name)).hexdigest()
        self.path = place.with_name(f".{name}.edgekeeper")
        self.joined = self.path / f"joined{target.suffix}"
        wanted, stored = json.dumps(about, sort_keys=True), None
        with suppress(OSError, UnicodeDecodeError):
            stored = (self.path / _ABOUT).read_text(encoding="utf-8")
        try:
            if stored != wanted:
                if self.path.is_dir():
                    shutil.rmtree(self.path)
                self.path.mkdir()
                write_text(self.path / _ABOUT, wanted, error=ImageError)
        except OSError as error:
            raise ImageError(
                f"The folder '{self.path}' for the unfinished video cannot be made: "
                f"{(error.strerror or 'it is in the way').lower()}."
            ) from error
        self.segments: dict[int, Segment] = {}
        for path in self.path.glob("[0-9]*.json"):
            segment = _read(path)
            if segment is not None:
                self.segments[int(path.stem)] = segment

    def keep(self, number: int, segment: Segment, *, packets: Sequence[bytes]) -> None:
        """Write a finished segment; the description last, since it makes the rest count."""
        write_bytes(self._packets(number), b"".join(packets), error=ImageError)
        text = json.dumps(asdict(segment))
        write_text(self.path / f"{number:06}.json", text, error=ImageError)
        self.segments[number] = segment

    def packets(self, number: int) -> Iterator[bytes]:
        """Yield the packets of a segment, one after another."""
        with self._packets(number).open("rb") as file:
            for _, size, _ in self.segments[number].packets:
                yield file.read(size)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _packets(self, number: int) -> Path:
        return self.path / f"{number:06}.packets"


class SegmentWriter:
    """Frames encoded segment by segment, to be used with ``with``; an error drops the last."""

    def __init__(self, folder: SegmentFolder, encoding: Encoding) -> None:
        self._folder, self._encoding = folder, encoding
        self._number = -1
        self._context: VideoCodecContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._finish()

    def write(self, frame: Frame) -> None:
        """Encode the next frame."""
        number = frame.number // self._encoding.length
        if number != self._number:
            self._finish()
            self._begin(number, frame.precision)
        coded = to_frame(frame.image, self._encoding.coding, layout=self._encoding.layout)
        coded.pts, coded.duration = frame.time, frame.duration
        coded.time_base = self._encoding.facts.time_base
        self._times.append(frame.time)
        self._duration = frame.duration
        self._collect(coded)

    def _begin(self, number: int, precision: UsedPrecision | None) -> None:
        import av

        context = av.CodecContext.create(CODECS[self._encoding.codec].encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        set_encoder(context, self._encoding)
        self._number, self._context, self._precision = number, context, precision
        self._packets: list[tuple[int, int, int]] = []
        self._bytes: list[bytes] = []
        self._times: list[int] = []

    def _finish(self) -> None:
        """Encode what is still waiting and write the segment."""
        if self._context is None:
            return
        self._collect(None)
        if sorted(time for time, _, _ in self._packets) != self._times:
            raise ImageError(
                f"The encoder {self._context.name} lost frames or changed their times."
            )
        segment = Segment(
            times=self._times,
            duration=self._duration,
            packets=self._packets,
            header=(self._context.extradata or b"").hex(),
            digest=hashlib.sha256(b"".join(self._bytes)).hexdigest(),
            precision=self._precision,
        )
        self._folder.keep(self._number, segment, packets=self._bytes)
        self._context = None

    def _collect(self, frame: "VideoFrame | None") -> None:
        assert self._context is not None
        for packet in self._context.encode(frame):
            assert packet.pts is not None
            data = bytes(packet)
            self._packets.append((packet.pts, len(data), int(packet.is_keyframe)))
            self._bytes.append(data)


def set_encoder(context: "VideoCodecContext", encoding: Encoding) -> None:
    """Set all that an encoder is told, of a segment or of the finished file."""
    facts = encoding.facts
    context.height, context.width = encoding.size
    configure(context, layout=encoding.layout, codec=encoding.codec, crf=encoding.crf)
    context.time_base, context.framerate = facts.time_base, facts.rate
    if facts.aspect is not None:
        context.sample_aspect_ratio = facts.aspect
    context.color_primaries, context.color_trc = facts.primaries, facts.transfer
    context.colorspace, context.color_range = encoding.matrix, encoding.coding.range_code


def _read(path: Path) -> Segment | None:
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        segment = Segment(**{**values, "packets": [tuple(one) for one in values["packets"]]})
        data = path.with_suffix(".packets").read_bytes()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return segment if hashlib.sha256(data).hexdigest() == segment.digest else None
