import pytest
import torch

from edgekeeper.errors import InputError
from edgekeeper.losses import TV

# A ramp 0.0 to 1.1 of 3 rows and 4 columns. By hand: across 9 pairs of 0.1² = 0.09, down
# 8 pairs of 0.4² = 1.28. The published code gives 1.37 at weight 1.
RAMP = torch.arange(12, dtype=torch.float64).view(1, 1, 3, 4) / 10


def test_ramp_by_hand() -> None:
    assert TV()(RAMP, RAMP).item() == pytest.approx(1.37, abs=1e-12)
    assert TV(reduction="mean")(RAMP, RAMP).item() == pytest.approx(1.37 / 12, abs=1e-12)


def test_sum_over_batch_and_channels() -> None:
    many = RAMP.expand(2, 3, 3, 4)
    assert TV()(many, many).item() == pytest.approx(6 * 1.37, abs=1e-12)
    assert TV(reduction="mean")(many, many).item() == pytest.approx(1.37 / 12, abs=1e-12)


def test_theirs_takes_no_part(generator: torch.Generator) -> None:
    hr = torch.rand(RAMP.shape, generator=generator, dtype=torch.float64)
    assert TV()(RAMP, hr).item() == TV()(RAMP, RAMP).item()


def test_flat_image_and_single_pixel_are_zero() -> None:
    for shape in ((1, 3, 5, 5), (1, 1, 1, 1)):
        flat = torch.full(shape, 0.3)
        assert TV()(flat, flat).item() == 0.0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradient_in_float64(reduction: str, generator: torch.Generator) -> None:
    sr = torch.rand(2, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    hr = sr.detach()
    loss = TV(reduction=reduction)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda x: loss(x, hr), (sr,))


def test_half_precision_sums_beyond_its_range() -> None:
    # 2 · 256 · 255 unit steps: 130,560 lies beyond float16's 65,504
    checkers = (torch.arange(256)[:, None] + torch.arange(256)) % 2
    sr = checkers.to(torch.float16)[None, None]
    assert TV()(sr, sr).item() == 2 * 256 * 255


def test_unknown_reduction() -> None:
    with pytest.raises(InputError, match="Did you mean 'mean'"):
        TV(reduction="means")  # type: ignore[arg-type]
