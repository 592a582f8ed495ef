"""Images in memory made larger."""

from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from edgekeeper.image import Header, Image, Pixels, read_image
from edgekeeper.image.quality import estimate
from edgekeeper.inference.categories import Categories, CategoryMap, category_map
from edgekeeper.inference.choose import condition_of, networks_for, steps_of, treatment
from edgekeeper.inference.flow import TileProgress, check_takes_maps, is_grey, run
from edgekeeper.inference.network import check_batch, infer
from edgekeeper.inference.request import Request, Result, plan_passes
from edgekeeper.models import SRModel
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.zoo import Networks, Style

_ROWS = 256


@overload
def upscale(
    image: Tensor,
    *,
    scale: float | None = None,
    model: str | Path | SRModel | Networks | None = None,
    style: Style = "auto",
    strength: float | None = None,
    sharpness: float | None = None,
    categories: Categories | None = None,
) -> Tensor: ...


@overload
def upscale(
    image: str | Path | Image,
    *,
    scale: float | None = None,
    model: str | Path | SRModel | Networks | None = None,
    style: Style = "auto",
    strength: float | None = None,
    sharpness: float | None = None,
    categories: Categories | None = None,
) -> Image: ...


def upscale(
    image: str | Path | Image | Tensor,
    *,
    scale: float | None = None,
    model: str | Path | SRModel | Networks | None = None,
    style: Style = "auto",
    strength: float | None = None,
    sharpness: float | None = None,
    categories: Categories | None = None,
) -> Image | Tensor:
    """Return the image ``scale`` times as large: a Tensor for a tensor, else an Image.

    ``image`` is the path of a file, a ``Image``, or float RGB (B, 3, H, W) in [0, 1].
    ``model`` is a network, the name of one that ships, or a network file; by default the
    ``style`` chooses among the networks that ship. "auto" is the faithful ones, mixed with the one
    that restores as far as the image looks damaged, or as ``strength`` (0 to 1) says; that a
    network for the scale restores is needed. ``sharpness`` from 0 to 1 sharpens the result of any
    network. ``scale`` is any positive factor, by default the network's own, or 4; what the networks
    do not reach exactly is made by several passes of them and by exact bicubic interpolation.

    ``categories``, for a network that takes them (SFTGAN), says what can be seen: the name of one
    category that is everywhere, the file of a map, or a ``CategoryMap``. Without them such a
    network takes all as equally probable, and logs a warning.

    Raises:
        InputError: no such network, a scale that is not positive, a tensor of another form, no
            such category, or categories for a network that takes none.
        ImageError: the file cannot be read, or the map does not fit.
    """
    request = Request(
        scale=scale,
        model=model,
        style=style,
        strength=strength,
        sharpness=sharpness,
        categories=categories,
    )
    if isinstance(image, Tensor):
        return _upscale_tensor(image, request)
    if not isinstance(image, Image):
        image = read_image(image)
    made = upscale_image(image, request).image
    assert made is not None
    return made


def upscale_image(
    image: Image, request: Request | None = None, *, on_tile: TileProgress | None = None
) -> Result:
    """Return the result of making the image larger; ``result.image`` is it.

    It has the depth, colours and metadata of ``image``. Runs on the model's device, in evaluation
    mode (the model is put into it). When memory runs out the tile is halved and the image started
    over: ``on_tile`` then counts anew. Of the request neither sources nor outputs are looked at.

    Alpha goes through the networks with the least error where those that ship are used, else it is
    interpolated. Pixels that are fully transparent take the colours
    around them, since what is stored there (often black) would show as a fringe.

    Raises:
        InputError: the tile is too small for the network's context; no such category, or
            categories for a network that takes none.
        ImageError: the map does not fit, the network gave values that are not finite, or memory
            does not suffice.
    """
    request = request or Request()
    maps = None if request.categories is None else category_map(request.categories)
    made: list[Collector] = []

    def open_sink(header: Header) -> AbstractContextManager[Collector]:
        made[:] = [Collector(header)]
        return nullcontext(made[0])

    result = run(
        lambda: image_parts(image),
        open_sink,
        request=request,
        look=lambda: condition_of(image),
        maps=maps,
        on_tile=on_tile,
    )
    return replace(result, image=made[0].image())


def image_parts(image: Image) -> Generator[Header | Pixels, None, None]:
    """Yield the header of an image and then its rows, one channel where all are grey."""
    yield image.header
    pixels, alpha = image.pixels, image.alpha
    if is_grey(pixels):
        pixels = pixels[..., :1]
    for start in range(0, len(pixels), _ROWS):
        part = pixels[start : start + _ROWS]
        if alpha is not None:
            part = np.concatenate([part, alpha[start : start + _ROWS, :, None]], axis=2)
        yield part


class Collector:
    """Rows put together to an image in memory."""

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


def _upscale_tensor(lr: Tensor, request: Request) -> Tensor:
    check_batch(lr)
    networks = networks_for(request)
    if len(lr) > 1 and networks.restore is not None and request.strength is None:
        request = replace(request, model=networks)  # each image is looked at by itself
        return torch.cat([_upscale_tensor(one, request) for one in lr[:, None]])
    categories: CategoryMap | None = None
    plan = plan_passes((lr.shape[-2], lr.shape[-1]), request, factors=networks.factors)
    if request.categories is not None:
        categories = category_map(request.categories)
        check_takes_maps(networks)
        if plan.passes:
            categories.check_size(plan.source, scale=plan.passes[0])
    treated = treatment(request, networks, passes=plan.passes, look=lambda: estimate(lr))
    for model, finish in steps_of(networks, request, passes=plan.passes, treated=treated):
        maps = None
        if categories is not None:
            maps = categories.whole((lr.shape[-2], lr.shape[-1]), scale=model.scale)
        lr = finish(infer(model, lr, maps=maps), lr)  # (B, 3, factor·H, factor·W)
    if (lr.shape[-2], lr.shape[-1]) == plan.size:
        return lr
    with torch.inference_mode():
        return imresize(lr, size=plan.size).clamp_(0, 1)
