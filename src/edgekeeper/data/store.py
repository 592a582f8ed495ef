"""The packed store: all training images decoded once, in one file that is mapped into memory.

Reading a patch is then a copy of some rows, not the decoding of an image. HR and LR lie side by
side, as three planes of uint8 each.
"""

import copy
import hashlib
import json
import mmap
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.data.patches import (
    Augment,
    Crop,
    Positions,
    Region,
    Windows,
    read_device,
    read_memory,
    windows,
)
from edgekeeper.errors import DataError, InputError
from edgekeeper.files import parse_json, read_text, write_text

Memory = Literal["pageable", "pinned"]

# ---- What a store holds: the typed form of its index.json ----

_FORMAT = "edgekeeper packed store"
VERSION = 1
PIXELS, INDEX = "pixels.bin", "index.json"


@dataclass(frozen=True)
class Entry:
    """One HR image of a store with its LR images, by scale, and where it came from.

    ``shrink`` is the factor by which the source was shrunk before (no whole number where the long
    side was asked for). ``sha256``: of its HR and LR bytes ("" in earlier stores).
    """

    name: str
    source: str
    source_sha256: str
    licence: str
    shrink: float
    hr: Region
    lr: dict[int, Region]
    sha256: str = ""

    @property
    def place(self) -> slice:
        """Which bytes of the pixels are those of HR and LR."""
        regions = [self.hr, *self.lr.values()]
        return slice(self.hr.offset, self.hr.offset + sum(r.nbytes for r in regions))


@dataclass(frozen=True)
class Index:
    """The whole index: how LR was made, the digest of the pixels and all images.

    ``teacher``: whose results are in the HR images, and their ``share``; empty for nobody's.
    """

    scales: tuple[int, ...]
    lr_kernel: str
    pixels_bytes: int
    pixels_sha256: str
    images: tuple[Entry, ...]
    teacher: dict[str, Any] = field(default_factory=dict)


def write_index(index: Index, path: Path) -> None:
    """Write ``index`` as JSON, one image per line group, to the new file ``path``."""
    content = {"format": _FORMAT, "version": VERSION, **asdict(index)}
    write_text(path, json.dumps(content, indent=1) + "\n", error=DataError)


def read_index(path: Path) -> Index:
    """The index in the file ``path``, checked; raises DataError when it is not a sound one."""
    try:
        content = parse_json(read_text(path))
        if content.get("format") != _FORMAT:
            raise ValueError("it is not the index of a packed store")
        if content.get("version") != VERSION:
            raise ValueError(f"version {content.get('version')} of the format; {VERSION} is read")
        index = _index_from(content)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"'{path.parent}' is not a packed store: it has no {path.name}. "
            "Make one with `edgekeeper data prepare` (in Python: data.prepare.prepare_store)."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"The index '{path}' cannot be read or is damaged ({type(error).__name__}: {error}). "
            "Prepare the store anew."
        ) from error
    _check_index(index, path)
    return index


def _index_from(content: dict[str, Any]) -> Index:
    images = []
    stored = content["images" if "images" in content else "pictures"]  # as earlier versions call it
    for item in stored:
        lr = {int(scale): Region(**region) for scale, region in item["lr"].items()}
        images.append(Entry(**{**item, "hr": Region(**item["hr"]), "lr": lr}))
    teacher = content.get("teacher") or {}
    if isinstance(teacher, str):  # "NAME, SHARE", as earlier versions wrote it
        name, _, share = teacher.rpartition(", ")
        teacher = {"name": name, "share": float(share)}
    return Index(
        scales=tuple(int(scale) for scale in content["scales"]),
        lr_kernel=str(content["lr_kernel"]),
        pixels_bytes=int(content["pixels_bytes"]),
        pixels_sha256=str(content["pixels_sha256"]),
        images=tuple(images),
        teacher=dict(teacher),
    )


def _check_index(index: Index, path: Path) -> None:
    end = 0
    for entry in index.images:
        if set(entry.lr) != set(index.scales):
            raise DataError(f"'{path}': '{entry.name}' lacks LR images. Prepare the store anew.")
        for scale, region in [(1, entry.hr), *sorted(entry.lr.items())]:
            fits = (entry.hr.height, entry.hr.width) == (
                scale * region.height,
                scale * region.width,
            )
            if not fits or region.offset != end or region.nbytes <= 0:
                raise DataError(
                    f"'{path}': the place or size of '{entry.name}' at scale {scale} is wrong. "
                    "Prepare the store anew."
                )
            end += region.nbytes
    if end != index.pixels_bytes or not index.images:
        raise DataError(
            f"'{path}' describes {end} of {index.pixels_bytes} bytes. Prepare the store anew."
        )


