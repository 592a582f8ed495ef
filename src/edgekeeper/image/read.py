"""Image files to memory, whole or row by row.

libvips decodes; here it is decided what is read of which file and in which form, and every way in
which a file can be wrong becomes one sentence. What only some files need stands in ``unusual``.
"""

import io
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import pyvips
from pyvips import ffi, vips_lib

from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import open_plain
from edgekeeper.image.formats import (
    FORMATS,
    HEAD,
    MAX_PIXELS,
    MAX_STREAMED_PIXELS,
    MAX_TURNED_PIXELS,
    SAMPLES,
    Animation,
    Further,
    Header,
    Metadata,
    Pixels,
    density_of,
    find_format,
    full,
    has_pillow,
    need_threads,
    vips_reason,
)
from edgekeeper.image.metadata import TiffTags, iptc_records, read_tags
from edgekeeper.image.pillow import load_heif, load_with_pillow
from edgekeeper.image.unusual import (
    CONVERTED,
    END_OF_JPEG,
    SAMPLE_KINDS,
    check_room,
    cure_of,
    damaged,
    ended_jpeg,
    not_readable,
    not_supported,
    page_notes,
    to_samples,
    to_srgb,
    turned,
)

_STEP = 2**24  # samples decoded at once where the caller asks for no rows of its own
_LINES = 16  # rows asked of libvips at once: it holds several times as many (a JPEG's blocks: 16)

# What libvips notes of damage without failing: a lost tile stays black, a lost block grey. To fail
# at every warning instead would refuse files with an odd tag or a byte too many.
_PASSED_OVER = {
    "tiff": re.compile(rb"tiff2vips:"),
    "jpeg": re.compile(rb"Corrupt JPEG data: (?!\d+ extraneous)"),
}
_USUAL_DELAY = 100  # milliseconds, of a frame that says none
_TAIL = 2**16  # bytes before the end of a JPEG in which its end mark is looked for
_MISSING = bytes(2**20)  # in place of what is cut off: some decoders take no data that ends early
_MESSAGES = threading.Lock()  # libvips has one store of messages for all threads
_DECODED_WHOLE = ("webp", "avif", "heic", "gif", "jxl")
_PLAIN = ("b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb")


