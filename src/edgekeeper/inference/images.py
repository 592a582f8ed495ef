"""Images in memory made larger."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from edgekeeper.image import Header, Image, Pixels, read_image
from edgekeeper.inference.categories import Categories, CategoryMap, category_map
from edgekeeper.inference.engine import Report, Settings, check_takes_maps, run
from edgekeeper.inference.enlarger import Consistent, Ensemble, Manner
from edgekeeper.inference.memory import Tile
from edgekeeper.inference.network import Choice, check_batch, infer
from edgekeeper.inference.request import (
    Enlargement,
    Networks,
    as_networks,
    plan_enlargement,
    shipped_networks,
)
from edgekeeper.models import SRModel
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.tiles import TileProgress
from edgekeeper.pretrained.zoo import Style, load

# ---- Images in memory as sources and sinks of rows --------------------------------------------

_ROWS = 256


class ImageSource:
    """An image in memory as a source of rows."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def announce(self) -> Header:
        """Return what is known of it beside its samples."""
        return self._image.header

    def parts(self) -> Iterator[Pixels]:
        """Its rows (h, W, C), colours before alpha."""
        pixels, alpha = self._image.pixels, self._image.alpha
        for start in range(0, len(pixels), _ROWS):
            part = pixels[start : start + _ROWS]
            if alpha is None:
                yield part
            else:
                yield np.concatenate([part, alpha[start : start + _ROWS, :, None]], axis=2)


class Collector:
    """A sink that puts the rows together to an image in memory."""

    def __init__(self, header: Header) -> None:
        self._header = header
        kind = np.uint8 if header.depth == 8 else np.uint16
        self._samples = np.empty((header.height, header.width, header.bands), kind)
        self._row = 0

    def write(self, rows: Pixels) -> None:
        """Take the next rows from the top."""
        self._samples[self._row : self._row + len(rows)] = rows
        self._row += len(rows)

    def image(self) -> Image:
        """Return the whole image, when all rows are there."""
        assert self._row == len(self._samples)
        colours = self._header.colours
        return Image(
            pixels=self._samples[..., :colours],
            alpha=self._samples[..., colours] if self._header.alpha == "straight" else None,
            metadata=self._header.metadata,
        )


@dataclass(frozen=True, kw_only=True)
class Upscaled:
    """An image and how it was made."""

    image: Image
    report: Report


@overload
def upscale(
    image: Tensor,
    *,
    scale: float | None = None,
    model: str | Path | SRModel | Networks | None = None,
    style: Style = "faithful",
    categories: Categories | None = None,
) -> Tensor: ...


@overload
def upscale(
    image: str | Path | Image,
    *,
    scale: float | None = None,
    model: str | Path | SRModel | Networks | None = None,
    style: Style = "faithful",
    categories: Categories | None = None,
) -> Image: ...


def upscale(
    image: str | Path | Image | Tensor,
    *,
    scale: float | None = None,
    model: str | Path | SRModel | Networks | None = None,
    style: Style = "faithful",
    categories: Categories | None = None,
) -> Image | Tensor:
    """Return the image ``scale`` times as large: a Tensor for a tensor, else an Image.

    ``image`` is the path of a file, a ``Image``, or float RGB (B, 3, H, W) in [0, 1].
    ``model`` is a network, the name of one that ships, or a network file; by default the
    ``style`` chooses among the networks that ship. ``scale`` is any
    positive factor, by default the network's own, or 4; what the networks do not reach exactly is
    made by several passes of them and by exact bicubic interpolation.

    ``categories``, for a network that takes them (SFTGAN), says what can be seen: the name of one
    category that is everywhere, the file of a map, or a ``CategoryMap``. Without them such a
    network takes all as equally probable, and logs a warning.

    Raises:
        InputError: no such network, a scale that is not positive, a tensor of another form, no
            such category, or categories for a network that takes none.
        ImageError: the file cannot be read, or the map does not fit.
    """
    if model is None:
        scale = 4 if scale is None else scale
        model = shipped_networks(style=style)
    elif isinstance(model, str | Path):
        model = load(model)
    enlargement = None if scale is None else Enlargement(factor=scale)
    if isinstance(image, Tensor):
        maps = None if categories is None else category_map(categories)
        return _upscale_tensor(
            image, networks=as_networks(model), enlargement=enlargement, categories=maps
        )
    if not isinstance(image, Image):
        image = read_image(image)
    return upscale_image(image, model=model, enlargement=enlargement, categories=categories)


def upscale_image(
    image: Image,
    *,
    model: SRModel | Networks,
    enlargement: Enlargement | None = None,
    tile: Tile = "auto",
    precision: Choice = "float32",
    ensemble: Ensemble = "none",
    consistent: Consistent = "no",
    categories: Categories | None = None,
    on_tile: TileProgress | None = None,
) -> Image:
    """Return the image made larger, with the depth, colours and metadata it had.

    Without an ``enlargement`` it becomes ``model.scale`` times as large. Runs on the model's
    device, in evaluation mode (the model is put into it). ``tile`` is the side in LR pixels of
    what the network sees at once, context included. When memory runs out the tile is halved and
    the image started over: ``on_tile`` then counts anew. ``precision``, ``ensemble`` and
    ``consistent`` are those of ``Manner``, ``categories`` those of ``upscale``.

    Alpha is enlarged by bicubic interpolation. Pixels that are fully transparent take the colours
    around them, since what is stored there (often black) would show as a fringe.

    Raises:
        InputError: the tile is too small for the network's context; no such category, or
            categories for a network that takes none.
        ImageError: the map does not fit, the network gave values that are not finite, or memory
            does not suffice.
    """
    manner = Manner(precision=precision, ensemble=ensemble, consistent=consistent)
    settings = Settings(
        networks=as_networks(model),
        enlargement=enlargement,
        tile=tile,
        manner=manner,
        categories=None if categories is None else category_map(categories),
    )
    return upscale_with_report(image, settings=settings, on_tile=on_tile).image


def upscale_with_report(
    image: Image, *, settings: Settings, on_tile: TileProgress | None = None
) -> Upscaled:
    """Return the image made larger as in ``upscale_image``, and how it was made."""
    sinks: list[Collector] = []

    def open_sink(header: Header) -> nullcontext[Collector]:
        sinks[:] = [Collector(header)]
        return nullcontext(sinks[0])

    report = run(
        lambda: nullcontext(ImageSource(image)), open_sink, settings=settings, on_tile=on_tile
    )
    return Upscaled(image=sinks[0].image(), report=report)


def _upscale_tensor(
    lr: Tensor,
    *,
    networks: Networks,
    enlargement: Enlargement | None,
    categories: CategoryMap | None,
) -> Tensor:
    check_batch(lr)
    size = (lr.shape[-2], lr.shape[-1])
    plan = plan_enlargement(size, enlargement=enlargement, factors=networks.factors)
    if categories is not None:
        check_takes_maps(networks)
        if plan.passes:
            categories.check_size(size, scale=plan.passes[0])
    for factor in plan.passes:
        maps = None
        if categories is not None:
            maps = categories.whole((lr.shape[-2], lr.shape[-1]), scale=factor)
        lr = infer(networks.load(factor), lr, maps=maps)
    if (lr.shape[-2], lr.shape[-1]) == plan.size:
        return lr
    with torch.inference_mode():
        return imresize(lr, size=plan.size).clamp_(0, 1)
