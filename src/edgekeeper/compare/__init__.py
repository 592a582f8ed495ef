"""Two networks, or two folders of results, compared picture by picture.

found = compare("bicubic", model, sets=["set14"], scale=4, data_root=folder)
for row in found.rows:
    print(row.set, row.metric, row.difference, row.verdict)

Differences are b - a: ``a`` is what one has, ``b`` what is judged.
"""

from edgekeeper.compare.paired import PairedComparison, Row, Subject, compare
from edgekeeper.compare.places import Place
from edgekeeper.compare.report import comparison_table, draw_places, worst_table, write_comparison

__all__ = [
    "PairedComparison",
    "Place",
    "Row",
    "Subject",
    "compare",
    "comparison_table",
    "draw_places",
    "worst_table",
    "write_comparison",
]
