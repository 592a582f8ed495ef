"""Figures of the papers and our own: images and numbers in, one file out.

Images are RGB tensors (1, 3, H, W) in [0, 1], all of the original's size; the extension of the file
says the format (.svg, .pdf, .png). ``rows`` draws images, ``points`` networks, ``curves`` values
along a line or of patches. Only ``subjects`` runs networks: it makes the images that the others
draw. Nothing here trains.
"""

from edgekeeper.figures.curves import (
    STEP,
    EdgeLine,
    Profile,
    VarianceCurves,
    edge,
    profiles_along,
    strongest_line,
    variance_curves,
)
from edgekeeper.figures.images import (
    MEASURES,
    branch_maps,
    check_columns,
    check_measures,
    comparison,
    crops,
    default_measures,
    gradient_maps,
    worst_places,
)
from edgekeeper.figures.points import CostPoint, Point, frontier, quality_cost
from edgekeeper.figures.rows import Panel, Row, structured_box, whole_box
from edgekeeper.ops.box import Box

__all__ = [
    "MEASURES",
    "STEP",
    "Box",
    "CostPoint",
    "EdgeLine",
    "Panel",
    "Point",
    "Profile",
    "Row",
    "VarianceCurves",
    "branch_maps",
    "check_columns",
    "check_measures",
    "comparison",
    "crops",
    "default_measures",
    "edge",
    "frontier",
    "gradient_maps",
    "profiles_along",
    "quality_cost",
    "strongest_line",
    "structured_box",
    "variance_curves",
    "whole_box",
    "worst_places",
]
