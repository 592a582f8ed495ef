"""Pairs of LR and HR images to test on, from the folders in which the sets are published.

The layouts are told apart by what lies in the folder:
``image_SRF_s/img_NNN_SRF_s_{HR,LR}.png`` (SelfExSR), ``HR/*.jpg`` beside ``image_SRF_s/*_LR.png``
(BSD100; ``index.csv`` pairs them, without it the order of the names does), HR images in ``HR``,
``GT``, ``NAME_HR`` or the folder itself with LR images in ``LR``, ``LQ``, ``LR_bicubic`` or
``NAME_LR_bicubic`` (there or in its ``X4``), paired by name, and a plain folder of HR images.
LR images that are there are used or refused, never passed over.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from operator import attrgetter
from pathlib import Path
from typing import Literal

from torch import Tensor

from edgekeeper.data.catalogue import ImageSet, find_set, names
from edgekeeper.data.degrade import LrKernel, crop_to_multiple, make_lr
from edgekeeper.errors import DataError, InputError
from edgekeeper.image import list_images, read_image, to_rgb_tensor
from edgekeeper.ops.color import round_uint8

DEFAULT_KERNEL: LrKernel = "matlab_uint8"


@dataclass(frozen=True)
class Pair:
    """A test image; the pixels are read on demand.

    ``lr_path`` None: LR is made from HR with ``lr_kernel``.
    """

    name: str
    scale: int
    hr_path: Path
    lr_path: Path | None
    lr_kernel: LrKernel | Literal["own files"] = DEFAULT_KERNEL

    def hr(self) -> Tensor:
        """Return the HR image (1, 3, H, W), cropped to multiples of the scale. Raises DataError."""
        image = crop_to_multiple(to_rgb_tensor(read_image(self.hr_path)), self.scale)
        if 0 in image.shape:
            raise DataError(f"'{self.hr_path}' has a side of less than {self.scale} pixels.")
        return round_uint8(image)

    def lr(self) -> Tensor:
        """Return the LR image (1, 3, H / s, W / s) in [0, 1], on the grid of 1/255."""
        if self.lr_path is None:
            assert self.lr_kernel != "own files"
            return make_lr(self.hr(), scale=self.scale, kernel=self.lr_kernel)
        return to_rgb_tensor(read_image(self.lr_path))


def load_pairs(
    set_name: str | Path,
    *,
    scale: int,
    root: str | Path = ".",
    lr: LrKernel | Literal["stored"] = "stored",
    lr_folder: str | Path | None = None,
) -> list[Pair]:
    """Return the pairs of a set at ``scale``, sorted by file name.

    ``set_name`` is a set of the catalogue, below the data folder ``root``, or the folder of one's
    own images. ``lr="stored"`` takes the set's LR files where it has them and makes the others by
    ``matlab_uint8``; a kernel's name makes all of them. ``lr_folder`` holds the LR images of a
    folder of one's own. Raises DataError when images are missing or LR images could not be used.
    InputError: another scale.
    """
    if not isinstance(scale, Integral) or scale < 2:
        raise InputError(f"scale is {scale}; it must be a whole number from 2 on.")
    folder, entry = _folder(set_name, root=Path(root))
    own = _own(folder, scale=scale, lr_folder=lr_folder) if entry is None or lr_folder else None
    if own is not None:
        if lr not in ("stored", DEFAULT_KERNEL):
            raise DataError(
                f"LR images of their own belong to '{folder}', but the protocol makes LR by "
                f"'{lr}': choose another protocol, such as y_matlab, or give the HR folder alone."
            )
        return [Pair(high.stem, scale, high, low, "own files") for high, low in own]
    hr_scale = entry.hr_scale if entry is not None and entry.hr_scale else scale
    if (folder / "HR").is_dir():
        files = _separate_hr(folder, scale=scale)
    elif list(folder.glob("image_SRF_*")):
        files = _selfexsr(folder, scale=scale, hr_scale=hr_scale)
    else:
        files = [(path.stem, path, None) for path in list_images(folder)]
    if not files:
        raise DataError(f"'{folder}' holds no images for scale {scale}.")
    by_name([high for _, high, _ in files])
    if entry is not None and len(files) != entry.count:
        raise DataError(
            f"'{folder}' holds {len(files)} images at scale {scale}; {entry.title} has "
            f"{entry.count}. The set is incomplete: get it anew from {entry.origin}."
        )
    if entry is not None and entry.names:
        files = [(n, hr, low) for n, (_, hr, low) in zip(entry.names, files, strict=True)]
    stored = lr == "stored"
    kernel = DEFAULT_KERNEL if lr == "stored" else lr
    return [Pair(name, scale, hr, low if stored else None, kernel) for name, hr, low in files]


Files = list[tuple[str, Path, Path | None]]


def _folder(set_name: str | Path, *, root: Path) -> tuple[Path, ImageSet | None]:
    known = isinstance(set_name, str) and set_name.lower() in names()
    if not known and (
        isinstance(set_name, Path) or Path(set_name).name != set_name or Path(set_name).is_dir()
    ):
        folder = Path(set_name)
        if not folder.is_dir():
            raise DataError(f"There is no folder '{folder}'.")
        return folder, None
    entry = find_set(str(set_name))
    # Both the full data tree and a folder that holds just the sets are common.
    for folder in (root / entry.folder, root / Path(entry.folder).name):
        if folder.is_dir():
            return folder, entry
    raise DataError(
        f"{entry.title} is not at '{root / entry.folder}'. Give the right data folder, or get "
        f"the set from {entry.origin}."
    )


HIGH, LOW = ("hr", "gt"), ("lr", "lq", "lr_bicubic")


def _own(
    folder: Path, *, scale: int, lr_folder: str | Path | None
) -> list[tuple[Path, Path]] | None:
    """Return HR and LR files of a folder of one's own; None where it has no LR images."""
    if list(folder.glob("image_SRF_*")):
        return None
    below = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}

    def found(names: tuple[str, ...]) -> Path | None:
        endings = tuple(f"_{name}" for name in names)
        return next((p for n, p in below.items() if n in names or n.endswith(endings)), None)

    low = found(LOW) if lr_folder is None else Path(lr_folder)
    if low is None:
        return None
    if not low.is_dir():
        raise DataError(f"There is no folder '{low}' of LR images.")
    inner = {p.name.lower(): p for p in low.iterdir() if p.is_dir()}
    low = inner.get(f"x{scale}", low)
    plain = partial(_plain, scale=scale)
    lr_files = by_name(list_images(low), name=plain)
    if not lr_files:
        raise DataError(
            f"'{low}' has no LR images for scale {scale}"
            + (f", only {', '.join(sorted(inner))}" if inner else "")
            + "; choose another scale, or give the folder of HR images alone."
        )
    hr_files = by_name(list_images(found(HIGH) or folder), name=plain)
    alone = sorted(hr_files.keys() ^ lr_files.keys())
    if alone:
        raise DataError(
            f"'{(hr_files | lr_files)[alone[0]]}' is one of {len(hr_files)} HR and "
            f"{len(lr_files)} LR images and has no partner: 0001.png goes with 0001.png, "
            f"0001x{scale}.png or 0001_LR.png."
        )
    return [(hr_files[name], lr_files[name]) for name in sorted(hr_files)]


