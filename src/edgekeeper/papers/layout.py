"""A measured table as tables of text: one for each definition, one for the differences."""

from edgekeeper.evaluation.tables import DIGITS, NOTHING, SIGNS, TITLES, Column, Table, number
from edgekeeper.metrics.score import ALL_METRICS
from edgekeeper.papers.measured import Contrast, Line, MeasuredTable, Section, Value
from edgekeeper.papers.printed import PrintedTable

HEADINGS = {
    "spsr_toolbox": "protocol spsr_toolbox",
    "y_matlab": "protocol y_matlab",
    "perceptual": "perceptual metrics",
}
EXPLAINED = {
    "spsr_toolbox": "Y, border of 4 pixels; SSIM of large images after shrinking, as ssim.m; "
    "Bicubic from LR that was never rounded.",
    "y_matlab": "Y, border of 4 pixels; SSIM without shrinking; Bicubic from LR as stored.",
}
EXPLAINED_MEASURES = {
    "lpips": "LPIPS on whole RGB images",
    "pi": "NIQE and PI on Y without 4 pixels on each side",
}


def as_tables(found: MeasuredTable) -> list[Table]:
    """Return the tables, in the order in which to read them; the notes stand below the last."""
    tables = [_section(section, found.printed, title=found.name) for section in found.sections]
    if found.contrasts:
        tables.append(_contrasts(found.contrasts, title=found.name))
    source = f"Paper: {found.printed.paper}, Table {found.printed.number}, {found.printed.title}."
    notes = (source, *found.notes, *found.printed.notes)
    last = tables[-1]
    tables[-1] = Table(last.title, last.columns, last.cells, (*last.notes, *notes))
    return tables


def _section(section: Section, printed: PrintedTable, *, title: str) -> Table:
    columns = [Column("set"), Column("method"), Column("whose")]
    columns += [
        Column(f"{TITLES[measure]} {SIGNS[ALL_METRICS[measure]]}", "right")
        for measure in section.measures
    ]
    cells = tuple(
        (
            line.set,
            line.method,
            line.origin,
            *(_cell(line, measure, printed) for measure in section.measures),
        )
        for line in section.lines
    )
    unstated = any(v and not v.stated for line in section.lines for v in line.values.values())
    notes = [_explained(section)]
    notes += ["? the paper does not state which kind of SSIM this is."] * unstated
    return Table(f"{title}, {HEADINGS[section.name]}", tuple(columns), cells, tuple(notes))


def _explained(section: Section) -> str:
    """By which rules the section's numbers were measured; of the measures it has alone."""
    if section.name in EXPLAINED:
        return EXPLAINED[section.name]
    known = [text for measure, text in EXPLAINED_MEASURES.items() if measure in section.measures]
    return "; ".join(known) + "."


def _cell(line: Line, measure: str, printed: PrintedTable) -> str:
    value = line.values[measure]
    if value is None:
        return "unavailable" if line.origin == "ours" else NOTHING
    digits = _digits(measure, printed)
    text = number(value.mean, digits=digits)
    if not value.stated:
        return f"{text}?"
    return text if value.low is None else f"{text} {_ends(value, digits=digits)}"


def _ends(value: Value | Contrast, *, digits: int, signed: bool = False) -> str:
    low, high = (
        number(end, digits=digits, sign="always" if signed else "negative")
        for end in (value.low, value.high)
    )
    return f"[{low}, {high}]"


def _digits(measure: str, printed: PrintedTable) -> int:
    """As many digits as the paper prints; those of other tables for what it does not print."""
    found = [
        len(str(number).partition(".")[2])
        for row in printed.rows.values()
        for name, numbers in row.items()
        if name == measure
        for number in numbers
    ]
    return max(found, default=DIGITS[measure])


def _contrasts(contrasts: tuple[Contrast, ...], *, title: str) -> Table:
    columns = (
        Column("set"),
        Column("method"),
        Column("against"),
        Column("measure"),
        Column("definition"),
        Column("difference [95 %]", "right"),
        Column("verdict"),
        Column("images", "right"),
    )
    cells = []
    for each in contrasts:
        digits = max(3, DIGITS[each.measure])
        difference = number(each.difference, digits=digits, sign="always")
        cells.append(
            (
                each.set,
                each.method,
                each.against,
                TITLES[each.measure],
                each.section,
                f"{difference} {_ends(each, digits=digits, signed=True)}",
                each.verdict,
                str(each.images),
            )
        )
    return Table(f"{title}, ours paired by image", columns, tuple(cells))
