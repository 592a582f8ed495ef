"""Pictures, files and folders made larger: read, cut into tiles, run the network, write.

What the network does not know is kept here: alpha, grey, 16 bits, metadata. Nothing is printed;
progress goes to a callback, and a folder's results come one by one.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol, overload

import numpy as np
import torch
from torch import Tensor

from edgekeeper.errors import InputError, PictureError
from edgekeeper.infer import Precision, infer
from edgekeeper.io import (
    SUFFIXES,
    Picture,
    Pixels,
    alpha_tensor,
    check_fits,
    check_target,
    from_tensor,
    list_pictures,
    read_picture,
    to_rgb_tensor,
    write_picture,
)
from edgekeeper.models import SRModel
from edgekeeper.networks import Structure, default_name, load
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.fill import fill_holes
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import TileProgress, iterate_tiles, plan_tiles

Overwrite = Literal["refuse", "replace"]

BICUBIC_RADIUS = 2
"""LR pixels over which alpha, and the colour of luma networks, are interpolated."""


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What became of one file.

    Attributes:
        path: the picture that was read.
        target: the file that was written, or would have been.
        status: "done"; "skipped" (the target existed); "failed" (no file was written).
        message: why not, one sentence; empty when done.
        seconds: the time it took.
    """

    path: Path
    target: Path
    status: Literal["done", "skipped", "failed"]
    message: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FolderStep:
    """How far a folder is: file number ``file`` of ``files``, ``tile`` of its ``tiles`` done."""

    path: Path
    file: int
    files: int
    tile: int
    tiles: int


class FolderProgress(Protocol):
    """Called when a file starts (tile 0 of 0) and after each of its tiles."""

    def __call__(self, step: FolderStep) -> None:
        """Take notice of the progress."""


@overload
def upscale(
    picture: Tensor,
    *,
    scale: int = 4,
    model: str | Path | SRModel | None = None,
    structure: Structure = "faithful",
) -> Tensor: ...


@overload
def upscale(
    picture: str | Path | Picture,
    *,
    scale: int = 4,
    model: str | Path | SRModel | None = None,
    structure: Structure = "faithful",
) -> Picture: ...


def upscale(
    picture: str | Path | Picture | Tensor,
    *,
    scale: int = 4,
    model: str | Path | SRModel | None = None,
    structure: Structure = "faithful",
) -> Picture | Tensor:
    """The picture ``scale`` times as large: a Tensor for a tensor, else a Picture.

    ``picture`` is the path of a file, a ``Picture``, or float RGB (B, 3, H, W) in [0, 1].
    ``model`` is a network, the name of one that ships, or a network file; by default the
    ``structure`` decides between the faithful and the sharper network that ships.

    Raises:
        InputError: no such network, or one of another scale; a tensor of another form.
        PictureError: the file cannot be read.
    """
    if not isinstance(model, SRModel):
        model = load(model if model is not None else default_name(scale, structure=structure))
    if model.scale != scale:
        raise InputError(f"The network enlarges by {model.scale}, not by {scale}.")
    if isinstance(picture, Tensor):
        return infer(model, picture)
    if not isinstance(picture, Picture):
        picture = read_picture(picture)
    return upscale_picture(picture, model=model)


