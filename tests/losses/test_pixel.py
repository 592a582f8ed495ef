import pytest
import torch

from edgekeeper.errors import InputError
from edgekeeper.losses import L1, L2, TV, Charbonnier, GradientVariance, PhasePattern

# Typed by hand: differences -1, 0, 2, so mean absolute 1 and mean square 5/3.
OURS = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).view(1, 1, 1, 3)
THEIRS = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64).view(1, 1, 1, 3)


def test_values_of_a_case_done_by_hand() -> None:
    assert L1()(OURS, THEIRS).item() == pytest.approx(1.0, abs=1e-15)
    assert L2()(OURS, THEIRS).item() == pytest.approx(5 / 3, abs=1e-15)
    # epsilon 2: (sqrt(1 + 4) + sqrt(0 + 4) + sqrt(4 + 4)) / 3
    by_hand = (5**0.5 + 2 + 8**0.5) / 3
    assert Charbonnier(epsilon=2.0)(OURS, THEIRS).item() == pytest.approx(by_hand, abs=1e-15)


def test_charbonnier_of_equal_images_is_epsilon_with_a_flat_derivative() -> None:
    sr = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64, requires_grad=True)
    loss = Charbonnier(epsilon=1e-3)(sr, sr.detach())
    loss.backward()
    assert loss.item() == pytest.approx(1e-3, rel=1e-12)
    assert sr.grad is not None
    assert sr.grad.abs().max().item() == 0.0


@pytest.mark.parametrize("loss", [L1(), L2(), Charbonnier(epsilon=0.1)])
def test_gradient_in_float64(loss: torch.nn.Module, generator: torch.Generator) -> None:
    sr = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    hr = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, hr), (sr,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [L1(), L2(), Charbonnier()])
def test_half_precision_is_computed_in_float32(loss: torch.nn.Module, dtype: torch.dtype) -> None:
    # 1e-4 squared is below the smallest float16, so a mean of squares in float16 would be 0
    sr = torch.full((1, 1, 4, 4), 1e-4, dtype=dtype, requires_grad=True)
    hr = torch.zeros(1, 1, 4, 4, dtype=dtype)
    value = loss(sr, hr)
    assert value.dtype == torch.float32
    assert value.item() == loss(sr.float(), hr.float()).item() > 0
    value.backward()
    assert sr.grad is not None
    assert sr.grad.dtype == dtype


def test_a_pattern_of_the_pixel_shuffle_is_seen_and_nothing_else(
    generator: torch.Generator,
) -> None:
    hr = torch.rand(2, 3, 12, 24, dtype=torch.float64, generator=generator)
    loss, tile = PhasePattern(scale=4), torch.zeros(4, 4, dtype=torch.float64)
    tile[0, 0], tile[2, 1] = 0.16, 0.16  # mean 0.02: two phases are 0.14 above, fourteen 0.02 below
    painted = hr + tile.repeat(3, 6)
    assert loss(painted, hr).item() == pytest.approx((2 * 0.14 + 14 * 0.02) / 16, abs=1e-12)
    assert loss(hr + 0.3, hr).item() == pytest.approx(0, abs=1e-12)  # another brightness
    step = hr.clone()
    step[..., 12:] += 0.5  # an edge between cells
    assert loss(step, hr).item() == pytest.approx(0, abs=1e-12)
    assert PhasePattern(scale=3)(painted, hr) < 0.4 * loss(painted, hr)
    with pytest.raises(InputError, match="multiples of 5"):
        PhasePattern(scale=5)(hr, hr)


@pytest.mark.parametrize("loss", [L1(), L2(), Charbonnier(), TV(), GradientVariance(patch=2)])
class TestRefusedArguments:
    def test_unequal_shapes(self, loss: torch.nn.Module) -> None:
        with pytest.raises(InputError, match=r"\(1, 3, 8, 8\).*\(1, 3, 8, 9\)"):
            loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9))

    def test_shapes_that_would_only_broadcast(self, loss: torch.nn.Module) -> None:
        with pytest.raises(InputError, match="must be equal"):
            loss(torch.rand(2, 3, 8, 8), torch.rand(1, 3, 8, 8))

    def test_three_dimensions(self, loss: torch.nn.Module) -> None:
        with pytest.raises(InputError, match=r"\(B, C, H, W\)"):
            loss(torch.rand(3, 8, 8), torch.rand(3, 8, 8))

    def test_integers(self, loss: torch.nn.Module) -> None:
        image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        with pytest.raises(InputError, match=r"torch\.uint8.*float\(\) / 255"):
            loss(image, image)

    def test_no_tensor(self, loss: torch.nn.Module) -> None:
        with pytest.raises(InputError, match="'hr' is of type list"):
            loss(torch.rand(1, 3, 8, 8), [0.0])

    def test_no_pixel(self, loss: torch.nn.Module) -> None:
        with pytest.raises(InputError, match="no pixel"):
            loss(torch.rand(0, 3, 8, 8), torch.rand(0, 3, 8, 8))

    def test_no_weights(self, loss: torch.nn.Module) -> None:
        assert list(loss.parameters()) == []
        assert loss.state_dict() == {}


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_charbonnier_refuses(epsilon: float) -> None:
    with pytest.raises(InputError, match=r"epsilon.*above 0"):
        Charbonnier(epsilon=epsilon)
