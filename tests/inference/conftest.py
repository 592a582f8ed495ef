"""Small networks and images that the tests of upscaling share."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekeeper.image import Image, Metadata
from edgekeeper.models import SRModel


class Nearest(SRModel):
    """Repeats each pixel; ``memory`` is the number of pixels above which it runs out."""

    scales = (1, 2, 3, 4, 8)

    def __init__(
        self, *, scale: int = 2, channels: str = "rgb", memory=10**9, receptive_field=0
    ) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels
        self.receptive_field, self.memory = receptive_field, memory
        self.seen: list[tuple[int, int]] = []

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        self.seen.append((height, width))
        if height * width > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return lr.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)


class Wavy(SRModel):
    """A random three-layer network of radius 3, on top of repeated pixels."""

    receptive_field = 3

    def __init__(self, *, scale: int = 2, channels: str = "rgb", strength: float = 0.1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(scale)
        self.scale, self.channels, self.strength = scale, channels, strength
        colours = 3 if channels == "rgb" else 1
        self.layers = nn.Sequential(
            nn.Conv2d(colours, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(8, colours * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)

    def forward(self, lr: Tensor) -> Tensor:
        large = lr.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)
        return large + self.layers(lr) * self.strength


def make_image(*, size=(21, 33), colours=3, dtype=np.uint8, alpha=False) -> Image:
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    return Image(
        pixels=rng.integers(0, top, (*size, colours), dtype=dtype, endpoint=True),
        alpha=rng.integers(0, top, size, dtype=dtype, endpoint=True) if alpha else None,
        metadata=Metadata(pixels_per_mm=(3.0, 4.0)),
    )


@pytest.fixture
def nearest() -> type[Nearest]:
    return Nearest


@pytest.fixture
def wavy() -> type[Wavy]:
    return Wavy


@pytest.fixture
def image():
    return make_image
