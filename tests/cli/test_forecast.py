"""What is large is told, with its size and time, as soon as two tiles say how long they take."""

from pathlib import Path

import pytest

from edgekeeper.cli.upscale_run import Reporter
from edgekeeper.inference import Step
from edgekeeper.training.progress import duration


@pytest.mark.parametrize(
    ("size", "pace", "output", "told"),
    [
        ((12000, 16000), 0.1, "lines", "16000 × 12000, about 20 s; --scale 2 gives 8000 × 6000"),
        ((3000, 4000), 1.0, "lines", "4000 × 3000, about 3 min; --scale 2 gives 2000 × 1500"),
        ((3000, 4000), 0.1, "lines", ""),
        ((12000, 16000), 1.0, "json", ""),
    ],
)
def test_large_images_are_told_of_once(monkeypatch, capfd, size, pace, output, told):
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    with Reporter(output, total=1, scale=4) as reporter:
        for done in range(8):
            reporter.step(
                Step(path=Path("a.png"), file=1, files=1, done=done, total=200, size=size)
            )
            now += pace
    shown = capfd.readouterr().err
    assert (f"a.png: {told}\n" == shown) if told else not shown


def test_times_are_said_as_one_reads_them():
    for seconds, exact, about in ((12.34, "12.3 s", "12 s"), (7500, "2:05:00", "2 h")):
        assert duration(seconds) == exact
        assert duration(seconds, exact=False) == about
