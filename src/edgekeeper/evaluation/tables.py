"""Tables: cells as text, and the table for a terminal, as Markdown; rows as JSON."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import rich.box
import rich.table
from rich.console import Group
from rich.markup import escape

from edgekeeper.errors import InputError
from edgekeeper.metrics.score import ALL_METRICS, COMPARED, METRICS, Best, SetMean
from edgekeeper.metrics.statistics import Interval

TITLES = {"psnr": "PSNR", "ssim": "SSIM", "gradient_psnr": "gradient PSNR", "gmsd": "GMSD"}
TITLES |= {"gv_ratio": "GV ratio", "gv_gap": "GV gap", "lpips": "LPIPS", "dists": "DISTS"}
TITLES |= {"niqe": "NIQE", "niqe_rgb2gray": "NIQE (rgb2gray)", "niqe_stored": "NIQE (stored grey)"}
TITLES |= {"ma": "Ma", "pi": "PI", "fsim": "FSIM", "risk": "structure risk"}
DIGITS = {"psnr": 2, "ssim": 4, "gradient_psnr": 2, "gv_ratio": 3, "gv_gap": 3, "gmsd": 4}
DIGITS |= {"lpips": 4, "niqe": 3, "niqe_rgb2gray": 3, "niqe_stored": 3, "ma": 3, "pi": 3, "risk": 4}
DIGITS |= {"dists": 4, "fsim": 4}
SIGNS = {"highest": "↑", "lowest": "↓", "nearest 1": "→1"}
NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Cells as text, row by row, with a title above and notes below.

    columns: their titles; ">" before one sets its cells to the right. keys: how many columns
    from the left say what a row is about; names: how many of these, the last, say whose it is.
    Raises InputError: a row of another length, or two columns of one title.
    """

    title: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    keys: int = 1
    names: int = 1

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the columns."""
        if len(set(self.columns)) < len(self.columns):
            raise InputError(f"'{self.title}' has two columns of one title: {self.columns}.")
        for row in self.cells:
            if len(row) != len(self.columns):
                raise InputError(
                    f"A row of '{self.title}' has {len(row)} cells for {len(self.columns)} columns."
                )


# ---- Cells --------------------------------------------------------------------------------------


def number(value: object, *, digits: int, sign: Literal["negative", "always"] = "negative") -> str:
    """Return the number with so many digits; "inf" for infinity, a dash for None.

    Minus is the hyphen, so that the text can be copied into a program.
    Raises InputError: no number.
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


def with_interval(
    found: Interval | None, *, digits: int, sign: Literal["negative", "always"] = "negative"
) -> str:
    """Return ``mean [low, high]``, the mean alone without an interval, a dash for None."""
    if found is None:
        return NOTHING
    mean, low, high = (
        number(x, digits=digits, sign=sign) for x in (found.mean, found.low, found.high)
    )
    return mean if found.low is None or found.high is None else f"{mean} [{low}, {high}]"


def titled(metric: str) -> str:
    """Return the metric's title with the sign of which numbers are good ones."""
    return f"{TITLES[metric]} {SIGNS[COMPARED[metric]]}"


# ---- Means over sets ----------------------------------------------------------------------------


