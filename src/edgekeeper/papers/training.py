"""A table of a paper, trained and measured anew, cell by cell.

Every cell is a run in its own folder. A finished cell is never trained again, an interrupted one
goes on where it stopped, and its scores are kept beside the network: call ``reproduce`` again
with the same arguments until nothing is left to do. Several processes with the same arguments
share the cells: one takes what no other is training.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from edgekeeper.data.pairs import load_pairs
from edgekeeper.data.store import Store
from edgekeeper.errors import DataError, InputError, check_choice
from edgekeeper.evaluation.compare import paired
from edgekeeper.evaluation.tables import (
    DIGITS,
    TITLES,
    Table,
    number,
    plain_row,
    titled,
    with_interval,
)
from edgekeeper.metrics.protocol import Protocol, find_protocol
from edgekeeper.metrics.statistics import Difference
from edgekeeper.papers.ablations import (
    ABLATION_MEASURES,
    ABLATION_PROTOCOLS,
    ABLATIONS,
    AblationName,
    ablations,
)
from edgekeeper.papers.cells import Ending, Event, Tell, train_cell, trained_cells
from edgekeeper.papers.scored import CellScores, cell_scores
from edgekeeper.pretrained.zoo import find
from edgekeeper.recipes.gv_tables import (
    TABLE2,
    Budget,
    Comparison,
    Degradation,
    Scale,
    TableName,
    comparisons,
)
from edgekeeper.training.recipe import Recipe

Scores = dict[str, dict[str, CellScores]]
"""Cell -> set -> the numbers of its images, in the order of the set."""
REPRODUCED_MEASURES: tuple[str, ...] = ("psnr", "ssim", "gv_gap")  # of the gradient variance tables
PAPER_PROTOCOL = "gv_repo"


@dataclass(frozen=True)
class ReproducedRow:
    """One comparison on one set by one measure, and what the paper prints for it (or None).

    ``difference`` is with minus without the term, with its 95 % bootstrap interval over images
    (and over seeds, where there are several).
    """

    set: str
    network: str
    scale: int
    base: str
    term: str
    measure: str
    without: float
    added: float
    difference: Difference
    images: int
    seeds: int
    paper_without: float | None
    paper_added: float | None
    paper_difference: float | None
    note: str


@dataclass(frozen=True)
class ReproducedTable:
    """The rows that can be given so far, the conditions, and the cells that are still to do."""

    table: TableName | AblationName
    budget: Budget
    protocol: Protocol
    store: str
    status: Literal["complete", "time limit", "interrupted"]
    rows: tuple[ReproducedRow, ...]
    unfinished: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Everything as plain values."""
        plain = {**vars(self), "protocol": self.protocol.to_json()}
        return plain | {"rows": [plain_row(row) for row in self.rows]}


