"""The tables of the papers, ours beside the printed numbers.

``training`` trains and measures the cells of the gradient variance paper's tables. ``measured``
puts any networks or folders of results beside the rows of SPSR's and DGGGAN's tables, which
``printed`` holds and ``layout`` shows. ``costs`` counts what DGGGAN's Table 5 prints.
"""

from edgekeeper.reproduce.costs import CostRow, costs_as_json, costs_as_table, table5
from edgekeeper.reproduce.layout import as_tables
from edgekeeper.reproduce.measured import MeasuredTable, beside
from edgekeeper.reproduce.printed import PRINTED, PrintedTable
from edgekeeper.reproduce.quoted import Quoted, quoted_networks
from edgekeeper.reproduce.scored import Ours, files_key
from edgekeeper.reproduce.shapes import shapes_of
from edgekeeper.reproduce.training import Event, ReproducedTable, Row, reproduce

__all__ = [
    "PRINTED",
    "CostRow",
    "Event",
    "MeasuredTable",
    "Ours",
    "PrintedTable",
    "Quoted",
    "ReproducedTable",
    "Row",
    "as_tables",
    "beside",
    "costs_as_json",
    "costs_as_table",
    "files_key",
    "quoted_networks",
    "reproduce",
    "shapes_of",
    "table5",
]
