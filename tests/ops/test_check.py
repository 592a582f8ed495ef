"""What is no dense tensor of floats is refused in a sentence by all that take images."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

import edgekeeper
from edgekeeper import losses, metrics
from edgekeeper.errors import InputError
from edgekeeper.image import Image
from edgekeeper.image.image import from_tensor
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.ops import bands, blur, color, gradient, jpeg, resize, sharpen, structure, wavelet
from edgekeeper.ops.check import check_images

GOOD = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def nested() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype
        return torch.nested.nested_tensor([GOOD[0], GOOD[0, :, :8]])


WRONG = {
    "of type matrix": np.zeros((32, 32), np.float32).view(np.matrix),
    "of type ndarray": np.zeros((32, 32, 3), np.float32),
    "of type list": [[0.5]],
    "of type NoneType": None,
    "of type Image": Image(pixels=np.zeros((32, 32, 3), np.uint8)),
    "sparse or nested": GOOD.to_sparse(),
    "a sparse or nested": nested(),
    "of torch.uint8": torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
    "of torch.complex64": GOOD.to(torch.complex64),
    "'meta', which holds no values": GOOD.to("meta"),
}
# Without values some can be computed as far as shapes go.
SHAPES: dict[str, Callable[[torch.Tensor], object]] = {
    "filter_each": lambda x: blur.filter_each(x, torch.ones(1, 3, 3)),
    "rgb_to_y": color.rgb_to_y,
    "rgb_to_ycbcr": color.rgb_to_ycbcr,
    "ycbcr_to_rgb": color.ycbcr_to_rgb,
    "rgb_to_grey_gv": color.rgb_to_grey_gv,
    "round_uint8": color.round_uint8,
    "sobel": gradient.sobel,
    "jpeg": lambda x: jpeg.jpeg(x, quality=75),
    "imresize": lambda x: resize.imresize(x, scale=2),
    "pillow_resize": lambda x: resize.pillow_resize(x, size=(8, 8), method="bicubic"),
    "enlarging_maps": lambda x: resize.enlarging_maps(x, factor=2, boundary="symmetric"),
    "back_project": lambda x: sharpen.back_project(x, x),
    "patch_variances": lambda x: structure.patch_variances(x, patch=4),
    "local_variance": lambda x: structure.local_variance(x, window=5),
    "ssim_map": lambda x: structure.ssim_map(x, x),
    "wavelet_bands": wavelet.wavelet_bands,
}


def of_loss(name: str) -> Callable[[torch.Tensor], object]:
    return lambda x: getattr(losses, name)()(x, x)


def of_metric(name: str) -> Callable[[torch.Tensor], object]:
    return lambda x: getattr(metrics, name)(x, x, protocol="y_matlab", scale=2)


VALUES: dict[str, Callable[[torch.Tensor], object]] = {
    "fill_hidden": lambda x: bands.fill_hidden(x, x),
    "sharpen": lambda x: sharpen.sharpen(x, 0.5),
    "from_tensor": from_tensor,
    **{
        name: of_loss(name) for name in ("AlignedVariance", "Charbonnier", "GradientVariance", "TV")
    },
    **{name: of_metric(name) for name in ("psnr", "ssim", "gmsd", "gradient_psnr", "gv_gap")},
    "fsim": lambda x: metrics.fsim(x, x),
    "niqe": metrics.niqe,
    "structure_risk": lambda x: structure_risk(x, x, scale=2),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_no_image_is_said(said: str) -> None:
    callers = VALUES if "meta" in said else SHAPES | VALUES
    for name, call in callers.items():
        with pytest.raises(InputError, match=said) as caught:
            call(WRONG[said])  # type: ignore[arg-type]
        assert "must be floats (" in str(caught.value), (name, caught.value)


def test_axes_are_names_and_numbers() -> None:
    for axes, shape, right in (
        ("B, C, H, W", (2, 5, 1, 1), True),
        ("B, C, H, W", (5, 1, 1), False),
        ("B, 3, H, W", (1, 3, 4, 4), True),
        ("B, 3, H, W", (1, 1, 4, 4), False),
        ("..., 3, H, W", (3, 4, 4), True),
        ("..., 3, H, W", (2, 2, 3, 4, 4), True),
        ("..., 3, H, W", (4, 4), False),
        ("...", (), True),
    ):
        x = torch.zeros(shape)
        if right:
            check_images(x, axes=axes)
        else:
            with pytest.raises(InputError, match=f"'x' is .*; it must be floats .{axes[:3]}"):
                check_images(x, axes=axes)


def test_upscale_takes_a_matrix_and_says_what_holds_no_image() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (6, 7), np.uint8)
    made = edgekeeper.upscale(grey.view(np.matrix), model="espcn_x2")
    assert type(made) is np.ndarray
    np.testing.assert_array_equal(made, edgekeeper.upscale(grey, model="espcn_x2"))
    for said in ("sparse or nested", "a sparse or nested", "of torch.uint8", "of torch.complex64"):
        with pytest.raises(InputError, match=said):
            edgekeeper.upscale(WRONG[said])  # type: ignore[call-overload]
    with pytest.raises(InputError, match="'image' is on the device 'meta'"):
        edgekeeper.upscale(GOOD.to("meta"))
