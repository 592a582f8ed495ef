"""What libvips has no loader or saver for, by way of Pillow: old formats, animated PNG, HEIC.

In all ways an image is held whole.
"""

import io
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyvips

from edgekeeper.errors import ImageError, InputError, UnavailableError
from edgekeeper.image.formats import MAX_PIXELS, Animation, Metadata

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

PNG_LEVEL = 4  # of 9, in speed and size
_ORIENTATION = 0x0112  # of EXIF
_SAMPLES = 6  # bytes of a pixel at most


def pillow() -> Any:
    """Return the module PIL.Image; raises UnavailableError where it is not installed."""
    try:
        import PIL.Image
    except ImportError as error:
        raise UnavailableError(
            "This needs the package pillow: pip install 'edgekeeper[image]'."
        ) from error
    return PIL.Image


def samples_of(image: "PILImage") -> npt.NDArray[Any]:
    """Return the samples (H, W[, C]) of a Pillow image, as grey or RGB. Raises InputError."""
    mode = image.mode
    if mode == "I" or mode.startswith("I;16"):
        numbers = np.asarray(image)
        if numbers.min() < 0 or numbers.max() > 65535:
            raise InputError(
                f"The Pillow image of mode {mode} reaches from {numbers.min()} to "
                f"{numbers.max()}; 0 to 65535 are read, as 16 bits: scale it to them."
            )
        return numbers.astype(np.uint16)
    if image.has_transparency_data and mode not in ("LA", "RGBA"):
        image = image.convert("LA" if mode == "La" else "RGBA")
    elif mode not in ("L", "LA", "RGB", "RGBA", "F"):
        image = image.convert("L" if mode == "1" else "RGB")
    return np.asarray(image)


def load_with_pillow(
    file: BinaryIO, *, form: str, name: str, limit: int, tolerant: bool = False, cure: str = ""
) -> pyvips.Image:
    """Return the image in ``file``, of Pillow's format ``form``, for libvips.

    Of an animation the frames stand below each other, described as libvips does. ``tolerant``
    takes what is cut off as zeros; ``cure`` ends the sentence on damage.
    Raises ImageError: it is damaged, or larger than ``limit`` or MAX_PIXELS; UnavailableError:
    Pillow is not installed.
    """
    module = pillow()
    file.seek(0)
    try:
        with module.open(file, formats=(form,)) as image:
            count = getattr(image, "n_frames", 1) if form == "PNG" else 1
            if count * image.width * image.height > min(limit, MAX_PIXELS):
                raise ImageError(
                    f"{name} is {image.width} x {image.height} pixels, {count} times; at most "
                    f"{min(limit, MAX_PIXELS) // 10**6} million are read."
                )
            if tolerant and form != "PNG":
                file.seek(0)
                filled = io.BytesIO(file.read() + bytes(_SAMPLES * image.width * image.height))
                return load_with_pillow(filled, form=form, name=name, limit=limit)
            bits = _bits(image, file)
            frames, delays = [], []
            for number in range(count):
                if number:
                    image.seek(number)
                frames.append(samples_of(image))
                delays.append(round(image.info.get("duration", 0)))
            bands = max(frame.shape[2] if frame.ndim == 3 else 1 for frame in frames)
            if len({frame.shape for frame in frames}) > 1:  # transparent only in places
                frames = [_with_bands(frame, bands) for frame in frames]
            made = pyvips.Image.new_from_array(
                np.ascontiguousarray(np.concatenate(frames)), interpretation=_kind(frames[0], bands)
            ).copy()
            x, y = (float(number) / 25.4 or 1.0 for number in image.info.get("dpi", (25.4, 25.4)))
            made = made.copy(xres=x, yres=y)
            made.set_type(pyvips.GValue.gint_type, "bits-per-sample", bits)
            _describe(made, image)
            if count > 1:
                describe_frames(
                    made, Animation(delays=tuple(delays), loop=image.info.get("loop", 0))
                )
            return made
    except ImageError:
        raise
    except Exception as error:  # whatever a decoder stumbles over
        raise ImageError(
            f"{name} cannot be decoded; the file is damaged or cut short ({error}).{cure}"
        ) from error


