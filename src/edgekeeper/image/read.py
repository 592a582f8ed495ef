"""Image files to memory, whole or row by row.

libvips decodes; here it is decided what is read of which file and in which form, and every way in
which a file can be wrong becomes one sentence.
"""

import io
import re
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import pyvips
from pyvips import ffi, vips_lib

from edgekeeper.errors import ImageError, InputError, UnavailableError
from edgekeeper.files import open_plain
from edgekeeper.image.formats import (
    FORMATS,
    HEAD,
    MAX_PIXELS,
    MAX_STREAMED_PIXELS,
    MAX_TURNED_PIXELS,
    find_format,
    has_pillow,
    need_threads,
    vips_reason,
)
from edgekeeper.image.header import (
    SAMPLES,
    Animation,
    Header,
    Pixels,
)
from edgekeeper.image.metadata import TiffTags, read_tags
from edgekeeper.image.pillow import load_heif, load_with_pillow
from edgekeeper.image.samples import (
    Decoded,
    decode,
    field_of,
    metadata_of,
    not_supported,
    to_samples,
)

_STEP = 2**24  # samples that are decoded at once where the caller asks for no rows of its own
_LINES = 16  # rows asked of libvips at once: it holds several times as many (a JPEG's blocks: 16)

# What libvips notes of damage without failing: a lost tile stays black, a lost block grey. To fail
# at every warning instead would refuse files with an odd tag or a byte too many.
_PASSED_OVER = {
    "tiff": re.compile(rb"tiff2vips:"),
    "jpeg": re.compile(rb"Corrupt JPEG data: (?!\d+ extraneous)"),
}
# What libvips and libtiff say of TIFF files that are whole but of a form that they do not read.
_UNSUPPORTED = re.compile(
    r"not supported|not configured|not implemented|only supports|must be 1 for Group|must be either"
    r"|not a whole number of bytes|samples out of range|not SGI-compressed"
)
_END_OF_JPEG = b"\xff\xd9"
_USUAL_DELAY = 100  # milliseconds, of a frame that says none
_TAIL = 2**16  # bytes before the end of a JPEG in which its end mark is looked for
_MISSING = bytes(2**20)  # in place of what is cut off: some decoders take no data that ends early
_MESSAGES = threading.Lock()  # libvips has one store of messages for all threads

