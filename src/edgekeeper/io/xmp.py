"""XMP: what it repeats of EXIF about the pixels, set right.

The packet stays as it is but for a few numbers, which stand as attributes or as elements
(XMP specification part 1, 7.9.2.2; part 2, 3.3 and 3.4).
"""

import re


def settled_xmp(xmp: bytes, *, size: tuple[int, int]) -> bytes:
    """The XMP of an upright picture of ``size`` (H, W): orientation 1, the sizes as they are."""
    numbers = {
        b"tiff:Orientation": 1,
        b"tiff:ImageWidth": size[1],
        b"tiff:ImageLength": size[0],
        b"exif:PixelXDimension": size[1],
        b"exif:PixelYDimension": size[0],
    }
    for name, number in numbers.items():
        value = str(number).encode()
        xmp = re.sub(rb"\b" + name + rb"(\s*=\s*[\"'])\d+", name + rb"\g<1>" + value, xmp)
        xmp = re.sub(rb"(<" + name + rb"\s*>\s*)\d+", rb"\g<1>" + value, xmp)
    return xmp
