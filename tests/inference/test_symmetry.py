import torch
from torch import nn

from edgekeeper.inference.enlarger import mean_of_eight
from edgekeeper.ops.resize import imresize


def image(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(2, 3, 9, 14, generator=generator)


def test_a_function_that_treats_directions_alike_is_unchanged(generator: torch.Generator) -> None:
    x = image(generator)
    before = x.clone()
    torch.testing.assert_close(mean_of_eight(lambda y: y, x), x, atol=3e-7, rtol=0)
    large = mean_of_eight(lambda y: imresize(y, scale=3), x)
    torch.testing.assert_close(large, imresize(x, scale=3), atol=2e-6, rtol=0)
    assert torch.equal(x, before)


def test_the_eight_symmetries_are_all_different_and_each_taken_once() -> None:
    seen = []

    def record(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(map(tuple, x[0, 0].tolist())))
        return x

    mean_of_eight(record, torch.arange(6.0).reshape(1, 1, 2, 3))
    assert len(set(seen)) == len(seen) == 8


def test_any_function_becomes_equivariant(generator: torch.Generator) -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False)
    x = image(generator)
    result = mean_of_eight(conv, x)
    assert (conv(x) - result).abs().max() > 0.01
    for turn in (lambda y: y.flip(-1), lambda y: y.flip(-2), lambda y: y.transpose(-2, -1)):
        torch.testing.assert_close(mean_of_eight(conv, turn(x)), turn(result), atol=1e-6, rtol=0)