_USED_IN_PART = ("jpeg", "png", "webp", "tiff", "gif", "bmp", "tga", "ppm")
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
        further: Literal["keep", "drop"] = "keep",
        frames: Literal["first", "all"] = "first",
        tolerant: bool = False,
    ) -> None:
        self._source, self._tolerant, self._all = source, tolerant, frames == "all"
        self._name = "The image" if isinstance(source, bytes) else f"'{source}'"
        try:
            with _opened(source) as file:
                decoded = self._open(file, limit)
        except OSError as error:
            raise ImageError(f"{self._name} cannot be opened: {vips_reason(error)}.") from error
        except pyvips.Error as error:
            raise self._damaged(error) from error
        self._kind, self._bits = str(decoded.image.format), decoded.bits
        self._bands = int(decoded.image.bands)
        self.header = self._header_of(decoded)
        if further == "drop":
            self.header = replace(self.header, alpha="none")
        self._image = decoded.image  # whose memory may be Python's
        self._region = pyvips.Region.new(decoded.image)
        self._start = self._fetched = 0  # rows from start to before fetched are kept
        self._kept = self._room(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and drop what was kept of it."""
        self._region = self._image = None
        self._kept = self._kept[:0]

    def rows(self, start: int, stop: int) -> Pixels:
        """Return the rows from ``start`` to before ``stop``, (stop - start, W, C), upright.

        C is ``header.bands``: grey or RGB, then alpha. Frames follow each other. ``start`` never
        decreases from call to call; rows that were read are kept from the last ``start`` on.

        Raises:
            InputError: the rows do not lie in the image, or lie before those of the last call.
            ImageError: the file is damaged or cut short here.
        """
        if not self._start <= start < stop <= self.header.rows:
            raise InputError(
                f"Rows {start} to {stop} cannot be read: of {self.header.rows} rows those "
                f"before {self._start} are gone."
            )
        kept = self._kept[start - self._start :]
        while self._fetched < start:
            self._fetch(min(start, self._fetched + self.step))
        if self._fetched < stop:
            kept = np.concatenate([kept, self._fetch(stop)])
        self._start, self._kept = start, kept
        return kept[: stop - start].copy()

    def read_rest(self) -> Pixels:
        """Return all rows that were not read yet, (n, W, C); none of them is kept for ``rows``."""
        first, height = self._fetched, self.header.rows
        samples = self._room(height - first)
        while self._fetched < height:
            begin = self._fetched
            step = self._fetch(min(height, begin + self.step))
            samples[begin - first : self._fetched - first] = step
        self._start, self._kept = height, self._kept[:0]
        return samples

    @property
    def step(self) -> int:
        """How many rows are read at once where nobody asks for fewer."""
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
                lines = to_samples(data, kind=self._kind, bits=self._bits, name=self._name)
                lines = lines.reshape(end - row, width, self._bands)
                samples[row - first : end - first] = lines[..., :bands]
        except pyvips.Error as error:
            raise self._damaged(error) from error
        self._fetched = stop
        return samples

    def _lines(self, region: pyvips.Region, start: int, *, rows: int, width: int) -> bytes:
        """Return the bytes of a few rows, or the error that libvips met and only took note of."""
        passed_over = _PASSED_OVER.get(self._format)
        if passed_over is None or self._tolerant:
            return region.fetch(0, start, width, rows)
        with _MESSAGES:
            vips_lib.vips_error_clear()
            data = region.fetch(0, start, width, rows)
            if passed_over.search(ffi.string(vips_lib.vips_error_buffer())):
                raise pyvips.Error("unable to fetch from region")  # takes the message along
        return data

    def _room(self, rows: int) -> Pixels:
        shape = (rows, self.header.width, self.header.bands)
        return np.empty(shape, SAMPLES[self.header.depth])

    def _open(self, file: BinaryIO, limit: int) -> Decoded:
        head = file.read(HEAD)
        self._limit = limit
        self._format = self._format_of(head)
        self._notes = self._complete(file)
        file.seek(HEAD)
        decoded_whole = self._format in _DECODED_WHOLE
        # Before libvips, which reads through the same descriptor.
        self._tags = read_tags(file) if self._format == "tiff" else TiffTags()
        if self._tags.overfull:  # libtiff copies all that they name
            raise ImageError(f"{self._name} is damaged: its tags name more bytes than it has.")
        frames = _png_frames(head + file.read(2**20)) if self._format == "png" else 1
        try:
            image = self._load(file, "sequential", frames=frames)
        except pyvips.Error as error:
            if self._tags.photometric == 8:
                raise ImageError(
                    f"{self._name} is in CIE Lab of 8 bits, which libvips does not read; "
                    "convert it to RGB."
                ) from error
            raise
        for name in ("interlaced", "jpeg-multiscan"):
            decoded_whole |= bool(field_of(image, name, default=0))
        self._check_size(image, min(limit, MAX_PIXELS) if decoded_whole else limit)
        frames = max(frames, field_of(image, "n-pages", default=1))
        self._animation = _animation(image) if self._all else None
        if self._animation is None:
            self._notes += _page_notes(self._format, frames=frames, brand=head[8:12])
            if self._all and frames > 1 and self._format == "png":
                self._notes += ("all frames of a PNG need the package pillow",)
        turn = field_of(image, "orientation", default=1) if self._animation is None else 1
        if turn > 1 or self._format == "webp":
            need_threads()
        if turn > 2:
            self._check_room(image)
            # What is empty is not decoded at length.
            self._lines(pyvips.Region.new(image), 0, rows=1, width=image.width)
            image = self._load(file, "random")
        if turn > 1:
            image = image.autorot()
        return decode(image, name=self._name, tags=self._tags)

    def _complete(self, file: BinaryIO) -> tuple[str, ...]:
        """Put something in place of what the file lacks at its end, and return a note on it."""
        if self._tolerant:
            file.seek(0)
            self._source = file.read() + _MISSING
        elif self._format == "jpeg" and (ended := _ended(file)) is not None:
            self._source = ended
            return ("its last bytes are missing, but all rows are there",)
        elif self._format == "gif" and self._all:  # libvips takes the frames that there are
            file.seek(max(0, file.seek(0, io.SEEK_END) - HEAD))
            if not file.read().rstrip(b"\0").endswith(b";"):
                return ("its end is missing, perhaps with frames of it",)
        return ()

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

    def _load(
        self, file: BinaryIO, access: Literal["sequential", "random"], *, frames: int = 1
    ) -> pyvips.Image:
        file.seek(0)
        if self._format == "heic":
            return load_heif(file, name=self._name, limit=MAX_PIXELS)
        form = FORMATS[self._format]
        animated_png = self._format == "png" and self._all and frames > 1 and has_pillow()
        if not form.by_libvips or animated_png:
            return load_with_pillow(
                file,
                form=form.pillow or "PNG",
                name=self._name,
                limit=self._limit,
                tolerant=self._tolerant,
                cure=self._cure,
            )
        if isinstance(self._source, bytes):
            source = pyvips.Source.new_from_memory(self._source)
        else:
            source = pyvips.Source.new_from_descriptor(file.fileno())
        how: dict[str, Any] = {"access": access, "fail_on": "none" if self._tolerant else "error"}
        if self._all and self._format in ("gif", "webp"):
            how["n"] = -1
        return getattr(pyvips.Image, f"{form.name}load_source")(source, **how)

    def _format_of(self, head: bytes) -> str:
        name = find_format(head)
        if name is not None and FORMATS[name].readable:
            return name
        if name is not None and FORMATS[name].pillow:
            raise UnavailableError(
                f"{self._name} is {FORMATS[name].title}, which needs the package pillow: "
                "pip install 'edgekeeper[image]'."
            )
        if name is not None:
            raise self._not_decoded(FORMATS[name].title)
        if not head:
            raise ImageError(f"{self._name} is empty (0 bytes).")
        *titles, last = (form.title for form in FORMATS.values() if form.readable)
        raise ImageError(f"{self._name} is not an image (of {', '.join(titles)} and {last}).")

    def _check_size(self, image: pyvips.Image, limit: int) -> None:
        if image.width * image.height > limit:
            raise ImageError(
                f"{self._name} is {image.width} x {image.height} pixels; "
                f"at most {limit // 10**6} million are read. Cut it into parts first."
            )

    def _header_of(self, decoded: Decoded) -> Header:
        image = decoded.image
        return Header(
            height=image.height // (1 if self._animation is None else self._animation.frames),
            animation=self._animation,
            width=image.width,
            colours=decoded.colours,
            alpha=decoded.further,
            depth=decoded.depth,
            metadata=metadata_of(image, profile=decoded.profile, tags=self._tags),
            format=self._format,
            notes=(*self._notes, *((decoded.note,) if decoded.note else ())),
        )

    def _not_decoded(self, title: str) -> ImageError:
        return ImageError(
            f"{self._name} is {title}, which the libvips at hand does not decode; "
            "convert it to PNG, JPEG or AVIF."
        )

    def _damaged(self, error: pyvips.Error) -> ImageError:
        why = vips_reason(error)
        if self._format == "tiff" and _UNSUPPORTED.search(why):
            return not_supported(self._name, self._tags.form)
        return ImageError(
            f"{self._name} cannot be decoded; the file is damaged or cut short ({why}).{self._cure}"
        )

    @property
    def _cure(self) -> str:
        if self._format not in _USED_IN_PART or self._tolerant:
            return ""
        return " `edgekeeper upscale --tolerant` takes what is there (in Python: tolerant=True)."


def _opened(source: str | Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else open_plain(source)


def _ended(file: BinaryIO) -> bytes | None:
    """Return a JPEG with the end mark that it lacks; None if it has one."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - _TAIL))
    tail = file.read()
    if tail.rfind(_END_OF_JPEG) > tail.rfind(b"\xff\xda"):  # after the last scan
        return None
    file.seek(0)
    data, at = file.read(), 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data + _END_OF_JPEG if data.find(_END_OF_JPEG, at) < 0 else None  # not a thumbnail's


def _animation(image: pyvips.Image) -> Animation | None:
    """Return how the frames that stand below each other follow; None for one image."""
    frames = image.height // field_of(image, "page-height", default=image.height)
    if frames < 2:
        return None
    delays = [*field_of(image, "delay", default=[]), *[_USUAL_DELAY] * frames][:frames]
    return Animation(delays=tuple(delays), loop=field_of(image, "loop", default=0))


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
