"""JPEG on tensors against libjpeg as Pillow runs it: equal in every value."""

import io
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.ops.jpeg import Subsampling, jpeg

SUBSAMPLINGS = get_args(Subsampling)


def pillow(image: Tensor, *, quality: int, subsampling: str) -> Tensor:
    """(3, H, W) in 0..255 written and read by Pillow."""
    array = image.to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)


def images(height: int, width: int) -> Tensor:
    """Noise, a smooth image, a flat one and stripes of saturated colours (4, 3, H, W)."""
    generator = torch.Generator().manual_seed(height * width)
    noise = torch.randint(0, 256, (3, height, width), generator=generator)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    smooth = (
        torch.stack([rows * 2 + columns, 255 - columns + 0 * rows, (rows * columns) // 3]) % 256
    )
    flat = torch.tensor([255, 10, 90])[:, None, None].expand(3, height, width)
    stripes = torch.stack([columns // 3 % 2 * 255 + 0 * rows, rows // 5 % 2 * 255 + 0 * columns])
    stripes = torch.cat([stripes, 255 - stripes[:1]])
    return torch.stack([noise, smooth, flat, stripes])


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_every_value_is_that_of_libjpeg(subsampling: Subsampling) -> None:
    for height, width in ((64, 96), (33, 50), (16, 17), (37, 9), (5, 6), (1, 1)):
        batch = images(height, width)
        for quality in (1, 10, 30, 49, 50, 75, 90, 95, 100):
            coded = jpeg(batch / 255, quality=quality, subsampling=subsampling) * 255
            for name, ours, image in zip(
                ("noise", "smooth", "flat", "stripes"), coded, batch, strict=True
            ):
                theirs = pillow(image, quality=quality, subsampling=subsampling)
                unequal = int((ours.round() != theirs).sum())
                assert unequal == 0, f"{name} {height}x{width} at {quality}: {unequal} values"


def test_each_image_has_its_own_quality_and_subsampling() -> None:
    batch = images(40, 24).double() / 255
    kinds: list[Subsampling] = ["4:2:0", "4:4:4", "4:4:4", "4:2:0"]
    together = jpeg(batch, quality=[30, 60, 90, 95], subsampling=kinds)
    assert together.dtype == torch.float64
    for i, (quality, kind) in enumerate(zip((30, 60, 90, 95), kinds, strict=True)):
        alone = jpeg(batch[i : i + 1], quality=quality, subsampling=kind)
        assert torch.equal(together[i : i + 1], alone)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="B, 3, H, W"):
        jpeg(torch.zeros(1, 1, 8, 8), quality=50)
    with pytest.raises(InputError, match="from 1 to 100"):
        jpeg(torch.zeros(1, 3, 8, 8), quality=0)
    with pytest.raises(InputError, match="one per image"):
        jpeg(torch.zeros(1, 3, 8, 8), quality=[50, 60])
    with pytest.raises(InputError, match="4:2:0"):
        jpeg(torch.zeros(1, 3, 8, 8), quality=50, subsampling="4:2:2")  # type: ignore[arg-type]
