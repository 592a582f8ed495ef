"""Images in memory made larger."""

import math
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch

from edgekeeper.errors import InputError
from edgekeeper.image import MAX_PIXELS, SAMPLES, Header, Image, Pixels, is_grey
from edgekeeper.image.quality import condition_of
from edgekeeper.inference.categories import category_map
from edgekeeper.inference.flow import TileProgress, run
from edgekeeper.inference.request import Request, Result
from edgekeeper.ops.tiles import free_bytes

_ROWS = 256


def upscale_image(
    image: Image, request: Request | None = None, *, on_tile: TileProgress | None = None
) -> Result:
    """Return the result of making the image larger; ``result.image`` is it.

    It has the depth, colours and metadata of ``image``. Runs on the model's device, in evaluation
    mode (the caller's module is not touched). When memory runs out the tile is halved and the
    image started over: ``on_tile`` then counts anew. Of the request neither sources nor outputs
    are looked at.

    Alpha goes through the networks with the least error where those that ship are used, else it is
    interpolated. Pixels that are fully transparent take the colours
    around them, since what is stored there (often black) would show as a fringe.
    Raises InputError: the tile is too small for the network's context; no such category, or
    categories for a network that takes none; the result does not fit into memory. ImageError: the
    map does not fit, the network gave values that are not finite, or memory does not suffice.
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
    """Rows put together to an image in memory. Raises InputError: too large."""

    def __init__(self, header: Header) -> None:
        shape, kind = (header.height, header.width, header.bands), SAMPLES[header.depth]
        needed, free = math.prod(shape) * np.dtype(kind).itemsize, free_bytes(torch.device("cpu"))
        if header.height * header.width > MAX_PIXELS or needed > free:
            raise InputError(
                f"The result would be {header.width} x {header.height} pixels ({needed / 1e6:,.0f} "
                f"MB); in memory images have up to {MAX_PIXELS // 10**6} million and "
                f"{free / 1e6:,.0f} MB are free. Write it to a file as it is made, by "
                "edgekeeper.inference.upscale_file or `edgekeeper upscale`."
            )
        self._header = header
        self._samples: Pixels = np.empty(shape, kind)
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
            alpha=None if self._header.alpha == "none" else self._samples[..., colours],
            metadata=self._header.metadata,
            alpha_is="extra" if self._header.alpha == "extra" else "straight",
        )
