"""HEIC through pillow-heif: samples, 10 bits, orientation, profile; what is said without it."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from edgekeeper.errors import ImageError
from edgekeeper.image import read_image, write_image

pillow_heif = pytest.importorskip("pillow_heif")


def ramp(bits: int = 8) -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    levels = np.stack([2 * x + y, 3 * y, 40 + x + y], -1) / 255
    return (levels * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)


def heic(path: Path, pixels: np.ndarray, **info: object) -> Path:
    mode = "RGB;16" if pixels.dtype == np.uint16 else "RGB"
    size = (pixels.shape[1], pixels.shape[0])
    kept = io.BytesIO()
    pillow_heif.encode(mode, size, pixels.tobytes(), kept, quality=95, chroma=444, **info)
    path.write_bytes(kept.getvalue())
    return path


def test_a_photograph_of_a_phone_is_read(tmp_path: Path) -> None:
    exif = PILImage.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = heic(tmp_path / "p.HEIC", ramp(), exif=exif.tobytes(), icc_profile=profile)
    image = read_image(path)
    assert image.pixels.shape in ((48, 64, 3), (64, 48, 3))
    upright = image.pixels if image.pixels.shape[0] == 48 else np.rot90(image.pixels)
    assert np.abs(upright.astype(int) - ramp()).max() < 16
    write_image(image, tmp_path / "q.jpg")
    with PILImage.open(tmp_path / "q.jpg") as opened:
        assert opened.getexif().get(0x0112, 1) == 1  # turned once, not twice
        assert opened.getexif()[0x010F] == "camera"


def test_ten_bits_are_kept(tmp_path: Path) -> None:
    image = read_image(heic(tmp_path / "p.heic", ramp(16)))
    assert image.pixels.dtype == np.uint16
    assert np.abs(image.pixels.astype(int) - ramp(16)).max() < 16 * 257


def test_what_is_damaged_or_lacks_the_extra_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = heic(tmp_path / "p.heic", ramp())
    cut = tmp_path / "cut.heic"
    cut.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(cut)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'edgekeeper\[heif\]'"):
        read_image(path)
