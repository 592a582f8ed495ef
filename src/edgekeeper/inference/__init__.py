"""Images, files and folders made larger: read, cut into tiles, run the networks, write.

What the networks do not know is kept here: alpha, grey, 16 bits, metadata. An image flows as bands
of rows from its file to the larger file, so that memory does not grow with its height. Nothing is
printed; progress goes to a callback, and a folder's results come one by one.
"""

from edgekeeper.inference.categories import CategoryMap
from edgekeeper.inference.choose import networks_for
from edgekeeper.inference.files import upscale_file, upscale_files
from edgekeeper.inference.images import upscale_image
from edgekeeper.inference.request import Progress, Request, Result, Step, plan_outputs
from edgekeeper.inference.seams import add_seams, verify_seams
from edgekeeper.ops.tiles import Seams
from edgekeeper.pretrained.zoo import Networks

__all__ = ["CategoryMap", "Networks", "Progress", "Request", "Result", "Seams", "Step"]
__all__ += ["add_seams", "networks_for", "plan_outputs", "upscale_file", "upscale_files"]
__all__ += ["upscale_image", "verify_seams"]
