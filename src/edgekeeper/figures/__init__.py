"""Figures of the gradient variance paper and our own: pictures and numbers in, one file out.

Nothing here runs or trains a network. Pictures are RGB tensors (1, 3, H, W) in [0, 1], all of the
original's size; the ending of the file says the format (.svg, .pdf, .png).
"""

from edgekeeper.figures.comparison import comparison
from edgekeeper.figures.frontier import Point, frontier
from edgekeeper.figures.panels import Box, Panel, structured_box
from edgekeeper.figures.paper import VarianceCurves, crops, gradient_maps, variance_curves

__all__ = [
    "Box",
    "Panel",
    "Point",
    "VarianceCurves",
    "comparison",
    "crops",
    "frontier",
    "gradient_maps",
    "structured_box",
    "variance_curves",
]
