"""What an image went through: JPEG and noise as they were put there, and none where none is."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from edgekeeper.data.degrade import KNOWN, KnownDegradation, degrade_known
from edgekeeper.data.synthetic import flat_shapes, letters, line_drawing, patterns
from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.image.quality import Condition, estimate, read_jpeg_header
from edgekeeper.ops.jpeg import jpeg

PHOTOS = sorted((Path(__file__).parents[2] / "examples" / "test").glob("*.png"))


@pytest.fixture(scope="module", params=PHOTOS, ids=lambda path: path.stem)
def photo(request: pytest.FixtureRequest) -> Tensor:
    return to_rgb_tensor(read_image(request.param))


def degraded(photo: Tensor, *, noise: float = 0, quality: int = 0) -> Tensor:
    return degrade_known(photo, KnownDegradation("x", noise=noise, quality=quality), scale=2)


def test_noise_is_found_within_a_level(photo: Tensor) -> None:
    for noise in (2, 5, 15):
        found = estimate(degraded(photo, noise=noise))
        assert found.noise == pytest.approx(noise, abs=1), f"noise {noise}"
        assert found.jpeg_quality is None
    assert estimate(photo).noise < 1.2
    assert estimate(degraded(photo)).noise < 1.2


def test_noise_of_grey_images(photo: Tensor) -> None:
    grey = photo.mean(dim=1, keepdim=True)
    noisy = grey + 6 / 255 * torch.randn(grey.shape, generator=torch.Generator().manual_seed(1))
    noisy = (noisy.clamp(0, 1) * 255).round() / 255
    for image in (noisy, noisy.repeat(1, 3, 1, 1)):
        assert estimate(image).noise == pytest.approx(6, abs=0.6)


def test_jpeg_is_found_in_the_pixels_wherever_its_grid_begins(photo: Tensor) -> None:
    for quality in (30, 68, 90, 95):
        image = jpeg(photo, quality=quality)
        found = estimate(image)
        assert found.jpeg_quality == quality
        assert found.subsampling is None
    cut = estimate(jpeg(photo, quality=60)[..., 3:, 5:])
    assert cut.jpeg_quality == 60


def test_noise_is_found_through_jpeg(photo: Tensor) -> None:
    """As far as JPEG left it: within two levels."""
    assert estimate(jpeg(photo, quality=80)).noise < 2
    for noise, quality in ((4, 90), (6, 85), (10, 80), (10, 60)):
        found = estimate(degrade_known(photo, KnownDegradation("x", "", noise, quality), scale=1))
        assert found.jpeg_quality == quality
        assert found.noise == pytest.approx(noise, abs=2), f"noise {noise}, JPEG {quality}"


@pytest.mark.parametrize(
    ("subsampling", "name"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0"), (None, "4:0:0")]
)
def test_a_file_says_its_quality(tmp_path: Path, subsampling: int | None, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    picture = Pillow.fromarray(pixels)
    path = tmp_path / "x.jpg"
    for quality in (1, 10, 49, 50, 75, 92, 100):
        if subsampling is None:
            picture.convert("L").save(path, quality=quality, progressive=True)
        else:
            picture.save(
                path, quality=quality, subsampling=subsampling, exif=b"Exif\0\0" + b"x" * 99
            )
        header = read_jpeg_header(path)
        assert header is not None
        assert (header.quality, header.subsampling) == (quality, name)
        with Pillow.open(path) as file:
            assert header.table.ravel().tolist() == list(file.quantization[0])  # type: ignore[attr-defined]


def test_a_file_s_own_table_is_used_also_for_what_lies_across(
    tmp_path: Path, photo: Tensor
) -> None:
    pixels = (photo[0] * 255).round().byte().permute(1, 2, 0).numpy()
    table = [min(255, 6 + 2 * (n // 8 + n % 8) + n // 8) for n in range(64)]  # nobody's
    path = tmp_path / "x.jpg"
    Pillow.fromarray(pixels).save(path, qtables=[table, table], subsampling=0)
    image = to_rgb_tensor(read_image(path))
    found, turned = estimate(image, path=path), estimate(image.mT.contiguous(), path=path)
    assert found.jpeg_quality == turned.jpeg_quality and 70 < (found.jpeg_quality or 0) < 95
    assert found.subsampling == "4:4:4"
    assert found.noise == pytest.approx(turned.noise, abs=0.5)


def test_files_without_tables_say_nothing(tmp_path: Path, photo: Tensor) -> None:
    assert read_jpeg_header(PHOTOS[0]) is None
    assert estimate(photo, path=PHOTOS[0]) == estimate(photo)
    file = io.BytesIO()
    Pillow.new("RGB", (32, 32)).save(file, "jpeg")
    for length in range(0, 160, 7):
        (tmp_path / "cut.jpg").write_bytes(file.getvalue()[:length])
        assert read_jpeg_header(tmp_path / "cut.jpg") is None
    with pytest.raises(ImageError, match=r"nothing\.jpg' cannot be opened"):
        read_jpeg_header(tmp_path / "nothing.jpg")


def drawings() -> dict[str, Tensor]:
    """Images that no camera made, (1, 3, H, W) on the grid of 1/255."""
    random = np.random.default_rng(7)
    found = {
        f"{kind.__name__} {n}": kind(np.random.default_rng([2, n]), 256).clip(0, 1)
        for kind in (flat_shapes, line_drawing, patterns, letters)
        for n in range(6)
    }
    palette = random.uniform(0, 1, (16, 3))
    sprite = palette[random.integers(16, size=(64, 80))]
    found |= {"flat": np.full((64, 96, 3), 0.4), "white": np.ones((64, 96, 3))}
    found |= {f"pixel art x{n}": sprite.repeat(n, 0).repeat(n, 1) for n in (1, 2, 3, 4, 8)}
    found["dithered"] = (np.indices((96, 96)).sum(axis=0) % 2 * 0.5 + 0.2)[..., None].repeat(3, 2)
    x = np.linspace(0.1, 0.8, 300)
    found["gradient"] = np.broadcast_to(x[:, None], (300, 200))[..., None].repeat(3, 2)
    page = np.ones((300, 400, 3)) * 0.94
    page[:40], page[40:, :90] = (0.2, 0.3, 0.5), (0.85, 0.87, 0.9)
    page[60:260, 110:366] = letters(np.random.default_rng(3), 256)[:200].clip(0, 1)
    found["screenshot"] = page
    return {
        name: torch.from_numpy(np.round(image * 255) / 255).permute(2, 0, 1)[None].float()
        for name, image in found.items()
    }


def test_what_no_camera_made_is_clean() -> None:
    for name, image in drawings().items():
        found = estimate(image)
        assert (found.jpeg_quality, found.noise, found.strength) == (None, 0, 0), name
        assert found.note == "looks clean: kept as it is"


def test_strength_grows_with_the_known_degradations(photo: Tensor) -> None:
    found = {known.name: estimate(degrade_known(photo, known, scale=2)).strength for known in KNOWN}
    assert found["clean"] < 0.05
    assert 0.3 < found["jpeg90"] < 0.5 < found["jpeg70"] < 0.8
    assert found["jpeg70"] <= found["camera"] <= found["strong"]
    assert found["jpeg70"] <= found["noisy"] <= found["strong"]
    assert found["strong"] > 0.9


def test_the_note_says_what_was_seen_and_how_to_get_the_other() -> None:
    note = Condition(jpeg_quality=68, noise=5.2, strength=0.63).note
    assert note == (
        "looks like JPEG about quality 68, noise 5: restoring at 0.6; "
        "style 'faithful' keeps it as it is"
    )
    assert Condition(None, 2.4, 0.2).note.startswith("looks like noise 2: restoring at 0.2; ")
    assert Condition(99, 0, 0.04).note == "looks like JPEG about quality 99: kept as it is"


def test_other_shapes_are_refused_and_small_images_say_nothing() -> None:
    for shape in ((3, 64, 64), (2, 3, 64, 64), (1, 4, 64, 64)):
        with pytest.raises(InputError, match=r"one image \(1, C, H, W\)"):
            estimate(torch.zeros(shape))
    for size in ((1, 1), (31, 90), (32, 32), (33, 47)):
        assert estimate(torch.rand(1, 3, *size)).jpeg_quality is None
