"""Frames to RGB images and back, with the matrix and the range that a video says.

All in float32 from and to the integers of the planes, so that 8, 10 and 12 bits go one way.
Formulas: ITU-R BT.601-7 and BT.709-6, sections 3; H.273 (matrix coefficients and video range).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import ImageError
from edgekeeper.image import Image
from edgekeeper.video.codecs import Layout, layout_to_read

if TYPE_CHECKING:
    from av import VideoFrame

Plane = NDArray[np.uint8] | NDArray[np.uint16]
Range = Literal["limited", "full"]

# H.273: code of the matrix -> the weights of red and blue in luma.
_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
BT709, BT601_625, BT601_525, UNSPECIFIED, RGB = 1, 5, 6, 2, 0
MATRICES = tuple(_WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How numbers in planes stand for colours."""

    family: Literal["yuv", "gbr", "grey"]  # planes Y, Cb, Cr; G, B, R; or Y alone
    depth: int
    matrix: int = BT709  # code of H.273, one of MATRICES; it does not matter for "gbr"
    span: Range = "limited"  # has black at 16 and white at 235 (times 2^(depth - 8))
    across: int = 1  # chroma planes have one sample for so many pixels
    down: int = 1
    # At the first of its columns, or between them; it always lies between its rows.
    chroma: Literal["left", "centre"] = "left"

    @property
    def range_code(self) -> int:
        """The range as FFmpeg numbers it: 1 is limited, 2 full."""
        return 2 if self.span == "full" else 1

    @property
    def offsets(self) -> tuple[float, float]:
        """Where the first sample of chroma lies, in pixels from the first row and column."""
        left = 0.0 if self.chroma == "left" else (self.across - 1) / 2
        return (self.down - 1) / 2, left


def to_image(frame: "VideoFrame", coding: Coding) -> Image:
    """Return the frame as RGB of 16 bits; ``coding`` is its own. Raises ImageError."""
    layout = layout_to_read(frame.format.name)
    if layout is None:
        raise ImageError(f"Frames of the pixel format '{frame.format.name}' cannot be read.")
    if layout.name != frame.format.name:
        # Only another order of the same samples: the range must not be touched.
        code = coding.range_code
        frame = frame.reformat(format=layout.name, src_color_range=code, dst_color_range=code)
    count = 1 if layout.family == "grey" else 3
    planes = [_samples(frame, index, layout=layout) for index in range(count)]
    return Image(pixels=decode_planes(planes, coding))


def to_frame(image: Image, coding: Coding, *, layout: Layout) -> "VideoFrame":
    """Return the image as a frame of ``layout``, without its last odd row or column if need be."""
    from av import VideoFrame

    height, width = (
        side - side % step
        for side, step in zip(image.pixels.shape, (layout.down, layout.across), strict=False)
    )
    planes = encode_planes(image.pixels[:height, :width].astype(np.uint16, copy=False), coding)
    frame = VideoFrame(width, height, layout.name)
    for index, plane in enumerate(planes):
        _samples(frame, index, layout=layout)[:] = plane
    return frame


def _samples(frame: "VideoFrame", index: int, *, layout: Layout) -> Plane:
    """Return a view of a plane of the frame (h, w)."""
    plane = frame.planes[index]
    kind = np.dtype(np.uint8 if layout.depth == 8 else np.uint16)
    # A padded row may end earlier in the last row than in the others.
    lines = np.frombuffer(plane, dtype=kind)  # type: ignore[call-overload]
    across = plane.line_size // kind.itemsize
    view: Plane = lines[: across * plane.height].reshape(plane.height, across)[:, : plane.width]
    return view


