"""The frames of a video on their way: decoded ahead, enlarged, encoded behind."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from edgekeeper.image import Image
from edgekeeper.inference import Settings, upscale_with_report
from edgekeeper.inference.network import Precision
from edgekeeper.video.frames import to_frame, to_image
from edgekeeper.video.joining import make_encoder
from edgekeeper.video.planning import Work
from edgekeeper.video.segments import SegmentEncoder, Workshop
from edgekeeper.video.source import shots

# Frames that may wait: decoded ones are small, enlarged ones are not.
_READ_AHEAD = 3
_WRITTEN_BEHIND = 2

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class VideoStep:
    """How far a video is: ``frame`` of ``frames`` done, ``found`` of them by an earlier run."""

    path: Path
    frame: int
    frames: int
    found: int


class VideoProgress(Protocol):
    """Called before the first frame and after each."""

    def __call__(self, step: VideoStep) -> None:
        """Take notice of the progress; raise to stop, what is finished is kept."""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    number: int
    time: int
    duration: int
    image: Image


class Run:
    """The work on the frames that an earlier run has not done, and what is told of it at the end.

    Attributes:
        found, done: frames that an earlier run had made, and that are made now.
        precision: of the networks; chosen on the first frame, then kept, also by later runs.
        network_seconds: the time in the networks.
        notes: sentences for the user, each once.
    """

    def __init__(
        self,
        work: Work,
        workshop: Workshop,
        *,
        settings: Settings,
        on_step: VideoProgress | None,
    ) -> None:
        self._work, self._workshop, self._on_step = work, workshop, on_step
        self._settings = settings
        self._kept = set(workshop.segments)
        self.precision: Precision | None = None
        for segment in workshop.segments.values():
            self._settle(segment.precision)
        self.found = sum(len(segment.times) for segment in workshop.segments.values())
        self.done = self.found
        self.network_seconds = 0.0
        self.notes: dict[str, None] = {}

    def make_segments(self) -> None:
        """Make all segments that are not there yet.

        Raises:
            ImageError: the source is damaged, or a segment cannot be written.
            TileError: a frame cannot be upscaled.
        """
        self._tell()
        readers = ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-read")
        writers = ThreadPoolExecutor(1, thread_name_prefix="edgekeeper-write")
        frames = self._frames()
        behind = _Behind(self._work, self._workshop, pool=writers)
        try:
            for frame in _ahead(frames, pool=readers, depth=_READ_AHEAD):
                behind.take(
                    replace(frame, image=self._enlarged(frame.image)), precision=self.precision
                )
                self.done += 1
                self._tell()
            behind.end()
        finally:
            for pool in (readers, writers):
                pool.shutdown(wait=True, cancel_futures=True)
            frames.close()

    def _frames(self) -> Generator[_Frame, None, None]:
        """The frames that are to be made. Decoding is quick, so that the rest is read over."""
        facts = self._work.encoding.facts
        for shot in shots(facts.path, facts):
            if shot.number // self._work.length not in self._kept:
                yield _Frame(
                    number=shot.number,
                    time=shot.time,
                    duration=shot.duration,
                    image=to_image(shot.frame, facts.coding),
                )

    def _enlarged(self, image: Image) -> Image:
        upscaled = upscale_with_report(image, settings=self._settings)
        report = upscaled.report
        self.network_seconds += report.network_seconds
        self.notes.update(dict.fromkeys(report.notes))
        self._settle(report.precision)
        return upscaled.image

    def _settle(self, precision: Precision | None) -> None:
        """Keep to a precision that was chosen."""
        if precision is None or self.precision is not None:
            return
        self.precision = precision
        manner = replace(self._settings.manner, precision=precision)
        self._settings = replace(self._settings, manner=manner)

    def _tell(self) -> None:
        if self._on_step is not None:
            facts = self._work.encoding.facts
            frames = max(facts.frames, self.done)
            step = VideoStep(path=facts.path, frame=self.done, frames=frames, found=self.found)
            self._on_step(step)


class _Behind:
    """Frames that a thread of ``pool`` encodes, segment by segment, a few of them waiting."""

    def __init__(self, work: Work, workshop: Workshop, *, pool: Executor) -> None:
        self._work, self._workshop, self._pool = work, workshop, pool
        self._waiting: deque[Future[None]] = deque()
        self._encoder: SegmentEncoder | None = None
        self._number = -1

    def take(self, frame: _Frame, *, precision: Precision | None) -> None:
        """Hand a frame over; raises what went wrong with an earlier one."""
        while len(self._waiting) >= _WRITTEN_BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._encode, frame, precision))

    def end(self) -> None:
        """Wait until all is written."""
        self._waiting.append(self._pool.submit(self._finish))
        while self._waiting:
            self._waiting.popleft().result()

    def _encode(self, frame: _Frame, precision: Precision | None) -> None:
        encoding = self._work.encoding
        number = frame.number // self._work.length
        if number != self._number:
            self._finish()
            self._number = number
            self._encoder = SegmentEncoder(make_encoder(encoding), precision=precision)
        assert self._encoder is not None
        self._encoder.take(
            to_frame(frame.image, self._work.coding, layout=encoding.layout),
            time=frame.time,
            duration=frame.duration,
            unit=encoding.facts.time_base,
        )

    def _finish(self) -> None:
        if self._encoder is not None:
            self._encoder.finish(self._workshop, self._number)
            self._encoder = None


def _ahead(items: Iterator[_Item], *, pool: Executor, depth: int) -> Iterator[_Item]:
    """The items, of which a thread of ``pool`` makes up to ``depth`` before they are asked for."""
    waiting = deque(pool.submit(next, items, None) for _ in range(depth))
    while (item := waiting.popleft().result()) is not None:
        waiting.append(pool.submit(next, items, None))
        yield item
