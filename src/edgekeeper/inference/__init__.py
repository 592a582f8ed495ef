"""Images, files and folders made larger: read, cut into tiles, run the networks, write.

What the networks do not know is kept here: alpha, grey, 16 bits, metadata. An image flows as bands
of rows from its file to the larger file, so that memory does not grow with its height. Nothing is
printed; progress goes to a callback, and a folder's results come one by one.
"""

from edgekeeper.inference.batch import (
    FileResult,
    FolderProgress,
    FolderStep,
    Saving,
    upscale_files,
)
from edgekeeper.inference.categories import Categories, CategoryMap, find_maps
from edgekeeper.inference.engine import Report, Settings
from edgekeeper.inference.enlarger import (
    Consistent,
    Drift,
    Ensemble,
    Manner,
    Seams,
    TileError,
    verify_seams,
)
from edgekeeper.inference.files import upscale_file, upscale_folder
from edgekeeper.inference.images import (
    Upscaled,
    upscale,
    upscale_image,
    upscale_with_report,
)
from edgekeeper.inference.memory import Tile
from edgekeeper.inference.network import Choice, choose_precision
from edgekeeper.inference.request import (
    Enlargement,
    Networks,
    Plan,
    choose_passes,
    plan_enlargement,
    remembered,
    shipped_networks,
)

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
    "upscale_image",
    "upscale_with_report",
    "verify_seams",
]
