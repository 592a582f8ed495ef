"""What an image is in memory: samples, alpha and metadata; to floats in [0, 1] and back."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyvips
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.files import Overwrite
from edgekeeper.image.formats import (
    FORMATS,
    MAX_PIXELS,
    SAMPLES,
    Depth,
    Header,
    Metadata,
    Pixels,
    SaveOptions,
    as_unit,
    format_to_write,
    full,
    need_threads,
)
from edgekeeper.image.pillow import pillow, samples_of
from edgekeeper.image.read import open_image
from edgekeeper.image.unusual import check_unit, rounded
from edgekeeper.image.write import create_image
from edgekeeper.ops.check import check_images

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

_SHOWN = 1024  # pixels of a side that a notebook shows at most


@dataclass(frozen=True, kw_only=True)
class Image:
    """A decoded image, upright.

    NumPy takes it for an array, a notebook shows it, ``save`` writes it.
    Raises InputError: another shape or type.
    """

    # (H, W, C), uint8, uint16 or float32 in [0, 1], C = 1 (grey) or 3 (RGB), not multiplied by
    # alpha
    pixels: Pixels
    # (H, W) of the same type, 0 is transparent; None when the image has no alpha
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)  # what is written back with the pixels
    # "extra" where ``alpha`` is another channel, that says nothing of transparency
    alpha_is: Literal["straight", "extra"] = "straight"

    def __post_init__(self) -> None:
        shape, kind = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise InputError(f"Image pixels must be (H, W, 1) or (H, W, 3), got {shape}.")
        if kind not in SAMPLES.values():
            raise InputError(f"Image pixels must be uint8, uint16 or float32, got {kind}.")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != kind):
            raise InputError(
                f"Alpha must be {shape[:2]} of {kind} like the pixels, "
                f"got {self.alpha.shape} of {self.alpha.dtype}."
            )
        if kind == np.float32:
            for samples in (self.pixels, *([] if self.alpha is None else [self.alpha])):
                check_unit(samples)

    @classmethod
    def from_numpy(cls, array: npt.NDArray[Any]) -> Self:
        """Return the image of an array (H, W) or (H, W, C), C = 1 to 4: grey or RGB, then alpha.

        uint8, uint16, or floats in [0, 1], which become float32.
        Raises InputError: another shape or type, or floats beyond [0, 1].
        """
        array = np.asarray(array)  # of a matrix too
        _check_array(array)
        kind = array.dtype.type
        samples = array.astype(kind if kind in (np.uint8, np.uint16) else np.float32, copy=False)
        if samples.ndim == 2:
            samples = samples[..., None]
        colours = 1 if samples.shape[2] < 3 else 3
        alpha = samples[..., colours] if samples.shape[2] > colours else None
        return cls(pixels=samples[..., :colours], alpha=alpha)

    @classmethod
    def from_pil(cls, image: "PILImage") -> Self:
        """Return a Pillow image: palettes expanded, CMYK and other colours as RGB; not turned."""
        return cls.from_numpy(samples_of(image))

    def to_numpy(self) -> npt.NDArray[Any]:
        """Return the samples (H, W, C), colours before alpha; (H, W) of grey without alpha."""
        if self.alpha is not None:
            return np.concatenate([self.pixels, self.alpha[..., None]], axis=2)
        return self.pixels[..., 0] if self.pixels.shape[2] == 1 else self.pixels

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        array = self.to_numpy()
        return np.array(array, dtype=dtype) if copy else np.asarray(array, dtype=dtype)

    def to_pil(self) -> "PILImage":
        """Return it as Pillow's image, of 8 bits; grey without alpha keeps 16 bits and floats.

        The ICC profile, EXIF and density go along.
        Raises UnavailableError: Pillow is not installed.
        """
        grey = self.pixels.shape[2] == 1 and (self.alpha is None or self.alpha_is == "extra")
        made = pillow().fromarray(self.pixels[..., 0] if grey else self._shown().to_numpy())
        metadata = self.metadata
        made.info |= {"icc_profile": metadata.icc} if metadata.icc else {}
        made.info |= {"exif": metadata.exif} if metadata.exif else {}
        if metadata.pixels_per_mm != (1.0, 1.0):
            made.info["dpi"] = tuple(25.4 * number for number in metadata.pixels_per_mm)
        return made

    def at_depth(self, depth: Literal[8, 16]) -> Self:
        """Return the image with so many bits, halves rounded upwards."""
        if depth == self.depth:
            return self
        alpha = None if self.alpha is None else rounded(self.alpha, depth)
        return replace(self, pixels=rounded(self.pixels, depth), alpha=alpha)

    def _shown(self) -> Self:
        """Return the image in 8 bits, without a channel that is no alpha."""
        image = self.at_depth(8)
        return replace(image, alpha=None) if self.alpha_is == "extra" else image

    def save(
        self,
        path: str | Path,
        *,
        overwrite: Overwrite = "refuse",
        quality: int = 95,
        options: SaveOptions | None = None,
    ) -> None:
        """Write it to a file; arguments and errors as ``write_image`` has them."""
        write_image(self, path, overwrite=overwrite, quality=quality, options=options)

    def _repr_png_(self) -> bytes:
        """Return a PNG of at most 1024 pixels a side, which notebooks show."""
        need_threads()
        samples = np.ascontiguousarray(self._shown().to_numpy())
        kind = "srgb" if self.pixels.shape[2] == 3 else "b-w"
        shown = pyvips.Image.new_from_array(samples, interpretation=kind)
        if max(shown.width, shown.height) > _SHOWN:
            shown = shown.thumbnail_image(_SHOWN, height=_SHOWN)
        if self.metadata.icc is not None:
            shown = shown.copy()
            shown.set_type(pyvips.GValue.blob_type, "icc-profile-data", self.metadata.icc)
        data: bytes = shown.write_to_buffer(".png")
        return data

    def __repr__(self) -> str:
        """Return what it is, without its samples."""
        height, width, colours = self.pixels.shape
        kind = ("grey" if colours == 1 else "RGB") + ("" if self.alpha is None else " with alpha")
        return f"<edgekeeper.Image {width} x {height} {kind}, {self.pixels.dtype}>"

    @property
    def depth(self) -> Depth:
        """Bits per channel; 32 are floats."""
        return next(bits for bits, kind in SAMPLES.items() if self.pixels.dtype == kind)

    @property
    def header(self) -> Header:
        """The image without its samples."""
        height, width, colours = self.pixels.shape
        return Header(
            height=height,
            width=width,
            colours=1 if colours == 1 else 3,
            alpha="none" if self.alpha is None else self.alpha_is,
            depth=self.depth,
            metadata=self.metadata,
        )


def _check_array(array: npt.NDArray[Any]) -> None:
    """Raise InputError, with a cure, unless it is an array that an image can have."""
    shape, kind = array.shape, array.dtype
    if array.ndim not in (2, 3) or 0 in shape or (array.ndim == 3 and shape[2] > 4):
        raise InputError(
            f"The array is {shape}; one image is (H, W), or (H, W, C) with 1 to 4 channels: grey "
            "or RGB, then alpha. One with channels first is turned by array.transpose(1, 2, 0)."
        )
    if kind.type not in (np.uint8, np.uint16) and kind.kind != "f":
        raise InputError(
            f"The array is of {kind}; an image is of uint8, uint16, or floats in [0, 1]: use "
            "array.astype(numpy.uint8) for values from 0 to 255."
        )


# ---- Images from and to files, whole ------------------------------------------------------------


def read_image(path: str | Path | bytes, *, tolerant: bool = False) -> Image:
    """Return the image in the file ``path``, upright, at the depth and in the colours of the file.

    Of several frames or pages it is the first. Of a damaged file ``tolerant`` takes the rows that
    can be decoded.
    Raises ImageError: the file is missing, empty, damaged, cut short, not an image, of another
    depth than 8, 16 or 32 bits, or larger than ``MAX_PIXELS``.
    """
    with open_image(path, limit=MAX_PIXELS, tolerant=tolerant) as reader:
        header, samples = reader.header, reader.read_rest()
    if header.alpha == "none":
        return Image(pixels=samples, metadata=header.metadata)
    pixels, alpha = samples[..., : header.colours].copy(), samples[..., header.colours].copy()
    return Image(pixels=pixels, alpha=alpha, metadata=header.metadata, alpha_is=header.alpha)


def write_image(
    image: Image,
    path: str | Path,
    *,
    overwrite: Overwrite = "refuse",
    quality: int = 95,
    options: SaveOptions | None = None,
) -> None:
    """Write ``image`` to the file ``path``, in the format that its name ends with.

    The file appears whole or not at all. ``quality`` (1 to 100) is for JPEG, WebP and AVIF; with
    ``options`` it is not looked at. JPEG and WebP round 16 bits to 8, AVIF to 12; WebP and AVIF
    make grey RGB. TIFF keeps floats, of 32 bits; other formats round them.
    Raises InputError: ``quality`` is out of range; ImageError: the file extension is unknown, the
    format cannot hold the image, the file exists, or it cannot be written, for example because the
    disk is full.
    """
    path, options = Path(path), options or SaveOptions(quality=quality)
    samples, alpha = image.pixels, image.alpha
    form = FORMATS[format_to_write(path, options)]
    if alpha is not None and (
        (image.alpha_is == "extra" and form.alpha != "extra")
        or (form.alpha == "none" and alpha.min() == full(image.depth))
    ):
        image, alpha = replace(image, alpha=None), None  # no place for it, or opaque
    if alpha is not None:
        samples = np.concatenate([samples, alpha[..., None]], axis=2)
    with create_image(path, image.header, options=options, overwrite=overwrite) as writer:
        writer.write(samples)


# ---- Images to tensors in [0, 1] and back, exactly rounded --------------------------------------


def to_tensor(image: Image) -> Tensor:
    """Return the pixels as float32 (1, C, H, W) in [0, 1], C = 1 or 3 as stored, without alpha."""
    return _plane_tensor(image.pixels)


def to_rgb_tensor(image: Image) -> Tensor:
    """Return the pixels as float32 RGB (1, 3, H, W) in [0, 1]; grey is repeated three times."""
    tensor = to_tensor(image)
    return tensor if tensor.shape[1] == 3 else tensor.repeat(1, 3, 1, 1)


def alpha_tensor(image: Image) -> Tensor:
    """Return the alpha as float32 (1, 1, H, W) in [0, 1], 0 is transparent. Raises InputError."""
    if image.alpha is None:
        raise InputError("The image has no alpha.")
    return _plane_tensor(image.alpha[..., None])


def from_tensor(tensor: Tensor, *, depth: Literal[8, 16] = 8) -> Pixels:
    """Return the pixels (H, W, C), uint8 or uint16, of one image (1, C, H, W), clipped to [0, 1].

    Halves are rounded away from zero. The product is taken in float64, where it is exact.
    Raises InputError: the tensor is not one image of floats, or holds a NaN or an infinity.
    """
    check_images(tensor, name="tensor", axes="1, C, H, W", valued=True)
    if not bool(torch.isfinite(tensor).all()):
        raise InputError("The image holds values that are not finite (NaN or infinity).")
    exact = tensor.detach()[0].permute(1, 2, 0).cpu().double().clamp(0, 1)
    rounded = torch.floor(exact * (2**depth - 1) + 0.5).numpy()
    return rounded.astype(np.uint8) if depth == 8 else rounded.astype(np.uint16)


def colour_difference(first: Tensor, second: Tensor) -> float:
    """Return the mean CIEDE2000 of two like sRGB images (1, 3, H, W) in [0, 1].

    About 1 is just noticeable side by side, 2 to 3 at a glance. libvips computes it, exact to
    0.001 where hues lie near each other; opposite ones differ from the published formula.
    """
    need_threads()
    one, other = (
        pyvips.Image.new_from_array(from_tensor(x, depth=16), interpretation="rgb16")
        for x in (first, second)
    )
    return float(one.dE00(other).avg())


def _plane_tensor(samples: Pixels) -> Tensor:
    return torch.from_numpy(as_unit(samples)).permute(2, 0, 1)[None].contiguous()
