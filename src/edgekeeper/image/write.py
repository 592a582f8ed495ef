"""Images to files, whole or row by row: complete, or not at all.

The file grows in a hidden folder while rows come, and gets its name when it is complete. libvips
encodes, in a thread of its own.
"""

import os
import struct
import threading
import zlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import pyvips

from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import Overwrite, deliver, draft_of
from edgekeeper.image.formats import (
    FORMATS,
    MAX_PIXELS,
    SAMPLES,
    Header,
    Metadata,
    Pixels,
    SaveOptions,
    check_fits,
    check_image_target,
    format_to_write,
    need_threads,
    vips_reason,
    write_notes,
)
from edgekeeper.image.metadata import add_tags, photoshop_block, settled_xmp
from edgekeeper.image.pillow import PNG_LEVEL, describe_frames, pillow, save_png
from edgekeeper.image.unusual import at_depth

_COLOUR_TYPES = {(1, 1): 0, (3, 3): 2, (1, 2): 4, (3, 4): 6}  # of PNG, by (colours, bands)
_PATIENCE = 10.0  # seconds that libvips is given to notice that it is to stop
_SLICE = 2**22  # samples that are handed on at once
_UNKNOWN = (72 / 25.4, 72 / 25.4)  # pixels per millimetre of an image that states no density
_DENSEST = 10**6  # pixels per millimetre that libvips takes; a damaged header may say any number
_NO_EXIF = b"Exif\0\0II*\0\x08\0\0\0" + bytes(6)  # a directory of no tags
_OF_THE_OLD_IMAGE = ("exif-ifd2-SubjectArea", "exif-ifd2-SubjectLocation", "jpeg-thumbnail-data")
_MOST_OPTIMISED = 2**25  # pixels of a JPEG whose Huffman tables are made to measure: 6 bytes each
_SIZES = {"uchar": 1, "ushort": 2, "float": 4}  # bytes of libvips' samples
_CLASSIC_TIFF = 2**31  # bytes of samples; its offsets end at 2**32, and noise can grow when packed


