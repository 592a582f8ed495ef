"""What only some image files need: other samples and colours, turning, and sentences on damage.

``read`` hands on what is no plain grey or RGB of 8 bits, and what cannot be read.
"""

import re
import shutil
import tempfile
from typing import Any, Literal

import numpy as np
import pyvips
from numpy.typing import NDArray

from edgekeeper.errors import EdgekeeperError, ImageError, InputError, UnavailableError
from edgekeeper.image.formats import FORMATS, SAMPLES, Depth, Format, Pixels, find_format
from edgekeeper.image.metadata import TiffTags

_LAB = ("lab", "labs", "labq")
SAMPLE_KINDS: dict[str, tuple[type[np.generic], Depth]] = {
    "uchar": (np.uint8, 8),
    "ushort": (np.uint16, 16),
    "short": (np.int16, 16),
    "uint": (np.uint32, 16),
    "float": (np.float32, 32),
}
"""libvips' name of the samples that are read -> their type, and the bits that they have here."""

CONVERTED = {
    "short": "took signed numbers of 16 bits, 0 to 32767, as black to white",
    "uint": "rounded 32 bits to 16",
}
"""What is said of samples of these kinds."""

END_OF_JPEG = b"\xff\xd9"
_BEYOND = 1e-3  # floats that were computed may leave [0, 1] by so much
# The end of a sentence on damage, where what is there of a file can be had
CURE = " `edgekeeper upscale --tolerant` takes what is there (in Python: tolerant=True)."
_USED_IN_PART = ("jpeg", "png", "webp", "tiff", "gif", "bmp", "tga", "ppm")
# What libvips and libtiff say of TIFF files that are whole but of a form that they do not read.
_UNSUPPORTED = re.compile(
    r"not supported|not configured|not implemented|only supports|must be 1 for Group|must be either"
    r"|bad labq|not a whole number of bytes|samples out of range|not SGI-compressed"
)


def to_srgb(image: pyvips.Image, *, name: str) -> tuple[pyvips.Image, str]:
    """Return an image that is no plain grey or RGB in sRGB, and a note on it.

    CMYK goes through the file's own profile, or through that of libvips when there is none that
    fits, with black point compensation (ISO 18619): what is black on paper is black here.
    Raises ImageError: other colours, or other samples.
    """
    if image.interpretation in _LAB:
        return image.colourspace("rgb16"), "converted from CIE Lab to sRGB"
    if image.format not in SAMPLE_KINDS:
        raise not_supported(name, f"samples of the kind '{image.format}'")
    if image.interpretation != "cmyk":
        raise ImageError(f"{name} is in '{image.interpretation}'; grey, RGB or CMYK is needed.")
    depth = 16 if image.format == "ushort" else 8
    how = {"embedded": True, "input_profile": "cmyk", "black_point_compensation": True}
    image = image.icc_transform("srgb", depth=depth, **how)
    return image, "converted from CMYK to sRGB"


def turned(image: pyvips.Image, *, frames: int) -> pyvips.Image:
    """Return the frames, which stand below each other, turned upright each."""
    if frames == 1:
        return image.autorot()
    height = image.height // frames
    tops = range(0, image.height, height)
    upright = [image.crop(0, top, image.width, height).autorot() for top in tops]
    return pyvips.Image.arrayjoin(upright, across=1)


def not_supported(name: str, why: str) -> ImageError:
    """Return the error of a file that is whole, but of a form that is not read."""
    return ImageError(
        f"{name} is not supported: {why}. Save it with 8 or 16 bits, or floats of 16 or 32, and "
        "LZW or no compression."
    )


