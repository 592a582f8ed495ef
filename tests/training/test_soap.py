import pytest
import torch
from torch import nn

from edgekeeper.training.soap import LONGEST, SOAP


def badly_conditioned(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs whose directions differ by 1,000 in strength, and linear targets."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    x = torch.randn(512, 12, generator=generator) * torch.logspace(0, -3, 12)
    return x @ turn.T, torch.randn(12, 6, generator=generator)


def loss_after(updates: int, kind: str, rate: float) -> float:
    x, wanted = badly_conditioned()
    layer = nn.Linear(12, 6, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer: torch.optim.Optimizer = (
        SOAP(layer.parameters(), lr=rate)
        if kind == "soap"
        else torch.optim.Adam(layer.parameters(), lr=rate)
    )
    for _ in range(updates):
        optimizer.zero_grad()
        ((layer(x) - x @ wanted) ** 2).mean().backward()
        optimizer.step()
    with torch.no_grad():
        return float(((layer(x) - x @ wanted) ** 2).mean())


def test_a_badly_conditioned_problem_needs_far_fewer_updates_than_with_adam() -> None:
    assert loss_after(300, "soap", 0.03) < loss_after(300, "adam", 0.03) / 20


def test_a_vector_gets_adam() -> None:
    ours, theirs = torch.zeros(5, requires_grad=True), torch.zeros(5, requires_grad=True)
    soap = SOAP([ours], lr=0.1, betas=(0.9, 0.99), epsilon=1e-8)
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), eps=0.0)
    target = torch.tensor([1.0, -2.0, 3.0, 0.5, -0.25])
    for update in range(8):
        for vector, optimizer in ((ours, soap), (theirs, adam)):
            optimizer.zero_grad()
            ((vector - target) ** 2).sum().backward()
            optimizer.step()
        if update == 0:  # ours begins to move at the second update
            with torch.no_grad():
                assert torch.equal(ours, torch.zeros(5))
                ours.copy_(theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_basis_stays_orthogonal() -> None:
    weight = nn.Parameter(torch.zeros(6, 4, 3, 3))
    optimizer = SOAP([weight], lr=0.01)
    generator = torch.Generator().manual_seed(1)
    for _ in range(40):
        weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    for name, side in (("left_basis", 6), ("right_basis", 36)):
        basis = optimizer.state[weight][name]
        assert basis.shape == (side, side)
        torch.testing.assert_close(basis.T @ basis, torch.eye(side), rtol=0, atol=1e-5)


def spread_when_turned(kind: str) -> float:
    """How far the results of two equal problems, one with its inputs mixed, are apart."""
    x, wanted = badly_conditioned()
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(5))).Q
    results = []
    for inputs, goal in ((x, wanted), (x @ turn, turn.T @ wanted)):
        weight = nn.Parameter(torch.zeros(6, 12))
        optimizer: torch.optim.Optimizer = (
            SOAP([weight], lr=0.01) if kind == "soap" else torch.optim.Adam([weight], lr=0.01)
        )
        for _ in range(30):
            optimizer.zero_grad()
            ((inputs @ weight.T - inputs @ goal) ** 2).mean().backward()
            optimizer.step()
        results.append((inputs @ weight.T).detach())
    return float((results[0] - results[1]).abs().mean())


def test_how_inputs_are_mixed_matters_far_less_than_to_adam() -> None:
    assert spread_when_turned("soap") < spread_when_turned("adam") / 4


def test_a_long_side_is_not_rotated() -> None:
    weight = nn.Parameter(torch.zeros(3, LONGEST + 1))
    weight.grad = torch.ones_like(weight)
    optimizer = SOAP([weight], lr=0.01)
    optimizer.step()
    assert "left_basis" in optimizer.state[weight]
    assert "right_basis" not in optimizer.state[weight]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_of_the_weights_does_not_matter(layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(3)
    plain = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))
    laid = nn.Parameter(plain.detach().clone().to(memory_format=layout))
    first, second = SOAP([plain], lr=0.01), SOAP([laid], lr=0.01)
    for _ in range(5):
        gradient = torch.randn(plain.shape, generator=generator)
        plain.grad, laid.grad = gradient, gradient.to(memory_format=layout)
        first.step()
        second.step()
    assert torch.equal(plain, laid)
