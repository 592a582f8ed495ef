"""Image files to memory, whole or row by row.

libvips decodes; here it is decided what is read of which file, and every way in which a file can
be wrong becomes one sentence.
"""

import io
import re
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import numpy as np
import pyvips
from pyvips import ffi, vips_lib

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image.decode import Decoded, decode, field_of, metadata_of
from edgekeeper.image.formats import (
    FORMATS,
    HEAD,
    MAX_PIXELS,
    MAX_STREAMED_PIXELS,
    MAX_TURNED_PIXELS,
    find_format,
    reason,
)
from edgekeeper.image.image import Header, Image, Pixels
from edgekeeper.image.metadata import TiffTags, read_tags

_STEP = 2**24
"""Samples that are decoded at once where the caller asks for no rows of its own."""

_LINES = 16
"""Rows that libvips is asked for at once: it holds several times as many (a JPEG's blocks: 16)."""

_PASSED_OVER = {
    "tiff": re.compile(rb"tiff2vips:"),
    "jpeg": re.compile(rb"Corrupt JPEG data: (?!\d+ extraneous)"),
}
"""What libvips notes of damage without failing: a lost tile stays black, a lost block grey.

To fail at every warning instead would refuse files with an odd tag or a byte too many."""

_MESSAGES = threading.Lock()  # libvips has one store of messages for all threads

_DECODED_WHOLE = ("webp", "avif", "heic", "gif", "jxl")


