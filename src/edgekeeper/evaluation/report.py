"""A comparison as tables and as JSON."""

from dataclasses import asdict
from pathlib import Path

from edgekeeper.errors import DataError
from edgekeeper.evaluation.compare import (
    PairedComparison,
    Row,
    compared_value,
    difference_of,
    direction,
    row_name,
)
from edgekeeper.evaluation.tables import DIGITS, SIGNS, TITLES, Column, Table, as_json, number
from edgekeeper.files import write_text


def comparison_table(found: PairedComparison) -> Table:
    """Return the rows as a table: means, differences with interval, p, and on how many images."""
    columns = (
        Column("set"),
        Column("metric"),
        Column("A", "right"),
        Column("B", "right"),
        Column("B - A [95 %]", "right"),
        Column("p", "right"),
        Column("B better, worse", "right"),
        Column("B is"),
    )
    note = (
        f"Protocol '{found.protocol.name}', ×{found.scale}. Interval: bootstrap, paired by "
        "image; p: Wilcoxon's signed-rank test. Undecided: the interval holds 0. Each row is "
        "judged by itself."
    )
    cells = tuple(_cells(row) for row in found.rows)
    return Table(f"A: {found.a}   B: {found.b}", columns, cells, (note, *found.notes))


def _cells(row: Row) -> tuple[str, ...]:
    metric = row.metric.removesuffix("_error")
    digits = DIGITS[metric]
    title = f"{TITLES[metric]} {SIGNS[direction(metric)]}"
    difference = number(row.difference, digits=digits, sign="always")
    if row.low is not None:
        ends = [number(end, digits=digits, sign="always") for end in (row.low, row.high)]
        difference += f" [{ends[0]}, {ends[1]}]"
    return (
        row.set,
        f"|GV ratio - 1| {SIGNS['lowest']}" if metric == "gv_ratio" else title,
        number(row.a, digits=digits),
        number(row.b, digits=digits),
        difference,
        "–" if row.p is None else f"{row.p:.2g}",
        f"{row.better}, {row.worse} of {row.images}",
        "undecided" if row.verdict == "not distinguishable" else row.verdict,
    )


def worst_table(found: PairedComparison, *, images: int) -> Table:
    """The so many images on which ``b`` loses most in the first metric, all differences b - a."""
    first = found.metrics[0]
    sign = 1 if direction(first) == "highest" else -1
    ranked = sorted(
        (both for both in found.scores if difference_of(both, first) is not None),
        key=lambda both: sign * (difference_of(both, first) or 0.0),
    )
    columns = (
        Column("set"),
        Column("image"),
        *(
            Column("|GV ratio - 1|" if metric == "gv_ratio" else TITLES[metric], "right")
            for metric in found.metrics
        ),
    )
    cells = tuple(
        (
            both[0].set,
            both[0].image,
            *(
                number(difference_of(both, metric), digits=DIGITS[metric], sign="always")
                for metric in found.metrics
            ),
        )
        for both in ranked[:images]
    )
    title = f"B - A, the worst images for B by {TITLES[first]} first"
    return Table(title, columns, cells)


def write_comparison(found: PairedComparison, path: str | Path) -> None:
    """Write rows, every image's values and the worst places as JSON, whole or not."""
    images = [
        {
            "set": both[0].set,
            "image": both[0].image,
            **{
                row_name(metric): {
                    "a": compared_value(both[0], metric),
                    "b": compared_value(both[1], metric),
                    "difference": difference_of(both, metric),
                }
                for metric in found.metrics
            },
        }
        for both in found.scores
    ]
    places = [
        {
            "set": place.set,
            "image": place.image,
            **asdict(place.box),
            "excess": place.excess,
            "psnr_a": place.psnr_a,
            "psnr_b": place.psnr_b,
        }
        for place in found.places
    ]
    facts = {
        "a": found.a,
        "b": found.b,
        "scale": found.scale,
        "protocol": found.protocol.to_json(),
        "notes": found.notes,
        "images": images,
        "places": places,
    }
    text = as_json([asdict(row) for row in found.rows], facts=facts)
    write_text(path, text + "\n", error=DataError)
