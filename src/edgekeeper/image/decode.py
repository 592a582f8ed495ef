"""Images of libvips brought to grey or RGB of 8 or 16 bits, and what they say beside the pixels."""

from dataclasses import dataclass
from typing import Any, Literal

import pyvips

from edgekeeper.errors import ImageError
from edgekeeper.image.image import Metadata
from edgekeeper.image.metadata import iptc_records

_PLAIN = ("b-w", "grey16", "srgb", "rgb", "rgb16")
_LAB = ("lab", "labs", "labq")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An image of known form.

    Attributes:
        image: uchar or ushort, grey or RGB, with or without alpha.
        colours: 1 or 3.
        bits: how many of the upper bits of a sample are used; fewer than 16 in AVIF and HEIC.
        profile: the ICC profile that the numbers are in.
        note: what was converted; empty for nothing.
    """

    image: pyvips.Image
    colours: Literal[1, 3]
    bits: int
    profile: bytes | None
    note: str

    @property
    def alpha(self) -> bool:
        """Whether a channel of alpha follows the colours."""
        return bool(self.image.bands > self.colours)


def decode(image: pyvips.Image, *, name: str) -> Decoded:
    """Return the image in a form that the rest of the house knows.

    CMYK and CIE Lab become sRGB; CMYK through the file's own profile, or through that of libvips
    when there is none that fits. RGB and grey keep their numbers, whatever their profile.

    Raises:
        ImageError: there are other channels or samples.
    """
    profile, note = field_of(image, "icc-profile-data", default=None), ""
    depth = 16 if image.format == "ushort" else 8
    if image.interpretation in _LAB:
        image, profile, depth = image.colourspace("rgb16"), None, 16
        note = "converted from CIE Lab to sRGB"
    elif image.format not in ("uchar", "ushort"):
        raise ImageError(
            f"{name} stores its samples as '{image.format}'; convert it to 8 or 16 bits."
        )
    elif image.interpretation == "cmyk":
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
        profile = None  # it described the inks; sRGB needs none
        note = "converted from CMYK to sRGB"
    elif image.interpretation not in _PLAIN:
        raise ImageError(f"{name} is in '{image.interpretation}'; grey, RGB or CMYK is needed.")
    colours = image.bands - 1 if image.hasalpha() else image.bands
    if colours not in (1, 3) or image.bands - colours > 1:
        raise ImageError(f"{name} has {image.bands} channels; grey or RGB is needed.")
    bits = field_of(image, "bits-per-sample", default=depth)
    return Decoded(
        image=image,
        colours=1 if colours == 1 else 3,
        bits=bits if 8 < bits < 16 and depth == 16 else depth,
        profile=profile,
        note=note,
    )


def metadata_of(
    image: pyvips.Image, *, profile: bytes | None, exif: bytes | None, iptc: bytes | None
) -> Metadata:
    """What goes along with the pixels; ``exif`` and ``iptc`` where libvips does not read them."""
    exif = field_of(image, "exif-data", default=exif)
    if iptc is None:
        iptc = iptc_records(field_of(image, "iptc-data", default=b""))
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
    """Return the field ``name`` of the image's header, or ``default``."""
    return image.get(name) if image.get_typeof(name) != 0 else default
