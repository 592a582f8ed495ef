"""What libvips decoded, as samples of ours: grey or RGB of 8 bits, 16 bits, or floats to 1."""

from typing import Any, Literal, NamedTuple

import numpy as np
import pyvips

from edgekeeper.errors import EdgekeeperError, ImageError, InputError
from edgekeeper.image.formats import Format
from edgekeeper.image.header import (
    SAMPLES,
    Depth,
    Further,
    Metadata,
    Pixels,
)
from edgekeeper.image.metadata import TiffTags, iptc_records

_PLAIN = ("b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb")
_LAB = ("lab", "labs", "labq")
# libvips' name of the samples -> their type, and the bits that they have here.
_KINDS: dict[str, tuple[type[np.generic], Depth]] = {
    "uchar": (np.uint8, 8),
    "ushort": (np.uint16, 16),
    "short": (np.int16, 16),
    "uint": (np.uint32, 16),
    "float": (np.float32, 32),
}
_CONVERTED = {
    "short": "took signed numbers of 16 bits, 0 to 32767, as black to white",
    "uint": "rounded 32 bits to 16",
}
_BEYOND = 1e-3  # floats that were computed may leave [0, 1] by so much


class Decoded(NamedTuple):
    """An image as libvips gives it, grey or RGB, with or without a further channel.

    Attributes:
        bits: how many of the upper bits of 16 are used; fewer than 16 in AVIF and HEIC.
        depth: bits of a sample as ``to_samples`` gives it.
        profile: the ICC profile that the numbers are in.
        note: what was converted; empty for nothing.
    """

    image: pyvips.Image
    colours: Literal[1, 3]
    further: Further
    bits: int
    depth: Depth
    profile: bytes | None
    note: str


def decode(image: pyvips.Image, *, name: str, tags: TiffTags) -> Decoded:
    """Return the image in grey or RGB; raises ImageError for other channels or samples.

    CMYK and CIE Lab become sRGB; CMYK through the file's own profile, or through that of libvips
    when there is none that fits. RGB and grey keep their numbers, whatever their profile.
    """
    profile, note = field_of(image, "icc-profile-data", default=None), ""
    if image.interpretation in _LAB:
        image, profile = image.colourspace("rgb16"), None
        note = "converted from CIE Lab to sRGB"
    elif image.format not in _KINDS:
        raise not_supported(name, tags.form or f"samples of the kind '{image.format}'")
    elif image.interpretation == "cmyk":
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
        profile = None  # it described the inks; sRGB needs none
        note = "converted from CMYK to sRGB"
    elif image.interpretation not in _PLAIN:
        raise ImageError(f"{name} is in '{image.interpretation}'; grey, RGB or CMYK is needed.")
    colours = image.bands - 1 if image.hasalpha() else image.bands
    if colours not in (1, 3) or image.bands - colours > 1:
        raise ImageError(
            f"{name} has {image.bands} channels; grey or RGB is needed, with one more at most."
        )
    depth = _KINDS[image.format][1]
    bits = field_of(image, "bits-per-sample", default=depth)
    return Decoded(
        image=image,
        colours=1 if colours == 1 else 3,
        further="none" if image.bands == colours else tags.further,
        bits=bits if 8 < bits < 16 and image.format == "ushort" else depth,
        depth=depth,
        profile=profile,
        note=note or _CONVERTED.get(image.format, ""),
    )


def not_supported(name: str, form: str) -> ImageError:
    """Return the error of a file that is whole, but of a form that is not read."""
    return ImageError(
        f"{name} is not supported: {form}. Save it with 8 or 16 bits, or floats of 16 or 32, and "
        "LZW or no compression."
    )


def to_samples(data: bytes, *, kind: str, bits: int, name: str) -> Pixels:
    """Return the samples of libvips' ``kind`` that ``data`` holds, in one dimension.

    Raises:
        ImageError: floats beyond [0, 1], or numbers below zero.
    """
    numbers = np.frombuffer(data, _KINDS[kind][0])
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
    if bits in (8, 16):
        return numbers
    top = 2**bits - 1  # full is to be 65535
    exact = numbers.astype(np.uint32) >> (16 - bits)
    return ((exact * 65535 + top // 2) // top).astype(np.uint16)


def is_grey(rows: Pixels) -> bool:
    """Return whether red, green and blue of rows (h, W, C) are equal."""
    return bool((rows[..., 1:3] == rows[..., :1]).all())


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


def metadata_of(image: pyvips.Image, *, profile: bytes | None, tags: TiffTags) -> Metadata:
    """Return what goes along with the pixels; ``tags`` where libvips does not read it."""
    exif, iptc = field_of(image, "exif-data", default=tags.exif), tags.iptc
    captions = field_of(image, "iptc-data", default=None)
    if iptc is None and captions:
        iptc = iptc_records(captions)
    density = (image.xres, image.yres)
    if density == (1.0, 1.0) and exif is not None:
        # libvips reads the EXIF of WebP, AVIF and TIFF without taking the density from it.
        other = pyvips.Image.black(1, 1).copy()
        other.set_type(pyvips.GValue.blob_type, "exif-data", exif)
        if field_of(other, "resolution-unit", default=None) and other.xres and other.yres:
            density = (other.xres, other.yres)
    return Metadata(
        icc=profile,
        exif=exif,
        xmp=field_of(image, "xmp-data", default=None),
        iptc=iptc,
        pixels_per_mm=density,
    )


def field_of(image: pyvips.Image, name: str, *, default: Any) -> Any:
    """Return a field of libvips' image, or the default where there is none."""
    return image.get(name) if image.get_typeof(name) != 0 else default
