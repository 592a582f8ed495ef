"""Reading ahead and writing behind: one thread each, so that the network does not wait for them.

What waits between the threads is bounded. An error in a thread is raised where its items are taken
or given; whoever stops early says so, and the thread ends with its file closed.
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

_Item = TypeVar("_Item")
_Given = TypeVar("_Given", contravariant=True)


class AbandonedError(RuntimeError):
    """What a writer is told that is not to finish what was begun."""


class Sink(Protocol[_Given]):
    """What takes items, one after another."""

    def write(self, item: _Given, /) -> None:
        """Take the next item."""


class ReadAhead(Generic[_Item]):
    """Items of which a thread of ``pool`` makes up to ``depth`` before they are asked for."""

    def __init__(self, items: Generator[_Item, None, None], *, pool: Executor, depth: int) -> None:
        self._items, self._pool = items, pool
        self._waiting = deque(pool.submit(next, items, None) for _ in range(depth))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        item = self._waiting[0].result()  # an error, and the end, stay there
        if item is None:
            raise StopIteration
        self._waiting.popleft()
        self._waiting.append(self._pool.submit(next, self._items, None))
        return item

    def close(self) -> None:
        """End the reading; what is open is closed by the thread."""
        for future in self._waiting:
            future.cancel()
        self._pool.submit(self._items.close)


class WriteBehind(Generic[_Item]):
    """A writer to which a thread of ``pool`` gives what it is given, ``depth`` of it waiting.

    Leaving it ends the writer but does not wait: ``written`` is done when all is there. After
    an error it waits until the writer has thrown away what was begun.
    """

    written: Future[None]

    def __init__(
        self, writer: AbstractContextManager[Sink[_Item]], *, pool: Executor, depth: int
    ) -> None:
        self._manager, self._pool, self._depth = writer, pool, depth
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        self._writer = self._manager.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            for future in self._waiting:
                future.cancel()
        self.written = self._pool.submit(self._end, self._last, abandoned=error is not None)
        if error is not None:
            wait([self.written])

    def write(self, item: _Item) -> None:
        """Hand the next item over; raises what went wrong with earlier ones."""
        while len(self._waiting) >= self._depth or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, item, self._last))

    @property
    def _last(self) -> Future[None] | None:
        return self._waiting[-1] if self._waiting else None

    def _write(self, item: _Item, last: Future[None] | None) -> None:
        if last is not None:
            last.result()  # after one that failed nothing is written
        self._writer.write(item)

    def _end(self, last: Future[None] | None, *, abandoned: bool) -> None:
        with ExitStack() as stack:
            stack.push(self._manager)
            if abandoned:
                raise AbandonedError("the rest does not come")
            if last is not None:
                last.result()
