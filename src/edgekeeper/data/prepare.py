"""Packed stores made from image files."""

import csv
import hashlib
import io
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from edgekeeper.data.degrade import LrKernel, crop_to_multiple, make_lr, to_bytes
from edgekeeper.data.patches import Region
from edgekeeper.data.store import INDEX, PIXELS, Entry, Index, Store, write_index
from edgekeeper.errors import DataError, ImageError, InputError
from edgekeeper.files import (
    follow,
    make_folder,
    new_file,
    not_written,
    read_text,
    reading,
    sha256_of,
    staging,
    write_text,
)
from edgekeeper.image import NotRead, list_images, read_image, to_rgb_tensor
from edgekeeper.ops.color import round_uint8
from edgekeeper.ops.resize import imresize
from edgekeeper.spec import Allowed, Checked


@dataclass(frozen=True)
class SourceImage:
    """An image file to train on and the licence under which it is used."""

    path: Path
    licence: str = "unknown"


@dataclass(frozen=True)
class Teacher(Checked):
    """A network whose results another is to learn (knowledge distillation).

    What cannot be known from LR is noise to a network that is trained by few patches at a time; in
    the results of a teacher there is none.

    Attributes:
        name: of the network.
        scale: at which it teaches.
        share: of its result in the HR image that is stored, above 0; the rest is the true HR image.
        network: gives SR (1, 3, sH, sW) of LR (1, 3, H, W), both in [0, 1].
        origin: what the cards of those that learn say of it, as `pretrained.cards.ancestor` does.
    """

    name: str
    scale: int
    share: Annotated[float, Allowed("a number above 0, at most 1", lambda x: 0 < x <= 1)]
    network: Callable[[Tensor], Tensor]
    origin: Mapping[str, object] = field(default_factory=dict)

    def hr(self, hr: Tensor, lr: Tensor) -> Tensor:
        """Return what is to be learned instead of ``hr`` (1, 3, sH, sW), in steps of 1/255.

        Raises InputError: the result has another size than ``hr``, or is not finite.
        """
        sr = self.network(lr)
        if sr.shape != hr.shape or not sr.isfinite().all():
            fault = "not finite" if sr.shape == hr.shape else f"{tuple(sr.shape)}"
            raise InputError(
                f"What the teacher {self.name} makes of LR {tuple(lr.shape)} is {fault}; finite "
                f"values of shape {tuple(hr.shape)} are needed."
            )
        return round_uint8(torch.lerp(hr, sr, self.share))


# Called with (sources done, sources in all, name of the source just done)
_Progress = Callable[[int, int, str], None]


# Beside images: their licences, one by one, in the columns ``file`` and ``licence``
ORIGIN = "ORIGIN.csv"


def sources_in(
    folder: str | Path, *, licence: str = "unknown", on_left_out: NotRead | None = None
) -> list[SourceImage]:
    """Return the image files in and below ``folder``, sorted, as sources; DataError for none.

    A file ``ORIGIN.csv`` in a folder gives each of its images its own licence; ``licence`` is that
    of the others. ``on_left_out`` is told of folders that cannot be read.
    """
    found = list_images(folder, depth="tree", on_unread=on_left_out)
    if not found:
        raise DataError(f"The folder '{folder}' holds no images.")
    own = {place: _licences(place / ORIGIN) for place in {path.parent for path in found}}
    return [SourceImage(path, own[path.parent].get(path.name, licence)) for path in found]


def _licences(table: Path) -> dict[str, str]:
    if not os.path.lexists(table):
        return {}
    with reading(table, error=DataError):
        rows = list(csv.DictReader(read_text(table).splitlines()))
    if any(not row.get("file") or not row.get("licence") for row in rows):
        raise DataError(f"'{table}' must have the columns file and licence, filled in every row.")
    return {row["file"]: row["licence"] for row in rows}


def write_licences(table: Path, licences: Mapping[str, str]) -> None:
    """Write ``ORIGIN.csv`` for images whose licence is known. Raises DataError."""
    lines = io.StringIO()
    rows = [{"file": file, "licence": licence} for file, licence in licences.items() if licence]
    writer = csv.DictWriter(lines, ["file", "licence"])
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, lines.getvalue(), error=DataError)


