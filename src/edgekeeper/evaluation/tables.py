"""Tables of scores and of reproduced papers: as terminal text, as Markdown, as JSON."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import rich.box
import rich.table
from rich.console import Console
from rich.markup import escape

from edgekeeper.errors import InputError
from edgekeeper.metrics.score import ALL_METRICS, METRICS, Best, SetMean

PlainRow = Mapping[str, object]
"""A row as plain values: str, int, float, None."""

TITLES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "gradient_psnr": "gradient PSNR",
    "gv_ratio": "GV ratio",
    "gv_gap": "GV gap",
    "gmsd": "GMSD",
    "lpips": "LPIPS",
    "niqe": "NIQE",
    "ma": "Ma",
    "pi": "PI",
}
DIGITS = {"psnr": 2, "ssim": 4, "gradient_psnr": 2, "gv_ratio": 3, "gv_gap": 3, "gmsd": 4}
DIGITS |= {"lpips": 4, "niqe": 3, "ma": 3, "pi": 3}
SIGNS = {"highest": "↑", "lowest": "↓", "nearest 1": "→1"}
NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """A column's title and on which side its cells stand."""

    title: str
    align: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class Table:
    """Cells as text, row by row, with a title above and notes below."""

    title: str
    columns: tuple[Column, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the columns."""
        for row in self.cells:
            if len(row) != len(self.columns):
                raise InputError(
                    f"A row of '{self.title}' has {len(row)} cells for {len(self.columns)} columns."
                )


def score_table(
    means: Sequence[SetMean], *, title: str = "", metrics: Sequence[str] | None = None
) -> Table:
    """Return the means of one protocol, a row for each model and set; the best of a set is starred.

    metrics: the columns; by default those that every score has and all others that were asked
    for. A mean over fewer images than the set has carries their number, and a note says why.
    Raises InputError when the means are under different protocols: their numbers must not share
    a column.
    """
    protocols = list(dict.fromkeys(mean.protocol for mean in means))
    if len(protocols) != 1:
        names = ", ".join(protocol.name for protocol in protocols) or "none"
        raise InputError(
            f"A table holds the numbers of one protocol; given are {names}. "
            "Make one table for each."
        )
    asked = [m for m in ALL_METRICS if m in METRICS or any(m in mean.counted for mean in means)]
    shown = asked if metrics is None else metrics
    columns = (
        Column("set"),
        Column("scale", "right"),
        Column("model"),
        Column("images", "right"),
        *(Column(f"{TITLES[metric]} {SIGNS[ALL_METRICS[metric]]}", "right") for metric in shown),
    )
    cells = tuple(
        (
            mean.set,
            f"×{mean.scale}",
            mean.model,
            str(mean.images),
            *(_mean_cell(mean, metric, means) for metric in shown),
        )
        for mean in means
    )
    kernels = ", ".join(dict.fromkeys(mean.lr_kernel for mean in means))
    note = f"Protocol '{protocols[0].name}'; LR images: {kernels}. * is the best of its set."
    reasons = [line for mean in means for line in mean.notes]
    return Table(title, columns, cells, (note, *dict.fromkeys(reasons)))


def _mean_cell(mean: SetMean, metric: str, means: Sequence[SetMean]) -> str:
    text = number(mean.means.get(metric), digits=DIGITS[metric])
    counted = mean.counted.get(metric, mean.images)
    if 0 < counted < mean.images:
        text += f" ({counted} of {mean.images})"
    return text + _star(mean, metric, means)


def reproduction_table(
    rows: Sequence[PlainRow], *, title: str, protocol: str, notes: Sequence[str] = ()
) -> Table:
    """Ours and the paper's numbers side by side, from ``ReproducedTable.plain_rows()``.

    Ours carries the difference with its interval; one whose interval holds 0 is said to be
    "not distinguishable". The paper's numbers stand in columns of their own.
    """
    columns = (
        Column("set"),
        Column("network"),
        Column("loss"),
        Column("measure"),
        Column("without", "right"),
        Column("with", "right"),
        Column("difference [95 %]", "right"),
        Column("verdict"),
        Column("paper: without", "right"),
        Column("with", "right"),
        Column("difference", "right"),
    )
    cells = tuple(_reproduction_cells(row) for row in rows)
    odd = dict.fromkeys(
        f"Paper, {row['set']} {row['network']} ×{row['scale']}: {row['note']}."
        for row in rows
        if row["note"]
    )
    best = ", ".join(
        f"{TITLES[measure]} {SIGNS[METRICS[measure]]}"
        for measure in dict.fromkeys(str(row["measure"]) for row in rows)
    )
    legend = f"Ours under protocol '{protocol}' ({best}); the paper's under 'gv_repo'."
    return Table(title, columns, cells, (legend, *notes, *odd))


def _reproduction_cells(row: PlainRow) -> tuple[str, ...]:
    measure = str(row["measure"])
    digits = DIGITS[measure]
    ends = [number(row[end], digits=digits, sign="always") for end in ("low", "high")]
    return (
        str(row["set"]),
        f"{row['network']} ×{row['scale']}",
        f"{row['base']} + {row['term']}",
        TITLES[measure],
        number(row["without"], digits=digits),
        number(row["added"], digits=digits),
        f"{number(row['difference'], digits=digits, sign='always')} [{ends[0]}, {ends[1]}]",
        str(row["verdict"]),
        number(row["paper_without"], digits=digits),
        number(row["paper_added"], digits=digits),
        number(row["paper_difference"], digits=digits, sign="always"),
    )


def number(value: object, *, digits: int, sign: Literal["negative", "always"] = "negative") -> str:
    """Return the number with so many digits; "inf" for infinity, a dash for None.

    Minus is the hyphen, so that the text can be copied into a program. Raises InputError for
    anything else.
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"A cell must be a number or None; got {value!r}.")
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return ("±" if sign == "always" else "") + text.removeprefix("-")
    return f"{value:+.{digits}f}" if sign == "always" else text


