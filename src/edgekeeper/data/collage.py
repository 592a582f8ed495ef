"""Collages of vector drawings: clip art as training images for drawings, logos and flat colours.

Drawings come from a folder of SVG files whose licence the user knows, for example the public-domain
clip art that Debian packages as openclipart-svg. A collage is a function of (folder, seed, number):
drawings of all sizes, the larger ones below, on a plain ground; half of them are turned.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyvips
import torch
from torch import Tensor

from edgekeeper.errors import InputError

_LEAST = 32
"""Longer side of the smallest drawing in pixels: of smaller ones nothing is left at ×4."""


def find_drawings(folder: Path) -> dict[Path, list[Path]]:
    """Return the SVG files below ``folder`` by the folder that holds them, in order of name.

    Raises:
        InputError: there is none.
    """
    found: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.svg")):
        found.setdefault(path.parent, []).append(path)
    if not found:
        raise InputError(f"{folder} holds no SVG file; give a folder of drawings (*.svg).")
    return found


def collage(*, drawings: dict[Path, list[Path]], size: int, seed: int, number: int) -> Tensor:
    """Return collage ``number`` (1, 3, size, size) in [0, 1], float32.

    A folder of ``drawings`` is drawn first and then one of its files, so that a folder of two
    hundred flags counts no more than one of three cats. A file that does not render is left out.
    """
    with _svg_is_read():
        return _collage(drawings=drawings, size=size, seed=seed, number=number)


@contextmanager
def _svg_is_read() -> Iterator[None]:
    """Let libvips read SVG, which ``edgekeeper.image`` blocks: these files are the caller's own."""
    pyvips.operation_block_set("VipsForeignLoadSvgFile", False)
    try:
        yield
    finally:
        pyvips.operation_block_set("VipsForeignLoadSvgFile", True)


def _collage(*, drawings: dict[Path, list[Path]], size: int, seed: int, number: int) -> Tensor:
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
        try:
            whole = pyvips.Image.svgload(str(file))
            factor = length / max(whole.width, whole.height)
            drawing = pyvips.Image.svgload(str(file), scale=factor).rotate(angle).copy_memory()
            x, y = int(x) - drawing.width // 2, int(y) - drawing.height // 2
            image = image.composite2(drawing, "over", x=x, y=y).copy_memory()
        except pyvips.Error:
            continue
    pixels = image.flatten().cast("uchar").numpy()[..., :3]  # (size, size, 3)
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)[None]
