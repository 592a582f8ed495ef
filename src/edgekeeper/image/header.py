"""What is known of an image before its pixels, and the numbers that these are."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]
"""Samples from 0 to 255, to 65535, or of floats to 1."""

Depth = Literal[8, 16, 32]
"""Bits of a sample; 32 are those of a float."""

Further = Literal["none", "straight", "extra"]
"""A channel after the colours: alpha, not multiplied into them, or one that is no alpha."""

SAMPLES: dict[Depth, type[np.generic]] = {8: np.uint8, 16: np.uint16, 32: np.float32}
"""The type of a sample by its bits."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says about its pixels: raw blocks, and the density in pixels per millimetre.

    A density of (1.0, 1.0) means that the file states none; it is written as 72 per inch, which
    EXIF 2.32 (4.6.4) prescribes for images of unknown resolution.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    pixels_per_mm: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Animation:
    """How the frames of an image follow each other.

    Attributes:
        delays: milliseconds that each frame is shown, one number a frame.
        loop: how often all are shown; 0 for ever.
    """

    delays: tuple[int, ...]
    loop: int = 0

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.delays)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of an image before its pixels, upright.

    Attributes:
        height: rows, of one frame.
        width: columns.
        colours: 1 (grey) or 3 (RGB).
        alpha: what channel follows the colours.
        depth: bits per channel; 32 are floats in [0, 1].
        metadata: what is written back with the pixels.
        format: where it came from, one of FORMATS; not looked at when an image is written.
        animation: of several frames, whose rows follow each other; None for one image.
        notes: what was left out or converted on reading, each for the user to read.
    """

    height: int
    width: int
    colours: Literal[1, 3]
    alpha: Further = "none"
    depth: Depth = 8
    metadata: Metadata = field(default_factory=Metadata)
    format: str = ""
    animation: Animation | None = None
    notes: tuple[str, ...] = ()

    @property
    def bands(self) -> int:
        """Samples per pixel, the further channel included."""
        return self.colours + (self.alpha != "none")

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return 1 if self.animation is None else self.animation.frames

    @property
    def rows(self) -> int:
        """The rows of all frames."""
        return self.height * self.frames


def full(depth: Depth) -> int:
    """Return the number that stands for white, or opaque."""
    return 1 if depth == 32 else 2**depth - 1


def as_unit(samples: Pixels) -> npt.NDArray[np.float32]:
    """Return the samples as float32 in [0, 1], in memory of their own."""
    if samples.dtype == np.float32:
        return np.array(samples, np.float32)
    return samples.astype(np.float32) / np.float32(255 if samples.dtype == np.uint8 else 65535)