def prepare_store(
    images: Sequence[SourceImage],
    target: str | Path,
    *,
    scales: Sequence[int] = (2, 3, 4),
    lr_kernel: LrKernel = "matlab_uint8",
    shrink: Sequence[int] = (1,),
    long_sides: Sequence[int] = (),
    min_side: int = 1,
    teacher: Teacher | None = None,
    overwrite: Literal["refuse", "replace"] = "refuse",
    progress: _Progress | None = None,
    on_left_out: NotRead | None = None,
) -> Store:
    """Return the store made of ``images`` in the new folder ``target``.

    Each source gives one HR image per factor of ``shrink``: 1 is the source itself, 2 or 3 a copy
    shrunk by MATLAB's bicubic, which removes the marks of JPEG from large photographs. With
    ``long_sides`` it gives one per length instead, shrunk to so many pixels on its long side: a
    whole scene in 500 pixels teaches more than a sky in 1,800. HR images are cropped to a multiple
    of all ``scales``; those with a side below ``min_side`` are left out. Alpha is dropped, grey
    becomes RGB. With a ``teacher``, HR is for the most part what that makes of LR. A file that
    cannot be read is told to ``on_left_out``, or an error without it. The store is written beside
    ``target`` and renamed when complete: a failure leaves nothing but what a teacher made, if its
    ``origin`` has a ``sha256``, in ``TARGET.taught``, from which the same call goes on.
    Raises DataError: nothing can be read, or ``target`` is in the way; InputError.
    """
    folder = follow(Path(target))
    _check_arguments(images, scales, shrink, long_sides, teacher)
    _check_free(folder, overwrite)
    make_folder(folder.parent, error=DataError)
    kept = folder.with_name(f"{folder.name}.taught")
    try:
        with staging(folder.parent) as hidden:
            partial = hidden / folder.name
            partial.mkdir()
            with (partial / PIXELS).open("wb") as pixels:
                writer = Writer(
                    pixels,
                    tuple(scales),
                    lr_kernel,
                    min_side,
                    tuple(shrink),
                    tuple(long_sides),
                    teacher,
                    kept,
                )
                unread = len(images)
                for number, source in enumerate(images, start=1):
                    image = _read(source.path, on_left_out=on_left_out)
                    if image is not None:
                        unread -= 1
                        writer.add(source, image[0], sha256=image[1])
                    if progress is not None:
                        progress(number, len(images), source.path.name)
                if unread == len(images):
                    raise DataError("None of the images can be read; no store is made.")
                index = writer.index()
            write_index(index, partial / INDEX)
            _check_free(folder, overwrite)  # hours may have passed
            if folder.exists():
                # The old store leaves its name first, so that a name never holds half a store.
                folder.rename(hidden / "replaced")
            partial.rename(folder)
        for file in writer.used:
            file.unlink(missing_ok=True)
        if writer.used:
            with suppress(OSError):  # something else is in it
                kept.rmdir()
    except OSError as error:
        raise not_written(folder, error, error=DataError) from error
    return Store.open(folder)


def _check_free(folder: Path, overwrite: Literal["refuse", "replace"]) -> None:
    if folder.exists() and overwrite == "refuse":
        raise DataError(f"'{folder}' exists already; choose another name or overwrite='replace'.")
    if folder.exists() and not (folder / INDEX).is_file():
        raise DataError(f"'{folder}' is no packed store, and is not replaced; choose another name.")


def _read(path: Path, *, on_left_out: NotRead | None) -> tuple[Tensor, str] | None:
    """Return image (1, 3, H, W) and the file's SHA-256; None where ``on_left_out`` was told."""
    try:
        sha256 = sha256_of(path, error=ImageError)
        return to_rgb_tensor(read_image(path)), sha256
    except Exception as error:
        if on_left_out is None:
            raise
        why = str(error)
        if not isinstance(error, ImageError):  # what nobody thought of
            logging.getLogger(__name__).debug("'%s'", path, exc_info=error)
            why = f"'{path}': unexpected {type(error).__name__}: {error}"
        on_left_out(path, why)
        return None


def _check_arguments(
    images: Sequence[SourceImage],
    scales: Sequence[int],
    shrink: Sequence[int],
    long_sides: Sequence[int],
    teacher: Teacher | None,
) -> None:
    if not images:
        raise InputError("There are no images to prepare; give at least one.")
    for name, factors in (("scales", scales), ("shrink", shrink)):
        lowest = 1 if name == "shrink" else 2
        if not factors or min(factors) < lowest or len(set(factors)) != len(factors):
            raise InputError(
                f"{name} is {tuple(factors)}; give different whole numbers from {lowest} on."
            )
    if teacher is not None and tuple(scales) != (teacher.scale,):
        raise InputError(
            f"The teacher {teacher.name} is for ×{teacher.scale}, but LR images were asked for at "
            f"{', '.join(f'×{scale}' for scale in scales)}; ask for ×{teacher.scale} alone."
        )
    if long_sides and min(long_sides) < 1:
        raise InputError(f"long_sides is {tuple(long_sides)}; give pixels from 1 on.")


