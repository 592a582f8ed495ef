"""What is known of an image before its pixels, and the formats of files: what they hold.

Formats are told apart by their first bytes, never by the name. What the libvips at hand can read
and write is asked of it when the module is loaded.
"""

import importlib.util
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyvips

from edgekeeper import files
from edgekeeper.errors import ImageError, InputError, unknown_name
from edgekeeper.files import Overwrite

# Samples from 0 to 255, to 65535, or of floats to 1
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]
Depth = Literal[8, 16, 32]  # bits of a sample; 32 are those of a float
# A channel after the colours: alpha, not multiplied into them, or one that is no alpha
Further = Literal["none", "straight", "extra"]
# The type of a sample by its bits
SAMPLES: dict[Depth, type[np.generic]] = {8: np.uint8, 16: np.uint16, 32: np.float32}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says about its pixels: raw blocks, and the density in pixels per millimetre.

    A density of (1.0, 1.0) means that the file states none; it is written as 72 per inch, which
    EXIF 2.32 (4.6.4) prescribes for images of unknown resolution.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    pixels_per_mm: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Animation:
    """How the frames of an image follow each other."""

    delays: tuple[int, ...]  # milliseconds that each frame is shown, one number a frame
    loop: int = 0  # how often all are shown; 0 for ever

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.delays)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of an image before its pixels, upright."""

    height: int  # rows, of one frame
    width: int  # columns
    colours: Literal[1, 3]  # 1 (grey) or 3 (RGB)
    alpha: Further = "none"  # what channel follows the colours
    depth: Depth = 8  # bits per channel; 32 are floats in [0, 1]
    metadata: Metadata = field(default_factory=Metadata)  # what is written back with the pixels
    format: str = ""  # where it came from, one of FORMATS
    # Of several frames, whose rows follow each other; None for one image
    animation: Animation | None = None
    # What was left out or converted on reading, each for the user to read
    notes: tuple[str, ...] = ()

    @property
    def bands(self) -> int:
        """Samples per pixel, the further channel included."""
        return self.colours + (self.alpha != "none")

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return 1 if self.animation is None else self.animation.frames

    @property
    def rows(self) -> int:
        """The rows of all frames."""
        return self.height * self.frames


def full(depth: Depth) -> int:
    """Return the number that stands for white, or opaque."""
    return 1 if depth == 32 else 2**depth - 1


def as_unit(samples: Pixels) -> npt.NDArray[np.float32]:
    """Return the samples as float32 in [0, 1], in memory of their own."""
    if samples.dtype == np.float32:
        return np.array(samples, np.float32)
    return samples.astype(np.float32) / np.float32(255 if samples.dtype == np.uint8 else 65535)


def is_grey(rows: Pixels) -> bool:
    """Return whether red, green and blue of rows (h, W, C) are equal."""
    return bool((rows[..., 1:3] == rows[..., :1]).all())


# ---- Formats of files ----------------------------------------------------------------------------

# Largest image that is kept in memory whole (134 million pixels, 400 MB as 8-bit RGB)
MAX_PIXELS = 2**27
# Largest image that is read or written row by row (4.3 billion pixels, 65536 x 65536)
MAX_STREAMED_PIXELS = 2**32
# Largest image that is turned on reading, as its EXIF orientation says (1.07 billion pixels)
MAX_TURNED_PIXELS = 2**30


@dataclass(frozen=True)
class Format:
    """What a format of files can do."""

    title: str  # its name in sentences
    suffixes: tuple[str, ...]  # file extensions, in lower case
    name: str = ""  # what libvips calls it; empty where it has no loader for it
    pillow: str = ""  # what Pillow calls it, where that may read it instead
    written: bool = True  # whether libvips is asked to write it
    animated: bool = False  # whether all frames of an animation are read and written
    side: int = 10_000_000  # the most pixels on a side
    # The most pixels that are written; fewer where libvips holds the image whole
    pixels: int = MAX_STREAMED_PIXELS
    # The bits per channel that are written at most; 32 are floats
    depth: Literal[8, 12, 16, 32] = 16
    rgb: bool = False  # whether a grey image is written as RGB
    # What can be written after the colours: no transparency, alpha, or any channel
    alpha: Further = "straight"

    @property
    def readable(self) -> bool:
        """Whether the libvips at hand has the loader, or Pillow can be asked."""
        return self.by_libvips or (bool(self.pillow) and has_pillow())

    @property
    def by_libvips(self) -> bool:
        """Whether the libvips at hand has the loader."""
        return bool(pyvips.type_find("VipsOperation", f"{self.name}load_source"))

    @property
    def writable(self) -> bool:
        """Whether the libvips at hand has the saver."""
        return self.written and bool(pyvips.type_find("VipsOperation", f"{self.name}save_target"))


def has_pillow() -> bool:
    """Return whether Pillow is installed."""
    return importlib.util.find_spec("PIL") is not None


# The sides are those of libpng and libjpeg; AVIF's encoder takes about 50 bytes a pixel.
_JPEG, _JP2 = (".jpg", ".jpeg", ".jfif", ".jpe"), (".jp2", ".j2k", ".j2c", ".jpf", ".jpx")
_PPM_SUFFIXES, _AVIF_PIXELS = (".ppm", ".pgm", ".pbm", ".pnm"), 2**26
FORMATS = {
    "png": Format("PNG", (".png",), name="png", animated=True, side=1_000_000),
    "jpeg": Format("JPEG", _JPEG, name="jpeg", side=65500, depth=8, alpha="none"),
    "webp": Format(
        "WebP", (".webp",), "webp", animated=True, side=16383, pixels=MAX_PIXELS, depth=8, rgb=True
    ),
    "tiff": Format("TIFF", (".tif", ".tiff"), name="tiff", depth=32, alpha="extra"),
    "avif": Format("AVIF", (".avif",), "heif", side=16384, pixels=_AVIF_PIXELS, depth=12, rgb=True),
    "gif": Format("GIF", (".gif",), name="gif", animated=True, side=65535, depth=8),
    "heic": Format("HEIC", (".heic", ".heif"), name="heif", written=False),
    "jxl": Format("JPEG XL", (".jxl",), name="jxl", written=False),
    "jp2": Format("JPEG 2000", _JP2, name="jp2k", pillow="JPEG2000", written=False),
    "ppm": Format("PPM", _PPM_SUFFIXES, name="ppm", pillow="PPM", written=False),
    "bmp": Format("BMP", (".bmp", ".dib"), pillow="BMP", written=False),
    "dds": Format("DDS", (".dds",), pillow="DDS", written=False),
    "tga": Format("TGA", (".tga",), pillow="TGA", written=False),
}
"""Every format by its short name."""

# File extensions of the formats that can be written, in lower case
SUFFIXES = tuple(s for form in FORMATS.values() if form.writable for s in form.suffixes)
# File extensions of the formats that can be read, in lower case
READ_SUFFIXES = tuple(s for form in FORMATS.values() if form.readable for s in form.suffixes)
HEAD = 64  # the first bytes of a file by which its format is told
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (8, b"WEBP", "webp"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"II+\x00", "tiff"),  # BigTIFF
    (0, b"MM\x00+", "tiff"),
    (0, b"GIF8", "gif"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
    (0, b"\xff\x4f\xff\x51", "jp2"),  # without its box
    (0, b"DDS ", "dds"),
)
_PPM = re.compile(rb"P[1-6]\s")
_BMP = re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)  # sizes of headers
# TGA has no mark: a map or none and the kind that goes with it, then sizes above 0, depth, flags.
_TGA = re.compile(
    rb".(?:\0[\x02\x03\x0a\x0b]|\x01[\x01\x09])"
    rb".{9}(?!\0\0)..(?!\0\0)..[\x08\x0f\x10\x18\x20][\0-\x3f]",
    re.DOTALL,
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


@dataclass(frozen=True, kw_only=True)
class SaveOptions:
    """How an image is written. Raises InputError."""

    format: str | None = None  # one of the writable FORMATS; None: as the file extension says
    # 1 to 100, for JPEG, WebP and AVIF; at 100 WebP, and AVIF of 8 bits, are lossless
    quality: int = 95
    # "strip" writes no EXIF, XMP, IPTC and density. The ICC profile always stays: without it the
    # numbers would be other colours
    metadata: Literal["keep", "strip"] = "keep"

    def __post_init__(self) -> None:
        writable = [name for name, form in FORMATS.items() if form.writable]
        if self.format is not None and self.format not in writable:
            raise unknown_name("format to write", self.format, known=writable)
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality must be 1 to 100, got {self.quality}.")
        if self.metadata not in ("keep", "strip"):
            raise unknown_name("choice of metadata", self.metadata, known=("keep", "strip"))


_threads_of: int | None = None  # the process whose threads libvips has


def need_threads() -> None:
    """Raise ImageError where libvips' threads were left behind by a fork: it would wait for them.

    To be called before what uses them: writing, turning, WebP, and sums over an image.
    """
    global _threads_of
    if _threads_of not in (None, os.getpid()):
        raise ImageError(
            "This process was forked from one that had worked on images, and libvips' threads do "
            "not survive a fork. Start processes by multiprocessing.get_context('spawn')."
        )
    _threads_of = os.getpid()


def find_format(head: bytes) -> str | None:
    """Return the name of the format of a file that begins with ``head``, else None."""
    for offset, signature, name in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return name
    for name, pattern in (("ppm", _PPM), ("bmp", _BMP), ("tga", _TGA)):
        if pattern.match(head):
            return name
    if head[4:8] != b"ftyp":
        return None
    brands = {head[at : at + 4] for at in range(8, min(len(head), head[3]), 4)}
    if brands & {b"avif", b"avis"}:
        return "avif"
    return "heic" if brands & _HEIC_BRANDS else None


def format_to_write(path: Path, options: SaveOptions) -> str:
    """Return the name of the format that ``path`` is written in. Raises ImageError."""
    if options.format is not None:
        return options.format
    for name, form in FORMATS.items():
        if form.writable and path.suffix.lower() in form.suffixes:
            return name
    ending = f"ends with '{path.suffix}'" if path.suffix else "has no ending"
    raise ImageError(
        f"'{path}' cannot be written: its name {ending}; use one of {', '.join(SUFFIXES)}."
    )


def check_image_target(
    path: Path, *, overwrite: Overwrite = "refuse", options: SaveOptions | None = None
) -> None:
    """Raise the ImageError that ``write_image`` would raise whatever the image."""
    format_to_write(path, options or SaveOptions())
    files.check_target(path, overwrite=overwrite, error=ImageError)


def check_fits(header: Header, *, name: str, form: Format) -> None:
    """Raise ImageError if an image does not fit the format ``form``."""
    side, pixels = max(header.height, header.width), header.height * header.width
    if side > form.side:
        raise ImageError(
            f"{name} would be {side} pixels on a side; {form.title} ends at {form.side}. "
            f"Write {_larger(side, pixels)}."
        )
    if pixels > form.pixels:
        raise ImageError(
            f"{name} would be {header.width} x {header.height} pixels; {form.title} is written up "
            f"to {form.pixels // 10**6} million. Write {_larger(side, pixels)}."
        )
    if form.alpha == "none" and header.alpha == "straight":
        raise ImageError(
            f"{name} cannot be written: {form.title} has no transparency. Write PNG, WebP or TIFF."
        )
    if header.frames > 1 and not form.animated:
        raise ImageError(
            f"{name} cannot be written: {form.title} has one frame. Write GIF, WebP or PNG."
        )
    if header.alpha == "extra" != form.alpha:
        raise ImageError(
            f"{name} cannot be written: only TIFF holds a further channel that is no alpha."
        )


def density_of(exif: bytes) -> tuple[float, float]:
    """Return the density that EXIF says, which libvips does not take of WebP, AVIF and TIFF."""
    image = pyvips.Image.black(1, 1).copy()
    image.set_type(pyvips.GValue.blob_type, "exif-data", exif)
    stated = image.get_typeof("resolution-unit") and image.get("resolution-unit")
    return (image.xres, image.yres) if stated and image.xres and image.yres else (1.0, 1.0)


def write_notes(header: Header, form: Format) -> tuple[str, ...]:
    """Return what of the image's form the format does not keep, each for the user to read."""
    notes = []
    if header.depth > form.depth:
        kind = "floats" if header.depth == 32 else "16 bits"
        bits = f"{form.depth} bits" if header.depth == 32 else form.depth
        notes.append(f"rounded {kind} to {bits}, the most that {form.title} holds")
    if form.title == "GIF":
        notes.append("reduced to 256 colours, the most that a frame of a GIF holds")
    if header.colours == 1 and form.rgb:
        notes.append(f"wrote grey as equal red, green and blue, since {form.title} has no grey")
    return tuple(notes)


def vips_reason(error: OSError | pyvips.Error) -> str:
    """Return the last thing that went wrong, in one line."""
    if isinstance(error, OSError):
        return files.reason(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "unknown reason"


def _larger(side: int, pixels: int) -> str:
    """Return the formats that hold an image of this size."""
    names = [
        form.title
        for form in FORMATS.values()
        if form.writable and side <= form.side and pixels <= form.pixels
    ]
    return " or ".join(names) if names else "it in parts"
