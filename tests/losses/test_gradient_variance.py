"""The gradient variance loss against numpy written from its definition, and its properties."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.losses import GradientVariance
from edgekeeper.losses.gradient_variance import gradient_variances
from edgekeeper.ops.color import rgb_to_grey_gv

Array = npt.NDArray[np.float64]
GREY = (0.2989, 0.5870, 0.1140)
KERNELS = {
    "sobel": (
        np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]),
    ),
    "central": (
        np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0]]),
        np.array([[0, -1, 0], [0, 0, 0], [0, 1, 0]]),
    ),
}
OPTIONS: list[dict[str, Any]] = [
    {"patch": 3},
    {"patch": 2, "norm": "l2"},
    {"patch": 3, "operator": "central"},
    {"patch": 3, "border": "valid"},
    {"patch": 2, "statistic": "deviation"},
    {"patch": 2, "statistic": "deviation", "norm": "l2"},
    {"patch": 4, "stride": 2},
    {"patch": 4, "stride": 1, "operator": "central", "border": "valid", "norm": "l2"},
    {"patch": 3, "data_range": 2.5},
]


def oracle(sr: torch.Tensor, hr: torch.Tensor, **options: Any) -> float:
    """The loss by loops over images, pixels and patches, from the definition."""
    totals = [
        image_loss(one, other, **options) for one, other in zip(sr.numpy(), hr.numpy(), strict=True)
    ]
    return float(np.mean(totals))


def image_loss(sr: Array, hr: Array, **options: Any) -> float:
    total = 0.0
    for kernel in KERNELS[options.get("operator", "sobel")]:
        statistics = [patch_statistics(image, kernel, **options) for image in (sr, hr)]
        difference = statistics[0] - statistics[1]
        if options.get("norm", "mse") == "l2":
            total += float(np.sqrt((difference**2).sum()))
        else:
            total += float((difference**2).mean())
    return total


def patch_statistics(image: Array, kernel: npt.NDArray[Any], **options: Any) -> Array:
    patch = options["patch"]
    stride = options.get("stride", patch)
    grey = sum(w * c for w, c in zip(GREY, image, strict=True)) if len(image) == 3 else image[0]
    grey = grey / options.get("data_range", 1.0)
    if options.get("border", "zero") == "zero":
        grey = np.pad(grey, 1)
    height, width = grey.shape[0] - 2, grey.shape[1] - 2
    gradient = np.array(
        [[(grey[i : i + 3, j : j + 3] * kernel).sum() for j in range(width)] for i in range(height)]
    )
    values = [
        gradient[top : top + patch, left : left + patch].var(ddof=1)
        for top in range(0, height - patch + 1, stride)
        for left in range(0, width - patch + 1, stride)
    ]
    if options.get("statistic", "variance") == "deviation":
        return np.sqrt(np.array(values) + 1e-6)
    return np.array(values)


def plain(sr: torch.Tensor, hr: torch.Tensor, *, patch: int) -> torch.Tensor:
    """The usual form: convolution, unfold, variance, mean square."""
    weights = torch.tensor(GREY, dtype=sr.dtype).view(1, 3, 1, 1)
    total = torch.zeros((), dtype=sr.dtype)
    for array in KERNELS["sobel"]:
        kernel = torch.from_numpy(array).to(sr.dtype)[None, None]
        maps = [
            functional.unfold(
                functional.conv2d((x * weights).sum(1, keepdim=True), kernel, padding=1),
                patch,
                stride=patch,
            ).var(1)
            for x in (sr, hr)
        ]
        total = total + functional.mse_loss(*maps)
    return total


def numbers(seed: int, *, height: int = 6, width: int = 6) -> torch.Tensor:
    """Test image (1, 3, H, W) of a linear congruential generator, filled as H, W, C."""
    state, values = seed, []
    for _ in range(height * width * 3):
        state = (1664525 * state + 1013904223) % 2**32
        values.append((state >> 24) / 255)
    array = np.array(values).reshape(1, height, width, 3).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def pair(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(*shape, generator=generator, dtype=dtype) for _ in range(2)]


class TestValues:
    # Values of an independent numpy script in float64; the official code of the paper gives
    # the "mse" numbers to 2e-15. Images: a typed step and `numbers` of the seeds named.

    def test_vertical_step(self) -> None:
        sr = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64).expand(1, 3, 4, 4)
        hr = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64).expand(1, 3, 4, 4)
        mse = GradientVariance(patch=2)(sr, hr)
        l2 = GradientVariance(patch=2, norm="l2")(sr, hr)
        assert mse.item() == pytest.approx(87.03462189048504, abs=1e-12)
        assert l2.item() == pytest.approx(21.449797627011876, abs=1e-12)

    @pytest.mark.parametrize(
        ("patch", "mse", "l2"),
        [
            (3, 2.130610179381244, 3.826975168668379),
            (2, 5.079348802594102, 8.931838514481566),
            (4, 3.6224379234329174, 2.599632031701457),  # 6×6: one patch, two rows left out
        ],
    )
    def test_seeds_7_and_8(self, patch: int, mse: float, l2: float) -> None:
        sr, hr = numbers(7), numbers(8)
        by_mse = GradientVariance(patch=patch)(sr, hr).item()
        by_l2 = GradientVariance(patch=patch, norm="l2")(sr, hr).item()
        assert by_mse == pytest.approx(mse, abs=1e-12)
        assert by_l2 == pytest.approx(l2, abs=1e-12)

    def test_batch_of_two(self) -> None:
        sr = torch.cat([numbers(7), numbers(8)])
        hr = torch.cat([numbers(8), numbers(8) / 2])
        by_mse = GradientVariance(patch=2)(sr, hr).item()
        by_l2 = GradientVariance(patch=2, norm="l2")(sr, hr).item()
        assert by_mse == pytest.approx(4.490603904993233, abs=1e-12)
        assert by_l2 == pytest.approx(8.342902136979657, abs=1e-12)

    def test_variances_of_seed_7_in_patches_of_3(self) -> None:
        layout: dict[str, Any] = {"operator": "sobel", "border": "zero", "patch": 3, "stride": 3}
        x_expected = [
            1.1512833369080349,
            0.7815227673324663,
            0.7473676360630439,
            1.1526373797259302,
        ]
        y_expected = [
            0.6430416048090732,
            0.673800121626917,
            1.2438023466984665,
            0.45607086279498044,
        ]
        expected = torch.tensor([[x_expected], [y_expected]], dtype=torch.float64)
        torch.testing.assert_close(
            gradient_variances(rgb_to_grey_gv(numbers(7)), **layout), expected, rtol=0, atol=1e-12
        )

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_every_option_against_loops(self, options: dict[str, Any], channels: int) -> None:
        sr, hr = pair(2, channels, 9, 11)
        value = GradientVariance(**options)(sr, hr).item()
        assert value == pytest.approx(oracle(sr, hr, **options), rel=1e-12)

    @pytest.mark.parametrize("patch", [8, 16])
    def test_plain_form_and_its_derivative(self, patch: int) -> None:
        sr, hr = pair(3, 3, 50, 41)
        sr.requires_grad_()
        expected = plain(sr, hr, patch=patch)
        (slope,) = torch.autograd.grad(expected, sr)
        value = GradientVariance(patch=patch)(sr, hr)
        value.backward()
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)
        torch.testing.assert_close(sr.grad, slope, rtol=1e-10, atol=1e-14)

    def test_grey_is_that_of_the_colour_module(self) -> None:
        sr, hr = pair(1, 3, 16, 16)
        loss = GradientVariance()
        expected = loss(rgb_to_grey_gv(sr), rgb_to_grey_gv(hr)).item()
        assert loss(sr, hr).item() == pytest.approx(expected, rel=1e-12)


class TestDerivative:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_gradcheck(self, options: dict[str, Any], channels: int) -> None:
        sr, hr = pair(2 if channels == 1 else 1, channels, 7, 8)
        loss = GradientVariance(**options)
        sr.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: loss(x, hr), (sr,))

    def test_one_bad_image_leaves_the_others_alone(self) -> None:
        sr, _ = pair(3, 3, 9, 9)
        layout: dict[str, Any] = {"operator": "sobel", "border": "zero", "patch": 3, "stride": 3}
        spoiled = sr.clone()
        spoiled[1] = float("nan")
        clean, dirty = sr.clone().requires_grad_(), spoiled.requires_grad_()
        for x in (clean, dirty):
            gradient_variances(rgb_to_grey_gv(x), **layout)[:, [0, 2]].sum().backward()
        assert clean.grad is not None
        assert dirty.grad is not None
        torch.testing.assert_close(dirty.grad[[0, 2]], clean.grad[[0, 2]], rtol=0, atol=0)

    def test_upstream_factor_and_accumulation(self) -> None:
        sr, hr = pair(2, 3, 9, 9)
        loss = GradientVariance(patch=3)
        sr.requires_grad_()
        (slope,) = torch.autograd.grad(loss(sr, hr), sr)
        (0.01 * loss(sr, hr) + loss(sr * 1.0, hr)).backward()
        torch.testing.assert_close(sr.grad, 1.01 * slope, rtol=1e-12, atol=1e-15)

    def test_second_derivative(self) -> None:
        sr, hr = pair(1, 1, 6, 6)
        sr.requires_grad_()
        loss = GradientVariance(patch=3)
        assert torch.autograd.gradgradcheck(lambda x: loss(x, hr), (sr,))

    @pytest.mark.parametrize("norm", ["mse", "l2"])
    @pytest.mark.parametrize("statistic", ["variance", "deviation"])
    def test_finite_at_equal_and_at_flat_images(self, norm: Any, statistic: Any) -> None:
        loss = GradientVariance(patch=3, norm=norm, statistic=statistic, border="valid")
        for sr in (pair(1, 3, 8, 8)[0], torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)):
            x = sr.clone().requires_grad_()
            value = loss(x, sr)
            value.backward()
            assert value.item() == 0.0
            assert x.grad is not None
            assert x.grad.abs().max().item() == 0.0

    def test_theirs_gets_no_graph(self) -> None:
        sr, hr = pair(1, 3, 16, 16)
        sr.requires_grad_()
        kept: list[torch.Tensor] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            GradientVariance()(sr, hr)
        # two gradient maps of sr, and per-patch numbers: nothing of hr
        large = [tensor.numel() for tensor in kept if tensor.numel() >= 16 * 16]
        assert large == [2 * 16 * 16]
        assert not GradientVariance()(sr.detach(), hr).requires_grad
        with torch.no_grad():
            assert not GradientVariance()(sr, hr).requires_grad

    def test_theirs_that_requires_a_gradient_is_refused(self) -> None:
        sr, hr = pair(1, 3, 8, 8)
        with pytest.raises(InputError, match=r"hr\.detach\(\)"):
            GradientVariance()(sr, hr.requires_grad_())


class TestProperties:
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_equal_images_give_exactly_zero(self, options: dict[str, Any]) -> None:
        sr, _ = pair(2, 3, 9, 11)
        assert GradientVariance(**options)(sr, sr.clone()).item() == 0.0

    def test_contrast(self) -> None:
        sr, hr = pair(2, 3, 16, 16)
        for norm, power in (("mse", 4), ("l2", 2)):
            loss = GradientVariance(norm=norm)  # type: ignore[arg-type]
            expected = 3**power * loss(sr, hr).item()
            assert loss(3 * sr, 3 * hr).item() == pytest.approx(expected, rel=1e-12)

    def test_data_range_of_255(self) -> None:
        sr, hr = pair(2, 3, 16, 16)
        expected = GradientVariance()(sr, hr).item()
        value = GradientVariance(data_range=255)(sr * 255, hr * 255).item()
        assert value == pytest.approx(expected, rel=1e-12)

    def test_brightness_changes_only_patches_at_the_border(self) -> None:
        sr, _ = pair(1, 3, 16, 16)
        layout: dict[str, Any] = {"operator": "sobel", "border": "zero", "patch": 4, "stride": 4}
        before, after = (
            gradient_variances(rgb_to_grey_gv(x), **layout).view(2, 4, 4) for x in (sr, sr + 0.3)
        )
        torch.testing.assert_close(after[:, 1:-1, 1:-1], before[:, 1:-1, 1:-1])
        inside = torch.zeros(4, 4, dtype=torch.bool)
        inside[1:-1, 1:-1] = True
        changed = ((after - before).abs() > 1e-3).any(0)
        assert torch.equal(changed, ~inside)
        valid = GradientVariance(patch=7, border="valid")
        assert valid(sr + 0.3, sr).item() == pytest.approx(0.0, abs=1e-24)

    @pytest.mark.parametrize("norm", ["mse", "l2"])
    def test_batch_is_the_mean_of_its_images(self, norm: Any) -> None:
        sr, hr = pair(5, 3, 17, 19)
        loss = GradientVariance(patch=4, norm=norm)
        alone = [loss(sr[i : i + 1], hr[i : i + 1]).item() for i in range(5)]
        assert loss(sr, hr).item() == pytest.approx(float(np.mean(alone)), rel=1e-13)

    def test_flips_and_transposition_when_patches_fill_the_image(self) -> None:
        sr, hr = pair(2, 3, 16, 16)
        loss = GradientVariance()
        expected = loss(sr, hr).item()
        for change in (lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.transpose(2, 3)):
            assert loss(change(sr), change(hr)).item() == pytest.approx(expected, rel=1e-12)

    def test_remainder_is_not_looked_at(self) -> None:
        # rows 16 to 19: only row 16 is seen, by the Sobel window of row 15
        sr, hr = pair(1, 3, 20, 16)
        changed = sr.clone()
        changed[:, :, 17:] = 0
        loss = GradientVariance()
        assert loss(changed, hr).item() == loss(sr, hr).item()

    def test_stride_of_one_sees_every_window(self) -> None:
        sr, _ = pair(1, 1, 6, 7)
        layout: dict[str, Any] = {"operator": "central", "border": "valid", "patch": 2, "stride": 1}
        found = gradient_variances(sr, **layout)
        horizontal = sr[0, 0, 1:-1, 2:] - sr[0, 0, 1:-1, :-2]
        windows = horizontal.unfold(0, 2, 1).unfold(1, 2, 1).reshape(-1, 4).var(1)
        torch.testing.assert_close(found[0, 0].sort().values, windows.sort().values)


class TestPrecision:
    @pytest.mark.parametrize(("border", "noise"), [("zero", 1e-3), ("valid", 4e-4)])
    def test_noise_on_a_ramp_in_float32(self, border: Any, noise: float) -> None:
        # The gradient of the ramp is 55 times its deviation by the noise ("valid": 137 times),
        # where E[x²] - E[x]² in float32 is wrong by more than the tolerance. In the frame of
        # zeros variances are large, so less noise than 1e-3 drowns in the rounding of the grey.
        generator = torch.Generator().manual_seed(0)
        ramp = torch.linspace(0, 1, 64).expand(2, 3, 64, 64)
        sr, hr = (
            ramp + s * noise * torch.randn(2, 3, 64, 64, generator=generator) for s in (1.0, 0.75)
        )
        loss = GradientVariance(border=border)
        exact_ours = sr.double().requires_grad_()
        exact = loss(exact_ours, hr.double())
        exact.backward()
        sr.requires_grad_()
        value = loss(sr, hr)
        value.backward()
        assert value.item() == pytest.approx(exact.item(), rel=1e-4)
        assert sr.grad is not None
        assert exact_ours.grad is not None
        error = (sr.grad - exact_ours.grad).norm() / exact_ours.grad.norm()
        assert error.item() < 2e-4

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_inside_autocast(self, dtype: torch.dtype) -> None:
        sr, hr = (x.to(dtype) for x in pair(2, 3, 17, 16, dtype=torch.float32))
        sr.requires_grad_()
        full = sr.detach().float().requires_grad_()
        with torch.autocast("cpu", dtype=dtype):
            value = GradientVariance()(sr, hr)
        expected = GradientVariance()(full, hr.float())
        assert value.dtype == torch.float32
        assert value.item() == expected.item()
        value.backward()
        expected.backward()
        assert sr.grad is not None
        assert full.grad is not None
        assert sr.grad.dtype == dtype
        torch.testing.assert_close(sr.grad, full.grad.to(dtype), rtol=0, atol=0)

    def test_half_precision_against_float32_target(self) -> None:
        sr, hr = pair(1, 3, 16, 16, dtype=torch.float32)
        value = GradientVariance()(sr.bfloat16(), hr)
        assert value.item() == GradientVariance()(sr.bfloat16().float(), hr).item()

    def test_float64_stays_float64(self) -> None:
        assert GradientVariance()(*pair(1, 3, 16, 16)).dtype == torch.float64
