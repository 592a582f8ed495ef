"""Any networks or folders of results beside the printed rows of SPSR's and DGGGAN's tables.

    found = beside("dgggan-table3", ours=[Ours("DGGGAN", network)], data_root=folder)

Numbers of unlike definition never share a section: SSIM with and without the shrinking of large
images are two, and so are the perceptual metrics, which no protocol touches. A printed row
stands in the section of its own definition. Bicubic is always measured.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from edgekeeper.data.catalogue import find_set, names
from edgekeeper.errors import InputError, check_choice, unknown_name
from edgekeeper.evaluation.compare import paired
from edgekeeper.evaluation.tables import (
    DIGITS,
    NOTHING,
    TITLES,
    Table,
    number,
    plain_row,
    titled,
    with_interval,
)
from edgekeeper.metrics.protocol import find_protocol
from edgekeeper.metrics.score import Score
from edgekeeper.metrics.statistics import Difference, Interval, interval
from edgekeeper.papers.printed import PRINTED, PrintedTable
from edgekeeper.papers.scored import BICUBIC, SCALE, SCORED_UNDER, ByProtocol, Ours, scores_of

SectionName = Literal["spsr_toolbox", "y_matlab", "perceptual"]
SECTIONS: tuple[SectionName, ...] = get_args(SectionName)  # LPIPS, NIQE, PI follow own rules
HEADINGS: dict[str, str] = {name: f"protocol {name}" for name in SECTIONS[:2]}
HEADINGS["perceptual"] = "perceptual metrics"
EXPLAINED = {
    "spsr_toolbox": "Y, border of 4 pixels; SSIM of large images after shrinking, as ssim.m; "
    "Bicubic from LR that was never rounded.",
    "y_matlab": "Y, border of 4 pixels; SSIM without shrinking; Bicubic from LR as stored.",
}
_FINE = {measure: max(3, digits) for measure, digits in DIGITS.items()}
EXPLAINED_MEASURES = {
    "lpips": "LPIPS on whole RGB images",
    "pi": "NIQE and PI on Y without 4 pixels on each side",
}


@dataclass(frozen=True)
class Value(Interval):
    """A number of a row: printed, or the mean over ``images`` with its 95 % interval.

    There is none where the number is printed, or fewer than two numbers are finite.
    stated: False for a printed number whose definition the paper does not state.
    """

    images: int | None = None
    stated: bool = True


@dataclass(frozen=True)
class TableLine:
    """A row of a section: a method on a set; a measure without a number has None."""

    set: str
    method: str
    origin: Literal["paper", "ours"]
    values: dict[str, Value | None]


@dataclass(frozen=True)
class Section:
    """The rows of one definition."""

    name: SectionName
    measures: tuple[str, ...]
    lines: tuple[TableLine, ...]


@dataclass(frozen=True)
class Contrast:
    """How much one row of ours is above another, paired by image."""

    set: str
    section: SectionName
    measure: str
    method: str
    against: str
    difference: Difference
    images: int


@dataclass(frozen=True)
class MeasuredTable:
    """A printed table with ours beside it."""

    name: str
    printed: PrintedTable
    sections: tuple[Section, ...]
    contrasts: tuple[Contrast, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Everything as plain values, protocols in full."""
        return {
            "table": self.name,
            "paper": self.printed.paper,
            "scale": SCALE,
            "protocols": {name: find_protocol(name).to_json() for name in SCORED_UNDER},
            "sections": [asdict(section) for section in self.sections],
            "contrasts": [plain_row(contrast) for contrast in self.contrasts],
            "notes": [*self.notes, *self.printed.notes],
        }


Scored = dict[str, dict[str, ByProtocol]]
"""Row of ours -> set -> its scores."""


