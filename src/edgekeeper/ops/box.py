"""A part of an image."""

from dataclasses import dataclass

from torch import Tensor

from edgekeeper.errors import InputError


@dataclass(frozen=True)
class Box:
    """A part of an image, in HR pixels from the top left."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, x: Tensor) -> Tensor:
        """Return the part of ``x`` (..., H, W); InputError when the box reaches beyond it."""
        height, width = x.shape[-2:]
        inside = min(self.top, self.left) >= 0 and min(self.height, self.width) >= 1
        if not inside or self.top + self.height > height or self.left + self.width > width:
            raise InputError(
                f"The box of {self.width}x{self.height} pixels at ({self.left}, {self.top}) is not "
                f"inside the image of {width}x{height} pixels."
            )
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]
