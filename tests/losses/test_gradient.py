import pytest
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.losses import Gradient

# A 4 x 4 image and a changed copy, and the loss between their maps: an independent numpy
# script, whose maps equal those of SPSR's own modules (commit 881e781) in both paddings.
OURS = ((0, 0.25, 0.5, 0.75), (0.25, 0.25, 0.75, 0.5), (1, 0, 0.25, 0.75), (0, 0.5, 0.5, 0.5))
THEIRS = ((0, 0.25, 0.5, 0.75), (0.25, 0.25, 0.5, 0.5), (1, 0, 0.25, 0.75), (0.5, 0.5, 0.5, 0.5))
PUBLISHED = {
    ("l1", 1): 0.0743321260479898,
    ("mse", 1): 0.024569240453938584,
    ("l1", 2): 0.060758778243495466,
    ("mse", 2): 0.024753106757306145,
}


def image(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


@pytest.mark.parametrize(("norm", "padding"), PUBLISHED)
def test_published_values(norm: str, padding: int) -> None:
    loss = Gradient(norm=norm, padding=padding)  # type: ignore[arg-type]
    expected = PUBLISHED[norm, padding]
    assert loss(image(OURS), image(THEIRS)).item() == pytest.approx(expected, abs=1e-15)
    three = image(OURS).repeat(2, 3, 1, 1), image(THEIRS).repeat(2, 3, 1, 1)
    assert loss(*three).item() == pytest.approx(expected, abs=1e-15)


def test_sobel_of_a_step_by_hand() -> None:
    # Three columns 0, 0, 1 and 4 rows against black: only the step and the zeros around count.
    sr = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    sr[..., 2] = 1
    # |gx| middle row: 0, 4, 0 with zeros around; corners see 3 and 1: written out below.
    x = torch.tensor([[0, 3, 0], [0, 4, 0], [0, 3, 0]], dtype=torch.float64)
    y = torch.tensor([[0, 1, 2], [0, 0, 0], [0, 1, 2]], dtype=torch.float64)
    expected = ((x**2 + y**2 + 1e-6).sqrt() - 1e-3).mean().item()
    found = Gradient(operator="sobel")(sr, torch.zeros_like(sr))
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("norm", ["l1", "mse"])
def test_equal_images_give_zero(norm: str, generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 8, 9, generator=generator)
    assert Gradient(norm=norm)(x, x.clone()).item() == 0.0  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["l1", "mse"])
@pytest.mark.parametrize("operator", ["central", "sobel"])
def test_gradient_in_float64(norm: str, operator: str, generator: torch.Generator) -> None:
    sr = torch.rand(2, 2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    hr = torch.rand(2, 2, 4, 5, generator=generator, dtype=torch.float64)
    loss = Gradient(norm=norm, operator=operator)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda x: loss(x, hr), (sr,))


def test_half_precision_is_computed_in_float32(generator: torch.Generator) -> None:
    sr = torch.rand(1, 3, 6, 6, generator=generator).bfloat16()
    hr = torch.rand(1, 3, 6, 6, generator=generator).bfloat16()
    found = Gradient()(sr, hr)
    assert found.dtype == torch.float32
    assert found.item() == Gradient()(sr.float(), hr.float()).item() > 0


def test_a_flat_image_has_a_finite_derivative() -> None:
    sr = torch.full((1, 1, 5, 5), 0.5, requires_grad=True)
    Gradient()(sr, torch.rand(1, 1, 5, 5)).backward()
    assert sr.grad is not None
    assert sr.grad.isfinite().all()


def test_refused_arguments() -> None:
    with pytest.raises(InputError, match="norm"):
        Gradient(norm="l2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="operator"):
        Gradient(operator="prewitt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="padding"):
        Gradient(padding=0)
    with pytest.raises(InputError, match="must be equal"):
        Gradient()(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5))
    assert repr(Gradient()) == "Gradient(norm='l1', operator='central', padding=1)"
