"""Frames of PyAV to images and back."""

from typing import TYPE_CHECKING

import numpy as np

from edgekeeper.errors import ImageError
from edgekeeper.image import Image
from edgekeeper.video.codecs import Layout, layout_to_read
from edgekeeper.video.colour import Coding, Plane, decode_planes, encode_planes

if TYPE_CHECKING:
    from av import VideoFrame


def to_image(frame: "VideoFrame", coding: Coding) -> Image:
    """Return the frame as an RGB image of 16 bits; ``coding`` is that of its samples.

    Raises:
        ImageError: the pixel format cannot be read.
    """
    layout = layout_to_read(frame.format.name)
    if layout is None:
        raise ImageError(f"Frames of the pixel format '{frame.format.name}' cannot be read.")
    if layout.name != frame.format.name:
        # Only another order of the same samples: the range must not be touched.
        span = 2 if coding.span == "full" else 1
        frame = frame.reformat(format=layout.name, src_color_range=span, dst_color_range=span)
    count = 1 if layout.family == "grey" else 3
    planes = [_samples(frame, index, layout=layout) for index in range(count)]
    return Image(pixels=decode_planes(planes, coding))


def to_frame(image: Image, coding: Coding, *, layout: Layout) -> "VideoFrame":
    """The image as a frame of ``layout``, whose last odd row or column is left out if need be."""
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
