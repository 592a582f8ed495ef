"""Files and folders made larger."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import READ_SUFFIXES, SUFFIXES, Overwrite, SaveOptions, list_images
from edgekeeper.inference.batch import (
    FileResult,
    FolderProgress,
    FolderStep,
    OnError,
    Saving,
    upscale_files,
)
from edgekeeper.inference.categories import Categories, find_maps
from edgekeeper.inference.engine import Settings
from edgekeeper.inference.enlarger import Consistent, Ensemble, Manner
from edgekeeper.inference.memory import Tile
from edgekeeper.inference.network import Choice
from edgekeeper.inference.request import Enlargement, Networks, as_networks
from edgekeeper.models import SRModel
from edgekeeper.ops.tiles import TileProgress


def upscale_file(
    source: str | Path,
    target: str | Path,
    *,
    model: SRModel | Networks,
    enlargement: Enlargement | None = None,
    tile: Tile = "auto",
    precision: Choice = "float32",
    ensemble: Ensemble = "none",
    consistent: Consistent = "no",
    categories: Categories | None = None,
    overwrite: Overwrite = "refuse",
    quality: int = 95,
    options: SaveOptions | None = None,
    on_tile: TileProgress | None = None,
) -> FileResult:
    """Return the result of writing the image ``source``, enlarged, to the file ``target``.

    The format follows the target's name. What can be refused is refused before the computation.
    The image flows through in bands of rows, so that memory does not grow with its height.
    ``options`` says more than ``quality``; the other arguments are those of ``upscale_image``.

    Raises:
        InputError: source and target are the same file, or an argument is out of range.
        ImageError: the source cannot be read or upscaled, or the target cannot be written.
    """
    manner = Manner(precision=precision, ensemble=ensemble, consistent=consistent)
    settings = Settings(
        networks=as_networks(model), enlargement=enlargement, tile=tile, manner=manner
    )
    options = SaveOptions(quality=quality) if options is None else options
    saving = Saving(options=options, overwrite=overwrite, existing="fail")

    def on_step(step: FolderStep) -> None:
        if on_tile is not None and step.tiles:
            on_tile(step.tile, step.tiles)

    maps = None if categories is None else find_maps(categories, images=[Path(source)])
    return next(
        upscale_files(
            [(Path(source), Path(target))],
            settings=settings,
            saving=saving,
            categories=maps,
            on_error="raise",
            on_step=on_step,
        )
    )


def upscale_folder(
    source: str | Path,
    target: str | Path,
    *,
    model: SRModel | Networks,
    enlargement: Enlargement | None = None,
    tile: Tile = "auto",
    precision: Choice = "float32",
    ensemble: Ensemble = "none",
    consistent: Consistent = "no",
    categories: Categories | None = None,
    overwrite: Overwrite = "refuse",
    existing: Literal["skip", "fail"] = "skip",
    quality: int = 95,
    options: SaveOptions | None = None,
    name: Callable[[Path], Path] | None = None,
    on_error: OnError = "report",
    on_step: FolderProgress | None = None,
) -> Iterator[FileResult]:
    """One result after another for the images in and below ``source``, sorted by path.

    The same tree of folders and names appears under ``target``, with PNG for formats that can only
    be read; ``name`` may change a path in it (relative to ``source``) into another. A file that
    exists there is skipped, so that a broken run can be started again, or replaced with
    ``overwrite="replace"``. An image that fails is reported and the rest goes on; with
    ``on_error="raise"`` it ends there. See ``upscale_files``.

    Raises:
        InputError: source and target are the same folder, or an argument is out of range.
        ImageError: there is no such folder or no image in it; or see ``on_error``.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise InputError(f"'{source}' cannot be its own target; choose another folder.")
    inside = target.resolve()  # a target below the source: never upscale one's own results
    paths = [
        path
        for path in list_images(source, depth="tree", suffixes=READ_SUFFIXES)
        if not path.resolve().is_relative_to(inside)
    ]
    if not paths:
        raise ImageError(f"'{source}' holds no images (files {', '.join(READ_SUFFIXES)}).")
    inner = [path.relative_to(source) for path in paths]
    naming = _writable_name(set(inner)) if name is None else name
    pairs = [(path, target / naming(place)) for path, place in zip(paths, inner, strict=True)]
    manner = Manner(precision=precision, ensemble=ensemble, consistent=consistent)
    settings = Settings(
        networks=as_networks(model), enlargement=enlargement, tile=tile, manner=manner
    )
    saving = Saving(
        options=SaveOptions(quality=quality) if options is None else options,
        overwrite=overwrite,
        existing=existing,
        folders="make",
    )
    maps = None
    if categories is not None:
        maps = find_maps(categories, images=paths, folders=[source])
    return upscale_files(
        pairs,
        settings=settings,
        saving=saving,
        categories=maps,
        on_error=on_error,
        on_step=on_step,
    )


def _writable_name(taken: set[Path]) -> Callable[[Path], Path]:
    """Return the same name, or one of a PNG beside it where the format can only be read."""

    def name(place: Path) -> Path:
        if place.suffix.lower() in SUFFIXES:
            return place
        replaced = place.with_suffix(".png")
        return place.with_name(f"{place.name}.png") if replaced in taken else replaced

    return name