def _describe(made: pyvips.Image, image: "PILImage") -> None:
    """Give libvips' image the profile, the EXIF block and the orientation of Pillow's."""
    profile, exif = image.info.get("icc_profile"), image.info.get("exif")
    if profile and image.mode != "CMYK":
        made.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    if exif:
        made.set_type(pyvips.GValue.blob_type, "exif-data", exif)
        turn = image.getexif().get(_ORIENTATION, 1)
        made.set_type(pyvips.GValue.gint_type, "orientation", turn if turn in range(1, 9) else 1)


def _bits(image: Any, file: BinaryIO) -> int:
    """Return 16 for a PPM or JPEG 2000 of more than 8 bits, of which Pillow keeps 8 in RGB."""
    if image.format == "PPM":
        most = image.tile[0].args[-1]
        return 16 if isinstance(most, int) and most > 255 else 8
    at = file.tell()
    file.seek(0)
    _, begin, sizes = file.read(2**16).partition(b"\xff\x4f\xff\x51")  # ISO/IEC 15444-1, A.5.1
    file.seek(at)
    return 16 if begin and len(sizes) > 38 and sizes[38] & 127 > 7 else 8


def _with_bands(frame: npt.NDArray[Any], bands: int) -> npt.NDArray[Any]:
    colours = frame if frame.ndim == 3 else frame[..., None]
    if colours.shape[2] < 3:
        colours = np.concatenate([colours[..., :1]] * 3 + [colours[..., 1:]], axis=2)
    if colours.shape[2] == 3 and bands in (2, 4):
        colours = np.concatenate([colours, np.full_like(colours[..., :1], 255)], axis=2)
    return colours


def _kind(samples: npt.NDArray[Any], bands: int) -> str:
    return (("rgb16", "grey16") if samples.dtype == np.uint16 else ("srgb", "b-w"))[bands < 3]


def describe_frames(image: pyvips.Image, animation: Animation) -> None:
    """Say in libvips' words that an image is the frames of an animation, below each other."""
    image.set_type(pyvips.GValue.gint_type, "page-height", image.height // animation.frames)
    image.set_type(pyvips.GValue.gint_type, "n-pages", animation.frames)
    image.set_type(pyvips.GValue.array_int_type, "delay", list(animation.delays))
    image.set_type(pyvips.GValue.gint_type, "loop", animation.loop)


def save_png(
    image: pyvips.Image, file: BinaryIO, *, animation: Animation, metadata: Metadata
) -> None:
    """Write an animated PNG of the frames that stand below each other; equal ones are joined."""
    samples = image.numpy()
    tall = samples if samples.ndim == 2 or samples.shape[2] > 1 else samples[..., 0]
    first, *others = (
        pillow().fromarray(np.ascontiguousarray(frame))
        for frame in np.split(tall, animation.frames)
    )
    about: dict[str, Any] = {"icc_profile": metadata.icc} if metadata.icc else {}
    if metadata.exif:
        about["exif"] = exif = pillow().Exif()
        exif.load(metadata.exif)
        exif.pop(_ORIENTATION, None)  # they are upright
    first.save(
        file,
        "PNG",
        save_all=True,
        append_images=others,
        duration=list(animation.delays),
        loop=animation.loop,
        compress_level=PNG_LEVEL,
        **about,
    )


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
    # In libvips' own memory: a region of it outlives the array.
    image = image.copy(interpretation=_kind(pixels, image.bands)).copy_memory()
    for key, stored in (("exif-data", "exif"), ("icc-profile-data", "icc_profile")):
        if found.info.get(stored):
            image.set_type(pyvips.GValue.blob_type, key, found.info[stored])
    return image
