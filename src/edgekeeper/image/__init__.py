"""Image files to and from memory: the only place where pixels are integers.

Read: PNG, JPEG, WebP, TIFF, GIF, AVIF, and HEIC and JPEG XL where the libvips at hand has them;
with Pillow BMP, PPM, JPEG 2000, TGA and DDS. Written: PNG, JPEG, WebP, TIFF, AVIF, GIF. Pixels keep
their depth (8 or 16 bits, floats) and their colour space: an ICC profile travels along and is not
applied. Exceptions: a palette is expanded, CMYK and CIE Lab become sRGB, and the EXIF orientation
is applied.
"""

import logging
import os

import pyvips

from edgekeeper.files import Overwrite
from edgekeeper.image.formats import (
    FORMATS,
    MAX_PIXELS,
    READ_SUFFIXES,
    SAMPLES,
    SUFFIXES,
    Animation,
    Header,
    Metadata,
    Pixels,
    SaveOptions,
    as_unit,
    check_image_target,
    format_to_write,
    is_grey,
)
from edgekeeper.image.image import (
    Image,
    alpha_tensor,
    colour_difference,
    from_tensor,
    read_image,
    to_rgb_tensor,
    to_tensor,
    write_image,
)
from edgekeeper.image.listing import NotRead, is_animated, list_images, list_others
from edgekeeper.image.read import open_image
from edgekeeper.image.write import create_image

# Loaders that are not made for the files of strangers: SVG, PDF, raw samples and the like.
pyvips.block_untrusted_set(True)
# At DEBUG pyvips logs images whose repr logs again, inside a handler: two threads with two handlers
# then wait for each other for ever.
if logging.getLogger("pyvips").level == logging.NOTSET:
    logging.getLogger("pyvips").setLevel(logging.INFO)
# pyvips hands what libvips warns of to Python's logging, from within libvips. Garbage collected
# there may make libvips warn again, and GLib ends a process that logs while it logs. Errors are
# raised all the same, and what is only a warning is silent when VIPS_WARNING is set.
if "VIPS_WARNING" in os.environ:
    pyvips._remove_log_handler()

__all__ = ["FORMATS", "MAX_PIXELS", "READ_SUFFIXES", "SAMPLES", "SUFFIXES", "Animation", "Header"]
__all__ += ["Image", "Metadata", "NotRead", "Overwrite", "Pixels", "SaveOptions", "alpha_tensor"]
__all__ += ["as_unit", "check_image_target", "colour_difference", "create_image", "format_to_write"]
__all__ += ["from_tensor", "is_animated", "is_grey", "list_images", "list_others", "open_image"]
__all__ += ["read_image", "to_rgb_tensor", "to_tensor", "write_image"]
