"""What an image is in memory: integer samples, alpha and metadata; to floats in [0, 1] and back."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyvips
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.image.formats import Header, Metadata, Pixels


@dataclass(frozen=True, kw_only=True)
class Image:
    """A decoded image, upright.

    Attributes:
        pixels: (H, W, C), uint8 or uint16, C = 1 (grey) or 3 (RGB), not multiplied by alpha.
        alpha: (H, W) of the same type, 0 is transparent; None when the file has no alpha.
        metadata: what is written back with the pixels.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape, depth = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise InputError(f"Image pixels must be (H, W, 1) or (H, W, 3), got {shape}.")
        if depth not in (np.uint8, np.uint16):
            raise InputError(f"Image pixels must be uint8 or uint16, got {depth}.")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != depth):
            raise InputError(
                f"Alpha must be {shape[:2]} of {depth} like the pixels, "
                f"got {self.alpha.shape} of {self.alpha.dtype}."
            )

    @property
    def depth(self) -> Literal[8, 16]:
        """Bits per channel."""
        return 8 if self.pixels.dtype == np.uint8 else 16

    @property
    def header(self) -> Header:
        """The image without its samples."""
        height, width, colours = self.pixels.shape
        return Header(
            height=height,
            width=width,
            colours=1 if colours == 1 else 3,
            alpha="none" if self.alpha is None else "straight",
            depth=self.depth,
            metadata=self.metadata,
        )


# ---- Images to tensors in [0, 1] and back, exactly rounded ------------------------------------


def to_tensor(image: Image) -> Tensor:
    """Return the pixels as float32 (1, C, H, W) in [0, 1], C = 1 or 3 as stored, without alpha."""
    return _plane_tensor(image.pixels)


def to_rgb_tensor(image: Image) -> Tensor:
    """Return the pixels as float32 RGB (1, 3, H, W) in [0, 1]; grey is repeated three times."""
    tensor = to_tensor(image)
    return tensor if tensor.shape[1] == 3 else tensor.repeat(1, 3, 1, 1)


def alpha_tensor(image: Image) -> Tensor:
    """Return the alpha as float32 (1, 1, H, W) in [0, 1], 0 is transparent.

    Raises:
        InputError: the image has no alpha.
    """
    if image.alpha is None:
        raise InputError("The image has no alpha.")
    return _plane_tensor(image.alpha[..., None])


def from_tensor(tensor: Tensor, *, depth: Literal[8, 16] = 8) -> Pixels:
    """Return the pixels (H, W, C), uint8 or uint16, of one image (1, C, H, W), clipped to [0, 1].

    Halves are rounded away from zero. The product is taken in float64, where it is exact.

    Raises:
        InputError: the tensor is not one image of floats, or holds a NaN or an infinity.
    """
    if tensor.ndim != 4 or tensor.shape[0] != 1 or not tensor.is_floating_point():
        raise InputError(
            f"from_tensor takes one float image (1, C, H, W), "
            f"got {tuple(tensor.shape)} of {tensor.dtype}."
        )
    if not bool(torch.isfinite(tensor).all()):
        raise InputError("The image holds values that are not finite (NaN or infinity).")
    exact = tensor.detach()[0].permute(1, 2, 0).cpu().double().clamp(0, 1)
    rounded = torch.floor(exact * (2**depth - 1) + 0.5).numpy()
    return rounded.astype(np.uint8) if depth == 8 else rounded.astype(np.uint16)


def colour_difference(first: Tensor, second: Tensor) -> float:
    """Return the mean CIEDE2000 of two like sRGB images (1, 3, H, W) in [0, 1].

    About 1 is just noticeable side by side, 2 to 3 at a glance. libvips computes it, exact to
    0.001 where hues lie near each other; opposite ones differ from the published formula.
    """
    one, other = (
        pyvips.Image.new_from_array(from_tensor(x, depth=16), interpretation="rgb16")
        for x in (first, second)
    )
    return float(one.dE00(other).avg())


def _plane_tensor(samples: Pixels) -> Tensor:
    unit = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    return torch.from_numpy(unit).permute(2, 0, 1)[None].contiguous()