def score_table(
    means: Sequence[SetMean], *, title: str = "", metrics: Sequence[str] | None = None
) -> Table:
    """Return the means of one protocol, a row for each model and set; the best of a set is starred.

    metrics: the columns; by default those that every score has and all others that were asked for.
    A mean over fewer images than the set has carries their number, and a note says why.
    Raises InputError: several protocols.
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
    columns = ("set", ">scale", "model", ">images", *(f">{titled(metric)}" for metric in shown))
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
    reasons = dict.fromkeys(line for mean in means for line in mean.notes)
    return Table(title, columns, cells, (note, *reasons), keys=3)


def _mean_cell(mean: SetMean, metric: str, means: Sequence[SetMean]) -> str:
    text = number(mean.means.get(metric), digits=DIGITS[metric])
    counted = mean.counted.get(metric, mean.images)
    if 0 < counted < mean.images:
        text += f" ({counted} of {mean.images})"
    return text + _star(mean, metric, means)


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


# ---- The forms of a table -----------------------------------------------------------------------


def as_rich(table: Table, *, width: int) -> Group:
    """Return the table for ``rich.print`` on so many columns.

    Cells are wrapped between words. Where the words themselves need more room, the columns are
    divided among several tables, each of which begins with the key columns.
    """
    groups = _grouped(table, width=width)
    return Group(
        *(
            _part(
                table,
                group,
                width=width,
                title=table.title if number == 0 else "",
                notes=table.notes if number == len(groups) - 1 else (),
            )
            for number, group in enumerate(groups)
        )
    )


def _grouped(table: Table, *, width: int) -> list[list[int]]:
    keys = list(range(table.keys))
    groups = [keys]
    for column in range(table.keys, len(table.columns)):
        needed = [_widths(table, k)[0] for k in (*groups[-1], column)]
        if groups[-1] != keys and sum(needed) + _around(len(needed)) > width:
            groups.append(keys)
        groups[-1] = [*groups[-1], column]
    return groups


def _part(
    table: Table, columns: Sequence[int], *, width: int, title: str, notes: Sequence[str]
) -> rich.table.Table:
    shown = rich.table.Table(
        title=escape(title) or None,
        title_justify="left",
        caption=escape("\n".join(notes)) or None,
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
    )
    words, wholes = zip(*(_widths(table, column) for column in columns), strict=True)
    given = list(wholes)
    for _ in range(sum(wholes) + _around(len(wholes)) - width):
        # One character less for the widest column that has more than its longest word, if one has.
        yielding = [k for k in range(len(given)) if given[k] > words[k]] or range(len(given))
        given[max(yielding, key=lambda k: given[k])] -= 1
    for column, size in zip(columns, given, strict=True):
        name = table.columns[column]
        shown.add_column(
            escape(name.removeprefix(">")),
            justify="right" if name.startswith(">") else "left",
            overflow="fold",
            width=size,
        )
    for row in table.cells:
        shown.add_row(*(escape(row[column]) for column in columns))
    return shown


def _widths(table: Table, column: int) -> tuple[int, int]:
    texts = [table.columns[column].removeprefix(">"), *(row[column] for row in table.cells)]
    longest = max(len(word) for text in texts for word in (*text.split(), ""))
    return longest, max(map(len, texts))


def _around(columns: int) -> int:
    return 3 * columns - 1


def as_markdown(table: Table) -> str:
    """Return the table in Markdown (GitHub's form), title above and notes as a list below."""
    lines = [
        _markdown_row([name.removeprefix(">") for name in table.columns]),
        _markdown_row(["---:" if name.startswith(">") else ":---" for name in table.columns]),
        *(_markdown_row(row) for row in table.cells),
    ]
    title = [f"**{table.title}**", ""] if table.title else []
    notes = ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n".join([*title, *lines, *notes])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def as_csv(table: Table, others: Sequence[Table] = ()) -> str:
    """Return the cells as one CSV, without stars; notes are left out.

    With others a first column holds the title, and each row has the columns of all.
    """
    tables = (table, *others)
    names = [[name.removeprefix(">") for name in one.columns] for one in tables]
    columns = list(dict.fromkeys(name for own in names for name in own))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = len(tables) > 1
    writer.writerow([*["table"] * several, *columns])
    for one, own in zip(tables, names, strict=True):
        for row in one.cells:
            cells = dict(zip(own, (cell.rstrip("* ") for cell in row), strict=True))
            writer.writerow([*[one.title] * several, *(cells.get(name, "") for name in columns)])
    return text.getvalue().rstrip("\n")


def as_latex(table: Table) -> str:
    """Return the table for LaTeX with booktabs: the best of its kind bold, the second underlined.

    Ranked are columns whose title ends with the sign of good numbers, among rows that agree in
    their key columns but those that say whose they are.
    """
    signs: dict[str, Best] = {SIGNS[best]: best for best in set(ALL_METRICS.values())}
    ranks = [signs.get(name.rpartition(" ")[2]) for name in table.columns]
    lines = []
    for row in table.cells:
        cells = []
        for column, (cell, best) in enumerate(zip(row, ranks, strict=True)):
            text = _latex(cell.rstrip("* "))
            rank = None if best is None else _rank(table, row, column, best)
            forms = {0: rf"\textbf{{{text}}}", 1: rf"\underline{{{text}}}"}
            cells.append(text if rank is None else forms.get(rank, text))
        lines.append(" & ".join(cells) + r" \\")
    aligned = "".join("r" if name.startswith(">") else "l" for name in table.columns)
    head = " & ".join(_latex(name.removeprefix(">")) for name in table.columns)
    told = (note.replace("* is the best", "bold is the best") for note in table.notes)
    notes = [f"% {note}" for note in (table.title, *told) if note]
    body = [r"\toprule", head + r" \\", r"\midrule", *lines, r"\bottomrule"]
    return "\n".join([*notes, rf"\begin{{tabular}}{{{aligned}}}", *body, r"\end{tabular}"])


def _rank(table: Table, row: Sequence[str], column: int, best: Best) -> int | None:
    """Return how many cells of the column are better than that of ``row``; None for no number."""
    same = table.keys - table.names
    group = [other for other in table.cells if other[:same] == row[:same]]
    values = [_as_number(other[column]) for other in group]
    here = _as_number(row[column])
    if here is None or len(group) < 2:
        return None
    known = {_badness(value, best) for value in values if value is not None}
    return sum(other < _badness(here, best) for other in known)


def _as_number(cell: str) -> float | None:
    try:
        return float(cell.rstrip("* ").partition(" [")[0])
    except ValueError:  # a dash, "29.1 (4 of 5)"
        return None


_LATEX = {
    "\\": r"\textbackslash{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "×": r"$\times$",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "±": r"$\pm$",
    **{sign: f"${sign}$" for sign in "|<>"},
    "²": "$^2$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _latex(text: str) -> str:
    signed = re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)  # a minus, where a number begins
    return "".join(_LATEX.get(sign, sign) for sign in signed)


# The forms in which a table can be written as text
TABLE_FORMS: dict[str, Callable[[Table], str]] = {
    "csv": as_csv,
    "latex": as_latex,
    "markdown": as_markdown,
}


# ---- Rows as plain values -----------------------------------------------------------------------


def plain_row(row: Any) -> dict[str, object]:
    """Return the fields of a row with a ``difference``, and those of the difference, in one."""
    plain = asdict(row)
    found = plain["difference"] or {"mean": None, "low": None, "high": None}
    ends = {"low": found["low"], "high": found["high"]}
    verdict = found.get("verdict", "too few images")
    return {**plain, "difference": found["mean"], **ends, "verdict": verdict}


def as_json(content: Mapping[str, object]) -> str:
    """Return the content with all digits as JSON text; infinity is the string "inf"."""
    return json.dumps(_finite(content), indent=2, ensure_ascii=False)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
