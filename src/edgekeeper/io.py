"""Picture files to and from memory: the only place where pixels are integers.

Read: PNG, JPEG, WebP, TIFF, GIF, AVIF. Written: PNG, JPEG, WebP, TIFF. Pixels keep their depth
(8 or 16 bits) and their colour space: an ICC profile travels along and is not applied.
Exceptions: a palette is expanded, CMYK becomes sRGB, and the EXIF orientation is applied.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pyvips
import torch
from torch import Tensor

from edgekeeper.errors import InputError, PictureError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""Integer samples, 0 to 255 or 0 to 65535."""

MAX_PIXELS = 2**27
"""Largest picture that is read whole (134 million pixels, 400 MB as 8-bit RGB)."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""File name endings of the formats that can be written, in lower case."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says about its pixels: raw blocks, and the density in pixels per millimetre."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    pixels_per_mm: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded picture, upright.

    Attributes:
        pixels: (H, W, C), uint8 or uint16, C = 1 (grey) or 3 (RGB), not multiplied by alpha.
        alpha: (H, W) of the same type, 0 is transparent; None when the file has no alpha.
        metadata: what is written back with the pixels.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape, depth = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise InputError(f"Picture pixels must be (H, W, 1) or (H, W, 3), got {shape}.")
        if depth not in (np.uint8, np.uint16):
            raise InputError(f"Picture pixels must be uint8 or uint16, got {depth}.")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != depth):
            raise InputError(
                f"Alpha must be {shape[:2]} of {depth} like the pixels, "
                f"got {self.alpha.shape} of {self.alpha.dtype}."
            )

    @property
    def depth(self) -> Literal[8, 16]:
        """Bits per channel."""
        return 8 if self.pixels.dtype == np.uint8 else 16


# Formats are told apart by their first bytes, never by the name: (offset, bytes, libvips loader).
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "pngload_source"),
    (0, b"\xff\xd8\xff", "jpegload_source"),
    (8, b"WEBP", "webpload_source"),
    (0, b"II*\x00", "tiffload_source"),
    (0, b"MM\x00*", "tiffload_source"),
    (0, b"II+\x00", "tiffload_source"),  # BigTIFF
    (0, b"MM\x00+", "tiffload_source"),
    (0, b"GIF8", "gifload_source"),
    (4, b"ftypavif", "heifload_source"),
    (4, b"ftypmif1", "heifload_source"),
)


def read_picture(path: str | Path) -> Picture:
    """The picture in the file ``path``, upright, at the depth and in the colours of the file.

    Raises:
        PictureError: the file is missing, empty, damaged, cut short, not a picture, an animation,
            of another depth than 8 or 16 bits, or larger than ``MAX_PIXELS``.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            loader = _loader(path, file)
            source = pyvips.Source.new_from_descriptor(file.fileno())
            return _decode(path, getattr(pyvips.Image, loader), source)
    except OSError as error:
        raise PictureError(f"'{path}' cannot be opened: {_reason(error)}.") from error
    except pyvips.Error as error:
        raise PictureError(
            f"'{path}' cannot be decoded; the file is damaged or cut short ({_reason(error)})."
        ) from error


