"""Threads beside the main one: what they meet is said, and whoever stops stops them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from edgekeeper.errors import ImageError
from edgekeeper.image import Header
from edgekeeper.inference.background import ReadAhead, WriteBehind

HEADER = Header(height=1000, width=2, colours=1)


def row(value: int) -> np.ndarray:
    return np.full((1, 2, 1), value % 256, np.uint8)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Endless:
    """A source of 1000 rows that fails at row ``broken``."""

    def __init__(self, broken: int = 1000) -> None:
        self.broken, self.given, self.closed = broken, 0, threading.Event()

    @contextmanager
    def open(self):
        try:
            yield self
        finally:
            self.closed.set()

    def announce(self) -> Header:
        return HEADER

    def parts(self):
        for value in range(1000):
            if value == self.broken:
                raise ImageError("cut short")
            self.given += 1
            yield row(value)


class Kept:
    """A sink that remembers rows and how its block ended."""

    def __init__(self) -> None:
        self.rows, self.error, self.gate = [], "open", threading.Event()
        self.gate.set()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.error = error

    def write(self, rows) -> None:
        assert self.gate.wait(10)
        self.rows.append(int(rows[0, 0, 0]))


def test_everything_arrives_in_order(pool):
    with ReadAhead(Endless().open, pool=pool) as source:
        assert source.announce() == HEADER
        assert [int(part[0, 0, 0]) for part in source.parts()] == [k % 256 for k in range(1000)]


def test_reading_ahead_is_bounded_and_ends_when_it_is_left(pool):
    endless = Endless()
    with ReadAhead(endless.open, pool=pool) as source:
        source.announce()
        next(source.parts())
    assert endless.closed.wait(10)
    assert endless.given < 20


def test_what_goes_wrong_while_reading_comes_after_what_was_read(pool):
    source = ReadAhead(Endless(broken=5).open, pool=pool)
    source.announce()
    seen = []
    with pytest.raises(ImageError, match="cut short"):
        seen.extend(int(part[0, 0, 0]) for part in source.parts())
    with pytest.raises(ImageError, match="cut short"):
        next(source.parts())


def test_a_reading_that_never_began_can_be_cancelled(pool):
    gate = threading.Event()
    pool.submit(gate.wait, 10)
    endless = Endless()
    ReadAhead(endless.open, pool=pool).cancel()
    gate.set()
    assert endless.given == 0


def test_writing_behind_ends_without_waiting(pool):
    kept = Kept()
    kept.gate.clear()
    with WriteBehind(kept, pool=pool) as sink:
        for value in range(10):
            sink.write(row(value))
    assert not sink.written.done()
    kept.gate.set()
    sink.written.result(10)
    assert (kept.rows, kept.error) == (list(range(10)), None)


def test_what_was_begun_is_thrown_away_after_an_error(pool):
    kept = Kept()
    with pytest.raises(KeyboardInterrupt), WriteBehind(kept, pool=pool) as sink:
        sink.write(row(0))
        raise KeyboardInterrupt
    assert sink.written.done()
    assert isinstance(kept.error, RuntimeError)  # its block ended with an error: no file


def test_what_goes_wrong_while_writing_is_raised_where_rows_are_given(pool):
    class Full(Kept):
        def write(self, rows) -> None:
            raise ImageError("no space left")

    given = 0
    with pytest.raises(ImageError, match="no space left"), WriteBehind(Full(), pool=pool) as sink:
        for value in range(1000):
            sink.write(row(value))
            given += 1
    assert given < 100