class ImageReader:
    """An image file being read from the top; made by ``open_image``, closed by ``with``.

    Memory is bounded whatever the size for TIFF, PNG and JPEG; WebP, AVIF, HEIC, GIF, interlaced
    PNG and progressive JPEG are decoded whole by libvips and end at MAX_PIXELS. Images to be
    turned (EXIF orientation 3 to 8) are decoded whole too, above 100 MB to a file in the
    temporary folder, and end at MAX_TURNED_PIXELS. It may be handed from thread to thread, and be
    used by one at a time. Raises ImageError: it cannot be read.
    """

    header: Header  # what is known of the image before its pixels

    def __init__(
        self,
        source: str | Path | bytes,
        *,
        limit: int = MAX_STREAMED_PIXELS,
        frames: Literal["first", "all"] = "first",
        tolerant: bool = False,
    ) -> None:
        self._source, self._tolerant, self._all = source, tolerant, frames == "all"
        self._name = "The image" if isinstance(source, bytes) else f"'{source}'"
        try:
            with io.BytesIO(source) if isinstance(source, bytes) else open_plain(source) as file:
                self._image = self._open(file, limit)  # whose memory may be Python's
        except OSError as error:
            raise ImageError(f"{self._name} cannot be opened: {vips_reason(error)}.") from error
        except pyvips.Error as error:
            raise self._damaged(error) from error
        self._region = pyvips.Region.new(self._image)
        self._start = self._fetched = 0  # rows from start to before fetched are kept
        self._kept = self._room(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file and drop what was kept of it."""
        self._region = self._image = None
        self._kept = self._kept[:0]

    def leave_out_further(self) -> None:
        """Leave out the channel after the colours from the first row on."""
        self.header = replace(self.header, alpha="none")
        self._kept = self._room(0)

    def rows(self, start: int, stop: int) -> Pixels:
        """Return the rows from ``start`` to before ``stop``, (stop - start, W, C), upright.

        C is ``header.bands``: grey or RGB, then alpha. Frames follow each other. ``start`` never
        decreases from call to call; rows that were read are kept from the last ``start`` on.
        Raises InputError: the rows do not lie in the image, or lie before those of the last call;
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
                lines = np.frombuffer(data, SAMPLE_KINDS[self._kind][0])
                if self._kind not in ("uchar", "ushort") or self._bits not in (8, 16):
                    lines = to_samples(lines, kind=self._kind, bits=self._bits, name=self._name)
                lines = lines.reshape(end - row, width, self._bands)
                samples[row - first : end - first] = lines[..., :bands]
        except pyvips.Error as error:
            raise self._damaged(error) from error
        self._fetched = stop
        return samples

    def _lines(self, region: pyvips.Region, start: int, *, rows: int, width: int) -> bytes:
        """Return the bytes of a few rows; raise what libvips met and only took note of."""
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
        header = self.header
        return np.empty((rows, header.width, header.bands), SAMPLES[header.depth])

    def _open(self, file: BinaryIO, limit: int) -> pyvips.Image:
        """Return the image upright, in grey or RGB, and set ``header``."""
        head = file.read(HEAD)
        self._limit, form = limit, find_format(head)
        if form is None or not FORMATS[form].readable:
            raise not_readable(head, name=self._name)
        self._format = form
        notes = self._complete(file)
        file.seek(HEAD)
        decoded_whole = form in _DECODED_WHOLE
        # Before libvips, which reads through the same descriptor.
        tags = self._tags = read_tags(file) if form == "tiff" else TiffTags()
        if tags.overfull:  # libtiff copies all that they name
            raise ImageError(f"{self._name} is damaged: its tags name more bytes than it has.")
        frames = _png_frames(head + file.read(2**20)) if form == "png" else 1
        image = self._load(file, "sequential", frames=frames)
        for name in ("interlaced", "jpeg-multiscan"):
            decoded_whole |= bool(_field(image, name, default=0))
        self._check_size(image, min(limit, MAX_PIXELS) if decoded_whole else limit)
        frames = max(frames, _field(image, "n-pages", default=1))
        animation = _animation(image) if self._all else None
        if animation is None and (frames > 1 or head[8:12] == b"avis"):
            notes += page_notes(form, frames=frames, all_wanted=self._all)
        turn = _field(image, "orientation", default=1)
        if turn > 1 or form == "webp":
            need_threads()
        if turn > 2:
            self._check_size(image, MAX_TURNED_PIXELS)
            check_room(image, name=self._name)
            # What is empty is not decoded at length.
            self._lines(pyvips.Region.new(image), 0, rows=1, width=image.width)
            image = self._load(file, "random", frames=frames)
        if turn > 1:
            image = turned(image, frames=1 if animation is None else animation.frames)
        return self._described(image, animation=animation, notes=notes)

    def _described(
        self, image: pyvips.Image, *, animation: Animation | None, notes: tuple[str, ...]
    ) -> pyvips.Image:
        """Return the image in grey or RGB, whose numbers stay whatever the profile."""
        profile = _field(image, "icc-profile-data", default=None)
        if image.interpretation not in _PLAIN or image.format not in SAMPLE_KINDS:
            image, note = to_srgb(image, name=self._name)
            notes, profile = (*notes, note), None  # it described the inks; sRGB needs none
        elif image.format in CONVERTED:
            notes = (*notes, CONVERTED[image.format])
        if self._tags.photometric == 0 and image.format in ("short", "float"):
            raise not_supported(self._name, "floats or signed numbers with 0 as white")
        bands = image.bands
        colours = bands - 1 if image.hasalpha() else bands
        if colours not in (1, 3) or bands - colours > 1:
            raise ImageError(
                f"{self._name} has {bands} channels; grey or RGB is needed, with one more at most."
            )
        depth = SAMPLE_KINDS[image.format][1]
        self._kind, self._bands = str(image.format), int(bands)
        bits = _field(image, "bits-per-sample", default=depth)  # 10 or 12 in AVIF and HEIC
        notes += ("took 8 bits of the samples, which have more",) if depth == 8 < bits else ()
        self._bits = bits if 8 < bits < 16 and image.format == "ushort" else depth
        self.header = Header(
            height=image.height // (1 if animation is None else animation.frames),
            width=image.width,
            colours=1 if colours == 1 else 3,
            alpha="none" if bands == colours else self._tags.further,
            depth=depth,
            metadata=_metadata_of(image, profile=profile, tags=self._tags),
            format=self._format,
            animation=animation,
            notes=notes,
        )
        return image

    def _complete(self, file: BinaryIO) -> tuple[str, ...]:
        """Put something in place of what the file lacks at its end, and return a note on it."""
        if self._tolerant:
            file.seek(0)
            self._source = file.read() + _MISSING
        elif self._format == "jpeg":
            file.seek(max(0, file.seek(0, io.SEEK_END) - _TAIL))
            tail = file.read()
            if tail.rfind(END_OF_JPEG) <= tail.rfind(b"\xff\xda"):  # not after the last scan
                file.seek(0)
                if (ended := ended_jpeg(file.read())) is not None:
                    self._source = ended
                    return ("its last bytes are missing, but all rows are there",)
        elif self._format == "gif" and self._all:  # libvips takes the frames that there are
            file.seek(max(0, file.seek(0, io.SEEK_END) - HEAD))
            if not file.read().rstrip(b"\0").endswith(b";"):
                return ("its end is missing, perhaps with frames of it",)
        return ()

    def _load(
        self, file: BinaryIO, access: Literal["sequential", "random"], *, frames: int = 1
    ) -> pyvips.Image:
        file.seek(0)
        if self._format == "heic":
            return load_heif(file, name=self._name, limit=MAX_PIXELS)
        form = FORMATS[self._format]
        animated_png = self._format == "png" and self._all and frames > 1 and has_pillow()
        if not form.by_libvips or animated_png:
            kind, name, tolerant = form.pillow or "PNG", self._name, self._tolerant
            cure = cure_of(self._format, tolerant=tolerant)
            return load_with_pillow(
                file, form=kind, name=name, limit=self._limit, tolerant=tolerant, cure=cure
            )
        if isinstance(self._source, bytes):
            source = pyvips.Source.new_from_memory(self._source)
        else:
            source = pyvips.Source.new_from_descriptor(file.fileno())
        how: dict[str, Any] = {"access": access, "fail_on": "none" if self._tolerant else "error"}
        if self._all and self._format in ("gif", "webp"):
            how["n"] = -1
        return getattr(pyvips.Image, f"{form.name}load_source")(source, **how)

    def _check_size(self, image: pyvips.Image, limit: int) -> None:
        if image.width * image.height > limit:
            raise ImageError(
                f"{self._name} is {image.width} x {image.height} pixels; "
                f"at most {limit // 10**6} million are read. Cut it into parts first."
            )

    def _damaged(self, error: pyvips.Error) -> ImageError:
        cure = cure_of(self._format, tolerant=self._tolerant)
        return damaged(vips_reason(error), name=self._name, tags=self._tags, cure=cure)


def open_image(
    source: str | Path | bytes,
    *,
    holds: Further = "extra",
    frames: Literal["first", "all"] = "first",
    limit: int = MAX_STREAMED_PIXELS,
    tolerant: bool = False,
) -> ImageReader:
    """Return a reader of the image file ``source``, a path or its bytes, to use with ``with``.

    ``holds`` says what is wanted beside the colours: nothing, alpha, or any channel. One that
    says nothing of transparency is left out with a note, and alpha where it is opaque everywhere.
    ``frames`` says how much of an animation (GIF, WebP, PNG with Pillow) is read. Of a damaged
    file ``tolerant`` takes the rows that can be decoded, with a note.
    Raises ImageError: the file is missing, empty, no image, damaged in its header, or larger than
    ``limit`` pixels, or its samples are not of 8, 16 or 32 bits.
    """
    damage = _damage_of(source) if tolerant else ""
    limit = min(limit, MAX_PIXELS) if damage else limit  # of rows that are not there
    reader = ImageReader(source, limit=limit, frames=frames, tolerant=bool(damage))
    header, notes = reader.header, reader.header.notes + ((damage,) if damage else ())
    unheld = header.alpha == "extra" != holds
    if unheld:
        notes += ("left out its further channel, which says nothing of transparency",)
    if unheld or (header.alpha == "straight" and holds == "none" and _is_opaque(source, damage)):
        reader.leave_out_further()
    reader.header = replace(reader.header, notes=notes)
    return reader


def _animation(image: pyvips.Image) -> Animation | None:
    """Return how the frames that stand below each other follow; None for one image."""
    frames = image.height // _field(image, "page-height", default=image.height)
    if frames < 2:
        return None
    delays = [*_field(image, "delay", default=[]), *[_USUAL_DELAY] * frames][:frames]
    return Animation(delays=tuple(delays), loop=_field(image, "loop", default=0))


def _png_frames(begin: bytes) -> int:
    """Return the frames that an animated PNG announces before its first image, else 1."""
    _, animation, after = begin.partition(b"IDAT")[0].partition(b"acTL")
    return int.from_bytes(after[:4], "big") if animation else 1


def _metadata_of(image: pyvips.Image, *, profile: bytes | None, tags: TiffTags) -> Metadata:
    """Return what goes along with the pixels; ``tags`` where libvips does not read it."""
    exif = _field(image, "exif-data", default=tags.exif)
    xmp, captions = (_field(image, f"{name}-data", default=None) for name in ("xmp", "iptc"))
    iptc = tags.iptc or (iptc_records(captions) if captions else None)
    density = (image.xres, image.yres)
    if density == (1.0, 1.0) and exif is not None:
        density = density_of(exif)
    return Metadata(icc=profile, exif=exif, xmp=xmp, iptc=iptc, pixels_per_mm=density)


def _field(image: pyvips.Image, name: str, *, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) != 0 else default


def _damage_of(source: str | Path | bytes) -> str:
    """Return what is to be said of the damage of a file; nothing of a whole one."""
    row = 0
    try:
        with ImageReader(source) as reader:
            height = reader.header.rows
            for row in range(0, height, _LINES):
                reader.rows(row, min(height, row + _LINES))
    except ImageError:
        where = f"the rows from about {row} of {height} on are lost" if row else "parts are lost"
        return f"is damaged or cut short: {where}"
    return ""


def _is_opaque(source: str | Path | bytes, damage: str) -> bool:
    with ImageReader(source, tolerant=bool(damage)) as reader:
        height, step, top = reader.header.rows, reader.step, full(reader.header.depth)
        parts = (reader.rows(row, min(height, row + step)) for row in range(0, height, step))
        return all(bool((part[..., -1] == top).all()) for part in parts)