def write_picture(
    picture: Picture,
    path: str | Path,
    *,
    overwrite: Literal["refuse", "replace"] = "refuse",
    quality: int = 95,
) -> None:
    """Nothing; the file ``path`` holds ``picture``, in the format that its name ends with.

    The file appears whole or not at all. ``quality`` (1 to 100) is for JPEG and WebP; PNG and TIFF
    are lossless, and so is WebP at 100. JPEG and WebP round 16 bits to 8; WebP makes grey RGB;
    TIFF keeps no EXIF.

    Raises:
        InputError: ``quality`` is out of range.
        PictureError: the ending is unknown, the format cannot hold the picture, the file exists,
            or it cannot be written, for example because the disk is full.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, quality=quality)
    check_fits(picture, path)
    suffix = path.suffix.lower()
    if suffix in (".jpg", ".jpeg", ".webp") and picture.depth == 16:
        picture = _to_8_bits(picture)
    if suffix in (".jpg", ".jpeg"):
        picture = replace(picture, alpha=None)  # opaque: check_fits saw to it
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("x+b", buffering=0) as file:
            try:
                _encode(picture, suffix, file, quality=quality)
            except pyvips.Error:
                file.write(bytes(2**16))  # libvips does not tell why; this raises "no space left"
                raise
        check_target(path, overwrite=overwrite, quality=quality)
        temporary.replace(path)
    except (OSError, pyvips.Error) as error:
        raise PictureError(f"'{path}' cannot be written: {_reason(error)}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_target(
    path: Path, *, overwrite: Literal["refuse", "replace"] = "refuse", quality: int = 95
) -> None:
    """Nothing; raise the error that ``write_picture`` would raise whatever the picture."""
    if not 1 <= quality <= 100:
        raise InputError(f"quality must be 1 to 100, got {quality}.")
    if path.suffix.lower() not in SUFFIXES:
        raise PictureError(
            f"'{path}' cannot be written: its name ends with '{path.suffix}'; "
            f"use one of {', '.join(SUFFIXES)}."
        )
    if not path.parent.is_dir():
        raise PictureError(f"'{path}' cannot be written: there is no folder '{path.parent}'.")
    if overwrite == "refuse" and path.exists():
        raise PictureError(f"'{path}' exists already; choose another name or allow overwriting.")


def check_fits(picture: Picture, path: Path, *, scale: int = 1) -> None:
    """Nothing; raise PictureError if ``picture``, enlarged, does not fit the format of ``path``."""
    suffix = path.suffix.lower()
    side = max(picture.pixels.shape[:2]) * scale
    limit = {".jpg": 65535, ".jpeg": 65535, ".webp": 16383}.get(suffix, side)
    if side > limit:
        raise PictureError(
            f"'{path}' would be {side} pixels on a side; its format ends at {limit}. "
            "Write PNG or TIFF."
        )
    transparent = picture.alpha is not None and bool(
        (picture.alpha != np.iinfo(picture.alpha.dtype).max).any()
    )
    if transparent and suffix in (".jpg", ".jpeg"):
        raise PictureError(
            f"'{path}' cannot be written: JPEG has no transparency. Write PNG, WebP or TIFF."
        )


def list_pictures(folder: str | Path, *, depth: Literal["folder", "tree"] = "folder") -> list[Path]:
    """The picture files in ``folder`` (and below it for "tree"), sorted, by their endings.

    Hidden files and folders are left out.

    Raises:
        PictureError: there is no such folder, or it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PictureError(f"'{folder}' is not a folder.")

    def stop(error: OSError) -> None:
        raise PictureError(f"'{error.filename}' cannot be read: {_reason(error)}.") from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if depth == "tree" and not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def to_tensor(picture: Picture) -> Tensor:
    """The pixels as float32 (1, C, H, W) in [0, 1], C = 1 or 3 as stored; alpha is left out."""
    return _plane_tensor(picture.pixels)


def to_rgb_tensor(picture: Picture) -> Tensor:
    """The pixels as float32 RGB (1, 3, H, W) in [0, 1]; a grey picture is repeated three times."""
    tensor = to_tensor(picture)
    return tensor if tensor.shape[1] == 3 else tensor.repeat(1, 3, 1, 1)


def alpha_tensor(picture: Picture) -> Tensor:
    """The alpha as float32 (1, 1, H, W) in [0, 1], 0 is transparent.

    Raises:
        InputError: the picture has no alpha.
    """
    if picture.alpha is None:
        raise InputError("The picture has no alpha.")
    return _plane_tensor(picture.alpha[..., None])


def from_tensor(tensor: Tensor, *, depth: Literal[8, 16] = 8) -> Pixels:
    """The pixels (H, W, C), uint8 or uint16, of one picture (1, C, H, W), clipped to [0, 1].

    Halves are rounded away from zero. The product is taken in float64, where it is exact.

    Raises:
        InputError: the tensor is not one picture of floats, or holds a NaN or an infinity.
    """
    if tensor.ndim != 4 or tensor.shape[0] != 1 or not tensor.is_floating_point():
        raise InputError(
            f"from_tensor takes one float picture (1, C, H, W), "
            f"got {tuple(tensor.shape)} of {tensor.dtype}."
        )
    if not bool(torch.isfinite(tensor).all()):
        raise InputError("The picture holds values that are not finite (NaN or infinity).")
    exact = tensor.detach()[0].permute(1, 2, 0).cpu().double().clamp(0, 1)
    rounded = torch.floor(exact * (2**depth - 1) + 0.5).numpy()
    return rounded.astype(np.uint8) if depth == 8 else rounded.astype(np.uint16)


def _plane_tensor(samples: Pixels) -> Tensor:
    unit = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    return torch.from_numpy(unit).permute(2, 0, 1)[None].contiguous()


def _to_8_bits(picture: Picture) -> Picture:
    def shrink(samples: Pixels) -> Pixels:
        return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257

    alpha = None if picture.alpha is None else shrink(picture.alpha)
    return replace(picture, pixels=shrink(picture.pixels), alpha=alpha)