class ImageReader:
    """An image file being read from the top; made by ``open_image``, closed by ``with``.

    Memory is bounded whatever the size for TIFF, PNG and JPEG; WebP, AVIF, HEIC, GIF, interlaced
    PNG and progressive JPEG are decoded whole by libvips and end at MAX_PIXELS. Images to be
    turned (EXIF orientation 3 to 8) are decoded whole too, above 100 MB to a file in the
    temporary folder, and end at MAX_TURNED_PIXELS. It may be handed from thread to thread, and be
    used by one at a time.

    Attributes:
        header: what is known of the image before its pixels.
    """

    header: Header

    def __init__(
        self,
        source: str | Path | bytes,
        *,
        limit: int = MAX_STREAMED_PIXELS,
        alpha: Literal["keep", "drop"] = "keep",
    ) -> None:
        self._source = source
        self._name = "The image" if isinstance(source, bytes) else f"'{source}'"
        try:
            with _open_binary(source) as file:
                decoded = self._open(file, limit)
        except OSError as error:
            raise ImageError(f"{self._name} cannot be opened: {reason(error)}.") from error
        except pyvips.Error as error:
            raise self._damaged(error) from error
        self._bits, self._bands = decoded.bits, int(decoded.image.bands)
        header = self._header_of(decoded)
        self.header = replace(header, alpha="none") if alpha == "drop" else header
        self._region = pyvips.Region.new(decoded.image)
        self._start = self._fetched = 0  # rows from start to before fetched are kept
        self._kept = self._room(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and drop what was kept of it."""
        self._region = None
        self._kept = self._kept[:0]

    def rows(self, start: int, stop: int) -> Pixels:
        """Return the rows from ``start`` to before ``stop``, (stop - start, W, C), upright.

        C is ``header.bands``: grey or RGB, then alpha. ``start`` never decreases from call to
        call; rows that were read already are kept from the last ``start`` on.

        Raises:
            InputError: the rows do not lie in the image, or lie before those of the last call.
            ImageError: the file is damaged or cut short here.
        """
        if not self._start <= start < stop <= self.header.height:
            raise InputError(
                f"Rows {start} to {stop} cannot be read: of {self.header.height} rows those "
                f"before {self._start} are gone."
            )
        kept = self._kept[start - self._start :]
        while self._fetched < start:
            self._fetch(min(start, self._fetched + self._step))
        if self._fetched < stop:
            joined = self._room(stop - start)
            joined[: len(kept)], joined[len(kept) :] = kept, self._fetch(stop)
            kept = joined
        self._start, self._kept = start, kept
        asked: Pixels = kept[: stop - start].copy()
        return asked

    def read_rest(self) -> Pixels:
        """Return all rows that were not read yet, (n, W, C); none of them is kept for ``rows``."""
        first, height = self._fetched, self.header.height
        samples = self._room(height - first)
        while self._fetched < height:
            begin = self._fetched
            samples[begin - first : self._fetched - first] = self._fetch(
                min(height, begin + self._step)
            )
        self._start, self._kept = height, self._kept[:0]
        return samples

    @property
    def _step(self) -> int:
        return max(1, _STEP // (self.header.width * self._bands))

    def _fetch(self, stop: int) -> Pixels:
        """Return the rows from the last one read to ``stop``, from libvips."""
        if self._region is None:
            raise InputError(f"{self._name} is closed.")
        first, width, bands = self._fetched, self.header.width, self.header.bands
        samples = self._room(stop - first)
        try:
            for row in range(first, stop, _LINES):
                end = min(stop, row + _LINES)
                data = self._lines(self._region, row, rows=end - row, width=width)
                lines = np.frombuffer(data, samples.dtype).reshape(end - row, width, self._bands)
                samples[row - first : end - first] = lines[..., :bands]
        except pyvips.Error as error:
            raise self._damaged(error) from error
        self._fetched = stop
        return samples if self._bits in (8, 16) else _all_bits(samples, bits=self._bits)

    def _lines(self, region: pyvips.Region, start: int, *, rows: int, width: int) -> bytes:
        """Return the bytes of a few rows, or the error that libvips met and only took note of."""
        passed_over = _PASSED_OVER.get(self._format)
        if passed_over is None:
            data: bytes = region.fetch(0, start, width, rows)
            return data
        with _MESSAGES:
            vips_lib.vips_error_clear()
            data = region.fetch(0, start, width, rows)
            if passed_over.search(ffi.string(vips_lib.vips_error_buffer())):
                raise pyvips.Error("unable to fetch from region")  # takes the message along
        return data

    def _room(self, rows: int) -> Pixels:
        shape = (rows, self.header.width, self.header.bands)
        return np.empty(shape, np.uint8) if self.header.depth == 8 else np.empty(shape, np.uint16)

    def _open(self, file: BinaryIO, limit: int) -> Decoded:
        head = file.read(HEAD)
        self._format = self._format_of(head)
        decoded_whole = self._format in _DECODED_WHOLE
        # Before libvips, which reads through the same descriptor.
        self._tags = read_tags(file) if self._format == "tiff" else TiffTags()
        frames = _png_frames(head + file.read(2**20)) if self._format == "png" else 1
        try:
            image = self._load(file, "sequential")
        except pyvips.Error as error:
            if self._tags.photometric == 8:
                raise ImageError(
                    f"{self._name} is in CIE Lab of 8 bits, which libvips does not read; "
                    "convert it to RGB."
                ) from error
            raise
        decoded_whole |= field_of(image, "interlaced", default=0) or field_of(
            image, "jpeg-multiscan", default=0
        )
        self._check_size(image, min(limit, MAX_PIXELS) if decoded_whole else limit)
        self._notes = _page_notes(
            self._format,
            frames=max(frames, field_of(image, "n-pages", default=1)),
            brand=head[8:12],
        )
        turn = field_of(image, "orientation", default=1)
        if turn > 2:
            self._check_room(image)
            self._lines(
                pyvips.Region.new(image), 0, rows=1, width=image.width
            )  # what is empty is not decoded at length
            image = self._load(file, "random")
        if turn > 1:
            image = image.autorot()
        return decode(image, name=self._name)

    def _check_room(self, image: pyvips.Image) -> None:
        """Raise ImageError if the image cannot be decoded to the temporary folder."""
        self._check_size(image, MAX_TURNED_PIXELS)
        needed = image.width * image.height * image.bands * (1 if image.format == "uchar" else 2)
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if needed > max(free, 10**8):  # up to 100 MB libvips turns in memory
            raise ImageError(
                f"{self._name} has to be turned, for which '{folder}' needs {needed // 10**6} MB "
                f"and has {free // 10**6}; make room or set TMPDIR to another folder."
            )

    def _load(self, file: BinaryIO, access: Literal["sequential", "random"]) -> pyvips.Image:
        if isinstance(self._source, bytes):
            source = pyvips.Source.new_from_memory(self._source)
        else:
            file.seek(0)
            source = pyvips.Source.new_from_descriptor(file.fileno())
        load = getattr(pyvips.Image, f"{FORMATS[self._format].name}load_source")
        image: pyvips.Image = load(source, access=access, fail_on="error")
        return image

    def _format_of(self, head: bytes) -> str:
        if not head:
            raise ImageError(f"{self._name} is empty (0 bytes).")
        name = find_format(head)
        if name is None:
            titles = [form.title for form in FORMATS.values() if form.readable]
            raise ImageError(
                f"{self._name} is not an image (of {', '.join(titles[:-1])} and {titles[-1]})."
            )
        if not FORMATS[name].readable:
            raise self._not_decoded(FORMATS[name].title)
        return name

    def _check_size(self, image: pyvips.Image, limit: int) -> None:
        if image.width * image.height > limit:
            raise ImageError(
                f"{self._name} is {image.width} x {image.height} pixels; "
                f"at most {limit // 10**6} million are read. Cut it into parts first."
            )

    def _header_of(self, decoded: Decoded) -> Header:
        image = decoded.image
        tags = self._tags
        metadata = metadata_of(image, profile=decoded.profile, exif=tags.exif, iptc=tags.iptc)
        return Header(
            height=image.height,
            width=image.width,
            colours=decoded.colours,
            alpha="straight" if decoded.alpha else "none",
            depth=16 if image.format == "ushort" else 8,
            metadata=metadata,
            format=self._format,
            notes=(*self._notes, *((decoded.note,) if decoded.note else ())),
        )

    def _not_decoded(self, title: str) -> ImageError:
        return ImageError(
            f"{self._name} is {title}, which the libvips at hand does not decode; "
            "convert it to PNG, JPEG or AVIF."
        )

    def _damaged(self, error: pyvips.Error) -> ImageError:
        if self._format == "heic":
            return self._not_decoded(FORMATS["heic"].title)
        return ImageError(
            f"{self._name} cannot be decoded; the file is damaged or cut short ({reason(error)})."
        )


def open_image(
    source: str | Path | bytes, *, alpha: Literal["keep", "drop_opaque"] = "keep"
) -> ImageReader:
    """A reader of the image file ``source``, a path or the bytes of a file; use it with ``with``.

    With ``alpha="drop_opaque"`` the file is read once more beforehand if it has alpha, which is
    left out when it is opaque everywhere; then the image fits a JPEG.

    Raises:
        ImageError: the file is missing, empty, not an image, damaged in its header, of another
            depth than 8 or 16 bits, or larger than ``MAX_STREAMED_PIXELS``.
    """
    reader = ImageReader(source)
    if alpha == "keep" or reader.header.alpha == "none" or not _is_opaque(source):
        return reader
    reader.close()
    return ImageReader(source, alpha="drop")


def read_image(path: str | Path | bytes) -> Image:
    """Return the image in the file ``path``, upright, at the depth and in the colours of the file.

    Of several frames or pages it is the first.

    Raises:
        ImageError: the file is missing, empty, damaged, cut short, not an image, of another
            depth than 8 or 16 bits, or larger than ``MAX_PIXELS``.
    """
    with ImageReader(path, limit=MAX_PIXELS) as reader:
        header, samples = reader.header, reader.read_rest()
    if header.alpha == "none":
        return Image(pixels=samples, metadata=header.metadata)
    alpha: Pixels = samples[..., header.colours].copy()
    pixels: Pixels = samples[..., : header.colours].copy()
    return Image(pixels=pixels, alpha=alpha, metadata=header.metadata)


def _is_opaque(source: str | Path | bytes) -> bool:
    with ImageReader(source) as reader:
        height, step, top = reader.header.height, reader._step, 2**reader.header.depth - 1
        return all(
            bool((reader.rows(start, min(height, start + step))[..., -1] == top).all())
            for start in range(0, height, step)
        )


def _open_binary(source: str | Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def _all_bits(samples: Pixels, *, bits: int) -> Pixels:
    """Samples that use the upper ``bits`` of 16, so that full is 65535."""
    top = 2**bits - 1
    exact = (samples >> (16 - bits)).astype(np.uint32)
    full: Pixels = ((exact * 65535 + top // 2) // top).astype(np.uint16)
    return full


def _page_notes(name: str, *, frames: int, brand: bytes) -> tuple[str, ...]:
    if brand == b"avis":  # libvips does not count the frames of these
        return ("took the first frame of an animation",)
    if frames < 2:
        return ()
    if name in ("avif", "heic"):
        return (f"took the main one of {frames} images",)
    return (f"took the first of {frames} {'pages' if name == 'tiff' else 'frames'}",)


def _png_frames(begin: bytes) -> int:
    """Return the frames that an animated PNG announces before its first image, else 1."""
    _, animation, after = begin.partition(b"IDAT")[0].partition(b"acTL")
    return int.from_bytes(after[:4], "big") if animation else 1