def as_text(table: Table, *, width: int | None = None) -> str:
    """The table for a terminal of ``width`` columns (as wide as needed when None), plain text."""
    console = Console(
        file=io.StringIO(), width=width or 400, color_system=None, legacy_windows=False
    )
    with console.capture() as captured:
        console.print(as_rich(table))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def as_rich(table: Table) -> rich.table.Table:
    """Return the table for ``rich.print``, which fits it to the terminal."""
    shown = rich.table.Table(
        title=escape(table.title) or None,
        title_justify="left",
        caption=escape("\n".join(table.notes)) or None,
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in table.columns:
        shown.add_column(escape(column.title), justify=column.align, overflow="fold")
    for row in table.cells:
        shown.add_row(*(escape(cell) for cell in row))
    return shown


def as_markdown(table: Table) -> str:
    """Return the table in Markdown (GitHub's form), title above and notes as a list below."""
    rules = [":---" if column.align == "left" else "---:" for column in table.columns]
    lines = [
        _markdown_row([column.title for column in table.columns]),
        _markdown_row(rules),
        *(_markdown_row(row) for row in table.cells),
    ]
    title = [f"**{table.title}**", ""] if table.title else []
    notes = ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n".join([*title, *lines, *notes])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def as_json(rows: Sequence[PlainRow], *, facts: PlainRow | None = None) -> str:
    """Return the rows with all their digits, and ``facts`` beside them, as JSON text.

    Infinity is the string "inf", since JSON has no such number.
    """
    plain = {**(facts or {}), "rows": [dict(row) for row in rows]}
    return json.dumps(_finite(plain), indent=2, ensure_ascii=False)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _star(mean: SetMean, metric: str, means: Sequence[SetMean]) -> str:
    """Return a star when the mean is the best of several models on its set and scale.

    None is the best where the means are over different numbers of images.
    """
    candidates = [m for m in means if (m.set, m.scale) == (mean.set, mean.scale)]
    counts = {m.counted.get(metric, m.images if metric in m.means else 0) for m in candidates}
    if len(candidates) < 2 or len(counts) > 1 or counts == {0}:
        return ""
    best = ALL_METRICS[metric]
    ranked = [_badness(candidate.means[metric], best) for candidate in candidates]
    return "*" if _badness(mean.means[metric], best) == min(ranked) else " "


def _badness(value: float, best: Best) -> float:
    return {"highest": -value, "lowest": value, "nearest 1": abs(value - 1)}[best]