@dataclass
class Writer:
    """Appends images to the pixel file of a store and remembers what it wrote."""

    file: BinaryIO
    scales: tuple[int, ...]
    lr_kernel: LrKernel
    min_side: int
    shrink: tuple[int, ...]
    long_sides: tuple[int, ...]
    teacher: Teacher | None = None
    kept: Path | None = None  # folder of what the teacher made, to go on from
    used: set[Path] = field(default_factory=set)  # files in it, of this store
    entries: list[Entry] = field(default_factory=list)
    offset: int = 0

    def __post_init__(self) -> None:
        self.digest, self.of_image = hashlib.sha256(), hashlib.sha256()

    def add(self, source: SourceImage, image: Tensor, *, sha256: str) -> None:
        """Write the HR images of ``source``, which was read, and their LR images."""
        factors: Sequence[float] = self.shrink
        if self.long_sides:
            long = max(image.shape[-2:])
            factors = tuple(dict.fromkeys(max(1, long / side) for side in self.long_sides))
        for factor, hr in self.shrunk(image, factors):
            # Regions are written in the order in which they are named here.
            self.of_image = hashlib.sha256()
            small = {
                scale: make_lr(hr, scale=scale, kernel=self.lr_kernel)
                for scale in sorted(self.scales)
            }
            if self.teacher is not None:
                hr = self.taught(hr, small[self.teacher.scale], teacher=self.teacher)
            region = self.write(hr)
            lr = {scale: self.write(image) for scale, image in small.items()}
            path, own = source.path, self.of_image.hexdigest()
            name = path.stem if factor == 1 else f"{path.stem}_shrunk{factor:g}"
            entry = Entry(name, path.name, sha256, source.licence, factor, region, lr, own)
            self.entries.append(entry)

    def taught(self, hr: Tensor, lr: Tensor, *, teacher: Teacher) -> Tensor:
        """Return ``teacher.hr(hr, lr)``, made now or in an earlier call that was stopped."""
        sha256 = teacher.origin.get("sha256")
        if sha256 is None or self.kept is None:
            return teacher.hr(hr, lr)
        key = hashlib.sha256(f"{sha256} {teacher.share} {tuple(hr.shape)}".encode())
        for image in (hr, lr):
            key.update(to_bytes(image).contiguous().numpy().data)
        file = self.kept / key.hexdigest()
        self.used.add(file)
        if file.is_file() and file.stat().st_size == hr.numel():
            made = torch.from_numpy(np.fromfile(file, np.uint8))
            return made.reshape(hr.shape).float() / 255
        result = teacher.hr(hr, lr)
        make_folder(self.kept, error=DataError)
        with new_file(file, error=DataError) as draft:
            draft.write_bytes(to_bytes(result).contiguous().numpy().data)
        return result

    def shrunk(self, image: Tensor, factors: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
        """(factor, HR image) for each factor whose copy is large enough."""
        multiple = math.lcm(*self.scales)
        for factor in factors:
            sides = [math.ceil(side / factor) // multiple * multiple for side in image.shape[-2:]]
            if min(sides) < max(self.min_side, multiple):
                continue
            small = image if factor == 1 else imresize(image, scale=1 / factor)
            yield factor, round_uint8(crop_to_multiple(small, multiple))

    def write(self, image: Tensor) -> Region:
        """Return where the ``image`` (1, 3, H, W) now lies in the file."""
        content = to_bytes(image).contiguous().numpy().data
        self.file.write(content)
        self.digest.update(content)
        self.of_image.update(content)
        region = Region(self.offset, image.shape[-2], image.shape[-1])
        self.offset += region.nbytes
        return region

    def index(self) -> Index:
        """Return the index of all that was written; DataError when nothing was large enough."""
        if not self.entries:
            raise DataError(
                "No image is large enough: after shrinking, the short side must be at least "
                f"{max(self.min_side, math.lcm(*self.scales))} pixels."
            )
        said: dict[str, object] = {}
        if (teacher := self.teacher) is not None:
            said = {"name": teacher.name, **teacher.origin, "share": teacher.share}
        return Index(
            scales=tuple(sorted(self.scales)),
            lr_kernel=self.lr_kernel,
            pixels_bytes=self.offset,
            pixels_sha256=self.digest.hexdigest(),
            images=tuple(self.entries),
            teacher=said,
        )
