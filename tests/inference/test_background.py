"""Threads beside the main one: what they meet is said, and whoever stops stops them."""

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgekeeper.errors import ImageError
from edgekeeper.inference.files import ReadAhead, WriteBehind


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Source:
    """A thousand numbers, made until ``broken`` is reached."""

    def __init__(self, broken: int = 1000) -> None:
        self.broken, self.given, self.closed = broken, 0, threading.Event()

    def items(self) -> Generator[int, None, None]:
        try:
            for value in range(1000):
                if value == self.broken:
                    raise ImageError("cut short")
                self.given += 1
                yield value
        finally:
            self.closed.set()


class Kept:
    """A writer that remembers what it was given and how its block ended."""

    def __init__(self) -> None:
        self.items, self.error, self.gate = [], "open", threading.Event()
        self.gate.set()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.error = error

    def write(self, item) -> None:
        assert self.gate.wait(10)
        self.items.append(item)


def test_everything_arrives_in_order(pool):
    ahead = ReadAhead(Source().items(), pool=pool, depth=8)
    assert list(ahead) == list(range(1000))
    assert list(ahead) == []


def test_reading_ahead_is_bounded_and_ends_when_it_is_left(pool):
    source = Source()
    ahead = ReadAhead(source.items(), pool=pool, depth=8)
    assert [next(ahead), next(ahead)] == [0, 1]
    ahead.close()
    assert source.closed.wait(10)
    assert source.given <= 10


def test_what_goes_wrong_while_reading_comes_after_what_was_read(pool):
    ahead = ReadAhead(Source(broken=5).items(), pool=pool, depth=8)
    assert [next(ahead) for _ in range(5)] == list(range(5))
    for _ in range(2):
        with pytest.raises(ImageError, match="cut short"):
            next(ahead)


def test_a_reading_that_never_began_can_be_given_up(pool):
    gate, source = threading.Event(), Source()
    pool.submit(gate.wait, 10)
    ReadAhead(source.items(), pool=pool, depth=8).close()
    gate.set()
    pool.submit(int).result(10)
    assert source.given == 0


def test_writing_behind_ends_without_waiting(pool):
    kept = Kept()
    kept.gate.clear()
    with WriteBehind(kept, pool=pool, depth=64) as behind:
        for value in range(10):
            behind.write(value)
    assert not behind.written.done()
    kept.gate.set()
    behind.written.result(10)
    assert (kept.items, kept.error) == (list(range(10)), None)


def test_writing_behind_is_bounded(pool):
    kept = Kept()
    kept.gate.clear()
    with WriteBehind(kept, pool=pool, depth=3) as behind:
        for value in range(3):
            behind.write(value)
        threading.Timer(0.2, kept.gate.set).start()
        behind.write(3)  # waits for the first
        assert kept.items[0] == 0
    behind.written.result(10)
    assert kept.items == [0, 1, 2, 3]


def test_what_was_begun_is_thrown_away_after_an_error(pool):
    kept = Kept()
    with pytest.raises(KeyboardInterrupt), WriteBehind(kept, pool=pool, depth=8) as behind:
        behind.write(0)
        raise KeyboardInterrupt
    assert behind.written.done()
    assert isinstance(kept.error, RuntimeError)  # its block ended with an error: no file


def test_what_goes_wrong_while_writing_is_raised_where_items_are_given(pool):
    class Full(Kept):
        def write(self, item) -> None:
            raise ImageError("no space left")

    kept, given = Full(), 0
    with (
        pytest.raises(ImageError, match="no space left"),
        WriteBehind(kept, pool=pool, depth=64) as behind,
    ):
        for value in range(1000):
            behind.write(value)
            given += 1
    assert given < 100
    assert kept.error is not None


def test_what_goes_wrong_at_last_is_what_the_end_says(pool):
    class Full(Kept):
        def write(self, item) -> None:
            if item == 2:
                raise ImageError("no space left")
            super().write(item)

    kept = Full()
    with WriteBehind(kept, pool=pool, depth=64) as behind:
        for value in range(3):
            behind.write(value)
    with pytest.raises(ImageError, match="no space left"):
        behind.written.result(10)
    assert isinstance(kept.error, ImageError)