def beside(
    name: str,
    *,
    ours: Sequence[Ours] = (),
    data_root: str | Path | None = None,
    sets: Sequence[str] | None = None,
    weights: Path | None = None,
    out: Path | None = None,
    on_image: Callable[[Score], None] | None = None,
) -> MeasuredTable:
    """The table of that name: the printed rows, and ``ours`` and bicubic measured beside them.

    ours: rows; one that has the name of a printed row stands below it. The first is what the
        others are compared with (a single one is compared with bicubic).
    data_root: the folder of the benchmark sets; without it there are the printed rows alone.
    sets: by default those of the table that ``data_root`` holds.
    weights: the folder of the weights of LPIPS, NIQE and Ma. out: where scores are kept.

    Raises InputError for an unknown table or set and for rows of equal names; and as
    ``edgekeeper.evaluation.evaluate.evaluate``.
    """
    check_choice("table", name, known=PRINTED)
    printed = PRINTED[name]
    labels = [row.name.casefold() for row in ours]
    if len({*labels, BICUBIC.casefold()}) <= len(labels):
        raise InputError("Give each row of ours a name of its own; Bicubic is always measured.")
    if ours and data_root is None:
        raise InputError("Rows of ours need the folder of the benchmark sets, data_root.")
    root = None if data_root is None else Path(data_root)
    chosen = _sets(printed, root=root, asked=sets)
    rows = [Ours(BICUBIC, "bicubic", key="bicubic"), *ours] if root is not None else []
    scored: Scored = {
        row.name: {
            set_name: scores_of(
                row,
                set_name=set_name,
                data_root=Path(root or "."),
                weights=weights,
                out=out,
                on_image=on_image,
            )
            for set_name in chosen
        }
        for row in rows
    }
    shown = printed.sets if sets is None else chosen
    return MeasuredTable(
        name=name,
        printed=printed,
        sections=tuple(
            section
            for part in SECTIONS
            if (section := _section(part, printed, scored=scored, sets=shown)).lines
        ),
        contrasts=tuple(_contrasts(printed, scored, first=ours[0].name if ours else "")),
        notes=tuple(_notes(printed, scored, chosen=chosen)),
    )


def _sets(
    printed: PrintedTable, *, root: Path | None, asked: Sequence[str] | None
) -> tuple[str, ...]:
    for set_name in asked or ():
        if set_name.lower() not in names():
            raise unknown_name("image set", set_name, known=names())
    if asked is not None:
        return tuple(dict.fromkeys(set_name.lower() for set_name in asked))
    if root is None:
        return ()
    folders = {set_name: Path(find_set(set_name).folder) for set_name in printed.sets}
    return tuple(
        set_name
        for set_name, folder in folders.items()
        if (root / folder).is_dir() or (root / folder.name).is_dir()
    )


def _measures(part: SectionName, printed: PrintedTable) -> tuple[str, ...]:
    """Return what a section has columns for: what the table prints of it, and NIQE beside PI."""
    wanted = ("lpips", "pi") if part == "perceptual" else ("psnr", "ssim")
    found = [measure for measure in wanted if measure in printed.measures]
    return (*found, "niqe") if "pi" in found else tuple(found)


def _section(
    part: SectionName, printed: PrintedTable, *, scored: Scored, sets: Sequence[str]
) -> Section:
    """The section's rows, set by set; a row of ours with a printed row's name stands below it."""
    measures = _measures(part, printed)
    own_names = {name.casefold(): name for name in scored}
    in_paper = {method.casefold() for method in printed.rows}
    added = [name for name in scored if name.casefold() not in in_paper]
    first = [name for name in added if name == BICUBIC]
    order = [*first, *printed.rows, *(name for name in added if name not in first)]
    lines: list[TableLine] = []
    for set_name in sets if measures else ():
        for name in order:
            if name in printed.rows:
                lines += _printed(part, printed, method=name, set_name=set_name)
            found = scored.get(own_names.get(name.casefold(), ""), {}).get(set_name)
            if found is not None:
                lines.append(_measured(found, part, measures=measures))
    return Section(part, measures, tuple(lines))


def _printed(
    part: SectionName, printed: PrintedTable, *, method: str, set_name: str
) -> list[TableLine]:
    """Return the printed row, if it belongs to the section; what is not stated stands in both."""
    if set_name not in printed.sets:
        return []
    definition = printed.definition(method, set_name=set_name)
    if part != "perceptual" and definition not in (part, "not stated"):
        return []
    values: dict[str, Value | None] = {}
    for measure in _measures(part, printed):
        found = printed.value(method, set_name=set_name, measure=measure)
        stated = measure != "ssim" or definition != "not stated"
        values[measure] = None if found is None else Value(found, stated=stated)
    return [TableLine(set_name, method, "paper", values)]


def _measured(found: ByProtocol, part: SectionName, *, measures: Sequence[str]) -> TableLine:
    scores = found[SCORED_UNDER[0] if part == "perceptual" else part]
    values = {measure: _value(scores, measure) for measure in measures}
    return TableLine(scores[0].set, scores[0].model, "ours", values)


def _value(scores: Sequence[Score], measure: str) -> Value | None:
    numbers = [value for score in scores if (value := score.value(measure)) is not None]
    if not numbers:
        return None
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return Value(mean, images=len(numbers))
    found = interval(numbers)
    return Value(mean, found.low, found.high, len(numbers))