def upscale_picture(
    picture: Picture,
    *,
    model: SRModel,
    tile: int | Literal["auto"] = "auto",
    precision: Precision = "float32",
    on_tile: TileProgress | None = None,
) -> Picture:
    """The picture ``model.scale`` times as large, with the depth, colours and metadata it had.

    Runs on the model's device, in evaluation mode (the model is put into it). ``tile`` is the
    side in LR pixels of what the network sees at once, context included. When memory runs out
    the tile is halved and the picture started over: ``on_tile`` then counts anew.

    Alpha is enlarged by bicubic interpolation. Pixels that are fully transparent take the colours
    around them, since what is stored there (often black) would show as a fringe.

    Raises:
        InputError: the tile is too small for the network's receptive field.
        PictureError: the network gave values that are not finite, or memory does not suffice.
    """
    overlap = _overlap(model)
    side = min(_tile_side(tile, overlap=overlap), max(picture.pixels.shape[:2]))
    model.eval()
    while True:
        try:
            return _upscale_once(
                picture, model=model, tile=side, overlap=overlap, precision=precision,
                on_tile=on_tile,
            )  # fmt: skip
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            smallest = 3 * overlap
            if side <= smallest:
                height, width = picture.pixels.shape[:2]
                raise PictureError(
                    f"A picture of {width} x {height} pixels needs more memory than there is, "
                    f"even in tiles of {side} pixels. Close other programs or cut it into parts."
                ) from error
        # Outside the except clause, where the failed attempt's tensors are already freed.
        side = max(side // 2, smallest)


def upscale_file(
    source: str | Path,
    target: str | Path,
    *,
    model: SRModel,
    tile: int | Literal["auto"] = "auto",
    precision: Precision = "float32",
    overwrite: Overwrite = "refuse",
    quality: int = 95,
    on_tile: TileProgress | None = None,
) -> FileResult:
    """The result of writing the picture ``source``, enlarged, to the file ``target``.

    The format follows the target's name. What can be refused is refused before the computation.

    Raises:
        InputError: source and target are the same file, or an argument is out of range.
        PictureError: the source cannot be read or upscaled, or the target cannot be written.
    """
    started = time.perf_counter()
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise InputError(f"'{source}' cannot be its own target; choose another name.")
    check_target(target, overwrite=overwrite, quality=quality)
    picture = read_picture(source)
    check_fits(picture, target, scale=model.scale)
    try:
        result = upscale_picture(
            picture, model=model, tile=tile, precision=precision, on_tile=on_tile
        )
    except PictureError as error:
        raise PictureError(f"'{source}' cannot be upscaled: {error}") from error
    write_picture(result, target, overwrite=overwrite, quality=quality)
    seconds = time.perf_counter() - started
    return FileResult(path=source, target=target, status="done", message="", seconds=seconds)


def upscale_folder(
    source: str | Path,
    target: str | Path,
    *,
    model: SRModel,
    tile: int | Literal["auto"] = "auto",
    precision: Precision = "float32",
    overwrite: Overwrite = "refuse",
    quality: int = 95,
    on_error: Literal["report", "raise"] = "report",
    on_step: FolderProgress | None = None,
) -> Iterator[FileResult]:
    """One result after another for the pictures in and below ``source``, sorted by path.

    The same tree of folders and names appears under ``target``. A file that exists there is
    skipped, so that a broken run can be started again, or replaced with ``overwrite="replace"``.
    A picture that fails is reported and the rest goes on; with ``on_error="raise"`` it ends there.

    Raises:
        InputError: source and target are the same folder, or an argument is out of range.
        PictureError: there is no such folder or no picture in it; or see ``on_error``.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise InputError(f"'{source}' cannot be its own target; choose another folder.")
    _tile_side(tile, overlap=_overlap(model))
    inside = target.resolve()  # a target below the source: never upscale one's own results
    paths = [
        path
        for path in list_pictures(source, depth="tree")
        if not path.resolve().is_relative_to(inside)
    ]
    if not paths:
        raise PictureError(f"'{source}' holds no pictures (files {', '.join(SUFFIXES)}).")

    def results() -> Iterator[FileResult]:
        for number, path in enumerate(paths, start=1):
            place = target / path.relative_to(source)
            if overwrite == "refuse" and place.exists():
                yield _not_done(path, place, status="skipped", message=f"'{place}' exists already.")
                continue
            started = time.perf_counter()
            try:
                _make_folder(place.parent)
                yield upscale_file(
                    path, place, model=model, tile=tile, precision=precision, overwrite=overwrite,
                    quality=quality,
                    on_tile=_announce(on_step, path=path, file=number, files=len(paths)),
                )  # fmt: skip
            except PictureError as error:
                if on_error == "raise":
                    raise
                failed = _not_done(path, place, status="failed", message=str(error))
                yield replace(failed, seconds=time.perf_counter() - started)

    return results()


def _upscale_once(
    picture: Picture,
    *,
    model: SRModel,
    tile: int,
    overlap: int,
    precision: Precision,
    on_tile: TileProgress | None,
) -> Picture:
    scale, grey = model.scale, picture.pixels.shape[2] == 1
    device = next((tensor.device for tensor in chain(model.parameters(), model.buffers())), None)

    def enlarge(part: Tensor) -> Tensor:
        """RGB or RGBA (1, C, h, w) to grey or RGB, with alpha: (1, C', scale·h, scale·w)."""
        part = part.to(device)
        sr = infer(model, part[:, :3], precision=precision, clamp="none")
        if not bool(torch.isfinite(sr).all()):
            raise PictureError(
                "the network gave values that are not finite; its weights are damaged, "
                "or it needs the precision float32."
            )
        if grey:
            sr = (rgb_to_y(sr) * 255 - 16) / 219  # studio range to full range
        return torch.cat([sr, imresize(part[:, 3:], scale=scale)], dim=1) if alpha else sr

    alpha = picture.alpha is not None
    lr = to_rgb_tensor(_bleed(picture) if alpha else picture)
    if alpha:
        lr = torch.cat([lr, alpha_tensor(picture)], dim=1)
    height, width, colours = picture.pixels.shape
    samples: Pixels = np.empty(
        (height * scale, width * scale, colours + alpha), picture.pixels.dtype
    )
    tiles = plan_tiles((height, width), tile=tile, overlap=overlap)
    for done, (place, part) in enumerate(
        iterate_tiles(enlarge, lr, tiles=tiles, scale=scale), start=1
    ):
        rows, columns = place.rows.kept(scale=scale), place.columns.kept(scale=scale)
        samples[rows, columns] = from_tensor(part, depth=picture.depth)
        if on_tile is not None:
            on_tile(done, len(tiles))
    return replace(
        picture, pixels=samples[..., :colours], alpha=samples[..., colours] if alpha else None
    )


def _bleed(picture: Picture) -> Picture:
    """The picture with colours spread into its fully transparent pixels."""
    if picture.alpha is None or bool(picture.alpha.all()) or not bool(picture.alpha.any()):
        return picture
    visible = (picture.alpha > 0)[..., None]
    filled = fill_holes(picture.pixels.astype(np.float32), visible.astype(np.float32))
    pixels: Pixels = np.where(visible, picture.pixels, np.rint(filled).astype(picture.pixels.dtype))
    return replace(picture, pixels=pixels)


def _overlap(model: SRModel) -> int:
    return max(model.receptive_field, BICUBIC_RADIUS)


def _tile_side(tile: int | Literal["auto"], *, overlap: int) -> int:
    """The side of a tile in LR pixels: for "auto" 256 to 512, wasting less than half on overlap."""
    if tile == "auto":
        return max(256, min(8 * overlap, 512), 4 * overlap)
    if tile <= 2 * overlap:
        raise InputError(
            f"A tile of {tile} pixels is too small: this network looks {overlap} pixels around. "
            f"Use at least {2 * overlap + 1}, better {4 * overlap}, or 'auto'."
        )
    return tile


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"The folder '{folder}' cannot be made: {error.strerror}.") from error


def _announce(
    on_step: FolderProgress | None, *, path: Path, file: int, files: int
) -> TileProgress | None:
    """A tile callback that reports to ``on_step``, which hears at once that the file starts."""
    if on_step is None:
        return None

    def on_tile(done: int, total: int) -> None:
        on_step(FolderStep(path=path, file=file, files=files, tile=done, tiles=total))

    on_tile(0, 0)
    return on_tile


def _not_done(
    path: Path, target: Path, *, status: Literal["skipped", "failed"], message: str
) -> FileResult:
    return FileResult(path=path, target=target, status=status, message=message, seconds=0.0)
