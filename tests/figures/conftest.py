"""Fixtures of the figures' tests: an image, results of it, and a look at what was drawn."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgekeeper.figures.rows import Panel


@pytest.fixture
def hr(generator: torch.Generator) -> Tensor:
    """A smooth image, 64 high and 80 wide, with noise in the square from (40, 24) on."""
    image = torch.linspace(0.2, 0.8, 80).expand(1, 3, 64, 80).clone()
    image[..., 40:56, 24:40] = torch.rand(1, 3, 16, 16, generator=generator)
    return image


@pytest.fixture
def panels(hr: Tensor) -> list[Panel]:
    blurred = torch.nn.functional.avg_pool2d(hr, 3, 1, padding=1, count_include_pad=False)
    return [Panel("without GV", blurred), Panel("with GV", (blurred + hr) / 2)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn during the test, to look into."""
    from matplotlib.figure import Figure

    found: list[Any] = []
    save = Figure.savefig

    def remember(self: Any, *arguments: Any, **options: Any) -> None:
        found.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return found