# ---- Reading ----


@dataclass(frozen=True)
class Batch:
    """Aligned patches: ``lr`` (B, 3, p, p) and ``hr`` (B, 3, scale * p, scale * p).

    uint8 as stored; ``as_float`` gives the same batch in [0, 1].
    """

    lr: Tensor
    hr: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch on ``device``; from pinned memory the copy does not wait."""
        wait_free = self.lr.device.type == "cpu" and self.lr.is_pinned()
        return Batch(*(t.to(device, non_blocking=wait_free) for t in (self.lr, self.hr)))

    def as_float(self) -> "Batch":
        """Return the same batch as float32 in [0, 1]."""
        return Batch(self.lr.float() / 255, self.hr.float() / 255)


class Asked(TypedDict):
    """What each batch of a run is asked for; see ``Store.batch``."""

    seed: int
    size: int
    patch: int
    scale: int
    augment: NotRequired[Augment]
    crop: NotRequired[Crop]
    memory: NotRequired[Memory]
    rank: NotRequired[int]
    ranks: NotRequired[int]


class Store:
    """A packed store opened for reading, by ``Store.open``; ``fingerprint`` identifies it."""

    streamed = False  # nothing of it is kept here (`edgekeeper.data.remote`)

    def __init__(self, path: Path | str, index: Index, mapped: mmap.mmap | None) -> None:
        self.path = Path(path)
        self.index = index
        self.place = str(path)  # a folder or an address
        self.mapped = mapped
        self.resident: Tensor | None = None
        self.hr_regions = [entry.hr for entry in index.images]
        self.lr_regions = {s: [entry.lr[s] for entry in index.images] for s in index.scales}
        self.positions = lru_cache(maxsize=16)(self._positions)

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """The store in the folder ``path``, mapped read-only; DataError when it is not sound."""
        folder = Path(path)
        index = read_index(folder / INDEX)
        file = folder / PIXELS
        size = file.stat().st_size if file.is_file() else -1
        if size != index.pixels_bytes:
            found = "is missing" if size < 0 else f"has {size} bytes"
            raise DataError(
                f"'{file}' {found}; the index says {index.pixels_bytes} bytes. "
                "The store is incomplete: prepare it anew."
            )
        with file.open("rb") as opened:
            return cls(folder, index, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))

    @property
    def images(self) -> tuple[Entry, ...]:
        """What the store holds, in the order of the file."""
        return self.index.images

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales for which LR images are stored."""
        return self.index.scales

    @property
    def lr_kernel(self) -> str:
        """How the LR images were made (a name of ``degrade.LR_KERNELS``)."""
        return self.index.lr_kernel

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pixels, as 64 hexadecimal digits."""
        return self.index.pixels_sha256

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """All pixels, flat and read-only; DataError when the file has become shorter."""
        assert self.mapped is not None
        # Else reading is a bus error, as it is when the file is cut in the middle of a read.
        if self.mapped.size() < self.index.pixels_bytes:
            raise DataError(
                f"'{self.path / PIXELS}' was cut to {self.mapped.size()} bytes while it was in "
                f"use; the index says {self.index.pixels_bytes} bytes. Prepare the store anew."
            )
        return np.frombuffer(self.mapped, np.uint8)

    @property
    def device(self) -> torch.device:
        """Where batches come out."""
        return torch.device("cpu") if self.resident is None else self.resident.device

    def verify(self, *, images: int | None = None) -> None:
        """Raise DataError unless the pixels have the digest of the index.

        With ``images`` only so many, spread over the store, are looked at, if each has a digest.
        """
        looked_at = [(slice(None), self.fingerprint)]
        if images is not None and all(entry.sha256 for entry in self.images):
            numbers = np.linspace(0, len(self.images) - 1, images).round().astype(int)
            chosen = [self.images[number] for number in np.unique(numbers)]
            looked_at = [(entry.place, entry.sha256) for entry in chosen]
        for place, digest in looked_at:
            found = hashlib.sha256(self.bytes_at(place).data).hexdigest()
            if found != digest:
                raise DataError(
                    f"The pixels of '{self.place}' have changed since the store was made: SHA-256 "
                    f"is {found}, the index says {digest}. Prepare the store anew."
                )

    def to(self, device: torch.device | str) -> "Store":
        """The same store with all pixels copied to ``device``; gives the same batches there."""
        there = copy.copy(self)
        # A copy first: torch cannot wrap the read-only mapping.
        there.resident = torch.from_numpy(self.bytes_at(slice(None)).copy()).to(device)
        there.streamed = False
        return there

    def hr(self, number: int) -> Tensor:
        """Return the HR image ``number`` (3, H, W) uint8."""
        return self._image(self.hr_regions[number])

    def lr(self, number: int, *, scale: int) -> Tensor:
        """Return the LR image ``number`` (3, H / scale, W / scale) uint8."""
        self._check_scale(scale)
        return self._image(self.lr_regions[scale][number])

    def batch(
        self,
        *,
        seed: int,
        step: int,
        size: int,
        patch: int,
        scale: int,
        augment: Augment = "eight",
        crop: Crop = "random",
        rank: int = 0,
        ranks: int = 1,
        memory: Memory = "pageable",
    ) -> Batch:
        """``size`` aligned patches, a pure function of the arguments and the stored pixels.

        ``patch`` is the HR side in pixels. Patch i depends on (seed, step, i) alone; of all that
        ``ranks`` processes share, rank ``rank`` is given its part (as ``Tensor.tensor_split``).
        ``memory="pinned"`` makes the copy to a CUDA device faster. ``crop="random"``: an image
        counts by its area. ``crop="centre"``: one centre crop per image and epoch; then patch i is
        number ``step * size + i`` of the endless sequence of epochs. Raises InputError.
        """
        self._check_scale(scale)
        if patch < scale or patch % scale or not 0 <= rank < ranks <= size:
            raise InputError(
                f"size is {size}, patch {patch}, rank {rank} of {ranks}; size must be at least "
                f"ranks, patch (in HR pixels) a multiple of the scale {scale}, rank below ranks."
            )
        least, more = divmod(size, ranks)
        places = self.positions(scale, patch // scale).draw(
            crop,
            seed=seed,
            step=step,
            first=rank * least + min(rank, more),
            count=least + (rank < more),
            whole=size,
            augment=augment,
        )
        side = patch // scale
        lr = windows(places, self.lr_regions[scale], patch=side, factor=1)
        hr = windows(places, self.hr_regions, patch=side, factor=scale)
        if self.resident is not None:
            return Batch(read_device(self.resident, lr), read_device(self.resident, hr))
        pinned = memory == "pinned"
        if pinned and not torch.cuda.is_available():
            raise InputError("memory='pinned' needs a CUDA device; use 'pageable' without one.")
        return Batch(self.read(lr, pinned=pinned), self.read(hr, pinned=pinned))

    def read(self, walks: Windows, *, pinned: bool) -> Tensor:
        """Return the patches (B, 3, size, size) uint8 along ``walks``, on the processor."""
        return read_memory(self.pixels, walks, pinned=pinned)

    def bytes_at(self, place: slice) -> NDArray[np.uint8]:
        """Return so many of the pixels, flat and read-only."""
        return self.pixels[place]

    def batches(
        self, *, start: int = 0, workers: int = 0, **asked: Unpack[Asked]
    ) -> Iterator[Batch]:
        """Return the endless batches of the steps start, start + 1, ...; ``asked`` as in ``batch``.

        ``workers`` threads read up to four batches in advance; the batches are the same for any
        number of them. Close the iterator (or drop it) to stop the threads. Raises InputError.
        """

        def read(step: int) -> Batch:
            return self.batch(step=step, **asked)

        if workers < 0:
            raise InputError(f"workers is {workers}; it is a number of threads, from 0 on.")
        if workers == 0:
            return (read(step) for step in count(start))
        return _in_advance(read, start=start, workers=workers)

    def _positions(self, scale: int, patch: int) -> Positions:
        return Positions(self.lr_regions[scale], patch=patch)

    def _image(self, region: Region) -> Tensor:
        flat = self.bytes_at(slice(region.offset, region.offset + region.nbytes))
        return torch.from_numpy(flat.copy()).reshape(3, region.height, region.width)

    def _check_scale(self, scale: int) -> None:
        if scale not in self.lr_regions:
            known = ", ".join(str(s) for s in self.scales)
            raise InputError(
                f"The store '{self.place}' has no LR at scale {scale}; it has {known}."
            )


def _in_advance(read: Callable[[int], Batch], *, start: int, workers: int) -> Iterator[Batch]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgekeeper-batches")
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in count(start):
            waiting.append(pool.submit(read, step))
            if len(waiting) > 4:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
