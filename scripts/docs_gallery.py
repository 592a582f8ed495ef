"""Make the pairs of docs/gallery.md from the example photographs.

    python scripts/docs_gallery.py

Each pair is of one small image, a quarter as wide as the part of the photograph that it shows:
enlarged by bicubic interpolation, and by the networks that ship. None of them has seen the
photographs.
"""

from pathlib import Path
from typing import NamedTuple

import pyvips
from torch import Tensor

import edgekeeper
from edgekeeper.data.degrade import make_lr
from edgekeeper.image import from_tensor, to_rgb_tensor
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.zoo import Style

ROOT = Path(__file__).resolve().parents[1]
SCALE = 4


class Pair(NamedTuple):
    """A part of an example (left, top, width, height), and what is done to it."""

    name: str
    photo: str
    part: tuple[int, int, int, int]
    style: Style
    jpeg: int | None = None  # the quality at which the small image is saved before


PAIRS = (
    Pair("roofs", "beacon-street-sunset", (0, 208, 640, 320), "faithful"),
    Pair("wren", "canyon-wren", (160, 80, 640, 320), "sharp"),
    Pair("damaged", "beacon-street-sunset", (320, 160, 640, 320), "restore", jpeg=40),
)


def save(image: Tensor, path: Path) -> None:
    """Write a tensor (1, 3, H, W) as a JPEG."""
    pyvips.Image.new_from_array(from_tensor(image)).jpegsave(str(path), Q=88, keep="none")


def main() -> None:
    """Write docs/gallery."""
    folder = ROOT / "docs" / "gallery"
    folder.mkdir(exist_ok=True)
    for pair in PAIRS:
        left, top, width, height = pair.part
        hr = to_rgb_tensor(edgekeeper.read_image(ROOT / "examples" / "test" / f"{pair.photo}.png"))
        hr = hr[..., top : top + height, left : left + width]
        lr = make_lr(hr, scale=SCALE, kernel="matlab_uint8")
        given: Tensor | bytes = lr
        if pair.jpeg is not None:
            small = pyvips.Image.new_from_array(from_tensor(lr))
            given = small.jpegsave_buffer(Q=pair.jpeg)
            lr = to_rgb_tensor(edgekeeper.read_image(given))
        sr = edgekeeper.upscale(given, scale=SCALE, style=pair.style)
        sr = sr if isinstance(sr, Tensor) else to_rgb_tensor(sr)
        save(imresize(lr, scale=SCALE).clamp(0, 1), folder / f"{pair.name}_before.jpg")
        save(sr, folder / f"{pair.name}_after.jpg")


if __name__ == "__main__":
    main()
