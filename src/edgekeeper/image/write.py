"""Images to files, whole or row by row: complete, or not at all.

The file grows in a hidden folder while rows come, and gets its name when it is complete.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import pyvips

from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import Overwrite, deliver, draft_of
from edgekeeper.image.encode import Encoder
from edgekeeper.image.formats import (
    FORMATS,
    SaveOptions,
    check_fits,
    check_target,
    format_to_write,
    reason,
    write_notes,
)
from edgekeeper.image.image import Header, Image, Pixels
from edgekeeper.image.metadata import add_tags


class ImageWriter:
    """An image file being written from the top; made by ``create_image``, used with ``with``.

    The file appears when the block ends without an exception and all rows were written;
    otherwise nothing is left. Encoding goes on in a thread while the next rows are computed.
    Memory is bounded whatever the size for TIFF, PNG and JPEG; libvips holds WebP and AVIF whole.
    It may be handed from thread to thread, and be used by one at a time.

    Attributes:
        header: what was announced of the image.
        notes: what the format does not keep, each for the user to read.
    """

    header: Header
    notes: tuple[str, ...]

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
        self._dtype = np.dtype(np.uint8 if header.depth == 8 else np.uint16)
        self._encoder: Encoder | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            draft = draft_of(self._target, overwrite=self._overwrite, error=ImageError)
            self._draft = stack.enter_context(draft)
            self._file = stack.enter_context(self._draft.open("r+b"))
            self._encoder = stack.enter_context(
                Encoder(self._file, self.header, form=self._format, options=self._options)
            )
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._cleanup:
            encoder, self._encoder = self._encoder, None
            if error is None and encoder is not None:
                self._finish(encoder)

    def write(self, rows: Pixels) -> None:
        """Append ``rows`` (n, W, C), C = ``header.bands``.

        Raises:
            InputError: the rows are of another form than the header says, or too many.
            ImageError: the file cannot be written, for example because the disk is full.
        """
        if self._encoder is None:
            raise InputError(f"{self._name} is not open for writing; write inside a with block.")
        form = (self.header.width, self.header.bands)
        if rows.ndim != 3 or rows.shape[1:] != form or rows.dtype != self._dtype:
            raise InputError(
                f"The rows must be (n, {form[0]}, {form[1]}) of {self._dtype}, "
                f"got {rows.shape} of {rows.dtype}."
            )
        if self._written + len(rows) > self.header.height:
            raise InputError(f"{self._name} has {self.header.height} rows; more were written.")
        self._encoder.write(rows)
        self._written += len(rows)
        self._check(self._encoder)

    def _finish(self, encoder: Encoder) -> None:
        if self._written != self.header.height:
            raise InputError(
                f"{self._name} is not written: {self._written} of {self.header.height} rows came."
            )
        encoder.finish()
        self._check(encoder)
        try:
            if self._format == "tiff" and self._options.metadata == "keep":
                size, metadata = (self.header.height, self.header.width), self.header.metadata
                add_tags(self._file, exif=metadata.exif, iptc=metadata.iptc, size=size)
            self._file.flush()
        except OSError as error:
            raise self._not_written(error) from error
        deliver(self._draft, self._target, overwrite=self._overwrite, error=ImageError)

    def _check(self, encoder: Encoder) -> None:
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
        why = "there is not enough memory" if isinstance(error, MemoryError) else reason(error)
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

    Raises:
        InputError: a stream without a format.
        ImageError: the format is unknown or cannot hold the image, or the file exists.
    """
    options = options or SaveOptions()
    if isinstance(target, str | Path):
        target = Path(target)
        check_target(target, overwrite=overwrite, options=options)
        form = format_to_write(target, options)
    elif options.format is None:
        raise InputError("A stream has no name to tell the format; give SaveOptions(format=...).")
    else:
        form = options.format
    check_fits(header, name=_name(target), form=FORMATS[form])
    return ImageWriter(target, header, form=form, options=options, overwrite=overwrite)


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
    make grey RGB.

    Raises:
        InputError: ``quality`` is out of range.
        ImageError: the file extension is unknown, the format cannot hold the image, the file
            exists, or it cannot be written, for example because the disk is full.
    """
    path, options = Path(path), options or SaveOptions(quality=quality)
    samples, alpha = image.pixels, image.alpha
    form = FORMATS[format_to_write(path, options)]
    if alpha is not None and form.alpha == "none" and alpha.min() == np.iinfo(alpha.dtype).max:
        image, alpha = replace(image, alpha=None), None  # opaque
    if alpha is not None:
        samples = np.concatenate([samples, alpha[..., None]], axis=2)
    with create_image(path, image.header, options=options, overwrite=overwrite) as writer:
        writer.write(samples)


def _name(target: Path | BinaryIO) -> str:
    return f"'{target}'" if isinstance(target, Path) else "The image"
