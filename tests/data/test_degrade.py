"""LR images: each named way against an independent maker."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekeeper.data.degrade import LR_KERNELS, LrKernel, crop_to_multiple, make_lr, to_bytes
from edgekeeper.data.pairs import load_pairs
from edgekeeper.errors import InputError


@pytest.fixture
def image() -> torch.Tensor:
    rng = np.random.default_rng(3)
    return torch.from_numpy(rng.integers(0, 256, (1, 3, 36, 48), dtype=np.uint8))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("kernel", "method"),
    [("pillow_bicubic", Image.Resampling.BICUBIC), ("pillow_bilinear", Image.Resampling.BILINEAR)],
)
def test_pillow_kernels_give_pillows_pixels(
    image: torch.Tensor, kernel: LrKernel, method: Image.Resampling, scale: int
) -> None:
    opened = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    want = np.array(opened.resize((48 // scale, 36 // scale), method))
    ours = to_bytes(make_lr(image / 255, scale=scale, kernel=kernel))[0].permute(1, 2, 0)
    assert np.array_equal(ours.numpy(), want)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_box_is_the_mean_of_blocks(image: torch.Tensor, scale: int) -> None:
    ours = to_bytes(make_lr(image / 255, scale=scale, kernel="box"))[0].numpy()
    blocks = image[0].numpy().astype(int)
    sums = sum(blocks[:, i::scale, j::scale] for i in range(scale) for j in range(scale))
    want = (2 * sums + scale * scale) // (2 * scale * scale)  # halves upwards, in whole numbers
    # A mean of exactly one half may fall either way in float32; nothing else may differ.
    ties = (2 * sums) % (2 * scale * scale) == scale * scale
    assert np.array_equal(ours[~ties], want[~ties])
    assert np.abs(ours.astype(int) - want).max() <= 1


@pytest.mark.parametrize("kernel", LR_KERNELS)
def test_every_kernel_keeps_a_flat_image_and_the_grid(
    image: torch.Tensor, kernel: LrKernel
) -> None:
    flat = torch.full((1, 3, 24, 24), 77 / 255)
    assert (to_bytes(make_lr(flat, scale=4, kernel=kernel)) == 77).all()
    lr = make_lr(image / 255, scale=4, kernel=kernel)
    assert torch.equal(to_bytes(lr).float() / 255, lr)


def test_wrong_arguments(image: torch.Tensor) -> None:
    with pytest.raises(InputError, match="multiples of 5"):
        make_lr(image / 255, scale=5, kernel="box")
    with pytest.raises(InputError, match="no LR kernel 'lanczos'"):
        make_lr(image / 255, scale=4, kernel="lanczos")  # type: ignore[arg-type]


def test_cropping_keeps_the_top_left(image: torch.Tensor) -> None:
    assert torch.equal(crop_to_multiple(image, 7), image[..., :35, :42])
    assert torch.equal(crop_to_multiple(image, 12), image)


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["set5", "set14"])
def test_stored_lr_files_are_reproduced_to_the_last_level(
    data_root: Path, name: str, scale: int
) -> None:
    # The LR files of SelfExSR were made by MATLAB's imresize on uint8.
    for pair in load_pairs(name, scale=scale, root=data_root):
        ours = to_bytes(make_lr(pair.hr(), scale=scale, kernel="matlab_uint8"))
        assert torch.equal(ours, to_bytes(pair.lr())), pair.name


@pytest.mark.data
@pytest.mark.parametrize(("name", "number"), [("comic", 5), ("baboon", 1)])
def test_newer_matlab_lr_is_reproduced(data_root: Path, name: str, number: int) -> None:
    # LR of ESRGAN's test images, made by MATLAB's imresize on double.
    folder = data_root / "results" / "ESRGAN_Set14_x4" / "LR"
    want = np.array(Image.open(folder / f"{name}.png").convert("RGB"))
    pair = load_pairs("set14", scale=4, root=data_root)[number - 1]
    assert pair.name == name
    ours = to_bytes(make_lr(pair.hr(), scale=4, kernel="matlab_float"))[0].permute(1, 2, 0)
    assert np.array_equal(ours.numpy(), want)
