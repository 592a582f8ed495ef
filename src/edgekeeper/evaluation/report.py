"""A comparison as tables and as JSON."""

from dataclasses import asdict
from pathlib import Path

from edgekeeper.errors import DataError
from edgekeeper.evaluation.compare import (
    MetricRow,
    PairedComparison,
    compared_title,
    compared_value,
    difference_of,
    direction,
    row_name,
)
from edgekeeper.evaluation.tables import (
    DIGITS,
    NOTHING,
    SIGNS,
    TITLES,
    Table,
    as_json,
    number,
    plain_row,
    with_interval,
)
from edgekeeper.files import write_text


def comparison_table(found: PairedComparison) -> Table:
    """Return the rows as a table: means, differences with interval, p, and on how many images."""
    columns = ("set", "metric", ">A", ">B", ">B - A [95 %]", ">p", ">B better, worse", "B is")
    note = (
        f"Protocol '{found.protocol.name}', ×{found.scale}. Interval: bootstrap, paired by "
        "image; p: Wilcoxon's signed-rank test. Undecided: the interval holds 0. Each row is "
        "judged by itself."
    )
    cells = tuple(_cells(row) for row in found.rows)
    return Table(f"A: {found.a}   B: {found.b}", columns, cells, (note, *found.notes), keys=2)


def _cells(row: MetricRow) -> tuple[str, ...]:
    metric = row.metric.removesuffix("_error")
    digits = DIGITS[metric]
    return (
        row.set,
        f"{compared_title(metric)} {SIGNS[direction(metric)]}",
        number(row.a, digits=digits),
        number(row.b, digits=digits),
        with_interval(row.difference, digits=digits, sign="always"),
        NOTHING if row.p is None else f"{row.p:.2g}",
        f"{row.better}, {row.worse} of {row.images}",
        "undecided" if row.verdict == "not distinguishable" else row.verdict,
    )


def worst_table(found: PairedComparison, *, images: int) -> Table:
    """Return the so many images on which ``b`` loses most in the first metric, all as b - a."""
    first = found.metrics[0]
    sign = 1 if direction(first) == "highest" else -1
    ranked = sorted(
        (both for both in found.scores if difference_of(both, first) is not None),
        key=lambda both: sign * (difference_of(both, first) or 0.0),
    )
    titles = map(compared_title, found.metrics)
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
    return Table(title, ("set", "image", *(f">{title}" for title in titles)), cells, keys=2)


def write_comparison(found: PairedComparison, path: str | Path) -> None:
    """Write rows, every image's values and the worst places as JSON, whole or not."""
    images = [
        {
            "set": a.set,
            "image": a.image,
            **{
                row_name(metric): {
                    "a": compared_value(a, metric),
                    "b": compared_value(b, metric),
                    "difference": difference_of((a, b), metric),
                }
                for metric in found.metrics
            },
        }
        for a, b in found.scores
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
    content = {
        "a": found.a,
        "b": found.b,
        "scale": found.scale,
        "protocol": found.protocol.to_json(),
        "notes": found.notes,
        "images": images,
        "places": places,
        "rows": [plain_row(row) for row in found.rows],
    }
    write_text(path, as_json(content) + "\n", error=DataError)