def _contrasts(printed: PrintedTable, scored: Scored, *, first: str) -> list[Contrast]:
    """Return the other rows against the first, or it against bicubic; in every measure."""
    others = [name for name in scored if name not in (first, BICUBIC)]
    pairs = [(name, first) for name in others] or ([(first, BICUBIC)] if first else [])
    found = []
    for set_name in next(iter(scored.values()), {}):
        for part in SECTIONS:
            protocol = SCORED_UNDER[0] if part == "perceptual" else part
            for measure in _measures(part, printed):
                for name, against in pairs:
                    a, b = (scored[row][set_name][protocol] for row in (name, against))
                    values = _values(a, b, measure=measure)
                    if len(values[0]) < 2 or not all(map(math.isfinite, (*values[0], *values[1]))):
                        continue
                    contrast = Contrast(
                        set=set_name,
                        section=part,
                        measure=measure,
                        method=name,
                        against=against,
                        difference=paired(*values, metric=measure, digits=_FINE[measure]),
                        images=len(values[0]),
                    )
                    found.append(contrast)
    return found


def _values(
    a: Sequence[Score], b: Sequence[Score], *, measure: str
) -> tuple[list[float], list[float]]:
    others = {score.image: score.value(measure) for score in b}
    both = [(score.value(measure), others[score.image]) for score in a]
    known = [(x, y) for x, y in both if x is not None and y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _notes(printed: PrintedTable, scored: Scored, *, chosen: Sequence[str]) -> list[str]:
    missing = [set_name for set_name in printed.sets if set_name not in chosen]
    notes = ["Ours: the mean with its 95 % bootstrap interval over the images of the set."]
    if not scored:
        notes = ["The paper's rows only: ours, bicubic too, need the folder of the sets."]
    elif missing:
        notes.append(f"Not measured here: {', '.join(missing)}.")
    lacking = Counter(
        (metric, reason)
        for by_set in scored.values()
        for by_protocol in by_set.values()
        for score in by_protocol[SCORED_UNDER[0]]
        for metric, reason in score.unavailable
        if metric in _measures("perceptual", printed)
    )
    for (metric, reason), count in lacking.items():
        notes.append(f"{metric.upper()} is unavailable ({count} results). {reason}")
    return notes


# ---- As tables: one for each definition, one for the differences --------------------------------


def as_tables(found: MeasuredTable) -> list[Table]:
    """Return the tables, in the order in which to read them; the notes stand below the last."""
    tables = [_section_table(section, found) for section in found.sections]
    if found.contrasts:
        tables.append(_contrast_table(found))
    source = f"Paper: {found.printed.paper}, Table {found.printed.number}, {found.printed.title}."
    notes = (*tables[-1].notes, source, *found.notes, *found.printed.notes)
    return [*tables[:-1], replace(tables[-1], notes=notes)]


def _section_table(section: Section, found: MeasuredTable) -> Table:
    # As many digits as the paper prints; those of other tables for what it does not print.
    digits = {m: found.printed.decimals(m) or DIGITS[m] for m in section.measures}
    cells = tuple(
        (
            line.set,
            line.method,
            line.origin,
            *(_cell(line, measure, digits=digits[measure]) for measure in section.measures),
        )
        for line in section.lines
    )
    # By which rules the numbers were measured; of the measures that the section has alone.
    known = [text for measure, text in EXPLAINED_MEASURES.items() if measure in section.measures]
    notes = [EXPLAINED.get(section.name, "; ".join(known) + ".")]
    if any(v and not v.stated for line in section.lines for v in line.values.values()):
        notes.append("? the paper does not state which kind of SSIM this is.")
    columns = ("set", "method", "whose", *(f">{titled(measure)}" for measure in section.measures))
    title = f"{found.name}, {HEADINGS[section.name]}"
    return Table(title, columns, cells, tuple(notes), keys=3, names=2)


def _cell(line: TableLine, measure: str, *, digits: int) -> str:
    value = line.values[measure]
    if value is None:
        return "unavailable" if line.origin == "ours" else NOTHING
    if not value.stated:
        return number(value.mean, digits=digits) + "?"
    return with_interval(value, digits=digits)


def _contrast_table(found: MeasuredTable) -> Table:
    columns = ("set", "method", "against", "measure", "definition", ">difference [95 %]")
    cells = tuple(
        (
            each.set,
            each.method,
            each.against,
            TITLES[each.measure],
            each.section,
            with_interval(each.difference, digits=_FINE[each.measure], sign="always"),
            each.difference.verdict,
            str(each.images),
        )
        for each in found.contrasts
    )
    title = f"{found.name}, ours paired by image"
    return Table(title, (*columns, "verdict", ">images"), cells, keys=4)
