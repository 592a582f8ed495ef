"""Weights of losses and metrics: conversions, checks, and the command that gets them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgekeeper.data.catalogue import Remote
from edgekeeper.errors import CheckpointError, DataError, InputError, UnavailableError
from edgekeeper.metrics import lpips
from edgekeeper.metrics.niqe import NIQE_FILE
from edgekeeper.models.backbones import vgg19_names, weights_file
from edgekeeper.pretrained import reference
from edgekeeper.pretrained.reference import EXAMPLES, REFERENCE, fetch_reference


def test_keras_kernels_become_ours() -> None:
    generator = torch.Generator().manual_seed(0)
    theirs = {}
    for layer in vgg19_names():
        name = f"block{layer[4]}_conv{layer[6]}/block{layer[4]}_conv{layer[6]}"
        theirs[f"{name}_W_1:0"] = torch.randn(3, 3, 2, 4, generator=generator)
        theirs[f"{name}_b_1:0"] = torch.randn(4, generator=generator)
    ours = reference._from_keras(theirs)
    assert len(ours) == 2 * 16 + 3
    kernel = theirs["block3_conv2/block3_conv2_W_1:0"]
    found = ours[f"features.{vgg19_names()['conv3_2']}.weight"]
    assert found.shape == (4, 2, 3, 3) and found[1, 0, 2, 1] == kernel[2, 1, 0, 1]
    pixel = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1)  # R, G, B
    seen = torch.conv2d(pixel, ours["input.weight"], ours["input.bias"]).flatten()
    expected = torch.tensor([0.6 * 255 - 103.939, 0.4 * 255 - 116.779, 0.2 * 255 - 123.68])
    torch.testing.assert_close(seen, expected)


def test_every_file_says_its_licence_and_how_it_is_checked() -> None:
    for name, weights in REFERENCE.items():
        assert weights.licence and weights.remote.address.startswith("https://"), name
        assert weights.remote.size, name
        assert weights.remote.sha256 or weights.value, name
        assert weights.remote.sha256 is None or len(weights.remote.sha256) == 64, name


@pytest.fixture
def local(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The origins of AlexNet, LPIPS and NIQE, in files as they publish them."""
    origin = tmp_path / "origin"
    origin.mkdir()
    weights = data_root / "weights"
    alexnet = load_file(weights / "alexnet_conv.safetensors")
    torch.save(alexnet | {"classifier.1.weight": torch.zeros(2)}, origin / "alexnet.pth")
    torch.save(load_file(weights / "lpips_alex_v0.1.safetensors"), origin / "alex.pth")

    def at(path: Path) -> Remote:
        return Remote(path.name, path.as_uri())

    cases = data_root / "metric_cases"
    changed = {
        "alexnet": replace(REFERENCE["alexnet"], remote=at(origin / "alexnet.pth")),
        "lpips": replace(
            REFERENCE["lpips"],
            remote=at(origin / "alex.pth"),
            beside=tuple(at(cases / name) for name in EXAMPLES),
        ),
        "niqe": replace(REFERENCE["niqe"], remote=at(weights / NIQE_FILE)),
    }
    for name, entry in changed.items():
        monkeypatch.setitem(reference.REFERENCE, name, entry)
    return changed


@pytest.mark.data
def test_they_are_got_converted_and_compute_what_they_must(
    tmp_path: Path, local: dict[str, Any], command: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.setenv("EDGEKEEPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
    x = torch.rand(1, 3, 40, 40)
    with pytest.raises(UnavailableError, match="`edgekeeper data get weights`"):
        lpips(x, x)
    for name in local:
        ran = command("data", "get", name)
        assert ran.status == 0, ran.err
    assert "computes 5.85072 as it must" in ran.out
    assert lpips(x, x).item() == 0.0  # found in the cache
    folder = tmp_path / "cache" / "weights"
    assert weights_file(NIQE_FILE, purpose="NIQE") == folder / NIQE_FILE
    assert not (folder / "downloads").exists()
    assert "computes 0.721881 as it must" in " ".join(fetch_reference(folder, names=("lpips",)))


@pytest.mark.data
def test_what_computes_something_else_is_refused(
    tmp_path: Path, local: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reference.REFERENCE, "niqe", replace(local["niqe"], expected=5.0))
    with pytest.raises(CheckpointError, match=r"computes 5\.85072 where 5 is right"):
        fetch_reference(tmp_path, names=("niqe",))


def test_an_unknown_name_and_an_origin_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="Did you mean 'vgg19'"):
        fetch_reference(tmp_path, names=("vgg1",))
    nowhere = replace(REFERENCE["lpips"], remote=Remote("x", (tmp_path / "x").as_uri()))
    monkeypatch.setitem(reference.REFERENCE, "lpips", nowhere)
    with pytest.raises(DataError, match="cannot be reached"):
        fetch_reference(tmp_path, names=("lpips",))
