"""The same part of many results, with their numbers.

Figures 1, 4 and 7 of SPSR (Ma et al., CVPR 2020), figure 6 of DGGGAN and figure 3 of the gradient
variance paper (Abrahamyan et al., ICASSP 2022), for any originals and any results.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgekeeper.figures.grid import Cell, Strip, Whole, draw_grid
from edgekeeper.figures.numbers import Number, find_measures, measured
from edgekeeper.figures.panels import ORIGINAL, Row, enlarged_box, in_columns
from edgekeeper.metrics import Protocol, find_protocol


def crops(
    rows: Sequence[Row],
    *,
    path: str | Path,
    numbers: Sequence[str] = (),
    scale: int | None = None,
    protocol: str | Protocol = "y_matlab",
    original: Literal["first", "last"] = "last",
    whole: Literal["shown", "left out"] = "left out",
    per_line: int | None = None,
) -> Path:
    """The file with the same part of each panel and of the original, a row for each original.

    Panels of the same label stand in one column; where a row has none, its place stays empty.
    numbers: names of ``MEASURES``, written below each panel, of the whole images under
    ``protocol`` (which needs ``scale``), the best of each row in bold. whole: the original
    with a frame around the part, left of each row. per_line: panels in a line.
    """
    measures = find_measures(numbers)
    chosen = find_protocol(protocol)
    strips = []
    for row, images in zip(rows, in_columns(rows, first=original == "first"), strict=True):
        part = row.box or enlarged_box(row.hr)
        results = {label: x for label, x in images.items() if label != ORIGINAL}
        columns = [
            measured(measure, list(results.values()), hr=row.hr, protocol=chosen, scale=scale)
            for measure in measures
        ]
        below: dict[str, list[Number | str | None]] = {
            label: [column[k] for column in columns] for k, label in enumerate(results)
        }
        below[ORIGINAL] = [measure.title for measure in measures]
        cells = [
            Cell(label, None if x is None else part.cut(x), below[label])
            for label, x in images.items()
        ]
        strips.append(Strip(cells, row.name, Whole(row.hr, part) if whole == "shown" else None))
    condition = f"numbers of the whole images, protocol {chosen.name}, ×{scale}"
    return draw_grid(strips, path=path, per_line=per_line, note=condition if measures else "")