def _loader(path: Path, file: BinaryIO) -> str:
    head = file.read(16)
    file.seek(0)
    if not head:
        raise PictureError(f"'{path}' is empty (0 bytes).")
    for offset, signature, loader in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return loader
    raise PictureError(f"'{path}' is not a picture (of PNG, JPEG, WebP, TIFF, GIF and AVIF).")


def _decode(path: Path, load: Callable[..., pyvips.Image], source: pyvips.Source) -> Picture:
    image = load(source, access="sequential", fail_on="error")
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(
            f"'{path}' is {image.width} x {image.height} pixels; "
            f"at most {MAX_PIXELS // 10**6} million are read. Cut it into parts first."
        )
    pages = _get(image, "n-pages", 1)
    if pages > 1:
        raise PictureError(f"'{path}' holds {pages} pictures; split it into single ones first.")
    if image.format not in ("uchar", "ushort"):
        raise PictureError(
            f"'{path}' stores its samples as '{image.format}'; convert it to 8 or 16 bits."
        )
    if image.interpretation not in _COLOURS:
        raise PictureError(f"'{path}' is in '{image.interpretation}'; grey, RGB or CMYK is needed.")
    profile = _get(image, "icc-profile-data", None)
    if image.interpretation == "cmyk":
        image = image.colourspace("rgb16" if image.format == "ushort" else "srgb")
        profile = None  # it described the inks; sRGB needs none
    colours = image.bands - 1 if image.hasalpha() else image.bands
    if colours not in (1, 3) or image.bands - colours > 1:
        raise PictureError(f"'{path}' has {image.bands} channels; grey or RGB is needed.")
    metadata = Metadata(
        icc=profile,
        exif=_get(image, "exif-data", None),
        xmp=_get(image, "xmp-data", None),
        pixels_per_mm=(image.xres, image.yres),
    )
    decoded: Pixels = image.numpy()
    samples = _upright(decoded.reshape(image.height, image.width, image.bands), image)
    alpha: Pixels | None = samples[..., colours].copy() if image.hasalpha() else None
    pixels: Pixels = samples[..., :colours].copy()
    return Picture(pixels=pixels, alpha=alpha, metadata=metadata)


def _upright(samples: Pixels, image: pyvips.Image) -> Pixels:
    """The samples turned as EXIF orientation 1 to 8 says (EXIF 2.32, table 6)."""
    orientation = _get(image, "orientation", 1)
    if orientation in (5, 6, 7, 8):
        samples = samples.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _encode(picture: Picture, suffix: str, file: BinaryIO, *, quality: int) -> None:
    samples = picture.pixels
    if picture.alpha is not None:
        samples = np.concatenate([samples, picture.alpha[..., None]], axis=2)
    grey, wide = picture.pixels.shape[2] == 1, picture.depth == 16
    image = pyvips.Image.new_from_array(
        samples, interpretation=("grey16" if wide else "b-w") if grey else _RGB[picture.depth]
    ).copy(xres=picture.metadata.pixels_per_mm[0], yres=picture.metadata.pixels_per_mm[1])
    for name, block in (
        ("icc-profile-data", picture.metadata.icc),
        ("exif-data", picture.metadata.exif),
        ("xmp-data", picture.metadata.xmp),
    ):
        if block is not None:
            image.set_type(pyvips.GValue.blob_type, name, block)
    # After the EXIF, whose orientation and preview these replace when the file is written.
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    if image.get_typeof("jpeg-thumbnail-data") != 0:
        image.remove("jpeg-thumbnail-data")
    target = pyvips.Target.new_to_descriptor(file.fileno())
    if suffix == ".png":
        image.pngsave_target(target)
    elif suffix == ".webp":
        if grey and picture.metadata.icc is not None:
            # WebP is always RGB, where a grey profile would be wrong.
            image = image.icc_transform("srgb", embedded=True)
        image.webpsave_target(target, Q=quality, lossless=quality == 100, exact=True)
    elif suffix in (".tif", ".tiff"):
        image.tiffsave_target(
            target,
            compression="deflate",
            predictor="horizontal",
            bigtiff=samples.nbytes > 2**31,
        )
    else:
        image.jpegsave_target(target, Q=quality, optimize_coding=True)


_COLOURS = ("b-w", "grey16", "srgb", "rgb", "rgb16", "cmyk")
_RGB = {8: "srgb", 16: "rgb16"}


def _get(image: pyvips.Image, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) != 0 else default


def _reason(error: OSError | pyvips.Error) -> str:
    """The last thing that went wrong, in one line."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "unknown reason"
