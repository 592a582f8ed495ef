"""Rows to an encoded file: libvips reads them from a pipe, in a thread of its own."""

import os
import struct
import threading
import zlib
from dataclasses import replace
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pyvips

from edgekeeper.image.formats import FORMATS, Format, SaveOptions
from edgekeeper.image.image import Header, Pixels
from edgekeeper.image.metadata import photoshop_block, settled_xmp

# ---- Rows of samples as a stream that libvips can read while it is written ----------------------
#
# libvips asks for pixels when it needs them, so that rows can reach it only through a source, and a
# source, custom ones too, is read by a loader of an encoded image. Of loaders that stream, the
# wheel of pyvips has no PPM (8.18), rawload and vipsload map a file, and arrayjoin wants all rows
# in memory first. PNG at level 0 costs a copy and two checksums (400 MB/s on one core), and knows
# grey, alpha and 16 bits.

_KINDS = {(1, 1): 0, (3, 3): 2, (1, 2): 4, (3, 4): 6}  # (colours, bands): PNG's colour type

_COPIED = 2**22  # bytes that are copied at once


class RowStream:
    """Writes the rows of an image to ``file`` as a PNG (ISO/IEC 15948) that is not compressed."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._deflate = zlib.compressobj(0)
        kind = _KINDS[header.colours, header.bands]
        size = struct.pack(">II", header.width, header.height)
        self._file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", size + bytes([header.depth, kind, 0, 0, 0]))

    def write(self, rows: Pixels) -> None:
        """Append rows (n, W, C)."""
        step = max(1, _COPIED // rows[0].nbytes)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            big_endian = np.ascontiguousarray(part, part.dtype.newbyteorder(">"))
            samples = big_endian.view(np.uint8).reshape(len(part), -1)
            lines = np.zeros((len(part), 1 + samples.shape[1]), np.uint8)  # 0: no filter
            lines[:, 1:] = samples
            self._chunk(b"IDAT", self._deflate.compress(lines.data))

    def finish(self) -> None:
        """Complete the image."""
        self._chunk(b"IDAT", self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _chunk(self, name: bytes, data: bytes) -> None:
        if data or name == b"IEND":
            checksum = zlib.crc32(data, zlib.crc32(name))
            self._file.write(struct.pack(">I", len(data)) + name)
            self._file.write(data)
            self._file.write(struct.pack(">I", checksum))


_PATIENCE = 10.0  # seconds that libvips is given to notice that it is to stop

_SLICE = 2**24  # samples that are handed on at once

_UNKNOWN = (72 / 25.4, 72 / 25.4)  # pixels per millimetre of an image that states no density

_DENSEST = 10**6  # pixels per millimetre that libvips takes; a damaged header may say any number

_NO_EXIF = b"Exif\0\0II*\0\x08\0\0\0" + bytes(6)  # a directory of no tags

_OF_THE_OLD_IMAGE = ("exif-ifd2-SubjectArea", "exif-ifd2-SubjectLocation", "jpeg-thumbnail-data")

_MOST_OPTIMISED = 2**25  # pixels of a JPEG whose Huffman tables are made to measure: 6 bytes each

_CLASSIC_TIFF = 2**31  # bytes of samples; its offsets end at 2**32, and noise can grow when packed


class Encoder:
    """A thread that encodes the rows it is given into ``file``; used with ``with``.

    Attributes:
        failure: why libvips gave up; None as long as all is well.
    """

    def __init__(self, file: BinaryIO, header: Header, *, form: str, options: SaveOptions) -> None:
        self.failure: pyvips.Error | MemoryError | None = None
        self._format, self._form, self._options = FORMATS[form], form, options
        # What is encoded has the depth of the format.
        self._header = replace(header, depth=8 if self._format.depth == 8 else header.depth)
        self._target = pyvips.Target.new_to_descriptor(file.fileno())
        self._image: pyvips.Image | None = None
        reading, writing = os.pipe()
        self._pipe = os.fdopen(writing, "wb")
        # Daemon: were it ever left waiting for rows, it must not keep the program alive.
        self._thread = threading.Thread(target=self._run, args=(reading,), daemon=True)
        self._thread.start()
        self._rows: RowStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()  # before the last row this is an image cut short, which libvips refuses
        if self._thread.is_alive() and self._image is not None:
            self._image.set_kill(True)
        self._thread.join(_PATIENCE)

    def write(self, rows: Pixels) -> None:
        """Append rows (n, W, C). Once ``failure`` is set they go nowhere."""
        if self._rows is None:
            self._rows = RowStream(self._pipe, self._header)
        step = max(1, _SLICE // rows[0].size) if len(rows) else 1
        for start in range(0, len(rows), step):
            if self.failure is not None:
                return
            self._rows.write(_at_depth(rows[start : start + step], self._format))

    def finish(self) -> None:
        """Encode the file to its end, or set ``failure``."""
        if self._rows is not None and not self._pipe.closed:
            self._rows.finish()
        self._pipe.close()
        self._thread.join()

    def _run(self, reading: int) -> None:
        try:
            source = pyvips.Source.new_from_descriptor(reading)
            image = pyvips.Image.pngload_source(
                source, access="sequential", fail_on="error", unlimited=True
            )
            image = self._described(image)
            self._image = image
            save = getattr(image, f"{self._format.name}save_target")
            save(self._target, **_how(image, self._form, self._options))
        except (pyvips.Error, MemoryError) as error:
            self.failure = error.with_traceback(None)
        finally:
            self._image = None
            # After a failure, or before the end of the stream that libvips needs no more: who
            # writes into the pipe must neither wait for ever nor find it broken.
            while os.read(reading, 2**20):
                pass
            os.close(reading)

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
        if self._format.grey == "as RGB" and self._header.colours == 1 and metadata.icc is not None:
            # The profile of a grey device would be wrong for what becomes RGB.
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


def _at_depth(rows: Pixels, form: Format) -> Pixels:
    """Return the rows with as many bits as the format has, rounded."""
    if rows.dtype == np.uint8 or form.depth == 16:
        return rows
    wide = rows.astype(np.uint32)
    if form.depth == 8:
        return ((wide + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
    # libvips cuts the lower four bits off.
    return (((wide * 4095 + 32767) // 65535) << 4).astype(np.uint16)


def _how(image: pyvips.Image, form: str, options: SaveOptions) -> dict[str, Any]:
    """Return the arguments of libvips's operation that saves the image."""
    found: dict[str, Any] = {"keep": "icc"} if options.metadata == "strip" else {}
    if form in ("jpeg", "webp", "avif"):
        found["Q"] = options.quality
    if form in ("webp", "avif"):
        found["lossless"] = options.quality == 100
    pixels, eight_bits = image.width * image.height, image.format == "uchar"
    match form:
        case "png":
            # Filters chosen line by line make a photograph 30 % smaller than none does.
            found |= {"compression": options.png_level, "filter": "all"}
        case "jpeg":
            found["optimize_coding"] = pixels <= _MOST_OPTIMISED
        case "webp":
            found["exact"] = True
        case "tiff":
            found |= {"compression": options.tiff_compression, "predictor": "horizontal"}
            found["bigtiff"] = pixels * image.bands * (1 if eight_bits else 2) > _CLASSIC_TIFF
        case "avif":
            found |= {"compression": "av1", "effort": options.avif_effort}
            found["bitdepth"] = 8 if eight_bits else 12
    return found
