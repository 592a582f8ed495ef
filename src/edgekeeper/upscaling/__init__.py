"""Pictures, files and folders made larger: read, cut into tiles, run the networks, write.

What the networks do not know is kept here: alpha, grey, 16 bits, metadata. A picture flows as bands
of rows from its file to the larger file, so that memory does not grow with its height. Nothing is
printed; progress goes to a callback, and a folder's results come one by one.
"""

from edgekeeper.upscaling.batch import upscale_files
from edgekeeper.upscaling.categories import Categories, CategoryMap, find_maps
from edgekeeper.upscaling.engine import Report, Settings
from edgekeeper.upscaling.enlarger import Consistent, Drift, Ensemble, Manner, TileError
from edgekeeper.upscaling.files import upscale_file, upscale_folder
from edgekeeper.upscaling.memory import Tile
from edgekeeper.upscaling.pictures import (
    Upscaled,
    upscale,
    upscale_picture,
    upscale_with_report,
)
from edgekeeper.upscaling.precision import Choice, choose_precision
from edgekeeper.upscaling.request import (
    Enlargement,
    Networks,
    Plan,
    choose_passes,
    plan_enlargement,
    remembered,
    shipped_networks,
)
from edgekeeper.upscaling.results import (
    FileResult,
    FolderProgress,
    FolderStep,
    Saving,
)
from edgekeeper.upscaling.seams import Seams, verify_seams

__all__ = [
    "Categories",
    "CategoryMap",
    "Choice",
    "Consistent",
    "Drift",
    "Enlargement",
    "Ensemble",
    "FileResult",
    "FolderProgress",
    "FolderStep",
    "Manner",
    "Networks",
    "Plan",
    "Report",
    "Saving",
    "Seams",
    "Settings",
    "Tile",
    "TileError",
    "Upscaled",
    "choose_passes",
    "choose_precision",
    "find_maps",
    "plan_enlargement",
    "remembered",
    "shipped_networks",
    "upscale",
    "upscale_file",
    "upscale_files",
    "upscale_folder",
    "upscale_picture",
    "upscale_with_report",
    "verify_seams",
]
