"""Encoded segments in a hidden folder, from which a stopped run goes on.

A segment is a fixed number of frames, encoded by itself; its file of packets counts once its
description stands beside it. Segments do not depend on each other, so that a run that was stopped
and went on has the same ones as a run that was not.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from edgekeeper.errors import ImageError
from edgekeeper.files import follow, write_bytes, write_text
from edgekeeper.inference.network import Precision

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.codeccontext import VideoCodecContext

_ABOUT = "about.json"
_LONGEST = 240  # bytes of a name that leave room for what the folder's has besides; 255 is the most


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What is known of an encoded segment.

    Attributes:
        times: of its frames, in order, in units of the source's time base.
        duration: of its last frame.
        packets: (time, size in bytes, 1 for a key frame) in the order of decoding.
        header: what a decoder needs before the packets, in hexadecimal.
        digest: SHA-256 of the packets.
        precision: of the networks.
    """

    times: list[int]
    duration: int
    packets: list[tuple[int, int, int]]
    header: str
    digest: str
    precision: Precision | None


class Workshop:
    """The hidden folder of one video, beside the file that it becomes.

    What is found there is used only if ``about`` (the source, the networks and how they are run,
    the codec) is the same; otherwise it is thrown away.
    """

    def __init__(self, target: Path, about: dict[str, object]) -> None:
        place = follow(target)
        name = place.name
        if len(os.fsencode(name)) > _LONGEST:
            name = hashlib.sha256(os.fsencode(name)).hexdigest()
        self.folder = place.with_name(f".{name}.edgekeeper")
        self.joined = self.folder / f"joined{target.suffix}"
        wanted = json.dumps(about, sort_keys=True)
        try:
            if self._stored() != wanted:
                if self.folder.is_dir():
                    shutil.rmtree(self.folder)
                self.folder.mkdir()
                write_text(self.folder / _ABOUT, wanted, error=ImageError)
        except OSError as error:
            raise ImageError(
                f"The folder '{self.folder}' for the unfinished video cannot be made: "
                f"{(error.strerror or 'it is in the way').lower()}."
            ) from error
        self.segments: dict[int, Segment] = {}
        for path in self.folder.glob("[0-9]*.json"):
            segment = _read(path)
            if segment is not None:
                self.segments[int(path.stem)] = segment

    def keep(self, number: int, segment: Segment, *, packets: Sequence[bytes]) -> None:
        """Write a finished segment; the description last, since it makes the rest count."""
        write_bytes(self._packets(number), b"".join(packets), error=ImageError)
        text = json.dumps(asdict(segment))
        write_text(self.folder / f"{number:06}.json", text, error=ImageError)
        self.segments[number] = segment

    def packets(self, number: int) -> Iterator[bytes]:
        """Yield the packets of a segment, one after another."""
        with self._packets(number).open("rb") as file:
            for _, size, _ in self.segments[number].packets:
                yield file.read(size)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _packets(self, number: int) -> Path:
        return self.folder / f"{number:06}.packets"

    def _stored(self) -> str | None:
        try:
            return (self.folder / _ABOUT).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None


class SegmentEncoder:
    """An encoder for the frames of one segment."""

    def __init__(self, context: "VideoCodecContext", *, precision: Precision | None) -> None:
        self._context, self._precision = context, precision
        self._packets: list[tuple[int, int, int]] = []
        self._bytes: list[bytes] = []
        self._times: list[int] = []
        self._duration = 1

    def take(self, frame: "VideoFrame", *, time: int, duration: int, unit: Fraction) -> None:
        """Encode the next frame."""
        frame.pts, frame.time_base, frame.duration = time, unit, duration
        self._times.append(time)
        self._duration = duration
        self._collect(frame)

    def finish(self, workshop: Workshop, number: int) -> None:
        """Encode what is still waiting and write the segment.

        Raises:
            ImageError: the encoder did not give one packet for each frame.
        """
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
        workshop.keep(number, segment, packets=self._bytes)

    def _collect(self, frame: "VideoFrame | None") -> None:
        for packet in self._context.encode(frame):
            assert packet.pts is not None
            data = bytes(packet)
            self._packets.append((packet.pts, len(data), int(packet.is_keyframe)))
            self._bytes.append(data)


def _read(path: Path) -> Segment | None:
    """Return the description, if it and its packets are whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        segment = Segment(**{**values, "packets": [tuple(one) for one in values["packets"]]})
        data = path.with_suffix(".packets").read_bytes()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return segment if hashlib.sha256(data).hexdigest() == segment.digest else None
