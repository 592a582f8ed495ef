"""Generated training images: nobody has to license them, and they have what photographs lack.

Each image is a function of (seed, number) alone and is one of five kinds: dead leaves (shapes that
hide each other, sizes by a power law; Lee, Mumford and Huang, IJCV 2001; Achddou et al., SSVM 2021,
train restoration on them), flat shapes in saturated colours as in logos, line drawings, periodic
patterns at any angle, and lines of letter-like strokes. Shapes are drawn from signed distances with
edges one pixel wide, as a sharp lens would give them.

A collage is made of drawings from a folder of SVG files whose licence the user knows, for example
the public-domain clip art that Debian packages as openclipart-svg: drawings of all sizes, the
larger ones below, on a plain ground; half of them are turned.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import InputError

_LEAST = 32  # longer side of the smallest drawing in pixels: of smaller ones nothing is left at ×4
Array = NDArray[Any]
# Signed distance in pixels of the points (x, y): negative inside a shape
Distance = Callable[[Array, Array], Array]


def synthetic_image(*, size: int, seed: int, number: int) -> Tensor:
    """Return generated image ``number`` (1, 3, size, size) in [0, 1]. Raises InputError."""
    if size < 32:
        raise InputError(f"The size of a generated image is {size}; it must be at least 32 pixels.")
    random = np.random.default_rng([seed, number])
    image = KINDS[number % len(KINDS)](random, size)  # (size, size, 3)
    pixels = np.ascontiguousarray(image.clip(0, 1).transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(pixels)[None]


def flat_image(*, size: int, seed: int, number: int) -> Tensor:
    """Return four flat colours, a quarter each (1, 3, size, size) in [0, 1], for an even size."""
    colours = _flat_colours(np.random.default_rng([seed, number, 3]), 4)
    quarters = torch.from_numpy(np.stack(colours, axis=1)).reshape(1, 3, 2, 2)
    return quarters.repeat_interleave(size // 2, -2).repeat_interleave(size // 2, -1)


def dead_leaves(random: Generator, size: int) -> Array:
    """Return overlapping shapes of all sizes, each with its own shading and texture."""
    image = _shaded(random, size, _palette(random, 1)[0])
    palette = _palette(random, int(random.integers(6, 40)))
    radii = _power_law(random, 3 * size, least=3, most=size / 3)
    for radius in np.sort(radii)[::-1][:20].tolist() + random.permutation(radii).tolist():
        colour = palette[random.integers(len(palette))] + random.normal(0, 0.05, 3)
        middle = random.uniform(0, size, 2)
        texture = _shaded(random, size, colour) if radius > 8 else _f32(colour)
        _paint(image, _shape(random, radius), middle, reach=1.5 * radius, colour=texture)
    return image


def flat_shapes(random: Generator, size: int) -> Array:
    """Return a few large shapes of flat, often saturated colours on a flat ground."""
    colours = _flat_colours(random, 8)
    image = np.empty((size, size, 3), np.float32)
    image[:] = colours[0]
    for _ in range(int(random.integers(3, 40))):
        radius = float(_power_law(random, 1, least=4, most=size / 2)[0]) * 1.5
        colour = colours[random.integers(len(colours))]
        shape = _shape(random, radius)
        if random.random() < 0.3:
            shape = _outline(shape, float(random.uniform(1, 6)))
        _paint(image, shape, random.uniform(0, size, 2), reach=1.5 * radius + 8, colour=colour)
    return image


def line_drawing(random: Generator, size: int) -> Array:
    """Return strokes of 1 to 5 pixels on paper: dark on light, the reverse, or coloured."""
    ground, *inks = _flat_colours(random, 5)
    if random.random() < 0.6:
        ground, inks = _f32([1, 1, 1]), [_f32([0, 0, 0]), *inks[:1]]
    image = np.empty((size, size, 3), np.float32)
    image[:] = ground
    for _ in range(int(random.integers(15, 90))):
        count = int(random.integers(2, 7))
        length = float(random.uniform(0.05, 0.4)) * size
        points = np.cumsum(random.normal(0, length / count, (count, 2)), axis=0)
        ink = inks[random.integers(len(inks))]
        stroke = _polyline(points, float(random.choice([0.5, 0.75, 1, 1.5, 2.5])))
        reach = float(np.abs(points).max()) + 4
        _paint(image, stroke, random.uniform(0, size, 2), reach=reach, colour=ink)
    return image


def patterns(random: Generator, size: int) -> Array:
    """Return fields of stripes, checks, bricks and gratings of many periods and angles."""
    image = np.empty((size, size, 3), np.float32)
    image[:] = _palette(random, 1)[0]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    for _ in range(int(random.integers(4, 12))):
        first, second = _palette(random, 2)
        period = float(np.exp(random.uniform(math.log(5), math.log(48))))
        angle = random.uniform(0, math.pi) if random.random() < 0.6 else random.integers(2) * 1.5708
        u = (x * np.cos(angle) + y * np.sin(angle)) / np.float32(period)
        v = (y * np.cos(angle) - x * np.sin(angle)) / np.float32(period * random.uniform(0.4, 3))
        wave = _pattern(random, u, v, period)[..., None]  # (size, size, 1) in [0, 1]
        field = first + (second - first) * wave
        radius = float(random.uniform(0.15, 0.5)) * size
        shape = _shape(random, radius)
        _paint(image, shape, random.uniform(0, size, 2), reach=1.5 * radius, colour=field)
    return image


def letters(random: Generator, size: int) -> Array:
    """Return lines of letter-like strokes of several sizes, on blocks of flat colours."""
    colours = _flat_colours(random, 6)
    image = np.empty((size, size, 3), np.float32)
    light = random.random() < 0.6
    image[:] = _f32([1, 1, 1]) if light else colours[0]
    top = 4.0
    while top < size - 8:
        height = float(np.exp(random.uniform(math.log(7), math.log(60))))
        ink = _f32([0.05, 0.05, 0.05]) if light else colours[random.integers(1, 6)]
        if random.random() < 0.2:
            block = image[int(top) : int(top + 1.4 * height), int(random.uniform(0, size / 3)) :]
            block[:] = colours[random.integers(6)]
        thick = height * float(random.uniform(0.04, 0.11))
        left = float(random.uniform(2, size / 4))
        while left < size - height:
            width = height * float(random.uniform(0.35, 0.7))
            if random.random() < 0.85:  # else a space between words
                glyph = _glyph(random, width, height, thick)
                middle = np.array([left + width / 2, top + height / 2])
                _paint(image, glyph, middle, reach=height, colour=ink)
            left += 1.25 * width
        top += height * float(random.uniform(1.2, 1.8))
    return image


KINDS = (dead_leaves, flat_shapes, dead_leaves, line_drawing, dead_leaves, patterns, letters)


def _f32(values: Any) -> Array:
    return np.asarray(values, dtype=np.float32)


def _paint(image: Array, shape: Distance, middle: Array, *, reach: float, colour: Array) -> None:
    """Draw ``shape`` at ``middle`` (x, y) into ``image``: a flat (3,) or an image of colours."""
    size = len(image)
    left, top = (max(0, math.floor(place - reach)) for place in middle)
    right, bottom = (min(size, math.ceil(place + reach) + 1) for place in middle)
    if left >= right or top >= bottom:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    distance = shape(x - np.float32(middle[0]), y - np.float32(middle[1]))
    cover = np.clip(0.5 - distance, 0, 1)[..., None]  # (h, w, 1)
    window = image[top:bottom, left:right]
    window += cover * ((colour if colour.ndim == 1 else colour[top:bottom, left:right]) - window)


def _shape(random: Generator, radius: float) -> Distance:
    """Return a disc, an ellipse-like superdisc, a rectangle or a polygon, turned at random."""
    kind, angle = random.integers(4), random.uniform(0, 2 * math.pi)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    ratio = np.float32(random.uniform(0.25, 1))
    if kind == 0:
        return lambda x, y: np.hypot(x, y) - np.float32(radius)
    if kind == 1:  # approximate outside, exact at the axes
        return lambda x, y: (
            (np.hypot((x * cos + y * sin), (y * cos - x * sin) / ratio) - np.float32(radius))
            * ratio
        )
    if kind == 2:
        return lambda x, y: np.maximum(
            np.abs(x * cos + y * sin) - np.float32(radius),
            np.abs(y * cos - x * sin) - np.float32(radius) * ratio,
        )
    sides = int(random.integers(3, 7))  # a convex polygon: the intersection of half planes
    angles = (
        angle
        + np.sort(random.uniform(0, 2 * math.pi, sides) * 0.4)
        + np.arange(sides) * (2 * math.pi / sides)
    )
    normals = [(np.float32(math.cos(a)), np.float32(math.sin(a))) for a in angles]
    inner = np.float32(radius * random.uniform(0.4, 0.8))
    return lambda x, y: np.max(
        [x * a + y * b - inner for a, b in normals] + [np.hypot(x, y) - np.float32(radius)], axis=0
    )


def _outline(shape: Distance, thickness: float) -> Distance:
    half = np.float32(thickness / 2)
    return lambda x, y: np.abs(shape(x, y)) - half


def _polyline(points: Array, half: float) -> Distance:
    """Return the distance to the line through ``points`` (n, 2), ``half`` its half thickness."""
    ends = points.astype(np.float32)

    def distance(x: Array, y: Array) -> Array:
        nearest = np.full(x.shape, np.inf, np.float32)
        for a, b in itertools.pairwise(ends):
            along = b - a
            square = max(float(along @ along), 1e-6)
            share = ((x - a[0]) * along[0] + (y - a[1]) * along[1]) / np.float32(square)
            share = share.clip(0, 1)
            away = np.hypot(x - a[0] - share * along[0], y - a[1] - share * along[1])
            nearest = np.minimum(nearest, away)
        return nearest - np.float32(half)

    return distance


def _glyph(random: Generator, width: float, height: float, thick: float) -> Distance:
    """Return two to three joined strokes and bows between the points of a 3 x 3 grid."""
    parts: list[Distance] = []
    for _ in range(int(random.integers(2, 4))):
        grid = random.integers(-1, 2, (2, 2)) * np.array([width / 2, height / 2])
        if random.random() < 0.35:
            middle, radius = grid.mean(axis=0), min(width, height / 2) / 2
            a, b, r = np.float32(middle[0]), np.float32(middle[1]), np.float32(radius)
            half = np.float32(thick)
            parts.append(_ring(a, b, r, half))
        else:
            parts.append(_polyline(grid, thick))
    return lambda x, y: np.min([part(x, y) for part in parts], axis=0)


def _ring(a: Any, b: Any, radius: Any, half: Any) -> Distance:
    return lambda x, y: np.abs(np.hypot(x - a, y - b) - radius) - half


def _pattern(random: Generator, u: Array, v: Array, period: float) -> Array:
    """Return a periodic field in [0, 1] with edges about a pixel wide."""
    kind = random.integers(4)
    if kind == 0:
        return _f32(0.5 + 0.5 * np.sin(2 * np.pi * u))
    share = np.float32(random.uniform(0.1, 0.6))

    def band(w: Array) -> Array:  # 1 inside the stripe, with a slope of one pixel
        inside = share / 2 - np.abs(w - np.floor(w) - 0.5)
        return _f32(inside * np.float32(period) + 0.5).clip(0, 1)

    if kind == 1:
        return band(u)
    if kind == 2:  # windows
        return band(u) * band(v)
    shifted = u + np.float32(0.5) * (np.floor(v) % 2)  # bricks: every second row is moved by half
    return np.maximum(1 - band(shifted), 1 - band(v)) if share > 0.3 else band(shifted)


def _shaded(random: Generator, size: int, colour: Array) -> Array:
    """Return ``colour`` with a linear shade and smooth random texture, (size, size, 3)."""
    y, x = (np.mgrid[:size, :size] / size - 0.5).astype(np.float32)
    slope = random.normal(0, 0.25, 2).astype(np.float32)
    shade = slope[0] * x + slope[1] * y
    if random.random() < 0.7:
        grain = int(np.exp(random.uniform(0, math.log(16))))
        noise = random.normal(0, 1, (-(-size // grain),) * 2).astype(np.float32)
        coarse = np.kron(noise, np.ones((grain, grain), np.float32))[:size, :size]
        strength = np.float32(random.uniform(0.01, 0.08))
        for axis in (0, 1):  # a box blur as wide as the grain, on both axes
            summed = np.cumsum(
                np.concatenate([coarse, coarse.take(range(grain), axis)], axis), axis
            )
            ahead = summed.take(range(grain, size + grain), axis)
            coarse = (ahead - summed.take(range(size), axis)) / grain
        shade = shade + strength * coarse
    return _f32(colour + shade[..., None])


def _palette(random: Generator, count: int) -> Array:
    """Return colours (count, 3) around a few hues, from dark to light, mostly muted."""
    base = random.uniform(0, 1, (max(1, count // 3), 3))
    grey = base.mean(axis=1, keepdims=True)
    muted = grey + (base - grey) * random.uniform(0.2, 1, (len(base), 1))
    chosen = muted[random.integers(len(muted), size=count)]
    return _f32(np.clip(chosen * random.uniform(0.4, 1.4, (count, 1)), 0, 1))


def _flat_colours(random: Generator, count: int) -> list[Array]:
    """Return flat colours: corners and edges of the cube among them."""
    free = random.uniform(0, 1, (count, 3))
    corners = np.where(random.random((count, 3)) < 0.5, np.round(free), free)
    return [_f32(colour) for colour in np.where(random.random((count, 1)) < 0.6, corners, free)]


def _power_law(random: Generator, count: int, *, least: float, most: float) -> Array:
    """Return radii with density r^-3 between ``least`` and ``most``: looks alike at all scales."""
    share = random.uniform(0, 1, count)
    return (least**-2 - share * (least**-2 - most**-2)) ** -0.5


# ---- Collages of vector drawings ------------------------------------------------------------


@contextmanager
def _reading_svg() -> Iterator[None]:
    pyvips.operation_block_set("VipsForeignLoadSvgFile", False)
    try:
        yield
    finally:
        pyvips.operation_block_set("VipsForeignLoadSvgFile", True)


def find_drawings(folder: Path) -> dict[Path, list[Path]]:
    """Return the SVG files below ``folder`` by their folders, in order. Raises InputError."""
    found: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.svg")):
        found.setdefault(path.parent, []).append(path)
    if not found:
        raise InputError(f"{folder} holds no SVG file; give a folder of drawings (*.svg).")
    return found


def collage(*, drawings: dict[Path, list[Path]], size: int, seed: int, number: int) -> Tensor:
    """Return collage ``number`` (1, 3, size, size) in [0, 1], float32.

    A folder of ``drawings`` is drawn first and then one of its files: two hundred flags count no
    more than three cats. A file that does not render is left out.
    """
    random = np.random.default_rng([seed, number, 2])
    folders = list(drawings)
    ground = [255] * 3 if random.random() < 0.4 else random.integers(0, 256, 3).tolist()
    image = pyvips.Image.black(size, size).copy(interpretation="srgb") + ground
    count = int(random.integers(30, 80))
    # density ~ 1 / length between LEAST and half of the size, largest first
    lengths = np.sort(np.exp(random.uniform(np.log(_LEAST), np.log(size / 2), count)))[::-1]
    for length in lengths:
        files = drawings[folders[random.integers(len(folders))]]
        file = files[random.integers(len(files))]
        angle = float(random.uniform(0, 360)) if random.random() < 0.5 else 0.0
        x, y = random.integers(0, size, 2)
        with suppress(pyvips.Error), _reading_svg():
            whole = pyvips.Image.svgload(str(file))
            factor = length / max(whole.width, whole.height)
            drawing = pyvips.Image.svgload(str(file), scale=factor).rotate(angle).copy_memory()
            x, y = int(x) - drawing.width // 2, int(y) - drawing.height // 2
            image = image.composite2(drawing, "over", x=x, y=y).copy_memory()
    pixels = image.flatten().cast("uchar").numpy()[..., :3]  # (size, size, 3)
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)[None]