@torch.inference_mode()
def decode_planes(planes: Sequence[Plane], coding: Coding) -> NDArray[np.uint16]:
    """Return RGB samples (H, W, 3) of 16 bits of the planes, clipped to [0, 1]."""
    y, *chroma = (torch.from_numpy(plane.astype(np.float32)) for plane in planes)  # (H, W), (h, w)
    size = (y.shape[0], y.shape[1])
    black, white, neutral, reach = _levels(coding)
    y = y.sub_(black).div_(white - black)
    if coding.family == "grey":
        rgb = y[..., None].expand(-1, -1, 3)
    elif coding.family == "gbr":
        blue, red = (plane.sub_(black).div_(white - black) for plane in chroma)
        rgb = torch.stack([red, y, blue], dim=-1)  # (H, W, 3); the plane y holds green
    else:
        red_weight, blue_weight = _WEIGHTS[coding.matrix]
        cb, cr = (
            _spread(plane.sub_(neutral).div_(reach), size=size, coding=coding) for plane in chroma
        )
        red = y + 2 * (1 - red_weight) * cr
        blue = y + 2 * (1 - blue_weight) * cb
        green = (y - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
        rgb = torch.stack([red, green, blue], dim=-1)
    return rgb.mul(65535).add_(0.5).clamp_(0, 65535).numpy().astype(np.uint16)


@torch.inference_mode()
def encode_planes(samples: NDArray[np.uint16], coding: Coding) -> list[Plane]:
    """Return the planes of RGB samples (H, W, 3) of 16 bits, rounded to the nearest number."""
    unit = torch.from_numpy(samples.astype(np.float32)).div_(65535)
    red, green, blue = unit.unbind(-1)
    black, white, neutral, reach = _levels(coding)
    if coding.family == "gbr":
        return [_rounded(x * (white - black) + black, coding.depth) for x in (green, blue, red)]
    red_weight, blue_weight = _WEIGHTS[coding.matrix]
    y = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    planes = [_rounded(y * (white - black) + black, coding.depth)]
    if coding.family == "yuv":
        for colour, weight in ((blue, blue_weight), (red, red_weight)):
            difference = _gather((colour - y) / (2 * (1 - weight)), coding)  # (h, w)
            planes.append(_rounded(difference * reach + neutral, coding.depth))
    return planes


def _levels(coding: Coding) -> tuple[float, float, float, float]:
    """Return black, white, no colour, and the numbers that chroma spans."""
    step = 2.0 ** (coding.depth - 8)
    if coding.span == "full":
        top = 2.0**coding.depth - 1
        return 0.0, top, 128 * step, top
    return 16 * step, 235 * step, 128 * step, 224 * step


def _rounded(plane: Tensor, depth: int) -> Plane:
    exact = plane.add(0.5).clamp_(0, 2**depth - 1).numpy()
    return exact.astype(np.uint8) if depth == 8 else exact.astype(np.uint16)


def _spread(plane: Tensor, *, size: tuple[int, int], coding: Coding) -> Tensor:
    """Return a chroma plane at the places of all pixels, by linear interpolation."""
    down, left = coding.offsets
    plane = _interpolated(plane, 0, length=size[0], factor=coding.down, offset=down)
    return _interpolated(plane, 1, length=size[1], factor=coding.across, offset=left)


def _gather(plane: Tensor, coding: Coding) -> Tensor:
    """Return a chroma plane at the places of its samples: ``_spread`` transposed, of sum 1."""
    down, left = coding.offsets
    plane = _averaged(plane, 0, factor=coding.down, offset=down)
    return _averaged(plane, 1, factor=coding.across, offset=left)


def _interpolated(plane: Tensor, axis: int, *, length: int, factor: int, offset: float) -> Tensor:
    if factor == 1:
        return plane
    place = (torch.arange(length, dtype=torch.float32) - offset) / factor
    place = place.clamp_(0, plane.shape[axis] - 1)
    first = place.floor().long()
    second = (first + 1).clamp_(max=plane.shape[axis] - 1)
    weight = (place - first).reshape((-1, 1) if axis == 0 else (1, -1))
    return torch.lerp(plane.index_select(axis, first), plane.index_select(axis, second), weight)


def _averaged(plane: Tensor, axis: int, *, factor: int, offset: float) -> Tensor:
    if factor == 1:
        return plane
    length = plane.shape[axis]
    centres = torch.arange(math.ceil(length / factor)) * factor
    total, weights = torch.zeros(()), 0.0
    for tap in range(math.ceil(offset - factor), math.floor(offset + factor) + 1):
        weight = 1 - abs(tap - offset) / factor
        if weight > 0:
            index = (centres + tap).clamp_(0, length - 1)
            total = total + weight * plane.index_select(axis, index)
            weights += weight
    return total / weights
