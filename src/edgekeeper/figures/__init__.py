"""Figures of the papers and our own: images and numbers in, one file out.

Images are RGB tensors (1, 3, H, W) in [0, 1], all of the original's size; the extension of the file
says the format (.svg, .pdf, .png). Only ``subjects`` runs networks: it makes the images that the
others draw. Nothing here trains.
"""

from edgekeeper.figures.crops import MEASURES, comparison, crops, default_measures, worst_places
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
from edgekeeper.figures.gradients import BranchRow, branch_maps, gradient_maps
from edgekeeper.figures.panels import Panel, Row, structured_box, whole_box
from edgekeeper.figures.points import CostPoint, Point, frontier, quality_cost
from edgekeeper.ops.box import Box

__all__ = [
    "MEASURES",
    "STEP",
    "Box",
    "BranchRow",
    "CostPoint",
    "EdgeLine",
    "Panel",
    "Point",
    "Profile",
    "Row",
    "VarianceCurves",
    "branch_maps",
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