def reproduce(
    table: TableName | AblationName,
    *,
    store: Store,
    data_root: str | Path,
    out: str | Path,
    budget: Budget = "standard",
    networks: Sequence[str] | None = None,
    scales: Sequence[Scale] | None = None,
    seeds: Sequence[int] = (0,),
    sets: Sequence[str] = ("set5", "set14"),
    protocol: str | Protocol | None = None,
    weights: Path | None = None,
    start: Path | None = None,
    device: str = "cpu",
    time_limit: float | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> ReproducedTable:
    """Return the table as far as it is done: all of it, or what ``time_limit`` seconds allowed.

    Network, log and scores of a cell lie in ``out/<cell>/``. The LR images of ``store`` must
    have been made as ``protocol``, by default the paper's, has those of the test sets made.
    ``weights`` is the folder of LPIPS, NIQE and Ma, ``start`` the trained network from which the
    cells of the ablations begin that do not begin from one that ships.
    Raises InputError: an unknown table, budget, network or scale; a seed given twice. DataError:
    the LR images of the store do not suit the protocol, or a set is missing. CheckpointError: a
    cell in ``out`` belongs to another store or to other settings.
    """
    _check(table, budget=budget, sets=sets, seeds=seeds)
    chosen = find_protocol(protocol or paper_protocol(table))
    kernel = _degradation(chosen, store=store)
    measures = ABLATION_MEASURES if table in ABLATIONS else REPRODUCED_MEASURES
    if table == "gv_table1" or table == "gv_table2":
        compared = comparisons(
            table, budget=budget, networks=networks, scales=scales, seeds=seeds, degradation=kernel
        )
    else:
        if scales:
            raise InputError(f"{table} is at x4: scales are not for it.")
        compared = ablations(table, budget=budget, seeds=seeds, designs=networks)
    for set_name in sets:  # a missing set should show before hours of training
        for scale in sorted({each.scale for each in compared}):
            load_pairs(set_name, scale=scale, root=data_root)
    pairs = [pair for each in compared for pair in zip(each.without, each.added, strict=True)]
    cells = list({recipe.name: recipe for pair in pairs for recipe in pair}.values())
    until = math.inf if time_limit is None else time.monotonic() + time_limit
    scores: Scores = {}
    status: Literal["complete", "time limit", "interrupted"] = "complete"
    score = partial(
        cell_scores,
        measures=measures,
        protocol=chosen,
        data_root=Path(data_root),
        weights=weights,
        device=device,
    )

    def train_one(recipe: Recipe, tell: Tell) -> Ending:
        folder = Path(out) / recipe.name
        begin = None if recipe.start is None else start or find(recipe.start.recipe)
        return train_cell(
            recipe, store, folder=folder, start=begin, device=device, until=until, tell=tell
        )

    for recipe, tell, ended in trained_cells(cells, train_one, on_event=on_event):
        if ended != "finished":
            tell("stopped")
            status = ended
            break
        folder = Path(out) / recipe.name
        scores[recipe.name] = {name: score(folder, name, tell=tell) for name in sets}
    return ReproducedTable(
        table=table,
        budget=budget,
        protocol=chosen,
        store=store.fingerprint,
        status=status,
        rows=tuple(
            row
            for each in compared
            for set_name in sets
            for measure in measures
            for row in _rows(each, scores, set_name=set_name, measure=measure)
        ),
        unfinished=tuple(cell.name for cell in cells if cell.name not in scores),
        notes=(
            *_notes(table, budget=budget, protocol=chosen, seeds=len(seeds)),
            *dict.fromkeys(x for of in scores.values() for each in of.values() for x in each.notes),
        ),
    )


def paper_protocol(table: str) -> str:
    """Return the protocol of the printed numbers of a table that is trained."""
    return ABLATION_PROTOCOLS.get(table, PAPER_PROTOCOL)


def _check(table: str, *, budget: Budget, sets: Sequence[str], seeds: Sequence[int]) -> None:
    tables = (*get_args(TableName), *ABLATIONS)
    for kind, name, known in (("table", table, tables), ("budget", budget, get_args(Budget))):
        check_choice(kind, name, known=known)
    if len({Path(set_name).name for set_name in sets}) < max(1, len(sets)):
        raise InputError(f"sets is {tuple(sets)}; give one or more sets of different names.")
    if len(set(seeds)) < max(1, len(seeds)):
        raise InputError(f"seeds is {tuple(seeds)}; give one or more different whole numbers.")


def _degradation(protocol: Protocol, *, store: Store) -> Degradation:
    bilinear = protocol.lr == "pillow_bilinear"
    wanted = ("pillow_bilinear",) if bilinear else ("matlab_uint8", "matlab_float")
    if store.lr_kernel not in wanted:
        raise DataError(
            f"The LR images of the store '{store.path}' were made by '{store.lr_kernel}', but "
            f"protocol '{protocol.name}' tests on LR made by '{protocol.lr}'. Prepare a store "
            f"with the LR kernel '{wanted[0]}', or choose another protocol."
        )
    return "bilinear" if bilinear else "bicubic"


def _rows(
    compared: Comparison, scores: Scores, *, set_name: str, measure: str
) -> list[ReproducedRow]:
    """Return the row, none while a cell is to be done or where the measure is unavailable."""
    cells = (*compared.without, *compared.added)
    if any(
        recipe.name not in scores or not scores[recipe.name][set_name].has(measure)
        for recipe in cells
    ):
        return []
    without, added = (
        np.array([scores[recipe.name][set_name].values[measure] for recipe in recipes], float)
        for recipes in (compared.without, compared.added)
    )  # (seeds, images)
    printed = compared.printed.get(set_name.lower())
    paper = getattr(printed, measure, None)
    return [
        ReproducedRow(
            set=Path(set_name).name,
            network=compared.network,
            scale=compared.scale,
            base=compared.base,
            term=compared.term,
            measure=measure,
            without=float(without.mean()),
            added=float(added.mean()),
            difference=paired(added, without, metric=measure),
            images=without.shape[1],
            seeds=without.shape[0],
            paper_without=paper[0] if paper else None,
            paper_added=paper[1] if paper else None,
            paper_difference=paper[1] - paper[0] if paper else None,
            note=printed.note if printed and paper else "",
        )
    ]


def _notes(table: str, *, budget: Budget, protocol: Protocol, seeds: int) -> tuple[str, ...]:
    notes = [f"Measured under protocol '{protocol.name}'; intervals are 95 %, paired by image."]
    if protocol.name != paper_protocol(table):
        notes.append(
            f"The paper's numbers were measured under '{paper_protocol(table)}': compare its "
            "differences with ours in sign only."
        )
    if budget != "paper":
        notes.append(f"Budget '{budget}': trained shorter or otherwise than in the paper.")
    if table in ABLATIONS and budget != "paper":
        notes.append("Smaller networks on another store too: not the paper's numbers, by far.")
    if seeds == 1:
        notes.append("One seed: the intervals say nothing about chance in training.")
    if table == "gv_table2":
        differences = ", ".join(
            f"{base.upper()}+{str(added).upper()} {printed.psnr[1] - printed.psnr[0]:+.2f}"
            for (_, base, added), printed in TABLE2.items()
            if printed.psnr
        )
        notes.append(
            "The paper's Table 2 is on DIV2K ×2 (set 'div2k_valid'); for other sets it has no "
            f"numbers. Its differences in dB: {differences}."
        )
    return tuple(notes)


def reproduction_table(found: ReproducedTable) -> Table:
    """Return ours and the paper's numbers side by side.

    Ours carries the difference with its interval; one whose interval holds 0 is said to be
    "not distinguishable". The paper's numbers stand in columns of their own.
    """
    columns = (
        *("set", "network", "loss", "measure", ">without", ">with", ">difference [95 %]"),
        *("verdict", ">paper: without", ">paper: with", ">paper: difference"),
    )
    cells = []
    for row in found.rows:
        digits = DIGITS[row.measure]
        cells.append(
            (
                row.set,
                f"{row.network} ×{row.scale}",
                f"{row.base} + {row.term}",
                TITLES[row.measure],
                number(row.without, digits=digits),
                number(row.added, digits=digits),
                with_interval(row.difference, digits=digits, sign="always"),
                row.difference.verdict,
                number(row.paper_without, digits=digits),
                number(row.paper_added, digits=digits),
                number(row.paper_difference, digits=digits, sign="always"),
            )
        )
    odd = dict.fromkeys(
        f"Paper, {row.set} {row.network} ×{row.scale}: {row.note}."
        for row in found.rows
        if row.note
    )
    best = ", ".join(map(titled, dict.fromkeys(row.measure for row in found.rows)))
    theirs = paper_protocol(found.table)
    legend = f"Ours under protocol '{found.protocol.name}' ({best}); the paper's under '{theirs}'."
    title = f"{found.table.replace('_', '-')}, budget {found.budget}"
    return Table(title, columns, tuple(cells), (legend, *found.notes, *odd), keys=4)
