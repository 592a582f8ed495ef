"""What the tests of published weights share: their files, and the refusal of what does not fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.pretrained.published import load_published


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a PyTorch file, and gives its path."""

    def write(content: object, *, name: str = "network.pth") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def refuses(saved: Callable[..., Path]) -> Callable[..., None]:
    """Checks that weights are refused with a sentence when one name in them is changed.

    With ``shape`` None the tensor of that name, or all tensors of the layer, are left out; else
    zeros of that shape are put there.
    """

    def check(
        found: dict[str, Tensor], *, name: str, shape: tuple[int, ...] | None, sentence: str
    ) -> None:
        if shape is None:
            changed = {n: t for n, t in found.items() if not f"{n}.".startswith(f"{name}.")}
            assert len(changed) < len(found), f"no tensor is named {name}"
        else:
            changed = found | {name: torch.zeros(shape)}
        with pytest.raises(CheckpointError, match=sentence):
            load_published(saved(changed))

    return check
