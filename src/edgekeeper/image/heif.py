"""HEIC, a phone's photographs, by the extra ``heif``: libvips' own build has no decoder for it."""

from typing import BinaryIO

import numpy as np
import pyvips

from edgekeeper.errors import ImageError


def load_heif(file: BinaryIO, *, name: str, limit: int) -> pyvips.Image:
    """Return the first image of an HEIC file, upright, 8 or 16 bits, with profile and EXIF.

    Raises ImageError when it is damaged, has more than ``limit`` pixels, or without the extra.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(
            f"{name} is HEIC, which needs pillow-heif: pip install 'edgekeeper[heif]'. "
            "Or convert it to PNG, JPEG or AVIF."
        ) from error
    try:
        found = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
        if found.size[0] * found.size[1] > limit:
            raise ImageError(
                f"{name} is {found.size[0]} x {found.size[1]} pixels; of HEIC at most "
                f"{limit // 10**6} million are read."
            )
        pixels = np.array(found)
    except (ValueError, OSError, EOFError, RuntimeError, SyntaxError) as error:
        raise ImageError(f"{name} cannot be decoded; the file is damaged or cut short.") from error
    pillow_heif.set_orientation(found.info)  # the pixels are upright already
    image = pyvips.Image.new_from_array(pixels)
    kinds = ("rgb16", "grey16") if pixels.dtype == np.uint16 else ("srgb", "b-w")
    # In libvips' own memory: a region of it outlives the array.
    image = image.copy(interpretation=kinds[image.bands < 3]).copy_memory()
    for key, stored in (("exif-data", "exif"), ("icc-profile-data", "icc_profile")):
        if found.info.get(stored):
            image.set_type(pyvips.GValue.blob_type, key, found.info[stored])
    return image