def to_samples(numbers: NDArray[Any], *, kind: str, bits: int, name: str) -> Pixels:
    """Return samples of ours of libvips' ``kind``, or of ``bits`` between 8 and 16 that are used.

    Raises ImageError: floats beyond [0, 1], or numbers below zero.
    """
    match kind:
        case "float":
            check_unit(numbers, name=name, error=ImageError)
            return np.clip(numbers, 0, 1)
        case "short":
            if numbers.min() < 0:
                raise ImageError(
                    f"{name} holds signed numbers down to {numbers.min()}; 0 (black) to 32767 "
                    "(white) are read: add an offset, or save it as unsigned."
                )
            return ((numbers.astype(np.uint32) * 65535 + 16383) // 32767).astype(np.uint16)
        case "uint":
            return ((numbers.astype(np.uint64) + 32768) // 65537).astype(np.uint16)
    top = 2**bits - 1  # full is to be 65535
    exact = numbers.astype(np.uint32) >> (16 - bits)
    return ((exact * 65535 + top // 2) // top).astype(np.uint16)


def check_unit(
    samples: Pixels, *, name: str = "The image", error: type[EdgekeeperError] = InputError
) -> None:
    """Raise ``error`` unless floats lie in [0, 1]."""
    low, high = float(samples.min()), float(samples.max())
    if not (low <= high):
        raise error(f"{name} has values that are no number (NaN); floats must lie in [0, 1].")
    if not (low >= -_BEYOND and high <= 1 + _BEYOND):
        raise error(
            f"{name} has values from {low:g} to {high:g}; floats must lie in [0, 1]: divide by "
            "255, or clip them."
        )


def at_depth(rows: Pixels, form: Format, *, animated: bool) -> Pixels:
    """Return the rows with as many bits as the format has, rounded."""
    rows = rounded(rows, 8 if form.depth == 8 or animated else 16)
    if form.depth != 12:
        return rows
    # libvips cuts the lower four bits off.
    return (((rows.astype(np.uint32) * 4095 + 32767) // 65535) << 4).astype(np.uint16)


def rounded(samples: Pixels, depth: Literal[8, 16]) -> Pixels:
    """Return samples of any kind and shape with so many bits, halves rounded upwards."""
    if samples.dtype == np.float32:
        exact = np.clip(samples.astype(np.float64), 0, 1) * (2**depth - 1)
        nearest: Pixels = np.floor(exact + 0.5).astype(SAMPLES[depth])
        return nearest
    if samples.dtype == SAMPLES[depth]:
        return samples
    if depth == 16:
        return samples.astype(np.uint16) * 257  # 65535 / 255 = 257
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def check_room(image: pyvips.Image, *, name: str) -> None:
    """Raise ImageError if an image that is to be turned cannot be decoded to a temporary file."""
    needed = image.width * image.height * image.bands * (1 if image.format == "uchar" else 2)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > max(free, 10**8):  # up to 100 MB libvips turns in memory
        raise ImageError(
            f"{name} has to be turned, for which '{folder}' needs {needed // 10**6} MB "
            f"and has {free // 10**6}; make room or set TMPDIR to another folder."
        )


def not_readable(head: bytes, *, name: str) -> EdgekeeperError:
    """Return the error of a file that begins with ``head``, of no format that is read."""
    form = FORMATS.get(find_format(head) or "")
    if form is not None and form.pillow:
        return UnavailableError(
            f"{name} is {form.title}, which needs the package pillow: "
            "pip install 'edgekeeper[image]'."
        )
    if form is not None:
        return ImageError(
            f"{name} is {form.title}, which the libvips at hand does not decode; "
            "convert it to PNG, JPEG or AVIF."
        )
    if not head:
        return ImageError(f"{name} is empty (0 bytes).")
    *titles, last = (form.title for form in FORMATS.values() if form.readable)
    return ImageError(f"{name} is not an image (of {', '.join(titles)} and {last}).")


def cure_of(form: str, *, tolerant: bool) -> str:
    """Return the end of a sentence on damage, where what is there of a file can be had."""
    if tolerant or form not in _USED_IN_PART:
        return ""
    return CURE


def damaged(why: str, *, name: str, tags: TiffTags, cure: str) -> ImageError:
    """Return the error of a file that libvips could not decode."""
    if tags.photometric is not None and _UNSUPPORTED.search(why):
        return not_supported(name, why)
    return ImageError(f"{name} cannot be decoded; the file is damaged or cut short ({why}).{cure}")


def page_notes(name: str, *, frames: int, all_wanted: bool) -> tuple[str, ...]:
    """Return notes on what was not taken of several frames, pages or images."""
    if frames < 2:  # libvips does not count those of an AVIF
        return ("took the first frame of an animation",)
    if name in ("avif", "heic"):
        return (f"took the main one of {frames} images",)
    note = f"took the first of {frames} {'pages' if name == 'tiff' else 'frames'}"
    if name == "png" and all_wanted:
        return note, "all frames of a PNG need the package pillow"
    return (note,)


def ended_jpeg(data: bytes) -> bytes | None:
    """Return a JPEG with the end mark that it lacks; None if it has one after all."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data + END_OF_JPEG if data.find(END_OF_JPEG, at) < 0 else None  # not a thumbnail's