def by_name(
    files: Sequence[Path], *, name: Callable[[Path], str] = attrgetter("stem")
) -> dict[str, Path]:
    """Return the files by their names; DataError where one would hide another."""
    found: dict[str, Path] = {}
    for path in files:
        if found.setdefault(name(path), path) is not path:
            both = f"'{found[name(path)]}' and '{path}'"
            raise DataError(f"{both} are both called '{name(path)}': rename or remove one.")
    return found


def _plain(path: Path, *, scale: int) -> str:
    """Return what two files of a pair have in common: the name without x4, _LR, _HR, _GT, _LQ."""
    name = path.stem.lower()
    for ending in (f"x{scale}", "_", "-", "lr", "hr", "gt", "lq", "_", "-"):
        cut = name.removesuffix(ending)
        name = cut or name
    return name


def _selfexsr(folder: Path, *, scale: int, hr_scale: int) -> Files:
    high = folder / f"image_SRF_{hr_scale}"
    found: Files = []
    for hr in sorted(high.glob(f"*_SRF_{hr_scale}_HR.png")):
        name = hr.name.removesuffix(f"_SRF_{hr_scale}_HR.png")
        lr = hr.with_name(f"{name}_SRF_{scale}_LR.png")
        if hr_scale == scale and not lr.is_file():
            raise DataError(f"'{hr}' has no LR image beside it; expected '{lr.name}'.")
        found.append((name, hr, lr if hr_scale == scale else None))
    if not found:
        raise DataError(f"'{high}' holds no images named img_NNN_SRF_{hr_scale}_HR.png.")
    return found


def _separate_hr(folder: Path, *, scale: int) -> Files:
    images = list_images(folder / "HR")
    low = folder / f"image_SRF_{scale}"
    if not low.is_dir():
        return [(path.stem, path, None) for path in images]
    found: Files = []
    for lr_name, hr in _index(folder, images):
        lr = low / f"{lr_name}_SRF_{scale}_LR.png"
        if not lr.is_file():
            raise DataError(f"'{hr}' has no LR image at scale {scale}; expected '{lr}'.")
        found.append((hr.stem, hr, lr))
    return found


def _index(folder: Path, images: list[Path]) -> list[tuple[str, Path]]:
    """(beginning of the LR file's name, HR file), from ``index.csv`` or by order of names."""
    file = folder / "index.csv"
    if not file.is_file():
        ordered = sorted(images, key=lambda path: path.name)
        return [(f"img_{number:03d}", path) for number, path in enumerate(ordered, start=1)]
    by_name = {path.name: path for path in images}
    found = []
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            lr_name, hr_file = row.get("lr_name"), row.get("hr_file")
            if not lr_name or hr_file not in by_name:
                raise DataError(
                    f"'{file}' must have the columns lr_name and hr_file and name images of "
                    f"'{folder / 'HR'}'; the row {row} does not."
                )
            found.append((lr_name, by_name[hr_file]))
    return found
