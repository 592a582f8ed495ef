"""Tests of networks of one's own: a class of a file, and one of an installed package."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.models import ESPCN, MODELS, GradientBranch, own
from edgekeeper.models.own import import_file
from edgekeeper.pretrained.checkpoint import load_model, save_model
from edgekeeper.spec import spec

CODE = """
from torch import nn
from edgekeeper.models import SRModel

class Mine(SRModel):
    def __init__(self, *, scale: int = 2, width: int = 4) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = scale, "rgb", 1
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.last = nn.Sequential(nn.Conv2d(width, 3 * scale**2, 1), nn.PixelShuffle(scale))

    def features(self, lr):
        return self.conv(lr)

    def reconstruct(self, features, lr):
        return self.last(features)
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test makes known is not known to the next."""
    before = dict(MODELS)
    own._PLAIN.clear()
    yield
    MODELS.clear()
    MODELS.update(before)


def file_of(tmp_path: Path, code: str = CODE) -> Path:
    path = tmp_path / "my_nets.py"
    path.write_text(code)
    return path


def test_a_network_of_a_file_is_loaded_once_the_file_is_imported(tmp_path: Path) -> None:
    file, weights = file_of(tmp_path), tmp_path / "mine.safetensors"
    assert import_file(file) == ["Mine"]
    description = spec(GradientBranch, backbone=spec(MODELS["mine"], scale=2), width=2)
    model: Any = description.build()
    save_model(weights, model, spec=description, card={})
    x = torch.rand(1, 3, 6, 7)
    assert torch.equal(load_model(weights)(x), model.eval()(x))
    del MODELS["mine"]
    with pytest.raises(CheckpointError, match=r"no class 'Mine'.*Mine was defined in 'my_nets.py'"):
        load_model(weights)
    import_file(file)
    assert torch.equal(load_model(weights)(x), model(x))


def test_a_package_names_its_networks_as_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_file(file_of(tmp_path))
    mine = MODELS["mine"]
    save_model(tmp_path / "mine.safetensors", mine(), spec=spec(mine), card={})
    del MODELS["mine"]
    entry = EntryPoint("Mine", "my_nets:Mine", "edgekeeper.models")
    monkeypatch.setattr(own, "entry_points", lambda *, group: [entry] if group == own.GROUP else [])
    monkeypatch.setattr(EntryPoint, "load", lambda self: mine)
    assert type(load_model(tmp_path / "mine.safetensors")) is mine


def test_files_that_do_not_serve_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no Python file"):
        import_file(tmp_path / "nowhere.py")
    for code, words in {
        "x = (": "does not load",
        "x = 1": "defines no network",
        CODE.replace("Mine", "EDSR"): "edgekeeper has too; give it another name",
    }.items():
        with pytest.raises(InputError, match=words):
            import_file(file_of(tmp_path, code))
    assert MODELS["espcn"] is ESPCN


def test_a_plain_module_inside_a_gradient_branch_is_loaded_too(tmp_path: Path) -> None:
    code = """
from torch import nn

class Mine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Sequential(nn.Conv2d(4, 12, 1), nn.PixelShuffle(2))

    def forward(self, lr):
        return self.last(self.conv(lr))
"""
    file, weights = file_of(tmp_path, code), tmp_path / "plain.safetensors"
    assert import_file(file) == ["Mine"]
    plain = own.load_entry_point("Mine")
    description = spec(GradientBranch, backbone=spec(plain), scale=2, enlarge="last", width=2)
    model = description.build()
    save_model(weights, model, spec=description, card={})
    x = torch.rand(1, 3, 6, 7)
    assert torch.equal(load_model(weights)(x), model(x))
