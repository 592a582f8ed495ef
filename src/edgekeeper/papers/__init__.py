"""The tables of the papers, ours beside the printed numbers.

``training`` trains and measures the cells of the gradient variance paper's tables. ``measured``
puts any networks or folders of results beside the rows of SPSR's and DGGGAN's tables, which
``printed`` holds. ``costs`` counts what DGGGAN's Table 5 prints. ``frontier`` is no paper's:
structure terms against fidelity.
"""

from edgekeeper.papers.costs import CostRow, costs_as_json, costs_as_table, shapes_of, table5
from edgekeeper.papers.frontier import Frontier, frontier_table, structure_frontier
from edgekeeper.papers.measured import MeasuredTable, as_tables, beside
from edgekeeper.papers.printed import PRINTED, PrintedTable, Quoted, quoted_networks
from edgekeeper.papers.scored import Ours, files_key
from edgekeeper.papers.speedrun import run_speedrun, speedrun_table
from edgekeeper.papers.training import (
    Event,
    ReproducedRow,
    ReproducedTable,
    reproduce,
    reproduction_table,
)

__all__ = [
    "PRINTED",
    "CostRow",
    "Event",
    "Frontier",
    "MeasuredTable",
    "Ours",
    "PrintedTable",
    "Quoted",
    "ReproducedRow",
    "ReproducedTable",
    "as_tables",
    "beside",
    "costs_as_json",
    "costs_as_table",
    "files_key",
    "frontier_table",
    "quoted_networks",
    "reproduce",
    "reproduction_table",
    "run_speedrun",
    "shapes_of",
    "speedrun_table",
    "structure_frontier",
    "table5",
]