class _Encoder:
    """A thread that encodes the rows it is given into ``file``; used with ``with``.

    libvips asks for pixels when it needs them, so that rows can reach it only through a source,
    and a source, custom ones too, is read by a loader of an encoded image. Of loaders that stream,
    the wheel of pyvips has no PPM (8.18), rawload and vipsload map a file, and arrayjoin wants all
    rows in memory first. A PNG (ISO/IEC 15948) at level 0 costs a copy and two checksums (400 MB/s
    on one core), and knows grey, alpha and 16 bits. A float goes as two samples of 16 bits.

    Attributes:
        failure: why libvips gave up; None as long as all is well.
    """

    def __init__(self, file: BinaryIO, header: Header, *, form: str, options: SaveOptions) -> None:
        need_threads()
        self.failure: pyvips.Error | MemoryError | OSError | None = None
        self._format, self._form, self._options = FORMATS[form], form, options
        # What is encoded has the depth of the format.
        self._floats = header.depth == 32 == self._format.depth
        eight_bits = 8 in (self._format.depth, header.depth) or header.animation is not None
        most: Literal[8, 16] = 8 if eight_bits else 16
        self._header = replace(header, depth=32 if self._floats else most)
        self._file, self._target = file, pyvips.Target.new_to_descriptor(file.fileno())
        self._image: pyvips.Image | None = None
        self._deflate = zlib.compressobj(0)
        reading, writing = os.pipe()
        self._pipe = os.fdopen(writing, "wb")
        # Daemon: were it ever left waiting for rows, it must not keep the program alive.
        self._thread = threading.Thread(target=self._run, args=(reading,), daemon=True)
        self._thread.start()
        across = header.width * (2 * header.bands if self._floats else 1)
        size = struct.pack(">II", across, header.rows)
        kind = 0 if self._floats else _COLOUR_TYPES[header.colours, header.bands]
        self._pipe.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", size + bytes([min(self._header.depth, 16), kind, 0, 0, 0]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pipe.close()  # before the last row this is an image cut short, which libvips refuses
        if self._thread.is_alive() and self._image is not None:
            self._image.set_kill(True)
        self._thread.join(_PATIENCE)

    def write(self, rows: Pixels) -> None:
        """Append rows (n, W, C). Once ``failure`` is set they go nowhere."""
        step = max(1, _SLICE // rows[0].size) if len(rows) else 1
        for start in range(0, len(rows), step):
            if self.failure is not None:
                return
            part = rows[start : start + step]
            if self._floats:
                part = np.ascontiguousarray(part, np.float32).view(np.uint16)
            elif part.dtype != np.uint8:
                part = at_depth(part, self._format, animated=self._header.animation is not None)
            big_endian = np.ascontiguousarray(part, part.dtype.newbyteorder(">"))
            samples = big_endian.view(np.uint8).reshape(len(part), -1)  # (n, bytes)
            lines = np.zeros((len(part), 1 + samples.shape[1]), np.uint8)  # 0: no filter
            lines[:, 1:] = samples
            self._chunk(b"IDAT", self._deflate.compress(lines.data))

    def finish(self) -> None:
        """Encode the file to its end, or set ``failure``."""
        if not self._pipe.closed:
            self._chunk(b"IDAT", self._deflate.flush())
            self._chunk(b"IEND", b"")
        self._pipe.close()
        self._thread.join()

    def _chunk(self, name: bytes, data: bytes) -> None:
        if data or name == b"IEND":
            checksum = zlib.crc32(data, zlib.crc32(name))
            for part in (struct.pack(">I", len(data)) + name, data, struct.pack(">I", checksum)):
                self._pipe.write(part)

    def _run(self, reading: int) -> None:
        try:
            source = pyvips.Source.new_from_descriptor(reading)
            how = {"access": "sequential", "fail_on": "error", "unlimited": True}
            image = pyvips.Image.pngload_source(source, **how)
            if self._floats:
                bands = self._header.bands
                image = image.bandfold(factor=2 * bands).copy(format="float", bands=bands)
                kind = "scrgb" if self._header.colours == 3 else "b-w"
                image = image.copy(interpretation=kind)
            image = self._image = self._described(image)
            if self._form == "png" and self._header.animation is not None:
                self._save_animated_png(image)
            else:
                save = getattr(image, f"{self._format.name}save_target")
                save(self._target, **_how(image, self._form, self._options))
        except (pyvips.Error, MemoryError, OSError) as error:
            self.failure = error.with_traceback(None)
        finally:
            self._image = None
            # After a failure, or before the end of the stream that libvips needs no more: who
            # writes into the pipe must neither wait for ever nor find it broken.
            while os.read(reading, 2**20):
                pass
            os.close(reading)

    def _save_animated_png(self, image: pyvips.Image) -> None:
        metadata, animation = self._header.metadata, self._header.animation
        assert animation is not None
        if self._options.metadata == "strip":
            metadata = Metadata(icc=metadata.icc)
        save_png(image, self._file, animation=animation, metadata=metadata)
        self._file.flush()

    def _described(self, image: pyvips.Image) -> pyvips.Image:
        """Return the image with all that goes along with the pixels."""
        metadata, strip = self._header.metadata, self._options.metadata == "strip"
        size = (self._header.height, self._header.width)
        density = metadata.pixels_per_mm
        stated = not strip and density != (1.0, 1.0) and max(density) <= _DENSEST
        image = image.copy()
        if not strip:
            exif = metadata.exif
            if exif is None and stated and self._format.title in ("WebP", "AVIF"):
                exif = _NO_EXIF  # no other place for the density
            if exif is not None:
                _set_exif(image, exif, size=size)
            if metadata.xmp is not None:
                _set_block(image, "xmp-data", settled_xmp(metadata.xmp, size=size))
            if metadata.iptc is not None and self._format.title == "JPEG":
                _set_block(image, "iptc-data", photoshop_block(metadata.iptc))
        if metadata.icc is not None:
            _set_block(image, "icc-profile-data", metadata.icc)
        image.set_type(pyvips.GValue.gint_type, "orientation", 1)
        x, y = density if stated else _UNKNOWN
        image = image.copy(xres=x, yres=y)
        if self._header.animation is not None:
            describe_frames(image, self._header.animation)
        becomes_rgb = self._format.rgb and self._header.colours == 1
        if metadata.icc is not None and (becomes_rgb or self._format.title == "GIF"):
            # The profile of a grey device would be wrong for what becomes RGB; GIF has no place.
            image = image.icc_transform("srgb", embedded=True, depth=self._header.depth)
        return image


def _set_exif(image: pyvips.Image, exif: bytes, *, size: tuple[int, int]) -> None:
    """Give the image the EXIF block, without what was true of the old image only.

    libvips sets orientation, density and the sizes of EXIF's own directory right.
    """
    _set_block(image, "exif-data", exif)  # and the fields that it holds
    for name in image.get_fields():
        if name in _OF_THE_OLD_IMAGE or name.startswith("exif-ifd1-"):
            image.remove(name)
    for name, side in (("ImageLength", size[0]), ("ImageWidth", size[1])):
        if image.get_typeof(f"exif-ifd0-{name}"):
            image.set_type(pyvips.GValue.gstr_type, f"exif-ifd0-{name}", str(side))


def _set_block(image: pyvips.Image, name: str, block: bytes) -> None:
    image.set_type(pyvips.GValue.blob_type, name, block)


def _how(image: pyvips.Image, form: str, options: SaveOptions) -> dict[str, Any]:
    """Return the arguments of libvips's operation that saves the image."""
    found: dict[str, Any] = {"keep": "icc"} if options.metadata == "strip" else {}
    if form in ("jpeg", "webp", "avif"):
        found["Q"] = options.quality
    if form in ("webp", "avif"):
        found["lossless"] = options.quality == 100
    pixels, size = image.width * image.height, _SIZES[image.format]
    match form:
        case "png":
            # The row above: of enlarged images as many bytes as with filters chosen line by line
            # (-16 to +15 %), in half the time; no filter makes them 1.4 to 2.3 times as large.
            found |= {"compression": PNG_LEVEL, "filter": "up"}
        case "jpeg":
            found["optimize_coding"] = pixels <= _MOST_OPTIMISED
        case "webp":
            found["exact"] = True
        case "gif":
            found["keep_duplicate_frames"] = True
        case "tiff":
            found |= {"compression": "deflate", "predictor": "horizontal"}
            found["bigtiff"] = pixels * image.bands * size > _CLASSIC_TIFF
        case "avif":
            found |= {"compression": "av1", "effort": 3}  # of 9
            found["bitdepth"] = 8 if size == 1 else 12
    return found


class ImageWriter:
    """An image file being written from the top; made by ``create_image``, used with ``with``.

    The file appears when the block ends without an exception and all rows were written;
    otherwise nothing is left. Encoding goes on in a thread while the next rows are computed.
    Memory is bounded whatever the size for TIFF, PNG and JPEG; libvips holds WebP and AVIF whole.
    It may be handed from thread to thread, and be used by one at a time.
    """

    header: Header  # what was announced of the image
    notes: tuple[str, ...]  # what the format does not keep, each for the user to read

    def __init__(
        self,
        target: Path | BinaryIO,
        header: Header,
        *,
        form: str,
        options: SaveOptions,
        overwrite: Overwrite,
    ) -> None:
        self.header = header
        self.notes = write_notes(header, FORMATS[form])
        self._target, self._options, self._overwrite = target, options, overwrite
        self._format, self._name = form, _name(target)
        self._written = 0
        self._dtype = np.dtype(SAMPLES[header.depth])
        self._encoder: _Encoder | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            draft = draft_of(self._target, overwrite=self._overwrite, error=ImageError)
            self._draft = stack.enter_context(draft)
            self._file = stack.enter_context(self._draft.open("r+b"))
            encoder = _Encoder(self._file, self.header, form=self._format, options=self._options)
            self._encoder = stack.enter_context(encoder)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with self._cleanup:
            encoder, self._encoder = self._encoder, None
            if kind is None and encoder is not None:
                self._finish(encoder)

    def write(self, rows: Pixels) -> None:
        """Append ``rows`` (n, W, C), C = ``header.bands``. Raises InputError, ImageError."""
        if self._encoder is None:
            raise InputError(f"{self._name} is not open for writing; write inside a with block.")
        form = (self.header.width, self.header.bands)
        if rows.ndim != 3 or rows.shape[1:] != form or rows.dtype != self._dtype:
            raise InputError(
                f"The rows must be (n, {form[0]}, {form[1]}) of {self._dtype}, "
                f"got {rows.shape} of {rows.dtype}."
            )
        if self._written + len(rows) > self.header.rows:
            raise InputError(f"{self._name} has {self.header.rows} rows; more were written.")
        self._encoder.write(rows)
        self._written += len(rows)
        self._check(self._encoder)

    def _finish(self, encoder: _Encoder) -> None:
        if self._written != self.header.rows:
            raise InputError(
                f"{self._name} is not written: {self._written} of {self.header.rows} rows came."
            )
        encoder.finish()
        self._check(encoder)
        try:
            if self._format == "tiff":
                header = self.header
                keep = header.metadata if self._options.metadata == "keep" else Metadata()
                size, further = (header.height, header.width), header.alpha
                add_tags(self._file, exif=keep.exif, iptc=keep.iptc, size=size, further=further)
            self._file.flush()
        except OSError as error:
            raise self._not_written(error) from error
        deliver(self._draft, self._target, overwrite=self._overwrite, error=ImageError)

    def _check(self, encoder: _Encoder) -> None:
        """Raise what stopped the encoder."""
        if encoder.failure is None:
            return
        try:
            self._file.write(bytes(2**16))  # libvips does not tell why; this raises "no space left"
            self._file.flush()
        except OSError as error:
            raise self._not_written(error) from error
        raise self._not_written(encoder.failure) from encoder.failure

    def _not_written(self, error: OSError | pyvips.Error | MemoryError) -> ImageError:
        why = "there is not enough memory" if isinstance(error, MemoryError) else vips_reason(error)
        return ImageError(f"{self._name} cannot be written: {why}.")


def create_image(
    target: str | Path | BinaryIO,
    header: Header,
    *,
    options: SaveOptions | None = None,
    overwrite: Overwrite = "refuse",
) -> ImageWriter:
    """Return a writer of the image that ``header`` announces, to be used with ``with``.

    ``target`` is a path or an open binary stream; a stream needs ``options.format`` and is
    written to only when the image is complete. What can be refused is refused here.
    Raises InputError: a stream without a format; ImageError: the format is unknown or cannot hold
    the image, or the file exists; UnavailableError: an animated PNG needs Pillow.
    """
    options = options or SaveOptions()
    if isinstance(target, str | Path):
        target = Path(target)
        check_image_target(target, overwrite=overwrite, options=options)
        form = format_to_write(target, options)
    elif options.format is None:
        raise InputError("A stream has no name to tell the format; give SaveOptions(format=...).")
    else:
        form = options.format
    check_fits(header, name=_name(target), form=FORMATS[form])
    if form == "png" and header.animation is not None:
        pillow()  # raises where it is missing
        if header.rows * header.width > MAX_PIXELS:
            raise ImageError(
                f"{_name(target)} would be {header.frames} frames of {header.width} x "
                f"{header.height} pixels, too many for an animated PNG. Write GIF or WebP."
            )
    return ImageWriter(target, header, form=form, options=options, overwrite=overwrite)


def _name(target: Path | BinaryIO) -> str:
    return f"'{target}'" if isinstance(target, Path) else "The image"
