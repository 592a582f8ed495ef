"""What the gradient variance loss takes and refuses."""

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.losses import GradientVariance


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(*shape, generator=generator, dtype=dtype) for _ in range(2)]


class TestMemoryLayouts:
    @pytest.mark.parametrize(
        "change",
        [
            lambda x: x.contiguous(memory_format=torch.channels_last),
            lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
            lambda x: torch.stack([x, x], -1)[..., 0],
            lambda x: functional.pad(x, (3, 2, 1, 4))[..., 1:-4, 3:-2],
        ],
        ids=["channels_last", "transposed", "every second", "cut out"],
    )
    def test_equal_to_contiguous(self, change: Any) -> None:
        sr, hr = pair(2, 3, 17, 18, dtype=torch.float32)
        sr.requires_grad_()
        expected = GradientVariance()(sr, hr)
        (slope,) = torch.autograd.grad(expected, sr)
        value = GradientVariance()(change(sr), change(hr))
        (other,) = torch.autograd.grad(value, sr)
        assert value.item() == expected.item()
        torch.testing.assert_close(other, slope, rtol=0, atol=0)

    def test_arguments_are_left_as_they_were(self) -> None:
        for channels, border in itertools.product((1, 3), ("zero", "valid")):
            sr, hr = pair(2, channels, 12, 12)
            copies = sr.clone(), hr.clone()
            sr.requires_grad_()
            GradientVariance(patch=2, border=border)(sr, hr).backward()  # type: ignore[arg-type]
            assert torch.equal(sr.detach(), copies[0])
            assert torch.equal(hr, copies[1])


class TestRefusals:
    @pytest.mark.parametrize("channels", [2, 4])
    def test_channels(self, channels: int) -> None:
        x = torch.rand(1, channels, 8, 8)
        with pytest.raises(InputError, match=rf"{channels} channels.*flatten\(0, 1\)"):
            GradientVariance()(x, x)
        each = x.flatten(0, 1).unsqueeze(1)  # what the message says to do
        assert GradientVariance()(each, each).item() == 0.0

    def test_smaller_than_a_patch(self) -> None:
        x = torch.rand(1, 3, 8, 8)
        with pytest.raises(InputError, match="no patch of 16 fits"):
            GradientVariance(patch=16)(x, x)
        with pytest.raises(InputError, match="6×6: no patch of 8"):
            GradientVariance(border="valid")(x, x)
        with pytest.raises(InputError, match="no patch of 2"):
            GradientVariance(patch=2, border="valid")(x[..., :1], x[..., :1])

    @pytest.mark.parametrize("patch", [1, 0, -8, 8.0, True, "8"])
    def test_patch(self, patch: Any) -> None:
        with pytest.raises(InputError, match=r"'patch' is.*2 or more"):
            GradientVariance(patch=patch)

    @pytest.mark.parametrize("stride", [0, 3, 16, 4.0])
    def test_stride(self, stride: Any) -> None:
        with pytest.raises(InputError, match="one of 1, 2, 4, 8"):
            GradientVariance(patch=8, stride=stride)

    @pytest.mark.parametrize(
        ("option", "given", "nearest"),
        [
            ("operator", "sobl", "sobel"),
            ("border", "zeros", "zero"),
            ("norm", "l1", "l2"),
            ("statistic", "variances", "variance"),
        ],
    )
    def test_unknown_names(self, option: str, given: str, nearest: str) -> None:
        with pytest.raises(InputError, match=f"Did you mean '{nearest}'"):
            GradientVariance(**{option: given})  # type: ignore[arg-type]

    def test_repr_names_the_arguments(self) -> None:
        assert "patch=16" in repr(GradientVariance(patch=16))
        assert "stride=16" in repr(GradientVariance(patch=16))
