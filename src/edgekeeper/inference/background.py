"""Reading ahead and writing behind: one thread each, so that the network does not wait for them.

What waits between the threads is bounded. An error in a thread is raised where its rows are taken
or given; whoever stops early says so, and the thread ends with its file closed.
"""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from threading import Event
from types import TracebackType
from typing import Generic, TypeVar

from edgekeeper.image import Header, Pixels
from edgekeeper.inference.engine import Sink, Source

# Parts that may wait: of some 4 MB when read, of some 1 MB (2 at 16 bits) to be written.
_READ_PARTS = 8
_WRITTEN_PARTS = 64
_PATIENCE_SECONDS = 0.05

_Item = TypeVar("_Item")


class _StoppedError(RuntimeError):
    """The other side has given up."""


class _Channel(Generic[_Item]):
    """A bounded queue between a thread and the main thread, which either may leave."""

    def __init__(self, capacity: int) -> None:
        self._items: queue.Queue[_Item | None] = queue.Queue(capacity)
        self._left = Event()

    def leave(self) -> None:
        """Take and give nothing more on this side."""
        self._left.set()

    def put(self, item: _Item | None, *, other: "Future[None] | None" = None) -> None:
        """Hand ``item`` over, None for the end; ``other`` is the thread that is to take it."""
        while True:
            if self._left.is_set():
                raise _StoppedError("nobody takes this any more")
            try:
                return self._items.put(item, timeout=_PATIENCE_SECONDS)
            except queue.Full:
                if other is not None and other.done():
                    other.result()  # raises what ended it
                    raise _StoppedError("the other thread has ended") from None

    def get(self, *, other: "Future[None] | None" = None) -> _Item | None:
        """Return the next item, None at the end; ``other`` is the thread that is to give it."""
        while True:
            if self._left.is_set():
                raise _StoppedError("nobody gives anything any more")
            ended = other is not None and other.done()
            try:
                return self._items.get(timeout=_PATIENCE_SECONDS)
            except queue.Empty:
                if ended and other is not None:
                    other.result()  # raises what ended it
                    raise _StoppedError("the other thread has ended") from None


class ReadAhead:
    """A source that a thread of ``pool`` reads, as far ahead as the bound allows.

    It may be entered once; leaving it ends the reading.
    """

    def __init__(
        self, open_source: Callable[[], AbstractContextManager[Source]], *, pool: Executor
    ) -> None:
        self._open = open_source
        self._channel: _Channel[Header | Pixels] = _Channel(_READ_PARTS)
        self._job = pool.submit(self._read)

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def cancel(self) -> None:
        """End the reading; the thread closes its file at its next part."""
        self._channel.leave()
        self._job.cancel()

    def announce(self) -> Header:
        """Return what is known of the image before its samples, as soon as it is read."""
        header = self._channel.get(other=self._job)
        assert isinstance(header, Header)
        return header

    def parts(self) -> Iterator[Pixels]:
        """Yield the rows of the image."""
        while (part := self._channel.get(other=self._job)) is not None:
            assert not isinstance(part, Header)
            yield part

    def _read(self) -> None:
        try:
            with self._open() as source:
                self._channel.put(source.announce())
                for part in source.parts():
                    self._channel.put(part)
            self._channel.put(None)
        except _StoppedError:
            return


class WriteBehind:
    """A sink whose rows a thread of ``pool`` writes.

    Leaving it ends the file but does not wait: ``written`` is done when the file is there. After
    an error it waits until the thread has thrown away what was begun.
    """

    def __init__(self, sink: AbstractContextManager[Sink], *, pool: Executor) -> None:
        self._sink = sink
        self._channel: _Channel[Pixels] = _Channel(_WRITTEN_PARTS)
        self.written: Future[None] = pool.submit(self._write)

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._channel.put(None, other=self.written)
            return
        self._channel.leave()
        self.written.exception()

    def write(self, rows: Pixels) -> None:
        """Hand the next rows over; raises what went wrong with earlier ones."""
        self._channel.put(rows, other=self.written)

    def _write(self) -> None:
        with self._sink as sink:
            while (rows := self._channel.get()) is not None:
                sink.write(rows)
